"""FireWorks' lock of a workflow, which says who holds it, so that nobody waits for the dead.

FireWorks writes `locked: True`. Where its holder is killed, or the database dies before it is told of the release, all
others wait for five minutes, and then leave what they wanted to write unwritten. Here the lock is the name of its
holder: a process of the same machine that is no more loses it at once, and a release waits for the database.
"""

from __future__ import annotations

import itertools
import random
import socket
import time
from typing import Any

from fireworks import LaunchPad
from fireworks.core.launchpad import LockedWorkflowError, WFLock
from pymongo.errors import ConnectionFailure

from kmde_fw.processes import identity, is_running

#: seconds between two looks at a lock that another one holds
PAUSE = 0.2
#: seconds that a release waits for a database that is away
PATIENCE = 60.0

_numbers = itertools.count()


def new_lock() -> str:
    """What is written where a workflow is locked: this process, and a number that it never uses again."""
    pid, started = identity()
    return f"kmde {socket.gethostname()} {pid} {started!r} {next(_numbers)}"


def is_of_living(lock: Any) -> bool | None:
    """Whether the holder of a lock lives; None where that cannot be known here (another machine, FireWorks' own)."""
    words = str(lock).split()
    if len(words) != 5 or words[0] != "kmde" or words[1] != socket.gethostname():
        return None
    return is_running(int(words[2]), float(words[3]))


def enter(lock: WFLock) -> None:
    """Hold the workflow of a firework. LockedWorkflowError if another one holds it for five minutes.

    ValueError if no workflow knows the firework, nor will.
    """
    workflows = lock.lp.workflows
    ours = new_lock()
    end = time.monotonic() + lock.expire_secs
    while True:
        free: dict[str, Any] = {"nodes": lock.fw_id, "locked": {"$exists": False}}
        if workflows.update_one(free, {"$set": {"locked": ours}}).modified_count:
            break
        workflow = workflows.find_one({"nodes": lock.fw_id}, {"locked": 1})
        held = (workflow or {}).get("locked")
        late = time.monotonic() > end
        if workflow is not None and held is not None and (is_of_living(held) is False or (late and lock.kill)):
            theirs = {"_id": workflow["_id"], "locked": held}
            if workflows.update_one(theirs, {"$set": {"locked": ours}}).modified_count:
                break
        elif late and workflow is None:
            raise ValueError(f"Could not find workflow in database: {lock.fw_id}")
        elif late:
            raise LockedWorkflowError(f"Could not get workflow - LOCKED: {lock.fw_id}")
        time.sleep(PAUSE * (0.5 + random.random()))
    lock.kmde_lock = ours


def leave(lock: WFLock, *_: object) -> None:
    """Let others have it, as soon as the database is there to be told."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            lock.lp.workflows.update_one({"locked": lock.kmde_lock, "nodes": lock.fw_id}, {"$unset": {"locked": True}})
            return
        except ConnectionFailure:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)


def update_wf(launchpad: LaunchPad, workflow: Any, fw_ids: list[int]) -> None:
    """As FireWorks' own, for a workflow that this process holds: write these fireworks of it, and then the workflow."""
    numbers = launchpad._upsert_fws([workflow.id_fw[fw_id] for fw_id in fw_ids])
    workflow._reassign_ids(numbers)
    new = set(numbers.values())
    known = next(fw_id for fw_id in workflow.id_fw if fw_id not in new)
    # its fields are set, where FireWorks replaces all of the document: the lock stays what it is
    if not launchpad.workflows.update_one({"nodes": known}, {"$set": workflow.to_db_dict()}).matched_count:
        raise ValueError(f"no workflow has firework {known}")


def use() -> None:
    """Let rockets of this process lock so; see `counters.use`."""
    WFLock.__enter__, WFLock.__exit__ = enter, leave
    LaunchPad._update_wf = update_wf
