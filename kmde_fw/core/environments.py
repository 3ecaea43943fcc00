"""The choice by environments: which candidate tells a model most about the target and about what lies near it.

An atom's environment is its row of symmetry functions. Three things are counted, none of them needs a label:

zero: how uncertain the target's energy zero is, eV/atom. One energy per element is fitted to compositions x (fractions)
    by Bayesian least squares: Var(x) = xᵀ (Σ c cᵀ/σ² + 1/PRIOR²)⁻¹ x, with a row c for each labelled structure and
    σ = NOISE + STRANGENESS·d² for one whose atoms are d away from the target (energies grow like this around a
    minimum). A cell that differs from the target in nothing but composition fixes the zero; a strange crystal says
    little, however well its composition suits.
open: the values of symmetry functions by which target atoms leave the train range (`outliers`), each closed by a
    candidate that has an atom of that element at this value or at most OVERSHOOT ranges beyond: far beyond would widen
    the range without filling it.
vicinity: how much is not known about environments near the target (its structures displaced and strained at random),
    see `knowledge`. The range test is blind to holes inside the range; this is the second opinion.

Distances are Euclidean over symmetry functions in units of their standard deviation in the vicinity of the target,
divided by the square root of how many vary: 1 is one such deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kmde_fw.config import Vicinity
from kmde_fw.core.knowledge import Knowledge, squared_distances
from kmde_fw.core.outliers import Exceeded, OutlierAtom
from kmde_fw.records import Structure

#: the strategy that chooses by what is in this module
ENVIRONMENT = "environment"

#: eV/atom: how well one energy per element can describe structures that are alike
NOISE = 1e-3
#: eV/atom per squared unit of distance: how much worse it describes a structure that is that far from the target
STRANGENESS = 0.1
#: eV/atom: how little is known of the energy of an element without data
PRIOR = 3.0
#: in units of the train range: how far beyond a missing value still counts as closing it
OVERSHOOT = 0.5
#: in units of the train range: the same value computed in another cell differs by this much at most
ROUNDING = 1e-6
#: what one percent of the vicinity is worth, in percent of the open values
VICINITY_WEIGHT = 2.0
#: distance from the target beyond which a candidate's gains count less, with its inverse square
FAR = 1.5
#: while a candidate can bring the uncertainty of the zero down to this part or less, that comes first
HALF = 0.5
#: environments of the vicinity, and known ones, kept of each element
VICINITY_SAMPLE, KNOWN_SAMPLE = 200, 1000
#: missing values kept
MISSING_SAMPLE = 2000
#: displaced copies of the target: until each element has VICINITY_SAMPLE atoms, at most so many
MAX_COPIES = 20
#: candidates whose symmetry functions are computed, of a cycle's pool, and which part of them is made from parents
LOOKED_AT, PARENTS_PART = 2500, 0.8
#: part of the train atoms whose distance from all others is not taken for usual
USUAL = 0.001
#: rows of one block of distances: these stay in the processor's cache
_BLOCK = 256

Features = Callable[[Sequence[Structure]], list[np.ndarray]]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known when a cycle chooses.

    initial, surrogates: the labelled structures; outliers: of the target; features: structures -> symmetry functions
    (n_atoms, F) of each.
    """

    initial: Sequence[Structure]
    surrogates: Sequence[Structure]
    target: Sequence[Structure]
    outliers: Sequence[OutlierAtom]
    elements: tuple[str, ...]
    features: Features


@dataclass(frozen=True)
class Promise:
    """What labelling one candidate would bring, before and after.

    zero: eV/atom; open: number of missing values; vicinity: what is not known, 0 to 1; strangeness: mean distance of
    the candidate's atoms from the target.
    """

    zero: tuple[float, float]
    open: tuple[int, int]
    vicinity: tuple[float, float]
    strangeness: float

    def to_document(self) -> dict[str, object]:
        """As plain types."""
        return {
            "zero": list(self.zero),
            "open": list(self.open),
            "vicinity": list(self.vicinity),
            "strangeness": self.strangeness,
        }

    def describe(self) -> str:
        """In words."""
        parts = []
        if self.zero[1] < 0.9 * self.zero[0]:
            parts.append(f"energy zero known to {1e3 * self.zero[1]:.1f} instead of {1e3 * self.zero[0]:.1f} meV/atom")
        if self.open[1] < self.open[0]:
            parts.append(f"{self.open[0] - self.open[1]} of {self.open[0]} missing values brought into range")
        gain = 1 - self.vicinity[1] / self.vicinity[0] if self.vicinity[0] else 0.0
        parts.append(f"vicinity known {100 * gain:.1f} % better")
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Outlook:
    """What labelling each of n candidates would bring, seen at one moment.

    now: zero, open and vicinity; zero, open, vicinity, strangeness: (n,) after it, as in `Promise`.
    """

    now: tuple[float, int, float]
    zero: np.ndarray
    open: np.ndarray
    vicinity: np.ndarray
    strangeness: np.ndarray

    def promise(self, candidate: int) -> Promise:
        """Of one candidate."""
        return Promise(
            zero=(self.now[0], float(self.zero[candidate])),
            open=(self.now[1], int(self.open[candidate])),
            vicinity=(self.now[2], float(self.vicinity[candidate])),
            strangeness=float(self.strangeness[candidate]),
        )


@dataclass(eq=False)
class EnvironmentChoice:
    """The state of the choice: what is known, and what each candidate has; make it with `EnvironmentChoice.of`.

    With n candidates, E elements and K missing values: knowledge of the vicinity, of each element that the target has;
    still (K,) whether it is missing; closes (n, K); precision (E, E); target (T, E) compositions; compositions (n, E);
    strangeness (n,); stands_for: how many missing values one of the K stands for, they are a sample of them.
    """

    knowledge: list[Knowledge]
    still: np.ndarray
    closes: np.ndarray
    precision: np.ndarray
    target: np.ndarray
    compositions: np.ndarray
    strangeness: np.ndarray
    stands_for: float = 1.0
    #: `vicinities_after`, until something is taken
    _vicinities: np.ndarray | None = None

    @classmethod
    def of(cls, candidates: Sequence[Structure], known: Known, near: Vicinity, seed: int) -> EnvironmentChoice:
        """Among these candidates; seed: of the draw of the vicinity."""
        elements, features = known.elements, known.features
        initial, surrogates, target = known.initial, known.surrogates, known.target
        at_home = _Environments.of(target, elements, features)
        around = _Environments.of(vicinity(target, near, elements, seed), elements, features)
        first = _Environments.of(initial, elements, features)
        n_features = first.values[0].shape[1]
        later = _Environments.of(surrogates, elements, features, n_features)
        offered = _Environments.of(candidates, elements, features, n_features)
        familiar, train = first.values_with(at_home), first.values_with(later)
        rng = np.random.default_rng([seed, 1])
        n = len(candidates)
        knowledge = []
        n_around = sum(len(values) for values in around.values)
        strange, strange_surrogates = np.zeros(n), np.zeros(len(surrogates))
        for element in range(len(elements)):
            scale = _scale(np.concatenate([around.values[element], familiar[element]]))
            points = around.values[element] * scale
            share = len(points)
            points = _sample(points, VICINITY_SAMPLE, rng)
            references = _sample(familiar[element] * scale, KNOWN_SAMPLE, rng)
            for environments, sums in ((offered, strange), (later, strange_surrogates)):
                values = environments.values[element] * scale
                np.add.at(sums, environments.owner[element], _nearest(values, references))
            if not share:
                continue
            atoms = (train[element] * scale, offered.values[element] * scale, offered.owner[element])
            knowledge.append(Knowledge.of(share / n_around, points, *atoms))
        missing = _missing(known.outliers, seed)
        known_counts = [(s.counts(elements), NOISE) for s in initial]
        sizes = np.array([len(s) for s in surrogates])
        for structure, distance in zip(surrogates, strange_surrogates / np.maximum(sizes, 1), strict=True):
            known_counts.append((structure.counts(elements), float(_sigma(distance))))
        precision = np.eye(len(elements)) / PRIOR**2
        for counts, sigma in known_counts:
            precision += _row(counts / counts.sum(), sigma)
        return cls(
            knowledge=knowledge,
            still=np.ones(len(missing), dtype=bool),
            closes=_closes(offered, n, missing, elements),
            precision=precision,
            target=np.array([s.counts(elements) / len(s) for s in target]),
            compositions=np.array([s.counts(elements) / len(s) for s in candidates]).reshape(n, len(elements)),
            strangeness=strange / np.array([len(s) for s in candidates]),
            stands_for=_n_missing(known.outliers) / max(1, len(missing)),
        )

    # now -----------------------------------------------------------------------------------------------------------

    @property
    def zero(self) -> float:
        """Uncertainty of the target's energy zero, root mean square over its structures, eV/atom."""
        return float(np.sqrt(np.mean(self._variances(np.linalg.inv(self.precision)))))

    @property
    def open(self) -> int:
        """Number of missing values."""
        return round(self.stands_for * int(self.still.sum()))

    @property
    def vicinity(self) -> float:
        """What is not known about the target's vicinity, root mean square, 0 to 1."""
        return float(np.sqrt(self._unknown()))

    def _unknown(self) -> float:
        return sum(part.share * part.unknown() for part in self.knowledge)

    def vicinities_after(self) -> np.ndarray:
        """`vicinity` with each of the candidates labelled, (n,)."""
        if self._vicinities is None:
            n = len(self.strangeness)
            gains = sum((part.share * part.gains(n) for part in self.knowledge), np.zeros(n))
            self._vicinities = np.sqrt(np.maximum(self._unknown() - gains, 0.0))
        return self._vicinities

    def _variances(self, covariance: np.ndarray) -> np.ndarray:
        return np.einsum("te,ef,tf->t", self.target, covariance, self.target)

    # with one candidate more ---------------------------------------------------------------------------------------

    def zeros_after(self) -> np.ndarray:
        """`zero` with each of the candidates labelled, (n,)."""
        covariance = np.linalg.inv(self.precision)
        projected = self.compositions @ covariance
        sigma = _sigma(self.strangeness)
        # Sherman-Morrison
        drop = (self.target @ projected.T) ** 2 / (sigma**2 + np.einsum("ne,ne->n", projected, self.compositions))
        return np.sqrt(np.maximum((self._variances(covariance)[:, None] - drop).mean(axis=0), 0.0))

    def scores(self) -> np.ndarray:
        """What each candidate is worth now, (n,).

        While one of them at least halves the uncertainty of the zero: by how much it does, as a logarithm. Then the
        parts of the open values and of the vicinity that it takes away, less for strange candidates.
        """
        before, after = self.zero + NOISE, self.zeros_after() + NOISE
        if len(after) and after.min() <= HALF * before:
            return np.log(before / after)
        worth = np.zeros(len(self.strangeness))
        if self.still.any():
            worth += (self.closes & self.still).sum(axis=1) / self.still.sum()
        if self.vicinity > 0:
            worth += VICINITY_WEIGHT * (1.0 - self.vicinities_after() / self.vicinity)
        return worth / np.maximum(1.0, self.strangeness / FAR) ** 2

    def outlook(self) -> Outlook:
        """What labelling each candidate would bring now."""
        still = self.stands_for * (self.still & ~self.closes).sum(axis=1)
        return Outlook(
            now=(self.zero, self.open, self.vicinity),
            zero=self.zeros_after(),
            open=np.rint(still).astype(np.int64),
            vicinity=self.vicinities_after(),
            strangeness=self.strangeness,
        )

    def take(self, row: int) -> None:
        """Count candidate `row` as labelled."""
        self.precision = self.precision + _row(self.compositions[row], float(_sigma(self.strangeness[row])))
        self.still = self.still & ~self.closes[row]
        for part in self.knowledge:
            part.take(row)
        self._vicinities = None


@dataclass(frozen=True, eq=False)
class EnvironmentPreference:
    """The choice as `selection.select` asks for it: among some rows of the columns only.

    rows: (n,) those of the choice's candidates; n_columns: of all candidates; outlook: at the beginning of the cycle;
    promises: by row, of those picked, when they were.
    """

    choice: EnvironmentChoice
    rows: np.ndarray
    n_columns: int
    outlook: Outlook
    promises: dict[int, Promise] = field(default_factory=dict)

    def scores(self) -> np.ndarray:
        """See `selection.Preference`."""
        result = np.full(self.n_columns, -np.inf)
        result[self.rows] = self.choice.scores()
        return result

    def reason(self, row: int) -> str:
        """See `selection.Preference`."""
        return self.choice.outlook().promise(self._candidate(row)).describe()

    def take(self, row: int) -> None:
        """See `selection.Preference`."""
        candidate = self._candidate(row)
        self.promises[row] = self.choice.outlook().promise(candidate)
        self.choice.take(candidate)

    def remaining(self) -> Promise | None:
        """What the best candidate that is not picked would bring now; None without any."""
        scores = self.choice.scores()
        scores[[self._candidate(row) for row in self.promises]] = -np.inf
        return self.choice.outlook().promise(int(scores.argmax())) if len(scores) > len(self.promises) else None

    def promised(self, row: int) -> Promise | None:
        """What a pick promised when it was picked, and another candidate at the beginning of the cycle.

        None for one that was not looked at.
        """
        at = np.flatnonzero(self.rows == row)
        return self.promises.get(row) or (self.outlook.promise(int(at[0])) if len(at) else None)

    def _candidate(self, row: int) -> int:
        return int(np.flatnonzero(self.rows == row)[0])


def looked_at(
    bonds: np.ndarray, unvaried: np.ndarray, of_parent: np.ndarray, min_bond: float, seed: Sequence[int]
) -> np.ndarray:
    """Rows of the candidates whose environments are looked at, (n,) ascending: all of them would take too long.

    bonds: (n_candidates,) shortest bond over its radius sum, those below min_bond are left out; unvaried, of_parent:
    (n_candidates,) whether it is a known crystal as it is, or made from one. The known crystals all come in; of the
    others as many as LOOKED_AT leaves room for, drawn, PARENTS_PART of them from parents where there are so many.
    """
    inside = bonds >= min_bond
    first = np.flatnonzero(inside & unvaried)
    drawn = np.random.default_rng(seed).permutation(len(bonds))
    near, others = (drawn[(inside & ~unvaried & which)[drawn]] for which in (of_parent, ~of_parent))
    room = max(0, LOOKED_AT - len(first))
    from_others = min(len(others), max(room - len(near), round((1 - PARENTS_PART) * room)))
    return np.sort(np.concatenate([first, near[: room - from_others], others[:from_others]]))


@dataclass(frozen=True)
class Opinion:
    """What a train set leaves open, by measures that need no label and no network.

    zero: uncertainty of the target's energy zero, eV/atom; open: missing values of the target's outlier atoms;
    vicinity: what is not known about the target's vicinity, 0 to 1; far: target atoms farther from the train set
    than all but USUAL of the train atoms are from each other; far_inside: those of them that the range test passes;
    near_outside: outlier atoms that are not far.
    """

    zero: float
    open: int
    vicinity: float
    far: int
    far_inside: int
    near_outside: int


def opinion(known: Known, near: Vicinity, seed: int) -> Opinion:
    """The measures of `EnvironmentChoice`, and where the range test and distances disagree about target atoms."""
    choice = EnvironmentChoice.of([], known, near, seed)
    train = _Environments.of([*known.initial, *known.surrogates], known.elements, known.features)
    target = _Environments.of(known.target, known.elements, known.features)
    outside = {(o.structure, o.atom) for o in known.outliers}
    far: set[tuple[int, int]] = set()
    kinds = [s.species_index(known.elements) for s in known.target]
    for element in range(len(known.elements)):
        atoms = [(k, int(a)) for k, species in enumerate(kinds) for a in np.flatnonzero(species == element)]
        references, values = train.values[element], target.values[element]
        scale = _scale(np.concatenate([references, values]))
        references = references * scale
        limit = np.quantile(_nearest_other(references), 1 - USUAL) if len(references) > 1 else 0.0
        distances = _nearest(values * scale, references)
        far |= {atom for atom, distance in zip(atoms, distances, strict=True) if distance > limit}
    return Opinion(
        zero=choice.zero,
        open=choice.open,
        vicinity=choice.vicinity,
        far=len(far),
        far_inside=len(far - outside),
        near_outside=len(outside - far),
    )


def vicinity(target: Sequence[Structure], near: Vicinity, elements: tuple[str, ...], seed: int) -> list[Structure]:
    """Copies of the target, each coordinate displaced by a normal draw, each cell strained symmetrically.

    As many copies of all as give VICINITY_SAMPLE atoms of each of the target's elements, at most MAX_COPIES.
    """
    counts = sum((s.counts(elements) for s in target), np.zeros(len(elements)))
    fewest = counts[counts > 0].min()
    copies = int(min(MAX_COPIES, np.ceil(VICINITY_SAMPLE / fewest)))
    # 100 000 atoms are enough of everything
    copies = max(1, min(copies, int(100_000 / counts.sum())))
    result = []
    for copy in range(copies):
        for number, structure in enumerate(target):
            rng = np.random.default_rng([seed, 0, copy, number])
            tensor = rng.uniform(-near.strain, near.strain, (3, 3))
            stretch = np.eye(3) + (tensor + tensor.T) / 2
            noise = rng.normal(0.0, near.displacement, structure.positions.shape)
            result.append(Structure(structure.species, structure.cell @ stretch, structure.positions @ stretch + noise))
    return result


@dataclass(frozen=True, eq=False)
class _Environments:
    """Symmetry functions of all atoms of some structures by element: values (n, F), and the structure of each (n,)."""

    values: tuple[np.ndarray, ...]
    owner: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, structures: Sequence[Structure], elements: tuple[str, ...], features: Features, n_features: int = 0
    ) -> _Environments:
        rows = features(structures)
        kinds = np.concatenate([np.zeros(0, dtype=np.int64), *(s.species_index(elements) for s in structures)])
        owner = np.repeat(np.arange(len(structures)), [len(s) for s in structures])
        stacked = np.concatenate(rows) if rows else np.zeros((0, n_features))
        return cls(
            tuple(stacked[kinds == e] for e in range(len(elements))),
            tuple(owner[kinds == e] for e in range(len(elements))),
        )

    def values_with(self, others: _Environments) -> list[np.ndarray]:
        """The values of these and of other structures, by element."""
        return [np.concatenate(pair) for pair in zip(self.values, others.values, strict=True)]


def _scale(values: np.ndarray) -> np.ndarray:
    """1 / (standard deviation × √(number that vary)) of each column, 0 for one that does not vary, (F,)."""
    if not len(values):
        return np.zeros(values.shape[1])
    deviation = values.std(axis=0)
    varies = deviation > 1e-10 * np.maximum(1.0, np.abs(values.mean(axis=0)))
    return np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0) / np.sqrt(max(1, varies.sum()))


def _sample(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return rows[np.sort(rng.choice(len(rows), most, replace=False))]


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 0.0))


def _nearest(points: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest reference, (n,); FAR + 1 where there is none."""
    if not len(references):
        return np.full(len(points), FAR + 1.0)
    blocks = [squared_distances(points[k : k + _BLOCK], references).min(axis=1) for k in range(0, len(points), _BLOCK)]
    return _root(np.concatenate([np.zeros(0), *blocks]))


def _nearest_other(points: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest other one, (n,)."""
    result = np.empty(len(points))
    for k in range(0, len(points), _BLOCK):
        block = squared_distances(points[k : k + _BLOCK], points)
        block[np.arange(len(block)), k + np.arange(len(block))] = np.inf
        result[k : k + _BLOCK] = block.min(axis=1)
    return _root(result)


def _sigma(distance: np.ndarray) -> np.ndarray:
    """How well one energy per element describes a structure that is so far from the target, eV/atom."""
    return NOISE + STRANGENESS * np.square(distance)


def _row(composition: np.ndarray, sigma: float) -> np.ndarray:
    return np.outer(composition, composition) / sigma**2


def _n_missing(outliers: Sequence[OutlierAtom]) -> int:
    """How many values are missing; an atom of an element without data counts as one."""
    return sum(len(outlier.components) or 1 for outlier in outliers)


def _missing(outliers: Sequence[OutlierAtom], seed: int) -> list[tuple[str, Exceeded | None]]:
    """Every value that is missing, with the element of its atom; None: all of them, there is no data of the element.

    At most MISSING_SAMPLE, drawn at random.
    """
    values: list[tuple[str, Exceeded | None]] = []
    for outlier in outliers:
        values += [(outlier.element, component) for component in outlier.components or (None,)]
    if len(values) <= MISSING_SAMPLE:
        return values
    chosen = np.random.default_rng([seed, 2]).choice(len(values), MISSING_SAMPLE, replace=False)
    return [values[k] for k in np.sort(chosen)]


def _closes(
    offered: _Environments, n: int, missing: Sequence[tuple[str, Exceeded | None]], elements: tuple[str, ...]
) -> np.ndarray:
    """Which candidate closes which missing value, (n, K)."""
    result = np.zeros((n, len(missing)), dtype=bool)
    for k, (symbol, exceeded) in enumerate(missing):
        element = elements.index(symbol)
        values, owner = offered.values[element], offered.owner[element]
        if exceeded is not None:
            width = exceeded.high - exceeded.low if exceeded.high > exceeded.low else abs(exceeded.value)
            beyond = (values[:, exceeded.feature] - exceeded.value) * (1 if exceeded.value > exceeded.high else -1)
            owner = owner[(beyond >= -ROUNDING * width) & (beyond <= OVERSHOOT * width)]
        result[owner, k] = True
    return result
