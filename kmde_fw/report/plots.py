"""Figures of a comparison, drawn with matplotlib without a display."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: mean, standard deviation, label of the axis, whether it is logarithmic
PANELS = (
    ("energy_rmse_mev_per_atom", "energy_rmse_std", "energy RMSE, meV/atom", True),
    ("force_rmse_ev_per_ang", "force_rmse_std", "force RMSE, eV/Å", True),
    ("outliers", "outliers_std", "outlier atoms", False),
)

Rows = Sequence[Mapping[str, Any]]


def write_plots(folder: Path, summary: Rows, energies: Rows) -> list[str]:
    """Errors and outliers against N and against cost, energies per atom by structure; PNG and SVG. Returns names."""
    import matplotlib

    figures: dict[str, Callable[[], Figure]] = {
        "errors_by_n": lambda: _errors(summary, "n_added", "labels N"),
        "errors_by_cost": lambda: _errors(summary, "cost_train_cells", "cost of the labels, train cells"),
        "energies": lambda: _energies(energies),
    }
    written = []
    # the same rows give the same file
    with matplotlib.rc_context({"svg.hashsalt": "kmde_fw", "svg.fonttype": "none"}):
        for name, draw in figures.items():
            figure = draw()
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                figure.savefig(folder / f"{name}.{kind}", dpi=150, metadata=metadata)
                written.append(f"{name}.{kind}")
    return written


def _errors(summary: Rows, x: str, label: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, (mean, std, name, logarithmic) in zip(figure.subplots(1, 3), PANELS, strict=True):
        for strategy in dict.fromkeys(row["strategy"] for row in summary):
            rows = [row for row in summary if row["strategy"] == strategy and row[mean] is not None]
            if rows:
                axes.errorbar(
                    [row[x] for row in rows],
                    [row[mean] for row in rows],
                    yerr=[row[std] for row in rows],
                    label=strategy,
                    marker="o",
                    markersize=3,
                    capsize=2,
                    linewidth=1,
                )
        if logarithmic and any(row[mean] for row in summary):
            axes.set_yscale("log", nonpositive="clip")
        axes.set_xlabel(label)
        axes.set_ylabel(name)
    if summary:
        figure.axes[-1].legend(fontsize="small")
    return figure


def _energies(energies: Rows) -> Figure:
    from matplotlib.figure import Figure

    strategies = list(dict.fromkeys(row["strategy"] for row in energies)) or [""]
    columns = min(3, len(strategies))
    lines = -(-len(strategies) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.2 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(strategies) :]:
        axes.set_visible(False)
    for axes, strategy in zip(grid.flat, strategies, strict=False):
        rows = [row for row in energies if row["strategy"] == strategy]
        numbers = [row["structure"] for row in rows]
        known = [
            (row["structure"], row["reference_ev_per_atom"]) for row in rows if row["reference_ev_per_atom"] is not None
        ]
        if known:
            axes.plot(*zip(*known, strict=True), "k_", markersize=9, label="reference")
        axes.errorbar(
            numbers,
            [row["predicted_ev_per_atom"] for row in rows],
            yerr=[row["predicted_std"] for row in rows],
            fmt="o",
            markersize=3,
            capsize=2,
            label="predicted",
        )
        axes.set_title(f"{strategy}, N = {rows[0]['n_added']}" if rows else strategy, fontsize="medium")
        axes.set_xlabel("structure")
        axes.set_ylabel("energy, eV/atom")
    if energies:
        figure.axes[0].legend(fontsize="small")
    return figure
