"""kmde candidates: what a cycle could have labelled, best first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Columns, Csv, show


def candidates(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    cycle: Annotated[int | None, typer.Option(help="of which cycle; default: the last that has chosen")] = None,
    top: Annotated[int, typer.Option(min=1, help="so many of the best")] = 20,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the best candidates of a cycle: rank, score, the terms that the strategy went by, picked or why not.

    Strategy environment: meV/atom to which the energy zero would be known, missing values closed, percent by which the
    target's vicinity would be known better, and how strange the candidate is to the target (beyond 1.5 its gains count
    less).
    """
    from kmde_fw.report.words import short
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        rows = queries.candidates(store, campaign, cycle, top)
        strategy = store.campaign(campaign)["config"]["design"]["strategy"]
    columns = {
        "rank>": lambda r: r["rank"] + 1,
        "structure": lambda r: short(r["structure_id"]),
        "candidate": lambda r: f"{r['formula']}: {r['description']}",
        "score>": lambda r: r["score"],
        **terms_of(strategy),
        "outcome": lambda r: r["outcome"],
        "reason": lambda r: r["reason"],
    }
    title = f"campaign {campaign}, cycle {rows[0]['cycle']}" if rows else ""
    show(rows, columns, title, as_json, as_csv, "no candidates were kept")


def terms_of(strategy: str) -> Columns:
    """What a strategy's score is made of, as columns of a candidate; none of one that draws."""
    from kmde_fw.core.environments import ENVIRONMENT
    from kmde_fw.core.preferences import scores_motifs

    if scores_motifs(strategy):
        return {
            "motifs>": lambda r: r["motif_score"],
            "distance>": lambda r: r["distance_penalty"],
            "energy>": lambda r: r["energy_penalty"],
        }
    if strategy == ENVIRONMENT:
        return {
            "zero meV>": lambda r: _promised(r, "zero", lambda before, after: 1000 * after),
            "closed>": lambda r: _promised(r, "open", lambda before, after: before - after),
            "known %>": lambda r: _promised(r, "vicinity", lambda before, after: 100 * (1 - after / before)),
            "strange>": lambda r: r["promise"]["strangeness"] if "promise" in r else None,
        }
    return {}


def _promised(row: Mapping[str, Any], measure: str, say: Callable[[float, float], float]) -> float | None:
    """A measure of what a candidate would bring, from its values before and after; None where it is not known."""
    if "promise" not in row:
        return None
    before, after = row["promise"][measure]
    return say(before, after) if before else 0
