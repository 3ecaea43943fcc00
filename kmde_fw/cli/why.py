"""kmde why: the passport of a structure, a label or a model."""

from __future__ import annotations

from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile


def why(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="an id of a structure, label or model, or its beginning; a structure's name; or CAMPAIGN/CYCLE or "
            "CAMPAIGN/CYCLE/SLOT",
        ),
    ],
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Say why a structure is here: chosen when, because of which atoms, how labelled, what it brought, who learned."""
    from kmde_fw.cli.tables import to_json
    from kmde_fw.report.passport import model_lines, structure_lines
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        collection, key = queries.resolve(store, name)
        if collection == "labels":
            key = store.many("labels", [key])[key]["structure_id"]
        record = queries.lineage(store, key) if collection == "models" else queries.passport(store, key)
    if as_json:
        typer.echo(to_json(record))
        return
    lines = model_lines(record) if collection == "models" else structure_lines(record)
    typer.echo("\n".join(lines))
