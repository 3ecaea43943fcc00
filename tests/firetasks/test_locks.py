"""FireWorks' lock of a workflow, and how it writes many fireworks: ours, with the same result."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from fireworks import Firework, FWAction, FWorker, LaunchPad, Workflow
from fireworks.core.launchpad import LockedWorkflowError, WFLock
from pymongo import monitoring
from pymongo.errors import AutoReconnect

from kmde_fw.firetasks import locks, upserts
from kmde_fw.store import read_launchpad
from kmde_fw.workflows.cycle import Finish
from kmde_fw.workflows.launchpad import open_launchpad


@pytest.fixture
def pad(launchpad_file):
    launchpad = open_launchpad(read_launchpad(launchpad_file))
    yield launchpad
    launchpad.connection.close()


def a_firework(name: str, parents: list[Firework] | None = None) -> Firework:
    return Firework(Finish(campaign="c", cycle=0), name=name, parents=parents)


def held(pad: LaunchPad) -> str | None:
    return pad.workflows.find_one({})["locked"] if pad.workflows.find_one({"locked": {"$exists": True}}) else None


@pytest.fixture
def dead() -> str:
    """The lock of a process that is no more."""
    code = "from kmde_fw.firetasks.locks import new_lock; print(new_lock())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_lock_says_whose_it_is_and_is_gone_afterwards(pad):
    pad.add_wf(a_firework("a"))
    with WFLock(pad, 1):
        first = held(pad)
        assert locks.is_of_living(first) is True
        with pytest.raises(LockedWorkflowError), WFLock(pad, 1, expire_secs=0.3):
            pass
        assert held(pad) == first
    assert held(pad) is None
    with WFLock(pad, 1):
        assert held(pad) != first, "a lock is never the same twice"


def test_a_dead_holder_loses_it_at_once(pad, dead):
    pad.add_wf(a_firework("a"))
    pad.workflows.update_one({}, {"$set": {"locked": dead}})
    begin = time.monotonic()
    with WFLock(pad, 1):
        assert locks.is_of_living(held(pad))
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("lock", [True, "kmde elsewhere 1 1.0 0"])
def test_of_other_machines_and_of_fireworks_own_nothing_is_known(pad, lock):
    assert locks.is_of_living(lock) is None
    pad.add_wf(a_firework("a"))
    pad.workflows.update_one({}, {"$set": {"locked": lock}})
    with pytest.raises(LockedWorkflowError), WFLock(pad, 1, expire_secs=0.3):
        pass
    with WFLock(pad, 1, expire_secs=0.3, kill=True):
        assert locks.is_of_living(held(pad))
    with pytest.raises(ValueError, match="Could not find workflow"), WFLock(pad, 99, expire_secs=0.3):
        pass


def test_a_release_waits_for_the_database(pad, monkeypatch):
    pad.add_wf(a_firework("a"))
    with WFLock(pad, 1) as _:
        away = 2
        real = type(pad.workflows).update_one

        def update_one(*arguments: object) -> object:
            nonlocal away
            away -= 1
            if away >= 0:
                raise AutoReconnect("connection closed")
            return real(*arguments)

        monkeypatch.setattr(type(pad.workflows), "update_one", update_one)
    assert away == -1
    monkeypatch.undo()
    assert held(pad) is None


class Writes(monitoring.CommandListener):
    """Counts what is written to fireworks."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """A command goes out."""
        if event.command_name in ("insert", "update", "findAndModify"):
            self.seen.append(event.command[event.command_name])

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """The reply has come."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """The command failed."""


def documents(pad: LaunchPad) -> list[dict]:
    changing = {"_id", "created_on", "updated_on"}
    found = [{k: v for k, v in d.items() if k not in changing} for d in pad.fireworks.find().sort("fw_id")]
    workflow = pad.workflows.find_one()
    return [*found, {k: workflow[k] for k in ("nodes", "links", "parent_links", "fw_states", "state", "metadata")}]


def grow(pad: LaunchPad) -> None:
    """A step that spawns a cycle of forty before its child."""
    first = a_firework("first")
    pad.add_wf(Workflow([first, a_firework("last", [first])], metadata={"campaign": "c"}))
    _, launch_id = pad.checkout_fw(FWorker(), "/tmp")
    root = a_firework("root")
    wide = [a_firework(f"wide {k}", [root]) for k in range(38)]
    pad.complete_launch(launch_id, FWAction(detours=Workflow([root, *wide, a_firework("end", wide)])))


def test_a_wide_cycle_is_written_in_a_few_commands_and_as_fireworks_does(launchpad_file, monkeypatch):
    connection = read_launchpad(launchpad_file)
    listener = Writes()
    pad = open_launchpad(connection)
    ours = LaunchPad(
        connection.settings["host"],
        name=connection.settings["name"],
        uri_mode=True,
        strm_lvl="ERROR",
        mongoclient_kwargs={"event_listeners": [listener]},
    )
    try:
        grow(ours)
        assert listener.seen.count("fireworks") < 10
        assert ours.fireworks.count_documents({}) == 42
        with_ours = documents(ours)
        for name in ("fireworks", "workflows", "launches"):
            ours.db[name].delete_many({})
        ours.fw_id_assigner.update_one({}, {"$set": {"next_fw_id": 1, "next_launch_id": 1}})
        monkeypatch.setattr(LaunchPad, "_upsert_fws", upserts._upsert_fws)
        grow(pad)
        assert normal(with_ours) == normal(documents(pad))
    finally:
        ours.connection.close()
        pad.connection.close()


def normal(found: list[dict]) -> list[dict]:
    """By name: which of the new ones gets which number is FireWorks' to choose."""
    return sorted(({"name": d["name"], "state": d["state"], "spec": d["spec"]} for d in found[:-1]), key=str)
