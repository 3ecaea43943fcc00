"""Fireworks that this installation must not touch: FireWorks makes FIZZLED at once what it cannot import."""

from __future__ import annotations

import importlib
from typing import Any

from fireworks import LaunchPad

from kmde_fw import __version__
from kmde_fw.config import parse_campaign
from kmde_fw.errors import ConfigError, StoreError
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
    for campaign in Store(launchpad.db).find("campaigns", {"_id": {"$in": names}}, fields=("config", "code_version")):
        theirs = campaign["code_version"]
        if numbers(theirs) > numbers(__version__):
            sentences.append(
                f"campaign {campaign['_id']} was submitted by kmde_fw {theirs}, this is the older {__version__}: "
                "update it here before it takes a step of it"
            )
        elif unknown := _unknown_settings(campaign):
            sentences.append(f"{unknown}: it was submitted by a kmde_fw that knows more than this one: update it here")
    return sentences


def refuse_unfit(launchpad: LaunchPad, query: dict[str, Any]) -> None:
    """StoreError, before anything is launched, where this kmde_fw must not touch a firework that matches."""
    unfit = mismatches(launchpad, query)
    if unfit:
        raise StoreError(f"nothing is launched here: {unfit[0]}")


def _unknown_settings(campaign: dict[str, Any]) -> str:
    """What this kmde_fw does not understand of a campaign; two of one number may differ in that."""
    try:
        parse_campaign(campaign.get("config") or {}, source=f"campaign {campaign['_id']}")
    except ConfigError as error:
        return str(error).splitlines()[0]
    return ""


def _can_import(name: str) -> bool:
    """Whether the task of that `_fw_name` is here; names of FireWorks' own tasks have no module."""
    module, _, task = name.strip("{}").rpartition(".")
    if not name.startswith("{{") or not module:
        return True
    try:
        return hasattr(importlib.import_module(module), task)
    except ImportError:
        return False
