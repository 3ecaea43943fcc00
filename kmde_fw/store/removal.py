"""Taking a campaign out of the database, with what only it uses; what others share by content hash stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kmde_fw.errors import StoreError
from kmde_fw.store.documents import Store

#: collections whose documents belong to one campaign, by their field `campaign`
OWN = ("cycles", "analyses", "evaluations", "motifs", "shards", "candidates", "selections", "outcomes")
#: collections whose documents belong to one campaign, by their _id, which begins with its name
KEYED = ("claims", "progress")


@dataclass(frozen=True)
class Removal:
    """What goes with a campaign: how many documents of each collection are its own; ids of what it alone uses, and how
    many of those that it uses are shared and stay; bytes: of the models' weights that go."""

    campaign: str
    own: dict[str, int]
    structures: tuple[str, ...]
    labels: tuple[str, ...]
    models: tuple[str, ...]
    blobs: tuple[str, ...]
    shared: dict[str, int]
    bytes: int


def plan_removal(store: Store, name: str) -> Removal:
    """What `remove` would take away; changes nothing. StoreError if there is no such campaign."""
    campaign = store.campaign(name)
    others = [c for c in store.campaigns() if c["_id"] != name]
    labels, structures, models = _used(store, campaign)

    given_labels = {key for other in others for key in _given_labels(other)}
    given_structures = {key for other in others for key in (*other["target_structures"], *other["parents"])}
    given_structures |= {label["structure_id"] for label in store.many("labels", sorted(given_labels)).values()}
    kept_structures = {key for key in structures if key in given_structures or _is_chosen(store, key, name)}
    kept_labels = {key for key, of in labels.items() if key in given_labels or of in kept_structures}
    kept_structures |= {labels[key] for key in kept_labels}
    at_work = any(other["state"] == "running" for other in others)
    kept_models = {
        key
        for key, document in models.items()
        if any(c["campaign"] != name for c in store.find("cycles", {"models": key}, fields=("campaign",)))
        or (at_work and set(document["train_labels"]) <= kept_labels)
    }
    gone = {key: models[key] for key in models if key not in kept_models}
    weights = {document["weights"]["sha256"]: document["weights"]["length"] for document in gone.values()}
    if weights:
        twins = store.find("models", {"weights.sha256": {"$in": sorted(weights)}}, fields=("weights",))
        for twin in twins:
            if twin["_id"] not in gone:
                weights.pop(twin["weights"]["sha256"], None)
    own = {collection: store.count(collection, {"campaign": name}) for collection in OWN}
    own |= {collection: len(_keyed(store, collection, name)) for collection in KEYED}
    return Removal(
        campaign=name,
        own=own,
        structures=_without(structures, kept_structures),
        labels=_without(labels, kept_labels),
        models=_without(models, kept_models),
        blobs=tuple(sorted(weights)),
        shared={"structures": len(kept_structures), "labels": len(kept_labels), "models": len(kept_models)},
        bytes=sum(weights.values()),
    )


def remove(store: Store, plan: Removal) -> None:
    """Take away what the plan names; the campaign's own document last, so that an interrupted call can be repeated.

    StoreError if the campaign is not there (any more).
    """
    store.campaign(plan.campaign)
    for digest in plan.blobs:
        store.delete_blob(digest)
    for collection, keys in (("models", plan.models), ("labels", plan.labels), ("structures", plan.structures)):
        store.delete(collection, keys)
    for collection in KEYED:
        store.delete(collection, _keyed(store, collection, plan.campaign))
    for collection in OWN:
        store.delete_of_campaign(collection, plan.campaign)
    store.delete("campaigns", [plan.campaign])


def _used(store: Store, campaign: dict[str, Any]) -> tuple[dict[str, str], set[str], dict[str, Any]]:
    """Labels (with their structure), structures and models that a campaign has anything to do with."""
    name = campaign["_id"]
    chosen = {
        c["structure_id"] for s in store.find("selections", {"campaign": name}) for slot in s["slots"] for c in slot
    }
    ids = set(_given_labels(campaign))
    for outcome in store.find("outcomes", {"campaign": name}):
        ids |= {refused["label_id"] for refused in outcome["refused"]}
        if outcome["label_id"]:
            ids.add(outcome["label_id"])
    labels = {}
    for key in sorted(ids):
        label = store.get("labels", key)
        if label is not None:
            labels[key] = label["structure_id"]
    structures = chosen | set(labels.values()) | set(campaign["target_structures"]) | set(campaign["parents"])
    keys = {key for cycle in store.cycles(name) for key in cycle["models"]}
    models = {key: document for key in sorted(keys) if (document := store.get("models", key)) is not None}
    return labels, structures, models


def _given_labels(campaign: dict[str, Any]) -> list[str]:
    further = [key for keys in campaign["evaluate_labels"].values() for key in keys]
    return [*campaign["train_labels"], *(campaign["target_labels"] or []), *further]


def _is_chosen(store: Store, structure_id: str, name: str) -> bool:
    """Whether another campaign has it as a pick or a reserve."""
    found = store.find("candidates", {"structure_id": structure_id}, fields=("campaign", "slot"))
    return any(c["campaign"] != name and c["slot"] is not None for c in found)


def _keyed(store: Store, collection: str, name: str) -> list[str]:
    return [d["_id"] for d in store.find(collection, fields=()) if d["_id"].startswith(f"{name}/")]


def _without(keys: Iterable[str], kept: set[str]) -> tuple[str, ...]:
    return tuple(sorted(set(keys) - kept))


def check_idle(running: int, campaign: str) -> None:
    """StoreError if fireworks of the campaign are at work: they would write into what is being removed."""
    if running:
        raise StoreError(
            f"campaign {campaign} has {running} fireworks at work; stop its workers (`kmde status {campaign}` "
            "shows them), then remove it"
        )
