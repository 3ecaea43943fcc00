"""Passports of structures, labels and models as lines of text, from the records of `store.queries`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmde_fw.core.preferences import scores_motifs
from kmde_fw.report.cycles import duration
from kmde_fw.report.words import (
    TERMS,
    exceeded_words,
    measures_words,
    motif_words,
    neighbours_words,
    number,
    per_unit,
    recipe_words,
    short,
)
from kmde_fw.store.queries import promised_together
from kmde_fw.units import figures

Record = Mapping[str, Any]

#: rows shown of a list; the JSON has them all
SHOWN_ROWS = 6
#: fields of a choice that are told in words; any other one is printed by its name
_TOLD = {
    *(
        "_id",
        "campaign",
        "cycle",
        "index",
        "rank",
        "outcome",
        "slot",
        "reason",
        "structure_id",
        "recipe",
        "description",
    ),
    *("formula", "n_atoms", "n_candidates", "motifs", "outliers", "above", "labelled", "reused", "refused", "gain"),
    *("strategy", "promise"),
    *TERMS,
}


def structure_lines(passport: Record) -> list[str]:
    """Everything about one structure."""
    structure = passport["structure"]
    lines = [f"{structure['formula']}: {structure['name'] or 'no name'}"]
    lines.append(f"  structure {structure['_id']}, {structure['n_atoms']} atoms, role {structure.get('role') or '–'}")
    for given in passport["given"]:
        lines.append(f"  given with campaign {given['campaign']}, in its {given['as']}")
        if "outliers" in given:
            found = f"{len(given['outliers'])} of its atoms are" if given["outliers"] else "none of its atoms is"
            lines.append(f"    in cycle {given['cycle']} {found} outside the trained range")
            for atom in given["outliers"]:
                lines += [f"      {line}" for line in outlier_lines(atom)]
    for choice in passport["chosen"]:
        lines += ["", *choice_lines(choice)]
    for label in passport["labels"]:
        lines += ["", *label_lines(label)]
    lines += ["", *_models(passport["models"])]
    return lines


def choice_lines(choice: Record) -> list[str]:
    """Why a candidate was picked or not."""
    verdict = {"picked": "picked", "reserve": "a reserve"}.get(choice["outcome"], f"not picked ({choice['outcome']})")
    if choice["labelled"] and choice["outcome"] == "reserve":
        verdict = "a reserve that took the place of a refused pick"
    slot = "" if choice["slot"] is None else f", slot {choice['slot']}"
    lines = [f"campaign {choice['campaign']}, cycle {choice['cycle']}{slot}: {verdict}: {choice['reason']}"]
    lines.append(f"  rank      {choice['rank'] + 1} of {choice['n_candidates']} candidates")
    lines.append("  " + terms_words(choice))
    if "promise" in choice:
        lines.append("  promised  " + promise_words(choice["promise"]))
    lines += [f"  {key:9} {_plain(value)}" for key, value in further_terms(choice).items()]
    lines.append("  recipe    " + "; ".join(recipe_words(choice["recipe"])))
    if choice["motifs"]:
        verb = "designed for" if scores_motifs(choice["strategy"]) else "contains"
        lines.append(f"  {verb} {len(choice['motifs'])} key motifs of the cycle before:")
        for motif in choice["motifs"][:SHOWN_ROWS]:
            lines.append(
                f"    #{motif['rank'] + 1:<3} {motif_words(motif):28} score {motif['score']:<8.4g} "
                f"gap {motif['gap']:.4g} {per_unit(motif)}, {motif['contains']} in this crystal, "
                f"around {len(motif['atoms'])} outlier atoms"
            )
        lines += _more(choice["motifs"])
    if choice["outliers"]:
        verb = "because of" if scores_motifs(choice["strategy"]) else "found around"
        lines.append(f"  {verb} {len(choice['outliers'])} outlier atoms of the target that have these motifs:")
        for atom in choice["outliers"][:SHOWN_ROWS]:
            lines += [f"    {line}" for line in outlier_lines(atom, most=2)]
        lines += _more(choice["outliers"])
    if choice["above"]:
        lines.append(f"  ranked above it and not taken: {len(choice['above'])}")
        for other in choice["above"][:SHOWN_ROWS]:
            what = f"{other['formula']}: {other['description']}"
            lines.append(f"    {other['rank'] + 1:<5} {what}: {other['outcome']}, {other['reason']}")
        lines += _more(choice["above"])
    for refused in choice["refused"]:
        lines.append(f"  its label was refused: {refused['reason']}")
    if choice["reused"]:
        lines.append("  its label was there already: nothing was computed for it")
    if choice["gain"]:
        lines += gain_lines(choice["gain"])
    elif choice["labelled"]:
        lines.append("  what it brought is known when its cycle closes")
    return lines


def terms_words(choice: Record) -> str:
    """The score and its terms, where it is made of them."""
    if not scores_motifs(choice["strategy"]):
        return f"score     {number(choice['score'])} by {choice['strategy']}, at the beginning of the cycle"
    if choice["energy_penalty"] is None:
        energy = "energy penalty not asked for"
    else:
        energy = f"energy penalty {number(choice['energy_penalty'])}"
    return (
        f"score     {number(choice['score'])} = motifs per atom {number(choice['motif_score'])} "
        f"− distance penalty {number(choice['distance_penalty'])} − {energy}"
    )


def promise_words(promise: Record) -> str:
    """What a pick was to bring, after the earlier picks of its cycle."""
    return f"{measures_words(promise)}; its atoms are {promise['strangeness']:.2f} away from the target's"


def further_terms(choice: Record) -> dict[str, Any]:
    """What a choice carries beside the score of T(2.4): terms and reasons of other strategies, by their own names."""
    return {key: value for key, value in choice.items() if key not in _TOLD and value not in (None, {}, [])}


def outlier_lines(atom: Record, most: int = SHOWN_ROWS) -> list[str]:
    """One outlier atom: where, what surrounds it, what it exceeds."""
    head = f"{atom['element']} atom {atom['atom']} of target {atom['structure']} ({atom['name']})"
    near = f", within the cutoff {neighbours_words(atom['neighbours'])}" if atom["neighbours"] else ""
    lines = [f"{head}{near}"]
    if not atom["exceeds"]:
        lines.append(f"  {atom['reason']}")
    for exceeded in atom["exceeds"][:most]:
        lines.append(f"  {exceeded_words(exceeded, atom['element'])}")
    if len(atom["exceeds"]) > most:
        lines.append(f"  and {len(atom['exceeds']) - most} more")
    return lines


def gain_lines(gain: Record) -> list[str]:
    """What was promised and what came of it."""
    others = f" (with the {gain['n_picks'] - 1} other picks of the cycle)" if gain["n_picks"] > 1 else ""
    lines = [f"  what it brought{others}, before → after:"]
    atoms, exceeded = gain["atoms"], gain["exceeded"]
    lines.append(
        f"    outlier atoms {gain['outliers'][0]} → {gain['outliers'][1]}; of the {atoms['with_motifs']} with "
        f"its motifs, {atoms['cured']} are none any more"
    )
    new = f", {exceeded['new']} new" if exceeded["new"] else ""
    lines.append(f"    symmetry functions out of range: {exceeded['closed']} of {exceeded['before']} closed{new}")
    lines.append(f"    coverage gap {gain['gap'][0]:.3f} → {gain['gap'][1]:.3f}")
    smaller = sum(motif["after"] < motif["before"] for motif in gain["motifs"])
    if gain["motifs"]:
        lines.append(f"    its motifs: {smaller} of {len(gain['motifs'])} are less missing than before")
    if gain["realised"]:
        lines.append(f"    {measures_words(gain['realised'])}")
    if gain["promised"]:
        lines.append(f"    promised by the picks of the cycle: {measures_words(promised_together(gain['promised']))}")
    for key, (before, after) in gain["metrics"].items():
        lines.append(f"    {METRICS.get(key, key)} {number(before)} → {number(after)}")
    return lines


#: metrics of a target, with their units
METRICS = {
    "energy_rmse": "energy RMSE, meV/atom,",
    "energy_bias": "energy bias, meV/atom,",
    "energy_scatter": "energy scatter, meV/atom,",
    "force_rmse": "force RMSE, eV/Å,",
}


def label_lines(label: Record) -> list[str]:
    """How a structure was labelled."""
    lines = [f"label {short(label['_id'])}: {label['state']}{': ' + label['reason'] if label['reason'] else ''}"]
    if label["energy"] is not None:
        lines[0] += f", energy {label['energy']:.6f} eV"
    level = label["level"]
    if label["engine"] == "imported":
        lines.append("  came with a file, taken to be of the level of theory:")
    said = ", ".join(f"{key} {_plain(value)}" for key, value in level.items() if value not in ({}, None))
    lines.append(f"  level of theory {said} ({short(label['level_key'])})")
    if label["seconds"] is not None:
        lines.append(
            f"  computed on {label['host']} in {duration(label['seconds'])}, {label['created']:%Y-%m-%d %H:%M} UTC"
        )
    if label["run_directory"]:
        lines.append(f"  in {label['run_directory']}")
    lines += [f"  check {name}: {result}" for name, result in label["checks"].items()]
    lines += [f"  correction: {_plain(correction)}" for correction in label["corrections"]]
    if label["engine"] != "imported" and not label["corrections"]:
        lines.append("  no corrections were needed")
    lines += [f"  note: {note}" for note in label["notes"]]
    return lines


def _models(models: list[Record]) -> list[str]:
    if not models:
        return ["no model has learned from it"]
    lines = [f"models that learned from it: {len(models)}"]
    for model in models[:SHOWN_ROWS]:
        lines.append(
            f"  {short(model['_id'])}  campaign {model['campaign']}, cycle {model['cycle']}, seed {model['seed']}"
        )
    return [*lines, *_more(models)]


def model_lines(lineage: Record) -> list[str]:
    """A model: what it is made of, how well it does where it was trained, what it is used in."""
    model, campaign = lineage["model"], lineage["campaign"]
    report = model["report"]
    lines = [
        f"model {model['_id']}",
        f"  trained for campaign {model['made_for']['campaign']}, cycle {model['made_for']['cycle']}, "
        f"on {model['host']} in {duration(model['seconds'])}, {model['created']:%Y-%m-%d %H:%M} UTC",
        "  used in "
        + (", ".join(f"{u['campaign']} cycle {u['cycle']}" for u in lineage["used_in"]) or "no closed cycle"),
        f"  elements {' '.join(model['elements'])}, seed {model['seed']}, networks "
        f"{'-'.join(map(str, model['network']['hidden']))}, {report['n_parameters']} parameters",
        f"  training: {report['closures']} closures, best at {report['best_closure']}; {report['stop_reason']}",
        f"  errors on the train set: {figures(report['train_energy_rmse'], 3)} meV/atom, "
        f"{report['train_force_rmse']:.3g} eV/Å",
    ]
    for section in ("descriptor", "training"):
        lines.append(f"  {section}: " + ", ".join(f"{key} {_plain(value)}" for key, value in model[section].items()))
    versions = model.get("versions") or campaign["versions"]
    lines.append("  versions: " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    lines.append(f"  weights: sha256 {model['weights']['sha256']}, {model['weights']['length']} bytes")
    lines.append(f"  train set: {len(lineage['train'])} structures")
    for row in lineage["train"]:
        origin = row["origin"]
        why = "initial train set"
        if origin["kind"] == "pick":
            why = f"cycle {origin['cycle']}, slot {origin['slot']}: rank {origin['rank'] + 1}, {origin['reason']}"
        lines.append(
            f"    {short(row['structure_id'])} label {short(row['label_id'])} {row['formula']:14} {row['name']}: {why}"
        )
    return lines


def _more(rows: Any) -> list[str]:
    left = len(rows) - SHOWN_ROWS
    return [f"    and {left} more (--json has all)"] if left > 0 else []


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return number(value)
