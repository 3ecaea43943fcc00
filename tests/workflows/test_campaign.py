"""A campaign through real processes against the real server: lpad and two rlaunch at once, and the same by kmde run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kmde_fw.cli.work import launch_all
from kmde_fw.firetasks.base import CampaignView
from kmde_fw.firetasks.select import outlier_atoms
from kmde_fw.hdnnp.model_file import from_bytes
from kmde_fw.store import COLLECTIONS, Store, read_launchpad
from kmde_fw.workflows.cycle import may_spawn
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
from kmde_fw.workflows.prepare import prepare
from kmde_fw.workflows.start import submit, workflow_yaml

CU_AU = Path(__file__).parent.parent.parent / "fw_specs" / "cu_au"
BIN = Path(sys.executable).parent


def write_campaign(folder: Path, **changes: Any) -> Path:
    """A copy of the Cu-Au campaign, smaller, with changes laid over its sections."""
    shutil.copytree(CU_AU, folder, dirs_exist_ok=True)
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    data["training"] = {"max_closures": 30, "seeds": [0, 1]}
    data["network"] = {"hidden": [8]}
    data["design"].update(candidates=400, picks_per_cycle=1)
    data["stop"]["max_surrogates"] = 2
    data["evaluate"] = {"again": ["target.extxyz"]}
    data["dopant"] = "Cu"
    for key, value in changes.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) and isinstance(data.get(key), dict) else value
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of this environment."""
    command = [str(BIN / str(words[0])), *map(str, words[1:])]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=240, env={**os.environ, "NO_COLOR": "1"}
    )


def picks(store: Store, name: str = "cu_au") -> list[str]:
    """Structure ids of the picks, cycle by cycle."""
    return [
        c["structure_id"] for s in store.find("selections", {"campaign": name}) for slot in s["slots"] for c in slot[:1]
    ]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory, client, mongo_uri):
    """The campaign run by `lpad add` and two `rlaunch rapidfire` at once; the folder and its store."""
    folder = tmp_path_factory.mktemp("by_hand")
    launchpad = folder / "launchpad.yaml"
    launchpad.write_text(yaml.safe_dump({"host": mongo_uri, "name": "kmde_test_by_hand", "uri_mode": True}))
    client.drop_database("kmde_test_by_hand")
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
    yield folder, Store(client["kmde_test_by_hand"])
    client.drop_database("kmde_test_by_hand")


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
    assert pick["reason"].endswith("% nearer")
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
        assert cycles[k]["remaining"]["vicinity"][0] == slot[0]["promise"]["vicinity"][1]
        for measure in ("zero", "open", "vicinity"):
            assert cycles[k]["realised"][measure] == [opinions[k - 1][measure], opinions[k][measure]]
            assert slot[0]["promise"][measure][0] == pytest.approx(opinions[k - 1][measure])
        # the pick was labelled: the train set is nearer to the target's vicinity, by what was promised
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


def test_the_score_of_key_motif_is_made_of_its_terms(launchpad_file, store, tmp_path):
    ended = run_campaign(
        tmp_path, launchpad_file, "by_motifs", stop={"max_surrogates": 1}, design={"strategy": "key_motif"}
    )
    assert ended.returncode == 0, ended.stderr
    (slot,) = store.get("selections", "by_motifs/001")["slots"]
    pick = slot[0]
    assert pick["score"] == pytest.approx(pick["motif_score"] - pick["distance_penalty"] - pick["energy_penalty"])
    assert "promise" not in pick
    last = store.cycles("by_motifs")[-1]
    assert last["promised"] == []
    assert last["realised"]["vicinity"][1] < last["realised"]["vicinity"][0], "measured whatever the strategy"


def test_the_last_model_comes_out_as_a_file(by_hand):
    from kmde_fw.hdnnp import HdnnpCalculator
    from kmde_fw.inputs import read_structures

    folder, store = by_hand
    exported = call("kmde", "export", "cu_au", "-o", "model.safetensors", "-l", folder / "launchpad.yaml", cwd=folder)
    assert exported.returncode == 0, exported.stderr
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


def test_kmde_run_gives_the_same_picks_and_continues_or_says_finished(by_hand, launchpad_file, store, tmp_path):
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
    write_campaign(tmp_path / "d", name="cu_au_again")
    third = call("kmde", "run", tmp_path / "d" / "campaign.yaml", "-l", launchpad_file, cwd=tmp_path)
    assert third.returncode == 0, third.stderr
    assert picks(store, "cu_au_again") == picks(store)
    assert store.count("labels") == labels
    again = store.get("evaluations", "cu_au_again/001")
    assert again["reused"] == again["models"] == store.get("evaluations", "cu_au/001")["models"]

    status = call("kmde", "status", "-l", launchpad_file, "--json", cwd=tmp_path)
    rows = json.loads(status.stdout)
    assert [row["campaign"] for row in rows] == ["cu_au", "cu_au_again"]
    assert rows[0]["last"]["n_surrogates"] == 2
    one = json.loads(call("kmde", "status", "cu_au", "-l", launchpad_file, "--json", cwd=tmp_path).stdout)
    evaluation = store.get("evaluations", "cu_au/002")
    assert one["cycles"][2]["energy_rmse"] == evaluation["metrics"]["target"]["energy_rmse"]["mean"]
    assert "budget" in one["reason"]

    taken = write_campaign(tmp_path / "e", design={"candidates": 300})
    refused = call("kmde", "submit", taken, "-l", launchpad_file, cwd=tmp_path)
    assert refused.returncode == 1
    assert "is taken" in refused.stderr


def run_campaign(folder: Path, launchpad: Path, name: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """A one-pick campaign from start to end."""
    file = write_campaign(folder / name, name=name, training={"seeds": [0], "max_closures": 3}, **changes)
    return call("kmde", "run", file, "-l", launchpad, cwd=folder)


def test_a_narrow_domain_refuses_labels_also_those_that_another_campaign_has(launchpad_file, store, tmp_path):
    """The next-best candidate takes a refused one's place; when none is left the campaign says so and ends."""
    narrow = {"reference": {"domain": {"min_bond": 0.8, "scale": [1.18, 1.19]}}, "stop": {"max_surrogates": 1}}
    wide = run_campaign(tmp_path, launchpad_file, "wide", stop={"max_surrogates": 1})
    assert wide.returncode == 0, wide.stderr
    assert store.cycles("wide")[-1]["n_surrogates"] == 1
    accepted = store.count("labels", {"state": "accepted"})
    ended = run_campaign(tmp_path, launchpad_file, "narrow", **narrow)
    assert ended.returncode == 0, ended.stderr
    assert "refused label, cycle 3: scale:" in ended.stdout
    assert "all 12 labels of the last 3 cycles failed" in ended.stdout
    outcome = store.outcomes("narrow", 1)[0]
    assert outcome["label_id"] is None
    selection = store.selection("narrow", 1)
    assert [r["structure_id"] for r in outcome["refused"]] == [c["structure_id"] for c in selection["slots"][0]]
    assert len(outcome["refused"]) == 4, "the pick and its three reserves"
    assert store.count("labels", {"state": "accepted"}) == accepted
    assert all(cycle["n_surrogates"] == 0 for cycle in store.cycles("narrow"))
    assert store.campaign("narrow")["state"] == "finished"
    # the first pick was labelled by the other campaign, and is refused here all the same
    assert picks(store, "narrow")[0] == picks(store, "wide")[0]


def test_a_random_campaign_runs(launchpad_file, store, tmp_path):
    ended = run_campaign(
        tmp_path, launchpad_file, "dice", stop={"max_surrogates": 1}, design={"strategy": "random", "candidates": 100}
    )
    assert ended.returncode == 0, ended.stderr
    assert store.cycles("dice")[-1]["n_surrogates"] == 1
    assert store.motifs("dice", 0) == []


def test_when_a_campaign_without_outliers_ends_and_what_its_labels_may_cost(launchpad_file, store, tmp_path):
    """The target is a perfect crystal, a parent of the candidates: one label, and no atom is an outlier any more."""
    pad = open_launchpad(read_launchpad(launchpad_file))

    def run(name, **stop):
        file = write_campaign(
            tmp_path / name,
            name=name,
            training={"seeds": [0], "max_closures": 3},
            target=["cuau.cif"],
            evaluate={},
            design={"candidates": 100, "prototypes": [], "max_strain": 0, "max_displacement": 0},
            stop={"max_surrogates": 2, **stop},
        )
        submit(pad, prepare(file))
        launch_all(pad, [name], tmp_path)
        return store.cycles(name)

    content = run("content", vicinity_gain=0.9, energy_change=None, force_change=None)
    patient = run("patient", vicinity_gain=0.0, energy_change=1e-9, force_change=1e-9)
    thrifty = run("thrifty", vicinity_gain=0.0, max_cost=1.0001 * content[1]["cost"])
    pad.connection.close()
    assert content[1]["opinion"] == patient[1]["opinion"]
    assert patient[0]["n_outliers"] > 0
    assert patient[1]["n_outliers"] == 0
    before, after = patient[1]["remaining"]["vicinity"]
    assert 0 < 1 - after / before < 0.9
    assert before == pytest.approx(patient[1]["opinion"]["vicinity"], rel=1e-6)
    assert [cycle["n_surrogates"] for cycle in content] == [0, 1]
    assert content[1]["reason"].startswith("no target atom is an outlier any more")
    nearer = f"the best remaining candidate would bring the target's vicinity {100 * (1 - after / before):.1f} % nearer"
    assert content[1]["reason"].endswith(nearer)
    assert [cycle["n_surrogates"] for cycle in patient] == [0, 1, 2]
    assert patient[1]["reason"].endswith(nearer)

    # what is predicted for the target moved, from one cycle's model to the next one's
    assert "the energies predicted for the target still moved by" in patient[1]["reason"]
    assert "the forces predicted for the target still moved by" not in patient[1]["reason"], "they are 0 by symmetry"
    energies, models = [], []
    for cycle in patient[:2]:
        evaluation = store.get("evaluations", cycle["_id"])
        energies.append(evaluation["rows"][0]["target_energies"])
        models.append(from_bytes(store.get_blob(store.get("models", evaluation["models"][0])["weights"]["sha256"])))
    (target,) = store.get_structures(store.campaign("patient")["target_structures"])
    assert patient[0]["changes"] is None
    assert patient[1]["changes"]["energy"] == pytest.approx(1000 * abs(energies[1][0] - energies[0][0]) / len(target))
    forces = [model.predict(target).forces for model in models]
    change = np.sqrt(np.mean((forces[1] - forces[0]) ** 2))
    assert patient[1]["changes"]["forces"] == pytest.approx(change, abs=1e-12)

    # one label can be paid, no second one
    assert [cycle["n_surrogates"] for cycle in thrifty] == [0, 1, 1]
    assert 0 < thrifty[1]["spent"] == thrifty[1]["cost"] == content[1]["cost"]
    assert "no candidate could be picked in cycle 2 (0 of 1 picks" in thrifty[2]["reason"]
    assert "that cost more than max_cost leaves" in thrifty[2]["reason"]
    assert store.campaign("thrifty")["reason"] == thrifty[2]["reason"]


def test_workers_end_with_kmde_run_and_the_next_run_goes_on(launchpad_file, store, tmp_path):
    file = write_campaign(tmp_path / "c", training={"seeds": [0], "max_closures": 20_000, "patience": 20_000})
    words = [str(BIN / "kmde"), "run", str(file), "-l", str(launchpad_file), "--directory", str(tmp_path / "run")]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any("Train" in step["message"] for step in store.progress("cu_au")))
    process.terminate()
    assert process.wait(timeout=40) == 128 + signal.SIGTERM
    wait_for(lambda: not workers_of(tmp_path / "run"))
    assert store.database["fireworks"].count_documents({"state": "RUNNING"}) == 0
    status = json.loads(call("kmde", "status", "cu_au", "-l", launchpad_file, "--json", cwd=tmp_path).stdout)
    assert {f["reason"] for f in status["fizzled"]} == {"SystemExit: interrupted: stopped by signal 15 (SIGTERM)"}

    # kill -9 leaves nobody to tell the workers, and a killed worker leaves its firework RUNNING
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any("Train" in step["message"] for step in store.progress("cu_au")))
    process.kill()
    process.wait()
    wait_for(lambda: not workers_of(tmp_path / "run"))


def test_what_a_worker_killed_in_the_act_leaves_is_cleared_away(launchpad_file, store, tmp_path):
    """FireWorks had written the next cycle's fireworks, and neither their workflow nor the end of Advance."""
    file = write_campaign(tmp_path / "c", training={"seeds": [0], "max_closures": 3}, stop={"max_surrogates": 1})
    words = ("kmde", "run", file, "-l", launchpad_file, "--directory", tmp_path / "run")
    assert call(*words, cwd=tmp_path).returncode == 0
    fireworks, workflows, launches = (store.database[name] for name in ("fireworks", "workflows", "launches"))
    late = {fw["fw_id"] for fw in fireworks.find({"spec.kmde.cycle": 1})}
    (workflow,) = workflows.find()
    links = {
        key: [c for c in value if c not in late] for key, value in workflow["links"].items() if int(key) not in late
    }
    advance = fireworks.find_one({"spec.kmde.cycle": 0, "spec.kmde.step": "Advance"})
    finish = fireworks.find_one({"spec.kmde.step": "Finish"})
    links[str(advance["fw_id"])] = [finish["fw_id"]]
    parents = {
        key: [c for c in value if c not in late]
        for key, value in workflow["parent_links"].items()
        if int(key) not in late
    }
    parents[str(finish["fw_id"])] = [advance["fw_id"]]
    nodes = [n for n in workflow["nodes"] if n not in late]
    states = {key: value for key, value in workflow["fw_states"].items() if int(key) not in late}
    states.update({str(advance["fw_id"]): "RUNNING", str(finish["fw_id"]): "WAITING"})
    changed = {"links": links, "parent_links": parents, "nodes": nodes, "fw_states": states, "state": "RUNNING"}
    workflows.update_one({"_id": workflow["_id"]}, {"$set": {**changed, "locked": True}})
    fireworks.update_many({"fw_id": {"$in": list(late)}}, {"$set": {"state": "READY"}})
    fireworks.update_one({"_id": finish["_id"]}, {"$set": {"state": "WAITING", "launches": []}})
    fireworks.update_one({"_id": advance["_id"]}, {"$set": {"state": "RUNNING"}})
    # a process number that no process has any more
    worker = f"kmde {socket.gethostname()} {2**22 + 1}"
    launches.update_many(
        {"launch_id": {"$in": advance["launches"]}}, {"$set": {"state": "RUNNING", "fworker.name": worker}}
    )
    store.set_campaign_state("cu_au", "running", "")

    again = call(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "ready again: cu_au 000 Advance" in again.stdout
    assert store.campaign("cu_au")["state"] == "finished"
    assert {fw["state"] for fw in fireworks.find()} == {"COMPLETED"}
    assert not late & {fw["fw_id"] for fw in fireworks.find()}, "the orphans are gone, others have taken their place"


def test_children_that_were_never_told_of_their_parent_go_on(launchpad_file, store, tmp_path):
    """Evaluate was written as done, and its worker killed before its workflow and Advance heard of it."""
    file = write_campaign(tmp_path / "c", training={"seeds": [0], "max_closures": 3}, stop={"max_surrogates": 0})
    words = ("kmde", "run", file, "-l", launchpad_file, "--directory", tmp_path / "run")
    assert call(*words, cwd=tmp_path).returncode == 0
    fireworks, workflows = store.database["fireworks"], store.database["workflows"]
    steps = {fw["spec"]["kmde"]["step"]: fw["fw_id"] for fw in fireworks.find()}
    states = {f"fw_states.{steps['Evaluate']}": "RUNNING"}
    states |= {f"fw_states.{steps[step]}": "WAITING" for step in ("Advance", "Finish")}
    workflows.update_one({"nodes": steps["Evaluate"]}, {"$set": {**states, "state": "RUNNING"}})
    waiting = [steps["Advance"], steps["Finish"]]
    fireworks.update_many({"fw_id": {"$in": waiting}}, {"$set": {"state": "WAITING", "launches": []}})
    store.set_campaign_state("cu_au", "running", "")

    again = call(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert store.campaign("cu_au")["state"] == "finished"
    assert {fw["state"] for fw in fireworks.find()} == {"COMPLETED"}


def workers_of(directory: Path) -> list[str]:
    """Command lines of the workers that launch in a directory."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if f"--directory {directory}" in line and " work " in line]


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
