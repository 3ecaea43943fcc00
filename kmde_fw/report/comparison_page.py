"""A comparison of strategies as one HTML file, like the report of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from kmde_fw.comparison import Comparison
from kmde_fw.report.comparison import COST_WORDS, STOP_WORDS, cells, headings
from kmde_fw.report.page import document, table
from kmde_fw.report.stops import stop_cells, stop_headings
from kmde_fw.report.svg import Series, chart

Rows = Sequence[Mapping[str, Any]]

#: what is drawn over N: column, what the axis says, whether on a logarithmic scale
CURVES = (
    ("energy_rmse_mev_per_atom", "energy RMSE, meV/atom", True),
    ("energy_scatter_mev_per_atom", "energy scatter, meV/atom", True),
    ("force_rmse_ev_per_ang", "force RMSE, eV/Å", False),
    ("outliers", "outlier atoms", False),
    ("cost_train_cells", "cost of the labels, train cells", False),
)
#: colours of the page that strategies take in turn
COLOURS = 6


def comparison_page(
    comparison: Comparison,
    summary: Rows,
    categories: Rows,
    costs: Rows,
    stops: Rows,
    states: Rows,
    notes: Sequence[str],
) -> str:
    """The page, from the rows of `report.comparison` and `report.stops`.

    states: how each campaign ended; notes: what to know.
    """
    verdict = "".join(f"<p>{escape(sentence)}</p>" for sentence in comparison_verdict(comparison, summary))
    seeds = ", ".join(map(str, comparison.seeds))
    head = (
        f'<p class="sub">{len(comparison.strategies)} strategies, seeds {escape(seeds)}</p>'
        f'<div class="verdict" id="verdict">{verdict}</div>'
        + "".join(f"<p class='note'>{escape(note)}</p>" for note in notes)
    )
    sections = [("curves", "By number of labels", _curves(comparison, summary))]
    if summary:
        titles = headings(summary[0])
        rows = [[escape(cell) for cell in cells(row)] for row in summary]
        sections.append(("means", "Means over the seeds", table(titles, rows, "w" + "r" * (len(titles) - 1))))
    if costs:
        titles = headings(costs[0])
        rows = [[escape(cell) for cell in cells(row)] for row in costs]
        body = f"<p class='note'>{escape(COST_WORDS)}.</p>" + table(titles, rows, "w" + "r" * (len(titles) - 1))
        sections.append(("cost", "At equal cost", body))
    if stops:
        rows = [[escape(cell) for cell in stop_cells(row)] for row in stops]
        text = f"<p class='note'>{escape(STOP_WORDS).replace('`', '')}.</p>"
        sections.append(("stops", "When to stop", text + table(stop_headings(), rows, "w" + "r" * 6 + "w")))
    if categories:
        titles = [name.replace("_force_rmse_ev_per_ang", "").replace("_", " ") for name in categories[0]]
        rows = [[_cell(value) for value in row.values()] for row in categories]
        text = "<p class='note'>Force RMSE (eV/Å) and number of atoms, at each strategy's last N.</p>"
        body = text + table(titles, rows, "w" + "r" * (len(titles) - 1))
        sections.append(("places", "Force errors by distance to the dopant", body))
    rows = [
        [escape(s["campaign"]), escape(s["state"]), "–" if s["n_added"] is None else s["n_added"], escape(s["reason"])]
        for s in states
    ]
    body = table(["campaign", "state", "N", "why it ended"], rows, "llrw")
    hint = "<p class='note'><code>kmde report CAMPAIGN -o report.html</code> tells the story of any one of them.</p>"
    sections.append(("campaigns", "Its campaigns", body + hint))
    return document(comparison.name, head, sections)


def comparison_verdict(comparison: Comparison, summary: Rows) -> list[str]:
    """Which strategy ended with the lowest errors and the fewest outliers, each at its last N, and which are as good.

    As good: the mean is within the larger of the two standard deviations over the seeds.
    """
    last = {row["strategy"]: row for row in summary}  # rows of a strategy are in the order of N
    sentences = []
    for mean, std, what, unit, form in (
        ("energy_rmse_mev_per_atom", "energy_rmse_std", "the lowest energy RMSE", " meV/atom", ".2f"),
        ("force_rmse_ev_per_ang", "force_rmse_std", "the lowest force RMSE", " eV/Å", ".4f"),
        ("outliers", "outliers_std", "the fewest outlier atoms", "", ".1f"),
    ):
        known = [row for row in last.values() if row[mean] is not None]
        if known:
            best = min(known, key=lambda row: row[mean])
            near = [
                row["strategy"]
                for row in known
                if row is not best and row[mean] - best[mean] <= max(row[std], best[std])
            ]
            value = f"{best[mean]:{form}} ± {best[std]:{form}}{unit} at N = {best['n_added']}"
            rest = f"; not told apart from it by these seeds: {', '.join(near)}" if near else ""
            sentences.append(f"{best['strategy']} has {what}, {value}{rest}.")
    return sentences or [f"Nothing has been reached in comparison {comparison.name} yet."]


def _curves(comparison: Comparison, summary: Rows) -> str:
    charts = []
    for key, label, log in CURVES:
        series = []
        for k, strategy in enumerate(comparison.strategies):
            rows = [row for row in summary if row["strategy"] == strategy]
            n = [row["n_added"] for row in rows]
            notes = [f"{strategy}, N = {row['n_added']}: mean of {row['n_seeds']}" for row in rows]
            series.append(Series(strategy, n, [row[key] for row in rows], (k + 1) % COLOURS, notes=notes))
        charts.append(chart(series, "labels added, N", label, log=log, whole=True, zero=not log))
    return f"<div class='charts'>{''.join(charts)}</div>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
