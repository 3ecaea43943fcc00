"""The coverage certificate of a model in the database, and any certificate as a page for people."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from kmde_fw import __version__
from kmde_fw.core.certificate import FILE_NAME, PAGE_NAME, Certificate, certify
from kmde_fw.core.outliers import FeatureRange
from kmde_fw.errors import StoreError
from kmde_fw.records import cycle_key
from kmde_fw.reference import describe_level
from kmde_fw.report.page import document, table
from kmde_fw.report.words import function_words, motif_words, number
from kmde_fw.store import Store, queries

Record = Mapping[str, Any]

#: motifs that are listed as not covered
LISTED_MOTIFS = 20
METHOD = (
    "J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007): the kind of potential",
    "J. Behler, J. Chem. Phys. 134, 074106 (2011): the symmetry functions",
    "S. Sakoda, thesis on extrapolation in high-dimensional neural network potentials, 2026: the choice of train set",
)


def certificate_of(store: Store, key: str, ranges: Mapping[str, FeatureRange], functions: list[str]) -> Certificate:
    """Everything that the database knows of a model, by its _id. ranges, functions: of the model itself."""
    lineage = queries.lineage(store, key)
    model, campaign = lineage["model"], lineage["campaign"]
    cycle = _cycle_of(lineage)
    data = store.get_labelled([row["label_id"] for row in lineage["train"]])
    train = [labelled.structure for labelled in data]
    level = store.campaign(campaign["_id"])["level"]
    sha256 = str(model["weights"]["sha256"])
    return certify(
        model["elements"],
        float(model["descriptor"]["cutoff"]),
        functions,
        ranges,
        train,
        model={
            "sha256": sha256,
            "id": key,
            "seed": model["seed"],
            "hidden": list(model["network"]["hidden"]),
            "trained": model["created"].isoformat(timespec="minutes"),
        },
        campaign={"name": campaign["_id"], "cycle": cycle, "description": campaign["description"]},
        uncovered=_uncovered(store, campaign["_id"], cycle) if cycle is not None else {},
        errors=_errors(store, key, campaign["_id"], cycle, model),
        level=level,
        data={
            "structures": len(train),
            "chosen_structures": sum(row["origin"]["kind"] == "pick" for row in lineage["train"]),
            "atoms": sum(map(len, train)),
            "sha256": _data_hash(data),
        },
        versions=model.get("versions") or campaign["versions"],
        cite=[
            f"this model: kmde_fw {__version__}, model {sha256[:16]}, campaign {campaign['_id']}",
            f"its reference: {describe_level(level)}, by what that asks for",
            *METHOD,
        ],
    )


def _cycle_of(lineage: Record) -> int | None:
    """The closed cycle of the model's campaign that has it, the first if there are several."""
    cycles = [use["cycle"] for use in lineage["used_in"] if use["campaign"] == lineage["campaign"]["_id"]]
    return min(cycles) if cycles else None


def _data_hash(data: Any) -> str:
    from kmde_fw.hdnnp.training import training_data_hash

    return training_data_hash(data)


def _uncovered(store: Store, campaign: str, cycle: int) -> dict[str, Any]:
    """What of the target the train set of that cycle leaves open."""
    found = store.find("analyses", {"_id": cycle_key(campaign, cycle)})
    if not found:
        raise StoreError(f"campaign {campaign} has no analysis of cycle {cycle}; see `kmde status {campaign}`")
    analysis = found[0]
    outliers = queries.outliers(store, campaign, cycle)
    exceeded = Counter((o["element"], e["function"]) for o in outliers for e in o["exceeds"])
    return {
        "target_structures": len(store.campaign(campaign)["target_structures"]),
        "target_atoms": analysis["n_target_atoms"],
        "outlier_atoms": analysis["n_outliers"],
        "by_element": dict(sorted(Counter(o["element"] for o in outliers).items())),
        "functions": [
            {"element": e, "function": f, "atoms": n} for (e, f), n in sorted(exceeded.items(), key=lambda x: -x[1])
        ],
        "gap": analysis["gap"],
        "channels": {c["key"]: c["missing"] for c in analysis["coverage"]["channels"] if sum(c["counts_target"])},
        "motifs": [
            {key: motif[key] for key in ("channel", "kind", "low", "high", "score")}
            for motif in store.motifs(campaign, cycle)[:LISTED_MOTIFS]
        ],
        "composition_gap": analysis["composition_gap"],
    }


def _errors(store: Store, key: str, campaign: str, cycle: int | None, model: Record) -> dict[str, Any]:
    """On the train set; and where a cycle has evaluated it, on target and further sets, with force errors by category.

    Energies in meV/atom, forces in eV/Å; None: without labels.
    """
    report = model["report"]
    errors: dict[str, Any] = {
        "train": {"energy_rmse": report["train_energy_rmse"], "force_rmse": report["train_force_rmse"]}
    }
    evaluation = store.get("evaluations", cycle_key(campaign, cycle)) if cycle is not None else None
    row = next((row for row in (evaluation or {}).get("rows", []) if row["model"] == key), None)
    if row is not None:
        errors |= {"target": row["target"], "evaluate": row["evaluate"], "categories": row["categories"]}
        errors["dopant"] = (evaluation or {}).get("dopant")
    return errors


def write_certificate(certificate: Certificate, output: Path) -> list[Path]:
    """Beside a model file, or into the folder of an exported model, of whose files it then holds the hashes.

    Returns the files written: JSON, and a page. May raise OSError.
    """
    if output.is_dir():
        own = (FILE_NAME, PAGE_NAME)
        files = {
            path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(output.rglob("*"))
            if path.is_file() and path.name not in own
        }
        certificate = certificate.model_copy(update={"files": files})
        written = [output / name for name in own]
    else:
        written = [output.with_suffix(f".{name}") for name in (FILE_NAME, PAGE_NAME)]
    for path, text in zip(written, (certificate.dumps(), certificate_page(certificate)), strict=True):
        path.write_text(text, encoding="utf-8")
    return written


# the page -----------------------------------------------------------------------------------------------------------


def certificate_page(certificate: Certificate) -> str:
    """One HTML file that opens offline."""
    facts = certificate
    name = facts.campaign.get("name") or facts.model.get("id") or facts.sha256
    head = (
        f'<p class="sub">{escape(" ".join(facts.elements))} · model sha256 {facts.sha256}</p>'
        f'<div class="verdict">{"".join(f"<p>{escape(s)}</p>" for s in _sentences(facts))}</div>'
    )
    sections = [
        ("trained", "What it was trained on", _trained(facts)),
        ("reach", "Which distances and angles that covers", _support(facts)),
        ("functions", "Ranges of the symmetry functions", _functions(facts)),
        ("uncovered", "What of the target it leaves open", _open(facts)),
        ("errors", "Errors", _error_tables(facts)),
        ("cite", "How to cite", "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in facts.cite) + "</ul>"),
    ]
    return document(f"Coverage certificate of {str(name)[:40]}", head, sections)


def _sentences(facts: Certificate) -> list[str]:
    data = facts.data
    chosen = f", {data['chosen_structures']} of them chosen by the campaign" if data.get("chosen_structures") else ""
    lines = [
        f"Trained on {data['structures']} structures with {data['atoms']} atoms{chosen}. Outside of what this page "
        "says the model extrapolates, and its numbers are worth nothing until a reference has confirmed them."
    ]
    if facts.uncovered:
        n, atoms = facts.uncovered["outlier_atoms"], facts.uncovered["target_atoms"]
        lines.append(
            f"Of the {atoms} atoms of the {facts.uncovered['target_structures']} target structures {n or 'none'} "
            f"{'is' if n < 2 else 'are'} outside."
        )
    target = facts.errors.get("target")
    if target:
        lines.append(
            f"Errors on the target: {target['energy_rmse']:.2f} meV/atom and {target['force_rmse']:.4f} eV/Å (RMSE)."
        )
    return lines


def _trained(facts: Certificate) -> str:
    rows: list[list[Any]] = []
    for element in facts.elements:
        low, high = facts.composition.get(element, [0.0, 0.0])
        rows.append([element, facts.atoms[element], f"{100 * low:.1f}", f"{100 * high:.1f}"])
    html = table(["element", "atoms in the train set", "least, at.%", "most, at.%"], rows, "lrrr")
    if facts.level:
        html += f"<p>Level of theory: {escape(describe_level(facts.level))}.</p>"
    if facts.data.get("sha256"):
        html += f"<p class='note'>Train set: sha256 {facts.data['sha256']} over structures, energies and forces.</p>"
    if facts.campaign:
        cycle = facts.campaign["cycle"]
        place = f"campaign {facts.campaign['name']}" + (f", cycle {cycle}" if cycle is not None else "")
        html += f"<p class='note'>{escape(place)}; seed {facts.model.get('seed')}.</p>"
    versions = ", ".join(f"{name} {value}" for name, value in facts.versions.items())
    return html + (f"<p class='note'>{escape(versions)}</p>" if versions else "")


def _support(facts: Certificate) -> str:
    rows = []
    for key, support in facts.support.items():
        kind = "distance" if key.count("-") == 1 else "angle"
        end, unit, digits = (facts.cutoff, " Å", 2) if kind == "distance" else (180.0, "°", 0)
        words = ", ".join(f"{low:.{digits}f}–{high:.{digits}f}" for low, high in support.ranges)
        strip = "".join(
            f'<rect class="f1" x="{100 * low / end:.2f}" y="0" width="{100 * (high - low) / end:.2f}" height="6"/>'
            for low, high in support.ranges
        )
        drawn = (
            f'<svg viewBox="0 0 100 6" preserveAspectRatio="none" width="180" height="11" role="img" '
            f'aria-label="{escape(key)}"><rect x="0" y="0" width="100" height="6" fill="var(--line)"/>{strip}</svg>'
        )
        rows.append([escape(key), support.samples, drawn, f"{words}{unit}" if words else "none"])
    note = (
        f"<p class='note'>Covered is what lies within {facts.reach['distance']:g} Å or {facts.reach['angle']:g}° of a "
        f"distance or an angle of the train set, up to the cutoff of {facts.cutoff:g} Å; of an angle the vertex stands "
        "in the middle. The strips go from 0 to the cutoff, or to 180°.</p>"
    )
    return note + table(["channel", "samples", "", "covered"], rows, "lrlw")


def _functions(facts: Certificate) -> str:
    html = ""
    for element, ranges in facts.ranges.items():
        rows = [
            [escape(function_words(name)), f"{low:.4g}", f"{high:.4g}"]
            for name, low, high in zip(facts.functions, ranges.low, ranges.high, strict=True)
        ]
        html += (
            f"<details><summary>{escape(element)}: {len(rows)} functions</summary>"
            f"{table(['around it', 'least', 'most'], rows, 'lrr')}</details>"
        )
    missing = [element for element in facts.elements if element not in facts.ranges]
    if missing:
        html += f"<p>The train set has no {escape(', '.join(missing))}: every such atom extrapolates.</p>"
    return html


def _open(facts: Certificate) -> str:
    if not facts.uncovered:
        return "<p>This model was not held against a target.</p>"
    found = facts.uncovered
    html = ""
    if found["functions"]:
        rows = [
            [f["element"], escape(function_words(f["function"])), f["atoms"]]
            for f in found["functions"][:LISTED_MOTIFS]
        ]
        html += table(["element", "outside in", "atoms"], rows, "llr")
    missing = sorted(((m, key) for key, m in found["channels"].items() if m > 0.005), reverse=True)
    if missing:
        html += "<p>Part of the target's distances and angles that the train set has fewer of, by channel:</p>"
        html += table(["channel", "part, %"], [[escape(k), f"{100 * m:.1f}"] for m, k in missing[:LISTED_MOTIFS]], "lr")
    if found["motifs"]:
        html += "<p>The motifs missed most around atoms that are outside: "
        html += escape("; ".join(motif_words(m) for m in found["motifs"])) + ".</p>"
    return html + f"<p>{escape(found['composition_gap'])}.</p>"


def _error_tables(facts: Certificate) -> str:
    sets = {"train set": facts.errors.get("train"), "target": facts.errors.get("target")}
    sets |= facts.errors.get("evaluate") or {}
    rows = [[escape(name), number(e.get("energy_rmse")), number(e.get("force_rmse"))] for name, e in sets.items() if e]
    if not rows:
        return "<p>None were measured.</p>"
    html = table(["set", "energy RMSE, meV/atom", "force RMSE, eV/Å"], rows, "lrr")
    categories = facts.errors.get("categories")
    if categories:
        html += f"<p>Force errors on the target, by distance to the dopant ({escape(str(facts.errors['dopant']))}):</p>"
        html += table(
            ["atoms", "number", "force RMSE, eV/Å"],
            [[k.replace("_", " "), c["atoms"], number(c["force_rmse"])] for k, c in categories.items()],
            "lrr",
        )
    return html
