"""kmde reconcile: fireworks that are RUNNING or RESERVED for nobody, compared with the queue and released."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile


def reconcile(
    launchpad: LaunchpadFile = None,
    queue: Annotated[
        str | None, typer.Option(help="slurm or pbs; default: the one whose squeue or qstat is on this machine")
    ] = None,
    all_hosts: Annotated[
        bool,
        typer.Option(
            "--all-hosts", help="also what other hosts reserved without a word of their cluster: it is this one"
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what is lost")] = False,
    as_json: Json = False,
) -> None:
    """Release what dead workers hold: READY again, or FIZZLED where it was interrupted too often.

    A worker of this machine is looked for among its processes, one of this cluster in its queue; nothing is released
    where the queue does not answer. Run it as the user who submits, by hand or from cron.
    """
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.lost import find_lost, release_lost
    from kmde_fw.workflows.queues import queue_here

    with launchpad_of(launchpad) as pad:
        lost = find_lost(pad, queue_here(queue), all_hosts)
        rows = [{**vars(one), "now": one.state if dry_run else release_lost(pad, one)} for one in lost]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"firework {row['fw_id']} ({row['name']}), {row['state']}: {row['reason']}; now {row['now']}")
    if not rows:
        typer.echo("nothing is lost")
