"""kmde compare: a whole comparison through real processes, and what is wrong with a comparison file."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kmde_fw.comparison import Comparison, load_comparison, worker_order
from kmde_fw.errors import ConfigError
from kmde_fw.report import comparison as report
from kmde_fw.workflows.comparison import prepare_comparison

CU_AU = Path(__file__).parents[2] / "fw_specs/cu_au"
KMDE = Path(sys.executable).parent / "kmde"


def write(folder: Path, **changes: Any) -> Path:
    """A comparison of two strategies × two seeds on a small Cu-Au campaign; `base` changes the campaign."""
    shutil.copytree(CU_AU, folder)
    base = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    base["training"] = {"max_closures": 10}
    base["network"] = {"hidden": [4]}
    base["design"].update(candidates=200, picks_per_cycle=1, shards=1)
    base |= {"evaluate": {"again": ["target.extxyz"]}, "dopant": "Cu"} | changes.pop("base", {})
    (folder / "campaign.yaml").write_text(yaml.safe_dump(base))
    spec = {
        "name": "small",
        "campaign": "campaign.yaml",
        "seeds": [3, 4],
        "surrogates": 1,
        "strategies": {
            name: {"design": {"strategy": s}} for name, s in (("motifs", "key_motif"), ("direct", "direct"))
        },
    }
    (folder / "compare.yaml").write_text(yaml.safe_dump(spec | changes, sort_keys=False))
    return folder / "compare.yaml"


def call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(KMDE), *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=240, env={**os.environ, "NO_COLOR": "1"}
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_comparison_from_start_to_tables_and_plots(launchpad_file, store, tmp_path):
    spec = write(tmp_path / "c")
    queued = call("compare", spec, "-l", launchpad_file, "--queue", cwd=tmp_path)
    assert queued.returncode == 0, queued.stderr
    assert "4 campaigns, 4 of them new" in queued.stdout
    early = call("compare", spec, "-l", launchpad_file, "--report-only", cwd=tmp_path)
    assert early.returncode == 1
    assert "has no finished cycle" in early.stderr

    done = call("compare", spec, "-l", launchpad_file, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 campaigns, 0 of them new" in done.stderr
    assert "small.direct.4: N = 1" in done.stderr
    facts = json.loads(done.stdout)
    assert [(r["strategy"], r["seed"], r["n_added"]) for r in facts["runs"]] == [
        (strategy, seed, n) for strategy in ("motifs", "direct") for seed in (3, 4) for n in (0, 1)
    ]
    assert facts["remarks"] == []
    assert all(Path(tmp_path / file).stat().st_size > 0 for file in facts["files"])

    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    best = min((r for r in facts["summary"] if r["n_added"] == 1), key=lambda r: r["energy_rmse_mev_per_atom"])
    value = f"{best['energy_rmse_mev_per_atom']:.2f} ± {best['energy_rmse_std']:.2f} meV/atom at N = 1"
    assert f"{best['strategy']} has the lowest energy RMSE, {value}" in page
    for row in facts["campaigns"]:
        assert row["campaign"] in page
        assert row["reason"] in page
    assert page.count('<div class="chart">') == 5

    summary = rows_of(tmp_path / "out/summary.csv")
    assert list(summary[0])[:8] == [
        "strategy", "n_added", "energy_rmse_mev_per_atom", "energy_rmse_std", "force_rmse_ev_per_ang",
        "force_rmse_std", "outliers", "outliers_std",
    ]  # fmt: skip
    assert [(r["strategy"], r["n_added"], r["n_seeds"]) for r in summary] == [
        (s, n, "2") for s in ("motifs", "direct") for n in ("0", "1")
    ]
    for row in summary:
        assert row["again_energy_rmse_mev_per_atom"] == row["energy_rmse_mev_per_atom"]
        assert row["again_force_rmse_std"] == row["force_rmse_std"]
    same = [r["energy_rmse_mev_per_atom"] for r in facts["runs"] if r["n_added"] == 1 and r["strategy"] == "motifs"]
    assert facts["summary"][1]["energy_rmse_mev_per_atom"] == pytest.approx(sum(same) / 2)
    assert facts["summary"][1]["energy_rmse_std"] == pytest.approx(abs(same[0] - same[1]) / 2)
    categories = rows_of(tmp_path / "out/categories.csv")
    assert [r["category"] for r in categories] == [
        "outlier_cu", "outlier_first_neighbour", "outlier_other", "normal_cu", "normal_first_neighbour",
        "normal_second_neighbour", "normal_far", "outlier_all", "normal_all",
    ]  # fmt: skip
    n_atoms = 2 * sum(len(s) for s in store.get_structures(store.campaign("small.direct.3")["target_structures"]))
    assert sum(int(r["direct_atoms"]) for r in categories[-2:]) == n_atoms
    assert sum(int(r["direct_atoms"]) for r in categories[:-2]) == n_atoms
    assert len(rows_of(tmp_path / "out/energies.csv")) == 2 * len(store.campaign("small.direct.3")["target_structures"])
    assert "kmde compare" in (tmp_path / "out/README.md").read_text()
    by_cost = rows_of(tmp_path / "out/by_cost.csv")
    dearest = max(r["cost_train_cells"] for r in facts["runs"])
    for row in by_cost:
        assert float(row["cost_train_cells"]) <= float(row["cost_at_most"]) <= dearest
    assert {r["strategy"] for r in by_cost} == {"motifs", "direct"}
    stops = rows_of(tmp_path / "out/stops.csv")
    assert [(r["strategy"], r["seed"]) for r in stops] == [(s, n) for s in ("motifs", "direct") for n in ("3", "4")]
    for row in stops:
        cycles = store.cycles(row["campaign"])
        early = [c["n_surrogates"] for c in cycles if c["early_stop"]]
        assert row["stops_at"] == (str(early[0]) if early else "")
        assert row["reason"]
        assert row["best_n"] in ("0", "1")
        assert cycles[0]["changes"] is None
        assert cycles[1]["changes"]["energy"] > 0
    assert "At equal cost" in page
    assert "When to stop" in page

    # campaigns of one seed share the model of N = 0: trained once
    assert store.count("models") == 2 + 4
    assert (
        store.get("evaluations", "small.motifs.3/000")["models"]
        == store.get("evaluations", "small.direct.3/000")["models"]
    )

    n_fireworks = store.database["fireworks"].count_documents({})
    before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    again = call("compare", spec, "-l", launchpad_file, "-o", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert store.database["fireworks"].count_documents({}) == n_fireworks
    only = call("compare", spec, "-l", launchpad_file, "-o", "out", "--report-only", cwd=tmp_path)
    assert only.returncode == 0, only.stderr
    # a rule may be tried on campaigns that are finished: it is read from the files as they are now
    base = yaml.safe_load((tmp_path / "c/campaign.yaml").read_text())
    base["stop"] |= {"zero_outliers": False, "plateau_cycles": 1, "plateau_gain": 1e9}
    (tmp_path / "c/tried.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "c/tried_compare.yaml").write_text(spec.read_text().replace("campaign.yaml", "tried.yaml"))
    words = (tmp_path / "c/tried_compare.yaml", "-l", launchpad_file, "-o", "tried", "--report-only", "--json")
    tried = json.loads(call("compare", *words, cwd=tmp_path).stdout)
    assert {(r["stops_at"], r["reason"][:9]) for r in tried["stops"]} <= {(1, "a plateau"), (None, "none of i")}
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before


def test_a_campaign_that_ends_early_is_written_down():
    comparison = Comparison(name="c", campaign="x", strategies={"a": {}, "b": {}}, seeds=(0,), surrogates=4)
    states = [
        {"strategy": "a", "seed": 0, "state": "finished", "n_added": 2, "reason": "no candidate", "ended_early": True},
        {"strategy": "b", "seed": 0, "state": "running", "n_added": None, "reason": "", "ended_early": False},
    ]
    assert report.remarks(comparison, states) == [
        "a, seed 0: ended at N = 2 of 4: no candidate",
        "b, seed 0: not finished, not begun",
    ]


def test_workers_begin_with_different_seeds():
    runs = Comparison(name="c", campaign="x", strategies={"a": {}, "b": {}}, seeds=(5, 6, 7)).runs
    assert worker_order(runs, 0, 2) == ["c.a.5", "c.b.5", "c.a.7", "c.b.7", "c.a.6", "c.b.6"]
    assert worker_order(runs, 1, 2) == ["c.a.6", "c.b.6", "c.a.5", "c.b.5", "c.a.7", "c.b.7"]


def test_every_campaign_spends_its_budget_with_its_own_seed(tmp_path):
    path = write(tmp_path / "c", surrogates=3)
    prepared = prepare_comparison(load_comparison(path), path)
    assert [p.settings.name for p in prepared] == [
        "small.motifs.3",
        "small.motifs.4",
        "small.direct.3",
        "small.direct.4",
    ]
    assert [(p.settings.seed, p.settings.training.seeds) for p in prepared] == [(3, (3,)), (4, (4,))] * 2
    assert {(p.settings.stop.max_surrogates, p.settings.stop.rule) for p in prepared} == {(3, "budget")}
    assert [p.settings.design.strategy for p in prepared] == ["key_motif"] * 2 + ["direct"] * 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stategies": {}}, "unknown key 'stategies': did you mean 'strategies'?"),
        ({"seeds": [1, 1]}, "a seed is named twice"),
        ({"strategies": {}}, "strategies: "),
        ({"strategies": {"a": {"stop": {"max_surrogates": 3}}}}, "strategies.a.stop.max_surrogates: is set by `surrog"),
        ({"strategies": {"a": {"seed": 3}}}, "strategies.a.seed: is set by `seeds`"),
        ({"strategies": {"a": {"desing": {}}}}, "strategies.a: unknown key 'desing': did you mean 'design'?"),
        ({"strategies": {"a": {"design": {"strategy": "key_motive"}}}}, "did you mean 'key_motif'"),
        ({"campaign": "none.yaml"}, "cannot read campaign file"),
    ],
)
def test_mistakes_in_a_comparison_file(tmp_path, changes, expected):
    path = write(tmp_path / "c", **changes)
    with pytest.raises(ConfigError) as caught:
        prepare_comparison(load_comparison(path), path)
    assert expected in str(caught.value)


def test_no_comparison_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read comparison file"):
        load_comparison(tmp_path / "none.yaml")


def test_the_page_says_which_strategies_are_not_told_apart():
    from types import SimpleNamespace

    from kmde_fw.report.comparison_page import comparison_verdict

    def row(strategy: str, rmse: float | None, outliers: float) -> dict[str, Any]:
        errors = {"energy_rmse_mev_per_atom": rmse, "energy_rmse_std": 0.5, "force_rmse_ev_per_ang": None}
        return {"strategy": strategy, "n_added": 3, **errors, "force_rmse_std": None, "outliers": outliers,
                "outliers_std": 0.0}  # fmt: skip

    rows = [row("a", 2.0, 5.0), row("b", 1.6, 4.0), row("c", 4.0, 5.0)]
    assert comparison_verdict(SimpleNamespace(name="x"), rows) == [
        "b has the lowest energy RMSE, 1.60 ± 0.50 meV/atom at N = 3; not told apart from it by these seeds: a.",
        "b has the fewest outlier atoms, 4.0 ± 0.0 at N = 3.",
    ]
    assert comparison_verdict(SimpleNamespace(name="x"), []) == ["Nothing has been reached in comparison x yet."]


def run_rows(strategy: str, costs: list[float], energies: list[list[float]]) -> list[dict[str, Any]]:
    """Rows of a strategy as `report.run_rows` has them: energies of each seed by N, a label costs costs[seed]."""
    return [
        {
            "strategy": strategy,
            "seed": seed,
            "campaign": f"{strategy}.{seed}",
            "n_added": n,
            "outliers": 0,
            "energy_rmse_mev_per_atom": energy,
            "energy_bias_mev_per_atom": 0.0,
            "energy_scatter_mev_per_atom": 0.0,
            "force_rmse_ev_per_ang": 0.1,
            "cost_train_cells": n * costs[seed],
        }
        for seed, of_seed in enumerate(energies)
        for n, energy in enumerate(of_seed)
    ]


def test_at_equal_cost_the_last_affordable_cycle_counts():
    comparison = Comparison(name="c", campaign="x", strategies={"dear": {}, "cheap": {}}, seeds=(0, 1), surrogates=3)
    dear = run_rows("dear", [0.3, 0.25], [[9.0, 5.0, 3.0, 1.0], [9.0, 7.0, 4.0, 2.0]])
    cheap = run_rows("cheap", [0.001, 0.001], [[9.0, 8.0, 7.0, 6.0]] * 2)
    rows = report.cost_rows(comparison, [*dear, *cheap])
    found = {(r["strategy"], r["cost_at_most"]): r for r in rows}
    assert [cost for strategy, cost in found if strategy == "dear"] == [0.2, 0.4, 0.6, 0.8]
    energies = {key: row["energy_rmse_mev_per_atom"] for key, row in found.items()}
    # 0.3 and 0.25 each: none, one and one, two and two, two and three
    assert [energies["dear", cost] for cost in (0.2, 0.4, 0.6, 0.8)] == [9.0, 6.0, 3.5, 2.5]
    assert found["dear", 0.8]["n_added"] == 2.5
    assert found["dear", 0.8]["energy_rmse_std"] == 0.5
    assert {energies["cheap", cost] for cost in (0.2, 0.4, 0.6, 0.8)} == {6.0}
    assert report.cost_rows(comparison, []) == []
    assert report.cost_rows(comparison, run_rows("dear", [0.0, 0.0], [[1.0], [1.0]])) == []
