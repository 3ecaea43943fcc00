"""Facts in words that a chemist reads: what a symmetry function out of its range means, motifs, terms of a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmde_fw.core.certificate import foremost
from kmde_fw.core.prototypes import substitution_words
from kmde_fw.store.queries import SHOWN
from kmde_fw.units import figures

#: fields of a candidate that are terms of its score, in words; what else a candidate carries is shown by its own name
TERMS = {
    "score": "score",
    "motif_score": "motifs per atom",
    "distance_penalty": "distance penalty",
    "energy_penalty": "energy penalty",
}


def short(key: str) -> str:
    """An id for people: long enough for `kmde why`."""
    return key[:SHOWN]


def function_words(name: str) -> str:
    """A symmetry function: "G3 Al-Pt eta=0.1 zeta=4 lambda=-1 rc=4" is "Al and Pt neighbours at wide angles (...)"."""
    kind, _, rest = name.partition(" ")
    who, _, parameters = rest.partition(" ")
    parameters = parameters.rpartition(" rc=")[0]
    for word, letter in (("zeta=", "ζ="), ("lambda=", "λ="), ("rs=", "R_s="), ("eta=", "η=")):
        parameters = parameters.replace(word, letter)
    if kind == "G2":
        return f"{who} neighbours (G2, {parameters})"
    if kind == "G3":
        pair = who.split("-")
        both = f"two {pair[0]}" if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"
        angle = "wide" if "λ=-1" in parameters else "narrow"
        return f"{both} neighbours at {angle} angles (G3, {parameters})"
    return name


def exceeded_words(exceeded: Mapping[str, Any], element: str) -> str:
    """One symmetry function of an outlier atom: what it has more or less of than any train atom of its element.

    "2 % above the train range: two Al neighbours at narrow angles (G3, η=0.1 ζ=4 λ=1), 0.0144 (train: 0 to 0.0142)".
    """
    words = function_words(exceeded["function"])
    if exceeded["excess"] is None:
        none = exceeded["high"] == 0
        train = "no" if none else "one value only for any"
        return f"{words}: {train} {element} of the train set{' has any' if none else ''} ({exceeded['value']:.4g})"
    where = "above" if exceeded["value"] > exceeded["high"] else "below"
    return (
        f"{figures(100 * exceeded['excess'], 2)} % {where} the train range: {words}, {exceeded['value']:.4g} "
        f"(train: {exceeded['low']:.4g} to {exceeded['high']:.4g})"
    )


def neighbours_words(neighbours: Mapping[str, Mapping[str, float]]) -> str:
    """What surrounds an atom: "10 Al from 2.45 Å, 1 Pt from 2.61 Å"."""
    return ", ".join(f"{near['count']:.0f} {e} from {near['nearest']:.2f} Å" for e, near in neighbours.items()) or "–"


def cure(outlier: Mapping[str, Any]) -> str:
    """What a train structure must have so that this atom is inside, from the symmetry functions that it exceeds."""
    element = outlier["element"]
    if not outlier["exceeds"]:
        return f"any structure with {element}"
    wants: list[str] = []
    for exceeded in outlier["exceeds"]:
        kind, who = exceeded["function"].split(" ")[:2]
        what = f"{who} neighbours" if kind == "G2" else f"{who.replace('-', '…')} pairs around it"
        above = exceeded["value"] > exceeded["high"]
        want = f"{'more or nearer' if above else 'fewer or farther'} {what}"
        if want not in wants:
            wants.append(want)
    return f"a structure where {element} has {' and '.join(wants[:3])} than any so far"


def motif_words(motif: Mapping[str, Any]) -> str:
    """Channel and range: "Fe-Pt 2.640-2.650 Å", "Fe-Pt-Fe 58.2-59.0°"."""
    if motif.get("kind", "angle" if motif["channel"].count("-") == 2 else "distance") == "distance":
        return f"{motif['channel']} {motif['low']:.3f}–{motif['high']:.3f} Å"
    return f"{motif['channel']} {motif['low']:.1f}–{motif['high']:.1f}°"


def per_unit(motif: Mapping[str, Any]) -> str:
    """The unit of a motif's gap."""
    return "per degree" if motif["channel"].count("-") == 2 else "per Å"


def recipe_words(recipe: Mapping[str, Any]) -> list[str]:
    """How a candidate is built, one fact a line."""
    if recipe["parent"] is None:
        lines = [f"prototype {recipe['crystal']} with {', '.join(recipe['assignment'])} on its sites"]
        lines.append(f"lattice constant {recipe['scale']:.4f} Å")
    else:
        scaled = "as it is" if recipe["scale"] == 1 else f"scaled by {recipe['scale']:.4f}"
        lines = [f"parent {recipe['crystal']} ({short(recipe['parent'])}), {scaled}"]
        if recipe["substitutions"]:
            lines.append(substitution_words((one["atom"], one["element"]) for one in recipe["substitutions"]))
    if recipe["strain_axes"]:
        how = "along" if len(recipe["strain_axes"]) == 1 else "shear"
        lines.append(f"strain {100 * recipe['strain']:+.2f} % {how} {recipe['strain_axes']}")
    if recipe["displacement"]:
        lines.append(f"atoms displaced by {recipe['displacement']:.3f} Å (seed {recipe['seed']})")
    if tuple(recipe["repeat"]) != (1, 1, 1):
        lines.append(f"{'×'.join(map(str, recipe['repeat']))} cells")
    known = ["index", "crystal", "assignment", "parent", "cells", "substitutions", "scale", "repeat"]
    known += ["strain_axes", "strain", "displacement", "seed"]
    lines += [f"{key}: {value}" for key, value in recipe.items() if key not in known]
    return lines


def measures_words(measures: Mapping[str, Any]) -> str:
    """Measures of strategy `environment` before and after, of a promise or of what came of it.

    "energy zero known to 3094 → 12.1 meV/atom, missing values 40 → 12, vicinity 0.412 → 0.301".
    """
    zero, still, near = measures["zero"], measures["open"], measures["vicinity"]
    return (
        f"energy zero known to {figures(1e3 * zero[0], 3)} → {figures(1e3 * zero[1], 3)} meV/atom, missing values "
        f"{still[0]} → {still[1]}, unknown of the vicinity {near[0]:.3f} → {near[1]:.3f}"
    )


def open_words(slot: Mapping[str, Any]) -> str:
    """What a pick without a label leaves open (a "slot" of `queries.failures`): its key motifs, and what it promised.

    Empty where no candidate was chosen at all.
    """
    motifs = ", ".join(motif_words(motif) for motif in slot["open_motifs"])
    parts = [f"key motifs {motifs}"] if motifs else []
    if slot["promise"]:
        parts.append(f"what was promised: {measures_words(slot['promise'])}")
    return "; ".join(parts)


def failure_words(row: Mapping[str, Any]) -> str:
    """Why something failed (a row of `queries.failures`), and what stays open by it."""
    still_open = open_words(row) if row["kind"] == "slot" else ""
    return f"{row['reason']}; stays open: {still_open}" if still_open else str(row["reason"])


def number(value: Any) -> str:
    """A number for people, – for None."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(value) if isinstance(value, int) else figures(value, 4)


def domain_lines(report: Mapping[str, Any], with_motifs: bool, shown: int = 8) -> list[str]:
    """What of a run left the domain of its model, from `DomainLog.report`. with_motifs: they were looked for."""
    if not report["structures"]:
        return ["no structure was looked at"]
    if not report["atoms_outside"]:
        lines = [f"domain: no atom left it in {report['structures']} structures"]
    else:
        lines = [
            f"domain: {100 * report['atoms_outside'] / report['atoms']:.3g} % of the atoms were outside, in "
            f"{report['structures_outside']} of {report['structures']} structures, first in step {report['first']}, "
            f"at most {report['most_at_once']} at once"
        ]
    for entry in report["untrained"]:
        lines.append(f"  {entry['element']}: the train set has none; {entry['times']} times from step {entry['first']}")
    for entry in report["functions"][:shown]:
        lines.append(
            f"  {entry['times']} times from step {entry['first']}: {entry['element']} with "
            f"{exceeded_words(entry, entry['element'])}"
        )
    lines += _rest(report["functions"], shown, "symmetry functions")
    if not with_motifs:
        return [*lines, "motifs were not looked for: the model has no coverage certificate beside it"]
    if not report["motifs"]:
        return [*lines, f"motifs: none is new in the {report['searched_for_motifs']} structures searched"]
    lines.append(f"motifs that the train set has not, in the {report['searched_for_motifs']} structures searched:")
    named = foremost(report["motifs"], shown // 2)
    for motif in named:
        none = ", none at all in the train set" if motif["none_in_train"] else ""
        lines.append(
            f"  {motif_words(motif)}: {motif['times']} times, first in step {motif['first']}, in "
            f"{motif['structures']} structures or more{none}"
        )
    return lines + _rest(report["motifs"], len(named), "ranges")


def _rest(rows: Any, shown: int, what: str) -> list[str]:
    return [f"  and {len(rows) - shown} more {what} (--json has all)"] if len(rows) > shown else []
