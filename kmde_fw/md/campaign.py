"""A campaign for the frames that left a model's domain, derived from the campaign that the model comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kmde_fw.config import Campaign, campaign_path, load_campaign, parse_campaign
from kmde_fw.errors import StoreError
from kmde_fw.files import extxyz_frame, quoted
from kmde_fw.inputs import read_structures
from kmde_fw.md.back import Departure, thermal_displacement
from kmde_fw.records import Labelled, Structure
from kmde_fw.report.facts import settings_rows
from kmde_fw.store import Store, queries, read_launchpad

CAMPAIGN, TARGET, TRAIN, PARENTS = "campaign.yaml", "target.extxyz", "train.extxyz", "parents.extxyz"
#: largest random displacement of a candidate that a hot run asks for, Å
MAX_DISPLACEMENT = 0.3
#: how much farther than the run's own linear scale candidates go
SCALE_MARGIN = 0.02


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a model comes from, and so what the next campaign begins with.

    settings: of its campaign; train: what it was trained on, with the surrogates; parents: crystals that its
    candidates were made from; level_key: of the labels; similar: structures of the kind that it is for. From a campaign
    file train and parents are None: the new one names the same files.
    """

    name: str
    settings: Campaign
    train: list[Labelled] | None
    parents: list[Structure] | None
    level_key: str
    similar: list[Structure]
    folder: Path | None = None


def origin_of_model(key: str, sha256: str, launchpad: Path | None) -> Origin:
    """From the database, by the model's _id. StoreError if it is not there."""
    with Store.open(read_launchpad(launchpad)) as store:
        document = store.get("models", key)
        if document is None or document["weights"]["sha256"] != sha256:
            raise StoreError(f"model {key[:12]} is not in database {store.name}")
        lineage = queries.lineage(store, key)
        campaign = store.campaign(lineage["campaign"]["_id"])
        return Origin(
            name=campaign["_id"],
            settings=parse_campaign(campaign["config"]),
            train=store.get_labelled(document["train_labels"]),
            parents=store.get_structures(campaign["parents"]),
            level_key=campaign["level_key"],
            similar=store.get_structures(campaign["target_structures"]),
        )


def origin_of_file(path: Path) -> Origin:
    """From a campaign file. ConfigError or InputError, a sentence, if it is none."""
    settings = load_campaign(path)
    folder = campaign_path(path).resolve().parent
    similar = read_structures([folder / name for name in settings.target])
    return Origin(settings.name, settings, None, None, "", similar, folder)


def campaign_files(
    origin: Origin, chosen: Sequence[Departure], name: str, source: str, labels: int, folder: Path
) -> dict[str, str]:
    """File name -> text: campaign, target, and where they come from the database, train set and parents."""
    files = {TARGET: target_text(chosen, source)}
    structures = [d.frame.structure for d in chosen]
    options = _options(origin, structures, labels)
    options |= {"name": name, "description": f"atoms outside of {origin.name} in {source}", "target": [TARGET]}
    if origin.train is not None:
        files[TRAIN] = "".join(
            extxyz_frame(labelled, {"label": quoted(labelled.structure.name), "level_key": origin.level_key})
            for labelled in origin.train
        )
        options["train"] = [TRAIN]
        options.pop("parents", None)
        if origin.parents:
            files[PARENTS] = "".join(extxyz_frame(s, {"label": quoted(s.name)}) for s in origin.parents)
            options["parents"] = [PARENTS]
    else:
        assert origin.folder is not None
        for key in ("train", "parents"):
            if names := getattr(origin.settings, key):
                options[key] = [os.path.relpath(origin.folder / n, folder.resolve()) for n in names]
    head = (
        f"# The target are {len(chosen)} frames of {source} in which atoms left the domain of a model of campaign\n"
        f"# {origin.name}; train set, reference and settings are those of that model.\n"
        "# Try it without labels with `kmde plan`, run it with `kmde run`.\n"
    )
    order = ["name", "description", "preset", "elements", "train", "target", "parents", "dopant", "reference"]
    ranked = {key: options[key] for key in [*order, *options] if key in options}
    files[CAMPAIGN] = head + yaml.safe_dump(ranked, sort_keys=False, allow_unicode=True, width=110)
    return files


def target_text(chosen: Sequence[Departure], source: str) -> str:
    """The chosen frames in extended XYZ, named by trajectory and step."""
    text = ""
    for departure in chosen:
        frame = departure.frame
        place = f"frame {frame.number}" if frame.step is None else f"step {frame.step}"
        info = {"label": quoted(f"{Path(source).stem} {place}"), "outside": str(len(departure.outliers))}
        text += extxyz_frame(frame.structure, info)
    return text


def _options(origin: Origin, structures: Sequence[Structure], labels: int) -> dict[str, Any]:
    """What the new campaign file says: what differs from the defaults, the budget, and how far candidates go."""
    options: dict[str, Any] = {}
    for row in settings_rows(origin.settings.model_dump(mode="json")):
        if not row["default"] or row["option"].partition(".")[0] == "reference":
            _put(options, row["option"], row["value"])
    options["preset"] = origin.settings.preset
    if options["preset"] == "ours":
        del options["preset"]
    # files of the old target and its further sets, whose errors say nothing of this one
    options.pop("evaluate", None)
    options["elements"] = sorted({*(origin.settings.elements or ()), *_elements(origin, structures)})
    _put(options, "stop.max_surrogates", labels)
    low, high = origin.settings.design.parent_scale
    scales = _scales(structures, origin.similar)
    if min(scales) < low + SCALE_MARGIN or max(scales) > high - SCALE_MARGIN:
        bounds = [min(low, min(scales) - SCALE_MARGIN), max(high, max(scales) + SCALE_MARGIN)]
        _put(options, "design.parent_scale", [round(b, 3) for b in bounds])
    displacement = thermal_displacement(structures)
    if displacement is not None and displacement > origin.settings.design.max_displacement:
        _put(options, "design.max_displacement", round(min(displacement, MAX_DISPLACEMENT), 3))
    return options


def _elements(origin: Origin, structures: Sequence[Structure]) -> set[str]:
    known = [s for s in (*structures, *origin.similar, *(d.structure for d in origin.train or ()))]
    return {symbol for structure in known for symbol in structure.species}


def _scales(structures: Sequence[Structure], similar: Sequence[Structure]) -> list[float]:
    """Linear scale of each structure over that of the similar ones: cube roots of volumes per atom."""
    usual = np.mean([s.volume / len(s) for s in similar])
    return [float((s.volume / len(s) / usual) ** (1 / 3)) for s in structures]


def _put(options: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for section in sections:
        options = options.setdefault(section, {})
    options[last] = value
