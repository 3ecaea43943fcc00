"""kmde status: where campaigns stand, read from their documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import Json, LaunchpadFile

if TYPE_CHECKING:
    from kmde_fw.store import Store


def status(
    campaign: Annotated[str | None, typer.Argument(help="one campaign; default: all")] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Show the campaigns of the database, or the cycles of one of them."""
    from kmde_fw.store import Store, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        _show(store, campaign, as_json)


def _show(store: Store, campaign: str | None, as_json: bool) -> None:
    from rich.console import Console

    from kmde_fw.report.cycles import campaign_rows, campaign_table, cycle_rows, cycle_table, running_steps

    console = Console(width=None if Console().is_terminal else 140)
    if campaign is None:
        rows = campaign_rows(store)
        if as_json:
            typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        elif rows:
            console.print(campaign_table(rows))
        else:
            typer.echo("no campaigns yet; `kmde init` writes a campaign file, `kmde run` runs it")
        return
    document = store.campaign(campaign)
    cycles, steps = cycle_rows(store, campaign), running_steps(store, campaign)
    if as_json:
        facts: dict[str, Any] = {key: document[key] for key in ("state", "reason", "level", "elements", "versions")}
        typer.echo(
            json.dumps(
                {"campaign": campaign, **facts, "cycles": cycles, "running": steps}, indent=2, ensure_ascii=False
            )
        )
        return
    console.print(cycle_table(cycles, f"campaign {campaign}: {document['state']}"))
    for step in steps:
        share = f" {step['done']}/{step['total']}" if step["total"] else ""
        typer.echo(f"running: {step['message']}{share}")
    if document["reason"]:
        typer.echo(f"why it stopped: {document['reason']}")
