"""One campaign as one HTML file that opens offline: text, tables and SVG, no script, no address of anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from kmde_fw.core.preferences import scores_motifs
from kmde_fw.report.cycles import duration
from kmde_fw.report.passport import choice_lines, further_terms, label_lines
from kmde_fw.report.style import STYLE
from kmde_fw.report.svg import Series, chart, crystal
from kmde_fw.report.words import (
    cure,
    exceeded_words,
    failure_words,
    measures_words,
    motif_words,
    neighbours_words,
    number,
    short,
)
from kmde_fw.units import figures

Record = Mapping[str, Any]


def page(facts: Record) -> str:
    """The report of a campaign, from `facts.report_facts`."""
    sections = [
        ("cycles", "Cycle by cycle", _cycles(facts)),
        ("energies", "The target's energies and forces", _energies(facts)),
        ("outside", "Which atoms are still outside", _outside(facts)),
        ("surrogates", "The surrogates", _cards(facts)),
        ("coverage", "What the train set lacked, and what it lacks now", _coverage(facts)),
        ("failures", "What failed", _failures(facts)),
        ("cost", "What it cost", _cost(facts)),
        ("settings", "Settings and versions", _settings(facts)),
        ("words", "Words", _WORDS),
    ]
    verdict = "".join(f"<p>{escape(sentence)}</p>" for sentence in facts["verdict"])
    description = f"<p class='sub'>{escape(facts['description'])}</p>" if facts["description"] else ""
    head = (
        f'{description}<p class="sub">{escape(" ".join(facts["elements"]))} · {escape(facts["state"])} · submitted '
        f"{escape(facts['submitted'][:16].replace('T', ' '))} UTC</p>"
        f'<div class="verdict" id="verdict">{verdict}</div>{_headline(facts)}'
    )
    return document(facts["campaign"], head, sections)


def document(title: str, head: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole file: a title, what stands below it, and sections as (key, title, HTML) with links to them."""
    menu = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{name}</h2>{html}</section>' for key, name, html in sections)
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><title>{escape(title)}: kmde_fw report</title><style>{STYLE}</style></head>'
        f"<body><header><h1>{escape(title)}</h1>{head}<nav>{menu}</nav></header><main>{body}</main></body></html>\n"
    )


# sections -----------------------------------------------------------------------------------------------------------


def _headline(facts: Record) -> str:
    """The few numbers, before and after."""
    first, last = facts["cycles"][0], facts["cycles"][-1]
    rows = [
        ("outlier atoms", first["n_outliers"], last["n_outliers"], ""),
        ("energy RMSE", _fixed(first["energy_rmse"], 2), _fixed(last["energy_rmse"], 2), "meV/atom"),
        ("force RMSE", _fixed(first["force_rmse"], 4), _fixed(last["force_rmse"], 4), "eV/Å"),
        ("surrogates", first["n_surrogates"], last["n_surrogates"], f"of {_budget(facts)}"),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span>{name}</span><b>{before} → {after}</b><span>{unit}&nbsp;</span></div>'
            for name, before, after, unit in rows
        )
        + "</div>"
    )


def _budget(facts: Record) -> str:
    return next(str(s["value"]) for s in facts["settings"] if s["option"] == "stop.max_surrogates")


def _cycles(facts: Record) -> str:
    cycles = facts["cycles"]
    cycle_table = table(
        ["cycle", "N", "surrogate that came in", "outlier atoms", "coverage gap", "energy RMSE, meV/atom", "bias",
         "scatter", "force RMSE, eV/Å", "time"],
        [
            [
                row["cycle"],
                row["n_surrogates"],
                "<br>".join(map(escape, row["surrogates"])) + _refused(row["failed_labels"]) or "–",
                row["n_outliers"],
                f"{row['gap']:.3f}",
                _fixed(row["energy_rmse"], 2),
                "–" if row["energy_bias"] is None else f"{row['energy_bias']:+.2f}",
                _fixed(row["energy_scatter"], 2),
                _fixed(row["force_rmse"], 4),
                duration(row["seconds"]),
            ]
            for row in cycles
        ],
        "rrwrrrrrrr",
    )  # fmt: skip
    n = [row["n_surrogates"] for row in cycles]
    notes = [f"cycle {row['cycle']}: {'; '.join(row['surrogates']) or 'nothing came in'}" for row in cycles]
    outliers = Series("outlier atoms", n, [row["n_outliers"] for row in cycles], 1, notes=notes)
    charts = [chart([outliers], "surrogates N", "outlier atoms", whole=True, zero=True)]
    if any(row["energy_rmse"] is not None for row in cycles):
        energy = [
            Series("RMSE", n, [row["energy_rmse"] for row in cycles], 0, notes=notes),
            Series("|bias|", n, [None if (b := row["energy_bias"]) is None else abs(b) for row in cycles], 1),
            Series("scatter", n, [row["energy_scatter"] for row in cycles], 2),
        ]
        forces = [
            Series("target", n, [row["force_rmse"] for row in cycles], 1, notes=notes),
            Series("train set", n, [row["train_force_rmse"] for row in cycles], 0),
        ]
        for k, name in enumerate(cycles[0]["evaluate"]):
            for series, key in ((energy, "energy_rmse"), (forces, "force_rmse")):
                series.append(Series(f"{name}, RMSE", n, [row["evaluate"][name].get(key) for row in cycles], 3 + k % 3))
        charts.append(chart(energy, "surrogates N", "energy error, meV/atom", log=True, whole=True))
        errors = [value for series in forces for value in series.y if value]
        apart = bool(errors) and max(errors) > 5 * min(errors)
        charts.append(chart(forces, "surrogates N", "force RMSE, eV/Å", whole=True, log=apart))
    charts.append(
        chart([Series("gap", n, [r["gap"] for r in cycles], 2)], "surrogates N", "coverage gap", whole=True, zero=True)
    )
    note = (
        "<p class='note'>The <b>bias</b> is one constant that all target energies are off by; the <b>scatter</b> is "
        "what "
        "remains without it. Their squares add up to the RMSE's. The <b>coverage gap</b> may grow while the potential "
        "gets better: small crystals change the mix of distances that train and target are compared by.</p>"
    )
    decisions = "".join(f"<li>cycle {row['cycle']}: {escape(_decision(row))}</li>" for row in cycles)
    decided = f"<details><summary>what was decided after each cycle</summary><ul>{decisions}</ul></details>"
    return f"{cycle_table}<div class='charts'>{''.join(charts)}</div>{note}{_opinions(cycles)}{decided}"


def _opinions(cycles: Sequence[Record]) -> str:
    """What each cycle's train set leaves open by measures that need no label, and what the picks promised."""
    if not any(row["opinion"] for row in cycles):
        return ""
    opinions = table(
        ["cycle", "N", "energy zero known to, meV/atom", "missing values", "unknown of the vicinity",
         "atoms far from any train atom", "of these inside the range", "predictions moved by",
         "what the picks promised"],
        [
            [
                row["cycle"],
                row["n_surrogates"],
                figures(1e3 * opinion["zero"], 3),
                opinion["open"],
                f"{opinion['vicinity']:.3f}",
                opinion["far"],
                opinion["far_inside"],
                _moved(row["changes"]),
                escape(measures_words(row["promised"])) if row["promised"] else "–",
            ]
            for row in cycles
            if (opinion := row["opinion"])
        ],
        "rrrrrrrrw",
        stack=True,
    )  # fmt: skip
    note = (
        "<p class='note'>The <b>missing values</b> are those by which outlier atoms leave the trained range. The "
        "<b>vicinity</b> are the target's structures displaced and strained, as they are when a simulation moves them: "
        "what of their energies the labelled atoms leave unknown, 0 to 1, by a Gaussian process. The range test is "
        "blind to holes inside the range: atoms <b>far</b> from any train atom are counted whether inside it or not. "
        "<b>Moved</b> is what the models predict for the target, against those of the cycle before (root mean "
        "square).</p>"
    )
    return f"<h3>What the train set leaves open, without any label</h3>{opinions}{note}"


def _moved(changes: Record | None) -> str:
    """How far the predictions for the target moved since the cycle before."""
    return f"{figures(changes['energy'], 2)} meV/atom, {changes['forces']:.2g} eV/Å" if changes else "–"


def _decision(row: Record) -> str:
    early = row["early_stop"]
    return row["decision"] + (f" (it could have stopped: {early})" if early and early != row["decision"] else "")


def _refused(n: int) -> str:
    return f"<br><span class='bad'>{n} label{'s' if n > 1 else ''} refused</span>" if n else ""


def _energies(facts: Record) -> str:
    energies, targets = facts["energies"], facts["targets"]
    x = list(range(len(targets)))
    names = [f"{k}: {t['name']} ({t['formula']})" for k, t in enumerate(targets)]
    last = facts["cycles"][-1]["n_surrogates"]
    series = [
        Series("predicted, N = 0", x, energies["before"], 3, "line", names),
        Series(f"predicted, N = {last}", x, energies["after"], 1, "line", names),
    ]
    if energies["reference"] is None:
        note = "<p class='note'>The target has no reference energies: errors cannot be shown, and are not needed.</p>"
        return f"<div class='charts'>{chart(series, 'target structure', 'energy per atom, eV', whole=True)}</div>{note}"
    series.append(Series("reference", x, energies["reference"], 0, "line", names))
    errors = [
        Series(
            name, x, [1000 * (p - r) for p, r in zip(values, energies["reference"], strict=True)], colour, "line", names
        )
        for name, values, colour in (
            ("N = 0", energies["before"], 3),
            (f"N = {last}", energies["after"], 1),
        )
    ]
    parity = [
        Series(name, energies["reference"], values, colour, "points", names)
        for name, values, colour in (("N = 0", energies["before"], 3), (f"N = {last}", energies["after"], 1))
    ]
    charts = [
        chart(series, "target structure", "energy per atom, eV", whole=True),
        chart(errors, "target structure", "error, meV/atom", whole=True),
        chart(parity, "reference energy, eV/atom", "predicted, eV/atom", diagonal=True),
    ]
    forces = [
        Series(name, sample["reference"], sample["predicted"], colour, "points")
        for name, sample, colour in (("N = 0", facts["forces"][0], 3), (f"N = {last}", facts["forces"][1], 1))
        if sample
    ]
    if forces:
        charts.append(chart(forces, "reference force component, eV/Å", "predicted, eV/Å", diagonal=True))
    return f"<div class='charts'>{''.join(charts)}</div>{_categories(facts)}"


def _categories(facts: Record) -> str:
    before, after = facts["categories"]
    if not after:
        return ""
    rows = []
    for key, entry in after.items():
        if entry["atoms"]:
            old = (before or {}).get(key) or {}
            rows.append([key.replace("_", " "), entry["atoms"], _force(old), _force(entry)])
    head = f"<h3>Force error by distance to the dopant ({escape(str(facts['dopant']))})</h3>"
    note = (
        "<p class='note'>First neighbours are within 3.0 Å of a dopant atom, second neighbours within 5.0 Å. Outlier "
        "atoms are those outside the trained range, normal atoms are inside: the numbers are today's, and at N = 0 "
        "other atoms were in these rows.</p>"
    )
    return head + table(["atoms", "number", "N = 0, eV/Å", "now, eV/Å"], rows, "lrrr") + note


def _force(entry: Record) -> str:
    return _fixed(entry.get("force_rmse"), 4)


def _outside(facts: Record) -> str:
    before, after = facts["n_outliers"]
    if not after:
        return f"<p>None: all {before} atoms that were outside at first are inside the trained range now.</p>"
    elements, cells = facts["elements"], {(c["structure"], c["element"]): c for c in facts["outlier_map"]}
    rows = []
    for s in sorted({c["structure"] for c in facts["outlier_map"]}):
        row: list[Any] = [s, escape(facts["targets"][s]["name"])]
        for element in elements:
            cell = cells.get((s, element))
            if cell is None:
                row.append("<span class='zero'>·</span>")
            else:
                colour = "good" if not cell["after"] else "bad" if cell["after"] >= cell["before"] else "half"
                row.append(f"<span class='cell {colour}'>{cell['before']} → {cell['after']}</span>")
        rows.append(row)
    heat = table(["target", "name", *elements], rows, "rl" + "r" * len(elements))
    listed = []
    for o in facts["outliers"][:60]:
        worst = "<br>".join(escape(exceeded_words(e, o["element"])) for e in o["exceeds"][:2]) or escape(o["reason"])
        if len(o["exceeds"]) > 2:
            worst += f"<br>and {len(o['exceeds']) - 2} more"
        listed.append(
            [f"{o['structure']}: {escape(o['name'])}", f"{o['element']} {o['atom']}",
             escape(neighbours_words(o["neighbours"])), worst, escape(cure(o))]
        )  # fmt: skip
    more = (
        f"<p class='note'>{len(facts['outliers']) - 60} more are not shown.</p>" if len(facts["outliers"]) > 60 else ""
    )
    return (
        "<h3>Outlier atoms by structure and element, at first → now</h3>"
        + heat
        + "<h3>Each of them: what surrounds it, what it exceeds, what would bring it inside</h3>"
        + table(
            ["target", "atom", "neighbours", "outside the trained range", "what would help"],
            listed,
            "lllll",
            stack=True,
        )
        + more
    )


def _cards(facts: Record) -> str:
    if not facts["surrogates"]:
        return "<p>None was picked.</p>"
    rows = [[escape(s["crystal"]), f"{s['n']:,}", f"{s['with_motifs']:,}", s["best"]] for s in facts["sources"]]
    headings = ["crystal", "candidates", "with a key motif", "cycles in which it had the best score"]
    sources = f"<details><summary>what the candidates were made from</summary>{table(headings, rows, 'lrrr')}</details>"
    return '<div class="cards">' + "".join(_card(card) for card in facts["surrogates"]) + f"</div>{sources}"


def _card(card: Record) -> str:
    structure, choice, gain = card["structure"], card["choice"], card["choice"]["gain"]
    picture = crystal(
        structure["species"], np.array(structure["cell"]), np.array(structure["positions"]), card["description"]
    )
    number_ = f"surrogate {card['number']}" if card["number"] else "no label"
    facts: list[tuple[str, str]] = [
        ("why", _why(card)),
        ("rank", f"{choice['rank'] + 1} of {choice['n_candidates']}, score {number(choice['score'])}"),
    ]
    if "promise" in choice:
        facts.append(("promised", measures_words(choice["promise"])))
    if gain:
        if gain["realised"]:
            facts.append(("the cycle brought", measures_words(gain["realised"])))
        facts.append(("outlier atoms", f"{gain['outliers'][0]} → {gain['outliers'][1]}"))
        if gain["metrics"]:
            before, after = gain["metrics"]["energy_rmse"]
            facts.append(("energy RMSE", f"{before:.2f} → {after:.2f} meV/atom"))
    facts += [
        (key, number(value)) for key, value in further_terms(choice).items() if not isinstance(value, dict | list)
    ]
    if card["label"]:
        facts.append(("label", f"{card['label']['energy']:.4f} eV{', was there already' if card['reused'] else ''}"))
    for refused in card["refused"]:
        facts.append(("refused", refused["reason"]))
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    lines = choice_lines(choice) + (["", *label_lines(card["label"])] if card["label"] else [])
    return (
        f'<article class="card"><h3>{escape(card["formula"])} <small>{number_}, cycle {card["cycle"]}</small></h3>'
        f'<p class="sub">{escape(card["description"])}</p>{picture}<dl>{rows}</dl>'
        f'<p class="id">kmde why {short(card["structure_id"])}</p>'
        f"<details><summary>passport</summary><pre>{escape(chr(10).join(lines))}</pre></details></article>"
    )


def _why(card: Record) -> str:
    choice = card["choice"]
    if not choice["motifs"] or not scores_motifs(choice["strategy"]):
        return str(choice["reason"])
    best = ", ".join(motif_words(m) for m in choice["motifs"][:2])
    more = f" and {len(choice['motifs']) - 2} more" if len(choice["motifs"]) > 2 else ""
    return f"contains {best}{more}, missing around {len(choice['outliers'])} outlier atoms"


def _coverage(facts: Record) -> str:
    gap = f"<p>{escape(facts['composition_gap'][0])}.</p>"
    if facts["composition_gap"][1] != facts["composition_gap"][0]:
        gap = f"<p>At first: {escape(facts['composition_gap'][0])}.<br>Now: {escape(facts['composition_gap'][1])}.</p>"
    note = (
        "<p class='note'>Grey area: the target. Dashed: the train set; line: with the surrogates. What sticks out of "
        "the "
        "lines is missing. Shaded columns are the key motifs of the first cycle: ranges that are missing and found "
        "around outlier atoms.</p>"
    )
    parts = []
    for kind, title, unit in (("distance", "Distances", "distance, Å"), ("angle", "Angles", "angle, degrees")):
        channels = [channel for channel in facts["channels"] if channel["kind"] == kind]
        figures = "".join(_channel(channel, unit) for channel in channels)
        if figures:
            is_open = " open" if kind == "distance" else ""
            parts.append(
                f"<details{is_open}><summary>{title}: {len(channels)} channels</summary>"
                f"<div class='charts'>{figures}</div></details>"
            )
    return gap + note + "".join(parts)


def _channel(channel: Record, unit: str) -> str:
    marks = [(m["low"], m["high"], f"key motif {m['rank'] + 1}: {motif_words(m)}") for m in channel["motifs"]]
    edges = channel["target"]["edges"]
    x_range = None
    if channel["kind"] == "distance":  # nothing is nearer than atoms can be
        filled = [
            channel[name]["edges"][k]
            for name in ("target", "train", "extended")
            for k, value in enumerate(channel[name]["values"])
            if value > 0
        ]
        x_range = (max(0.0, min(filled) - 0.1), edges[-1])
    series = []
    looks = (
        ("target", "target", 0, "area"),
        ("train", "train", 3, "step"),
        ("extended", "train + surrogates", 1, "step"),
    )
    for name, title, colour, kind in looks:
        all_edges, values = channel[name]["edges"], channel[name]["values"]
        first = 0 if x_range is None else sum(edge < x_range[0] for edge in all_edges)
        series.append(Series(title, all_edges[first:], values[first:], colour, kind))
    per = "per Å" if channel["kind"] == "distance" else "per degree"
    before, after = channel["missing"]
    head = (
        f"<h4>{escape(channel['key'])} <small>missing {100 * before:.0f} % → {100 * after:.0f} %, "
        f"{_count(len(channel['motifs']), 'key motif')}</small></h4>"
    )
    return f"<div>{head}{chart(series, unit, f'density {per}', marks=marks, x_range=x_range, height=220)}</div>"


def _failures(facts: Record) -> str:
    if not facts["failures"]:
        return "<p>Nothing: every pick was labelled, and no label was refused.</p>"
    rows = [[r["cycle"], r["kind"], escape(r["what"]), escape(failure_words(r))] for r in facts["failures"]]
    return table(["cycle", "kind", "what", "why"], rows, "llll", stack=True)


def _cost(facts: Record) -> str:
    cost = facts["cost"]
    rows = [[step, duration(seconds)] for step, seconds in cost["seconds"].items()]
    rows.append(["<b>from submission to the end</b>", duration(cost["total"])])
    reused = (
        f"{cost['labels_reused']} of {cost['labels']} labels and {cost['models_reused']} of {cost['models']} models"
    )
    # an older kmde_fw did not count it
    cells = (
        f": in terms of electrons cubed that is the cost of {figures(cost['train_cells'], 2)} cells of the train set"
        if cost["train_cells"] is not None
        else ""
    )
    return (
        f"<p>{cost['candidates']:,} candidates were looked at, {cost['labels']} were labelled{cells}. {reused} were "
        "there already from other campaigns and were not computed again.</p>" + table(["step", "wall time"], rows, "lr")
    )


def _settings(facts: Record) -> str:
    changed = [
        [escape(s["option"]), escape(_value(s["value"]))]
        for s in facts["settings"]
        if not s["default"] and s["option"] != "description"
    ]
    every = [[escape(s["option"]), escape(_value(s["value"]))] for s in facts["settings"]]
    versions = [[escape(name), escape(str(value))] for name, value in facts["versions"].items()]
    level = "; ".join(f"{key} {_value(value)}" for key, value in facts["level"].items() if value not in ({}, None))
    remarks = "".join(f"<p class='note'>{escape(remark)}</p>" for remark in facts["remarks"])
    return (
        f"<p>Level of theory: {escape(level)}.</p>{remarks}<h3>Set for this campaign</h3>"
        + table(["option", "value"], changed, "ll")
        + f"<details><summary>all {len(every)} options</summary>{table(['option', 'value'], every, 'll')}</details>"
        + f"<details><summary>versions</summary>{table(['package', 'version'], versions, 'll')}</details>"
    )


_WORDS = (
    "<dl class='words'>"
    "<dt>target</dt><dd>the structures that the potential is for</dd>"
    "<dt>outlier atom</dt><dd>an atom of the target whose surroundings, described by symmetry functions, lie outside "
    "the "
    "range of all atoms of its element in the train set: there the potential guesses</dd>"
    "<dt>key motif</dt><dd>a range of a distance or an angle that the target has around outlier atoms and the train "
    "set "
    "lacks</dd>"
    "<dt>surrogate</dt><dd>a small crystal that is rich in key motifs, calculated by the reference and learned "
    "from</dd>"
    "<dt>coverage gap</dt><dd>the part of the target's distances and angles that the train set lacks, summed over all "
    "pairs and triplets of elements</dd>"
    "<dt>RMSE</dt><dd>root mean square error against the reference, over all target structures</dd></dl>"
)


# below --------------------------------------------------------------------------------------------------------------


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], align: str, stack: bool = False) -> str:
    """HTML in the cells is the caller's; it scrolls sideways where it does not fit, or stacks its cells on a phone.

    align: of each column, r (numbers, right), l (left) or w (left, and wide enough for a phrase).
    """
    classes = [{"r": "num", "w": "wide"}.get(a, "") for a in align]
    head = "".join(f'<th class="{c}">{escape(h)}</th>' for h, c in zip(headings, classes, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{c}" data-label="{escape(h)}">{cell}</td>'
            for cell, c, h in zip(row, classes, headings, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    kind = ' class="stack"' if stack else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
