"""A comparison of strategies as rows: every campaign at every N, means over seeds, force errors by category."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from kmde_fw.comparison import Comparison
from kmde_fw.core.categories import pool_categories
from kmde_fw.records import cycle_key
from kmde_fw.report.stops import stop_cells, stop_headings
from kmde_fw.store import Store
from kmde_fw.units import figures

#: columns with a mean and a standard deviation over the seeds: name of the mean, name of the standard deviation
MEASURES = {
    "energy_rmse_mev_per_atom": "energy_rmse_std",
    "force_rmse_ev_per_ang": "force_rmse_std",
    "outliers": "outliers_std",
    "energy_bias_mev_per_atom": "energy_bias_std",
    "energy_scatter_mev_per_atom": "energy_scatter_std",
    "cost_train_cells": "cost_std",
}
#: what the table of `cost_rows` shows
COST_WORDS = "At equal cost: the last cycle whose labels have cost at most so many train cells together"
#: what the table of `stops.stop_rows` shows
STOP_WORDS = (
    "Where `stop.rule: converged` would have ended each campaign, which sees no label of the target, with outliers and "
    "energy RMSE (meV/atom) there; best N: the smallest that no other beats by more than chance over the seeds, in "
    "outliers first, then in energy and force RMSE together (on the target; with the further sets)"
)
#: costs of a table by cost: so many, or up to two and a half times as many
STEPS = 4
#: errors as the evaluations name them, and as the tables do
_ERRORS = {
    "energy_rmse": "energy_rmse_mev_per_atom",
    "energy_bias": "energy_bias_mev_per_atom",
    "energy_scatter": "energy_scatter_mev_per_atom",
    "force_rmse": "force_rmse_ev_per_ang",
}


def run_rows(store: Store, comparison: Comparison) -> list[dict[str, Any]]:
    """One row per campaign and N: the last cycle that had N surrogates. Errors are None without labels."""
    runs = comparison.runs
    found = store.find("cycles", {"campaign": {"$in": [run.campaign for run in runs]}}, sort=("campaign", "cycle"))
    cycles: dict[str, dict[int, dict[str, Any]]] = {}
    for cycle in found:
        cycles.setdefault(cycle["campaign"], {})[cycle["n_surrogates"]] = cycle
    rows = []
    for run in runs:
        for n, cycle in sorted(cycles.get(run.campaign, {}).items()):
            errors = {"": cycle["metrics"]["target"]} | {f"{k}_": v for k, v in cycle["metrics"]["evaluate"].items()}
            rows.append(
                {
                    "strategy": run.strategy,
                    "seed": run.seed,
                    "campaign": run.campaign,
                    "cycle": cycle["cycle"],
                    "n_added": n,
                    "outliers": cycle["n_outliers"],
                    "gap": cycle["gap"],
                    "cost_train_cells": cycle["cost"],
                    **{
                        f"{prefix}{name}": metrics[key]["mean"] if key in metrics else None
                        for prefix, metrics in errors.items()
                        for key, name in _ERRORS.items()
                    },
                    "early_stop": cycle["early_stop"],
                    "decision": cycle["reason"],
                }
            )
    return rows


def summary_rows(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per strategy and N: means and standard deviations (divided by n) over those seeds that got so far."""
    measures = _measures(rows)
    summary = []
    for strategy in comparison.strategies:
        of_strategy = [row for row in rows if row["strategy"] == strategy]
        for n in sorted({row["n_added"] for row in of_strategy}):
            same = [row for row in of_strategy if row["n_added"] == n]
            summary.append({"strategy": strategy, "n_added": n, **_means(same, measures), "n_seeds": len(same)})
    return summary


def cost_rows(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per strategy and cost: means and standard deviations over the seeds of what that cost buys.

    cost_at_most: in train cells, in round steps up to the dearest campaign; of each campaign the last cycle counts
    whose labels have cost no more. n_added: mean N of these. A strategy of small cells has spent its N at once.
    """
    measures = {"n_added": "n_added_std", **_measures(rows)}
    rows = [row for row in rows if row["cost_train_cells"] is not None]  # an older kmde_fw did not measure it
    steps = _round_steps(max((row["cost_train_cells"] for row in rows), default=0.0))
    summary = []
    for strategy in comparison.strategies:
        of_strategy = [row for row in rows if row["strategy"] == strategy]
        campaigns = dict.fromkeys(row["campaign"] for row in of_strategy)
        for limit in steps if campaigns else ():
            # labels of one run of a cycle may differ by rounding
            within = [row for row in of_strategy if row["cost_train_cells"] <= limit * (1 + 1e-9)]
            last = [max((r for r in within if r["campaign"] == c), key=lambda r: r["n_added"]) for c in campaigns]
            entry = {"strategy": strategy, "cost_at_most": limit, **_means(last, measures)}
            summary.append({**entry, "n_seeds": len(last)})
    return summary


def _round_steps(most: float) -> list[float]:
    """STEPS to two and a half times as many multiples of 1, 2 or 5 times a power of ten, up to `most`."""
    if most <= 0:
        return []
    power = 10.0 ** np.floor(np.log10(most / STEPS))
    step = max(factor * power for factor in (1.0, 2.0, 5.0) if factor * power * STEPS <= most)
    return [float(f"{k * step:.6g}") for k in range(1, int(most / step * (1 + 1e-9)) + 1)]


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """MEASURES, and the errors on the further sets."""
    measures = dict(MEASURES)
    for name in rows[0] if rows else ():
        if name.endswith(tuple(_ERRORS.values())) and name not in _ERRORS.values():
            measures[name] = name.removesuffix("_mev_per_atom").removesuffix("_ev_per_ang") + "_std"
    return measures


def _means(rows: Sequence[Mapping[str, Any]], measures: Mapping[str, str]) -> dict[str, Any]:
    """Mean and standard deviation of each measure where it is known."""
    entry: dict[str, Any] = {}
    for mean, std in measures.items():
        values = [row[mean] for row in rows if row[mean] is not None]
        entry[mean] = float(np.mean(values)) if values else None
        entry[std] = float(np.std(values)) if values else None
    return entry


def category_rows(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Force errors by category at each strategy's last N, all seeds pooled: one row per category, as in the thesis.

    outlier_other is every outlier that is neither dopant nor first neighbour. Empty where there is no dopant or no
    label.
    """
    columns, dopant = {}, None
    for strategy, same in _at_last_n(rows).items():
        evaluations = [store.get("evaluations", cycle_key(row["campaign"], row["cycle"])) for row in same]
        known = [e for e in evaluations if e is not None and e["categories"] is not None]
        if known:
            dopant = known[0]["dopant"]
            columns[strategy] = _as_in_the_thesis(pool_categories([e["categories"] for e in known]), dopant)
    if dopant is None:
        return []
    table = []
    for category in next(iter(columns.values())):
        row: dict[str, Any] = {"category": category}
        for strategy, found in columns.items():
            entry = found[category] or {"atoms": 0, "force_rmse": None}
            row[f"{strategy}_atoms"] = entry["atoms"]
            row[f"{strategy}_force_rmse_ev_per_ang"] = entry["force_rmse"]
        table.append(row)
    return table


def _as_in_the_thesis(found: dict[str, Any], dopant: str) -> dict[str, dict[str, Any] | None]:
    other = [found[name] for name in ("outlier_second_neighbour", "outlier_far") if name in found]
    named = {
        f"outlier_{dopant.lower()}": "outlier_dopant",
        "outlier_first_neighbour": "outlier_first_neighbour",
        "outlier_other": "outlier_other",
        f"normal_{dopant.lower()}": "normal_dopant",
        **{f"normal_{p}": f"normal_{p}" for p in ("first_neighbour", "second_neighbour", "far")},
        "outlier_all": "outlier_all",
        "normal_all": "normal_all",
    }
    pooled = pool_categories([{"outlier_all": entry} for entry in other])
    found = {**found, **({"outlier_other": pooled["outlier_all"]} if other else {})}
    return {name: found.get(key) for name, key in named.items()}


def energy_rows(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Energies per atom of the target structures at each strategy's last N: predicted, mean over seeds, and reference.

    In eV/atom; the reference is None where the target has no labels.
    """
    table = []
    for strategy, same in _at_last_n(rows).items():
        campaign = store.campaign(same[0]["campaign"])
        structures = store.get_structures(campaign["target_structures"])
        labels = store.get_labelled(campaign["target_labels"]) if campaign["target_labels"] else None
        energies = []
        for row in same:
            evaluation = store.get("evaluations", cycle_key(row["campaign"], row["cycle"]))
            energies += [r["target_energies"] for r in evaluation["rows"]] if evaluation else []
        for k, structure in enumerate(structures):
            per_atom = [e[k] / len(structure) for e in energies]
            table.append(
                {
                    "strategy": strategy,
                    "n_added": same[0]["n_added"],
                    "structure": k + 1,
                    "name": structure.name,
                    "predicted_ev_per_atom": float(np.mean(per_atom)),
                    "predicted_std": float(np.std(per_atom)),
                    "reference_ev_per_atom": labels[k].energy / len(structure) if labels else None,
                }
            )
    return table


def _at_last_n(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """By strategy, the rows at the largest N that all its campaigns on record reached."""
    found = {}
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        of_strategy = [row for row in rows if row["strategy"] == strategy]
        campaigns = {row["campaign"] for row in of_strategy}
        last = min(max(row["n_added"] for row in of_strategy if row["campaign"] == c) for c in campaigns)
        found[strategy] = [row for row in of_strategy if row["n_added"] == last]
    return found


def state_rows(store: Store, comparison: Comparison) -> list[dict[str, Any]]:
    """One row per campaign: its state (missing: not submitted yet), labels, why it ended, and whether before N."""
    known = {c["_id"]: c for c in store.find("campaigns", {"_id": {"$in": [run.campaign for run in comparison.runs]}})}
    reached: dict[str, int] = {}
    for row in run_rows(store, comparison):
        reached[row["campaign"]] = row["n_added"]
    states = []
    for run in comparison.runs:
        document, n = known.get(run.campaign), reached.get(run.campaign)
        state = document["state"] if document else "missing"
        states.append(
            {
                "strategy": run.strategy,
                "seed": run.seed,
                "campaign": run.campaign,
                "state": state,
                "n_added": n,
                "reason": document["reason"] if document else "",
                "ended_early": state == "finished" and (n or 0) < comparison.surrogates,
            }
        )
    return states


def remarks(comparison: Comparison, states: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of the tables must know: campaigns that are not finished, and those that ended before N."""
    found = []
    for row in states:
        who = f"{row['strategy']}, seed {row['seed']}"
        if row["state"] != "finished":
            at = "not begun" if row["n_added"] is None else f"at N = {row['n_added']} of {comparison.surrogates}"
            found.append(f"{who}: not finished, {at}")
        elif row["ended_early"]:
            found.append(f"{who}: ended at N = {row['n_added']} of {comparison.surrogates}: {row['reason']}")
    return found


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV text; None is an empty field, numbers have six significant digits."""
    text = io.StringIO()
    if rows:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in row.values()])
    return text.getvalue()


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the summary, or of the rows by cost, in words, in the order of `headings`."""

    def pair(mean: str, std: str, form: str) -> str:
        return "–" if row[mean] is None else f"{row[mean]:{form}} ± {row[std]:{form}}"

    sets = [name.removesuffix("_energy_rmse_mev_per_atom") for name in _set_columns(row)]
    return [
        str(row["strategy"]),
        *([f"{row['cost_at_most']:g}", f"{row['n_added']:.1f}"] if "cost_at_most" in row else [str(row["n_added"])]),
        pair("energy_rmse_mev_per_atom", "energy_rmse_std", ".2f"),
        "–" if row["energy_bias_mev_per_atom"] is None else f"{row['energy_bias_mev_per_atom']:+.2f}",
        "–" if row["energy_scatter_mev_per_atom"] is None else f"{row['energy_scatter_mev_per_atom']:.2f}",
        pair("force_rmse_ev_per_ang", "force_rmse_std", ".4f"),
        pair("outliers", "outliers_std", ".1f"),
        figures(row["cost_train_cells"], 3),
        *(
            cell
            for name in sets
            for cell in (
                pair(f"{name}_energy_rmse_mev_per_atom", f"{name}_energy_rmse_std", ".2f"),
                pair(f"{name}_force_rmse_ev_per_ang", f"{name}_force_rmse_std", ".4f"),
            )
        ),
        str(row["n_seeds"]),
    ]


def _set_columns(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if name.endswith("_energy_rmse_mev_per_atom")]


def headings(row: Mapping[str, Any]) -> list[str]:
    """What the columns of `cells` are; a row tells which further sets there are."""
    sets = [name.removesuffix("_energy_rmse_mev_per_atom") for name in _set_columns(row)]
    return [
        "strategy",
        *(["at most", "N"] if "cost_at_most" in row else ["N"]),
        "energy RMSE, meV/atom",
        "bias",
        "scatter",
        "force RMSE, eV/Å",
        "outliers",
        "cost",
        *(heading for name in sets for heading in (f"{name}: energy RMSE", f"{name}: force RMSE")),
        "seeds",
    ]


def summary_table(summary: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The means for people."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for k, heading in enumerate(headings(summary[0]) if summary else ()):
        table.add_column(heading.replace(", ", "\n").replace(": ", "\n"), justify="left" if k == 0 else "right")
    for row in summary:
        table.add_row(*cells(row))
    return table


def results_text(
    comparison: Comparison,
    command: str,
    summary: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    costs: Sequence[Mapping[str, Any]],
    stops: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> str:
    """The results as a Markdown page: how they were made, the tables, and what a reader must know."""
    lines = [f"# Comparison {comparison.name}", "", f"Made by `{command}`.", ""]
    lines += [
        f"Means ± standard deviations over the seeds {', '.join(map(str, comparison.seeds))}. N: labels added to the "
        "train set; bias and scatter: the two parts of the energy RMSE; outliers: target atoms outside the train "
        "range; cost: of the labels, electrons³ in units of one train cell.",
        "",
    ]
    if summary:
        lines += _markdown(headings(summary[0]), [cells(row) for row in summary])
    if categories:
        lines += [
            "",
            "Force RMSE (eV/Å) and atoms on the target by distance to the dopant, at each strategy's last N:",
            "",
        ]
        rows = [
            [
                str(v) if not isinstance(v, float) else f"{v:.4f}"
                for v in ("–" if x is None else x for x in row.values())
            ]
            for row in categories
        ]
        lines += _markdown([name.replace("_force_rmse_ev_per_ang", "") for name in categories[0]], rows)
    if costs:
        lines += ["", f"{COST_WORDS}:", ""]
        lines += _markdown(headings(costs[0]), [cells(row) for row in costs])
    if stops:
        lines += ["", f"{STOP_WORDS}:", ""]
        lines += _markdown(stop_headings(), [stop_cells(row) for row in stops])
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)]
