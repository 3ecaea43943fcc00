"""kmde status: where campaigns stand, read from their documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import Json, LaunchpadFile

if TYPE_CHECKING:
    from rich.console import Console

    from kmde_fw.store import Store


def status(
    campaign: Annotated[str | None, typer.Argument(help="one campaign; default: all")] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Show the campaigns of the database, or the cycles of one of them."""
    from kmde_fw.store import Store
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.rockets import fizzled

    with launchpad_of(launchpad) as pad:
        store = Store(pad.db)
        if campaign is None:
            _show_all(store, as_json)
        else:
            _show_one(store, campaign, fizzled(pad, campaign), as_json)


def _show_all(store: Store, as_json: bool) -> None:
    from kmde_fw.report.cycles import campaign_rows, campaign_table

    rows = campaign_rows(store)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _console().print(campaign_table(rows))
    else:
        typer.echo("no campaigns yet; `kmde init` writes a campaign file, `kmde run` runs it")


def _show_one(store: Store, campaign: str, failures: list[dict[str, Any]], as_json: bool) -> None:
    from kmde_fw.report.cycles import (
        curve_lines,
        cycle_rows,
        cycle_table,
        open_slots,
        refusal_table,
        refusals,
        running_steps,
    )

    document = store.campaign(campaign)
    facts: dict[str, Any] = {
        "campaign": campaign,
        **{key: document[key] for key in ("state", "reason", "level", "elements", "versions")},
        "cycles": cycle_rows(store, campaign),
        "refused_labels": refusals(store, campaign),
        "open_slots": open_slots(store, campaign),
        "running": running_steps(store, campaign),
        "fizzled": failures,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    _console().print(cycle_table(facts["cycles"], f"campaign {campaign}: {facts['state']}"))
    for line in curve_lines(facts["cycles"]):
        typer.echo(line)
    for step in facts["running"]:
        share = f" {step['done']}/{step['total']}" if step["total"] else ""
        typer.echo(f"running: {step['message']}{share}")
    if facts["refused_labels"]:
        _console().print(refusal_table(facts["refused_labels"]))
    for slot in facts["open_slots"]:
        typer.echo(f"stayed open in cycle {slot['cycle']}, slot {slot['slot']} (no label could be had): {slot['open']}")
    for failure in failures:
        typer.echo(f"fizzled: firework {failure['fw_id']} ({failure['name']}): {failure['reason']}")
    if failures:
        typer.echo("`kmde run` of the same campaign file, or `lpad rerun_fws -s FIZZLED`, tries them again")
    if facts["reason"]:
        typer.echo(f"why it stopped: {facts['reason']}")


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 140)
