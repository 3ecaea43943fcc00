"""Campaigns that are not finished, and workers, stand in a migration's way."""

from __future__ import annotations

import pytest
from fireworks import Firework

from kmde_fw.errors import StoreError
from kmde_fw.records import SCHEMA_VERSION
from kmde_fw.store import read_launchpad
from kmde_fw.workflows.cycle import Finish
from kmde_fw.workflows.launchpad import open_launchpad
from kmde_fw.workflows.migration import migrate_database


@pytest.fixture
def pad(launchpad_file):
    """A LaunchPad with a campaign of schema version 1 that has one firework."""
    launchpad = open_launchpad(read_launchpad(launchpad_file))
    config = {"training": {}, "design": {}, "stop": {}, "reference": {}}
    launchpad.db["campaigns"].insert_one({"_id": "c", "state": "running", "config": config, "schema_version": 1})
    launchpad.db["kmde_meta"].insert_one({"_id": "schema", "version": 1})
    launchpad.add_wf(Firework(Finish(campaign="c", cycle=0), spec={"kmde": {"campaign": "c"}}))
    yield launchpad
    launchpad.connection.close()


def test_a_campaign_ends_with_its_version_or_is_ended(pad):
    with pytest.raises(StoreError, match=r"1 campaigns are not finished \(c\).*`kmde db migrate --end`"):
        migrate_database(pad)
    assert pad.db["kmde_meta"].find_one()["version"] == 1
    assert migrate_database(pad, end=True) == {"campaigns": 1}
    assert pad.fireworks.find_one()["state"] == "DEFUSED"
    campaign = pad.db["campaigns"].find_one()
    assert (campaign["state"], campaign["schema_version"]) == ("finished", SCHEMA_VERSION)
    assert campaign["reason"] == "ended by the migration of the database from schema version 1"
    assert migrate_database(pad) == {}


def test_nobody_works_while_documents_are_replaced(pad):
    pad.fireworks.update_one({}, {"$set": {"state": "RUNNING"}})
    with pytest.raises(StoreError, match="1 fireworks are at work in this database"):
        migrate_database(pad, end=True)
    assert pad.db["campaigns"].find_one()["state"] == "running"
