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
#: seconds without anything to do after which is looked for workers that were killed
LONG_IDLE = 5.0
#: seconds that a database may be away; a server that is updated, or moves to another machine, needs minutes
PATIENCE = 900.0


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
    there is none of a name, or this kmde_fw is too old for one. While the database does not answer it is waited for,
    PATIENCE at most; what a worker of this machine had begun when it was killed is begun again by one of the others.
    """
    from fireworks.core.rocket_launcher import rapidfire

    from kmde_fw.store import Store
    from kmde_fw.store.connect import is_outage
    from kmde_fw.workflows.compatible import refuse_unfit
    from kmde_fw.workflows.lost import take_up
    from kmde_fw.workflows.rockets import after_outage, after_rocket, next_fireworks, take_back, worker_for

    store = Store(pad.db)
    for name in campaigns:
        store.campaign(name)
    refuse_unfit(pad, {"spec.kmde.campaign": {"$in": list(campaigns)}})
    query = {"_id": {"$in": list(campaigns)}, "state": "running"}
    running: set[str] = set()
    worker = None
    idle_since = time.monotonic()
    while not (stop and stop.asked):
        try:
            running = {campaign["_id"] for campaign in store.find("campaigns", query, fields=())}
            alive, campaign, fw_ids = next_fireworks(pad, [name for name in campaigns if name in running])
            if not alive:
                # unless it only seems so, as a worker was killed while it was writing what comes next
                if not any([take_back(pad, name) + take_up(pad, name) for name in sorted(running)]):
                    break
                continue
            if campaign is not None:
                # one rocket at a time
                worker = worker_for(campaign, env)
                worker.fw_ids = fw_ids
                rapidfire(pad, worker, m_dir=str(folder), nlaunches=1, max_loops=1, sleep_time=IDLE)
                if again := after_rocket(pad, {"fworker.name": worker.name}):
                    print(f"ready again, as the database had been away: {again}", flush=True)
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since < LONG_IDLE:
                time.sleep(IDLE)
            else:
                for name in sorted(running):
                    for again in take_back(pad, name) + take_up(pad, name):
                        print(f"ready again, as its worker is gone: {again}", flush=True)
                idle_since = time.monotonic()
        except Exception as error:
            if not is_outage(error):
                raise
            print(f"{error}; waiting until the database answers", flush=True)
            if not _wait_for(pad, stop):
                raise
            if worker is not None:
                for name in sorted(running):
                    after_outage(pad, name, worker)


def _wait_for(pad: LaunchPad, stop: Stop | None) -> bool:
    """Wait until the database answers again. False if it does not within PATIENCE, or `stop` was asked."""
    from kmde_fw.store.connect import answers

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not (stop and stop.asked):
        if answers(pad.db):
            return True
        time.sleep(IDLE)
    return False


def _end_with(parent: int) -> None:
    """SIGTERM to ourselves as soon as somebody else has become our parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
