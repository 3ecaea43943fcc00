"""Documents that older and present code really wrote (long lists cut short), and databases made of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from kmde_fw.config import parse_campaign
from kmde_fw.core.candidates import Recipe
from kmde_fw.errors import StoreError
from kmde_fw.records import SCHEMA_VERSION
from kmde_fw.store import COLLECTIONS, Store
from kmde_fw.store.migrations import MIGRATIONS, migrate, migrated

EXAMPLES = Path(__file__).parent / "examples"
#: fields that a document has or not
OPTIONAL = {"promise", "substitution", "state_since"}


def examples(name: str) -> dict[str, dict[str, Any]]:
    """Collection -> one of its documents."""
    found: dict[str, dict[str, Any]] = json.loads((EXAMPLES / f"{name}.json").read_text())
    return found


OLD, MIDDLE, NEW = examples("documents_1"), examples("documents_2"), examples(f"documents_{SCHEMA_VERSION}")


@pytest.mark.parametrize("collection", OLD)
def test_an_old_document_becomes_what_is_expected(collection: str):
    before = copy.deepcopy(OLD[collection])
    assert migrated(collection, OLD[collection]) == examples("migrated_1_to_3")[collection]
    assert OLD[collection] == before, "the function is pure"


@pytest.mark.parametrize("collection", OLD)
def test_a_migrated_document_has_the_fields_of_a_new_one(collection: str):
    assert set(migrated(collection, OLD[collection])) - OPTIONAL == set(NEW[collection]) - OPTIONAL


@pytest.mark.parametrize("collection", MIDDLE)
def test_version_3_says_how_first_layers_were_trained(collection: str):
    expected = {**copy.deepcopy(MIDDLE[collection]), "schema_version": 3}
    if collection in ("campaigns", "models"):
        owner = expected["config"] if collection == "campaigns" else expected
        assert "first_layer" not in owner["training"]
        owner["training"]["first_layer"] = "plain"
    assert migrated(collection, MIDDLE[collection]) == expected


@pytest.mark.parametrize("collection", NEW)
def test_documents_of_days_in_between_keep_what_they_have(collection: str):
    """A version was written until the fields of the next one were complete."""
    late = {**NEW[collection], "schema_version": 1}
    assert migrated(collection, late) == NEW[collection]
    for functions in MIGRATIONS.values():
        function = functions.get(collection, dict)
        once = function(copy.deepcopy(OLD[collection]))
        assert function(copy.deepcopy(once)) == once


def test_options_and_recipes_of_migrated_documents_are_read_by_this_code():
    settings = parse_campaign(migrated("campaigns", OLD["campaigns"])["config"])
    assert settings.model_dump(mode="json") == migrated("campaigns", OLD["campaigns"])["config"]
    for candidate in migrated("selections", OLD["selections"])["slots"][0]:
        assert Recipe.from_document(candidate["recipe"]).to_document() == candidate["recipe"]
    doped = copy.deepcopy(OLD["candidates"])
    doped["recipe"]["substitution"] = {"atom": 3, "element": "Au"}
    assert migrated("candidates", doped)["recipe"]["substitutions"] == [{"atom": 3, "element": "Au"}]


@pytest.fixture
def old_database(database):
    """A database as the first kmde_fw left it, with three documents in every collection."""
    for collection, document in OLD.items():
        others = [{"_id": f"{document['_id']}{k}", "campaign": f"another {k}"} for k in (1, 2)]
        database[collection].insert_many([document, *({**document, **other} for other in others)])
    database["campaigns"].update_many({}, {"$set": {"state": "finished"}})
    database["kmde_meta"].insert_one({"_id": "schema", "version": 1, "code_version": "0.1.0"})
    return database


def test_a_database_of_an_older_version_is_refused_and_migrated_once(old_database):
    with pytest.raises(StoreError, match=r"has schema version 1 .*: `kmde db migrate` brings it there"):
        Store(old_database)
    changed = migrate(old_database, COLLECTIONS)
    assert changed == dict.fromkeys((name for name in COLLECTIONS if name in OLD), 3)
    assert migrate(old_database, COLLECTIONS) == {}
    store = Store(old_database)
    assert all(store.count(name, {"schema_version": SCHEMA_VERSION}) == 3 for name in OLD)
    expected = migrated("labels", {**OLD["labels"]})
    assert store.get("labels", expected["_id"]) == expected
    assert "short_1" in old_database["labels"].index_information(), "indexes were made"


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 4, 20, 35])
def test_an_interrupted_migration_locks_the_database_and_goes_on(old_database, after: int, monkeypatch):
    from kmde_fw.store import migrations

    left = after

    def killed(collection: str, document: dict[str, Any]) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return migrated(collection, document)

    monkeypatch.setattr(migrations, "migrated", killed)
    with pytest.raises(Killed):
        migrate(old_database, COLLECTIONS)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="its migration was interrupted: `kmde db migrate` completes it"):
        Store(old_database)
    assert old_database["kmde_meta"].find_one()["version"] == SCHEMA_VERSION, "older code is kept out from the start"
    assert sum(migrate(old_database, COLLECTIONS).values()) == 3 * len(OLD) - after
    store = Store(old_database)
    for name, document in OLD.items():
        assert store.get(name, document["_id"]) == {
            **migrated(name, document),
            **({"state": "finished"} if name == "campaigns" else {}),
        }


def test_a_newer_version_is_refused_by_everything(database):
    Store(database)
    database["kmde_meta"].update_one({"_id": "schema"}, {"$set": {"version": SCHEMA_VERSION + 1}})
    for call in (lambda: Store(database), lambda: migrate(database, COLLECTIONS)):
        with pytest.raises(StoreError, match=f"knows versions up to {SCHEMA_VERSION}: use that kmde_fw or a newer one"):
            call()


def test_nothing_is_migrated_where_there_is_nothing(database):
    with pytest.raises(StoreError, match="has no documents of kmde_fw"):
        migrate(database, COLLECTIONS)
    Store(database)
    assert migrate(database, COLLECTIONS) == {}
