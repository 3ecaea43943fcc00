"""kmde run: submit a campaign and work it off on this machine, with a view of what is happening."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kmde_fw.cli.options import CampaignFile, FworkerFile, LaunchpadFile
from kmde_fw.errors import ConfigError, KmdeError
from kmde_fw.report.cycles import curve_lines, cycle_rows, cycle_table, duration, refusals, running_steps
from kmde_fw.store import Store

if TYPE_CHECKING:
    from fireworks import LaunchPad

#: seconds between two looks at the database, and between two lines about a long step in a batch log
LOOK, REMIND = 0.5, 20.0
#: seconds that workers get to end by themselves when the campaign is finished
LAST_WORDS = 20.0
#: refused labels shown at the end, the latest ones; all are in the documents
MAX_REFUSALS = 5


def run(
    campaign: CampaignFile,
    launchpad: LaunchpadFile = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="worker processes on this machine")] = 2,
    directory: Annotated[
        Path | None, typer.Option(help="where launch directories and worker logs go; default: .kmde/runs/NAME here")
    ] = None,
    fworker: FworkerFile = None,
) -> None:
    """Submit a campaign and work it off here. Run again, it continues, or says that the campaign is finished."""
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.loops import compile_loops
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    console = Console(width=None if sys.stdout.isatty() else 140)
    with launchpad_of(launchpad) as pad:
        prepared = prepare(campaign)
        name = prepared.settings.name
        folder = make_folder(directory or Path(".kmde/runs") / name)
        for remark in prepared.remarks:
            console.print(f"note: {remark}")
        store = Store(pad.db)
        known = store.get("campaigns", name)
        if known is None or known["state"] != "finished":
            with console.status("compiling loops: some ten seconds, once per installation"):
                compile_loops(prepared)
        new = submit(pad, prepared)
        if store.campaign(name)["state"] == "finished":
            _complete(pad, name, folder, console)
            console.print(f"campaign {name} is finished: nothing is left to do (another `name:` starts another)")
        else:
            console.print(f"campaign {name}: {'submitted' if new else 'continues'}, {workers} workers")
            _work_off(pad, store, name, launchpad, workers, folder, fworker, console)
        _show_end(store, name, launchpad, console)


def _complete(pad: LaunchPad, name: str, folder: Path, console: Console) -> None:
    """Launch again a Finish that was interrupted after it had said that the campaign is finished."""
    from fireworks.core.rocket_launcher import rapidfire

    from kmde_fw.workflows.rockets import recover, worker_for

    again = recover(pad, name)
    for firework in again:
        console.print(f"  again: {firework}")
    if again:
        rapidfire(pad, worker_for(name), m_dir=str(folder), max_loops=1, sleep_time=LOOK)


def make_folder(folder: Path) -> Path:
    """A folder that workers may write into, absolute. ConfigError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "worker-0.log").touch()
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; give another --directory") from None
    return folder.resolve()


def _work_off(
    pad: LaunchPad,
    store: Store,
    name: str,
    launchpad: Path | None,
    workers: int,
    folder: Path,
    fworker: Path | None,
    console: Console,
) -> None:
    """Start the workers, show what they do, stop them. Raises KmdeError if the campaign could not be finished."""
    from kmde_fw.workflows.compatible import refuse_unfit
    from kmde_fw.workflows.rockets import recover

    refuse_unfit(pad, {"spec.kmde.campaign": name})
    for again in recover(pad, name):
        console.print(f"  ready again: {again}")
    # the workers end with us, however we end; those signals would otherwise end us without a word to them
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    processes = [start_worker([name], launchpad, folder, k, fworker) for k in range(workers)]
    try:
        _watch(store, name, processes, console)
        let_end(processes)
    finally:
        stop_workers(processes)
    if store.campaign(name)["state"] != "finished":
        raise KmdeError(_why_not(pad, name, folder))


def _show_end(store: Store, name: str, launchpad: Path | None, console: Console) -> None:
    file = str(launchpad or "launchpad.yaml")
    option = f"-l {file} " if launchpad else ""
    console.print(cycle_table(cycle_rows(store, name), f"campaign {name}"))
    console.print(f"why it stopped: {store.campaign(name)['reason']}", highlight=False)
    for refusal in refusals(store, name)[-MAX_REFUSALS:]:
        console.print(f"refused label, cycle {refusal['cycle']}: {refusal['reason']}", highlight=False)
    console.print("look next:")
    for line in (
        f"kmde status {option}{name} --json    the table above, as data",
        f"lpad -l {file} get_wflows -d more    the fireworks",
        f"database {store.database.name} at {store.address}: campaigns, cycles, motifs, candidates, labels, models "
        "(README, 'Where the results are')",
    ):
        console.print(f"  {line}", highlight=False)


def start_worker(
    names: list[str], launchpad: Path | None, folder: Path, number: int, fworker: Path | None = None
) -> subprocess.Popen[bytes]:
    """`kmde work` for these campaigns, as a process that ends when this one does."""
    # -P: no module is taken from the folder that it is started in
    command = [sys.executable, "-P", "-m", "kmde_fw", "work", *names, "--directory", str(folder), "--with-parent"]
    if launchpad is not None:
        command += ["--launchpad", str(launchpad)]
    if fworker is not None:
        command += ["--fworker", str(fworker)]
    with (folder / f"worker-{number}.log").open("ab") as log:
        # a session of its own: Ctrl-C is for us to pass on
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )


def interrupted(number: int, frame: object) -> None:
    """A signal as the exit code that shells give it."""
    raise SystemExit(128 + number)


def let_end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for workers that have nothing left to do: a campaign is finished before FireWorks has written that it is."""
    until = time.monotonic() + LAST_WORDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, until - time.monotonic()))


def stop_workers(processes: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM makes each rocket fizzle cleanly, so that the next `kmde run` continues with it."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _watch(store: Store, name: str, processes: list[subprocess.Popen[bytes]], console: Console) -> None:
    """Until the campaign is finished or every worker has ended: a live view on a terminal, plain lines elsewhere."""
    with make_view(store, name, console) as view:
        while any(process.poll() is None for process in processes):
            view.look()
            if store.campaign(name)["state"] == "finished":
                break
            time.sleep(LOOK)
        view.look()


def make_view(store: Store, name: str, console: Console) -> _LiveView | _LineView:
    """What shows a campaign while it runs: `look` reads the database and draws anew."""
    return _LiveView(store, name, console) if console.is_terminal else _LineView(store, name, console)


class _LineView:
    """One line per closed cycle and per step, and a reminder of long steps, for a batch log."""

    def __init__(self, store: Store, name: str, console: Console) -> None:
        self.store, self.name, self.console = store, name, console
        self.cycles_shown = len(store.cycles(name))
        self.said: dict[str, float] = {}

    def __enter__(self) -> _LineView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def look(self) -> None:
        now = time.monotonic()
        for step in running_steps(self.store, self.name):
            what = f"{step['cycle']} {' '.join(step['message'].split()[:3])}"
            if now - self.said.get(what, -REMIND) >= REMIND:
                self.said[what] = now
                self.console.print(_step_line(step), highlight=False)
        if len(self.store.cycles(self.name)) > self.cycles_shown:
            rows = cycle_rows(self.store, self.name)
            for row in rows[self.cycles_shown :]:
                self.console.print(_cycle_line(row), highlight=False)
            self.cycles_shown = len(rows)


class _LiveView:
    """The table of cycles, their curves and a line per running step, redrawn in place."""

    def __init__(self, store: Store, name: str, console: Console) -> None:
        self.store, self.name = store, name
        self.live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> _LiveView:
        self.live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.update(Text(""))
        self.live.__exit__(None, None, None)

    def look(self) -> None:
        rows = cycle_rows(self.store, self.name)
        steps = [Text(_step_line(step)) for step in running_steps(self.store, self.name)]
        curves = [Text(line) for line in curve_lines(rows)]
        table = cycle_table(rows, f"campaign {self.name}")
        self.live.update(Group(table, *curves, *(steps or [Text("between two steps ...")])))


def _step_line(step: dict[str, Any]) -> str:
    """cycle 2  Train seed 0 loss 0.0012: 310 of 1000, 12 s left at most."""
    line = f"cycle {step['cycle']}  {step['message']}"
    if step["total"]:
        line += f": {step['done']} of {step['total']}"
        if step["done"] and step["seconds"] > 2:
            line += f", {duration(step['seconds'] * (step['total'] - step['done']) / step['done'])} left at most"
    return line


def _cycle_line(row: dict[str, Any]) -> str:
    """cycle 1 closed: N = 1, 14 outliers, gap 0.31, energy RMSE 3.1 meV/atom (bias -3.0), force RMSE 0.04 eV/Å."""
    line = f"cycle {row['cycle']} closed after {duration(row['seconds'])}: N = {row['n_surrogates']}"
    for surrogate in row["surrogates"]:
        line += f" (+ {surrogate})"
    line += f", {row['n_outliers']} outliers, gap {row['gap']:.3f}"
    if row["energy_rmse"] is not None:
        line += (
            f", energy RMSE {row['energy_rmse']:.2f} meV/atom (bias {row['energy_bias']:+.2f}, "
            f"scatter {row['energy_scatter']:.2f}), force RMSE {row['force_rmse']:.4f} eV/Å"
        )
    return f"{line}; {row['decision']}"


def _why_not(pad: LaunchPad, name: str, folder: Path) -> str:
    from kmde_fw.workflows.rockets import fizzled

    failures = fizzled(pad, name)
    if not failures:
        return (
            f"campaign {name} stopped before its end; the workers' logs are in {folder}; `kmde run` again continues it"
        )
    lines = [f"campaign {name} cannot go on: {len(failures)} of its fireworks failed"]
    lines += [f"  firework {f['fw_id']} ({f['name']}): {f['reason']}" for f in failures[:10]]
    lines += [
        f"mend the cause, then `kmde run` again continues from there (logs: {folder}); if the cause is in the campaign "
        "file itself, give the mended campaign another `name`"
    ]
    return "\n".join(lines)
