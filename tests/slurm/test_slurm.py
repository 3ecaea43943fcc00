"""Rockets through a real SLURM: qlaunch, scancel, wall time, kill -9 of a whole job, and a campaign."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from fireworks import LaunchPad

import sleepers
from kmde_fw.cluster import CATEGORIES, Site, write_cluster_files
from kmde_fw.store import Store
from kmde_fw.workflows import lost
from kmde_fw.workflows.launchpad import open_launchpad
from kmde_fw.workflows.lost import find_lost
from kmde_fw.workflows.queues import queue_here
from sleepers import add_sleeper, state
from waiting import until

KMDE = [sys.executable, "-m", "kmde_fw"]
PARTITIONS = {"kmde_cpu": "cpu", "kmde_train": "train", "kmde_dft": "dft"}
CU_AU = Path(__file__).parents[2] / "fw_specs" / "cu_au"
in_full = pytest.mark.skipif("KMDE_SLURM_FULL" not in os.environ, reason="minutes long: `make test-slurm` runs it")


@pytest.fixture
def pad(launchpad_file: Path, connection, monkeypatch) -> Iterator[LaunchPad]:
    """The LaunchPad of `launchpad_file`; jobs find the steps of `sleepers`."""
    folder = str(Path(sleepers.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
    pad = open_launchpad(connection)
    Store(pad.db)
    yield pad
    pad.connection.close()


@pytest.fixture
def site(slurm, launchpad_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """site(**adapter): folder of what `kmde init --cluster slurm` writes, for a small node and a test database."""

    def write(**adapter: Any) -> Path:
        folder = tmp_path / "site"
        write_cluster_files("slurm", Site(folder, kmde=" ".join(KMDE), partitions=PARTITIONS))
        (folder / "my_launchpad.yaml").write_text(launchpad_file.read_text())
        config = folder / "FW_config.yaml"
        config.write_text(config.read_text().replace("SECS: 30", "SECS: 1") + "QUEUE_UPDATE_INTERVAL: 1\n")
        for category in CATEGORIES:
            path = folder / category / "my_qadapter.yaml"
            data = yaml.safe_load(path.read_text()) | {"ntasks": 1, "cpus_per_task": 1, "gres": None}
            data["rocket_launch"] = data["rocket_launch"].replace("--wait 300", "--wait 1")
            path.write_text(yaml.safe_dump({**data, **adapter}))
        return folder

    return write


def qlaunch(folder: Path, category: str, *words: str) -> list[str]:
    here = folder / category
    files = ["-l", folder / "my_launchpad.yaml", "-w", here / "my_fworker.yaml", "-q", here / "my_qadapter.yaml"]
    return [*KMDE, "fw", "qlaunch", *map(str, files), *words]


def submitted(folder: Path, launch: Path, pad: LaunchPad, fw_id: int) -> str:
    """Reserve and submit the firework. Returns its job."""
    launch.mkdir(exist_ok=True)
    done = subprocess.run(
        qlaunch(folder, "kmde_dft", "-r", "singleshot"), cwd=launch, capture_output=True, text=True, check=False
    )
    job = pad.get_reservation_id_from_fw_id(fw_id)
    assert job, done.stdout + done.stderr
    return str(job)


def runs(launch: Path) -> list[int]:
    """Processes of the sleeping step: its rocket, and what that has started."""
    until((launch / "runs").exists)
    return [int(word) for word in (launch / "runs").read_text().split()]


def output(launch: Path) -> str:
    return "\n".join(path.read_text() for path in launch.glob("*.out"))


def test_a_cancelled_job_releases_its_firework_at_once(pad, slurm, site, tmp_path):
    fw_id = add_sleeper(pad, "sleep", "kmde_dft")
    job = submitted(site(), tmp_path / "a", pad, fw_id)
    processes = runs(tmp_path / "a")
    assert (state(pad, fw_id), slurm.state(job)) == ("RUNNING", "RUNNING")
    (launch,) = pad.launches.find({"fw_id": fw_id})
    worker = launch["fworker"]["env"]["kmde_launcher"]
    assert (worker["queue"], worker["job"], worker["cluster"]) == ("slurm", job, "testcluster")
    slurm.ask("scancel", job)
    until(lambda: state(pad, fw_id) == "READY", 30)
    until(lambda: not any(psutil.pid_exists(pid) for pid in processes), 30)
    until(lambda: "nap sleep: stopped by signal 15 (SIGTERM), now READY" in output(tmp_path / "a"), 30)


@in_full
def test_the_end_of_the_wall_time_is_announced_and_releases_the_firework(pad, slurm, site, tmp_path):
    fw_id = add_sleeper(pad, "sleep", "kmde_dft")
    # a minute is the least that SLURM knows; it may send the signal a minute early
    submitted(site(walltime="00:02:00", signal="B:USR1@60"), tmp_path / "a", pad, fw_id)
    runs(tmp_path / "a")
    until(lambda: state(pad, fw_id) == "READY")
    until(lambda: "nap sleep: stopped by signal 10 (SIGUSR1), now READY" in output(tmp_path / "a"), 30)


def test_a_job_killed_with_everything_in_it_is_found_by_reconcile(pad, slurm, site, tmp_path):
    fw_id = add_sleeper(pad, "sleep", "kmde_dft")
    folder = site()
    job = submitted(folder, tmp_path / "a", pad, fw_id)
    rocket, child = runs(tmp_path / "a")
    words = [*KMDE, "reconcile", "-l", str(folder / "my_launchpad.yaml"), "--json"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    supervisor = psutil.Process(rocket).ppid()
    for pid in (supervisor, rocket, child):
        os.kill(pid, signal.SIGKILL)
    until(lambda: slurm.state(job) == "")
    assert state(pad, fw_id) == "RUNNING"
    # as if it had run on another node: the queue alone must tell
    pad.launches.update_one({"fw_id": fw_id}, {"$set": {"fworker.env.kmde_launcher.host": "node17"}})
    (row,) = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert row["reason"] == f"slurm job {job} is not in the queue any more"
    assert (row["now"], state(pad, fw_id)) == ("READY", "READY")


def test_a_reservation_whose_job_was_cancelled_in_the_queue_is_released(pad, slurm, site, tmp_path):
    fw_id = add_sleeper(pad, "sleep", "kmde_dft")
    folder = site(queue="closed")
    job = submitted(folder, tmp_path / "a", pad, fw_id)
    words = [*KMDE, "reconcile", "-l", str(folder / "my_launchpad.yaml"), "--json"]
    assert slurm.state(job) == "PENDING"
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    slurm.ask("scancel", job)
    until(lambda: slurm.state(job) == "")
    assert state(pad, fw_id) == "RESERVED"
    subprocess.run(words, capture_output=True, check=True)
    assert state(pad, fw_id) == "READY"


@in_full
def test_a_campaign_on_three_partitions(pad, slurm, site, tmp_path):
    """Each category through its own queue; a training and a label are killed on the way."""
    folder = site()
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    data |= {"train": [str(CU_AU / "train.extxyz")], "target": [str(CU_AU / "target.extxyz")], "evaluate": {}}
    data |= {"parents": [], "network": {"hidden": [6]}, "training": {"seeds": [0], "max_closures": 10}}
    data["design"] |= {"candidates": 200, "shards": 1, "picks_per_cycle": 1}
    data["stop"] = {"max_surrogates": 1}
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump(data))
    launchpad = str(folder / "my_launchpad.yaml")
    subprocess.run([*KMDE, "submit", str(file), "-l", launchpad], check=True, stdout=subprocess.DEVNULL)
    name, store = data["name"], Store(pad.db)
    processes = []
    try:
        for category, words in (
            ("kmde_cpu", ["rapidfire", "-m", "1"]),
            ("kmde_train", ["-r", "rapidfire", "-m", "1"]),
            ("kmde_dft", ["-r", "rapidfire", "-m", "1"]),
        ):
            (tmp_path / category).mkdir()
            command = [*qlaunch(folder, category, *words), "--nlaunches", "infinite"]
            with (tmp_path / f"{category}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(command, cwd=tmp_path / category, stdout=log, stderr=subprocess.STDOUT)
                )
        cancelled: set[str] = set()
        end = time.monotonic() + 900
        while store.campaign(name)["state"] != "finished":
            assert time.monotonic() < end, "the campaign does not end"
            for step, partition in (("Train", "train"), ("Label", "dft")):
                running = pad.fireworks.find_one({"state": "RUNNING", "spec.kmde.step": step})
                jobs = slurm.ask("squeue", "-h", "-o", "%A", "-p", partition).split()
                if running and jobs and step not in cancelled:
                    slurm.ask("scancel", jobs[0])
                    cancelled.add(step)
            time.sleep(0.2)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
    assert cancelled, "at least the training was caught"
    assert store.cycles(name)[-1]["n_surrogates"] == 1
    until(lambda: {fw["state"] for fw in pad.fireworks.find()} == {"COMPLETED"}, 30)
    for firework in pad.fireworks.find():
        launch = pad.launches.find_one({"launch_id": firework["launches"][-1]})
        assert launch["fworker"]["category"] == firework["spec"]["_category"]
        assert launch["fworker"]["env"]["kmde_launcher"]["queue"] == "slurm"


@in_full
def test_all_jobs_cancelled_at_once(pad, slurm, site, tmp_path):
    """Two that run, one that waits: what ran is READY at once, what waited when reconcile has looked."""
    folder, fw_ids = site(), [add_sleeper(pad, "sleep", "kmde_dft") for _ in range(3)]
    launches = [tmp_path / name for name in "abc"]
    for k in (0, 1):
        submitted(folder, launches[k], pad, fw_ids[k])
        runs(launches[k])
    adapter = folder / "kmde_dft" / "my_qadapter.yaml"
    adapter.write_text(yaml.safe_dump(yaml.safe_load(adapter.read_text()) | {"queue": "closed"}))
    submitted(folder, launches[2], pad, fw_ids[2])
    slurm.ask("scancel", "--user=root")
    until(lambda: [state(pad, fw_id) for fw_id in fw_ids] == ["READY", "READY", "RESERVED"], 30)
    until(lambda: slurm.ask("squeue", "-h") == "", 30)
    words = [*KMDE, "reconcile", "-l", str(folder / "my_launchpad.yaml")]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=60)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert "is not in the queue any more; now READY" in said
    assert [state(pad, fw_id) for fw_id in fw_ids] == ["READY"] * 3


@in_full
@pytest.mark.parametrize("submits", [True, False])
def test_a_qlaunch_killed_while_it_submits(pad, slurm, site, tmp_path, monkeypatch, submits):
    """After sbatch the job comes and takes its firework; before it the reservation is released after a while."""
    fw_id, folder, launch = add_sleeper(pad, "quick", "kmde_dft"), site(), tmp_path / "a"
    launch.mkdir()
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    real = f'{shutil.which("sbatch")} "$@"' if submits else ":"
    sbatch.write_text(f"#!/bin/sh\n{real} > /dev/null\nkill -9 $PPID\n")
    sbatch.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}")
        done = subprocess.run(qlaunch(folder, "kmde_dft", "-r", "singleshot"), cwd=launch, check=False)
    assert done.returncode == -signal.SIGKILL
    if submits:
        until(lambda: state(pad, fw_id) == "COMPLETED", 60)
        return
    assert state(pad, fw_id) == "RESERVED"
    queue = queue_here("slurm")
    assert find_lost(pad, queue) == [], "qlaunch may be at it"
    monkeypatch.setattr(lost, "SUBMITTING", 0.0)
    assert [one.reason for one in find_lost(pad, queue)] == ["reserved without a job"]
