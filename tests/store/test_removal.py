"""kmde rm takes away what only one campaign uses, and nothing else; kmde watch ends with the campaign."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kmde_fw.errors import StoreError
from kmde_fw.report.cycles import curve_lines
from kmde_fw.store import COLLECTIONS, Store, queries
from kmde_fw.store.removal import check_idle, plan_removal, remove


@pytest.fixture
def copy(finished: Store, store: Store) -> Store:
    """The finished campaigns in a database of the test's own."""
    for collection in COLLECTIONS:
        documents = finished.find(collection)
        if documents:
            store.database[collection].insert_many(documents)
    for blob in store.find("blobs"):
        gridfs_id = store._blobs.put(finished.get_blob(blob["_id"]), filename=blob["_id"])
        store.database["blobs"].update_one({"_id": blob["_id"]}, {"$set": {"gridfs_id": gridfs_id}})
    return store


def ids(store: Store) -> dict[str, set[str]]:
    return {name: {d["_id"] for d in store.find(name, fields=())} for name in COLLECTIONS}


def test_what_another_campaign_shares_stays(copy: Store):
    before = ids(copy)
    twin = copy.campaign("twin")
    cycles = copy.cycles("twin")
    plan = plan_removal(copy, "demo")
    assert ids(copy) == before, "a plan changes nothing"
    assert plan.own["cycles"] == len(copy.cycles("demo"))
    assert plan.own["candidates"] == copy.count("candidates", {"campaign": "demo"}) > 0
    shared = {m for c in copy.cycles("demo") for m in c["models"]} & {m for c in cycles for m in c["models"]}
    assert plan.shared["models"] == len(shared) >= 2, "cycle 0 has the same train set"
    remove(copy, plan)
    after = ids(copy)
    assert after["campaigns"] == {"twin"}
    assert before["structures"] - after["structures"] == set(plan.structures)
    assert before["models"] - after["models"] == set(plan.models)
    assert before["blobs"] - after["blobs"] == set(plan.blobs)
    for cycle in cycles:
        assert len(copy.get_labelled(cycle["train_labels"])) == len(cycle["train_labels"])
        for model in cycle["models"]:
            assert copy.get_blob(copy.get("models", model)["weights"]["sha256"])
            assert queries.lineage(copy, model)["campaign"]["_id"] == "twin"
    assert copy.get_structures(twin["target_structures"])
    assert not [d for name in COLLECTIONS for d in copy.find(name, fields=()) if d["_id"].startswith("demo/")]


def test_after_the_last_campaign_nothing_is_left(copy: Store):
    for name in ("demo", "twin"):
        remove(copy, plan_removal(copy, name))
    assert {name: found for name, found in ids(copy).items() if found} == {}
    assert copy.database["kmde_blobs.chunks"].count_documents({}) == 0
    with pytest.raises(StoreError, match="no campaign"):
        plan_removal(copy, "demo")


def test_a_campaign_at_work_is_not_removed():
    check_idle(0, "demo")
    with pytest.raises(StoreError, match="2 fireworks at work"):
        check_idle(2, "demo")


def test_rm_shows_asks_and_removes_fireworks_too(kmde, launchpad_file: Path, copy: Store, monkeypatch):
    copy.database["fireworks"].insert_one({"fw_id": 1, "state": "COMPLETED", "spec": {"kmde": {"campaign": "demo"}}})
    plan = plan_removal(copy, "demo")
    monkeypatch.setattr("typer.confirm", lambda *a, **k: False)
    code, out, _ = kmde("rm", "demo", "-l", launchpad_file)
    assert code == 1
    assert f"{len(plan.models)} models that only it uses, {plan.shared['models']} stay because other" in out
    assert copy.campaign("demo")
    code, out, _ = kmde("rm", "demo", "--yes", "--json", "-l", launchpad_file)
    assert code == 0
    record: dict[str, Any] = json.loads(out)
    assert record["fireworks"] == 1
    assert record["models"] == list(plan.models)
    assert copy.get("campaigns", "demo") is None
    assert copy.database["fireworks"].count_documents({}) == 0


def test_watch_shows_a_finished_campaign_and_ends(kmde, finished_launchpad: Path, finished: Store):
    code, out, _ = kmde("watch", "demo", "-l", finished_launchpad)
    assert code == 0
    assert finished.campaign("demo")["reason"] in " ".join(out.split())


def test_watch_follows_a_running_one_to_its_end(kmde, launchpad_file: Path, copy: Store, monkeypatch):
    copy.set_campaign_state("demo", "running", "")
    copy.set_progress("demo/002/Train", 3, 10, "Train seed 0")
    # it ends while watch waits for its second look
    clock = SimpleNamespace(sleep=lambda seconds: copy.set_campaign_state("demo", "finished", "all done"))
    monkeypatch.setattr(importlib.import_module("kmde_fw.cli.watch"), "time", clock)
    code, out, _ = kmde("watch", "demo", "--interval", "0.2", "-l", launchpad_file)
    assert code == 0
    assert "cycle 2  Train seed 0: 3 of 10" in out
    assert "why it stopped: all done" in out


def test_curves_in_characters():
    row = {"energy_rmse": None, "energy_scatter": None, "force_rmse": None}
    rows = [{**row, "n_outliers": n} for n in (20, 10, 0)]
    assert curve_lines(rows) == ["outliers     █▅▁  20 → 0"]
    assert curve_lines(rows[:1]) == []
    far = [{"zero": zero, "open": 3, "vicinity": 0.2, "far_inside": 0} for zero in (0.008, 0.001)]
    opinions = curve_lines([{**row, "opinion": opinion} for row, opinion in zip(rows[:2], far, strict=True)])[1:]
    assert opinions == [
        "energy zero  █▂  8 → 1",
        "missing      ██  3 → 3",
        "vicinity     ██  0.2 → 0.2",
        "far inside   ▁▁  0 → 0",
    ]
