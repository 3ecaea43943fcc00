"""Questions that people ask of a database, answered as plain records: dictionaries and lists of plain types.

Every query is an equality by index (no collection is scanned), so it stays fast in a database of many campaigns. What
is put together from several documents says from which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kmde_fw.errors import StoreError
from kmde_fw.records import cycle_key
from kmde_fw.store.documents import Store
from kmde_fw.store.migrations import SHORT

Record = dict[str, Any]

#: characters of an id that are shown to people
SHOWN = 8
#: ranks that are looked up one by one
FEW = 50
#: what the store writes into each document; of no interest in a record
_BOOKKEEPING = ("schema_version", "code_version", "created", "host", "short")


def resolve(store: Store, name: str) -> tuple[str, str]:
    """What a person means by `name`: ("structures" | "labels" | "models", _id).

    name: the name of a structure, if it is the only one of that name; the beginning of an id, SHORT characters or more;
    CAMPAIGN/CYCLE or CAMPAIGN/CYCLE/SLOT for the structure picked there; a candidate's _id. StoreError, saying what
    there is, if it names nothing or several things.
    """
    named = [d["_id"] for d in store.find("structures", {"name": name}, fields=())] if name else []
    if len(named) > 1:
        ids = ", ".join(key[:SHOWN] for key in named[:5])
        raise StoreError(f"{len(named)} structures have the name {name!r}: give one of the ids {ids}")
    if named:
        return "structures", str(named[0])
    if "/" in name:
        return "structures", _resolve_pick(store, name)
    prefix = name.lower()
    if not re.fullmatch("[0-9a-f]{1,64}", prefix):
        raise StoreError(
            f"{name!r} is no structure's name, nor the beginning of an id, nor CAMPAIGN/CYCLE/SLOT: take an id from "
            "`kmde candidates`, or name a pick like al_fe_pt/1 or al_fe_pt/1/0"
        )
    if len(prefix) < SHORT:
        raise StoreError(f"{name!r} is too short: give {SHORT} characters of the id or more")
    found = store.find_hash(prefix)
    if not found:
        raise StoreError(f"no structure, label or model in database {store.name} has an id that begins with {name!r}")
    if len(found) > 1:
        listed = ", ".join(f"{collection[:-1]} {key[: len(prefix) + 4]}" for collection, key in found[:5])
        raise StoreError(f"{name!r} is not unique, it begins {len(found)} ids: {listed}; give more characters")
    return found[0]


def _resolve_pick(store: Store, name: str) -> str:
    """Structure id of CAMPAIGN/CYCLE, CAMPAIGN/CYCLE/SLOT or a candidate's _id."""
    candidate = store.get("candidates", name)
    if candidate is not None:
        return str(candidate["structure_id"])
    campaign, *numbers = name.split("/")
    if not 1 <= len(numbers) <= 2 or not all(n.isdigit() for n in numbers):
        raise StoreError(f"{name!r}: a pick is named CAMPAIGN/CYCLE or CAMPAIGN/CYCLE/SLOT, such as al_fe_pt/1/0")
    store.campaign(campaign)
    cycle = int(numbers[0])
    picked = [row for row in surrogates(store, campaign) if row["cycle"] == cycle]
    if not picked:
        raise StoreError(f"campaign {campaign} has picked nothing in cycle {cycle}; see `kmde status {campaign}`")
    slots = [row["slot"] for row in picked]
    if len(numbers) == 1 and len(slots) > 1:
        named = ", ".join(f"{campaign}/{cycle}/{slot}" for slot in slots)
        raise StoreError(f"cycle {cycle} of campaign {campaign} has {len(slots)} picks: {named}")
    slot = int(numbers[1]) if len(numbers) == 2 else slots[0]
    if slot not in slots:
        raise StoreError(
            f"cycle {cycle} of campaign {campaign} has no slot {slot}; it has {', '.join(map(str, slots))}"
        )
    return str(picked[slots.index(slot)]["structure_id"])


def resolve_model(store: Store, name: str) -> str:
    """_id of a model: by the beginning of it, or CAMPAIGN/CYCLE, or CAMPAIGN/CYCLE/NUMBER where there are several; by
    CAMPAIGN alone, the first of its last closed cycle."""
    if "/" not in name and store.get("campaigns", name) is not None:
        name = f"{name}/{last_cycle(store, name)}"
    if "/" not in name:
        if not re.fullmatch("[0-9a-f]+", name.lower()) and not store.find("structures", {"name": name}, fields=()):
            raise StoreError(
                f"{name!r} is no model: neither a model file, nor a campaign, nor CAMPAIGN/CYCLE or "
                "CAMPAIGN/CYCLE/NUMBER, nor the beginning of an id of one; `kmde status` lists the campaigns"
            )
        collection, key = resolve(store, name)
        if collection != "models":
            raise StoreError(f"{name!r} is a {collection[:-1]}, not a model; `kmde why {name}` tells about it")
        return key
    campaign, *numbers = name.split("/")
    if not 1 <= len(numbers) <= 2 or not all(n.isdigit() for n in numbers):
        raise StoreError(f"{name!r}: a model is named CAMPAIGN/CYCLE or CAMPAIGN/CYCLE/NUMBER, such as al_fe_pt/4/1")
    cycle = store.get("cycles", cycle_key(store.campaign(campaign)["_id"], int(numbers[0])))
    if cycle is None:
        raise StoreError(f"campaign {campaign} has no closed cycle {numbers[0]}; see `kmde status {campaign}`")
    models = [str(key) for key in cycle["models"]]
    number = int(numbers[1]) if len(numbers) == 2 else 1
    if not 1 <= number <= len(models):
        raise StoreError(f"cycle {numbers[0]} of campaign {campaign} has {len(models)} models, numbered from 1")
    return models[number - 1]


# one campaign -------------------------------------------------------------------------------------------------------


def last_cycle(store: Store, campaign: str) -> int:
    """Number of the last closed cycle. StoreError if there is none."""
    cycles = store.cycles(store.campaign(campaign)["_id"])
    if not cycles:
        raise StoreError(f"campaign {campaign} has no closed cycle yet; see `kmde status {campaign}`")
    return int(cycles[-1]["cycle"])


def surrogates(store: Store, campaign: str) -> list[Record]:
    """What each slot of each cycle gave, in order: the candidate that was labelled in the end, or the last refused.

    number: of the accepted ones, from 1 (None if the slot gave no label); the candidate's fields; label_id; reused: the
    label was there already, this campaign did not compute it; refused: the choices before it, with reasons.
    """
    rows = []
    number = 0
    selections = {s["cycle"]: s for s in store.find("selections", {"campaign": campaign}, sort=("cycle",))}
    for outcome in store.find("outcomes", {"campaign": campaign}, sort=("cycle", "slot")):
        slots = selections[outcome["cycle"]]["slots"]
        choices = slots[outcome["slot"]] if outcome["slot"] < len(slots) else []
        if not choices:
            continue
        chosen = choices[min(len(outcome["refused"]), len(choices) - 1)]
        accepted = outcome["label_id"] is not None
        number += accepted
        rows.append(
            {
                **chosen,
                "campaign": campaign,
                "cycle": outcome["cycle"],
                "slot": outcome["slot"],
                "number": number if accepted else None,
                "label_id": outcome["label_id"],
                "reused": outcome.get("reused", False),
                "refused": outcome["refused"],
                "n_candidates": selections[outcome["cycle"]]["n_candidates"],
            }
        )
    return rows


def candidates(store: Store, campaign: str, cycle: int | None = None, top: int = 20) -> list[Record]:
    """The best candidates of a cycle (None: the last that has picked), best first, picked or why not."""
    store.campaign(campaign)
    if cycle is None:
        picked = store.find("selections", {"campaign": campaign}, fields=("cycle",), sort=("cycle",))
        if not picked:
            raise StoreError(f"campaign {campaign} has not chosen anything yet; see `kmde status {campaign}`")
        cycle = int(picked[-1]["cycle"])
    # a cycle that has not picked is named by the error of `selection`
    store.selection(campaign, cycle)
    return [_clean(document) for document in _best(store, campaign, cycle, top)]


def motifs(store: Store, campaign: str, cycle: int | None = None) -> list[Record]:
    """The key motifs found in a cycle (None: the last closed one), best first, with the outlier atoms they come from.

    The crystals of the next cycle are designed for them.
    """
    cycle = last_cycle(store, campaign) if cycle is None else cycle
    _analysis(store, campaign, cycle, "cycle")
    return [_clean(document) for document in store.motifs(campaign, cycle)]


def outliers(store: Store, campaign: str, cycle: int | None = None) -> list[Record]:
    """The outlier atoms of a cycle (None: the last closed one): where they are, what they exceed, their motifs.

    structure: number in the target set; structure_id, name: of that structure; neighbours: by element, count and
    nearest (Å); exceeds: function, value, low, high of the train set, excess (in units of that range, None if it has no
    width), the largest first; motifs: ranks of the cycle's key motifs around it.
    """
    cycle = last_cycle(store, campaign) if cycle is None else cycle
    analysis = _analysis(store, campaign, cycle, "outliers", "columns")
    ids = store.campaign(campaign)["target_structures"]
    names = _names(store, ids)
    around: dict[tuple[int, int], list[int]] = {}
    for motif in store.motifs(campaign, cycle):
        for structure, atom in motif["atoms"]:
            around.setdefault((structure, atom), []).append(motif["rank"])
    return [_outlier(analysis, outlier, ids, names, around) for outlier in analysis["outliers"]]


def target_number(store: Store, campaign: str, target: str) -> int:
    """The place of a target structure in the target set, by its name or that number. StoreError if there is none."""
    ids = store.campaign(campaign)["target_structures"]
    names = _names(store, ids)
    for place, structure_id in enumerate(ids):
        if target in (names[structure_id], str(place)):
            return place
    some = ", ".join(names[structure_id] for structure_id in ids[:30])
    raise StoreError(f"campaign {campaign} has no target structure {target!r}; there are {some}")


def _outlier(
    analysis: Record, outlier: Record, ids: list[str], names: Mapping[str, str], around: Mapping[Any, list[int]]
) -> Record:
    columns = analysis.get("columns", [])
    exceeds = [
        {
            "function": columns[c["feature"]] if columns else f"column {c['feature']}",
            **{key: c[key] for key in ("value", "low", "high", "excess")},
        }
        for c in outlier["components"]
    ]
    exceeds.sort(key=lambda e: float("-inf") if e["excess"] is None else -e["excess"])
    structure_id = ids[outlier["structure"]]
    return {
        "structure": outlier["structure"],
        "structure_id": structure_id,
        "name": names[structure_id],
        "atom": outlier["atom"],
        "element": outlier["element"],
        "reason": outlier["reason"],
        "neighbours": outlier.get("neighbours", {}),
        "exceeds": exceeds,
        "motifs": around.get((outlier["structure"], outlier["atom"]), []),
    }


def failures(store: Store, campaign: str | None = None) -> list[Record]:
    """What went wrong or was left out, of one campaign or of all, in order: campaign, cycle, kind, what, reason.

    kind: "label" (refused or failed; with structure_id, label_id, state, run_directory, corrections), "slot" (a pick
    for which nothing was labelled; with refused, how many labels were tried, and what stays open: open_motifs, promise
    of strategy `environment` or None), "source" (a prototype or parent that gave no candidates).
    """
    names = [store.campaign(campaign)["_id"]] if campaign else [c["_id"] for c in store.campaigns()]
    rows: list[Record] = []
    for name in names:
        for selection in store.find("selections", {"campaign": name}, sort=("cycle",)):
            where = {"campaign": name, "cycle": selection["cycle"], "slot": None}
            rows += [
                {**where, "kind": "source", "what": skipped.partition(":")[0], "structure_id": None, "reason": skipped}
                for skipped in selection["skipped"]
            ]
        chosen = {
            (s["cycle"], number): slot
            for s in store.find("selections", {"campaign": name})
            for number, slot in enumerate(s["slots"])
        }
        described = {c["structure_id"]: f"{c['formula']}: {c['description']}" for slot in chosen.values() for c in slot}
        for outcome in store.find("outcomes", {"campaign": name}, sort=("cycle", "slot")):
            where = {"campaign": name, "cycle": outcome["cycle"], "slot": outcome["slot"]}
            for refused in outcome["refused"]:
                label = store.get("labels", refused["label_id"]) or {}
                rows.append(
                    {
                        **where,
                        "kind": "label",
                        "what": described.get(refused["structure_id"], refused["structure_id"]),
                        **refused,
                        "run_directory": label.get("run_directory"),
                        "corrections": label.get("corrections", []),
                        "seconds": label.get("seconds"),
                    }
                )
            if outcome["label_id"] is None:
                reason = outcome["reason"] or "no candidate was left"
                pick: Record = next(iter(chosen.get((outcome["cycle"], outcome["slot"]), [])), {})
                still_open = {"open_motifs": outcome["open_motifs"], "promise": pick.get("promise")}
                rows.append(
                    {
                        **where,
                        "kind": "slot",
                        "what": "no label",
                        "structure_id": None,
                        "reason": reason,
                        "refused": len(outcome["refused"]),
                        **still_open,
                    }
                )
    return sorted(rows, key=lambda row: (names.index(row["campaign"]), row["cycle"], row["slot"] or 0))


def savings(store: Store, campaign: str) -> Record:
    """What this campaign did not compute because it was there: labels and models of others, by content hash."""
    rows = store.find("outcomes", {"campaign": campaign})
    accepted = [row for row in rows if row["label_id"]]
    ids = dict.fromkeys(model for cycle in store.cycles(campaign) for model in cycle["models"])
    models = [store.get("models", key) for key in ids]
    return {
        "labels": len(accepted),
        "labels_reused": sum(row.get("reused", False) for row in accepted),
        "models": len(models),
        "models_reused": sum(m is not None and m["made_for"]["campaign"] != campaign for m in models),
    }


def diff(store: Store, first: str, second: str) -> Record:
    """How two campaigns differ: settings, data, and side by side what each cycle picked and reached.

    settings: option, first, second; data: what both and what only one has. Cycles carry n_outliers, gap and the
    target's metrics; picks are the structures labelled, `same` if identical.
    """
    a, b = store.campaign(first), store.campaign(second)
    left, right = flat(a["config"]), flat(b["config"])
    settings = [
        {"option": option, "first": left.get(option), "second": right.get(option)}
        for option in sorted({*left, *right})
        if left.get(option) != right.get(option) and option not in ("name", "description")
    ]
    settings += [
        {"option": key, "first": a[key], "second": b[key]} for key in ("level", "elements") if a[key] != b[key]
    ]
    versions = {*a["versions"], *b["versions"]}
    settings += [
        {"option": f"version of {name}", "first": a["versions"].get(name), "second": b["versions"].get(name)}
        for name in sorted(versions)
        if a["versions"].get(name) != b["versions"].get(name)
    ]
    data = {}
    for key in ("train_labels", "target_structures", "parents"):
        mine, other = set(a[key]), set(b[key])
        data[key] = {"both": len(mine & other), "first": sorted(mine - other), "second": sorted(other - mine)}
    by_cycle = [{c["cycle"]: c for c in store.cycles(name)} for name in (first, second)]
    cycles = [
        {"cycle": k, "first": _cycle_facts(by_cycle[0].get(k)), "second": _cycle_facts(by_cycle[1].get(k))}
        for k in sorted({*by_cycle[0], *by_cycle[1]})
    ]
    chosen = [{(s["cycle"], s["slot"]): s for s in surrogates(store, name)} for name in (first, second)]
    picks = []
    for cycle, slot in sorted({*chosen[0], *chosen[1]}):
        pair = [c.get((cycle, slot)) for c in chosen]
        texts = [None if p is None else f"{p['formula']}: {p['description']}" for p in pair]
        same = None not in pair and pair[0]["structure_id"] == pair[1]["structure_id"]  # type: ignore[index]
        picks.append({"cycle": cycle, "slot": slot, "first": texts[0], "second": texts[1], "same": same})
    return {
        "first": first,
        "second": second,
        "settings": settings,
        "data": data,
        "cycles": cycles,
        "picks": picks,
        "first_reason": a["reason"],
        "second_reason": b["reason"],
    }


def _cycle_facts(cycle: Record | None) -> Record | None:
    if cycle is None:
        return None
    metrics = {key: value["mean"] for key, value in cycle["metrics"].get("target", {}).items()}
    return {"n_outliers": cycle["n_outliers"], "gap": cycle["gap"], **metrics}


def flat(settings: Mapping[str, Any], where: str = "") -> Record:
    """Sections as dotted options."""
    options: Record = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            options |= flat(value, f"{where}{key}.")
        else:
            options[where + key] = value
    return options


# one structure, one label, one model --------------------------------------------------------------------------------


def passport(store: Store, structure_id: str) -> Record:
    """Everything about one structure: where it comes from, why it was chosen, how it was labelled, who learned from it.

    chosen: one entry for each cycle of a campaign whose candidate it was (see `choice`); given: the campaigns whose
    train set or target it came with (of a target also its outlier atoms in the last closed cycle); labels: all
    reference calculations of it; models: those that learned from one.
    """
    structure = store.get("structures", structure_id)
    found = store.find("candidates", {"structure_id": structure_id})
    if structure is None and not found:
        raise StoreError(f"no structure {structure_id} in database {store.name}")
    labels = store.find("labels", {"structure_id": structure_id}, sort=("created",))
    models = [model for label in labels for model in learned_from(store, label["_id"])]
    given: list[Record] = [
        {"campaign": campaign["_id"], "as": role}
        for role, field, keys in (
            ("target", "target_structures", [structure_id]),
            ("train set", "train_labels", [label["_id"] for label in labels]),
        )
        for key in keys
        for campaign in store.find("campaigns", {field: key}, fields=())
    ]
    for entry in given:
        if entry["as"] == "target" and (cycles := store.cycles(entry["campaign"])):
            atoms = outliers(store, entry["campaign"], cycles[-1]["cycle"])
            entry["cycle"] = cycles[-1]["cycle"]
            entry["outliers"] = [atom for atom in atoms if atom["structure_id"] == structure_id]
    facts = {"_id": structure_id, **(structure or {})}
    if structure is None:
        facts |= {key: found[0][key] for key in ("formula", "n_atoms")} | {
            "name": found[0]["description"],
            "role": None,
        }
    return {
        "structure": facts,
        "chosen": [choice(store, candidate) for candidate in found],
        "given": given,
        "labels": [{k: v for k, v in label.items() if k not in ("forces", "stress")} for label in labels],
        "models": models,
    }


def choice(store: Store, candidate: Record) -> Record:
    """Why a candidate was picked or not: its document, and what it was designed for, found in the cycle before.

    motifs: those it contains, with how many of each (`contains`); outliers: the outlier atoms that these motifs come
    from, the one with most of them first; strategy: of the campaign, what the score is by; n_candidates; above: what
    ranked higher and was not taken, with reasons;
    gain: what the cycle brought (None unless it was labelled and the cycle is closed), see `gain`.
    """
    campaign, cycle = candidate["campaign"], candidate["cycle"]
    counts = candidate.get("motifs", {})
    contained = [
        {**motif, "contains": counts[str(motif["rank"])]}
        for motif in map(_clean, store.motifs(campaign, cycle - 1))
        if str(motif["rank"]) in counts
    ]
    ranks = {motif["rank"] for motif in contained}
    atoms = [o for o in outliers(store, campaign, cycle - 1) if ranks & set(o["motifs"])]
    for atom in atoms:
        atom["motifs"] = [rank for rank in atom["motifs"] if rank in ranks]
    outcome = next(
        (
            o
            for o in store.find("outcomes", {"campaign": campaign, "cycle": cycle})
            if o["slot"] == candidate["slot"] and candidate["slot"] is not None
        ),
        None,
    )
    label = store.get("labels", outcome["label_id"]) if outcome and outcome["label_id"] else None
    labelled = label is not None and label["structure_id"] == candidate["structure_id"]
    higher = _best(store, campaign, cycle, candidate["rank"])
    return {
        **{key: value for key, value in _clean(candidate).items() if key != "motifs"},
        "strategy": store.campaign(campaign)["config"]["design"]["strategy"],
        "n_candidates": store.selection(campaign, cycle)["n_candidates"],
        "motifs": contained,
        "outliers": sorted(atoms, key=lambda atom: -len(atom["motifs"])),
        "above": [
            {key: c[key] for key in ("rank", "formula", "description", "outcome", "reason", "score")}
            for c in higher
            if c["rank"] < candidate["rank"] and c["outcome"] != "picked"
        ],
        "labelled": labelled,
        "reused": bool(labelled and outcome and outcome.get("reused")),
        "refused": [r for r in (outcome or {}).get("refused", []) if r["structure_id"] == candidate["structure_id"]],
        "gain": gain(store, campaign, cycle, contained, atoms) if labelled else None,
    }


def gain(store: Store, campaign: str, cycle: int, contained: list[Record], atoms: list[Record]) -> Record | None:
    """What came of a cycle's labels; None while the cycle is open. Of several picks in a cycle it is that of them all.

    contained: motifs of a pick; atoms: the outlier atoms that they come from. outliers, gap, metrics: [before, after];
    atoms: how many of `atoms` there were, and how many are no outliers any more; exceeded: the same of all symmetry
    functions exceeded by any atom; promised, realised: measures of strategy `environment` (zero, open, vicinity),
    promised by each of its picks, realised as [before, after]; motifs: the gap of each motif, before and after, at the
    middle of its range.
    """
    before, after = (store.get("cycles", cycle_key(campaign, c)) for c in (cycle - 1, cycle))
    if before is None or after is None:
        return None
    analyses = [
        _analysis(store, campaign, cycle - 1, "outliers"),
        _analysis(store, campaign, cycle, "outliers", "coverage"),
    ]
    still = {(o["structure"], o["atom"]) for o in analyses[1]["outliers"]}
    exceeded = [
        {(o["structure"], o["atom"], c["feature"]) for o in analysis["outliers"] for c in o["components"]}
        for analysis in analyses
    ]
    channels = {channel["key"]: channel for channel in analyses[1]["coverage"]["channels"]}
    metrics = [cycle["metrics"].get("target", {}) for cycle in (before, after)]
    return {
        "n_picks": len(store.selection(campaign, cycle)["slots"]),
        "outliers": [before["n_outliers"], after["n_outliers"]],
        "gap": [before["gap"], after["gap"]],
        "promised": after.get("promised", []),
        "realised": after.get("realised", {}),
        "metrics": {key: [m[key]["mean"] for m in metrics] for key in metrics[0] if key in metrics[1]},
        "atoms": {
            "with_motifs": len(atoms),
            "cured": sum((atom["structure"], atom["atom"]) not in still for atom in atoms),
        },
        "exceeded": {
            "before": len(exceeded[0]),
            "closed": len(exceeded[0] - exceeded[1]),
            "new": len(exceeded[1] - exceeded[0]),
        },
        "motifs": [
            {
                **{key: motif[key] for key in ("rank", "channel", "low", "high")},
                "before": motif["gap"],
                "after": _gap_at(channels[motif["channel"]], (motif["low"] + motif["high"]) / 2),
            }
            for motif in contained
        ],
    }


def promised_together(promises: list[Record]) -> Record:
    """What several picks of one cycle promised: each promise begins where the one before it ends."""
    if not promises:
        return {}
    return {measure: [promises[0][measure][0], promises[-1][measure][1]] for measure in ("zero", "open", "vicinity")}


def _gap_at(channel: Record, value: float) -> float:
    """d_target - d_train per Å or degree in the bin of `value`; bins begin at 0."""
    bin_ = min(int(value / channel["width"]), len(channel["counts_target"]) - 1)
    density = [
        channel[key][bin_] / (max(sum(channel[key]), 1) * channel["width"]) for key in ("counts_target", "counts_train")
    ]
    return float(density[0] - density[1])


def learned_from(store: Store, label_id: str) -> list[Record]:
    """The models that a label was trained into: id, campaign and cycle that made it, seed."""
    fields = ("made_for", "seed", "created")
    found = store.find("models", {"train_labels": label_id}, fields=fields, sort=("created",))
    return [{"_id": m["_id"], **m["made_for"], "seed": m["seed"]} for m in found]


def lineage(store: Store, model_id: str) -> Record:
    """From a model back to everything that it is made of.

    model: its document (settings, seed, versions, report) without the training curve; used_in: the cycles that have
    it; train: for each label, in the order of training, the structure, how it was labelled, and why it is there:
    `origin` is "initial", or the pick that brought it (campaign, cycle, slot, number, description).
    """
    model = store.get("models", model_id)
    if model is None:
        raise StoreError(f"no model {model_id} in database {store.name}")
    model["report"].pop("curve", None)
    used_in = store.find("cycles", {"models": model_id}, fields=("campaign", "cycle"))
    # the campaign that it was trained for may have been removed since; it is shared then
    home = store.get("campaigns", model["made_for"]["campaign"])
    campaign = home or store.campaign(used_in[0]["campaign"] if used_in else model["made_for"]["campaign"])
    labels = store.many("labels", model["train_labels"])
    structures = store.many("structures", [labels[key]["structure_id"] for key in model["train_labels"]])
    brought = {s["label_id"]: s for s in surrogates(store, campaign["_id"]) if s["label_id"]}
    train = []
    for key in model["train_labels"]:
        label, pick = labels[key], brought.get(key)
        structure = structures[label["structure_id"]]
        origin: Record = {"kind": "initial"}
        if key not in campaign["train_labels"] and pick is not None:
            fields = ("campaign", "cycle", "slot", "number", "description", "rank", "reason")
            origin = {"kind": "pick", **{field: pick[field] for field in fields}}
        train.append(
            {
                "label_id": key,
                "structure_id": structure["_id"],
                **{field: structure[field] for field in ("formula", "n_atoms", "name", "role")},
                **{field: label[field] for field in ("energy", "engine", "level", "level_key", "host", "seconds")},
                "origin": origin,
            }
        )
    return {
        "model": model,
        "campaign": {
            key: campaign[key]
            for key in ("_id", "config", "config_hash", "elements", "level", "versions", "description")
        },
        "used_in": [{"campaign": c["campaign"], "cycle": c["cycle"]} for c in used_in],
        "train": train,
    }


# below --------------------------------------------------------------------------------------------------------------


def _analysis(store: Store, campaign: str, cycle: int, *fields: str) -> Record:
    """Only these fields of a cycle's analysis: its histograms are most of it."""
    found = store.find("analyses", {"_id": cycle_key(store.campaign(campaign)["_id"], cycle)}, fields=fields)
    if not found:
        raise StoreError(f"campaign {campaign} has no analysis of cycle {cycle}; see `kmde status {campaign}`")
    return found[0]


def _best(store: Store, campaign: str, cycle: int, top: int) -> list[Record]:
    """The candidates of the first `top` ranks that have a document, best first."""
    query: Record = {"campaign": campaign, "cycle": cycle}
    if top <= FEW:  # the index finds them; a thousand documents are sorted faster than as many ranks are looked up
        query["rank"] = {"$in": list(range(top))}
    return store.find("candidates", query, sort=("rank",), limit=top) if top else []


def _names(store: Store, ids: Iterable[str]) -> dict[str, str]:
    """Names of structures, or their formulas where they have none."""
    found = store.many("structures", list(ids), fields=("name", "formula"))
    return {key: document["name"] or document["formula"] for key, document in found.items()}


def _clean(document: Record) -> Record:
    return {key: value for key, value in document.items() if key not in _BOOKKEEPING}
