"""kmde rm: a campaign out of the database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile


def rm(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Remove a campaign and what only it uses, after showing what that is; what other campaigns share stays."""
    from kmde_fw.cli.tables import to_json
    from kmde_fw.store import Store
    from kmde_fw.store.removal import check_idle, plan_removal, remove
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.rockets import count_states, forget

    with launchpad_of(launchpad) as pad:
        store = Store(pad.db)
        plan = plan_removal(store, campaign)
        counts = count_states(pad, campaign)
        check_idle(counts["RUNNING"] + counts["RESERVED"], campaign)
        if as_json:
            typer.echo(to_json({**asdict(plan), "fireworks": sum(counts.values())}))
        else:
            own = ", ".join(f"{n} {name}" for name, n in plan.own.items() if n)
            typer.echo(f"campaign {campaign}: {own or 'no documents yet'}; {sum(counts.values())} fireworks")
            for name in ("structures", "labels", "models"):
                gone, kept = len(getattr(plan, name)), plan.shared[name]
                stay = f", {kept} stay because other campaigns use them" if kept else ""
                typer.echo(f"  {gone} {name} that only it uses{stay}")
            typer.echo(f"  {plan.bytes / 1e6:.1f} MB of weights; run directories on disk stay")
        if not yes and not typer.confirm("remove all this?", err=as_json):
            raise typer.Exit(1)
        forget(pad, campaign)
        remove(store, plan)
    typer.echo(f"campaign {campaign} is removed", err=as_json)
