import pytest

from kmde_fw.config import Stop
from kmde_fw.core.decision import CycleSummary, decide


def history(*rows, failed=0, new=1):
    """One cycle per (outliers, gap), with one surrogate more in each."""
    return [
        CycleSummary(n, n, outliers, gap, failed if n else 0, new_labels=new if n else None)
        for n, (outliers, gap) in enumerate(rows)
    ]


PLATEAU = Stop(plateau_cycles=2, plateau_gain=0.1)
FALLING = [(9, 3.0), (5, 2.0), (3, 1.5)]


@pytest.mark.parametrize(
    ("cycles", "stop", "expected", "reason"),
    [
        (history((20, 3.4)), Stop(), False, "20 outlier atoms left, 0 of 10 surrogates spent"),
        (history(*FALLING), Stop(), False, "3 outlier atoms left, 2 of 10 surrogates spent"),
        (history((20, 3.4), (0, 2.0)), Stop(), True, "no target atom is an outlier any more, with 1 surrogate learned"),
        (history((0, 3.4)), Stop(), True, "no target atom is an outlier any more, with 0 surrogates learned"),
        (history((20, 3.4), (0, 2.0)), Stop(zero_outliers=False), False, "0 outlier atoms left, 1 of 10"),
        (history(*FALLING), Stop(max_surrogates=2), True, "the budget of 2 surrogates is spent, with 3 outlier atoms"),
        (
            history((1, 3.0)),
            Stop(max_surrogates=0),
            True,
            "the budget of 0 surrogates is spent, with 1 outlier atom left",
        ),
        # zero outliers comes first
        (history((9, 3.0), (0, 2.0)), Stop(max_surrogates=1), True, "no target atom is an outlier"),
        # plateau
        (
            history((9, 3.0), (9, 3.0), (9, 2.8)),
            PLATEAU,
            True,
            "a plateau: in the last 2 cycles at best 9 outlier atoms",
        ),
        (history((9, 3.0), (9, 3.0), (9, 2.8)), Stop(plateau_cycles=None), False, "9 outlier atoms left"),
        (history((9, 3.0), (9, 3.0)), PLATEAU, False, "9 outlier atoms left"),  # too short
        (history((9, 3.0), (9, 3.0), (8, 3.0)), PLATEAU, False, "8 outlier atoms left"),  # fewer outliers
        (history((9, 3.0), (9, 3.0), (9, 2.6)), PLATEAU, False, "9 outlier atoms left"),  # smaller gap
        (history((9, 3.0), (9, 2.8), (9, 2.6)), PLATEAU, False, "9 outlier atoms left"),  # slowly, but smaller
        (
            history((9, 3.0), (9, 3.0), (9, 2.8)),
            Stop(plateau_cycles=2, plateau_gain=0.05),
            False,
            "9 outlier atoms left",
        ),
        (history((9, 3.0), (9, 2.8)), Stop(plateau_cycles=1, plateau_gain=0.1), True, "a plateau: in the last cycle"),
        (
            history((9, 3.0), (4, 2.0), (7, 3.0), (6, 2.5)),
            PLATEAU,
            True,
            "6 outlier atoms (4 before) and a gap of 2.5 (2",
        ),
        (history((9, 0.0), (9, 0.0), (9, 0.0)), PLATEAU, True, "a plateau"),
        # nothing new
        (
            history((9, 3.0), (9, 3.0), new=0),
            Stop(),
            True,
            "no candidate could be picked in cycle 1, with 9 outlier atoms",
        ),
        (history((9, 3.0), (9, 3.0), new=0, failed=1), Stop(), False, "9 outlier atoms left"),
        (history(*[(9, 3.0)] * 3, new=0, failed=4), Stop(), False, "9 outlier atoms left"),
        (history(*[(9, 3.0)] * 4, new=0, failed=4), Stop(), True, "all 12 labels of the last 3 cycles failed"),
        (history(*[(9, 3.0)] * 4, new=1, failed=4), Stop(), False, "9 outlier atoms left"),
    ],
)
def test_decisions(cycles, stop, expected, reason):
    decision = decide(cycles, stop)
    assert decision.stop is expected
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("cycles", "stop", "expected", "reason", "early"),
    [
        (history((20, 3.4), (0, 2.0)), Stop(), True, "no target atom", "no target atom"),
        (history((20, 3.4), (0, 2.0)), Stop(rule="budget"), False, "0 outlier atoms left, 1 of 10", "no target atom"),
        (history((20, 3.4), (5, 2.0)), Stop(rule="budget"), False, "5 outlier atoms left", ""),
        (history((9, 3.0), (0, 2.0)), Stop(rule="budget", max_surrogates=1), True, "the budget of 1", "no target atom"),
        (history((0, 3.0), (0, 3.0), new=0), Stop(rule="budget"), True, "no candidate could be picked", "no target"),
        (
            history((9, 3.0), (9, 3.0), (9, 2.8)),
            Stop(rule="budget", plateau_cycles=2, plateau_gain=0.1),
            False,
            "9 outlier atoms left",
            "a plateau",
        ),
        (history((9, 3.0), (9, 3.0), (9, 2.8)), PLATEAU, True, "a plateau", "a plateau"),
    ],
)
def test_the_budget_rule_spends_it_and_records_what_the_other_would_say(cycles, stop, expected, reason, early):
    decision = decide(cycles, stop)
    assert decision.stop is expected
    assert reason in decision.reason
    assert decision.early.startswith(early)
    assert bool(decision.early) is bool(early)


def test_no_cycle():
    with pytest.raises(ValueError, match="no cycle"):
        decide([], Stop())


@pytest.mark.parametrize(
    ("accepted", "broken", "outside", "fraction", "expected"),
    [
        (2, 4, 0, 0.5, True),
        (3, 3, 0, 0.5, False),
        (2, 3, 0, 0.5, False),  # too few to tell
        (2, 4, 0, 1.0, False),
        (4, 2, 9, 0.5, False),  # what lies outside the domain says nothing against the reference
        (4, 2, 0, 0.3, True),
    ],
)
def test_too_many_failed_calculations_stop_the_campaign(accepted, broken, outside, fraction, expected):
    cycles = [
        CycleSummary(0, 0, 20, 3.0),
        CycleSummary(1, accepted, 19, 2.9, broken + outside, broken_labels=broken, new_labels=accepted),
    ]
    decision = decide(cycles, Stop(max_surrogates=50), fraction)
    assert decision.stop is expected
    if expected:
        assert f"{broken} of 6 reference calculations failed, more than max_failed_fraction" in decision.reason
        assert decide(cycles, Stop(max_surrogates=50, rule="budget"), fraction).stop


def settled(**changes):
    """Cycle 4 of a campaign without outliers, in which everything has come to rest; `changes` of its last cycle."""
    values = {"zero": 0.7e-3, "vicinity": 0.18, "energy_change": 0.2, "force_change": 0.015, "remaining": 0.03}
    before = CycleSummary(3, 3, 1, 2.0, new_labels=1, zero=0.7e-3, vicinity=0.2, energy_change=0.3, force_change=0.02)
    return [before, CycleSummary(4, 4, 0, 1.9, new_labels=1, **(values | changes))]


@pytest.mark.parametrize(
    ("changes", "stop", "waits"),
    [
        ({}, {}, ""),
        ({"far_inside": 3}, {}, "3 target atoms are inside the train range, but far from every train atom"),
        # what is predicted for the target
        ({"energy_change": 2.72}, {}, "the energies predicted for the target still moved by 2.7 meV/atom"),
        ({"energy_change": 2.72}, {"energy_change": 3.0}, ""),
        ({"energy_change": 2.72}, {"energy_change": None}, ""),
        ({"energy_change": None, "force_change": None}, {}, ""),  # not known
        ({"force_change": 0.06}, {}, "the forces predicted for the target still moved by 0.06 eV/Å"),
        ({"force_change": 0.06}, {"force_change": 0.1}, ""),
        ({"force_change": 0.06}, {"force_change": None}, ""),
        # the energy zero
        ({"zero": 3e-3}, {}, ""),  # labels cannot help it
        ({"zero": 0.3e-3}, {}, ""),
        # the best remaining candidate, or where it is not known the last one
        ({"remaining": 0.12}, {}, "the best remaining candidate would make the target's vicinity known 12.0 % better"),
        ({"remaining": 0.12}, {"vicinity_gain": 0.15}, ""),
        ({"remaining": 0.12}, {"vicinity_gain": None}, ""),
        ({"remaining": 0.02}, {"vicinity_gain": 0.01}, "would make the target's vicinity known 2.0 % better"),
        ({"remaining": None, "vicinity": 0.17}, {}, "the last cycle made the target's vicinity known 15.0 % better"),
        ({"remaining": None, "vicinity": 0.195}, {}, ""),
        # nothing is asked where outliers do not decide
        ({}, {"zero_outliers": False}, "0 outlier atoms left"),
    ],
)
def test_a_target_that_is_covered_must_also_have_settled(changes, stop, waits):
    decision = decide(settled(**changes), Stop(**stop))
    assert decision.stop is not bool(waits)
    assert (waits if waits else "no target atom is an outlier any more, with 4 surrogates learned") in decision.reason


def test_the_reason_says_what_was_measured():
    assert decide(settled(), Stop()).early == (
        "no target atom is an outlier any more, with 4 surrogates learned; what is predicted for the target moved "
        "little (energies by 0.2 meV/atom, forces by 0.015 eV/Å); the best remaining candidate would make the "
        "target's vicinity known 3.0 % better"
    )


@pytest.mark.parametrize(("zeros", "waits"), [([15e-3], True), ([0.7e-3], False), ([15e-3, 3e-3], True)])
def test_an_energy_zero_that_is_still_being_found_keeps_a_campaign_going(zeros, waits):
    cycles = [CycleSummary(k, k, 0, 1.0, new_labels=1 if k else None, zero=zero) for k, zero in enumerate(zeros)]
    decision = decide(cycles, Stop())
    assert decision.stop is not waits
    assert (f"energy zero is known to {1e3 * zeros[-1]:.2g} meV/atom only" in decision.reason) is waits
    assert decide(cycles, Stop(energy_change=None)).stop


def test_a_cycle_in_which_all_labels_failed_says_nothing_new():
    moving = settled(energy_change=2.0)
    cycles = [*moving, CycleSummary(5, 4, 0, 1.9, failed_labels=4, new_labels=0, zero=0.7e-3, vicinity=0.18)]
    decision = decide(cycles, Stop())
    assert not decision.stop
    assert "still moved by 2 meV/atom" in decision.reason


@pytest.mark.parametrize(
    ("cost", "max_cost", "expected", "reason"),
    [
        (1.3, 1.2, True, "the labels have cost 1.3 train cells, all that max_cost (1.2) allows, with 9 outlier atoms"),
        (1.2, 1.2, True, "the labels have cost 1.2 train cells"),
        (1.1, 1.2, False, "9 outlier atoms left"),
        (9.0, None, False, "9 outlier atoms left"),
        (0.0, 0.0, True, "the labels have cost 0 train cells"),
    ],
)
@pytest.mark.parametrize("rule", ["converged", "budget"])
def test_the_cost_of_labels_is_a_budget(rule, cost, max_cost, expected, reason):
    cycles = [CycleSummary(0, 0, 20, 3.0), CycleSummary(1, 1, 9, 2.9, new_labels=1, cost=cost)]
    decision = decide(cycles, Stop(rule=rule, max_cost=max_cost))
    assert decision.stop is expected
    assert reason in decision.reason


def test_nothing_affordable_is_said_with_the_reason():
    cycles = [CycleSummary(0, 0, 20, 3.0), CycleSummary(1, 0, 20, 3.0, new_labels=0, shortage="0 of 1 picks: too dear")]
    assert "no candidate could be picked in cycle 1 (0 of 1 picks: too dear), with 20" in decide(cycles, Stop()).reason


@pytest.mark.parametrize(
    ("outliers", "vicinities", "gain", "words"),
    [
        (0, [0.20, 0.18], 0.03, ""),  # labels still bring it nearer
        (0, [0.20, 0.195], 0.03, "2.5 % better"),
        (0, [0.20, 0.195], 0.01, ""),
        (0, [0.20, 0.18], None, "no target atom is an outlier"),
        (0, [0.20], 0.03, "no target atom is an outlier"),  # nothing to compare with
        (1, [0.20, 0.20], 0.03, ""),
    ],
)
def test_without_outliers_the_vicinity_decides(outliers, vicinities, gain, words):
    history = [CycleSummary(k, k, outliers, 1.0, new_labels=1, vicinity=v) for k, v in enumerate(vicinities)]
    decision = decide(history, Stop(vicinity_gain=gain))
    assert decision.stop == bool(words)
    assert words in decision.early
