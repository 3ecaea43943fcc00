"""Composition gap: does the train set fix the energy zero of the target's compositions?

A model's energy is, to first order, one offset per element. With the element counts of structures as rows, the offsets
that matter to the target are determined only if the target's rows lie in the row space of the train rows. If they do
not, the energy error of the target contains an arbitrary constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmde_fw.units import figures

#: relative size below which a singular value, or what is left of the target's rows, is rounding and not composition.
#: One foreign atom among 100 000 is ten times larger
TOLERANCE = 1e-6


@dataclass(frozen=True)
class CompositionGap:
    """The part of the target's composition rows that lies outside the row space of the train rows.

    rank: number of independent train compositions; residual: ‖target rows outside‖ / ‖target rows‖ (Frobenius norm of
    the per-atom rows), 0 when closed; directions: orthonormal missing directions in element space, the widest first,
    each with its largest component positive; weights: the part of the squared residual along each, sum 1;
    absent: columns (elements) that the target has and train has not; host: unit vector of the target's mean
    composition without its missing part. Closed: no directions, no weights, no host.
    """

    rank: int
    residual: float
    directions: tuple[tuple[float, ...], ...] = ()
    weights: tuple[float, ...] = ()
    absent: tuple[int, ...] = ()
    host: tuple[float, ...] = ()

    @property
    def open(self) -> bool:
        """Whether some offset that the target needs is undetermined."""
        return bool(self.directions)

    @property
    def closed(self) -> bool:
        """The opposite of `open`."""
        return not self.open

    def closure(self, counts: np.ndarray | Sequence[float]) -> float:
        """How much a structure with these element counts (n_elements,) would close the gap, in [0, 1]; 0 when closed.

        Two parts of a composition row c are needed: the missing directions d (of weights w), or it closes nothing, and
        the target's other elements, `host` h, because an energy per element is worth something only among the
        neighbours that the target has. With the squared shares of the two, s_d = Σ w (d·c)² / c·c and
        s_h = (h·c)² / c·c, the measure is 4 s_d s_h: 1 for equal parts of both. A composition almost inside the train
        row space counts little: it fixes the offset through a small difference of large numbers. For dilute Pt in
        Al3Fe, AlPt counts 0.9, AlPt2 0.6, Al2FePt 0.5, FePt 0.1, and pure Pt, pure Fe and Al3Fe less than 0.002.
        """
        return float(self.closures(np.asarray(counts, dtype=float)[None, :])[0])

    def closures(self, counts: np.ndarray) -> np.ndarray:
        """`closure` of many structures: counts (n, n_elements) -> (n,)."""
        rows = np.asarray(counts, dtype=float)
        if self.closed:
            return np.zeros(len(rows))
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        missing = (rows @ np.array(self.directions).T) ** 2 @ np.array(self.weights)
        hosted = (rows @ np.array(self.host)) ** 2
        return np.clip(4.0 * missing * hosted, 0.0, 1.0)

    def describe(self, elements: Sequence[str]) -> str:
        """One sentence for people; `elements` are the columns' names."""
        if self.closed:
            return "no composition gap: the train compositions fix the energy zero of the target's"
        absent = ", ".join(elements[k] for k in self.absent)
        missing = "; ".join(
            " ".join(f"{x:+.2f} {e}" for x, e in zip(direction, elements, strict=True) if abs(x) >= 0.005)
            for direction in self.directions
        )
        return (
            f"composition gap: {self.rank} independent train composition{'s' if self.rank != 1 else ''}, "
            f"{figures(100 * self.residual, 2)} % of the target's outside them (missing: {missing}); "
            "the energy zero of the target is undetermined by the train set"
            + (f"; no train structure contains {absent}" if absent else "")
        )

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return {
            "rank": self.rank,
            "residual": self.residual,
            "directions": [list(direction) for direction in self.directions],
            "weights": list(self.weights),
            "absent": list(self.absent),
            "host": list(self.host),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> CompositionGap:
        """The inverse of `to_document`."""
        return cls(
            rank=document["rank"],
            residual=document["residual"],
            directions=tuple(tuple(direction) for direction in document["directions"]),
            weights=tuple(document["weights"]),
            absent=tuple(document["absent"]),
            host=tuple(document["host"]),
        )


def composition_gap(train_counts: np.ndarray, target_counts: np.ndarray) -> CompositionGap:
    """The composition gap between two sets of structures.

    train_counts (n_train, n_elements), target_counts (n_target, n_elements): atoms per element, one row per structure,
    columns in the same order. Rows are taken per atom (fractions), so that a 2-atom and a 204-atom cell weigh alike;
    this does not change the row space.
    """
    train, target = _fractions(train_counts), _fractions(target_counts)
    singular, basis = np.zeros(0), np.zeros((0, target.shape[1]))
    if len(train):
        _, singular, basis = np.linalg.svd(train, full_matrices=False)
    rank = int((singular > TOLERANCE * singular.max(initial=0.0)).sum())
    outside = target - (target @ basis[:rank].T) @ basis[:rank]
    absent = np.flatnonzero(target.any(axis=0) & ~train.any(axis=0))
    residual = float(np.linalg.norm(outside) / np.linalg.norm(target)) if len(target) else 0.0
    if residual <= TOLERANCE:
        return CompositionGap(rank=rank, residual=0.0)
    _, singular, directions = np.linalg.svd(outside, full_matrices=False)
    keep = singular > TOLERANCE * np.linalg.norm(target)
    weights = singular[keep] ** 2 / (singular[keep] ** 2).sum()
    inside = target.mean(axis=0) @ (np.eye(target.shape[1]) - directions[keep].T @ directions[keep])
    return CompositionGap(
        rank=rank,
        residual=residual,
        host=tuple((inside / max(float(np.linalg.norm(inside)), TOLERANCE)).tolist()),
        directions=tuple(tuple((d * np.sign(d[np.abs(d).argmax()])).tolist()) for d in directions[keep]),
        weights=tuple(weights.tolist()),
        absent=tuple(absent.tolist()),
    )


def _fractions(counts: np.ndarray) -> np.ndarray:
    """Rows divided by their sums, each different composition once per distinct row of counts."""
    rows = np.unique(np.atleast_2d(np.asarray(counts, dtype=float)), axis=0)
    return rows / rows.sum(axis=1, keepdims=True)
