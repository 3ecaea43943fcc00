"""FireWorks' sign of life, which an outage of the database does not silence for good.

A thread of each rocket says every few minutes that its launch lives. FireWorks lets it end with the first error: a VASP
run that goes on for a day after its database was restarted would be taken for lost, and be computed again.
"""

from __future__ import annotations

from typing import Any

from fireworks import LaunchPad
from pymongo.errors import PyMongoError

_ping_launch = LaunchPad.ping_launch


def ping_launch(launchpad: LaunchPad, launch_id: int, ptime: Any = None, checkpoint: Any = None) -> None:
    """Say that a launch lives; a checkpoint also says how far it is, and must arrive."""
    try:
        _ping_launch(launchpad, launch_id, ptime, checkpoint)
    except PyMongoError:
        if checkpoint is not None:
            raise


def use() -> None:
    """Let rockets of this process ping so; see `counters.use`."""
    LaunchPad.ping_launch = ping_launch
