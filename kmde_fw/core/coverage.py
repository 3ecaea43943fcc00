"""Coverage: the geometry of the train and the target set in equal bins, and what the train set lacks; T(2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from kmde_fw.config import Analysis
from kmde_fw.core.composition import CompositionGap, composition_gap
from kmde_fw.core.distributions import DECIMALS, RESOLUTION, Geometry, sample_geometry
from kmde_fw.core.histograms import optimal_width
from kmde_fw.records import Structure

Kind = Literal["distance", "angle"]
#: whether gaps are compared per Å and per degree, or free of units
Measure = Literal["density", "probability"]


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
        return np.histogram(samples, self.edges)[0].astype(np.int64)

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
    Bin widths are found on the pooled samples of both sets. A channel without train samples has d_train = 0 everywhere;
    one without target samples has no gap.
    """
    names = tuple(elements)
    geometry_train = sample_geometry(train, names, cutoff)
    geometry_target = sample_geometry(target, names, cutoff)
    channels = [
        channel
        for kind in ("distance", "angle")
        for channel in _channels(geometry_train, geometry_target, kind, settings, cutoff)
    ]
    composition = composition_gap(_counts(train, names), _counts(target, names))
    return Coverage(names, float(cutoff), tuple(channels), composition)


def _counts(structures: Sequence[Structure], names: tuple[str, ...]) -> np.ndarray:
    """Atoms per element, one row per structure, (n_structures, n_elements)."""
    return np.array([structure.counts(names) for structure in structures]).reshape(-1, len(names))


def _channels(train: Geometry, target: Geometry, kind: Kind, settings: Analysis, cutoff: float) -> list[Channel]:
    """All channels of one kind."""
    if kind == "distance":
        samples_train, samples_target, end = train.distances, target.distances, cutoff
        bounds, fallback = settings.distance_widths, settings.fallback_distance_width
    else:
        samples_train, samples_target, end = train.angles, target.angles, 180.0
        bounds, fallback = settings.angle_widths, settings.fallback_angle_width
    channels = []
    for key in samples_target:
        pooled = np.concatenate([samples_train[key], samples_target[key]])
        width = fallback
        if len(pooled) >= settings.min_samples:
            width = optimal_width(pooled, *bounds, n_shifts=settings.width_shifts)
        n_bins = int(np.ceil(round(end / width, DECIMALS)))
        empty = Channel(key, kind, width, np.zeros(n_bins, dtype=np.int64), np.zeros(n_bins, dtype=np.int64))
        channels.append(
            replace(empty, counts_train=empty.count(samples_train[key]), counts_target=empty.count(samples_target[key]))
        )
    return channels


def _edges(n_bins: int, width: float, kind: Kind) -> np.ndarray:
    """Multiples of the width from 0."""
    edges = np.round(np.arange(n_bins + 1) * width, DECIMALS)
    if kind == "angle" and edges[-1] <= 180.0:
        edges[-1] = 180.0 + RESOLUTION  # so that low <= 180° < high holds in the last bin
    return edges


def _density(counts: np.ndarray, width: float) -> np.ndarray:
    return counts / (max(counts.sum(), 1) * width)
