"""kmde launch: what a queue script runs instead of rlaunch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kmde_fw.cli.options import LaunchpadFile, use_config_beside

Mode = Literal["singleshot", "rapidfire"]


def launch(
    mode: Annotated[Mode, typer.Argument(help="one firework, or one after another")] = "singleshot",
    launchpad: LaunchpadFile = None,
    fworker: Annotated[
        Path | None,
        typer.Option(
            "--fworker", "-w", metavar="FILE", help="my_fworker.yaml; default: the one here, or all categories"
        ),
    ] = None,
    fw_id: Annotated[
        int | None, typer.Option("--fw_id", "-f", help="singleshot: this firework; `qlaunch -r` adds it")
    ] = None,
    nlaunches: Annotated[int, typer.Option(min=0, help="rapidfire: end after so many; 0: no limit")] = 0,
    wait: Annotated[float, typer.Option(min=0, help="rapidfire: end when nothing was ready for so many seconds")] = 60,
    reserve: Annotated[
        float, typer.Option(min=0, help="rapidfire: take nothing when the SLURM job has less than so many seconds left")
    ] = 0,
    grace: Annotated[float, typer.Option(min=1, help="seconds that a rocket has to end after a signal")] = 20,
    retries: Annotated[int, typer.Option(min=1, help="interrupted launches after which a firework stays FIZZLED")] = 3,
) -> None:
    """Launch rockets so that whatever ends them (queue, wall time, kill -9) makes their firework READY again at once.

    Use it as `exec kmde launch ...` in a queue script: the queue's signals then come here, and not to a shell that dies
    of them. It takes the arguments that qlaunch gives to rlaunch.
    """
    from kmde_fw.errors import ConfigError
    from kmde_fw.store import read_launchpad
    from kmde_fw.worker_env import env_of, query_of, read_fworker_file

    if mode == "rapidfire" and fw_id is not None:
        raise ConfigError("--fw_id goes with singleshot: rapidfire takes whatever is ready")
    connection = read_launchpad(launchpad)
    use_config_beside(connection.folder)
    from kmde_fw.workflows.launcher import Orders, supervise

    worker = {"name": "kmde launch", "category": "", "query": "{}", **(read_fworker_file(fworker) or {})}
    query_of(worker)
    env_of(worker, fworker)
    orders = Orders(mode, fw_id, nlaunches, wait, reserve, grace, retries)
    code = supervise(orders, connection, worker, lambda line: typer.echo(f"kmde launch: {line}"))
    raise typer.Exit(code)
