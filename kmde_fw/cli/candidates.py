"""kmde candidates: what a cycle could have labelled, best first."""

from __future__ import annotations

from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Csv, show


def candidates(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    cycle: Annotated[int | None, typer.Option(help="of which cycle; default: the last that has chosen")] = None,
    top: Annotated[int, typer.Option(min=1, help="so many of the best")] = 20,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the best candidates of a cycle: rank, score in its terms, picked or why not."""
    from kmde_fw.report.words import short
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        rows = queries.candidates(store, campaign, cycle, top)
    columns = {
        "rank>": lambda r: r["rank"] + 1,
        "structure": lambda r: short(r["structure_id"]),
        "candidate": lambda r: f"{r['formula']}: {r['description']}",
        "score>": lambda r: r["score"],
        "motifs>": lambda r: r["motif_score"],
        "distance>": lambda r: r["distance_penalty"],
        "energy>": lambda r: r["energy_penalty"],
        "outcome": lambda r: r["outcome"],
        "reason": lambda r: r["reason"],
    }
    title = f"campaign {campaign}, cycle {rows[0]['cycle']}" if rows else ""
    show(rows, columns, title, as_json, as_csv, "no candidates were kept")
