"""FireWorks' two counters, safe also where findAndModify returns what it had read before its turn.

FireWorks takes the number of a new firework or launch from the document as it was *before* `$inc`. The embedded server
reads that document outside the lock under which it writes, so two rockets that ask within a few milliseconds get one
number for two launches, and the step that ends first also ends the other one. The document as it is *afterwards* is
right with every server, and tells the same number.
"""

from __future__ import annotations

from fireworks import LaunchPad
from pymongo import ReturnDocument


def new_fw_id(launchpad: LaunchPad, quantity: int = 1) -> int:
    """The first of `quantity` numbers for new fireworks. ValueError if the database is not prepared for FireWorks."""
    return _next(launchpad, "next_fw_id", quantity)


def new_launch_id(launchpad: LaunchPad) -> int:
    """The number of a new launch. ValueError if the database is not prepared for FireWorks."""
    return _next(launchpad, "next_launch_id", 1)


def _next(launchpad: LaunchPad, counter: str, quantity: int) -> int:
    after = launchpad.fw_id_assigner.find_one_and_update(
        {}, {"$inc": {counter: quantity}}, return_document=ReturnDocument.AFTER
    )
    if after is None:
        raise ValueError("FireWorks' counters are missing: prepare the database with `kmde db start` or `lpad reset`")
    return int(after[counter]) - quantity


def use() -> None:
    """Let FireWorks of this process count so.

    A rocket imports its task's module before it asks for the launch's number: that holds for plain `rlaunch`, too, and
    is why this is not a subclass, which FireWorks' own programs would not know.
    """
    LaunchPad.get_new_fw_id = new_fw_id
    LaunchPad.get_new_launch_id = new_launch_id
