import numpy as np
import pytest

from kmde_fw.core.cost import costs, electrons, relative_cost, valence_electrons


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("H", 1), ("He", 2), ("C", 4), ("O", 6), ("Ne", 8), ("Na", 1), ("Al", 3), ("Si", 4), ("Ar", 8), ("Ti", 4),
        ("Fe", 8), ("Ni", 10), ("Cu", 11), ("Zn", 12), ("Ga", 3), ("Kr", 8), ("Ag", 11), ("In", 3), ("La", 3),
        ("Lu", 17), ("Hf", 4), ("W", 6), ("Pt", 10), ("Au", 11), ("Hg", 12), ("Tl", 3), ("Pb", 4), ("Bi", 5),
    ],
)  # fmt: skip
def test_valence_electrons(element, expected):
    assert valence_electrons(element) == expected


def test_only_elements_have_electrons():
    for symbol in ("X", "Zz"):
        with pytest.raises(KeyError):
            valence_electrons(symbol)


def test_electrons_of_a_cell():
    assert electrons(["Al", "Al", "Fe"]) == 14
    assert electrons(["Al", "Al", "Fe"], {"Fe": 14.0}) == 20


def test_cost_is_in_train_cells():
    assert relative_cost([], [["Al"]]) == 0
    assert relative_cost([["Al", "Al"], ["Al"]], [["Al"]]) == pytest.approx(9)
    assert relative_cost([["Fe"]], [["Fe"], ["Fe", "Fe"]]) == pytest.approx(1 / 4.5)
    assert relative_cost([["Fe"]], [["Al"]], {"Fe": 6.0}) == pytest.approx(8)
    with pytest.raises(ValueError, match="no train cell"):
        relative_cost([["Al"]], [])


def test_costs_from_counts_are_those_of_the_cells():
    unit = [["Al"] * 8, ["Al"] * 6 + ["Fe", "Pt"]]
    cells = [["Al"], ["Fe", "Pt", "Pt"], ["Al"] * 5 + ["Fe"]]
    counts = np.array([[cell.count(e) for e in ("Al", "Fe", "Pt")] for cell in cells])
    expected = [relative_cost([cell], unit) for cell in cells]
    assert costs(counts, ("Al", "Fe", "Pt"), unit) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no train cell"):
        costs(counts, ("Al", "Fe", "Pt"), [])
