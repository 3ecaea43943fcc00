"""kmde motifs: what the train set lacks around the atoms that extrapolate."""

from __future__ import annotations

from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Csv, show


def motifs(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    cycle: Annotated[int | None, typer.Option(help="found in which cycle; default: the last that is closed")] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the key motifs of a cycle, best first: range, score, gap, and the outlier atoms that they come from."""
    from kmde_fw.report.words import motif_words
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        rows = queries.motifs(store, campaign, cycle)
    columns = {
        "rank>": lambda r: r["rank"] + 1,
        "motif": motif_words,
        "score>": lambda r: r["score"],
        "gap>": lambda r: r["gap"],
        "around outliers>": lambda r: r["count"],
        "outlier atoms>": lambda r: len(r["atoms"]),
        "in target structures": lambda r: " ".join(map(str, sorted({s for s, _ in r["atoms"]}))),
    }
    title = f"campaign {campaign}, cycle {rows[0]['cycle']}" if rows else ""
    show(
        rows,
        columns,
        title,
        as_json,
        as_csv,
        "no key motifs: nothing that the target has and the train set lacks scores",
    )
