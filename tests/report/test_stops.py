"""Where a rule would have stopped, from documents, and where it would have been best."""

from __future__ import annotations

from typing import Any

import pytest

from kmde_fw.config import Stop
from kmde_fw.core.decision import CycleSummary
from kmde_fw.report.stops import best_n, history_of, would_stop
from kmde_fw.store import Store


def rows(outliers: list[list[int]], energies: list[list[float]], displaced: float = 1.0) -> list[dict[str, Any]]:
    """One row per seed and N; on a further set errors fall by `displaced` with each label."""
    return [
        {
            "campaign": f"c{seed}",
            "n_added": n,
            "outliers": outliers[seed][n],
            "energy_rmse_mev_per_atom": energy,
            "force_rmse_ev_per_ang": 0.02,
            "displaced_energy_rmse_mev_per_atom": 10.0 * displaced**n,
            "displaced_force_rmse_ev_per_ang": 0.1 * displaced**n,
        }
        for seed, of_seed in enumerate(energies)
        for n, energy in enumerate(of_seed)
    ]


COVERED = [[20, 5, 0, 0, 0]] * 3


@pytest.mark.parametrize(
    ("outliers", "energies", "expected"),
    [
        # the lowest error among those without outliers
        (COVERED, [[36, 0.4, 0.9, 0.5, 0.8]] * 3, 3),
        # a little lower by chance alone is no better: the seeds do not agree
        (COVERED, [[36, 0.4, 0.5, 0.6, 0.45], [36, 0.4, 0.5, 0.4, 0.6], [36, 0.4, 0.5, 0.52, 0.43]], 2),
        # lower in every seed is
        (COVERED, [[36, 0.4, 0.50, 0.45, 0.5], [36, 0.4, 0.6, 0.55, 0.6], [36, 0.4, 0.7, 0.65, 0.7]], 3),
        # fewest outliers where some are left everywhere
        ([[20, 9, 4, 4, 3]] * 3, [[36, 0.4, 0.4, 0.5, 0.9]] * 3, 4),
        # one seed only: the lowest
        (COVERED[:1], [[36, 0.4, 0.9, 0.5, 0.49]], 4),
        # an N that not all have reached does not count
        (COVERED, [[36, 0.4, 0.9, 0.5, 0.1], [36, 0.4, 0.9, 0.5, 0.1], [36, 0.4, 0.9, 0.5]], 3),
    ],
)
def test_best_n(outliers, energies, expected):
    assert best_n(rows(outliers, energies)) == expected


def test_further_sets_may_ask_for_more_labels():
    table = rows(COVERED, [[36, 0.4, 0.9, 0.5, 0.6]] * 3, displaced=0.5)
    assert best_n(table) == 3
    assert best_n(table, further=True) == 4


def test_without_labels_there_is_no_best_n():
    table = rows(COVERED, [[36, 0.4, 0.9, 0.5, 0.6]] * 3)
    assert best_n([row | {"energy_rmse_mev_per_atom": None} for row in table]) is None
    assert best_n([]) is None


def test_a_rule_is_tried_cycle_by_cycle():
    outliers, changes = (20, 5, 0, 0), (None, 30.0, 2.5, 0.4)
    history = [
        CycleSummary(n, n, outliers[n], 1.0, new_labels=1 if n else None, energy_change=changes[n]) for n in range(4)
    ]
    assert would_stop(history, Stop())[0] == 3
    assert would_stop(history, Stop(energy_change=3.0))[0] == 2
    assert would_stop(history[:3], Stop()) == (
        None,
        "the energies predicted for the target still moved by 2.5 meV/atom",
    )
    assert would_stop(history, Stop(zero_outliers=False)) == (None, "none of its rules held")
    assert would_stop(history[:2], Stop(energy_change=None)) == (None, "5 outlier atoms")


def test_the_history_is_that_of_the_documents(finished: Store):
    history = history_of(finished, "demo")
    cycles = finished.cycles("demo")
    assert [s.n_surrogates for s in history] == [c["n_surrogates"] for c in cycles]
    assert [s.n_outliers for s in history] == [c["n_outliers"] for c in cycles]
    assert [s.vicinity for s in history] == [c["opinion"]["vicinity"] for c in cycles]
    changes = [c["changes"] or {"energy": None, "forces": None} for c in cycles]
    assert [s.energy_change for s in history] == [c["energy"] for c in changes]
    assert [s.force_change for s in history] == [c["forces"] for c in changes]
    assert [c["changes"] is None for c in cycles] == [not s.new_labels for s in history]
    assert history[0].new_labels is None


def test_documents_that_did_not_record_changes_have_the_energies(finished: Store, monkeypatch):
    """The change of energies is that of the evaluations; the best that remained is what the next cycle picked."""
    recorded = history_of(finished, "demo")
    cycles = [{k: v for k, v in c.items() if k not in ("changes", "remaining")} for c in finished.cycles("demo")]
    promise = {"zero": [1e-3, 1e-3], "open": [0, 0], "vicinity": [0.2, 0.15], "strangeness": 0.1}
    cycles[2]["promised"] = [promise]
    monkeypatch.setattr(Store, "cycles", lambda self, name: cycles)
    older = history_of(finished, "demo")
    for before, now in zip(recorded, older, strict=True):
        assert now.energy_change == (None if before.energy_change is None else pytest.approx(before.energy_change))
    assert [s.force_change for s in older] == [None] * len(cycles)
    assert [s.remaining for s in older] == [None, pytest.approx(0.25), *[None] * (len(cycles) - 2)]
