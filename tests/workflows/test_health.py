"""kmde doctor on a database: each finding, the command it names, and what --fix mends. Real fireworks, a fake queue."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fireworks import FWAction, FWorker, LaunchPad, fw_config
from typer.testing import CliRunner

from kmde_fw.cli import build_app
from kmde_fw.records import content_hash
from kmde_fw.store import Store
from kmde_fw.workflows.health import CHECKS
from kmde_fw.workflows.launchpad import open_launchpad
from kmde_fw.workflows.lost import MARK
from kmde_fw.workflows.prepare import Prepared, prepare
from kmde_fw.workflows.rockets import worker_for
from kmde_fw.workflows.start import submit

CU_AU = Path(__file__).parents[2] / "fw_specs" / "cu_au"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """The campaign cu_au, read once."""
    return prepare(CU_AU / "campaign.yaml")


@pytest.fixture
def pad(launchpad_file: Path, connection, prepared, tmp_path: Path, monkeypatch) -> Iterator[LaunchPad]:
    """A LaunchPad with the campaign cu_au just submitted; worker files of both categories beside its file; no queue."""
    pad = open_launchpad(connection)
    submit(pad, prepared)
    for category in ("kmde_cpu", "kmde_train"):
        (tmp_path / category).mkdir()
        worker = {"name": f"my {category}", "category": category, "query": "{}"}
        (tmp_path / category / "my_fworker.yaml").write_text(yaml.safe_dump(worker))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    yield pad
    pad.connection.close()


@pytest.fixture
def doctor(launchpad_file: Path):
    """doctor(*words): exit code and findings by check, of those that are not ok."""

    def call(*words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        ended = CliRunner().invoke(build_app(), ["doctor", "-l", str(launchpad_file), "--json", *words])
        assert ended.stdout, ended.exception
        findings = json.loads(ended.stdout)
        assert {f["check"] for f in findings} >= set(CHECKS), "each check says something"
        found: dict[str, list[dict[str, Any]]] = {}
        for finding in findings:
            if finding["state"] != "ok":
                found.setdefault(finding["check"], []).append(finding)
        return ended.exit_code, found

    return call


def firework(pad: LaunchPad, step: str = "Analyse") -> int:
    return int(pad.fireworks.find_one({"spec.kmde.step": step})["fw_id"])


def state(pad: LaunchPad, fw_id: int) -> str:
    return str(pad.fireworks.find_one({"fw_id": fw_id}, {"state": 1})["state"])


def take(pad: LaunchPad, fw_id: int, **worker: Any) -> int:
    """The firework as a rocket on another host has it. Returns the launch."""
    mark = {"host": "node17", "pid": 1, "started": 0.0, **worker}
    return int(pad.checkout_fw(FWorker(env={MARK: mark}), "/tmp", fw_id=fw_id)[1])


def test_all_is_well_with_a_campaign_just_submitted(pad, doctor, launchpad_file):
    assert doctor() == (0, {})
    assert doctor("--fix") == (0, {})
    ended = CliRunner().invoke(build_app(), ["doctor", "-l", str(launchpad_file)])
    assert ended.stdout.rstrip().endswith("all is well")
    assert "kmde_train: my kmde_train" in ended.stdout


def test_a_newer_campaign_is_named_before_anything_is_fizzled(pad, doctor):
    pad.db["campaigns"].update_one({"_id": "cu_au"}, {"$set": {"code_version": "99.0.0"}})
    code, found = doctor()
    assert code == 1
    (finding,) = found["version"]
    assert "campaign cu_au was submitted by kmde_fw 99.0.0, this is the older" in finding["text"]
    assert finding["mend"] == "pip install --upgrade kmde_fw"
    # of the same number, and yet another
    changes = {"code_version": "0.0.1", "config.design.dreams": 3}
    pad.db["campaigns"].update_one({"_id": "cu_au"}, {"$set": changes})
    code, found = doctor()
    assert code == 1
    assert "unknown key 'design.dreams'" in found["version"][0]["text"]
    assert "it was submitted by a kmde_fw that knows more than this one" in found["version"][0]["text"]
    pad.db["campaigns"].update_one({"_id": "cu_au"}, {"$unset": {"config.design.dreams": 1}})
    code, found = doctor()
    assert (code, found["version"][0]["state"]) == (0, "note")


def test_a_database_that_does_not_answer(tmp_path, free_port):
    path = tmp_path / "down.yaml"
    path.write_text(yaml.safe_dump({"host": f"mongodb://127.0.0.1:{free_port()}/", "name": "x", "uri_mode": True}))
    ended = CliRunner().invoke(build_app(), ["doctor", "-l", str(path), "--json"])
    assert ended.exit_code == 1
    (finding,) = json.loads(ended.stdout)
    assert (finding["check"], finding["state"], finding["mend"]) == ("database", "problem", "kmde db start")
    assert "no database server answers" in finding["text"]


@pytest.mark.parametrize(("version", "mend"), [(99, "pip install --upgrade kmde_fw"), (1, "kmde db migrate")])
def test_a_database_of_another_schema(pad, launchpad_file, version, mend):
    pad.db["kmde_meta"].update_one({"_id": "schema"}, {"$set": {"version": version}})
    ended = CliRunner().invoke(build_app(), ["doctor", "-l", str(launchpad_file), "--json"])
    assert ended.exit_code == 1
    (finding,) = json.loads(ended.stdout)
    assert (finding["check"], finding["mend"]) == ("database", mend)
    assert f"has schema version {version}" in finding["text"]


def test_the_config_beside_the_launchpad_file_counts(pad, launchpad_file, tmp_path):
    """In a process of its own: FireWorks reads it once."""
    launchpad_file.with_name("FW_config.yaml").write_text("PING_TIME_SECS: 600\nRUN_EXPIRATION_SECS: 900\n")
    (tmp_path / "elsewhere").mkdir()
    words = [sys.executable, "-m", "kmde_fw", "doctor", "-l", str(launchpad_file), "--json"]
    environment = {key: value for key, value in os.environ.items() if key != "FW_CONFIG_FILE"}
    done = subprocess.run(
        words, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, timeout=60
    )
    (finding,) = [f for f in json.loads(done.stdout) if f["check"] == "FW_config"]
    assert "RUN_EXPIRATION_SECS (900) is less than twice PING_TIME_SECS (600)" in finding["text"]


def test_expiry_below_the_ping_ends_live_runs(pad, doctor, monkeypatch):
    monkeypatch.setattr(fw_config, "RUN_EXPIRATION_SECS", 3600)
    (finding,) = doctor()[1]["FW_config"]
    assert "would end live runs" in finding["text"]
    assert "FW_config.yaml" in finding["mend"]


def test_missing_indexes_are_made(pad, doctor):
    pad.db["cycles"].drop_index("campaign_1_cycle_1")
    pad.fireworks.drop_index("fw_id_1")
    code, found = doctor()
    (finding,) = found["indexes"]
    assert finding["text"] == "missing on cycles (campaign, cycle), fireworks (fw_id)"
    assert (code, finding["safe"]) == (1, True)
    code, found = doctor("--fix")
    assert (code, found["indexes"][0]["mended"]) == (0, "indexes made")
    assert doctor() == (0, {})


def test_a_category_without_a_worker_and_its_ready_fireworks(pad, doctor, tmp_path):
    shutil.rmtree(tmp_path / "kmde_train")
    code, found = doctor()
    assert code == 1
    (finding,) = found["categories"]
    assert finding["text"].startswith("kmde_train: no worker takes its")
    assert "category: kmde_train" in finding["mend"]
    train = {fw["fw_id"] for fw in pad.fireworks.find({"spec._category": "kmde_train"})}
    assert {int(f["text"].split()[1]) for f in found["ready"]} == train
    # a launch of the last day says that there is such a worker
    pad.reserve_fw(FWorker("elsewhere", "kmde_train"), "/tmp")
    assert "categories" not in doctor()[1]


def test_a_run_at_work_takes_all_steps_of_its_campaign_and_no_others(pad, doctor, tmp_path):
    for category in ("kmde_cpu", "kmde_train"):
        shutil.rmtree(tmp_path / category)
    assert {finding["text"].split(":")[0] for finding in doctor()[1]["categories"]} == {"kmde_cpu", "kmde_train"}
    _, launch_id = pad.checkout_fw(worker_for("cu_au"), "/tmp")
    found = doctor()[1]
    assert "categories" not in found
    assert "ready" not in found
    # it ended, or is another campaign's
    of_other = {"fworker.query": json.dumps({"spec.kmde.campaign": "other"})}
    for changes in ({"state": "COMPLETED", "state_history": [{"created_on": datetime(2020, 1, 1)}]}, of_other):
        kept = pad.launches.find_one({"launch_id": launch_id})
        pad.launches.update_one({"launch_id": launch_id}, {"$set": changes})
        assert "categories" in doctor()[1]
        pad.launches.replace_one({"launch_id": launch_id}, kept)


def test_a_firework_that_asks_for_one_worker_only(pad, doctor):
    fw_id = firework(pad)
    pad.fireworks.update_one({"fw_id": fw_id}, {"$set": {"spec._fworker": "gone"}})
    (finding,) = doctor()[1]["ready"]
    assert f"firework {fw_id} (cu_au 000 Analyse) asks for _category 'kmde_cpu' and _fworker 'gone'" in finding["text"]
    assert finding["mend"].endswith(f"--fw_id {fw_id}")


def test_ready_for_long_although_there_is_a_worker_file(pad, doctor, monkeypatch):
    monkeypatch.setattr("kmde_fw.workflows.health.WAITS", -1.0)
    code, found = doctor()
    assert code == 0
    assert "have been READY for more than an hour" in found["ready"][0]["text"]


def queue(folder: Path, listing: str) -> None:
    for name, text in (("squeue", f"echo '{listing}'"), ("scontrol", "echo 'ClusterName = here'")):
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)


def test_lost_runs_and_reservations_without_a_job(pad, doctor, tmp_path):
    lost, reserved = firework(pad), firework(pad, "Train")
    take(pad, lost, queue="slurm", job="12", cluster="here")
    _, launch_id = pad.reserve_fw(FWorker(), "/tmp", fw_id=reserved)
    pad.set_reservation_id(launch_id, "13")
    queue(tmp_path, "12 RUNNING\n13 PENDING")
    assert doctor() == (0, {})
    queue(tmp_path, "14 RUNNING")
    code, found = doctor()
    assert code == 1
    assert "slurm job 12 is not in the queue any more" in found["lost runs"][0]["text"]
    assert "slurm job 13 is not in the queue any more" in found["reservations"][0]["text"]
    assert found["lost runs"][0]["mend"].startswith("kmde reconcile -l ")
    code, found = doctor("--fix")
    assert code == 0
    assert found["lost runs"][0]["mended"] == f"firework {lost} is READY"
    assert state(pad, lost) == state(pad, reserved) == "READY"
    assert doctor() == (0, {})


def test_a_queue_that_does_not_answer_is_said_and_nothing_is_released(pad, doctor, tmp_path):
    lost = firework(pad)
    take(pad, lost, queue="slurm", job="12", cluster="here")
    queue(tmp_path, "")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    code, found = doctor("--fix")
    assert (code, state(pad, lost)) == (1, "RUNNING")
    assert "the queue does not answer" in found["lost runs"][0]["text"]


def test_a_run_that_nobody_hears_of(pad, doctor, monkeypatch):
    take(pad, firework(pad))
    monkeypatch.setattr(fw_config, "PING_TIME_SECS", -2)
    monkeypatch.setattr(fw_config, "RUN_EXPIRATION_SECS", -1)
    (finding,) = doctor()[1]["lost runs"]
    assert "nothing heard from" in finding["text"]
    assert "detect_lostruns --time -1 --rerun" in finding["mend"]
    assert finding["safe"] is False, "its clock may be wrong, or its network down"


@pytest.mark.parametrize(("trace", "safe"), [
    ("ValueError: two and two is five", False),
    ("interrupted: its rocket died of signal 9 (SIGKILL)", True),
    ("SystemExit: interrupted: stopped by signal 15 (SIGTERM)", True),
    ("kmde_fw.errors.StoreError: the database server at db:27017 does not answer any more: is it running?", True),
    ("pymongo.errors.AutoReconnect: db:27017: connection closed", True),
])  # fmt: skip
def test_what_fizzled_is_named_and_rerun_where_it_was_not_its_own_fault(pad, doctor, trace, safe):
    fw_id = firework(pad)
    action = FWAction(stored_data={"_exception": {"_stacktrace": f"Traceback\n{trace}", "_details": None}}, exit=True)
    pad.complete_launch(take(pad, fw_id), action, "FIZZLED")
    code, found = doctor()
    (finding,) = found["fizzled"]
    assert finding["text"] == f"firework {fw_id} (cu_au 000 Analyse): {trace}"
    assert finding["mend"].endswith(f"rerun_fws -i {fw_id}")
    assert (code, finding["safe"]) == (1, safe)
    assert doctor("--fix")[0] == (0 if safe else 1)
    assert state(pad, fw_id) == ("READY" if safe else "FIZZLED")


def test_half_written_workflows_are_tidied(pad, doctor, monkeypatch):
    monkeypatch.setattr("kmde_fw.workflows.rockets.LOCK_SECONDS", 0.0)
    pad.workflows.update_one({}, {"$set": {"locked": True}})
    spec = {"kmde": {"campaign": "cu_au"}, "_category": "kmde_cpu", "_tasks": []}
    orphan = {"fw_id": 99, "name": "orphan", "state": "WAITING", "launches": [], "archived_launches": [], "spec": spec}
    pad.fireworks.insert_one(orphan)
    analyse = firework(pad)
    pad.fireworks.update_one({"fw_id": analyse}, {"$set": {"state": "WAITING"}})
    code, found = doctor()
    assert code == 1
    assert [f["text"].removeprefix("campaign cu_au: ") for f in found["workflows"]] == [
        "its workflow is locked, and nobody is there to unlock it",
        "1 fireworks belong to no workflow",
        f"firework {analyse} waits although all that it waits for is done",
    ]
    assert doctor("--fix")[0] == 0
    assert doctor() == (0, {})
    assert state(pad, analyse) == "READY"


def test_run_directories_without_documents_and_documents_without_directories(pad, doctor, tmp_path):
    store = Store(pad.db)
    scratch = tmp_path / "scratch"
    reference = {"engine": "vasp", "scratch": ">>scratch<<"}
    pad.db["campaigns"].update_one({"_id": "cu_au"}, {"$set": {"config.reference": reference}})
    worker = {"name": "dft", "category": "kmde_dft", "query": "{}", "env": {"scratch": str(scratch)}}
    (tmp_path / "kmde_dft").mkdir()
    (tmp_path / "kmde_dft" / "my_fworker.yaml").write_text(yaml.safe_dump(worker))
    mark = content_hash([store.address, store.name])[:8]
    killed, empty = scratch / f"cu_au-001-000-000-{mark}.run-a", scratch / f"cu_au-001-001-000-{mark}.run-b"
    other = scratch / "cu_au-001-000-000-00000000.run-c"
    for directory in (killed, empty, other):
        directory.mkdir(parents=True)
    for directory in (killed, other):
        (directory / "POTCAR").write_text("secret")
    label = {"_id": "a" * 64, "short": "aaaaaa", "run_directory": "/nowhere/run-x", "host": fireworks_host()}
    pad.db["labels"].insert_one(label)
    code, found = doctor()
    assert code == 1
    texts = {f["text"]: f for f in found["run directories"]}
    assert [text.split(",")[0] for text in texts] == [
        "label aaaaaaaaaaaa says /nowhere/run-x",
        f"{killed}: a killed run left its POTCAR",
        f"{empty}: of a run without a label",
    ]
    assert texts[f"{empty}: of a run without a label"]["mend"] == f"rm -r {empty}"
    code, found = doctor("--fix")
    assert code == 0
    assert not (killed / "POTCAR").exists()
    assert (other / "POTCAR").exists(), "of another database"
    assert killed.is_dir()


def test_a_worker_file_that_rlaunch_cannot_read(pad, launchpad_file, tmp_path):
    (tmp_path / "kmde_cpu" / "my_fworker.yaml").write_text("{name: x, category: kmde_cpu, query: {}}")
    ended = CliRunner().invoke(build_app(), ["doctor", "-l", str(launchpad_file), "--json"])
    assert "worker file" in [f["check"] for f in json.loads(ended.stdout) if f["state"] == "problem"]


def fireworks_host() -> str:
    from fireworks.utilities.fw_utilities import get_my_host

    return str(get_my_host())
