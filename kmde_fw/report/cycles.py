"""The cycles of a campaign and the campaigns of a database, as plain rows and as tables for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from kmde_fw.report.words import motif_words, open_words
from kmde_fw.store import Store
from kmde_fw.store.queries import failures, promised_together

#: heights of a curve in characters
BARS = "▁▂▃▄▅▆▇█"
#: fields of a cycle's row that are drawn, with their names
CURVES = (
    ("n_outliers", "outliers"),
    ("energy_rmse", "energy RMSE"),
    ("energy_scatter", "scatter"),
    ("force_rmse", "force RMSE"),
)
#: the same of its opinion, with the factor into the unit shown: meV/atom, values, part, atoms far though inside
OPINION_CURVES = (
    ("zero", 1e3, "energy zero"),
    ("open", 1, "missing"),
    ("vicinity", 1.0, "vicinity"),
    ("far_inside", 1, "far inside"),
)
#: more cycles than any campaign has
MANY_CYCLES = 10**6


def cycle_rows(store: Store, campaign: str) -> list[dict[str, Any]]:
    """One row per finished cycle, first to last.

    Energies in meV/atom, forces in eV/Å, means over the cycle's models; None where the target has no labels.
    surrogates: those that came in with the cycle, in words; n_surrogates: all labelled so far; seconds: wall time since
    the cycle before; evaluate: the same errors for each further set; cost: of all surrogates, in train cells;
    opinion: what the train set leaves open, without any label (`core.environments.Opinion`; None: not measured by that
    version); promised, realised: of its measures, [before, after], by the picks of the cycle together, {} where nothing
    was; remaining: promised by the best candidate that was not picked; changes: how far the predictions for the target
    moved since the cycle before, energy in meV/atom and forces in eV/Å, root mean square; both None where they are not
    known; early_stop: why `stop.rule: converged` would end the campaign here.
    """
    rows = []
    labelled = 0
    for cycle in store.cycles(campaign):
        surrogates, failed = _surrogates(store, campaign, cycle["cycle"])
        labelled += len(surrogates)
        target = cycle["metrics"]["target"]
        rows.append(
            {
                "cycle": cycle["cycle"],
                "n_surrogates": labelled,
                "surrogates": surrogates,
                "failed_labels": failed,
                "n_outliers": cycle["n_outliers"],
                "gap": cycle["gap"],
                "opinion": cycle.get("opinion"),
                "promised": promised_together(cycle.get("promised", [])),
                "realised": cycle.get("realised", {}),
                "changes": cycle.get("changes"),
                "remaining": cycle.get("remaining"),
                "energy_rmse": _mean(target, "energy_rmse"),
                "energy_bias": _mean(target, "energy_bias"),
                "energy_scatter": _mean(target, "energy_scatter"),
                "force_rmse": _mean(target, "force_rmse"),
                "evaluate": {
                    name: {key: error["mean"] for key, error in errors.items()}
                    for name, errors in cycle["metrics"]["evaluate"].items()
                },
                "cost": cycle["cost"],
                "early_stop": cycle["early_stop"],
                "train_energy_rmse": _mean(cycle["metrics"]["train"], "energy_rmse"),
                "train_force_rmse": _mean(cycle["metrics"]["train"], "force_rmse"),
                "models": cycle["models"],
                "seconds": cycle["seconds"],
                "decision": cycle["reason"],
            }
        )
    return rows


def _mean(metrics: dict[str, Any], key: str) -> float | None:
    return metrics[key]["mean"] if key in metrics else None


def _surrogates(store: Store, campaign: str, cycle: int) -> tuple[list[str], int]:
    """The accepted surrogates of one cycle in words, and how many labels of it failed."""
    outcomes = [o for o in store.outcomes(campaign, cycle) if o["cycle"] == cycle]
    words = []
    for outcome in outcomes:
        if outcome["label_id"]:
            slot = store.selection(campaign, cycle)["slots"][outcome["slot"]]
            chosen = slot[len(outcome["refused"])]
            words.append(f"{chosen['formula']}: {chosen['description']}")
    return words, sum(len(o["refused"]) for o in outcomes)


def refusals(store: Store, campaign: str) -> list[dict[str, Any]]:
    """Picks whose label was refused, in order: cycle, slot, structure_id, reason, and what its label document says.

    formula; state: failed, rejected, or outside (of the reference's domain); corrections: of custodian, in words;
    run_directory and host: where it was calculated, empty where it is not kept or was not calculated at all.
    """
    rows = []
    for outcome in store.outcomes(campaign, MANY_CYCLES):
        for refused in outcome["refused"]:
            label = (store.get("labels", refused["label_id"]) if refused.get("label_id") else None) or {}
            structure = store.get("structures", refused["structure_id"]) or {}
            rows.append(
                {
                    "cycle": outcome["cycle"],
                    "slot": outcome["slot"],
                    **refused,
                    "formula": structure.get("formula", ""),
                    "corrections": [e for c in label.get("corrections", []) for e in c["errors"]],
                    "run_directory": label.get("run_directory") or "",
                    "host": label.get("host") or "",
                }
            )
    return rows


def refusal_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of `refusals` for people."""
    table = Table(title="failed labels", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("cycle", "slot"):
        table.add_column(name, justify="right")
    for name in ("structure", "state", "reason", "corrections", "where"):
        table.add_column(name, overflow="fold")
    for row in rows:
        where = f"{row['host']}:{row['run_directory']}" if row["run_directory"] else "–"
        corrections = ", ".join(row["corrections"]) or "–"
        state = row.get("state", "refused")
        table.add_row(str(row["cycle"]), str(row["slot"]), row["formula"], state, row["reason"], corrections, where)
    return table


def open_slots(store: Store, campaign: str) -> list[dict[str, Any]]:
    """Picks that no label could be had for, nor for their reserves: cycle, slot, what stays open by it, in words.

    motifs: the key motifs among it.
    """
    return [
        {
            "cycle": row["cycle"],
            "slot": row["slot"],
            "open": open_words(row),
            "motifs": [motif_words(motif) for motif in row["open_motifs"]],
        }
        for row in failures(store, campaign)
        if row["kind"] == "slot" and row["refused"]
    ]


def running_steps(store: Store, campaign: str) -> list[dict[str, Any]]:
    """The steps at work: cycle, message, done, total (0: not known), seconds since they began."""
    if store.campaign(campaign)["state"] != "running":
        return []
    return [
        {
            "cycle": int(step["_id"].split("/")[1]),
            "message": step["message"],
            "done": step["done"],
            "total": step["total"],
            "seconds": step["seconds"],
        }
        for step in store.progress(campaign)
    ]


def cycle_table(rows: list[dict[str, Any]], title: str) -> Table:
    """The rows of `cycle_rows` for people."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False, expand=False)
    for name in ("cycle", "N"):
        table.add_column(name, justify="right")
    table.add_column("surrogate", overflow="fold")
    for name in ("outliers", "gap", "energy RMSE\nmeV/atom", "bias", "scatter", "force RMSE\neV/Å", "time"):
        table.add_column(name, justify="right")
    for row in rows:
        words = list(row["surrogates"])
        if row["failed_labels"]:
            words.append(f"({row['failed_labels']} labels refused)")
        table.add_row(
            str(row["cycle"]),
            str(row["n_surrogates"]),
            "\n".join(words) or "–",
            str(row["n_outliers"]),
            f"{row['gap']:.3f}",
            _number(row["energy_rmse"], ".2f"),
            _number(row["energy_bias"], "+.2f"),
            _number(row["energy_scatter"], ".2f"),
            _number(row["force_rmse"], ".4f"),
            duration(row["seconds"]),
        )
    return table


def curve_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The curves of `cycle_rows` in characters, one line each: "outliers     █▅▅▂  20 → 8"; none before two cycles."""
    measures = [(name, [row[key] for row in rows if row[key] is not None]) for key, name in CURVES]
    opinions = [opinion for row in rows if (opinion := row.get("opinion"))]
    measures += [(name, [factor * opinion[key] for opinion in opinions]) for key, factor, name in OPINION_CURVES]
    measures.append(("energy moved", [row["changes"]["energy"] for row in rows if row.get("changes")]))
    lines = []
    for name, values in measures:
        if len(values) > 1:
            highest = max(values) or 1.0
            bars = "".join(BARS[min(len(BARS) - 1, int(len(BARS) * value / highest))] for value in values)
            lines.append(f"{name:12} {bars}  {values[0]:.4g} → {values[-1]:.4g}")
    return lines


def campaign_rows(store: Store) -> list[dict[str, Any]]:
    """One row per campaign: name, state, reason, and its last cycle's row or None."""
    rows = []
    for document in store.campaigns():
        cycles = cycle_rows(store, document["_id"])
        rows.append(
            {
                "campaign": document["_id"],
                "state": document["state"],
                "reason": document["reason"],
                "submitted": document["created"].isoformat(timespec="seconds"),
                "cycles": len(cycles),
                "last": cycles[-1] if cycles else None,
            }
        )
    return rows


def campaign_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of `campaign_rows` for people."""
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("campaign")
    table.add_column("state")
    for name in ("cycles", "N", "outliers", "energy RMSE\nmeV/atom", "force RMSE\neV/Å"):
        table.add_column(name, justify="right")
    table.add_column("why it stopped", overflow="fold")
    for row in rows:
        last = row["last"] or {}
        table.add_row(
            row["campaign"],
            row["state"],
            str(row["cycles"]),
            str(last.get("n_surrogates", "–")),
            str(last.get("n_outliers", "–")),
            _number(last.get("energy_rmse"), ".2f"),
            _number(last.get("force_rmse"), ".4f"),
            row["reason"] or "–",
        )
    return table


def duration(seconds: float) -> str:
    """Seconds for people: 0.3 s, 12 s, 3:05 min, 2:10 h."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
