"""FireWorks' LaunchPad on the database of a launchpad.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fireworks import LaunchPad

from kmde_fw.errors import StoreError
from kmde_fw.store.connect import Connection, connect, read_launchpad, sentences


def open_launchpad(connection: Connection) -> LaunchPad:
    """The LaunchPad, after its database has answered; it prints warnings only. StoreError within 5 s if it does not.

    The caller closes it: `launchpad.connection.close()`.
    """
    connect(connection).client.close()
    return LaunchPad.from_dict(
        {**connection.settings, "mongoclient_kwargs": connection.client_arguments, "strm_lvl": "WARNING"}
    )


@contextmanager
def launchpad_of(path: Path | None) -> Iterator[LaunchPad]:
    """The LaunchPad of a launchpad.yaml (None: the one that is found), ready for use; closed at the end."""
    launchpad = open_launchpad(read_launchpad(path))
    try:
        ensure_initialised(launchpad)
        yield launchpad
    finally:
        launchpad.connection.close()


def ensure_initialised(launchpad: LaunchPad) -> bool:
    """Make FireWorks' counters and indexes where they are missing. True if they were.

    It is what `lpad reset` does to an empty database, without deleting anything, so that two processes may do it at
    once and a database in use is left as it is.
    """
    with sentences(launchpad.db):
        if launchpad.fw_id_assigner.find_one() is not None:
            return False
        if launchpad.workflows.find_one() is not None or launchpad.fireworks.find_one() is not None:
            raise StoreError(
                f"database {launchpad.name} has fireworks but not FireWorks' counter of them (fw_id_assigner): "
                "it is damaged; restore it, or use another `name` in launchpad.yaml"
            )
        launchpad.tuneup()
        # the counters last: they are the sign that all is there; the _id is the one that FireWorks itself uses
        counters = {"next_fw_id": 1, "next_launch_id": 1}
        written = launchpad.fw_id_assigner.update_one({"_id": -1}, {"$setOnInsert": counters}, upsert=True)
    return written.upserted_id is not None
