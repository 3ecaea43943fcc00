"""kmde doctor: can this machine do its part of a campaign?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmde_fw.cli.options import FworkerFile, Json, LaunchpadFile

if TYPE_CHECKING:
    from kmde_fw.doctor import Situation


def doctor(
    campaign: Annotated[str, typer.Argument(help="a campaign file, or the name of a submitted campaign")],
    launchpad: LaunchpadFile = None,
    fworker: FworkerFile = None,
    as_json: Json = False,
) -> None:
    """Check the machine that is to label: command, POTCARs, level of theory, scratch. Exit code 1: a problem."""
    from kmde_fw.doctor import examine

    findings = examine(_situation(campaign, launchpad, fworker))
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            typer.echo(f"{finding.state:<8} {finding.check:<{width}}  {finding.text}")
        typer.echo(f"{problems} problem{'' if problems == 1 else 's'}" if problems else "this machine can label")
    raise typer.Exit(1 if problems else 0)


def _situation(campaign: str, launchpad: Path | None, fworker: Path | None) -> Situation:
    from kmde_fw.config import parse_campaign
    from kmde_fw.doctor import Situation
    from kmde_fw.store import Store
    from kmde_fw.worker_env import env_of, read_fworker_file
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import read_settings

    worker = read_fworker_file(fworker)
    env = env_of(worker or {}, fworker)
    if Path(campaign).is_file():
        settings, elements = read_settings(Path(campaign))
        return Situation(settings, elements, env, worker=worker)
    with launchpad_of(launchpad) as pad:
        document = Store(pad.db).campaign(campaign)
    settings = parse_campaign(document["config"], source=f"campaign {campaign}")
    return Situation(settings, tuple(document["elements"]), env, document["level"], worker)
