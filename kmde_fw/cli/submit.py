"""kmde submit: put a campaign on the LaunchPad."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmde_fw.cli.options import CampaignFile, LaunchpadFile
from kmde_fw.errors import ConfigError

if TYPE_CHECKING:
    from kmde_fw.workflows.prepare import Prepared


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

    if workflow is not None:
        _write_workflow(workflow, prepare(campaign), campaign)
        return
    with launchpad_of(launchpad) as pad:
        prepared = prepare(campaign)
        name = prepared.settings.name
        for remark in prepared.remarks:
            typer.echo(f"note: {remark}", err=True)
        added = start.submit(pad, prepared)
    if added:
        typer.echo(f"campaign {name} is queued; work it off with `kmde run`, `kmde work` or `rlaunch rapidfire`")
    else:
        typer.echo(f"campaign {name} is already on the LaunchPad; nothing was added (see `kmde status {name}`)")


def _write_workflow(file: Path, prepared: Prepared, campaign: Path) -> None:
    from kmde_fw.workflows.start import workflow_yaml

    try:
        file.write_text(workflow_yaml(prepared.settings.name, campaign.resolve()), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; give another file") from None
    typer.echo(f"wrote {file}; queue it with: lpad -l launchpad.yaml add {file}")
