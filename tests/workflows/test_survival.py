"""What kills at particular moments leave in FireWorks' documents, and how it is mended."""

from __future__ import annotations

import datetime
import socket
import subprocess
import sys

import pytest
from fireworks import Firework, FWAction, FWorker, LaunchPad, Workflow
from pymongo.errors import AutoReconnect

from kmde_fw.cli.work import launch_all
from kmde_fw.errors import StoreError
from kmde_fw.firetasks.base import CampaignView
from kmde_fw.store import Store, documents, read_launchpad
from kmde_fw.store.connect import says_outage
from kmde_fw.workflows import rockets
from kmde_fw.workflows.cycle import Finish, may_spawn
from kmde_fw.workflows.launchpad import open_launchpad
from kmde_fw.workflows.lost import take_up


@pytest.fixture
def pad(launchpad_file, monkeypatch):
    """A LaunchPad; nobody needs longer than a moment for two writes."""
    monkeypatch.setattr(rockets, "RESERVING_SECONDS", 0.05)
    monkeypatch.setattr(rockets, "LOCK_SECONDS", 0.1)
    launchpad = open_launchpad(read_launchpad(launchpad_file))
    yield launchpad
    launchpad.connection.close()


def a_firework(name: str, parents: list[Firework] | None = None) -> Firework:
    return Firework(Finish(campaign="c", cycle=0), spec={"kmde": {"campaign": "c"}}, name=name, parents=parents)


def states(pad: LaunchPad) -> dict[str, str]:
    return {document["name"]: document["state"] for document in pad.fireworks.find()}


@pytest.fixture
def dead() -> int:
    """Id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_firework_reserved_by_a_worker_that_died_is_ready_again(pad):
    pad.add_wf(a_firework("a"))
    pad.fireworks.update_one({}, {"$set": {"state": "RESERVED", "updated_on": "2026-01-01T00:00:00"}})
    assert rockets.recover(pad, "c") == ["a"]
    assert states(pad) == {"a": "READY"}


def test_a_firework_that_is_being_reserved_is_left_alone(pad, monkeypatch):
    pad.add_wf(a_firework("a"))
    pad.fireworks.update_one({}, {"$set": {"state": "RESERVED", "updated_on": "2026-01-01T00:00:00"}})
    change = {"$set": {"launches": [1]}}
    monkeypatch.setattr(rockets.time, "sleep", lambda _: pad.fireworks.update_one({}, change))
    assert rockets.reserved_by_nobody(pad, "c") == set()


class Killed(BaseException):
    pass


def test_a_kill_between_a_firework_and_its_detours_does_not_end_the_campaign(pad, monkeypatch):
    """FireWorks had written the detours, and that their parent is COMPLETED, but not the workflow."""
    advance = a_firework("advance")
    pad.add_wf(Workflow([advance, a_firework("finish", [advance])], metadata={"campaign": "c"}))
    _, launch_id = pad.checkout_fw(FWorker(), "/tmp")

    def killed(self: LaunchPad, workflow: Workflow, updated: list[int]) -> None:
        self._upsert_fws([workflow.id_fw[fw_id] for fw_id in updated])
        raise Killed

    monkeypatch.setattr(LaunchPad, "_update_wf", killed)
    with pytest.raises(Killed):
        pad.complete_launch(launch_id, FWAction(detours=a_firework("next")))
    monkeypatch.undo()
    assert states(pad)["advance"] == "COMPLETED"
    assert states(pad)["next"] == "READY"
    assert len(pad.workflows.find_one()["nodes"]) == 2

    rockets.tidy(pad, "c")
    assert states(pad) == {"advance": "READY", "finish": "WAITING"}
    _, launch_id = pad.checkout_fw(FWorker(), "/tmp")
    pad.complete_launch(launch_id, FWAction(detours=a_firework("next")))
    assert states(pad) == {"advance": "COMPLETED", "next": "READY", "finish": "WAITING"}
    rockets.tidy(pad, "c")
    assert states(pad) == {"advance": "COMPLETED", "next": "READY", "finish": "WAITING"}


@pytest.fixture
def cut_off(pad, monkeypatch) -> int:
    """A worker that is cut off from the database while FireWorks writes its detours, and says that its step failed."""
    advance = a_firework("advance")
    pad.add_wf(Workflow([advance, a_firework("finish", [advance])], metadata={"campaign": "c"}))
    _, launch_id = pad.checkout_fw(rockets.worker_for("c"), "/tmp")

    def cut(self: LaunchPad, workflow: Workflow, updated: list[int]) -> None:
        self._upsert_fws([workflow.id_fw[fw_id] for fw_id in updated if fw_id < 0])
        raise AutoReconnect("db:27017: connection closed")

    with monkeypatch.context() as patch:
        patch.setattr(LaunchPad, "_update_wf", cut)
        with pytest.raises(RuntimeError) as error:
            pad.complete_launch(launch_id, FWAction(detours=a_firework("next")))
    stored = {"_exception": {"_stacktrace": f"Traceback ...\nRuntimeError: {error.value}", "_details": None}}
    pad.complete_launch(launch_id, FWAction(stored_data=stored, exit=True), "FIZZLED")
    assert states(pad) == {"advance": "FIZZLED", "finish": "WAITING", "next": "READY"}
    return launch_id


def test_fireworks_of_no_workflow_are_not_launched(pad, cut_off):
    """Who took one would wait five minutes for the lock of its workflow, and die."""
    assert rockets.launchable(pad, {}) == []
    assert rockets.next_fireworks(pad, ["c"]) == (True, None, [])
    pad.add_wf(a_firework("other"))
    alive, campaign, fw_ids = rockets.next_fireworks(pad, ["c"])
    assert (alive, campaign, len(fw_ids)) == (True, "c", 1)
    worker = rockets.worker_for("c")
    worker.fw_ids = fw_ids
    taken, _ = pad.checkout_fw(worker, "/tmp")
    assert taken.name == "other"
    assert "fw_id" not in pad.launches.find_one({"fw_id": taken.fw_id})["fworker"]["query"]


def test_a_step_that_an_outage_spoilt_is_repeated_by_its_own_worker(pad, cut_off, monkeypatch):
    assert rockets.after_rocket(pad, {"fworker.name": "kmde elsewhere 1"}) is None
    whose = {"fworker.name": rockets.worker_for("c").name}
    assert rockets.after_rocket(pad, whose) == "advance"
    assert states(pad) == {"advance": "READY", "finish": "WAITING"}
    assert rockets.after_rocket(pad, whose) is None, "once for each launch"


def test_a_step_that_every_outage_spoils_stays_fizzled_at_last(pad, cut_off, monkeypatch):
    monkeypatch.setattr(rockets, "OUTAGES", 0)
    assert rockets.after_rocket(pad, {}) is None
    assert states(pad)["advance"] == "FIZZLED"


def test_a_firework_that_was_not_told_of_the_end_of_its_launch_is_told_by_its_worker(pad, monkeypatch):
    """FireWorks gives up where a workflow stays locked: the launch has ended, and its firework RUNNING for ever."""
    advance = a_firework("advance")
    pad.add_wf(Workflow([advance, a_firework("finish", [advance])], metadata={"campaign": "c"}))
    _, launch_id = pad.checkout_fw(rockets.worker_for("c"), "/tmp")
    with monkeypatch.context() as patch:
        patch.setattr(LaunchPad, "_refresh_wf", lambda self, fw_id: None)
        pad.complete_launch(launch_id, FWAction(detours=a_firework("next")))
    assert states(pad) == {"advance": "RUNNING", "finish": "WAITING"}
    assert rockets.after_rocket(pad, {}) is None
    assert states(pad) == {"advance": "COMPLETED", "finish": "WAITING", "next": "READY"}


@pytest.mark.parametrize(("line", "away"), [
    ("pymongo.errors.AutoReconnect: db:27017: connection closed", True),
    ("pymongo.errors.ServerSelectionTimeoutError: db:27017: timed out", True),
    ("kmde_fw.errors.StoreError: the database server at db:27017 does not answer any more: is it running?", True),
    ("pymongo.errors._OperationCancelled: operation cancelled", True),
    ("pymongo.errors.Unheard: of", False),
    ("pymongo.errors.DocumentTooLarge: BSON document too large", False),
    ("ValueError: two and two is five", False),
])  # fmt: skip
def test_which_errors_are_outages(line, away):
    assert says_outage(line) is away


def test_one_of_the_others_goes_on_where_a_worker_was_killed_while_it_spawned(pad, monkeypatch):
    """Nothing runs, and all that is ready belongs to no workflow: FireWorks' own rockets would idle for ever."""
    advance = a_firework("advance")
    pad.add_wf(Workflow([advance, a_firework("finish", [advance])], metadata={"campaign": "c"}))
    _, launch_id = pad.checkout_fw(FWorker(), "/tmp")

    def killed(self: LaunchPad, workflow: Workflow, updated: list[int]) -> None:
        self._upsert_fws([workflow.id_fw[fw_id] for fw_id in updated])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LaunchPad, "_update_wf", killed)
        with pytest.raises(Killed):
            pad.complete_launch(launch_id, FWAction(detours=a_firework("next")))
    assert rockets.take_back(pad, "c") == ["advance"]
    assert states(pad) == {"advance": "READY", "finish": "WAITING"}
    assert rockets.take_back(pad, "c") == []


def test_an_outage_does_not_silence_a_rocket(pad, monkeypatch):
    pad.add_wf(a_firework("a"))
    _, launch_id = pad.checkout_fw(FWorker(), "/tmp")

    def away(self: LaunchPad, launch_id: int) -> None:
        raise AutoReconnect("connection closed")

    with monkeypatch.context() as patch:
        patch.setattr(LaunchPad, "get_launch_by_id", away)
        pad.ping_launch(launch_id)
        with pytest.raises(AutoReconnect):
            pad.ping_launch(launch_id, checkpoint={"_task_n": 1})
    before = pad.launches.find_one()["state_history"][-1]
    pad.ping_launch(launch_id)
    assert pad.launches.find_one()["state_history"][-1] != before


def test_one_worker_takes_back_what_a_killed_one_had(pad, dead):
    pad.add_wf(a_firework("a"))
    _, launch_id = pad.checkout_fw(FWorker(name=f"kmde {socket.gethostname()} {dead}"), "/tmp")
    assert rockets.is_ours_to_take(pad, launch_id)
    assert rockets.take_back(pad, "c") == [], "another one is at it"
    pad.launches.update_one({}, {"$unset": {"kmde_taken_back": True}})
    assert rockets.take_back(pad, "c") == ["a"]
    assert states(pad) == {"a": "READY"}
    assert rockets.take_back(pad, "c") == []


@pytest.mark.parametrize(
    ("line", "times", "again"),
    [
        ("SystemExit: interrupted: stopped by signal 15 (SIGTERM)", 1, ["a"]),
        ("SystemExit: interrupted: stopped by signal 15 (SIGTERM)", 3, []),
        ("ValueError: two and two is five", 1, []),
    ],
)
def test_what_fizzled_with_its_worker_is_taken_up_by_another_one(pad, line, times, again):
    """As when one of two `kmde run` is ended: its worker says so, and has nobody who would rerun the step."""
    pad.add_wf(a_firework("a"))
    stored = {"_message": "", "_exception": {"_stacktrace": f"Traceback ...\n{line}", "_details": None}}
    for k in range(times):
        if k:
            pad.rerun_fw(1)
        launch_id = pad.checkout_fw(FWorker(), "/tmp")[1]
        pad.complete_launch(launch_id, FWAction(stored_data=stored, exit=True), "FIZZLED")
    assert states(pad) == {"a": "FIZZLED"}
    assert take_up(pad, "c") == again
    assert states(pad) == {"a": "READY" if again else "FIZZLED"}
    assert take_up(pad, "c") == []


def test_what_runs_on_a_living_worker_is_not_taken_back(pad):
    pad.add_wf(a_firework("a"))
    pad.checkout_fw(rockets.worker_for("c"), "/tmp")
    assert rockets.take_back(pad, "c") == []
    assert rockets.recover(pad, "c") == []
    rockets.after_outage(pad, "c", rockets.worker_for("c"))
    assert states(pad) == {"a": "READY"}, "but its own worker knows that it does not run any more"


@pytest.mark.parametrize("hours", [-1, 1])
def test_claims_do_not_look_at_the_workers_clocks(pad, monkeypatch, hours, dead):
    store = Store(pad.db)
    shift = datetime.timedelta(hours=hours)
    real = documents._now
    monkeypatch.setattr(documents, "_now", lambda: real() + shift)
    host = socket.gethostname()
    assert may_spawn(store, pad, "c", 0, owner="submit elsewhere 1")
    monkeypatch.undo()
    assert not may_spawn(store, pad, "c", 0, owner=f"submit {host} 1")
    assert may_spawn(store, pad, "d", 0, owner=f"submit {host} {dead}")
    assert may_spawn(store, pad, "d", 0, owner="submit elsewhere 2"), "the first died before it had added anything"
    assert not may_spawn(store, pad, "d", 0, owner="submit elsewhere 3")


def test_a_worker_waits_while_the_database_does_not_answer(pad, monkeypatch, tmp_path, capfd):
    config = {"name": "c", "train": ["x"], "target": ["x"], "reference": {"calculator": "emt"}}
    Store(pad.db).insert_once("campaigns", {"_id": "c", "state": "running", "config": config})
    pad.add_wf(a_firework("a"))
    real, failures = rockets.next_fireworks, 2

    def away(*arguments: object) -> tuple[bool, str | None, list[int]]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreError("it does not answer") from AutoReconnect("connection closed")
        return real(*arguments)

    monkeypatch.setattr(rockets, "next_fireworks", away)
    launch_all(pad, ["c"], tmp_path)
    assert pad.launches.count_documents({}) == 1, "and went on"
    assert capfd.readouterr().out.count("it does not answer; waiting until the database answers") == 2

    def broken(*arguments: object) -> None:
        raise StoreError("something else")

    monkeypatch.setattr(rockets, "next_fireworks", broken)
    with pytest.raises(StoreError, match="something else"):
        launch_all(pad, ["c"], tmp_path)


def test_an_older_kmde_fw_does_no_step_of_a_newer_campaign(pad):
    store = Store(pad.db)
    pad.db["campaigns"].insert_one({"_id": "c", "code_version": "99.0.0"})
    with pytest.raises(StoreError, match=r"was submitted by kmde_fw 99\.0\.0, this worker has the older"):
        CampaignView(store, "c", 0, "test")


def test_an_older_kmde_fw_launches_nothing_of_a_newer_campaign(pad, tmp_path):
    """Named before anything has fizzled, by a worker of `kmde run` as by `kmde launch`."""
    pad.add_wf(Workflow([a_firework("first")]))
    Store(pad.db)
    pad.db["campaigns"].insert_one({"_id": "c", "code_version": "99.0.0", "state": "running"})
    with pytest.raises(StoreError, match=r"nothing is launched here: campaign c was submitted by kmde_fw 99\.0\.0"):
        launch_all(pad, ["c"], tmp_path)
    assert states(pad) == {"first": "READY"}
    assert pad.launches.count_documents({}) == 0
