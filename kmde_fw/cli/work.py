"""kmde work: a worker for one campaign, the process that `kmde run` starts --workers times."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmde_fw.cli.options import LaunchpadFile

if TYPE_CHECKING:
    from fireworks import LaunchPad

#: seconds between two looks for something to do
IDLE = 0.3


def work(
    campaign: Annotated[str, typer.Argument(help="name of a submitted campaign")],
    launchpad: LaunchpadFile = None,
    directory: Annotated[Path | None, typer.Option(help="where launch directories go; default: here")] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="end when the process that started this ends")
    ] = False,
) -> None:
    """Launch this campaign's rockets here until it is finished or nothing more can run."""
    from kmde_fw.workflows.launchpad import launchpad_of

    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if with_parent:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder = (directory or Path.cwd()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with launchpad_of(launchpad) as pad:
        launch_all(pad, campaign, folder, stop)


def launch_all(pad: LaunchPad, campaign: str, folder: Path, stop: _Stop | None = None) -> None:
    """Launch the campaign's rockets in this process until it is finished, nothing more can run, or `stop` is asked."""
    from fireworks.core.rocket_launcher import rapidfire

    from kmde_fw.store import Store
    from kmde_fw.workflows.rockets import ALIVE, states, worker_for

    store = Store(pad.db)
    while not (stop and stop.asked) and store.campaign(campaign)["state"] == "running":
        # one rocket at a time, or one look for something to do
        rapidfire(pad, worker_for(campaign), m_dir=str(folder), nlaunches=1, max_loops=1, sleep_time=IDLE)
        if not any(states(pad, campaign)[state] for state in ALIVE):
            break


class _Stop:
    """What a signal does to a worker.

    A task at work is interrupted: its rocket makes it FIZZLED at once, where a signal's default would leave it RUNNING
    for ever. FireWorks' own writing is not: half of it would leave a workflow that nobody can go on with.
    """

    asked = False

    def __call__(self, number: int, frame: object) -> None:
        from kmde_fw.firetasks.base import KmdeTask

        self.asked = True
        if KmdeTask.at_work:
            raise SystemExit(f"stopped by signal {number}")


def _end_with(parent: int) -> None:
    """SIGTERM to ourselves as soon as somebody else has become our parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
