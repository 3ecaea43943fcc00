"""kmde watch: a campaign as it goes, worked off elsewhere."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kmde_fw.cli.options import LaunchpadFile


def watch(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    interval: Annotated[float, typer.Option(min=0.1, help="seconds between two looks")] = 1.0,
    launchpad: LaunchpadFile = None,
) -> None:
    """Show cycles, curves and running steps while rockets run elsewhere, until the campaign is finished (or Ctrl-C)."""
    from kmde_fw.cli.run import make_view
    from kmde_fw.cli.tables import console
    from kmde_fw.report.cycles import cycle_rows, cycle_table
    from kmde_fw.store import Store, read_launchpad

    screen = console()
    with Store.open(read_launchpad(launchpad)) as store:
        store.campaign(campaign)
        try:
            with make_view(store, campaign, screen) as view:
                while store.campaign(campaign)["state"] == "running":
                    view.look()
                    time.sleep(interval)
        except KeyboardInterrupt:
            return
        screen.print(cycle_table(cycle_rows(store, campaign), f"campaign {campaign}"))
        screen.print(f"why it stopped: {store.campaign(campaign)['reason']}", highlight=False)
