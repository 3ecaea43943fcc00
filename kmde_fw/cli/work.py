"""kmde work: a worker for some campaigns, the process that `kmde run` and `kmde compare` start --workers times."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import FworkerFile, LaunchpadFile

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from kmde_fw.workflows.signals import Stop

#: seconds between two looks for something to do
IDLE = 0.3


def work(
    campaigns: Annotated[list[str], typer.Argument(help="names of submitted campaigns, the first of them first")],
    launchpad: LaunchpadFile = None,
    directory: Annotated[Path | None, typer.Option(help="where launch directories go; default: here")] = None,
    fworker: FworkerFile = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="end when the process that started this ends")
    ] = False,
) -> None:
    """Launch these campaigns' rockets here until all are finished or nothing more can run."""
    from kmde_fw.worker_env import read_fworker
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.signals import Stop

    env = read_fworker(fworker)
    stop = Stop().install()
    if with_parent:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder = (directory or Path.cwd()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with launchpad_of(launchpad) as pad:
        launch_all(pad, campaigns, folder, stop, env)


def launch_all(
    pad: LaunchPad,
    campaigns: Sequence[str],
    folder: Path,
    stop: Stop | None = None,
    env: dict[str, Any] | None = None,
) -> None:
    """Launch the campaigns' rockets in this process until all are finished, nothing more can run, or `stop` is asked.

    The first campaign that has a firework ready comes first. env: of this machine, see `worker_env`. StoreError if
    there is none of a name.
    """
    from fireworks.core.rocket_launcher import rapidfire

    from kmde_fw.store import Store
    from kmde_fw.workflows.rockets import next_campaign, worker_for

    store = Store(pad.db)
    for name in campaigns:
        store.campaign(name)
    query = {"_id": {"$in": list(campaigns)}, "state": "running"}
    while not (stop and stop.asked):
        running = {campaign["_id"] for campaign in store.find("campaigns", query, fields=())}
        alive, campaign = next_campaign(pad, [name for name in campaigns if name in running])
        if not alive:
            break
        if campaign is None:
            time.sleep(IDLE)
            continue
        # one rocket at a time
        rapidfire(pad, worker_for(campaign, env), m_dir=str(folder), nlaunches=1, max_loops=1, sleep_time=IDLE)


def _end_with(parent: int) -> None:
    """SIGTERM to ourselves as soon as somebody else has become our parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
