"""Write a prepared campaign into the database: structures and labels first, the campaign document last."""

from __future__ import annotations

from kmde_fw.store import Store
from kmde_fw.versions import versions
from kmde_fw.workflows.prepare import Prepared


def register(store: Store, prepared: Prepared) -> bool:
    """True if the campaign is new, False if the very same one is already there.

    Raises StoreError if its name is taken by a campaign with another configuration or other data. Structures and labels
    carry content hashes, so an interrupted call leaves nothing that a repeated one would not write in the same way.
    """
    settings = prepared.settings
    store.check_campaign_name(settings.name, prepared.config_hash)
    store.put_structures([d.structure for d in prepared.train], role="train")
    store.put_structures(prepared.target, role="target")
    store.put_structures(prepared.parents, role="parent")
    train_labels = store.put_imported_labels(prepared.train, prepared.level, prepared.level_key)
    target_labels = None
    if prepared.target_labels is not None:
        target_labels = store.put_imported_labels(prepared.target_labels, prepared.level, prepared.level_key)
    evaluate_labels = {}
    for name, data in prepared.evaluate.items():
        store.put_structures([d.structure for d in data], role="evaluate")
        evaluate_labels[name] = store.put_imported_labels(data, prepared.level, prepared.level_key)
    return store.insert_campaign(
        {
            "_id": settings.name,
            "config": prepared.config,
            "config_hash": prepared.config_hash,
            "description": settings.description,
            "elements": list(prepared.elements),
            "train_labels": train_labels,
            "target_structures": [s.id for s in prepared.target],
            "target_labels": target_labels,
            "parents": [s.id for s in prepared.parents],
            "evaluate_labels": evaluate_labels,
            "level": prepared.level,
            "level_key": prepared.level_key,
            "remarks": prepared.remarks,
            "versions": versions(),
            "state": "running",
            "reason": "",
        }
    )
