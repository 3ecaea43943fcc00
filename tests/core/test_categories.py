import numpy as np
import pytest

from kmde_fw.core.categories import force_errors_by_category, places, pool_categories, rarest_element
from kmde_fw.records import Structure


def chain(symbols: str, spacing: float) -> Structure:
    """Atoms in a row, far from the rows beside it."""
    n = len(symbols)
    positions = np.zeros((n, 3))
    positions[:, 0] = spacing * np.arange(n)
    species = tuple({"A": "Al", "P": "Pt", "F": "Fe"}[s] for s in symbols)
    return Structure(species, np.diag([spacing * n, 20.0, 20.0]), positions)


def test_the_dopant_is_the_rarest_element():
    assert rarest_element([chain("AAAFFP", 2.0)]) == "Pt"
    assert rarest_element([chain("AAF", 2.0), chain("FFFP", 2.0)]) == "Pt"
    assert rarest_element([chain("AF", 2.0)]) is None
    assert rarest_element([chain("AAA", 2.0)]) is None


def test_places_count_periodic_images_and_the_nearest_dopant():
    # 2.5 Å apart: neighbours at 2.5 (first) and, beyond 3 and on the 5.0 Å limit itself, far
    assert places(chain("PAAAA", 2.5), "Pt").tolist() == [0, 1, 3, 3, 1]
    assert places(chain("PAAAAAA", 2.2), "Pt").tolist() == [0, 1, 2, 3, 3, 2, 1]
    assert places(chain("PAPAAAA", 2.2), "Pt").tolist() == [0, 1, 0, 1, 2, 2, 1]
    assert places(chain("AA", 2.2), "Pt").tolist() == [3, 3]


def test_force_errors_by_category():
    reference = [np.zeros((4, 3)), np.zeros((2, 3))]
    predicted = [np.array([[3.0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 0, 0]]), np.array([[0, 0, 6.0], [0, 0, 0]])]
    place = [np.array([0, 1, 1, 3]), np.array([0, 3])]
    outlier = [np.array([True, False, False, False]), np.array([True, False])]
    errors = force_errors_by_category(predicted, reference, place, outlier)
    assert {name: entry["atoms"] for name, entry in errors.items()} == {
        "outlier_dopant": 2,
        "outlier_all": 2,
        "normal_first_neighbour": 2,
        "normal_far": 2,
        "normal_all": 4,
    }
    assert errors["outlier_dopant"]["force_rmse"] == pytest.approx(np.sqrt((9 + 36) / 6))
    assert errors["normal_first_neighbour"]["force_rmse"] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert errors["normal_far"]["force_rmse"] == 0


def test_pooling_is_the_same_as_all_at_once():
    rng = np.random.default_rng(0)
    predicted, reference = (list(rng.normal(size=(3, 5, 3))) for _ in range(2))
    place, outlier = list(rng.integers(0, 4, (3, 5))), list(rng.random((3, 5)) < 0.3)
    parts = [force_errors_by_category(*([x[k]] for x in (predicted, reference, place, outlier))) for k in range(3)]
    pooled, together = pool_categories(parts), force_errors_by_category(predicted, reference, place, outlier)
    assert pooled.keys() == together.keys()
    for name in pooled:
        assert pooled[name] == pytest.approx(together[name])
