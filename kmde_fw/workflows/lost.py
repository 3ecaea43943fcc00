"""Fireworks whose worker is gone: how that is known, and how they become READY again.

A worker writes into the launch who it is (process, host, queue job; see `mark`). Whoever looks later asks the processes
of this machine and the queue; what neither of them knows is left alone, only FireWorks' ping tells about that.
"""

from __future__ import annotations

import datetime
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fireworks import FWAction, LaunchPad

from kmde_fw.processes import identity, is_running
from kmde_fw.workflows.queues import Queue, current_job
from kmde_fw.workflows.rockets import is_ours_to_take, last_line, tidy, unlock

#: key of a worker's env, and with it of every launch, under which the worker says who it is
MARK = "kmde_launcher"
#: how the last line of an interrupted launch's traceback begins, after the exception's name
INTERRUPTED = "interrupted:"
#: launches of one firework that may be interrupted before it stays FIZZLED: one that is always killed is not repeated
#: for ever (out of memory, longer than every job)
INTERRUPTIONS = 3
#: seconds that a firework may be RESERVED without a job: qlaunch is submitting it just now
SUBMITTING = 600.0

Document = dict[str, Any]


@dataclass(frozen=True)
class Lost:
    """A firework that is RUNNING or RESERVED for nobody, and how that is known.

    launch_id, launch_state: None where it has no launch.
    """

    fw_id: int
    name: str
    campaign: str
    state: str
    launch_id: int | None
    launch_state: str | None
    reason: str


def mark() -> Document:
    """Who this process is: host, pid, started, token (never used again), and the queue job that it is in, if any."""
    pid, started = identity()
    return {"host": socket.gethostname(), "pid": pid, "started": started, "token": uuid.uuid4().hex, **current_job()}


def find_lost(launchpad: LaunchPad, queue: Queue | None, all_hosts: bool = False) -> list[Lost]:
    """Fireworks of campaigns whose worker is known to be gone, or whose reservation has no job any more.

    queue: the one of this cluster, None where there is none; EngineError if it does not answer. all_hosts: also those
    that do not say on which cluster they are, and were reserved on another host, are looked for in this queue.
    """
    # first the database, then the queue: a job that is not in it ended before, and what it did is written (`release`
    # looks again). The queue is asked once, and only where it is needed
    listing = cache(lambda: (queue.jobs(), queue.cluster())) if queue is not None else None
    found = []
    for firework, launch in list(_active(launchpad)):
        reason = _reason(firework, launch, queue, listing, all_hosts)
        if reason:
            found.append(_lost(firework, launch, reason))
    return found


def find_silent(launchpad: LaunchPad, seconds: float) -> list[Lost]:
    """RUNNING fireworks of campaigns whose rocket has not said for so long that it lives."""
    found = []
    for firework, launch in _active(launchpad):
        if firework["state"] == "RUNNING" and launch is not None:
            silence = age(last_heard(launch))
            if silence > seconds:
                reason = f"nothing heard from {launch['host']} for {silence / 3600:.1f} h"
                found.append(_lost(firework, launch, reason))
    return found


def release_lost(launchpad: LaunchPad, lost: Lost, limit: int = INTERRUPTIONS) -> str:
    """Let go of a lost firework. Returns its state afterwards; unchanged if its worker has spoken meanwhile."""
    now = launchpad.fireworks.find_one({"fw_id": lost.fw_id}, {"state": 1})
    launch = launchpad.launches.find_one({"launch_id": lost.launch_id}, {"state": 1}) or {}
    if now is None or now["state"] != lost.state or launch.get("state") != lost.launch_state:
        return str(now["state"]) if now else "gone"
    return release(launchpad, lost.fw_id, lost.launch_id, lost.reason, limit)


def release(launchpad: LaunchPad, fw_id: int, launch_id: int | None, reason: str, limit: int = INTERRUPTIONS) -> str:
    """A firework whose worker is gone: READY again, or FIZZLED once `limit` of its launches were interrupted.

    reason: a sentence, kept with the launch. Returns the firework's state afterwards.
    """
    firework = launchpad.fireworks.find_one({"fw_id": fw_id}, {"spec.kmde": 1, "state": 1})
    if firework is None:
        return "gone"
    campaign = firework["spec"]["kmde"]["campaign"]
    unlock(launchpad, campaign)
    launch = launchpad.launches.find_one({"launch_id": launch_id}, {"state": 1}) if launch_id is not None else None
    if launch and launch["state"] == "RESERVED":
        launchpad.cancel_reservation(launch_id)
    elif launch and launch["state"] == "RUNNING":
        text = f"{INTERRUPTED} {reason}"
        stored = {"_message": "interrupted", "_exception": {"_stacktrace": text, "_details": None}}
        launchpad.complete_launch(launch_id, FWAction(stored_data=stored, exit=True), "FIZZLED")
    state = _state(launchpad, fw_id)
    if state == "FIZZLED" and _interruptions(launchpad, fw_id) >= limit:
        return state
    if state in ("FIZZLED", "RUNNING", "RESERVED"):
        launchpad.rerun_fw(fw_id)
    if launchpad.fireworks.find_one({"spec.kmde.campaign": campaign, "state": "RUNNING"}, {"_id": 1}) is None:
        tidy(launchpad, campaign)
    return _state(launchpad, fw_id)


def settle(launchpad: LaunchPad, token: str, reason: str, limit: int = INTERRUPTIONS) -> list[tuple[str, str]]:
    """Release what a worker that has ended, or is about to, left behind. Returns names and states.

    token: the worker's, of its `mark`.
    """
    released = []
    query = {f"fworker.env.{MARK}.token": token, "state": {"$in": ["RUNNING", "FIZZLED", "COMPLETED"]}}
    for launch in list(launchpad.launches.find(query, {"launch_id": 1, "fw_id": 1, "state": 1, "action": 1})):
        firework = launchpad.fireworks.find_one({"fw_id": launch["fw_id"]})
        if firework is None or launch["launch_id"] in firework["archived_launches"]:
            continue  # it is released already
        unfinished = firework["state"] in ("RUNNING", "RESERVED")
        if unfinished or (firework["state"] == "FIZZLED" and is_interruption(last_line(launch))):
            state = release(launchpad, launch["fw_id"], launch["launch_id"], reason, limit)
            released.append((firework["name"], state))
    return released


def take_up(launchpad: LaunchPad, campaign: str, limit: int = INTERRUPTIONS) -> list[str]:
    """Make READY again what fizzled because its worker was ended, while others work on. Returns names.

    Not what was interrupted `limit` times. Several may call it at once: one of them makes a firework READY.
    """
    again = []
    query = {"spec.kmde.campaign": campaign, "state": "FIZZLED"}
    for firework in list(launchpad.fireworks.find(query, {"fw_id": 1, "name": 1, "launches": 1}).sort("fw_id")):
        latest = {"launch_id": {"$in": firework["launches"][-1:]}}
        launch = launchpad.launches.find_one(latest, {"launch_id": 1, "action": 1})
        if launch is None or not is_interruption(last_line(launch)):
            continue
        if _interruptions(launchpad, firework["fw_id"]) < limit and is_ours_to_take(launchpad, launch["launch_id"]):
            launchpad.rerun_fw(firework["fw_id"])
            again.append(firework["name"])
    return again


def is_interruption(line: str) -> bool:
    """Whether the last line of a failed launch's traceback says that its worker was ended, not that the step failed."""
    return line.startswith(INTERRUPTED) or line.startswith(f"SystemExit: {INTERRUPTED}")


def _active(launchpad: LaunchPad) -> Iterator[tuple[Document, Document | None]]:
    """RUNNING and RESERVED fireworks of campaigns, each with its latest launch."""
    query = {"spec.kmde.campaign": {"$exists": True}, "state": {"$in": ["RUNNING", "RESERVED"]}}
    fields = {"fw_id": 1, "name": 1, "state": 1, "launches": 1, "updated_on": 1, "spec.kmde": 1}
    for firework in list(launchpad.fireworks.find(query, fields).sort("fw_id")):
        # the launch is written first, and then into its firework: a kill may come between
        ids = firework["launches"] or [
            launch["launch_id"] for launch in launchpad.launches.find({"fw_id": firework["fw_id"]}, {"launch_id": 1})
        ]
        yield firework, launchpad.launches.find_one({"launch_id": max(ids)}) if ids else None


def _lost(firework: Document, launch: Document | None, reason: str) -> Lost:
    launch = launch or {}
    return Lost(
        fw_id=firework["fw_id"],
        name=firework["name"],
        campaign=firework["spec"]["kmde"]["campaign"],
        state=firework["state"],
        launch_id=launch.get("launch_id"),
        launch_state=launch.get("state"),
        reason=reason,
    )


def _reason(
    firework: Document,
    launch: Document | None,
    queue: Queue | None,
    listing: Callable[[], tuple[dict[str, bool], str]] | None,
    everywhere: bool,
) -> str:
    """Why a firework is lost; empty if it is not, or if nobody here can know."""
    state = firework["state"]
    here = socket.gethostname()
    if launch is None or launch["state"] not in ("RUNNING", "RESERVED"):
        return f"{state} by nobody for {age(firework['updated_on']) / 60:.0f} min" if _is_old(firework) else ""
    worker = _worker(launch)
    if launch["state"] == "RUNNING" and worker.get("host") == here and "pid" in worker:
        if is_running(worker["pid"], worker["started"]):
            return ""
        return f"its worker, process {worker['pid']} on {here}, is gone"
    job = worker.get("job") or _reservation(launch)
    if job is None:
        old = launch["state"] == "RESERVED" and (everywhere or launch["host"] == here) and _is_old(firework)
        return "reserved without a job" if old else ""
    if queue is None or listing is None:
        return ""
    jobs, cluster = listing()
    if "job" in worker:
        ours = (worker["queue"], worker["cluster"]) == (queue.name, cluster)
    else:
        ours = everywhere or launch["host"] == here
    if ours and job not in jobs:
        return f"{queue.name} job {job} is not in the queue any more"
    if ours and launch["state"] == "RUNNING" and not jobs[job]:
        return f"{queue.name} job {job} waits in the queue again"
    return ""


def _worker(launch: Document) -> Document:
    """What the worker of a launch said of itself; empty for FireWorks' own. Of `kmde work` the name says it."""
    fworker = launch.get("fworker") or {}
    words = str(fworker.get("name")).split()
    if len(words) == 3 and words[0] == "kmde" and words[2].isdigit():
        return {"host": words[1], "pid": int(words[2]), "started": None}
    return dict((fworker.get("env") or {}).get(MARK) or {})


def _reservation(launch: Document) -> str | None:
    """The job that qlaunch got for a launch."""
    return next((entry["reservation_id"] for entry in launch["state_history"] if "reservation_id" in entry), None)


def _is_old(firework: Document) -> bool:
    return age(firework["updated_on"]) > SUBMITTING


def last_heard(launch: Document) -> Any:
    """When a launch was last written to by its rocket, or by qlaunch."""
    latest = launch["state_history"][-1]
    return latest.get("updated_on") or latest["created_on"]


def age(moment: Any) -> float:
    """Seconds since a time as FireWorks stores it: text or a datetime, in UTC."""
    when = datetime.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return float((datetime.datetime.now(datetime.UTC) - when).total_seconds())


def _interruptions(launchpad: LaunchPad, fw_id: int) -> int:
    """How many of a firework's launches, archived ones too, were interrupted."""
    launches = launchpad.launches.find({"fw_id": fw_id}, {"action": 1})
    return sum(is_interruption(last_line(launch)) for launch in launches)


def _state(launchpad: LaunchPad, fw_id: int) -> str:
    return str((launchpad.fireworks.find_one({"fw_id": fw_id}, {"state": 1}) or {"state": "gone"})["state"])
