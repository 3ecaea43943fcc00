"""Key motifs: the bins of the coverage gap, weighted by how often they occur around outlier atoms; T(2.2)-(2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kmde_fw.config import did_you_mean
from kmde_fw.core.coverage import Coverage, Kind, Measure
from kmde_fw.core.distributions import AtomSamples
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


@strategy("environment")
def _environment(counts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """As `key_motif`, to report them; candidates are chosen by `environments`."""
    return counts * gap


@strategy("direct")
@strategy("farthest_point")
@strategy("random")
def _random(counts: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Nothing scores: without motifs, candidates are drawn at random or chosen by `baselines`."""
    return np.zeros_like(gap)


def score_motifs(
    coverage: Coverage,
    around: Iterable[AtomSamples],
    strategy: str,
    measure: Measure,
    n_motifs: int,
) -> list[Motif]:
    """The best motifs of a coverage gap, best first.

    around: the geometry around the outlier atoms, in blocks, from `AroundAtoms`; it is gone through twice, so that
    which atoms a motif comes from is asked of the best motifs only. measure: in which the gap enters scores; n_motifs:
    at most so many, over distances and angles together. A bin that scores 0 is no motif. Equal scores keep the order of
    the channels, and within a channel that of the bins. Raises ConfigError for an unknown strategy.
    """
    score = find_strategy(strategy)
    counts = [np.zeros(len(channel.counts_target), dtype=np.int64) for channel in coverage.channels]
    for block in around:
        for in_bins, channel in zip(counts, coverage.channels, strict=True):
            in_bins += channel.count(block.values[channel.key])
    found = []
    for k, channel in enumerate(coverage.channels):
        scores = score(counts[k], channel.gap(measure))
        found += [(float(scores[i]), k, int(i)) for i in np.flatnonzero(scores > 0)]
    # a stable sort keeps the order of equal scores
    best = sorted(found, key=lambda entry: -entry[0])[:n_motifs]
    atoms = _atoms_in_bins(coverage, around, [(k, i) for _, k, i in best])
    return [
        Motif(
            channel=coverage.channels[k].key,
            kind=coverage.channels[k].kind,
            low=float(coverage.channels[k].edges[i]),
            high=float(coverage.channels[k].edges[i + 1]),
            score=value,
            gap=float(coverage.channels[k].difference(measure)[i]),
            count=int(counts[k][i]),
            rank=rank,
            atoms=tuple(atoms[rank]),
        )
        for rank, (value, k, i) in enumerate(best)
    ]


def _atoms_in_bins(
    coverage: Coverage, around: Iterable[AtomSamples], bins: list[tuple[int, int]]
) -> list[list[tuple[int, int]]]:
    """For each bin, given as (number of the channel, number of the bin), the atoms with a sample in it."""
    atoms: list[list[tuple[int, int]]] = [[] for _ in bins]
    for block in around if bins else ():
        in_bin = {}
        for found, (k, i) in zip(atoms, bins, strict=True):
            channel = coverage.channels[k]
            if k not in in_bin:
                in_bin[k] = channel.bins(block.values[channel.key])
            owners = np.unique(block.owners[channel.key][in_bin[k] == i])
            found += [block.atoms[owner] for owner in owners.tolist()]
    return atoms
