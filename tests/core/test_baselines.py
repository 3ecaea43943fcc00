import numpy as np
import pytest

from kmde_fw.core.baselines import BASELINES, direct, farthest_points, structure_features


def test_structure_features_are_averages_by_element():
    features = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    row = structure_features([features], [np.array([0, 0, 0, 2])], 3)[0]
    assert row.tolist() == [9 / 4, 12 / 4, 3 / 4, 0, 0, 0, 7 / 4, 8 / 4, 1 / 4]
    twice = structure_features([np.tile(features, (2, 1))], [np.tile([0, 0, 0, 2], 2)], 3)[0]
    np.testing.assert_allclose(twice, row)


def test_farthest_points_on_a_line():
    # with 0 known, 10 is farthest, then 5; then 2 is 2.0 away from the nearest of them, 6.5 only 1.5
    candidates = np.array([[0.5], [2.0], [5.0], [6.5], [10.0]])
    assert farthest_points(candidates, np.array([[0.0]]), 3, [0]).tolist() == [4, 2, 1, 3, 0]


def test_farthest_points_scale_their_columns():
    candidates = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1000.0], [1.0, 1000.0]])
    order = farthest_points(candidates, np.array([[0.0, 0.0]]), 3, [0])
    assert order[0] == 3
    np.testing.assert_array_equal(order, farthest_points(candidates * [1000.0, 1.0], np.array([[0.0, 0.0]]), 3, [0]))


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Three groups of 9, 6 and 3 points, whose first point is the centre; the train set is in the largest."""
    rng = np.random.default_rng(0)
    parts = []
    for centre, n in (([0.0, 0.0], 9), ([10.0, 0.0], 6), ([0.0, 10.0], 3)):
        moves = rng.normal(0, 0.1, ((n - 1) // 2, 2))
        around = np.concatenate([[[0.0, 0.0]], moves, -moves])
        around = np.concatenate([around, np.zeros((n - len(around), 2))])
        parts.append(np.array(centre) + around)
    return np.concatenate(parts), np.array([[0.05, 0.0]])


def test_direct_takes_one_of_each_cluster_new_ones_first():
    candidates, known = blobs()
    order = direct(candidates, known, 3, [1])
    groups = np.repeat([0, 1, 2], [9, 6, 3])
    assert groups[order[:3]].tolist() == [1, 2, 0], "the largest new cluster, the other new one, the one with train"
    assert groups[order[3:6]].tolist() == [1, 2, 0]
    np.testing.assert_allclose(candidates[order[0]], [10.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_every_candidate_comes_once_and_again_the_same(name):
    rng = np.random.default_rng(3)
    candidates, known = rng.normal(size=(40, 7)), rng.normal(size=(4, 7))
    candidates[:, 2] = 1.0
    order = BASELINES[name](candidates, known, 5, [1, 2])
    assert sorted(order.tolist()) == list(range(40))
    np.testing.assert_array_equal(order, BASELINES[name](candidates, known, 5, [1, 2]))
    few = BASELINES[name](candidates[:2], known, 10, [1, 2])
    assert sorted(few.tolist()) == [0, 1]


def test_clusters_depend_on_number_and_seed():
    rng = np.random.default_rng(3)
    candidates, known = rng.normal(size=(200, 5)), rng.normal(size=(4, 5))
    base = direct(candidates, known, 8, [0])
    assert (base != direct(candidates, known, 5, [0])).any()
    assert (base != direct(candidates, known, 8, [1])).any()
