"""What a killed worker cannot clean up is cleaned up: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kmde_fw.processes import descendants, is_running, working_in

#: a worker: a guarded directory, a POTCAR in it, a calculation there in a session of its own, as custodian starts it
WORKER = """
import subprocess, sys, time
from pathlib import Path
from kmde_fw.guard import guarded
directory = Path(sys.argv[1])
with guarded(directory):
    (directory / "POTCAR").write_text("secret")
    vasp = subprocess.Popen(["sleep", "300"], cwd=directory, start_new_session=True)
    (directory / "runs").touch()
    if sys.argv[2] == "well":
        vasp.kill()
        vasp.wait()
    else:
        time.sleep(300)
(directory / "left").touch()
"""


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def work(directory: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(directory), how], env={**os.environ})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_leaves_no_calculation_and_no_potcar(tmp_path, number):
    worker = work(tmp_path, "long")
    until((tmp_path / "runs").exists)
    assert len(working_in(tmp_path)) == 1
    assert (tmp_path / "POTCAR").exists()
    worker.send_signal(number)
    assert worker.wait() == -number
    until(lambda: not working_in(tmp_path) and not (tmp_path / "POTCAR").exists())


def test_a_worker_that_ends_well_is_not_interfered_with(tmp_path):
    (tmp_path / "other").mkdir()
    with subprocess.Popen(["sleep", "300"], cwd=tmp_path / "other") as neighbour:
        assert work(tmp_path, "well").wait() == 0
        assert (tmp_path / "left").exists()
        assert (tmp_path / "POTCAR").exists(), "what is to be done with it is the worker's own business"
        assert neighbour.poll() is None
        neighbour.kill()


def test_a_process_is_known_by_its_id_and_its_start():
    me = psutil.Process()
    assert is_running(me.pid, me.create_time())
    assert is_running(me.pid, None)
    assert not is_running(me.pid, me.create_time() - 3600), "the id is another process's now"
    assert not is_running(2**22 + 1, None)


def test_descendants_are_found_at_any_depth():
    with subprocess.Popen(["sh", "-c", "sleep 300 & wait"]) as shell:
        until(lambda: any(p.name() == "sleep" for p in descendants()))
        for process in descendants():
            if process.name() in ("sleep", "sh"):
                process.kill()
        shell.wait()
