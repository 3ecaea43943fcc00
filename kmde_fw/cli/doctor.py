"""kmde doctor: can this machine do its part of a campaign, and is all well with the campaigns of the database?"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import Json, LaunchpadFile, use_config_beside
from kmde_fw.errors import KmdeError, StoreError

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from kmde_fw.doctor import Situation
    from kmde_fw.findings import Finding


def doctor(
    campaign: Annotated[
        str | None, typer.Argument(help="a campaign file, or a submitted campaign's name; default: all campaigns")
    ] = None,
    launchpad: LaunchpadFile = None,
    fworker: Annotated[
        list[Path] | None,
        typer.Option(
            "--fworker",
            "-w",
            metavar="FILE",
            help="my_fworker.yaml, also several; default: the one here, and those in folders beside launchpad.yaml",
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(help="slurm or pbs; default: what is on this machine")] = None,
    all_hosts: Annotated[
        bool, typer.Option("--all-hosts", help="what other hosts reserved is in this cluster's queue, too")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="mend what can be mended safely")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a machine or with campaigns, and which command mends it. Exit code 1: a problem is left.

    With a campaign: command, POTCARs, level of theory, scratch and wall time of this machine, which is to label it.
    With a name, or with none: versions, indexes, categories without a worker, lost runs, reservations without a job,
    what fizzled, run directories.
    """
    findings: list[Finding] = []
    if campaign is not None and Path(campaign).is_file():
        findings += _machine(_of_file(Path(campaign), fworker))
    else:
        findings += _database(campaign, launchpad, fworker, queue, all_hosts, fix)
    problems = sum(finding.state == "problem" and not finding.mended for finding in findings)
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        _show(findings)
        typer.echo(f"{problems} problem{'' if problems == 1 else 's'}" if problems else "all is well")
    raise typer.Exit(1 if problems else 0)


def _show(findings: list[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.state:<8} {finding.check:<{width}}  {finding.text}")
        indent = " " * (width + 11)
        if finding.mended:
            typer.echo(f"{indent}mended: {finding.mended}")
        elif finding.mend:
            also = " (or --fix)" if finding.fix and "--fix" not in finding.mend else ""
            typer.echo(f"{indent}-> {finding.mend}{also}")


def _machine(situation: Situation) -> list[Finding]:
    from kmde_fw.doctor import CHECKS

    return CHECKS.examine(situation)


def _of_file(path: Path, fworker: list[Path] | None) -> Situation:
    from kmde_fw.doctor import Situation
    from kmde_fw.worker_env import env_of, read_fworker_file
    from kmde_fw.workflows.prepare import read_settings

    file = fworker[0] if fworker else None
    worker = read_fworker_file(file)
    settings, elements = read_settings(path)
    return Situation(settings, elements, env_of(worker or {}, file), worker=worker)


def _of_name(document: dict[str, Any], fworker: list[Path] | None) -> Situation:
    from kmde_fw.config import parse_campaign
    from kmde_fw.doctor import Situation
    from kmde_fw.worker_env import env_of, read_fworker_file

    file = fworker[0] if fworker else None
    worker = read_fworker_file(file)
    settings = parse_campaign(document["config"], source=f"campaign {document['_id']}")
    return Situation(settings, tuple(document["elements"]), env_of(worker or {}, file), document["level"], worker)


def _database(
    campaign: str | None,
    launchpad: Path | None,
    fworker: list[Path] | None,
    queue: str | None,
    all_hosts: bool,
    fix: bool,
) -> list[Finding]:
    """The database, and what its campaigns say; with a name also the machine for that campaign."""
    from kmde_fw.findings import Finding
    from kmde_fw.store import Store, read_launchpad

    connection = read_launchpad(launchpad)
    use_config_beside(connection.folder)
    from kmde_fw.workflows.launchpad import launchpad_of

    where = f"database {connection.database} at {connection.address}"
    try:
        with launchpad_of(launchpad) as pad:
            store = Store(pad.db)
            campaigns = [store.campaign(campaign)] if campaign else store.campaigns()
            findings = [Finding("ok", f"{where} answers: {len(campaigns)} campaigns", check="database")]
            if campaign:
                findings += _machine(_of_name(campaigns[0], fworker))
            option = f" -l {launchpad}" if launchpad else ""
            files = _fworker_files(fworker, connection.folder)
            return findings + _health(pad, campaigns, files, queue, all_hosts, option, fix)
    except StoreError as error:
        # the sentence names the command, where there is one
        named = re.search(r"`((?:kmde|pip) [^`]+)`", str(error))
        remedy = named[1] if named else f"check the server and {connection.source}"
        return [Finding("problem", str(error), remedy, check="database")]


def _fworker_files(given: list[Path] | None, folder: Path) -> list[Path]:
    """Worker files that are given, else those that are found."""
    if given:
        return given
    found = [Path("my_fworker.yaml"), folder / "my_fworker.yaml", *sorted(folder.glob("*/my_fworker.yaml"))]
    return list({path.resolve(): path for path in found if path.is_file()}.values())


def _health(
    pad: LaunchPad,
    campaigns: list[dict[str, Any]],
    files: list[Path],
    queue: str | None,
    all_hosts: bool,
    option: str,
    fix: bool,
) -> list[Finding]:
    from fireworks import FWorker

    from kmde_fw.findings import Finding
    from kmde_fw.store import Store
    from kmde_fw.worker_env import env_of, query_of, read_fworker_file
    from kmde_fw.workflows.health import CHECKS, Patient
    from kmde_fw.workflows.queues import queue_here

    findings, workers = [], {}
    for file in files:
        try:
            data = read_fworker_file(file) or {}
            worker = FWorker(data.get("name", str(file)), data.get("category", ""), query_of(data), env_of(data, file))
            workers[worker.name] = worker
        except KmdeError as error:
            findings.append(Finding("problem", f"{file}: {error}", check="worker file"))
    patient = Patient(pad, Store(pad.db), campaigns, workers, queue_here(queue), all_hosts, option)
    findings += CHECKS.examine(patient)
    if not fix:
        return findings
    return [replace(f, mended=f.fix()) if f.state == "problem" and f.fix is not None else f for f in findings]
