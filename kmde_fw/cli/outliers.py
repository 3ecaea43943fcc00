"""kmde outliers: which atoms of the target extrapolate, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Csv, show


def outliers(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    cycle: Annotated[int | None, typer.Option(help="of which cycle; default: the last that is closed")] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the outlier atoms of a cycle: where they are, what surrounds them, what they exceed by how much."""
    from kmde_fw.report.words import exceeded_words, neighbours_words
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        cycle = queries.last_cycle(store, campaign) if cycle is None else cycle
        rows = queries.outliers(store, campaign, cycle)
    columns = {
        "target>": lambda r: r["structure"],
        "name": lambda r: r["name"],
        "atom>": lambda r: r["atom"],
        "element": lambda r: r["element"],
        "neighbours": lambda r: neighbours_words(r["neighbours"]),
        "out of range>": lambda r: len(r["exceeds"]),
        "most of all": lambda r: exceeded_words(r["exceeds"][0], r["element"]) if r["exceeds"] else r["reason"],
        "motifs>": lambda r: len(r["motifs"]),
    }
    empty = f"campaign {campaign} has no outlier atoms in cycle {cycle}: the model covers the target"
    show(rows, columns, f"campaign {campaign}, cycle {cycle}: {len(rows)} outlier atoms", as_json, as_csv, empty)
