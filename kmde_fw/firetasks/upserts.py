"""FireWorks' writing of many fireworks, in two commands instead of two for each of them.

A workflow is locked while the fireworks of its next cycle are written, and again when a step ends on which many others
wait: with one command after the other, 64 shards and 200 labels hold it for half a minute on a busy machine.
"""

from __future__ import annotations

from fireworks import Firework, LaunchPad
from pymongo import InsertOne, ReplaceOne

_upsert_fws = LaunchPad._upsert_fws


def upsert_fws(launchpad: LaunchPad, fws: list[Firework], reassign_all: bool = False) -> dict[int, int]:
    """Write these fireworks, those first that are new. Returns the numbers of these: as they were -> as they are."""
    if reassign_all or not fws:
        return dict(_upsert_fws(launchpad, fws, reassign_all))
    # new ones have negative numbers, and are there before the parent that says that it has spawned them
    fws.sort(key=lambda firework: firework.fw_id)
    new = [firework for firework in fws if firework.fw_id < 0]
    numbers = {}
    if new:
        first = launchpad.get_new_fw_id(quantity=len(new))
        for number, firework in enumerate(new, start=first):
            numbers[firework.fw_id] = number
            firework.fw_id = number
    known = [ReplaceOne({"fw_id": firework.fw_id}, firework.to_db_dict(), upsert=True) for firework in fws[len(new) :]]
    launchpad.fireworks.bulk_write([*(InsertOne(firework.to_db_dict()) for firework in new), *known], ordered=True)
    return numbers


def use() -> None:
    """Let rockets of this process write so; see `counters.use`."""
    LaunchPad._upsert_fws = upsert_fws
