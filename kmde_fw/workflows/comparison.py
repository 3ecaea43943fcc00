"""Read the campaigns of a comparison and everything that they name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kmde_fw.comparison import Comparison, Run
from kmde_fw.config import Stop, campaign_path, load_with
from kmde_fw.workflows.prepare import Prepared, prepare_settings


def prepare_comparison(comparison: Comparison, path: Path) -> list[Prepared]:
    """The campaigns of `comparison.runs`, in that order, ready to be submitted. Files are read once per strategy."""
    base = campaign_path(path.parent / comparison.campaign)
    prepared = []
    for strategy, changes in comparison.strategies.items():
        source = f"{path}: strategies.{strategy}"
        first: Prepared | None = None
        for run in comparison.runs:
            if run.strategy != strategy:
                continue
            settings = load_with(base, [changes, _set_by(comparison, run)], source)
            first = prepare_settings(settings, base.resolve().parent, source) if first is None else first
            prepared.append(replace(first, settings=settings))
    return prepared


def stop_rules(comparison: Comparison, path: Path) -> dict[str, Stop]:
    """By strategy, the `stop` section as the files have it now: what each campaign would have ended by on its own."""
    base = campaign_path(path.parent / comparison.campaign)
    return {
        strategy: load_with(base, [changes], f"{path}: strategies.{strategy}").stop
        for strategy, changes in comparison.strategies.items()
    }


def _set_by(comparison: Comparison, run: Run) -> dict[str, Any]:
    return {
        "name": run.campaign,
        "description": f"comparison {comparison.name}: {run.strategy}, seed {run.seed}",
        "seed": run.seed,
        "training": {"seeds": [run.seed]},
        "stop": {"max_surrogates": comparison.surrogates, "rule": "budget"},
    }
