"""From one schema version of the documents to the next: a pure function per collection, and what applies them.

Version 1 is kmde_fw 0.1.0 before its documents told opinions, promises, costs and categories; version 2 is all of that,
`null` or empty where an older kmde_fw did not measure it. With version 3 trainings have `first_layer`, and `vicinity`
in opinions and promises is what a Gaussian process does not know; in older documents it stays what it was, a mean
distance from the train set. A function fills in what is missing and leaves what is there, so that it may meet documents
of every day between two versions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from kmde_fw import __version__
from kmde_fw.errors import StoreError
from kmde_fw.records import SCHEMA_VERSION
from kmde_fw.store.connect import Documents, address_of, sentences

Document = dict[str, Any]

#: characters of a content hash that are stored as `short`
SHORT = 6


def campaigns_2(document: Document) -> Document:
    """Options that did not exist have the values that mean what the older code did."""
    config = document["config"]
    new: dict[str, Document] = {
        "descriptor": {"cutoff_function": "cosine"},
        "training": {"device": "cpu", "force_weight_near": None},
        "design": {"keep_columns": True, "derive_parents": False},
        "vicinity": {"displacement": 0.05, "strain": 0.02},
        "stop": {
            "rule": "converged",
            "vicinity_gain": None,
            "energy_change": None,
            "force_change": None,
            "max_cost": None,
        },
        "reference": {"max_failed_fraction": 1.0},
    }
    for section, added in new.items():
        config[section] = {**added, **config.get(section, {})}
    document["config"] = {"evaluate": {}, "dopant": None, **config}
    return {"evaluate_labels": {}, **document}


def campaigns_3(document: Document) -> Document:
    """First layers were trained as they are."""
    document["config"]["training"].setdefault("first_layer", "plain")
    return document


def structures_2(document: Document) -> Document:
    """`short`."""
    return {**document, "short": document["_id"][:SHORT]}


def labels_2(document: Document) -> Document:
    """`short`, and what else is known of a calculation."""
    return {"details": {}, **document, "short": document["_id"][:SHORT]}


def models_2(document: Document) -> Document:
    """`short`; where it was trained; which structures could not be held out is not known."""
    document["training"].setdefault("device", "cpu")
    return {"always_train": None, "versions": {}, **document, "short": document["_id"][:SHORT]}


def models_3(document: Document) -> Document:
    """First layers were trained as they are."""
    document["training"].setdefault("first_layer", "plain")
    return document


def analyses_2(document: Document) -> Document:
    """No opinion was measured, no neighbours counted."""
    for outlier in document["outliers"]:
        outlier.setdefault("neighbours", {})
    return {"opinion": None, "columns": [], **document}


def evaluations_2(document: Document) -> Document:
    """No further sets, no categories, no cost."""
    document["metrics"].setdefault("evaluate", {})
    for row in document["rows"]:
        row.setdefault("evaluate", {})
        row.setdefault("categories", None)
    unknown: Document = {
        "reused": [],
        "changes": None,
        "force_parity": None,
        "dopant": None,
        "categories": None,
        "cost": None,
    }
    return {**unknown, **document}


def candidates_2(document: Document) -> Document:
    """The candidate's recipe as it is written now."""
    return {"motifs": {}, **document, "recipe": _recipe_2(document["recipe"])}


def selections_2(document: Document) -> Document:
    """The recipes of picks and reserves, and a summary of no candidates."""
    document["slots"] = [[candidates_2(candidate) for candidate in slot] for slot in document["slots"]]
    return {"summary": [], "generate_seconds": None, "remaining": None, **document}


def outcomes_2(document: Document) -> Document:
    """Whether a label was there before was not noted; refused labels with their state."""
    for refused in document["refused"]:
        refused.setdefault("state", "rejected")
    return {"reused": False, "open_motifs": [], **document}


def cycles_2(document: Document) -> Document:
    """Nothing was promised and nothing measured beside the errors."""
    document["metrics"].setdefault("evaluate", {})
    unknown: Document = {
        "opinion": None,
        "changes": None,
        "promised": [],
        "remaining": None,
        "realised": {},
        "cost": None,
        "spent": None,
        "early_stop": "",
    }
    return {**unknown, **document}


def claims_2(document: Document) -> Document:
    """Since when the owner has it: by the clock of the machine that wrote it, for want of the server's."""
    return {"since": document["created"], **document}


def _recipe_2(recipe: Document) -> Document:
    """One substitution on one cell became any number of them on several."""
    if "substitutions" in recipe:
        return recipe
    one = recipe["substitution"]
    others = {key: value for key, value in recipe.items() if key != "substitution"}
    return {**others, "cells": [1, 1, 1], "substitutions": [] if one is None else [one]}


#: version that a function leads to -> collection -> the function; collections without one only get the new number
MIGRATIONS: dict[int, dict[str, Callable[[Document], Document]]] = {
    2: {
        "campaigns": campaigns_2,
        "structures": structures_2,
        "labels": labels_2,
        "models": models_2,
        "analyses": analyses_2,
        "evaluations": evaluations_2,
        "candidates": candidates_2,
        "selections": selections_2,
        "outcomes": outcomes_2,
        "cycles": cycles_2,
        "claims": claims_2,
    },
    3: {"campaigns": campaigns_3, "models": models_3},
}


def migrated(collection: str, document: Mapping[str, Any]) -> Document:
    """A document of any older schema version as one of this version; `document` itself stays as it is."""
    new = copy.deepcopy(dict(document))
    for version in range(new["schema_version"] + 1, SCHEMA_VERSION + 1):
        new = MIGRATIONS[version].get(collection, dict)(new)
        new["schema_version"] = version
    return new


def check_version(schema: Mapping[str, Any], name: str, address: str) -> None:
    """StoreError unless a database with this schema document may be worked on."""
    version, there = schema["version"], f"database {name} at {address}"
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{there} has schema version {version} (written by kmde_fw {schema.get('code_version', '?')}), this "
            f"kmde_fw {__version__} knows versions up to {SCHEMA_VERSION}: use that kmde_fw or a newer one "
            "(`pip install --upgrade kmde_fw`), or another `name` in launchpad.yaml"
        )
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"{there} has schema version {version} (written by kmde_fw {schema.get('code_version', '?')}), this "
            f"kmde_fw {__version__} needs {SCHEMA_VERSION}: `kmde db migrate` brings it there, after which older ones "
            "are refused"
        )
    if "migrating_from" in schema:
        raise StoreError(f"{there} is being migrated, or its migration was interrupted: `kmde db migrate` completes it")


def migrate(database: Documents, collections: Mapping[str, Any]) -> dict[str, int]:
    """Bring all documents to SCHEMA_VERSION. Returns how many were changed, by collection; nothing twice.

    It may be interrupted at any moment and called again: the database names the new version first, so that no kmde_fw
    works on it meanwhile, then each document is replaced as a whole, and the note of the migration goes last.
    StoreError if the database is of a newer version, or none of kmde_fw.
    """
    with sentences(database):
        meta = database["kmde_meta"]
        schema = meta.find_one({"_id": "schema"})
        if schema is None:
            raise StoreError(f"database {database.name} at {address_of(database)} has no documents of kmde_fw")
        if schema["version"] > SCHEMA_VERSION:
            check_version(schema, database.name, address_of(database))
        oldest: int = schema["migrating_from"] if "migrating_from" in schema else schema["version"]
        if oldest == SCHEMA_VERSION:
            return {}
        note = {"version": SCHEMA_VERSION, "code_version": __version__, "migrating_from": oldest}
        meta.update_one({"_id": "schema"}, {"$set": note})
        changed: dict[str, int] = {}
        for name in collections:
            changed[name] = sum([_migrate(database[name], version) for version in range(oldest, SCHEMA_VERSION)])
        meta.update_one({"_id": "schema"}, {"$unset": {"migrating_from": True, "indexes": True}})
    return {name: n for name, n in changed.items() if n}


def _migrate(collection: Any, version: int) -> int:
    """Replace the documents of one version, one by one. Returns how many."""
    keys = [document["_id"] for document in collection.find({"schema_version": version}, {"_id": 1})]
    for key in keys:
        document = collection.find_one({"_id": key})
        collection.replace_one({"_id": key, "schema_version": version}, migrated(collection.name, document))
    return len(keys)
