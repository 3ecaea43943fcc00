"""kmde launch and kmde reconcile: real processes, real signals, and a queue whose commands are scripts on PATH."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from fireworks import FWAction, FWorker, LaunchPad
from typer.testing import CliRunner

import sleepers
from kmde_fw.cli import build_app
from kmde_fw.errors import ConfigError, EngineError
from kmde_fw.store import Store
from kmde_fw.workflows.compatible import mismatches, numbers
from kmde_fw.workflows.launchpad import open_launchpad
from kmde_fw.workflows.lost import MARK, find_lost, find_silent, is_interruption, release_lost
from kmde_fw.workflows.queues import current_job, queue_here
from kmde_fw.workflows.rockets import fizzled
from sleepers import add_sleeper, state
from waiting import until


@pytest.fixture
def pad(launchpad_file: Path, connection, monkeypatch) -> Iterator[LaunchPad]:
    """The LaunchPad of `launchpad_file`; rockets find the steps of `sleepers`."""
    folder = str(Path(sleepers.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    pad = open_launchpad(connection)
    Store(pad.db)
    yield pad
    pad.connection.close()


class Launched:
    """A `kmde launch` in a folder, whose firework runs."""

    def __init__(self, launchpad_file: Path, folder: Path, *words: str, wait: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "kmde_fw", "launch", "-l", str(launchpad_file), *words]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        if wait:
            until(lambda: list(folder.rglob("runs")) or self.process.poll() is not None)
            assert self.process.poll() is None, self.process.stdout.read()
            (runs,) = folder.rglob("runs")
            self.rocket, self.child = map(int, runs.read_text().split())
            runs.unlink()

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_makes_the_firework_ready_again_at_once_until_it_came_too_often(pad, launchpad_file, tmp_path, number):
    fw_id = add_sleeper(pad, "sleep")
    for launch, expected in enumerate(["READY", "FIZZLED"]):
        running = Launched(
            launchpad_file, tmp_path / str(launch), "singleshot", "--fw_id", str(fw_id), "--retries", "2"
        )
        assert state(pad, fw_id) == "RUNNING"
        began = time.monotonic()
        running.process.send_signal(number)
        code, out = running.end()
        assert time.monotonic() - began < 10
        assert code == 128 + number
        assert f"nap sleep: stopped by signal {int(number)} ({number.name}), now {expected}" in out
        assert state(pad, fw_id) == expected
        assert gone(running.rocket)
        assert gone(running.child)
    (failure,) = fizzled(pad, "nap")
    assert is_interruption(failure["reason"])


def test_a_rocket_killed_outright_leaves_neither_a_running_firework_nor_processes(pad, launchpad_file, tmp_path):
    fw_id = add_sleeper(pad, "sleep")
    running = Launched(launchpad_file, tmp_path / "a", "rapidfire")
    os.kill(running.rocket, signal.SIGKILL)
    code, out = running.end()
    assert code == 128 + signal.SIGKILL
    assert "the rocket died of signal 9 (SIGKILL); 1 of its processes were ended" in out
    assert state(pad, fw_id) == "READY"
    assert gone(running.child)


def test_a_killed_supervisor_takes_its_rocket_along(pad, launchpad_file, tmp_path):
    fw_id = add_sleeper(pad, "sleep")
    running = Launched(launchpad_file, tmp_path / "a")
    running.process.kill()
    assert running.end()[0] == -signal.SIGKILL
    until(lambda: state(pad, fw_id) == "READY")
    until(lambda: gone(running.rocket) and gone(running.child))


def test_a_rocket_that_does_not_listen_is_ended_after_the_grace_period(pad, launchpad_file, tmp_path):
    fw_id = add_sleeper(pad, "deaf")
    running = Launched(launchpad_file, tmp_path / "a", "--grace", "1")
    running.process.terminate()
    code, out = running.end()
    assert code == 128 + signal.SIGTERM
    assert "did not end within 1 s of SIGTERM" in out
    assert state(pad, fw_id) == "READY"
    assert gone(running.child)


def test_a_signal_while_a_dead_rockets_firework_is_released_does_not_interrupt_that():
    """As scancel does a second time, or where the database was away."""
    code = """
import os, signal, subprocess, time
from kmde_fw.workflows.launcher import _Forward
ended = subprocess.Popen(["true"])
ended.wait()
forward = _Forward(ended.pid, grace=1.0)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(1.5)  # over the alarm at the end of the grace period
print(forward.word, forward.killed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("SIGTERM False\n", "")


def test_where_all_is_killed_at_once_reconcile_finds_out(pad, launchpad_file, tmp_path):
    fw_id = add_sleeper(pad, "sleep")
    running = Launched(launchpad_file, tmp_path / "a")
    words = ["reconcile", "-l", str(launchpad_file)]
    assert "nothing is lost" in kmde(*words), "it runs"
    os.killpg(running.process.pid, signal.SIGKILL)
    os.kill(running.child, signal.SIGKILL)
    running.end()
    assert state(pad, fw_id) == "RUNNING"
    assert "now RUNNING" in kmde(*words, "--dry-run")
    (row,) = json.loads(kmde(*words, "--json"))
    assert row["reason"] == f"its worker, process {running.rocket} on {socket.gethostname()}, is gone"
    assert (row["fw_id"], row["now"], state(pad, fw_id)) == (fw_id, "READY", "READY")
    assert "nothing is lost" in kmde(*words)


def test_a_failed_step_stays_fizzled_and_rapidfire_goes_on_with_what_its_worker_takes(pad, launchpad_file, tmp_path):
    failed, done, other = add_sleeper(pad, "fail"), add_sleeper(pad, "quick"), add_sleeper(pad, "quick", "kmde_dft")
    worker = tmp_path / "my_fworker.yaml"
    worker.write_text(yaml.safe_dump({"name": "here", "category": "kmde_cpu", "query": "{}"}))
    words = ("rapidfire", "--wait", "0", "-w", str(worker))
    code, out = Launched(launchpad_file, tmp_path / "a", *words, wait=False).end()
    assert code == 0, out
    assert [state(pad, fw_id) for fw_id in (failed, done, other)] == ["FIZZLED", "COMPLETED", "READY"]
    assert len(list((tmp_path / "a").glob("launcher_*"))) == 2
    (launch,) = pad.launches.find({"fw_id": done})
    assert launch["fworker"]["env"][MARK]["host"] == socket.gethostname()
    add_sleeper(pad, "quick")
    add_sleeper(pad, "quick")
    code, _ = Launched(launchpad_file, tmp_path / "a", *words, "--nlaunches", "1", wait=False).end()
    assert code == 0
    assert pad.fireworks.count_documents({"state": "READY", "spec._category": "kmde_cpu"}) == 1


def test_an_older_kmde_fw_launches_nothing_and_gives_its_reservation_back(pad, launchpad_file, tmp_path):
    fw_id = add_sleeper(pad, "quick")
    assert mismatches(pad, {}) == []
    campaign = {"_id": "nap", "code_version": "99.1.0", "state": "running"}
    pad.db["campaigns"].insert_one(campaign)
    pad.reserve_fw(FWorker(), str(tmp_path))
    code, out = Launched(launchpad_file, tmp_path / "a", "singleshot", "--fw_id", str(fw_id), wait=False).end()
    assert code == 1
    assert "nothing is launched here: campaign nap was submitted by kmde_fw 99.1.0, this is the older" in out
    assert state(pad, fw_id) == "READY"


def test_nothing_is_taken_where_nothing_can_be_written(pad, launchpad_file, tmp_path):
    """Not even root can write below /proc."""
    fw_id = add_sleeper(pad, "quick")
    pad.reserve_fw(FWorker(), str(tmp_path))
    words = [sys.executable, "-m", "kmde_fw", "launch", "singleshot", "--fw_id", str(fw_id), "-l", str(launchpad_file)]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{Path(sleepers.__file__).parent}",
    }
    done = subprocess.run(words, cwd="/proc/self", env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "kmde: nothing is launched here: cannot write into /proc/" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(pad, fw_id) == "READY"


def test_a_step_that_this_installation_does_not_have_is_not_touched(pad):
    fw_id = add_sleeper(pad, "quick")
    # FireWorks itself cannot queue what it cannot import
    dream = {"spec._tasks.0._fw_name": "{{kmde_fw.firetasks.dream.Dream}}"}
    pad.fireworks.update_one({"fw_id": fw_id}, {"$set": dream})
    (sentence,) = mismatches(pad, {})
    assert "does not have the step kmde_fw.firetasks.dream.Dream" in sentence
    assert state(pad, fw_id) == "READY"
    assert numbers("0.10.0.dev3") > numbers("0.9.12")


def test_mistakes_are_sentences(launchpad_file, tmp_path):
    ended = CliRunner().invoke(build_app(), ["launch", "rapidfire", "--fw_id", "3", "-l", str(launchpad_file)])
    assert isinstance(ended.exception, ConfigError)
    assert "--fw_id goes with singleshot" in str(ended.exception)
    worker = tmp_path / "my_fworker.yaml"
    worker.write_text("{name: x, category: '', query: {}}")
    words = ["launch", "singleshot", "-l", str(launchpad_file), "-w", str(worker)]
    ended = CliRunner().invoke(build_app(), words)
    assert isinstance(ended.exception, ConfigError)
    assert "query is {}" in str(ended.exception)


# the queue ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path: Path, monkeypatch) -> Callable[..., None]:
    """queue(squeue, scontrol): commands on PATH that print so, or end with 1 where it is None."""

    def write(listing: str | None, cluster: str = "here", kind: str = "slurm") -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        text = "echo 'cannot reach the controller' >&2; exit 1" if listing is None else f"cat <<'E'\n{listing}\nE"
        if kind == "slurm":
            scripts = {"squeue": text, "scontrol": f"echo 'ClusterName             = {cluster}'"}
        else:
            scripts = {"qstat": f"if [ \"$1\" = -B ]; then echo 'Server: {cluster}.example.org'; else {text}\nfi"}
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return write


def running(pad: LaunchPad, fw_id: int, **worker: Any) -> None:
    """The firework as a rocket elsewhere has it."""
    pad.checkout_fw(FWorker(env={MARK: {"host": "node17", "pid": 1, "started": 0.0, **worker}}), "/tmp", fw_id=fw_id)


SLURM = {"queue": "slurm", "job": "12", "cluster": "here"}


@pytest.mark.parametrize(("worker", "listing", "reason"), [
    (SLURM, "11 RUNNING\n12 RUNNING", ""),
    (SLURM, "12 COMPLETING", ""),
    (SLURM, "11 RUNNING", "slurm job 12 is not in the queue any more"),
    (SLURM, "", "slurm job 12 is not in the queue any more"),
    (SLURM, "12 PENDING", "slurm job 12 waits in the queue again"),
    ({**SLURM, "cluster": "there"}, "", ""),
    ({**SLURM, "queue": "pbs"}, "", ""),
    ({}, "", ""),
])  # fmt: skip
def test_a_worker_elsewhere_is_looked_for_in_its_queue(pad, queue, worker, listing, reason):
    fw_id = add_sleeper(pad, "sleep")
    running(pad, fw_id, **worker)
    queue(listing)
    found = find_lost(pad, queue_here())
    assert [lost.reason for lost in found] == ([reason] if reason else [])
    assert all(release_lost(pad, lost) == "READY" for lost in found)
    assert find_lost(pad, queue_here()) == []
    assert find_lost(pad, None) == []


PBS = """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
11.pbs01          FW_job           me                00:01:02 {} workq
"""


@pytest.mark.parametrize(("sign", "reason"), [
    ("R", ""), ("E", ""), ("C", "not in the queue any more"), ("Q", "waits in the queue again"),
])  # fmt: skip
def test_pbs_as_well(pad, queue, sign, reason):
    fw_id = add_sleeper(pad, "sleep")
    running(pad, fw_id, queue="pbs", job="11", cluster="pbs01")
    queue(PBS.format(sign), "pbs01", "pbs")
    found = find_lost(pad, queue_here("pbs"))
    assert bool(found) is bool(reason)
    assert all(reason in lost.reason for lost in found)


def test_reservations_are_compared_with_the_queue(pad, queue):
    here, elsewhere = add_sleeper(pad, "sleep"), add_sleeper(pad, "quick")
    for fw_id, job, host in ((here, "7", socket.gethostname()), (elsewhere, "8", "login2")):
        _, launch_id = pad.reserve_fw(FWorker(), "/tmp", host=host, fw_id=fw_id)
        pad.set_reservation_id(launch_id, job)
    queue("7 PENDING\n8 PENDING")
    assert find_lost(pad, queue_here()) == []
    queue("")
    assert [lost.fw_id for lost in find_lost(pad, queue_here())] == [here], "login2 may belong to another cluster"
    both = find_lost(pad, queue_here(), all_hosts=True)
    assert [lost.fw_id for lost in both] == [here, elsewhere]
    assert [release_lost(pad, lost) for lost in both] == ["READY", "READY"]


def test_a_reservation_whose_qlaunch_died_is_released_after_a_while(pad, queue, monkeypatch):
    fw_id = add_sleeper(pad, "sleep")
    pad.reserve_fw(FWorker(), "/tmp")
    queue("")
    assert find_lost(pad, queue_here()) == []
    monkeypatch.setattr("kmde_fw.workflows.lost.SUBMITTING", 0.0)
    (lost,) = find_lost(pad, queue_here())
    assert lost.reason == "reserved without a job"
    assert release_lost(pad, lost) == state(pad, fw_id) == "READY"
    # and one that died before it had written a launch
    pad.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "RESERVED"}})
    (lost,) = find_lost(pad, queue_here())
    assert lost.reason == "RESERVED by nobody for 0 min"
    assert release_lost(pad, lost) == state(pad, fw_id) == "READY"


def test_nothing_is_released_where_the_queue_does_not_answer(pad, queue):
    fw_id = add_sleeper(pad, "sleep")
    running(pad, fw_id, **SLURM)
    queue(None)
    with pytest.raises(EngineError, match=r"the queue does not answer: `squeue .*` ended with 1: cannot reach"):
        find_lost(pad, queue_here())
    assert state(pad, fw_id) == "RUNNING"


def test_a_worker_that_has_spoken_meanwhile_is_left_alone(pad, queue):
    fw_id = add_sleeper(pad, "sleep")
    running(pad, fw_id, **SLURM)
    queue("")
    (lost,) = find_lost(pad, queue_here())
    pad.complete_launch(lost.launch_id, FWAction(), "COMPLETED")
    assert release_lost(pad, lost) == "COMPLETED"


def test_what_has_been_silent_for_long_is_named(pad):
    fw_id = add_sleeper(pad, "sleep")
    running(pad, fw_id)
    assert find_silent(pad, 60) == []
    (silent,) = find_silent(pad, -1)
    assert silent.fw_id == fw_id


def test_the_job_that_we_are_in():
    assert current_job({}) == {}
    job = current_job({"SLURM_JOB_ID": "12", "SLURM_CLUSTER_NAME": "here"})
    assert (job["queue"], job["job"], job["cluster"]) == ("slurm", "12", "here")
    job = current_job({"PBS_JOBID": "34.pbs01.example.org"})
    assert (job["queue"], job["job"], job["cluster"]) == ("pbs", "34", "pbs01")
    with pytest.raises(ConfigError, match="no queue system 'slrm': did you mean 'slurm'"):
        queue_here("slrm")


def kmde(*words: str) -> str:
    ended = CliRunner().invoke(build_app(), list(words))
    assert ended.exit_code == 0, ended.output or ended.exception
    return ended.output
