"""Fireworks that this installation must not touch: FireWorks makes FIZZLED at once what it cannot import."""

from __future__ import annotations

import importlib
from typing import Any

from fireworks import LaunchPad

from kmde_fw import __version__
from kmde_fw.store import Store
from kmde_fw.versions import numbers

#: states of fireworks that somebody will still take
TO_COME = ("WAITING", "READY", "RESERVED")


def mismatches(launchpad: LaunchPad, query: dict[str, Any]) -> list[str]:
    """What of the fireworks that match this kmde_fw is too old for, or cannot import: a sentence each.

    query: of fireworks, such as a worker's, without state.
    """
    if "spec.kmde.campaign" not in query:
        query = {**query, "spec.kmde.campaign": {"$exists": True}}
    found = list(
        launchpad.fireworks.find(
            {**query, "state": {"$in": list(TO_COME)}}, {"spec.kmde.campaign": 1, "spec._tasks._fw_name": 1}
        )
    )
    tasks = sorted({task["_fw_name"] for document in found for task in document["spec"]["_tasks"]})
    sentences = [
        f"this kmde_fw {__version__} does not have the step {name.strip('{}')}: install the version that submitted it"
        for name in tasks
        if not _can_import(name)
    ]
    names = sorted({document["spec"]["kmde"]["campaign"] for document in found})
    for campaign in Store(launchpad.db).find("campaigns", {"_id": {"$in": names}}, fields=("versions", "code_version")):
        theirs = campaign["code_version"]
        if numbers(theirs) > numbers(__version__):
            sentences.append(
                f"campaign {campaign['_id']} was submitted by kmde_fw {theirs}, this is the older {__version__}: "
                "update it here before it takes a step of it"
            )
    return sentences


def _can_import(name: str) -> bool:
    """Whether the task of that `_fw_name` is here; names of FireWorks' own tasks have no module."""
    module, _, task = name.strip("{}").rpartition(".")
    if not name.startswith("{{") or not module:
        return True
    try:
        return hasattr(importlib.import_module(module), task)
    except ImportError:
        return False
