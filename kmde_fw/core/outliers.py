"""Outlier atoms: target atoms whose symmetry functions leave the range of the train atoms of their element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure
from kmde_fw.units import figures

#: two evaluations of one symmetry function agree to this part of its value; smaller excursions are rounding
ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class FeatureRange:
    """Least and greatest value of each symmetry function over the train atoms of one element; low, high: (F,)."""

    low: np.ndarray
    high: np.ndarray

    def margin(self, tolerance: float) -> np.ndarray:
        """How far outside a value still counts as inside, (F,): `tolerance` × (high - low), and never below rounding.

        A function that is 0 on all train atoms (a pair of elements that never meet there) has no margin.
        """
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        return np.maximum(tolerance * (self.high - self.low), ROUNDING * largest)

    def outside(self, features: np.ndarray, tolerance: float) -> np.ndarray:
        """Which values are outside, features (n, F) -> (n, F) bool. NaN is outside."""
        margin = self.margin(tolerance)
        return ~((features >= self.low - margin) & (features <= self.high + margin))


@dataclass(frozen=True)
class Exceeded:
    """One symmetry function of an outlier atom: its column, its value, and the train range that it leaves."""

    feature: int
    value: float
    low: float
    high: float

    @property
    def excess(self) -> float | None:
        """How far outside, in units of the train range; None where that range has no width."""
        beyond = max(self.low - self.value, self.value - self.high)
        return beyond / (self.high - self.low) if self.high > self.low else None


@dataclass(frozen=True)
class OutlierAtom:
    """A target atom outside the train range: target structure, atom in it, element, why, and what it exceeds.

    components: by column; empty if the element is absent from the train set, which `reason` then says.
    """

    structure: int
    atom: int
    element: str
    components: tuple[Exceeded, ...]
    reason: str

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return {
            "structure": self.structure,
            "atom": self.atom,
            "element": self.element,
            "reason": self.reason,
            "components": [
                {"feature": c.feature, "value": c.value, "low": c.low, "high": c.high, "excess": c.excess}
                for c in self.components
            ],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> OutlierAtom:
        """The inverse of `to_document`."""
        return cls(
            document["structure"],
            document["atom"],
            document["element"],
            tuple(Exceeded(c["feature"], c["value"], c["low"], c["high"]) for c in document["components"]),
            document["reason"],
        )


def feature_ranges(species: Sequence[Sequence[str]], features: Sequence[np.ndarray]) -> dict[str, FeatureRange]:
    """Ranges by element over some structures: species and features (n_atoms, F) of each, in the same order."""
    symbols, values = _stack(species, features)
    return {
        element: FeatureRange(values[symbols == element].min(axis=0), values[symbols == element].max(axis=0))
        for element in sorted(set(symbols.tolist()))
    }


def find_outliers(
    ranges: Mapping[str, FeatureRange],
    species: Sequence[Sequence[str]],
    features: Sequence[np.ndarray],
    tolerance: float,
) -> list[OutlierAtom]:
    """The outlier atoms of a target set, in the order of its structures and atoms; METHOD section 2.

    ranges: of the train set; species, features (n_atoms, F): of each target structure; tolerance: how far outside still
    counts as inside, in units of the train range of that component. It needs no trained network.
    """
    outliers = []
    for number, (symbols, values) in enumerate(zip(species, features, strict=True)):
        names = np.array(symbols)
        outside = np.zeros(values.shape, dtype=bool)
        unknown = np.ones(len(symbols), dtype=bool)
        for element in sorted(set(symbols) & set(ranges)):
            members = names == element
            unknown[members] = False
            outside[members] = ranges[element].outside(values[members], tolerance)
        for atom in np.flatnonzero(unknown | outside.any(axis=1)).tolist():
            element = symbols[atom]
            if unknown[atom]:
                reason = f"no train structure contains {element}"
                outliers.append(OutlierAtom(number, atom, element, (), reason))
            else:
                low, high = ranges[element].low, ranges[element].high
                exceeded = tuple(
                    Exceeded(f, float(values[atom, f]), float(low[f]), float(high[f]))
                    for f in np.flatnonzero(outside[atom]).tolist()
                )
                outliers.append(OutlierAtom(number, atom, element, exceeded, _reason(exceeded)))
    return outliers


def environments(
    structures: Sequence[Structure], outliers: Sequence[OutlierAtom], cutoff: float
) -> list[dict[str, dict[str, float]]]:
    """What surrounds each outlier atom: by element, the `count` of neighbours within cutoff and the `nearest`, in Å.

    outliers: in the order of their structures, as `find_outliers` gives them.
    """
    found = []
    current = None
    for outlier in outliers:
        if outlier.structure != current:
            current = outlier.structure
            structure = structures[current]
            near = find_neighbours(structure, cutoff)
        pairs = slice(near.starts[outlier.atom], near.starts[outlier.atom + 1])
        around: dict[str, dict[str, float]] = {}
        for neighbour, distance in zip(near.neighbour[pairs].tolist(), near.distances[pairs].tolist(), strict=True):
            of_element = around.setdefault(structure.species[neighbour], {"count": 0, "nearest": distance})
            of_element["count"] += 1  # nearest first: that one is there already
        found.append(dict(sorted(around.items())))
    return found


def _reason(exceeded: tuple[Exceeded, ...]) -> str:
    number = f"{len(exceeded)} symmetry function{'s' if len(exceeded) > 1 else ''} outside the train range"
    known = [c.excess for c in exceeded if c.excess is not None and not math.isnan(c.excess)]
    if len(known) < len(exceeded):
        return f"{number}, which has no width for {len(exceeded) - len(known)}"
    return f"{number}, by up to {figures(100 * max(known), 2)} % of it"


def _stack(species: Sequence[Sequence[str]], features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.array([symbol for structure in species for symbol in structure])
    return symbols, np.concatenate(list(features)) if len(features) else np.zeros((0, 0))
