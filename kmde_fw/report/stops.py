"""Where a stop rule would have ended the campaigns of a comparison, and where it would have been best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmde_fw.comparison import Comparison
from kmde_fw.config import Stop
from kmde_fw.core.decision import CycleSummary, decide, unsettled, vicinity_gain
from kmde_fw.records import cycle_key
from kmde_fw.store import Store
from kmde_fw.units import MEV_PER_EV

Row = Mapping[str, Any]

ENERGY, FORCE = "energy_rmse_mev_per_atom", "force_rmse_ev_per_ang"


def stop_rows(
    store: Store, comparison: Comparison, rows: Sequence[Row], rules: Mapping[str, Stop]
) -> list[dict[str, Any]]:
    """One row per campaign: the N at which its strategy's rule would have ended it, against the best N of the strategy.

    rows: of `comparison.run_rows`; rules: by strategy. stops_at: None where nothing but the budget ended it, then
    `labels_from_best` counts from its last N, and reason says what the rule still waited for. best_n: `best_n` of the
    target, best_n_all: with the further sets, too; None without labels.
    """
    table = []
    for strategy in comparison.strategies:
        own = [row for row in rows if row["strategy"] == strategy]
        best, best_all = best_n(own), best_n(own, further=True)
        for campaign in dict.fromkeys(row["campaign"] for row in own):
            reached = {row["n_added"]: row for row in own if row["campaign"] == campaign}
            n, reason = would_stop(history_of(store, campaign), rules[strategy])
            end = reached[max(reached) if n is None else n]
            table.append(
                {
                    "strategy": strategy,
                    "seed": end["seed"],
                    "campaign": campaign,
                    "stops_at": n,
                    "best_n": best,
                    "labels_from_best": None if best is None else end["n_added"] - best,
                    "best_n_all": best_all,
                    "outliers": end["outliers"],
                    ENERGY: end[ENERGY],
                    FORCE: end[FORCE],
                    "reason": reason,
                }
            )
    return table


def would_stop(history: Sequence[CycleSummary], stop: Stop) -> tuple[int | None, str]:
    """N at which `rule: converged` ends such a campaign, and why; None, and what it waits for in the end."""
    for k in range(len(history)):
        early = decide(history[: k + 1], stop).early
        if early:
            return history[k].n_surrogates, early
    waits = unsettled(history, stop) if stop.zero_outliers else []
    return None, "; ".join(waits) or "none of its rules held"


def history_of(store: Store, campaign: str) -> list[CycleSummary]:
    """What the closed cycles of a campaign say to a stop rule, from its documents; failed labels are left out.

    Documents of versions that recorded neither say it in other places: energies predicted for the target are in the
    evaluations, and what the next cycle picked was the best candidate that remained.
    """
    cycles = store.cycles(campaign)
    found: list[CycleSummary] = []
    for k, cycle in enumerate(cycles):
        opinion = cycle.get("opinion") or {}
        changes = cycle.get("changes") or _energy_change(store, cycles[k - 1 : k + 1])
        following = cycles[k + 1].get("promised") if k + 1 < len(cycles) else None
        n_before = found[-1].n_surrogates if found else 0
        found.append(
            CycleSummary(
                cycle=cycle["cycle"],
                n_surrogates=cycle["n_surrogates"],
                n_outliers=cycle["n_outliers"],
                gap=cycle["gap"],
                new_labels=cycle["n_surrogates"] - n_before if k else None,
                zero=opinion.get("zero", 0.0),
                vicinity=opinion.get("vicinity", 0.0),
                far_inside=opinion.get("far_inside", 0),
                energy_change=changes.get("energy"),
                force_change=changes.get("forces"),
                remaining=vicinity_gain(cycle.get("remaining") or (following[0] if following and k else None)),
                cost=cycle["cost"] or 0.0,
            )
        )
    return found


def _energy_change(store: Store, pair: Sequence[Row]) -> dict[str, float]:
    """Of two cycles' models: root mean square change of the target's predicted energies, in meV/atom."""
    if len(pair) < 2 or pair[0]["models"] == pair[1]["models"]:
        return {}
    evaluations = [store.get("evaluations", cycle_key(c["campaign"], c["cycle"])) or {"rows": []} for c in pair]
    then, now = (np.array([row["target_energies"] for row in e["rows"]]) for e in evaluations)
    if then.shape != now.shape or not then.size:
        return {}
    structures = store.get_structures(store.campaign(pair[0]["campaign"])["target_structures"])
    change = MEV_PER_EV * (now - then) / np.array([len(structure) for structure in structures])
    return {"energy": float(np.sqrt(np.mean(change**2)))}


def best_n(rows: Sequence[Row], further: bool = False) -> int | None:
    """The smallest N of a strategy that no other beats by more than chance; None where errors are not known.

    First come the fewest outlier atoms, among these the lowest energy and force RMSE, as their geometric mean (further:
    those of the further sets, too). An N is as good as the best where the mean difference over the seeds is at most
    its standard error. rows: of one strategy, as `comparison.run_rows` has them; only an N that all seeds reached.
    """
    measures = [name for name in (rows[0] if rows else ()) if name.endswith((ENERGY, FORCE))]
    measures = [name for name in measures if further or name in (ENERGY, FORCE)]
    by_seed = {(row["campaign"], row["n_added"]): row for row in rows}
    campaigns = list(dict.fromkeys(row["campaign"] for row in rows))
    numbers = [
        n for n in sorted({row["n_added"] for row in rows}) if all((campaign, n) in by_seed for campaign in campaigns)
    ]
    table = [[by_seed[campaign, n] for n in numbers] for campaign in campaigns]
    if not numbers or any(row[name] is None for line in table for row in line for name in measures):
        return None
    outliers = np.array([[float(row["outliers"]) for row in line] for line in table])
    tiny = np.finfo(float).tiny
    errors = np.array([[np.mean([np.log(row[m] + tiny) for m in measures]) for row in line] for line in table])
    covered = _as_good_as_the_best(outliers)
    return numbers[covered[_as_good_as_the_best(errors[:, covered])[0]]]


def _as_good_as_the_best(values: np.ndarray) -> np.ndarray:
    """Columns of values (n_seeds, n) that are, seed by seed, above the lowest by no more than the standard error."""
    differences = values - values[:, [values.mean(axis=0).argmin()]]
    n = len(values)
    error = differences.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else 0.0
    return np.flatnonzero(differences.mean(axis=0) <= error)


def stop_headings() -> list[str]:
    """What the columns of `stop_cells` are."""
    return ["strategy", "seed", "stops at N", "best N", "with further sets", "outliers", "energy RMSE", "reason"]


def stop_cells(row: Row) -> list[str]:
    """A row of `stop_rows` in words."""

    def number(value: Any, form: str = "") -> str:
        return "–" if value is None else format(value, form)

    return [
        str(row["strategy"]),
        str(row["seed"]),
        "does not" if row["stops_at"] is None else str(row["stops_at"]),
        number(row["best_n"]),
        number(row["best_n_all"]),
        str(row["outliers"]),
        number(row[ENERGY], ".2f"),
        str(row["reason"]),
    ]
