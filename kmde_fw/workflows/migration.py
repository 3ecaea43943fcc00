"""A database of an older kmde_fw brought to the documents of this one, while nobody works on it."""

from __future__ import annotations

from fireworks import LaunchPad

from kmde_fw.errors import StoreError
from kmde_fw.records import SCHEMA_VERSION
from kmde_fw.store import COLLECTIONS
from kmde_fw.store.connect import sentences
from kmde_fw.store.migrations import migrate

#: states from which a firework may still be launched
_ALIVE = ("WAITING", "READY", "FIZZLED", "PAUSED")


def migrate_database(launchpad: LaunchPad, end: bool = False) -> dict[str, int]:
    """Migrate all documents; see `store.migrations.migrate`. Returns how many were changed, by collection.

    A campaign never goes on with another schema version than it began with: half of a cycle's documents would come from
    code that builds other candidates. StoreError while there are running ones, unless `end`: then they are finished
    as they are, and their fireworks defused. StoreError, in any case, while fireworks are at work.
    """
    with sentences(launchpad.db):
        schema = launchpad.db["kmde_meta"].find_one({"_id": "schema"}) or {}
        running = [] if "migrating_from" in schema else _running(launchpad, schema)
        if running and not end:
            raise StoreError(
                f"{len(running)} campaigns are not finished ({', '.join(running[:5])}), and a campaign ends with the "
                "version that it began with: let the kmde_fw that submitted them finish them, or end them as they are "
                "with `kmde db migrate --end` (new campaigns reuse their labels)"
            )
        for name in running:
            query = {"spec.kmde.campaign": name, "state": {"$in": list(_ALIVE)}}
            for fw_id in launchpad.get_fw_ids(query):
                launchpad.defuse_fw(fw_id)
            reason = f"ended by the migration of the database from schema version {schema['version']}"
            launchpad.db["campaigns"].update_one({"_id": name}, {"$set": {"state": "finished", "reason": reason}})
    return migrate(launchpad.db, COLLECTIONS)


def _running(launchpad: LaunchPad, schema: dict[str, object]) -> list[str]:
    """Names of the campaigns that are not finished; none in a database that needs no migration."""
    if not schema or schema["version"] == SCHEMA_VERSION:
        return []
    at_work = launchpad.fireworks.count_documents({"state": {"$in": ["RUNNING", "RESERVED"]}})
    if at_work:
        raise StoreError(
            f"{at_work} fireworks are at work in this database (state RUNNING or RESERVED): stop the workers first; "
            "`lpad detect_lostruns --fizzle` sees those that are not there any more"
        )
    return sorted(document["_id"] for document in launchpad.db["campaigns"].find({"state": "running"}, {"_id": 1}))
