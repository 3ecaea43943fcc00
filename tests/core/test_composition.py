import json

import numpy as np
import pytest

from kmde_fw.core.composition import CompositionGap, composition_gap

TRAIN = [[77, 24, 1], [78, 23, 1]]  # the thesis: two compositions, three elements
TARGET = [[155, 48, 1], [156, 47, 1]]


def gap(train, target) -> CompositionGap:
    return composition_gap(np.array(train), np.array(target))


def test_two_compositions_cannot_fix_three_offsets():
    thesis = gap(TRAIN * 10, TARGET * 10)
    assert thesis.open
    assert not thesis.closed
    assert thesis.rank == 2
    normal = np.array([-1, -1, 101]) / np.sqrt(101**2 + 2)  # the vector product of the two train rows
    np.testing.assert_allclose(thesis.directions, [normal], atol=1e-9)
    rows = np.array(TARGET) / 204
    assert thesis.residual == pytest.approx(np.linalg.norm(rows @ normal) / np.linalg.norm(rows))
    assert thesis.weights == pytest.approx((1.0,))
    assert thesis.absent == ()


def test_closed_by_the_same_composition_in_a_larger_cell():
    closed = gap(TRAIN, [[154, 48, 2]])
    assert closed.closed
    assert closed.residual == 0
    assert closed.rank == 2
    assert closed.closure([0, 0, 1]) == 0
    assert "no composition gap" in closed.describe(("Al", "Fe", "Pt"))


def test_closed_by_enough_compositions():
    assert gap([*TRAIN, [0, 1, 1]], TARGET).closed
    assert gap(np.eye(3), TARGET).closed


def test_absent_element_leaves_a_gap():
    missing = gap([[3, 1, 0], [1, 1, 0]], [[3, 1, 1]])
    assert missing.absent == (2,)
    np.testing.assert_allclose(missing.directions, [[0, 0, 1]], atol=1e-12)
    sentence = missing.describe(("Al", "Fe", "Pt"))
    assert "no train structure contains Pt" in sentence
    assert "2 independent" in sentence


def test_rank_does_not_see_rounding_or_repetition():
    assert gap([[77, 24, 1]] * 50 + [[154, 48, 2]] * 50, TARGET).rank == 1
    # one foreign atom in 10 000 is a composition of its own
    assert gap([[10_000, 0], [9_999, 1]], [[1, 1]]).closed
    assert gap([[10_000, 0]], [[9_999, 1]]).open


def test_closure_prefers_what_is_missing_among_the_target_s_elements():
    thesis = gap(TRAIN, TARGET)
    host = np.array([155.5, 47.5]) / np.hypot(
        155.5, 47.5
    )  # Al and Fe of the target; the missing direction is almost Pt
    np.testing.assert_allclose(thesis.host, [*host, 0.02], atol=0.01)
    rows = {"AlPt": (1, 0, 1), "FePt": (0, 1, 1), "Al2FePt": (2, 1, 1), "Al3Fe": (3, 1, 0), "Pt": (0, 0, 4)}
    closures = dict(zip(rows, thesis.closures(np.array(list(rows.values()))), strict=True))
    # by hand: 4 × squared share of Pt × squared share along the host
    assert closures["AlPt"] == pytest.approx(4 / 2 * host[0] ** 2 / 2, abs=0.03)
    assert closures["FePt"] == pytest.approx(4 / 2 * host[1] ** 2 / 2, abs=0.03)
    assert closures["Al2FePt"] == pytest.approx(4 / 6 * (2 * host[0] + host[1]) ** 2 / 6, abs=0.03)
    assert closures["Al3Fe"] == pytest.approx(0, abs=2e-3)
    assert closures["Pt"] == pytest.approx(0, abs=2e-3)
    assert thesis.closure(TRAIN[0]) == pytest.approx(0, abs=1e-12)
    assert thesis.closure([1, 0, 1]) == closures["AlPt"]


def test_closure_with_two_missing_elements():
    # both are missing, and always together
    together = gap([[1, 0, 0]], [[2, 1, 1]])
    assert together.closure([2, 1, 1]) == pytest.approx(4 * 2 / 6 * 4 / 6)
    assert together.closure([1, 1, 0]) == pytest.approx(4 * 1 / 4 * 1 / 2)
    assert together.closure([1, 1, -1]) == pytest.approx(0)  # across the gap: no use
    # missing in different structures: either closes its half
    apart = gap([[1, 0, 0]], [[1, 1, 0], [1, 0, 1]])
    assert len(apart.directions) == 2
    assert sum(apart.weights) == pytest.approx(1)
    assert apart.closure([1, 1, 0]) == pytest.approx(4 * 1 / 4 * 1 / 2)
    assert apart.closure([1, 0, 0]) == pytest.approx(0)


def test_without_train_structures_everything_is_missing():
    nothing = composition_gap(np.zeros((0, 2)), np.array([[1, 1]]))
    assert nothing.rank == 0
    assert nothing.residual == pytest.approx(1)
    assert nothing.absent == (0, 1)


@pytest.mark.parametrize("case", [gap(TRAIN, TARGET), gap(TRAIN, TRAIN), gap([[1, 0, 0]], [[1, 1, 0], [1, 0, 1]])])
def test_document(case):
    assert CompositionGap.from_document(json.loads(json.dumps(case.to_document()))) == case
