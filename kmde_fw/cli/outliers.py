"""kmde outliers: which atoms of the target extrapolate, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Csv, show


def outliers(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    cycle: Annotated[int | None, typer.Option(help="of which cycle; default: the last that is closed")] = None,
    target: Annotated[
        str | None, typer.Option(help="of this target structure alone, by name or number, with all that they exceed")
    ] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the outlier atoms of a cycle: where they are, what surrounds them, what they exceed by how much."""
    from kmde_fw.report.words import cure, exceeded_words, neighbours_words
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        cycle = queries.last_cycle(store, campaign) if cycle is None else cycle
        rows = queries.outliers(store, campaign, cycle)
        if target is not None:
            place = queries.target_number(store, campaign, target)
            rows = [row for row in rows if row["structure"] == place]
    shown = 1 if target is None else None
    columns = {
        "target>": lambda r: r["structure"],
        "name": lambda r: r["name"],
        "atom>": lambda r: r["atom"],
        "element": lambda r: r["element"],
        "neighbours": lambda r: neighbours_words(r["neighbours"]),
        "out of range>": lambda r: len(r["exceeds"]),
        "most of all" if target is None else "what it exceeds": lambda r: (
            "\n".join(exceeded_words(e, r["element"]) for e in r["exceeds"][:shown]) or r["reason"]
        ),
        "what would help": cure,
        "motifs>": lambda r: len(r["motifs"]),
    }
    where = f"campaign {campaign}" if target is None else f"target {target} of campaign {campaign}"
    empty = f"{where} has no outlier atoms in cycle {cycle}: the model covers it"
    show(
        rows,
        columns,
        f"{where}, cycle {cycle}: {len(rows)} outlier atom{'s' * (len(rows) != 1)}",
        as_json,
        as_csv,
        empty,
    )
