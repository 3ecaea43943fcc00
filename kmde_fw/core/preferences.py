"""Strategies that choose by something else than scores of motifs: what `selection.select` is to choose by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmde_fw.config import Campaign
from kmde_fw.core.baselines import BASELINES, structure_features
from kmde_fw.core.candidates import CandidatePool
from kmde_fw.core.environments import ENVIRONMENT, EnvironmentChoice, EnvironmentPreference, Known, looked_at
from kmde_fw.core.scoring import Columns
from kmde_fw.core.selection import RANDOM, Draw, Preference

#: candidates of which a baseline sees the descriptors
BASELINE_SAMPLE = 2000


def scores_motifs(strategy: str) -> bool:
    """Whether the score of a candidate is T(2.4): made of motifs and penalties."""
    return strategy not in (RANDOM, ENVIRONMENT, *BASELINES)


def preference_of(
    settings: Campaign, columns: Columns, pool: CandidatePool, known: Known, cycle: int
) -> Preference | None:
    """What the campaign's strategy chooses by in one cycle; None: by scores of motifs, or by `select`'s own draw."""
    strategy, seed = settings.design.strategy, [settings.seed, cycle]
    min_bond = settings.reference.domain.min_bond
    if strategy in BASELINES:
        return Draw(_baseline(settings, columns, pool, known, seed), strategy)
    if strategy != ENVIRONMENT:
        return None
    crystals = pool.unvaried[columns.index], pool.of_parent[columns.index]
    rows = looked_at(columns.bond, *crystals, min_bond, seed)
    candidates = pool.structures(columns.index[rows].tolist())
    choice = EnvironmentChoice.of(candidates, known, settings.vicinity, settings.seed)
    return EnvironmentPreference(choice, rows, len(columns), choice.outlook())


def _baseline(
    settings: Campaign, columns: Columns, pool: CandidatePool, known: Known, seed: Sequence[int]
) -> np.ndarray:
    """What a baseline chooses by, (n_candidates,): its first choice highest, from a sample of the pool.

    The sample are BASELINE_SAMPLE candidates inside the reference's domain, drawn at random: symmetry functions of the
    whole pool would take as long as everything else of a cycle. All others come after them, in the order of the draw.
    """
    draw = np.random.default_rng(seed).random(len(columns))
    inside = np.flatnonzero(columns.bond >= settings.reference.domain.min_bond)
    rows = inside[np.argsort(draw[inside], kind="stable")[:BASELINE_SAMPLE]]
    if not len(rows):
        return draw
    candidates, train = (
        structure_features(
            known.features(structures), [s.species_index(known.elements) for s in structures], len(known.elements)
        )
        for structures in (pool.structures(columns.index[rows].tolist()), [*known.initial, *known.surrogates])
    )
    order = BASELINES[settings.design.strategy](candidates, train, settings.stop.max_surrogates, seed)
    draw[rows[order]] = 1.0 + np.arange(len(rows), 0, -1)
    return draw
