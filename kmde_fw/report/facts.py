"""What a report says, as one plain record: every number of the page is here, and comes from a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kmde_fw.config import Campaign, parse_campaign
from kmde_fw.errors import StoreError
from kmde_fw.records import cycle_key
from kmde_fw.report.cycles import cycle_rows
from kmde_fw.store import Store, queries

Record = dict[str, Any]

#: bins of a distribution on the page
PLOT_BINS = 100


def report_facts(store: Store, campaign: str) -> Record:
    """Everything that the report of a campaign shows. StoreError if no cycle is closed yet."""
    document = store.campaign(campaign)
    cycles = cycle_rows(store, campaign)
    if not cycles:
        raise StoreError(f"campaign {campaign} has no closed cycle yet: there is nothing to report; see `kmde status`")
    last = cycles[-1]["cycle"]
    targets = [
        {"id": key, **{f: d[f] for f in ("formula", "n_atoms")}, "name": d["name"] or d["formula"]}
        for key, d in _in_order(store, "structures", document["target_structures"], ("formula", "n_atoms", "name"))
    ]
    first_outliers, outliers = queries.outliers(store, campaign, 0), queries.outliers(store, campaign, last)
    evaluations = [store.many("evaluations", [key := cycle_key(campaign, c)])[key] for c in (0, last)]
    analyses = [store.many("analyses", [key := cycle_key(campaign, c)])[key] for c in (0, last)]
    surrogates = queries.surrogates(store, campaign)
    facts: Record = {
        "campaign": campaign,
        "description": document["description"],
        "state": document["state"],
        "reason": document["reason"],
        "submitted": document["created"].isoformat(timespec="minutes"),
        "elements": document["elements"],
        "level": document["level"],
        "remarks": document["remarks"],
        "n_train": len(document["train_labels"]),
        "targets": targets,
        "cycles": cycles,
        "energies": _energies(store, document, targets, evaluations),
        "forces": [evaluation.get("force_parity") for evaluation in evaluations],
        "categories": [evaluation.get("categories") for evaluation in evaluations],
        "dopant": evaluations[1].get("dopant"),
        "channels": _channels(analyses, store.motifs(campaign, 0), store.motifs(campaign, last)),
        "composition_gap": [analysis["composition_gap"] for analysis in analyses],
        "n_outliers": [analysis["n_outliers"] for analysis in analyses],
        "outliers": outliers,
        "outlier_map": _outlier_map(first_outliers, outliers),
        "surrogates": [_card(store, row) for row in surrogates],
        "sources": _sources(store, campaign),
        "failures": queries.failures(store, campaign),
        "cost": _cost(store, campaign, cycles, surrogates),
        "settings": settings_rows(document["config"]),
        "versions": document["versions"],
    }
    facts["verdict"] = verdict(facts)
    return facts


def verdict(facts: Record) -> list[str]:
    """What was asked, what was reached, why it stopped and what remains uncovered: three sentences."""
    first, last, targets = facts["cycles"][0], facts["cycles"][-1], facts["targets"]
    atoms = sorted({t["n_atoms"] for t in targets})
    size = f"{atoms[0]} atoms" if len(atoms) == 1 else f"{atoms[0]} to {atoms[-1]} atoms"
    before, after = first["n_outliers"], last["n_outliers"]
    level = facts["level"]
    calculator = str(level.get("calculator") or level.get("engine")).rpartition(".")[2]
    asked = (
        f"Asked was a potential for {len(targets)} target structures of {size} from {facts['n_train']} labelled "
        f"structures (reference: {calculator}); with these alone {before} target atoms lie outside what it has learned"
    )
    n = last["n_surrogates"]
    structures = "surrogate structure" if n == 1 else "surrogate structures"
    reached = f"With {n} {structures}, {after} of the {before} are left" if n else "No surrogate was labelled"
    if first["energy_rmse"] is not None:
        asked += f" and the energy error is {first['energy_rmse']:.2f} meV/atom"
        than = "worse than at first:" if last["force_rmse"] > 1.05 * first["force_rmse"] else "at first"
        reached += (
            f", the energy error is {last['energy_rmse']:.2f} meV/atom (bias {last['energy_bias']:+.2f}, scatter "
            f"{last['energy_scatter']:.2f}) and the force error {last['force_rmse']:.4f} eV/Å ({than} "
            f"{first['force_rmse']:.4f})"
        )
    state = f"It stopped because {facts['reason']}" if facts["reason"] else "It is still running"
    return [f"{asked}.", f"{reached}.", f"{state}; {_uncovered(facts)}."]


def _uncovered(facts: Record) -> str:
    if not facts["n_outliers"][1]:
        rest = "no atom of the target is outside the trained range"
    else:
        by_element = Counter(o["element"] for o in facts["outliers"])
        places = len({o["structure"] for o in facts["outliers"]})
        listed = ", ".join(f"{n} {e}" for e, n in sorted(by_element.items()))
        rest = f"still outside are {listed} atoms in {places} of the {len(facts['targets'])} target structures"
    if not facts["composition_gap"][1].startswith("no composition gap"):
        rest += ", and the compositions leave the energy zero of the target undetermined"
    return rest


def _in_order(store: Store, collection: str, ids: Sequence[str], fields: Sequence[str]) -> list[tuple[str, Record]]:
    found = store.many(collection, ids, fields=fields)
    return [(key, found[key]) for key in ids]


def _energies(store: Store, document: Record, targets: list[Record], evaluations: list[Record]) -> Record:
    """Energies per atom of the target in eV: reference (None without labels), first model before and after."""
    sizes = [target["n_atoms"] for target in targets]
    reference = None
    if document["target_labels"]:
        labels = _in_order(store, "labels", document["target_labels"], ("energy",))
        reference = [label["energy"] / n for (_, label), n in zip(labels, sizes, strict=True)]
    before, after = (
        [energy / n for energy, n in zip(evaluation["rows"][0]["target_energies"], sizes, strict=True)]
        for evaluation in evaluations
    )
    return {"reference": reference, "before": before, "after": after}


def _channels(analyses: list[Record], first_motifs: list[Record], last_motifs: list[Record]) -> list[Record]:
    """Each channel's densities over PLOT_BINS equal bins: of train, of target, of train with surrogates, each with its
    edges; missing: the part of the target's samples that is not covered, before and after; motifs of both cycles."""
    rows = []
    first = {channel["key"]: channel for channel in analyses[0]["coverage"]["channels"]}
    for channel in analyses[1]["coverage"]["channels"]:
        before = first[channel["key"]]
        if not sum(channel["counts_target"]):
            continue
        rows.append(
            {
                "key": channel["key"],
                "kind": channel["kind"],
                "n_target": sum(channel["counts_target"]),
                "target": _density(before, "counts_target"),
                "train": _density(before, "counts_train"),
                "extended": _density(channel, "counts_train"),
                "missing": [before["missing"], channel["missing"]],
                "motifs": [m for m in first_motifs if m["channel"] == channel["key"]],
                "motifs_left": [m for m in last_motifs if m["channel"] == channel["key"]],
            }
        )
    return rows


def _density(channel: Record, key: str) -> Record:
    """Bins of about 1/PLOT_BINS of the range, made of whole bins: edges (n + 1) and density (n)."""
    counts, width = channel[key], channel["width"]
    together = max(1, round(len(counts) / PLOT_BINS))
    starts = list(range(0, len(counts), together))
    total = max(sum(counts), 1)
    values = [sum(counts[s : s + together]) / (total * width * len(counts[s : s + together])) for s in starts]
    return {"edges": [s * width for s in [*starts, len(counts)]], "values": values}


def _outlier_map(first: list[Record], last: list[Record]) -> list[Record]:
    """structure, element, before, after: outlier atoms, where there are or were any."""
    counts = [Counter((o["structure"], o["element"]) for o in outliers) for outliers in (first, last)]
    return [
        {"structure": s, "element": e, "before": counts[0][s, e], "after": counts[1][s, e]}
        for s, e in sorted({*counts[0], *counts[1]})
    ]


def _card(store: Store, row: Record) -> Record:
    """A surrogate with its crystal, its passport's choice in this campaign, its label."""
    found = store.find("candidates", {"structure_id": row["structure_id"]})
    candidate = next(c for c in found if (c["campaign"], c["cycle"]) == (row["campaign"], row["cycle"]))
    label = store.get("labels", row["label_id"]) if row["label_id"] else None
    return {
        **{key: row[key] for key in ("number", "cycle", "slot", "structure_id", "label_id", "formula", "description")},
        "reused": row["reused"],
        "refused": row["refused"],
        "structure": store.many("structures", [row["structure_id"]])[row["structure_id"]],
        "choice": queries.choice(store, candidate),
        "label": label and {k: v for k, v in label.items() if k not in ("forces", "stress")},
    }


def _sources(store: Store, campaign: str) -> list[Record]:
    """All candidates by the crystal that they are made from; best: in how many cycles it had the best score."""
    rows: dict[str, Record] = {}
    for selection in store.find("selections", {"campaign": campaign}, sort=("cycle",)):
        for place, row in enumerate(selection["summary"]):
            entry = rows.setdefault(row["crystal"], {"crystal": row["crystal"], "n": 0, "with_motifs": 0, "best": 0})
            entry["n"] += row["n"]
            entry["with_motifs"] += row["with_motifs"]
            entry["best"] += place == 0 and row["best"] is not None
    return sorted(rows.values(), key=lambda row: (-row["best"], -row["with_motifs"], row["crystal"]))


def _cost(store: Store, campaign: str, cycles: list[Record], surrogates: list[Record]) -> Record:
    """Seconds of wall time by step, and what was not computed because it was there."""
    ids = list(dict.fromkeys(model for cycle in cycles for model in cycle["models"]))
    models = [m for m in store.many("models", ids).values() if m["made_for"]["campaign"] == campaign] if ids else []
    fresh = [s["label_id"] for s in surrogates if s["label_id"] and not s["reused"]]
    labels = store.many("labels", fresh).values() if fresh else []

    def seconds(collection: str) -> float:
        return sum(d["seconds"] for d in store.find(collection, {"campaign": campaign}, fields=("seconds",)))

    return {
        "seconds": {
            "training": sum(model["seconds"] for model in models),
            "reference calculations": sum(label["seconds"] or 0.0 for label in labels),
            "analysis": seconds("analyses"),
            "candidates": sum(s["generate_seconds"] or 0.0 for s in store.find("selections", {"campaign": campaign})),
            "selection": seconds("selections"),
            "evaluation": seconds("evaluations"),
        },
        "total": sum(cycle["seconds"] for cycle in cycles),
        "candidates": sum(s["n_candidates"] for s in store.find("selections", {"campaign": campaign})),
        "train_cells": cycles[-1]["cost"],
        **queries.savings(store, campaign),
    }


def settings_rows(config: Record) -> list[Record]:
    """Every option: value, and whether it is what the campaign file would mean without saying it."""
    given = queries.flat(config)
    least = {key: config[key] for key in ("name", "train", "target", "reference")}
    default = queries.flat(parse_campaign({**least, "preset": config["preset"]}).model_dump(mode="json"))
    known = Campaign.model_fields
    return [
        {"option": option, "value": value, "default": default.get(option) == value}
        for option, value in given.items()
        if option.partition(".")[0] in known
    ]
