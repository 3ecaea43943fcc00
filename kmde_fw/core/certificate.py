"""The coverage certificate of a model, and what of a run left it.

A certificate says what a model was trained on and how far that reaches: ranges of the symmetry functions by element,
which distances and angles the train set has by channel, what of the target stayed open. It belongs to one model, by the
sha256 of its model file. Its file has a checksum, so that a number that somebody changed in it is noticed. `DomainLog`
holds a run against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmde_fw.core.distributions import AroundAtoms, Tally, tally_geometry
from kmde_fw.core.outliers import FeatureRange
from kmde_fw.errors import ModelError
from kmde_fw.records import Structure, content_hash

#: a distance (Å) or an angle (degrees) is covered if one of the train set is as near as this
REACH = {"distance": 0.05, "angle": 2.0}
#: how finely what left the covered ranges is counted, Å and degrees
STEP = {"distance": 0.05, "angle": 2.0}
#: largest distance to lose to the rounding of samples
_ROUNDING = 1e-6

FILE_NAME, PAGE_NAME = "certificate.json", "certificate.html"

Numbers = list[float]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FunctionRanges(_Part):
    """Least and greatest value of each symmetry function over the train atoms of an element, (F,) each."""

    low: Numbers
    high: Numbers


class Support(_Part):
    """The distances (Å) or angles (degrees) of one channel that the train set covers: ranges, and samples in them."""

    samples: int
    ranges: list[Range]


class Certificate(_Part):
    """What a model was trained on, how far it reaches, and what is known of its errors. Plain types only.

    model: sha256 of its model file, id in the database, seed, ...; files: sha256 of the files of another format that
    the certificate was written with; atoms: of the train set, by element; composition: least and greatest part of each
    element in a train structure; functions: names of the symmetry functions, in the order of `ranges`; reach: see
    `REACH`; uncovered: what of the target stayed open in the last analysis; errors: on train set, target and further
    sets, in meV/atom and eV/Å, force errors by category; level: of theory; data: size and hash of the train set.
    """

    format: Literal["kmde_fw coverage certificate"] = "kmde_fw coverage certificate"
    version: Literal[1] = 1
    model: dict[str, Any]
    files: dict[str, str] = {}
    campaign: dict[str, Any] = {}
    elements: list[str]
    atoms: dict[str, int]
    composition: dict[str, Range]
    cutoff: float
    functions: list[str]
    ranges: dict[str, FunctionRanges]
    reach: dict[str, float]
    support: dict[str, Support]
    uncovered: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    level: dict[str, Any] = {}
    data: dict[str, Any]
    versions: dict[str, Any] = {}
    cite: list[str]

    @property
    def sha256(self) -> str:
        """Of the model that this certificate belongs to."""
        return str(self.model["sha256"])

    def check(self, model: bytes, source: str = "the certificate") -> None:
        """ModelError unless the certificate belongs to this model, given as the bytes of its file."""
        found = hashlib.sha256(model).hexdigest()
        if found != self.sha256:
            raise ModelError(
                f"{source} belongs to another model (sha256 {self.sha256[:12]}, not {found[:12]}); export the model "
                "again, with its own certificate"
            )

    def dumps(self) -> str:
        """As JSON, with a checksum over all of it."""
        data = json.loads(self.model_dump_json())
        return json.dumps({**data, "checksum": content_hash(data)}, indent=1, ensure_ascii=False)


def read_certificate(path: Path) -> Certificate:
    """Read a certificate. ModelError if the file is none, or is not as it was written."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        checksum = data.pop("checksum", None) if isinstance(data, dict) else None
        certificate, found = Certificate.model_validate(data), content_hash(data)
    except OSError as error:
        raise ModelError(f"cannot read the certificate {path}: {error.strerror}; export the model again") from None
    except (ValueError, RecursionError) as error:
        said = f"{error.error_count()} parts are wrong" if isinstance(error, ValidationError) else "no JSON"
        raise ModelError(f"{path} is no coverage certificate of kmde_fw ({said}); export the model again") from None
    if checksum != found:
        how = "has no checksum" if checksum is None else "was changed after it was written, its checksum does not fit"
        raise ModelError(f"{path} {how}; export the model again")
    return certificate


def certify(
    elements: Sequence[str],
    cutoff: float,
    functions: Sequence[str],
    ranges: Mapping[str, FeatureRange],
    train: Sequence[Structure],
    **known: Any,
) -> Certificate:
    """The certificate of a model with this train set. known: the other fields of `Certificate`."""
    names = tuple(elements)
    counts = np.array([structure.counts(names) for structure in train]).reshape(-1, len(names))
    parts = counts / counts.sum(axis=1, keepdims=True)
    return Certificate(
        elements=list(names),
        atoms={e: int(n) for e, n in zip(names, counts.sum(axis=0), strict=True)},
        composition={
            e: [float(parts[:, k].min()), float(parts[:, k].max())] for k, e in enumerate(names) if len(parts)
        },
        cutoff=cutoff,
        functions=list(functions),
        ranges={e: FunctionRanges(low=r.low.tolist(), high=r.high.tolist()) for e, r in ranges.items()},
        reach=dict(REACH),
        support=support_of(train, names, cutoff),
        **known,
    )


def support_of(train: Sequence[Structure], elements: Sequence[str], cutoff: float) -> dict[str, Support]:
    """By channel, the ranges whose every value has a sample of the train set within `REACH`."""
    return {
        key: Support(samples=len(tally), ranges=_ranges(tally, kind_of(key), cutoff))
        for key, tally in tally_geometry(train, elements, cutoff).items()
    }


def kind_of(channel: str) -> Literal["distance", "angle"]:
    """Of a channel "Al-Fe" or "Al-Fe-Pt"."""
    return "distance" if channel.count("-") == 1 else "angle"


def _ranges(tally: Tally, kind: str, cutoff: float) -> list[list[float]]:
    values, reach = tally.values, REACH[kind]
    if not len(values):
        return []
    ends = np.flatnonzero(np.diff(values) > 2 * reach + _ROUNDING)
    low, high = values[np.append(0, ends + 1)] - reach, values[np.append(ends, len(values) - 1)] + reach
    most = cutoff if kind == "distance" else 180.0
    rounded = np.round(np.clip([low, high], 0.0, most), 6)
    return [[float(a), float(b)] for a, b in zip(*rounded, strict=True)]


def motifs_outside(certificate: Certificate, structure: Structure, atoms: Sequence[int]) -> list[dict[str, Any]]:
    """The distances and angles around these atoms that the train set does not cover, as in `DomainLog.report`."""
    found = {key: _Outside(key, s.ranges, certificate.cutoff) for key, s in certificate.support.items()}
    for samples in AroundAtoms([structure], [(0, atom) for atom in atoms], certificate.elements, certificate.cutoff):
        for key, values in samples.values.items():
            found[key].add(0, values)
    rows = [row for outside in found.values() for row in outside.rows()]
    keep = ("channel", "kind", "low", "high", "times", "none_in_train")
    return [{key: row[key] for key in keep} for row in sorted(rows, key=lambda row: (-row["times"], row["channel"]))]


def foremost(motifs: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first so many distances, then the first so many angles: of these there are always more."""
    return [row for kind in ("distance", "angle") for row in [m for m in motifs if m["kind"] == kind][:most]]


class DomainLog:
    """Holds the structures of a run, one after another, against the domain of a model.

    What left is added up, so that the room needed does not grow with the run. ranges: of the symmetry functions, by
    element; certificate: names motifs as well, None: symmetry functions alone are looked at. Every `every`-th structure
    is searched for motifs, all of them for symmetry functions.
    """

    def __init__(
        self,
        elements: Sequence[str],
        functions: Sequence[str],
        ranges: Mapping[str, FeatureRange],
        certificate: Certificate | None,
        every: int = 10,
    ) -> None:
        self.elements, self.functions, self.every = tuple(elements), tuple(functions), every
        self.certificate = certificate
        self._ranges = ranges
        #: of each element and symmetry function: how often it was exceeded, when first, most
        self._exceeded: dict[tuple[str, int], dict[str, Any]] = {}
        self._untrained: dict[str, dict[str, Any]] = {}
        self._motifs: dict[str, _Outside] = {}
        if certificate is not None:
            for key, support in certificate.support.items():
                # a distance is seen from both of its ends
                seen = 2 if kind_of(key) == "distance" else 1
                self._motifs[key] = _Outside(key, support.ranges, certificate.cutoff, seen)
        self.steps = self.searched = self.atoms = self.outside = self.worst = self.steps_outside = 0
        self.first: int | None = None

    def add(
        self, step: int, structure: Structure, features: np.ndarray, outside: np.ndarray, trained: np.ndarray
    ) -> None:
        """One structure. features: (n, F); outside: (n, F) bool, which leave the range; trained: (n,) bool, atoms of
        elements that the model has data of."""
        species = np.array(structure.species)
        left = outside.any(axis=1) | ~trained
        n = int(left.sum())
        self.steps += 1
        self.atoms += len(species)
        self.outside += n
        self.worst = max(self.worst, n)
        if n:
            self.steps_outside += 1
            self.first = step if self.first is None else self.first
            self._add_functions(step, species, features, outside, trained)
        if self.certificate is not None and (self.steps - 1) % self.every == 0:
            self.searched += 1
            everything = [(0, atom) for atom in range(len(species))]
            for samples in AroundAtoms([structure], everything, self.elements, self.certificate.cutoff):
                for key, values in samples.values.items():
                    self._motifs[key].add(step, values)

    def _add_functions(
        self, step: int, species: np.ndarray, features: np.ndarray, outside: np.ndarray, trained: np.ndarray
    ) -> None:
        for element in sorted(set(species[~trained].tolist())):
            n = int(((species == element) & ~trained).sum())
            entry = self._untrained.setdefault(element, {"element": element, "times": 0, "first": step})
            entry["times"] += n
        atoms, columns = np.nonzero(outside & trained[:, None])
        for element in sorted(set(species[atoms].tolist())):
            own = species[atoms] == element
            low, high = self._ranges[element].low, self._ranges[element].high
            for column in np.unique(columns[own]).tolist():
                values = features[atoms[own & (columns == column)], column]
                beyond = np.maximum(low[column] - values, values - high[column])
                worst = int(beyond.argmax())
                entry = self._exceeded.setdefault(
                    (element, column), {"times": 0, "first": step, "beyond": -np.inf, "value": 0.0}
                )
                entry["times"] += len(values)
                if beyond[worst] > entry["beyond"]:
                    entry["beyond"], entry["value"] = float(beyond[worst]), float(values[worst])

    def report(self) -> dict[str, Any]:
        """What left the domain, as plain types; times: atoms and steps, motifs: also of how many searched structures.

        functions and motifs: the most frequent first. first: the step given to `add`.
        """
        functions = []
        for (element, column), entry in self._exceeded.items():
            low, high = (float(x[column]) for x in (self._ranges[element].low, self._ranges[element].high))
            functions.append(
                {
                    "element": element,
                    "function": self.functions[column],
                    "times": entry["times"],
                    "first": entry["first"],
                    "value": entry["value"],
                    "low": low,
                    "high": high,
                    "excess": entry["beyond"] / (high - low) if high > low else None,
                }
            )
        motifs = [row for outside in self._motifs.values() for row in outside.rows()]
        return {
            "structures": self.steps,
            "structures_outside": self.steps_outside,
            "atoms": self.atoms,
            "atoms_outside": self.outside,
            "most_at_once": self.worst,
            "first": self.first,
            "untrained": list(self._untrained.values()),
            "functions": sorted(functions, key=lambda row: (-row["times"], row["element"], row["function"])),
            "searched_for_motifs": self.searched,
            "motifs": sorted(motifs, key=lambda row: (-row["times"], row["channel"], row["low"])),
        }

    def __str__(self) -> str:
        """For people: how many atoms were outside, and the motifs that left most often."""
        lines = [
            f"{self.outside} of {self.atoms} atoms were outside in {self.steps_outside} of {self.steps} structures"
            + ("" if self.first is None else f", first in number {self.first}")
        ]
        for row in foremost(self.report()["motifs"], 5):
            unit, digits = (" Å", 2) if row["kind"] == "distance" else ("°", 0)
            where = f"{row['channel']} {row['low']:.{digits}f}–{row['high']:.{digits}f}{unit}"
            lines.append(f"  {where}: {row['times']} times, first in number {row['first']}")
        return "\n".join(lines)


class _Outside:
    """What of one channel lies outside the covered ranges, counted in steps of `STEP`."""

    def __init__(self, channel: str, ranges: Sequence[Sequence[float]], cutoff: float, seen: int = 1) -> None:
        """seen: how often each distance or angle is among the samples."""
        self.channel, self.kind, self.seen = channel, kind_of(channel), seen
        # a value is inside if an odd number of ends lies at or below it
        self._ends = np.array(ranges, dtype=float).reshape(-1) + np.tile([-_ROUNDING, _ROUNDING], len(ranges))
        self._none = not len(ranges)
        most = cutoff if self.kind == "distance" else 180.0
        n = int(np.ceil(most / STEP[self.kind])) + 1
        self._times, self._structures = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self._first = np.zeros(n, dtype=np.int64)

    def add(self, step: int, samples: np.ndarray) -> None:
        """samples: (n,) Å or degrees."""
        left = samples[np.searchsorted(self._ends, samples) % 2 == 0]
        if not len(left):
            return
        counts = np.bincount((left / STEP[self.kind]).astype(np.int64), minlength=len(self._times))
        self._first[(counts > 0) & (self._times == 0)] = step
        self._structures += counts > 0
        self._times += counts

    def rows(self) -> list[dict[str, Any]]:
        """Neighbouring steps together; structures: in how many of those searched, at least."""
        rows = []
        seen = np.flatnonzero(self._times)
        for group in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1) if len(seen) else []:
            rows.append(
                {
                    "channel": self.channel,
                    "kind": self.kind,
                    "low": round(float(group[0] * STEP[self.kind]), 6),
                    "high": round(float((group[-1] + 1) * STEP[self.kind]), 6),
                    "times": int(self._times[group].sum()) // self.seen,
                    "structures": int(self._structures[group].max()),
                    "first": int(self._first[group].min()),
                    "none_in_train": self._none,
                }
            )
        return rows
