"""kmde submit: put a campaign on the LaunchPad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.cli.options import CampaignFile, LaunchpadFile


def submit(
    campaign: CampaignFile,
    launchpad: LaunchpadFile = None,
    workflow: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="do not submit: write a workflow file for `lpad add` that starts this campaign"
        ),
    ] = None,
) -> None:
    """Check a campaign, store it in the database and queue its first cycle."""
    from kmde_fw.workflows import start
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import prepare

    prepared = prepare(campaign)
    for remark in prepared.remarks:
        typer.echo(f"note: {remark}", err=True)
    if workflow is not None:
        workflow.write_text(start.workflow_yaml(prepared.settings.name, campaign.resolve()), encoding="utf-8")
        typer.echo(f"wrote {workflow}; queue it with: lpad -l launchpad.yaml add {workflow}")
        return
    name = prepared.settings.name
    with launchpad_of(launchpad) as pad:
        added = start.submit(pad, prepared)
    if added:
        typer.echo(f"campaign {name} is queued; work it off with `kmde run`, `kmde work` or `rlaunch rapidfire`")
    else:
        typer.echo(f"campaign {name} is already on the LaunchPad; nothing was added (see `kmde status {name}`)")
