import json

import numpy as np
import pytest

from kmde_fw.core.outliers import Exceeded, FeatureRange, OutlierAtom, feature_ranges, find_outliers

# two train structures, three functions; of Fe the third one never differs
SPECIES = [("Al", "Fe"), ("Fe", "Al", "Al")]
FEATURES = [
    np.array([[1.0, 0.0, 5.0], [10.0, 0.0, 3.0]]),
    np.array([[12.0, 0.0, 3.0], [2.0, 0.0, 7.0], [1.5, 0.0, 6.0]]),
]
RANGES = feature_ranges(SPECIES, FEATURES)


def test_ranges_by_hand():
    assert sorted(RANGES) == ["Al", "Fe"]
    np.testing.assert_array_equal(RANGES["Al"].low, [1.0, 0.0, 5.0])
    np.testing.assert_array_equal(RANGES["Al"].high, [2.0, 0.0, 7.0])
    np.testing.assert_array_equal(RANGES["Fe"].low, [10.0, 0.0, 3.0])
    np.testing.assert_array_equal(RANGES["Fe"].high, [12.0, 0.0, 3.0])


def test_train_atoms_are_no_outliers():
    assert find_outliers(RANGES, SPECIES, FEATURES, 0.0) == []


def test_outliers_by_hand():
    species = [("Al", "Al"), ("Fe", "Al")]
    features = [np.array([[1.5, 0.0, 6.0], [2.5, 0.0, 4.0]]), np.array([[11.0, 0.1, 3.0], [1.0, 0.0, 7.0]])]
    outliers = find_outliers(RANGES, species, features, 1e-6)
    assert [(o.structure, o.atom, o.element) for o in outliers] == [(0, 1, "Al"), (1, 0, "Fe")]
    assert outliers[0].components == (Exceeded(0, 2.5, 1.0, 2.0), Exceeded(2, 4.0, 5.0, 7.0))
    assert [c.excess for c in outliers[0].components] == [0.5, 0.5]
    assert outliers[0].reason == "2 symmetry functions outside the train range, by up to 50 % of it"
    assert outliers[1].components == (Exceeded(1, 0.1, 0.0, 0.0),)
    assert outliers[1].components[0].excess is None
    assert "no width" in outliers[1].reason


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 1), (0.09, 1), (0.11, 0)])
def test_tolerance_is_in_units_of_the_train_range(tolerance, expected):
    # 7.2 is 0.2 beyond a range of 2
    features = [np.array([[1.5, 0.0, 7.2]])]
    assert len(find_outliers(RANGES, [("Al",)], features, tolerance)) == expected


def test_rounding_is_no_outlier_where_the_train_values_never_differ():
    assert find_outliers(RANGES, [("Fe",)], [np.array([[11.0, 0.0, 3.0 + 1e-13]])], 1e-6) == []
    assert len(find_outliers(RANGES, [("Fe",)], [np.array([[11.0, 0.0, 3.0 + 1e-6]])], 1e-6)) == 1
    # where the train set has exactly nothing, anything is new
    assert len(find_outliers(RANGES, [("Fe",)], [np.array([[11.0, 1e-13, 3.0]])], 1e-6)) == 1


def test_nan_is_outside():
    assert FeatureRange(np.zeros(1), np.ones(1)).outside(np.array([[np.nan]]), 1e-6).all()


def test_an_element_absent_from_train_makes_all_its_atoms_outliers():
    features = [np.array([[1.5, 0.0, 6.0], [1.5, 0.0, 6.0], [0.0, 0.0, 0.0]])]
    outliers = find_outliers(RANGES, [("Al", "Pt", "Pt")], features, 1e-6)
    assert [(o.atom, o.components) for o in outliers] == [(1, ()), (2, ())]
    assert outliers[0].reason == "no train structure contains Pt"


def test_no_train_set():
    assert feature_ranges([], []) == {}


def test_document():
    features = [np.array([[2.5, 0.1, 6.0]]), np.array([[0.0, 0.0, 0.0]])]
    for outlier in find_outliers(RANGES, [("Al",), ("Pt",)], features, 1e-6):
        assert OutlierAtom.from_document(json.loads(json.dumps(outlier.to_document(), allow_nan=False))) == outlier
