"""Who runs, and who is whose child: real processes."""

from __future__ import annotations

import subprocess

import psutil

from kmde_fw.processes import descendants, end, is_running, working_in
from waiting import until


def test_a_process_is_known_by_its_id_and_its_start():
    me = psutil.Process()
    assert is_running(me.pid, me.create_time())
    assert is_running(me.pid, None)
    assert not is_running(me.pid, me.create_time() - 3600), "the id is another process's now"
    assert not is_running(2**22 + 1, None)


def test_who_works_in_a_directory(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with subprocess.Popen(["sleep", "300"], cwd=tmp_path / "a" / "b") as process:
        assert [p.pid for p in working_in(tmp_path / "a")] == [process.pid]
        assert working_in(tmp_path / "other") == []
        process.kill()


def test_descendants_are_found_at_any_depth_and_ended_even_if_they_do_not_listen():
    with subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 300 & wait; wait"]) as shell:
        until(lambda: any(p.name() == "sleep" for p in descendants()))
        mine = [p for p in descendants() if p.name() in ("sh", "sleep")]
        assert len(mine) == 2
        end(mine, 0.5)
        assert not any(is_running(p.pid, None) for p in mine)
        shell.wait()
