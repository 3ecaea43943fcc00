"""A campaign through real processes against the real server: lpad and two rlaunch at once, and the same by kmde run."""

from __future__ import annotations

import json
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from campaigns import BIN, call, launch, picks, write_campaign
from kmde_fw.firetasks.base import CampaignView
from kmde_fw.firetasks.select import outlier_atoms
from kmde_fw.hdnnp.model_file import from_bytes
from kmde_fw.store import COLLECTIONS, Store, read_launchpad
from kmde_fw.workflows.cycle import may_spawn
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
from kmde_fw.workflows.start import workflow_yaml


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory, client, mongo_uri):
    """The campaign run by `lpad add` and two `rlaunch rapidfire` at once; the folder and its store."""
    folder = tmp_path_factory.mktemp("by_hand")
    name = f"kmde_test_by_hand_{uuid.uuid4().hex[:8]}"
    launchpad = folder / "launchpad.yaml"
    launchpad.write_text(yaml.safe_dump({"host": mongo_uri, "name": name, "uri_mode": True}))
    write_campaign(folder)
    (folder / "workflow.yaml").write_text(workflow_yaml("cu_au", Path("campaign.yaml")))
    pad = open_launchpad(read_launchpad(launchpad))
    ensure_initialised(pad)
    pad.connection.close()
    added = call("lpad", "-l", launchpad, "add", "workflow.yaml", cwd=folder)
    assert added.returncode == 0, added.stderr
    rockets = [
        subprocess.Popen(
            [str(BIN / "rlaunch"), "-l", str(launchpad), "rapidfire", "--sleep", "1"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for rocket in rockets:
        _, errors = rocket.communicate(timeout=240)
        assert rocket.returncode == 0, errors
    yield folder, Store(client[name])
    client.drop_database(name)


def test_every_firework_ran_exactly_once(by_hand):
    _, store = by_hand
    fireworks = list(store.database["fireworks"].find())
    assert {fw["state"] for fw in fireworks} == {"COMPLETED"}
    assert all(len(fw["launches"]) == 1 and not fw["archived_launches"] for fw in fireworks)
    steps = [(fw["spec"]["kmde"].get("cycle"), fw["spec"]["kmde"]["step"]) for fw in fireworks]
    one_cycle = ["Generate"] * 2 + ["Select", "Label"] + ["Train"] * 2 + ["Analyse", "Evaluate", "Advance"]
    expected = [(None, "StartCampaign"), (None, "Finish"), *((0, step) for step in one_cycle[4:])]
    expected += [(cycle, step) for cycle in (1, 2) for step in one_cycle]
    assert sorted(steps, key=str) == sorted(expected, key=str)


def test_both_rockets_had_work(by_hand):
    _, store = by_hand
    names = {launch["host"] + str(launch["launch_dir"]) for launch in store.database["launches"].find()}
    assert len(names) > 2


def test_documents_tell_the_whole_campaign(by_hand):
    _, store = by_hand
    campaign = store.campaign("cu_au")
    assert campaign["state"] == "finished"
    assert campaign["reason"].startswith("the budget of 2 surrogates is spent")
    assert campaign["config"]["design"]["candidates"] == 400
    assert campaign["config"]["analysis"]["n_motifs"] == 20, "defaults are part of the resolved configuration"
    assert store.find("progress") == []
    cycles = store.cycles("cu_au")
    assert [cycle["cycle"] for cycle in cycles] == [0, 1, 2]
    assert [len(cycle["train_labels"]) for cycle in cycles] == [6, 7, 8]
    assert [cycle["stop"] for cycle in cycles] == [False, False, True]
    counts = {
        name: store.count(name) for name in ("analyses", "evaluations", "selections", "shards", "outcomes", "models")
    }
    assert counts == {"analyses": 3, "evaluations": 3, "selections": 2, "shards": 4, "outcomes": 2, "models": 6}
    for cycle in cycles:
        for model_id in cycle["models"]:
            model = store.get("models", model_id)
            assert model["train_labels"] == cycle["train_labels"]
            assert from_bytes(store.get_blob(model["weights"]["sha256"])).elements == ("Au", "Cu")
        for key in ("energy_rmse", "energy_bias", "energy_scatter", "force_rmse"):
            assert cycle["metrics"]["target"][key]["mean"] == pytest.approx(
                sum(row["target"][key] for row in store.get("evaluations", cycle["_id"])["rows"]) / 2
            )


def test_errors_of_further_sets_by_category_and_the_cost_of_labels(by_hand):
    _, store = by_hand
    evaluations = store.find("evaluations", sort=("cycle",))
    for evaluation in evaluations:
        for key, error in evaluation["metrics"]["target"].items():
            assert evaluation["metrics"]["evaluate"]["again"][key] == pytest.approx(error)
        categories = evaluation["categories"]
        parts = [entry for name, entry in categories.items() if not name.endswith("_all")]
        n_atoms = store.get("analyses", evaluation["_id"])["n_target_atoms"]
        assert sum(entry["atoms"] for entry in parts) == 2 * n_atoms, "of two models"
        assert evaluation["dopant"] == "Cu"
        assert categories["outlier_all"]["atoms"] == 2 * store.get("analyses", evaluation["_id"])["n_outliers"]
    costs = [evaluation["cost"] for evaluation in evaluations]
    assert costs[0] == 0
    assert costs[0] < costs[1] < costs[2]
    assert all(evaluation["reused"] == [] for evaluation in evaluations)
    assert [cycle["cost"] for cycle in store.cycles("cu_au")] == costs


def test_a_surrogate_leads_back_to_outlier_atoms(by_hand):
    """Label -> pick -> recipe, reason and promise -> motifs -> outlier atoms -> what these exceed."""
    _, store = by_hand
    outcome = store.outcomes("cu_au", 1)[0]
    label = store.get("labels", outcome["label_id"])
    assert label["state"] == "accepted"
    assert label["level"]["calculator"] == "ase.calculators.emt.EMT"
    pick = store.get("selections", "cu_au/001")["slots"][0][0]
    assert pick["structure_id"] == label["structure_id"]
    assert pick["energy_penalty"] is None, "the score of `environment` has no terms"
    assert set(pick["promise"]) == {"zero", "open", "vicinity", "strangeness"}
    assert pick["reason"].endswith("% better")
    (candidate,) = store.find("candidates", {"campaign": "cu_au", "cycle": 1, "structure_id": label["structure_id"]})
    assert candidate["outcome"] == "picked"
    assert candidate["recipe"]["crystal"] in candidate["description"]
    best = store.motifs("cu_au", 0)[0]
    atoms = {(o["structure"], o["atom"]) for o in store.get("analyses", "cu_au/000")["outliers"]}
    assert best["rank"] == 0
    assert best["atoms"]
    assert {tuple(atom) for atom in best["atoms"]} <= atoms


def test_picks_promise_and_cycles_say_what_was_realised(by_hand):
    """What a cycle's labels really brought is measured anew by the next analysis, by the same measures."""
    _, store = by_hand
    cycles = store.cycles("cu_au")
    opinions = [store.get("analyses", cycle["_id"])["opinion"] for cycle in cycles]
    assert [cycle["opinion"] for cycle in cycles] == opinions
    assert (cycles[0]["promised"], cycles[0]["realised"]) == ([], {})
    for k in (1, 2):
        (slot,) = store.get("selections", cycles[k]["_id"])["slots"]
        assert cycles[k]["promised"] == [slot[0]["promise"]]
        # reserves, and whatever else was looked at, say what they would have brought instead
        assert all(reserve["promise"]["vicinity"][0] == slot[0]["promise"]["vicinity"][0] for reserve in slot[1:])
        assert cycles[k]["remaining"]["vicinity"][0] == pytest.approx(slot[0]["promise"]["vicinity"][1])
        for measure in ("zero", "open", "vicinity"):
            assert cycles[k]["realised"][measure] == [opinions[k - 1][measure], opinions[k][measure]]
            assert slot[0]["promise"][measure][0] == pytest.approx(opinions[k - 1][measure])
        # the pick was labelled: the target's vicinity is known better, by what was promised
        assert cycles[k]["realised"]["vicinity"][1] == pytest.approx(slot[0]["promise"]["vicinity"][1])
        assert cycles[k]["realised"]["zero"][1] == pytest.approx(slot[0]["promise"]["zero"][1])


def test_outlier_atoms_that_are_not_listed_are_found_again(by_hand):
    _, store = by_hand
    analysis = store.get("analyses", "cu_au/000")
    with CampaignView(store, "cu_au", 0, "test") as view:
        train, target = [labelled.structure for labelled in view.train_set()[1]], view.target()
        listed = outlier_atoms(analysis, train, target, view)
        assert len(listed) == analysis["n_outliers"] > 5
        assert outlier_atoms({**analysis, "outliers": analysis["outliers"][:5]}, train, target, view) == listed


def test_the_last_model_comes_out_as_a_file(by_hand, kmde):
    from kmde_fw.hdnnp import HdnnpCalculator
    from kmde_fw.inputs import read_structures

    folder, store = by_hand
    code, _, err = kmde("export", "cu_au", "-o", folder / "model.safetensors", "-l", folder / "launchpad.yaml")
    assert code == 0, err
    atoms = read_structures(folder / "target.extxyz")[0].to_atoms()
    atoms.calc = HdnnpCalculator(folder / "model.safetensors")
    row = store.get("evaluations", "cu_au/002")["rows"][0]
    assert atoms.get_potential_energy() == pytest.approx(row["target_energies"][0], abs=1e-9)
    assert atoms.calc.results["extrapolating"].any()


def snapshot(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every document of ours."""
    return {name: store.find(name) for name in sorted(COLLECTIONS) if name != "progress"}


def test_a_repeated_firetask_writes_nothing_twice(by_hand):
    folder, store = by_hand
    pad = open_launchpad(read_launchpad(folder / "launchpad.yaml"))
    before, n_fireworks = snapshot(store), pad.get_fw_ids(count_only=True)
    for fw_id in pad.get_fw_ids():
        firework = pad.get_fw_by_id(fw_id)
        (task,) = firework.tasks
        if "campaign_file" in task:
            task["campaign_file"] = str(folder / "campaign.yaml")
        task.launchpad, task.fw_id = pad, fw_id
        action = task.run_task(firework.spec)
        assert action is None or not (action.detours or action.additions), firework.name
    assert snapshot(store) == {**before, "campaigns": snapshot(store)["campaigns"]}
    assert [c["state"] for c in store.find("campaigns")] == ["finished"]
    assert pad.get_fw_ids(count_only=True) == n_fireworks
    pad.connection.close()


def test_advance_may_be_repeated_until_its_fireworks_are_there(by_hand):
    """It died after its claim and before FireWorks had the next cycle: the same firework may go on, another may not."""
    folder, store = by_hand
    pad = open_launchpad(read_launchpad(folder / "launchpad.yaml"))
    assert may_spawn(store, pad, "other", 1, owner="firework 7")
    assert may_spawn(store, pad, "other", 1, owner="firework 7")
    assert not may_spawn(store, pad, "other", 1, owner="firework 8")
    store.database["claims"].update_one(
        {"_id": "other/001/spawn"}, {"$set": {"since": datetime(2026, 1, 1, tzinfo=UTC)}}
    )
    assert may_spawn(store, pad, "other", 1, owner="firework 8"), "an owner that never spawned is not waited for"
    assert not may_spawn(store, pad, "cu_au", 1, owner=store.get("claims", "cu_au/001/spawn")["owner"])
    pad.connection.close()


def test_kmde_run_gives_the_same_picks_and_continues_or_says_finished(by_hand, kmde, launchpad_file, store, tmp_path):
    write_campaign(tmp_path / "c")
    words = ("kmde", "run", tmp_path / "c" / "campaign.yaml", "-l", launchpad_file, "--workers", "2")
    first = call(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "cycle 2 closed" in first.stdout
    assert "look next" in first.stdout
    assert picks(store) == picks(by_hand[1])
    assert len(picks(store)) == 2
    fireworks = store.database["fireworks"]
    assert fireworks.distinct("state") == ["COMPLETED"], "workers end by themselves, after their last firework"
    n_fireworks = fireworks.count_documents({})
    # as a signal leaves it that comes between the campaign's last word and FireWorks'
    last = fireworks.find_one({"name": "cu_au 000 Finish"})["fw_id"]
    fireworks.update_one({"fw_id": last}, {"$set": {"state": "FIZZLED"}})
    again = call(*words, cwd=tmp_path)
    assert again.returncode == 0
    assert "is finished" in again.stdout
    assert fireworks.count_documents({}) == n_fireworks
    assert fireworks.distinct("state") == ["COMPLETED"]

    # the same labels are there: another campaign on them computes nothing anew
    labels = store.count("labels")
    launch(write_campaign(tmp_path / "d", name="cu_au_again"), launchpad_file)
    assert picks(store, "cu_au_again") == picks(store)
    assert store.count("labels") == labels
    again = store.get("evaluations", "cu_au_again/001")
    assert again["reused"] == again["models"] == store.get("evaluations", "cu_au/001")["models"]

    rows = json.loads(kmde("status", "-l", launchpad_file, "--json")[1])
    assert [row["campaign"] for row in rows] == ["cu_au", "cu_au_again"]
    assert rows[0]["last"]["n_surrogates"] == 2
    one = json.loads(kmde("status", "cu_au", "-l", launchpad_file, "--json")[1])
    evaluation = store.get("evaluations", "cu_au/002")
    assert one["cycles"][2]["energy_rmse"] == evaluation["metrics"]["target"]["energy_rmse"]["mean"]
    assert "budget" in one["reason"]

    taken = write_campaign(tmp_path / "e", design={"candidates": 300})
    code, _, err = kmde("submit", taken, "-l", launchpad_file)
    assert code == 1
    assert "is taken" in err
