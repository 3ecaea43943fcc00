"""The choice by environments, on cases small enough to check by hand or by enumeration."""

import numpy as np
import pytest

from kmde_fw.config import Vicinity
from kmde_fw.core.environments import (
    LOOKED_AT,
    NOISE,
    PARENTS_PART,
    STRANGENESS,
    EnvironmentChoice,
    EnvironmentPreference,
    Known,
    looked_at,
    opinion,
    vicinity,
)
from kmde_fw.core.outliers import feature_ranges, find_outliers
from kmde_fw.records import Structure

ELEMENTS = ("Al", "Fe")
CELL = 4.0 * np.eye(3)


def crystal(species: str, *values: float) -> Structure:
    """A crystal whose only symmetry function is the x coordinate of each atom."""
    symbols = tuple(species.split("-"))
    return Structure(symbols, CELL, np.array([[v, 0.0, 0.0] for v in values]))


def features(structures) -> list[np.ndarray]:
    return [s.positions[:, :1].copy() for s in structures]


def known(train, target, surrogates=()) -> Known:
    everything = [*train, *surrogates]
    ranges = feature_ranges([s.species for s in everything], features(everything))
    outliers = find_outliers(ranges, [s.species for s in target], features(target), 1e-6)
    return Known(train, list(surrogates), target, outliers, ELEMENTS, features)


def choice(candidates, train, target, surrogates=()) -> EnvironmentChoice:
    near = Vicinity(displacement=0.1, strain=0.0)
    return EnvironmentChoice.of(candidates, known(train, target, surrogates), near, seed=0)


TRAIN = [crystal("Al-Fe", 0.0, 1.0), crystal("Al-Al-Fe", 0.5, 1.0, 2.0)]
TARGET = [crystal("Al-Fe", 1.2, 1.5), crystal("Al-Al-Fe", 0.7, -0.1, 1.2)]


def test_a_promise_is_what_taking_the_candidate_brings():
    candidates = [crystal("Al", 1.25), crystal("Fe-Al", 1.3, -0.12), crystal("Al-Fe-Fe", 0.6, 1.2, 1.4)]
    for row in range(len(candidates)):
        state = choice(candidates, TRAIN, TARGET)
        promise = state.outlook().promise(row)
        assert promise.zero[0] == pytest.approx(state.zero)
        assert promise.vicinity[0] == pytest.approx(state.vicinity)
        state.take(row)
        assert promise.zero[1] == pytest.approx(state.zero, rel=1e-8)
        assert promise.vicinity[1] == pytest.approx(state.vicinity, rel=1e-12)
        assert promise.open[1] == state.still.sum()


def test_a_surrogate_in_the_train_set_counts_as_one_that_was_taken():
    candidates = [crystal("Al", 1.25), crystal("Fe-Al", 1.3, -0.12)]
    state = choice(candidates, TRAIN, TARGET)
    state.take(1)
    again = choice(candidates, TRAIN, TARGET, surrogates=[candidates[1]])
    assert again.zero == pytest.approx(state.zero, rel=1e-8)
    assert again.vicinity == pytest.approx(state.vicinity, rel=1e-10)


def test_missing_values_are_closed_by_an_atom_at_or_little_beyond_them():
    # Al is known from 0 to 1: 1.2 and -0.1 of the target are missing, and a candidate may overshoot by half a range
    candidates = [crystal("Al", x) for x in (1.1, 1.2, 1.69, 1.71, -0.1, 0.5, 1.2 - 1e-9)] + [crystal("Fe", 1.2)]
    state = choice(candidates, TRAIN, TARGET)
    assert len(state.still) == 2
    assert state.closes.sum(axis=1).tolist() == [0, 1, 1, 0, 1, 0, 1, 0], "the same up to rounding"


def test_a_sample_of_very_many_missing_values_stands_for_all(monkeypatch):
    target = [crystal("-".join(["Al"] * 40), *np.linspace(1.1, 1.3, 40))]
    every = choice([crystal("Al", 1.2)], TRAIN, target)
    assert every.outlook().promise(0).open == (40, 40 - every.closes.sum())
    monkeypatch.setattr("kmde_fw.core.environments.MISSING_SAMPLE", 10)
    some = choice([crystal("Al", 1.2)], TRAIN, target)
    assert len(some.still) == 10
    assert some.outlook().promise(0).open == (40, 40 - 4 * some.closes.sum())
    assert opinion(known(TRAIN, target), Vicinity(displacement=0.1, strain=0.0), 0).open == 40


def test_an_element_without_data_is_one_missing_value_for_each_atom():
    state = choice([crystal("Al", 0.1), crystal("Fe", 7.0)], [crystal("Al-Al", 0.0, 1.0)], [crystal("Al-Fe", 0.5, 1.0)])
    assert state.closes.tolist() == [[False], [True]]


def test_the_zero_is_fixed_by_what_is_like_the_target_in_all_but_composition():
    train, target = [crystal("Al-Al-Al-Fe", 0, 0.1, 0.2, 1)], [crystal("Al-Al-Fe-Fe", 0, 0.1, 1, 1.1)]
    alike, strange = crystal("Al-Fe-Fe-Fe", 0.1, 1, 1.1, 1), crystal("Al-Fe-Fe-Fe", 3.1, 4, 4.1, 4)
    same_composition = crystal("Al-Al-Al-Fe", 0, 0.1, 0.2, 1)
    state = choice([strange, same_composition, alike], train, target)
    assert state.zero > 0.1
    after = state.zeros_after()
    assert after[2] < 5 * NOISE < after[0] < after[1]
    assert state.scores().argmax() == 2  # while the zero is open it comes first
    assert state.strangeness[0] * STRANGENESS > 10 * NOISE


def test_strange_candidates_count_less():
    near, far = crystal("Al-Al-Fe", 1.2, -0.1, 1.2), crystal("Al-Al-Fe-Fe-Fe-Fe-Fe", 1.2, -0.1, 1.2, 90, 91, 92, 93)
    state = choice([near, far], TRAIN, TARGET)
    assert state.closes[0].tolist() == state.closes[1].tolist()
    assert state.scores()[0] > 10 * state.scores()[1]


def test_a_hole_inside_the_range_is_seen_by_distance_only():
    train = [crystal("Al-Al-Al-Al", 0.0, 0.1, 0.9, 1.0), crystal("Fe", 1.0)]
    found = opinion(known(train, [crystal("Al-Al-Fe", 0.5, 0.95, 1.0)]), Vicinity(displacement=0.0, strain=0.0), 0)
    assert (found.far, found.far_inside, found.near_outside, found.open) == (1, 1, 0, 0)
    outside = opinion(known(train, [crystal("Al-Fe", 1.001, 1.0)]), Vicinity(displacement=0.0, strain=0.0), 0)
    assert (outside.far, outside.near_outside, outside.open) == (0, 1, 1)


def test_the_vicinity_is_as_large_as_asked_for_and_repeats():
    target = [Structure(("Al",) * 50 + ("Fe",), 8.0 * np.eye(3), np.random.default_rng(0).uniform(0, 8, (51, 3)))]
    near = Vicinity(displacement=0.05, strain=0.02)
    copies = vicinity(target, near, ELEMENTS, seed=3)
    assert len(copies) == 20
    assert [c.id for c in copies] == [c.id for c in vicinity(target, near, ELEMENTS, seed=3)]
    assert copies[0].id != vicinity(target, near, ELEMENTS, seed=4)[0].id
    moved = [c.positions - target[0].positions @ np.linalg.solve(target[0].cell, c.cell) for c in copies]
    assert np.std(moved) == pytest.approx(0.05, rel=0.05)
    strains = np.array([np.linalg.solve(target[0].cell, c.cell) - np.eye(3) for c in copies])
    assert np.abs(strains).max() <= 0.02
    assert np.allclose(strains, strains.transpose(0, 2, 1))


def test_known_crystals_are_always_looked_at():
    bonds, unvaried, of_parent = np.full(6000, 1.0), np.zeros(6000, dtype=bool), np.arange(6000) >= 3000
    bonds[7], unvaried[[5, 7, 5999]] = 0.5, True
    rows = looked_at(bonds, unvaried, of_parent, 0.85, [0, 1])
    assert len(rows) == LOOKED_AT
    assert {5, 5999} <= set(rows.tolist())
    assert 7 not in rows
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert (rows >= 3000).mean() == pytest.approx(PARENTS_PART, abs=0.001)
    assert rows.tolist() != looked_at(bonds, unvaried, of_parent, 0.85, [0, 2]).tolist()


@pytest.mark.parametrize(("n_parents", "expected"), [(0, 0), (100, 100), (2900, 2400)])
def test_where_parents_or_others_are_few_the_rest_fills_up(n_parents, expected):
    of_parent = np.arange(3000) < n_parents
    rows = looked_at(np.ones(3000), np.zeros(3000, dtype=bool), of_parent, 0.85, [0, 1])
    assert len(rows) == LOOKED_AT
    assert of_parent[rows].sum() == expected


def test_the_preference_speaks_of_rows_of_the_columns():
    state = choice([crystal("Al", 1.25), crystal("Fe-Al", 1.3, -0.12)], TRAIN, TARGET)
    preference = EnvironmentPreference(state, np.array([3, 8]), 10, state.outlook())
    scores = preference.scores()
    assert np.isneginf(scores[[0, 1, 2, 4, 5, 6, 7, 9]]).all()
    assert np.isfinite(scores[[3, 8]]).all()
    assert "vicinity" in preference.reason(8)
    preference.take(8)
    assert preference.promises[8].vicinity[1] == pytest.approx(state.vicinity)


def test_the_best_remaining_candidate_is_judged_after_the_picks():
    candidates = [crystal("Al", 1.25), crystal("Fe-Al", 1.3, -0.12), crystal("Al-Fe-Fe", 0.6, 1.2, 1.4)]
    state = choice(candidates, TRAIN, TARGET)
    preference = EnvironmentPreference(state, np.array([3, 5, 8]), 10, state.outlook())
    at_first = [preference.outlook.promise(k) for k in range(3)]
    assert preference.remaining() == at_first[int(state.scores().argmax())]
    preference.take(8)
    remaining = preference.remaining()
    left = choice(candidates[:2], TRAIN, TARGET, surrogates=[candidates[2]])
    best = left.outlook().promise(int(left.scores().argmax()))
    assert remaining.vicinity == pytest.approx(best.vicinity, rel=1e-10)
    assert remaining.open == best.open
    # of the others what they would have brought at the beginning is kept, of the pick what it promised
    assert [preference.promised(row) for row in (3, 5)] == at_first[:2]
    assert preference.promised(8) == preference.promises[8]
    assert preference.promised(0) is None
    preference.take(3)
    preference.take(5)
    assert preference.remaining() is None
