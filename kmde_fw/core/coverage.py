"""Coverage: the geometry of the train and the target set in equal bins, and what the train set lacks; T(2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from kmde_fw.config import Analysis
from kmde_fw.core.composition import CompositionGap, composition_gap
from kmde_fw.core.distributions import DECIMALS, RESOLUTION, Tally, tally_geometry
from kmde_fw.core.histograms import optimal_width
from kmde_fw.records import Structure

Kind = Literal["distance", "angle"]
#: whether gaps are compared per Å and per degree, or free of units
Measure = Literal["density", "probability"]

#: widths are sought down to so many steps of a tally's grid, where that has been coarsened (targets of many thousand
#: atoms); with the default bounds of the widths this is no restriction
LEAST_STEPS = 16


@dataclass(frozen=True, eq=False)
class Channel:
    """Histograms of one pair or triplet channel over the train and the target set, in the same bins.

    width: Δ in Å or degrees; counts_train, counts_target: (n_bins,) int64. Bin i is [i Δ, (i + 1) Δ); the last one
    contains the end of the range (the cutoff; 180°), also where Δ does not divide it.
    """

    key: str
    kind: Kind
    width: float
    counts_train: np.ndarray
    counts_target: np.ndarray

    @cached_property
    def edges(self) -> np.ndarray:
        """Bin edges, (n_bins + 1,), multiples of the width from 0; a last edge at 180° is just above it."""
        return _edges(len(self.counts_target), self.width, self.kind)

    @cached_property
    def density_train(self) -> np.ndarray:
        """Counts / (total × Δ), (n_bins,), per Å or per degree; integrates to 1, or is 0 where there are no samples."""
        return _density(self.counts_train, self.width)

    @cached_property
    def density_target(self) -> np.ndarray:
        """The same of the target."""
        return _density(self.counts_target, self.width)

    def difference(self, measure: Measure = "density") -> np.ndarray:
        """d_target - d_train, (n_bins,), per Å or degree; as a probability it is multiplied by Δ and has no unit."""
        per_unit = self.density_target - self.density_train
        return per_unit * self.width if measure == "probability" else per_unit

    def gap(self, measure: Measure = "density") -> np.ndarray:
        """max(0, d_target - d_train), (n_bins,); the coverage gap T(2.1). A channel without target samples has none."""
        return np.maximum(0.0, self.difference(measure))

    def count(self, samples: np.ndarray) -> np.ndarray:
        """How many samples (Å or degrees, rounded as `distributions` does) lie in each bin, (n_bins,) int64."""
        bins = self.bins(samples)
        return np.bincount(bins[bins >= 0], minlength=len(self.counts_target))

    def bins(self, samples: np.ndarray) -> np.ndarray:
        """The bin that each sample lies in, (n,) int64; -1 for none."""
        bins = np.searchsorted(self.edges, samples, side="right") - 1
        bins[samples == self.edges[-1]] -= 1  # the last bin contains its upper edge
        bins[bins == len(self.counts_target)] = -1
        return bins

    @property
    def missing(self) -> float:
        """Missing mass Σ gap × Δ: the part of the target's samples that the train set lacks, in [0, 1]."""
        return float(self.gap("probability").sum())

    def to_document(self) -> dict[str, Any]:
        """As plain types. Densities and gap follow from the counts; the missing mass is there to be queried."""
        return {
            "key": self.key,
            "kind": self.kind,
            "width": self.width,
            "counts_train": self.counts_train.tolist(),
            "counts_target": self.counts_target.tolist(),
            "missing": self.missing,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Channel:
        """The inverse of `to_document`."""
        return cls(
            document["key"],
            document["kind"],
            document["width"],
            np.array(document["counts_train"], dtype=np.int64),
            np.array(document["counts_target"], dtype=np.int64),
        )


@dataclass(frozen=True, eq=False)
class Coverage:
    """The coverage of a target set by a train set: channels in fixed order (pairs, then triplets by vertex)."""

    elements: tuple[str, ...]
    cutoff: float
    channels: tuple[Channel, ...]
    composition: CompositionGap

    def __getitem__(self, key: str) -> Channel:
        for channel in self.channels:
            if channel.key == key:
                return channel
        raise KeyError(key)

    @property
    def total(self) -> float:
        """Sum of the missing mass over all channels: one number for the whole coverage gap."""
        return float(sum(channel.missing for channel in self.channels))

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return {
            "elements": list(self.elements),
            "cutoff": self.cutoff,
            "channels": [channel.to_document() for channel in self.channels],
            "composition": self.composition.to_document(),
            "total": self.total,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Coverage:
        """The inverse of `to_document`."""
        return cls(
            tuple(document["elements"]),
            document["cutoff"],
            tuple(Channel.from_document(channel) for channel in document["channels"]),
            CompositionGap.from_document(document["composition"]),
        )


def coverage(
    train: Sequence[Structure],
    target: Sequence[Structure],
    elements: Sequence[str],
    settings: Analysis,
    cutoff: float,
) -> Coverage:
    """Histograms of every channel of `elements` over both sets, and the composition gap; METHOD section 1.

    elements: in any order, which is that of the composition gap's columns; that of the channels is always the same.
    Bin widths are found on the pooled samples of both sets, and where their `Tally` has been coarsened they are
    multiples of its step; what is in the bins is exact in any case. A channel without train samples has d_train = 0
    everywhere; one without target samples has no gap.
    """
    names = tuple(elements)
    tallies_train = tally_geometry(train, names, cutoff)
    tallies_target = tally_geometry(target, names, cutoff)
    channels = [_channel(key, tallies_train[key], tallies_target[key], settings, cutoff) for key in tallies_target]
    composition = composition_gap(_counts(train, names), _counts(target, names))
    return Coverage(names, float(cutoff), tuple(channels), composition)


def _counts(structures: Sequence[Structure], names: tuple[str, ...]) -> np.ndarray:
    """Atoms per element, one row per structure, (n_structures, n_elements)."""
    return np.array([structure.counts(names) for structure in structures]).reshape(-1, len(names))


def _channel(key: str, train: Tally, target: Tally, settings: Analysis, cutoff: float) -> Channel:
    """One channel over both sets."""
    kind: Kind = "distance" if key.count("-") == 1 else "angle"
    if kind == "distance":
        bounds, width, end = settings.distance_widths, settings.fallback_distance_width, cutoff
    else:
        bounds, width, end = settings.angle_widths, settings.fallback_angle_width, 180.0
    pooled = train + target
    grid = pooled.step * RESOLUTION
    if pooled.step > 1:  # narrower bins would show the grid of the tally and not the samples
        bounds = max(bounds[0], LEAST_STEPS * grid), max(bounds[1], LEAST_STEPS * grid)
    if len(pooled) >= settings.min_samples:
        width = optimal_width(pooled.values, *bounds, n_shifts=settings.width_shifts, counts=pooled.counts)
    if pooled.step > 1:  # edges on the grid, so that no bin holds a sample of its neighbour
        least, most = np.ceil(bounds[0] / grid), np.floor(bounds[1] / grid)
        width = float(round(max(least, min(np.rint(width / grid), most)) * grid, DECIMALS))
    n_bins = int(np.ceil(round(end / width, DECIMALS)))
    edges = _edges(n_bins, width, kind)
    return Channel(key, kind, width, train.histogram(edges), target.histogram(edges))


def _edges(n_bins: int, width: float, kind: Kind) -> np.ndarray:
    """Multiples of the width from 0."""
    edges = np.round(np.arange(n_bins + 1) * width, DECIMALS)
    if kind == "angle" and edges[-1] <= 180.0:
        edges[-1] = 180.0 + RESOLUTION  # so that low <= 180° < high holds in the last bin
    return edges


def _density(counts: np.ndarray, width: float) -> np.ndarray:
    return counts / (max(counts.sum(), 1) * width)
