"""Back from MD: the frames of a trajectory in which atoms left the model's domain, thinned to the few that differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmde_fw.core.certificate import Certificate, motifs_outside
from kmde_fw.core.outliers import FeatureRange, OutlierAtom, environments, find_outliers
from kmde_fw.hdnnp.calculator import domain_log, ranges_of
from kmde_fw.hdnnp.model import TOLERANCE, Hdnnp
from kmde_fw.md.breakdown import broken
from kmde_fw.md.trajectory import Frame
from kmde_fw.records import Structure
from kmde_fw.units import MIN_BOND

#: frames that wait for the choice, at most, and atoms in all of them
POOL, POOL_ATOMS = 200, 200_000
#: atoms of a frame that are compared with those of others: the ones farthest outside
COMPARED = 40
#: frames whose outlier atoms are as near as this to those of chosen ones tell nothing new; root mean square over the
#: symmetry functions, in units of their train range
DIFFER = 0.05
#: atoms of a frame that are written out with all that they exceed
LISTED_ATOMS = 100


@dataclass(frozen=True, eq=False)
class Departure:
    """A frame with atoms outside: the frame, these atoms, and by element the scaled symmetry functions of the worst."""

    frame: Frame
    outliers: list[OutlierAtom]
    compared: dict[str, np.ndarray]


@dataclass
class Departures:
    """What a trajectory has.

    frames: read; outside: with an atom outside; left_out: frames from where a run broke down to its end, which are not
    looked at: they are of no use as a target; broke_down: where and why, for the first run; chosen: the few that
    differ, in the order of time; domain: see `DomainLog.report`.
    """

    frames: int = 0
    outside: int = 0
    left_out: int = 0
    broke_down: str = ""
    chosen: list[Departure] = field(default_factory=list)
    domain: dict[str, Any] = field(default_factory=dict)


def find_departures(
    frames: Iterable[Frame],
    model: Hdnnp,
    certificate: Certificate | None,
    most: int,
    tolerance: float = TOLERANCE,
    min_bond: float = MIN_BOND,
) -> Departures:
    """Go through the frames once, in bounded room; a frame that is number 1 begins another run.

    most: frames to choose; tolerance: as in `find_outliers`; min_bond: see `broken`.
    """
    ranges = ranges_of(model)
    found = Departures()
    log = domain_log(model, certificate, every=1)
    thinner = _Thinner(most)
    down = False
    for frame in frames:
        found.frames += 1
        if frame.number == 1 or not down:
            why = broken(frame.structure, min_bond)
            down = bool(why)
            found.broke_down = found.broke_down or (f"{frame.where}: {why}" if why else "")
        if down:
            found.left_out += 1
            continue
        features = _features(model, frame.structure)
        outliers = find_outliers(ranges, [frame.structure.species], [features], tolerance)
        species = frame.structure.species_index(model.elements)
        outside = np.zeros(features.shape, dtype=bool)
        for outlier in outliers:
            outside[outlier.atom, [c.feature for c in outlier.components]] = True
        step = frame.number if frame.step is None else frame.step
        log.add(step, frame.structure, features, outside, model.trained[species])
        if outliers:
            found.outside += 1
            thinner.add(Departure(frame, outliers, _compared(outliers, features, ranges)))
    found.chosen = thinner.chosen()
    found.domain = log.report()
    return found


def describe(departure: Departure, model: Hdnnp, certificate: Certificate | None) -> dict[str, Any]:
    """A chosen frame as plain types: its atoms outside with what they exceed and what surrounds them, its motifs.

    The atoms farthest outside come first; all are counted, LISTED_ATOMS are listed.
    """
    structure = departure.frame.structure
    worst = sorted(departure.outliers, key=_excess, reverse=True)[:LISTED_ATOMS]
    listed = sorted(worst, key=lambda o: o.atom)
    near = dict(zip([o.atom for o in listed], environments([structure], listed, model.descriptor.cutoff), strict=True))
    names = model.symmetry_functions.keys
    atoms = []
    for outlier in worst:
        exceeds: list[dict[str, Any]] = [
            {"function": names[c.feature], "value": c.value, "low": c.low, "high": c.high, "excess": c.excess}
            for c in outlier.components
        ]
        exceeds.sort(key=lambda e: float("-inf") if e["excess"] is None else -e["excess"])
        atoms.append(
            {
                "atom": outlier.atom + 1,
                "element": outlier.element,
                "reason": outlier.reason,
                "exceeds": exceeds,
                "neighbours": near[outlier.atom],
            }
        )
    motifs = None
    if certificate is not None:
        motifs = motifs_outside(certificate, structure, [o.atom for o in departure.outliers])
    return {
        "frame": departure.frame.number,
        "step": departure.frame.step,
        "formula": structure.formula,
        "n_atoms": len(structure),
        "n_outside": len(departure.outliers),
        "atoms": atoms,
        "motifs": motifs,
    }


def thermal_displacement(structures: Sequence[Structure]) -> float | None:
    """Root mean square displacement of a coordinate (Å) around its mean over the structures.

    None where they are fewer than two or not the same atoms in the same order. Drift is taken out; the cell may change.
    """
    if len(structures) < 2 or len({s.species for s in structures}) > 1:
        return None
    scaled = np.array([np.linalg.solve(s.cell.T, s.positions.T).T for s in structures])
    steps = scaled - scaled[0]
    steps -= np.rint(steps)
    moved = np.einsum("sai,sij->saj", steps, np.array([s.cell for s in structures]))
    moved -= moved.mean(axis=1, keepdims=True)
    return float(np.sqrt(moved.var(axis=0, ddof=1).mean()))


def _features(model: Hdnnp, structure: Structure) -> np.ndarray:
    """Symmetry functions (n, F), a block of atoms at a time."""
    features = np.empty((len(structure), len(model.symmetry_functions)))
    for block in model.symmetry_functions.blocks(structure):
        features[block.atoms[: block.n_centres]] = block.fingerprint.features[: block.n_centres]
    return features


def _excess(outlier: OutlierAtom) -> float:
    """How far outside an atom is: the largest excess; one of no width, or no data at all, is farther than any."""
    values = [c.excess for c in outlier.components]
    return max([np.inf if v is None else v for v in values], default=np.inf)


def _compared(
    outliers: Sequence[OutlierAtom], features: np.ndarray, ranges: dict[str, FeatureRange]
) -> dict[str, np.ndarray]:
    by_element: dict[str, list[int]] = {}
    for outlier in sorted(outliers, key=_excess, reverse=True)[:COMPARED]:
        by_element.setdefault(outlier.element, []).append(outlier.atom)
    compared = {}
    for element, atoms in by_element.items():
        values = features[atoms]
        if element in ranges:
            low, high = ranges[element].low, ranges[element].high
            # a function without a width counts by its value
            width = np.where(high > low, high - low, np.maximum(np.abs(high), 1e-3))
            values = (values - low) / width
        compared[element] = values
    return compared


class _Thinner:
    """Keeps the frames that differ most: the first one, then always the one farthest from all chosen."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._pool: list[Departure] = []

    def add(self, departure: Departure) -> None:
        """A frame, in the order of time."""
        self._pool.append(departure)
        room = POOL_ATOMS // max(len(departure.frame.structure), 1)
        room = max(2 * self.most, min(POOL, room))
        if len(self._pool) > room:
            self._pool = _farthest(self._pool, max(self.most, room // 2), 0.0)

    def chosen(self) -> list[Departure]:
        """At most `most` frames, in the order of time."""
        return _farthest(self._pool, self.most, DIFFER)


def _farthest(pool: list[Departure], most: int, differ: float) -> list[Departure]:
    """Farthest points: the first, then the one with the atom that is least like any chosen one, while it differs."""
    if not pool:
        return []
    nearest = [{e: np.full(len(values), np.inf) for e, values in d.compared.items()} for d in pool]
    chosen = [0]
    while len(chosen) < min(most, len(pool)):
        new = pool[chosen[-1]].compared
        for departure, distances in zip(pool, nearest, strict=True):
            for element, values in departure.compared.items():
                if element in new:
                    between = values[:, None, :] - new[element][None]
                    squares = np.sqrt(np.square(between).mean(axis=2)).min(axis=1)
                    distances[element] = np.minimum(distances[element], squares)
        far = np.array([max(float(v.max()) for v in distances.values()) for distances in nearest])
        far[chosen] = -1.0
        best = int(far.argmax())
        if far[best] <= differ:
            break
        chosen.append(best)
    return [pool[k] for k in sorted(chosen)]
