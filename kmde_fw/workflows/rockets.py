"""What FireWorks knows about one campaign: states, reasons of what fizzled, and what a dead worker left behind."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fireworks import FWorker, LaunchPad
from fireworks.fw_config import WFLOCK_EXPIRATION_SECS

from kmde_fw.firetasks.locks import is_of_living
from kmde_fw.processes import is_running
from kmde_fw.store.connect import says_outage

#: states in which a firework will still do something without anybody's help
ALIVE = ("READY", "RESERVED", "RUNNING")

#: FireWorks holds a workflow's lock for a moment; one that stays so long is that of a killed worker
LOCK_SECONDS = 10.0
#: seconds between two looks at it
LOCK_PAUSE = 0.1

#: what FireWorks writes in two steps it writes within this time; half of it that stays so long was left by a kill
RESERVING_SECONDS = 2.0


#: fireworks that a worker chooses from: more than there are workers that choose at the same moment
CHOICE = 50

#: launches of one firework that the database may spoil before it stays FIZZLED: there may be more to it than an outage
OUTAGES = 10


class Choosing(FWorker):
    """A worker that takes only these fireworks now; for `kmde doctor` its launches say what it takes otherwise."""

    fw_ids: Sequence[int] | None = None

    @property
    def query(self) -> dict[str, Any]:
        """What FireWorks looks for."""
        everything: dict[str, Any] = super().query
        return everything if self.fw_ids is None else {"$and": [everything, {"fw_id": {"$in": list(self.fw_ids)}}]}


def worker_for(campaign: str, env: dict[str, Any] | None = None) -> Choosing:
    """A worker that takes this campaign's fireworks only; its name tells host and process. env: of this machine."""
    name = f"kmde {socket.gethostname()} {os.getpid()}"
    return Choosing(name=name, query={"spec.kmde.campaign": campaign}, env=env)


def next_fireworks(launchpad: LaunchPad, campaigns: Sequence[str]) -> tuple[bool, str | None, list[int]]:
    """Whether any of these will still do something; the first of them that has fireworks to launch, and their ids."""
    query = {"state": {"$in": list(ALIVE)}, "spec.kmde.campaign": {"$in": list(campaigns)}}
    found = list(launchpad.fireworks.find(query, {"state": 1, "spec.kmde.campaign": 1}))
    ready = {document["spec"]["kmde"]["campaign"] for document in found if document["state"] == "READY"}
    for campaign in campaigns:
        fw_ids = launchable(launchpad, {"spec.kmde.campaign": campaign}) if campaign in ready else []
        if fw_ids:
            return True, campaign, fw_ids
    return bool(found), None, []


def launchable(launchpad: LaunchPad, query: dict[str, Any]) -> list[int]:
    """READY fireworks of a query, the first CHOICE of them, as far as a workflow knows them.

    FireWorks writes the fireworks of a next cycle before their workflow. Who takes one of them meanwhile waits five
    minutes and fails, should whoever wrote them have been killed or cut off in between.
    """
    first = [("spec._priority", -1), ("fw_id", 1)]
    documents = launchpad.fireworks.find({**query, "state": "READY"}, {"fw_id": 1}).sort(first).limit(CHOICE)
    ids = [document["fw_id"] for document in documents]
    orphans = set(_orphans(launchpad, ids))
    return [fw_id for fw_id in ids if fw_id not in orphans]


def fizzled(launchpad: LaunchPad, campaign: str) -> list[dict[str, Any]]:
    """Fireworks that failed: fw_id, name, and the last line of their traceback."""
    found = []
    query = {"spec.kmde.campaign": campaign, "state": "FIZZLED"}
    fields = {"fw_id": 1, "name": 1, "launches": 1, "spec._exception_details": 1}
    # documents only: FireWorks would import what it cannot import here
    for document in list(launchpad.fireworks.find(query, fields).sort("fw_id")):
        launch = launchpad.launches.find_one({"launch_id": {"$in": document["launches"][-1:]}}, {"action": 1}) or {}
        trace = _traceback(launch)
        if not launch:
            trace = str(document["spec"].get("_exception_details", {}).get("_stacktrace", "")).strip()
        reason = (trace.splitlines() or ["its worker died or was killed"])[-1]
        found.append({"fw_id": document["fw_id"], "name": document["name"], "reason": reason, "traceback": trace})
    return found


def last_line(launch: dict[str, Any]) -> str:
    """The last line of a failed launch's traceback; empty if it left none."""
    return (_traceback(launch).splitlines() or [""])[-1]


def _traceback(launch: dict[str, Any]) -> str:
    stored = (launch.get("action") or {}).get("stored_data") or {}
    return str((stored.get("_exception") or {}).get("_stacktrace") or "").strip()


def forget(launchpad: LaunchPad, campaign: str) -> None:
    """Take the campaign's workflows, with fireworks and launches, off the LaunchPad; launch directories stay."""
    while (document := launchpad.fireworks.find_one({"spec.kmde.campaign": campaign}, {"fw_id": 1})) is not None:
        if launchpad.workflows.find_one({"nodes": document["fw_id"]}, {"_id": 1}) is None:
            launchpad.fireworks.delete_many({"fw_id": document["fw_id"]})
        else:
            launchpad.delete_wf(document["fw_id"])


def count_states(launchpad: LaunchPad, campaign: str) -> Counter[str]:
    """How many of the campaign's fireworks are in which state."""
    documents = launchpad.fireworks.find({"spec.kmde.campaign": campaign}, {"state": 1})
    return Counter(document["state"] for document in documents)


def recover(launchpad: LaunchPad, campaign: str) -> list[str]:
    """Make READY again what fizzled, and what runs on a worker of this host whose process is gone. Returns names.

    A worker killed while FireWorks was writing its result may also leave the workflow locked, and fireworks of the next
    cycle that belong to no workflow, and children that were never told that a parent is done: all are mended first.
    """
    tidy(launchpad, campaign)
    again = []
    nobodys = reserved_by_nobody(launchpad, campaign)
    query = {"spec.kmde.campaign": campaign, "state": {"$in": ["FIZZLED", "RUNNING", "RESERVED"]}}
    for document in list(launchpad.fireworks.find(query, {"fw_id": 1, "name": 1, "state": 1}).sort("fw_id")):
        fw_id = document["fw_id"]
        if document["state"] == "FIZZLED" or fw_id in nobodys or _worker_is_gone(launchpad, fw_id):
            launchpad.rerun_fw(fw_id)
            again.append(document["name"])
    return again


def tidy(launchpad: LaunchPad, campaign: str, among_others: bool = False) -> None:
    """What FireWorks' own writing left halfway when its process was killed: a lock, orphans, children not told.

    For a campaign of which no firework runs: a living worker may be writing just that. among_others: other workers may
    be doing the same just now; what has to spawn once more is then made READY by one of them.
    """
    unlock(launchpad, campaign)
    remove_orphans(launchpad, {"spec.kmde.campaign": campaign})
    for fw_id, launch_id in sorted(unspawned(launchpad, campaign).items()):
        if not among_others or is_ours_to_take(launchpad, launch_id):
            launchpad.rerun_fw(fw_id)
    _refresh(launchpad, campaign)


def halfway(launchpad: LaunchPad, campaign: str) -> list[str]:
    """What `tidy` would mend, in words; nothing while a firework of the campaign runs, whose worker may be writing."""
    query = {"spec.kmde.campaign": campaign}
    if launchpad.fireworks.find_one({**query, "state": {"$in": ["RUNNING", "RESERVED"]}}, {"_id": 1}) is not None:
        return []
    found = []
    if launchpad.workflows.find_one({"metadata.campaign": campaign, "locked": {"$exists": True}}, {"_id": 1}):
        found.append("its workflow is locked, and nobody is there to unlock it")
    orphans = _orphans(launchpad, launchpad.get_fw_ids(query))
    if orphans:
        found.append(f"{len(orphans)} fireworks belong to no workflow")
    asleep = [fw_id for _, ids in _asleep(launchpad, campaign) for fw_id in ids]
    if asleep:
        found.append(f"firework {asleep[0]} waits although all that it waits for is done")
    lost = sorted(unspawned(launchpad, campaign))
    if lost:
        found.append(f"firework {lost[0]} is done, and what it was to spawn is nowhere")
    return found


def take_back(launchpad: LaunchPad, campaign: str) -> list[str]:
    """Make READY again what runs on a worker of this host whose process is gone, while other workers go on.

    Where nothing runs, what a worker of any host left half-written is mended, too (see `tidy`). Returns names. Several
    workers may call it at once: one of them makes a lost firework READY.
    """
    again = []
    query = {"spec.kmde.campaign": campaign, "state": {"$in": ["RUNNING", "RESERVED"]}}
    nobodys: set[int] | None = None
    for document in list(launchpad.fireworks.find(query, {"fw_id": 1, "name": 1, "launches": 1}).sort("fw_id")):
        fw_id, launches = document["fw_id"], document["launches"]
        if launches and not (_worker_is_gone(launchpad, fw_id) and is_ours_to_take(launchpad, launches[-1])):
            continue
        if not launches:
            nobodys = reserved_by_nobody(launchpad, campaign) if nobodys is None else nobodys
            if fw_id not in nobodys:
                continue
        unlock(launchpad, campaign)
        launchpad.rerun_fw(fw_id)
        again.append(document["name"])
    if halfway(launchpad, campaign):
        tidy(launchpad, campaign, among_others=True)
        ready = launchable(launchpad, {"spec.kmde.campaign": campaign})
        again += [document["name"] for document in launchpad.fireworks.find({"fw_id": {"$in": ready}}, {"name": 1})]
    return again


def after_rocket(launchpad: LaunchPad, whose: dict[str, Any]) -> str | None:
    """Mend what FireWorks left of a worker's latest launch where the database was away, or a workflow locked for long.

    whose: query for the worker's launches. A launch may have ended of which the firework was not told. FireWorks also
    catches the driver's errors and says, the database being back, that the step failed: it is made READY again, and
    what was half written by then (see `tidy`) is mended. Returns the name of such a step.
    """
    fields = {"launch_id": 1, "state": 1, "action": 1}
    launch = launchpad.launches.find_one(whose, fields, sort=[("launch_id", -1)])
    if launch is None:
        return None
    query = {"launches": launch["launch_id"]}
    fields = {"fw_id": 1, "name": 1, "state": 1, "spec.kmde": 1, "archived_launches": 1}
    firework = launchpad.fireworks.find_one(query, fields)
    if firework is not None and firework["state"] == "RUNNING" and launch["state"] in ("COMPLETED", "FIZZLED"):
        launchpad._refresh_wf(firework["fw_id"])
        firework = launchpad.fireworks.find_one(query, fields)
    if firework is None or (firework["state"], launch["state"]) != ("FIZZLED", "FIZZLED"):
        return None
    if not says_outage(last_line(launch)) or len(firework["archived_launches"]) >= OUTAGES:
        return None
    tidy(launchpad, firework["spec"]["kmde"]["campaign"], among_others=True)
    launchpad.rerun_fw(firework["fw_id"])
    return str(firework["name"])


def is_ours_to_take(launchpad: LaunchPad, launch_id: int) -> bool:
    """True for the first who asks about a lost launch."""
    lost = {"launch_id": launch_id, "kmde_taken_back": {"$exists": False}}
    return bool(launchpad.launches.update_one(lost, {"$set": {"kmde_taken_back": True}}).modified_count)


def after_outage(launchpad: LaunchPad, campaign: str, worker: FWorker) -> None:
    """Make READY again what this worker was at when the database did not answer any more, and mend what was left half.

    The firework may be RUNNING on nobody, or FIZZLED because its result could not be written.
    """
    tidy(launchpad, campaign, among_others=True)
    lost = reserved_by_nobody(launchpad, campaign)
    latest = launchpad.launches.find_one({"fworker.name": worker.name}, {"launch_id": 1}, sort=[("launch_id", -1)])
    if latest is not None:
        query = {"launches": latest["launch_id"], "state": {"$in": ["RUNNING", "RESERVED", "FIZZLED"]}}
        lost |= {document["fw_id"] for document in launchpad.fireworks.find(query, {"fw_id": 1})}
    for fw_id in sorted(lost):
        launchpad.rerun_fw(fw_id)


def reserved_by_nobody(launchpad: LaunchPad, campaign: str) -> set[int]:
    """Fireworks RESERVED without a launch: a worker was killed between the two, for which it needs milliseconds.

    They are looked at twice, as clocks of two machines cannot tell how long it has been so.
    """

    def look() -> set[tuple[int, str]]:
        query = {"spec.kmde.campaign": campaign, "state": "RESERVED", "launches": []}
        found = launchpad.fireworks.find(query, {"fw_id": 1, "updated_on": 1})
        return {(document["fw_id"], str(document["updated_on"])) for document in found}

    first = look()
    if not first:
        return set()
    time.sleep(RESERVING_SECONDS)
    return {fw_id for fw_id, _ in first & look()}


def unspawned(launchpad: LaunchPad, campaign: str) -> dict[int, int]:
    """COMPLETED fireworks whose detours are nowhere, with the launch that was to spawn them.

    FireWorks writes the detours, then that their parent is COMPLETED, and the workflow last.
    A kill in between leaves the detours outside of any workflow (see `remove_orphans`) and nobody who would spawn them.
    """
    query = {"spec.kmde.campaign": campaign}
    fireworks = list(launchpad.fireworks.find(query, {"fw_id": 1, "name": 1, "state": 1, "launches": 1}))
    names = {firework["name"] for firework in fireworks}
    done = {launch_id: f["fw_id"] for f in fireworks if f["state"] == "COMPLETED" for launch_id in f["launches"]}
    found = {}
    for launch in launchpad.launches.find(
        {"fw_id": {"$in": sorted(done.values())}}, {"launch_id": 1, "action.detours": 1}
    ):
        detours = (launch.get("action") or {}).get("detours") or []
        # each of them a workflow, or a single firework
        wanted = {firework["name"] for detour in detours for firework in detour.get("fws", [detour])}
        if wanted and launch["launch_id"] in done and not wanted & names:
            found[done[launch["launch_id"]]] = launch["launch_id"]
    return found


def remove_orphans(launchpad: LaunchPad, query: dict[str, Any]) -> bool:
    """Delete those of the fireworks that no workflow knows. True if none of the others is left, either.

    They are looked at twice: a worker that is just writing has the fireworks first and their workflow then.
    """
    ids = launchpad.get_fw_ids(query)
    orphans = _orphans(launchpad, ids)
    if orphans:
        time.sleep(RESERVING_SECONDS)
        ids = launchpad.get_fw_ids(query)
        orphans = sorted(set(orphans) & set(_orphans(launchpad, ids)))
        launchpad.fireworks.delete_many({"fw_id": {"$in": orphans}})
    return len(orphans) == len(ids)


def _orphans(launchpad: LaunchPad, ids: list[int]) -> list[int]:
    """Those of the fireworks that no workflow knows."""
    known: set[int] = set()
    for workflow in launchpad.workflows.find({"nodes": {"$in": ids}}, {"nodes": 1}):
        known.update(workflow["nodes"])
    return [fw_id for fw_id in ids if fw_id not in known]


def unlock(launchpad: LaunchPad, campaign: str) -> None:
    """Take away a lock that nobody holds any more. FireWorks itself would wait for it for minutes and then give up.

    One whose holder lives on this machine is waited for; one of another machine if it does not change for LOCK_SECONDS.
    """
    query = {"metadata.campaign": campaign, "locked": {"$exists": True}}
    seen, end = None, 0.0
    while (workflow := launchpad.workflows.find_one(query, {"locked": 1})) is not None:
        lock = workflow["locked"]
        lives = is_of_living(lock)
        if (workflow["_id"], lock) != seen:
            seen = (workflow["_id"], lock)
            end = time.monotonic() + (WFLOCK_EXPIRATION_SECS if lives else LOCK_SECONDS)
        if lives is False or time.monotonic() > end:
            launchpad.workflows.update_one({"_id": workflow["_id"], "locked": lock}, {"$unset": {"locked": True}})
        else:
            time.sleep(LOCK_PAUSE)


def _refresh(launchpad: LaunchPad, campaign: str) -> None:
    """Wake fireworks that wait although all their parents are done, where a kill came between the two."""
    for workflow, asleep in _asleep(launchpad, campaign):
        # the workflow's own note of the states may be older than the fireworks
        launchpad.workflows.update_one({"_id": workflow["_id"]}, {"$set": workflow["states"]})
        for fw_id in asleep:
            launchpad._refresh_wf(fw_id)


def _asleep(launchpad: LaunchPad, campaign: str) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Workflows (_id, and their fireworks' `states` as a change of them) with those that wait for nothing."""
    fireworks = launchpad.fireworks.find({"spec.kmde.campaign": campaign}, {"state": 1, "fw_id": 1})
    states = {document["fw_id"]: document["state"] for document in fireworks}
    for workflow in list(launchpad.workflows.find({"metadata.campaign": campaign}, {"parent_links": 1, "nodes": 1})):
        asleep = [
            fw_id
            for fw_id in sorted(workflow["nodes"])
            if states.get(fw_id) == "WAITING"
            and all(states.get(parent) == "COMPLETED" for parent in workflow["parent_links"].get(str(fw_id), []))
        ]
        if asleep:
            noted = {f"fw_states.{fw_id}": states[fw_id] for fw_id in workflow["nodes"] if fw_id in states}
            yield {"_id": workflow["_id"], "states": noted}, asleep


def _worker_is_gone(launchpad: LaunchPad, fw_id: int) -> bool:
    launches = launchpad.get_fw_by_id(fw_id).launches
    words = launches[-1].fworker.name.split() if launches and launches[-1].fworker else []
    if len(words) != 3 or words[0] != "kmde" or words[1] != socket.gethostname():
        return False
    return not is_running(int(words[2]), None)
