"""Key motifs: the bins of the coverage gap, weighted by how often they occur around outlier atoms; T(2.2)-(2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kmde_fw.config import did_you_mean
from kmde_fw.core.coverage import Channel, Coverage, Kind, Measure
from kmde_fw.core.distributions import Geometry
from kmde_fw.errors import ConfigError

#: scores all bins of one channel: (counts of the outliers' geometry, max(0, gap)) -> scores, each (n_bins,)
Strategy = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Motif:
    """A range of one channel that the train set lacks: low <= value < high, Å or degrees.

    Values are compared after rounding to `distributions.RESOLUTION`; the last bin of angles reaches one such step
    beyond 180° and so contains it. score: T(2.2), or the strategy's; gap: d_target - d_train in the chosen measure;
    count: how many distances or angles of outlier atoms are in range; rank: 0 is the best;
    atoms: the outlier atoms that these belong to, as (target structure, atom).
    """

    channel: str
    kind: Kind
    low: float
    high: float
    score: float
    gap: float
    count: int
    rank: int
    atoms: tuple[tuple[int, int], ...] = ()

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self) | {"atoms": [list(atom) for atom in self.atoms]}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Motif:
        """The inverse of `to_document`; keys that are not ours (ids of the database) are left aside."""
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        return cls(**fields | {"atoms": tuple((int(s), int(a)) for s, a in document["atoms"])})


#: name -> how a strategy scores; a new one is an entry here, made with `@strategy("its name")`
STRATEGIES: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Decorator: enter a scoring rule in the registry under a name that `design.strategy` may then have."""

    def register(score: Strategy) -> Strategy:
        if name in STRATEGIES:
            raise ValueError(f"two strategies are called {name!r}")
        STRATEGIES[name] = score
        return score

    return register


def find_strategy(name: str) -> Strategy:
    """The strategy of that name. Raises ConfigError naming those that there are."""
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise ConfigError(f"design.strategy: unknown strategy {name!r}{did_you_mean(name, STRATEGIES)}; known: {known}")
    return STRATEGIES[name]


@strategy("key_motif")
def _key_motif(counts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Missing in train and found around outliers; T(2.2)-(2.3)."""
    return counts * gap


@strategy("gap_only")
def _gap_only(counts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Missing in train, wherever it is found."""
    return gap


@strategy("outlier_only")
def _outlier_only(counts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Found around outliers, missing in train or not."""
    return counts.astype(float)


@strategy("random")
def _random(counts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Nothing scores: without motifs, candidates are drawn at random."""
    return np.zeros_like(gap)


def score_motifs(
    coverage: Coverage,
    outliers: Mapping[tuple[int, int], Geometry],
    strategy: str,
    measure: Measure,
    n_motifs: int,
) -> list[Motif]:
    """The best motifs of a coverage gap, best first.

    outliers: (target structure, atom) -> geometry around each outlier atom, from `geometry_of_atoms`; measure: in which
    the gap enters scores; n_motifs: at most so many, over distances and angles together. A bin that scores 0 is no
    motif. Equal scores keep the order of the channels, and within a channel that of the bins. Raises ConfigError for an
    unknown strategy.
    """
    score = find_strategy(strategy)
    atoms = sorted(outliers)
    found = []
    for channel in coverage.channels:
        n_bins = len(channel.counts_target)
        in_bin = np.array([channel.count(_samples(outliers[atom], channel)) for atom in atoms]).reshape(-1, n_bins)
        counts = in_bin.sum(axis=0)
        difference = channel.difference(measure)
        scores = score(counts, np.maximum(0.0, difference))
        found += [
            Motif(
                channel=channel.key,
                kind=channel.kind,
                low=float(channel.edges[i]),
                high=float(channel.edges[i + 1]),
                score=float(scores[i]),
                gap=float(difference[i]),
                count=int(counts[i]),
                rank=0,
                atoms=tuple(atom for atom, row in zip(atoms, in_bin, strict=True) if row[i]),
            )
            for i in np.flatnonzero(scores > 0)
        ]
    best = sorted(found, key=lambda motif: -motif.score)[:n_motifs]  # a stable sort keeps the order of equal scores
    return [replace(motif, rank=rank) for rank, motif in enumerate(best)]


def _samples(geometry: Geometry, channel: Channel) -> np.ndarray:
    return (geometry.distances if channel.kind == "distance" else geometry.angles)[channel.key]
