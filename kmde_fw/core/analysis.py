"""The whole analysis of one cycle: coverage gap, composition gap, outlier atoms, key motifs. METHOD 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmde_fw.config import Analysis
from kmde_fw.core.coverage import Coverage, coverage
from kmde_fw.core.distributions import AroundAtoms
from kmde_fw.core.motifs import Motif, score_motifs
from kmde_fw.core.outliers import OutlierAtom, feature_ranges, find_outliers
from kmde_fw.records import Structure


@dataclass(frozen=True)
class CycleAnalysis:
    """What the train set lacks (the composition gap included), which target atoms extrapolate, the key motifs."""

    coverage: Coverage
    outliers: list[OutlierAtom]
    motifs: list[Motif]


def analyse(
    train: Sequence[Structure],
    target: Sequence[Structure],
    train_features: Sequence[np.ndarray],
    target_features: Sequence[np.ndarray],
    elements: tuple[str, ...],
    cutoff: float,
    settings: Analysis,
    strategy: str,
) -> CycleAnalysis:
    """Compare a train set with the target; features: symmetry functions of each structure, (n_atoms, n_features)."""
    ranges = feature_ranges([s.species for s in train], train_features)
    outliers = find_outliers(ranges, [s.species for s in target], target_features, settings.outlier_tolerance)
    found = coverage(train, target, elements, settings, cutoff)
    around = AroundAtoms(target, [(o.structure, o.atom) for o in outliers], elements, cutoff)
    return CycleAnalysis(
        coverage=found,
        outliers=outliers,
        motifs=score_motifs(found, around, strategy, settings.motif_measure, settings.n_motifs),
    )
