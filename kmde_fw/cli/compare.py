"""kmde compare: strategies × seeds as campaigns, and what came of them as tables and plots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.errors import ConfigError, KmdeError

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from kmde_fw.comparison import Comparison
    from kmde_fw.store import Store

#: seconds between two looks at the database, and between two lines that say how far everything is
LOOK, REMIND = 2.0, 60.0


def compare(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="a comparison file: strategies and seeds")],
    launchpad: LaunchpadFile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder of tables and plots; default: results/NAME here")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="worker processes here; default: the file's")
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="only submit; rockets elsewhere do the work, --report-only shows it")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="only write tables and plots of what the database holds by now")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run strategies × seeds as campaigns and compare them. Run again, it continues where it was."""
    from kmde_fw.comparison import load_comparison
    from kmde_fw.store import Store
    from kmde_fw.workflows.launchpad import launchpad_of

    if queue and report_only:
        raise ConfigError("--queue submits and --report-only does not: give one of the two")
    # with --json the words go to stderr, so that stdout is one JSON object
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=True)
    comparison = load_comparison(spec)
    with launchpad_of(launchpad) as pad:
        store = Store(pad.db)
        problem = "" if report_only else _run(pad, store, comparison, spec, launchpad, workers, queue, console)
        if not queue:
            folder = output or Path("results") / comparison.name
            facts = _report(store, comparison, spec, folder, console)
            if as_json:
                typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        elif as_json:
            typer.echo(
                json.dumps({"name": comparison.name, "campaigns": [r.campaign for r in comparison.runs]}, indent=2)
            )
    if problem:
        raise KmdeError(problem)


def _run(
    pad: LaunchPad,
    store: Store,
    comparison: Comparison,
    spec: Path,
    launchpad: Path | None,
    workers: int | None,
    queue: bool,
    console: Console,
) -> str:
    """Submit what is not there yet and, unless it is only queued, work it off. Returns what stands in the way."""
    from kmde_fw.workflows.comparison import prepare_comparison
    from kmde_fw.workflows.loops import compile_loops
    from kmde_fw.workflows.start import submit

    prepared = prepare_comparison(comparison, spec)
    for remark in dict.fromkeys(remark for campaign in prepared for remark in campaign.remarks):
        console.print(f"note: {remark}")
    new = sum([submit(pad, campaign) for campaign in prepared])
    console.print(f"comparison {comparison.name}: {len(prepared)} campaigns, {new} of them new")
    if queue:
        console.print("queued; work them off with `rlaunch rapidfire` or `kmde compare` without --queue")
        return ""
    if not _unfinished(store, comparison):
        return ""
    compile_loops(prepared[0])
    return _work_off(pad, store, comparison, launchpad, workers or comparison.workers, console)


def _work_off(
    pad: LaunchPad, store: Store, comparison: Comparison, launchpad: Path | None, workers: int, console: Console
) -> str:
    from kmde_fw.cli.run import interrupted, let_end, make_folder, start_worker, stop_workers
    from kmde_fw.comparison import worker_order
    from kmde_fw.workflows.rockets import fizzled, recover

    folder = make_folder(Path(".kmde/runs") / comparison.name)
    for campaign in _unfinished(store, comparison):
        for again in recover(pad, campaign):
            console.print(f"  ready again: {again}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    processes = [start_worker(worker_order(comparison.runs, k, workers), launchpad, folder, k) for k in range(workers)]
    try:
        _watch(store, comparison, processes, console)
        let_end(processes)
    finally:
        stop_workers(processes)
    lines = []
    for campaign in _unfinished(store, comparison):
        lines += [f"  {f['name']}: {f['reason']}" for f in fizzled(pad, campaign)]
    if not lines and not _unfinished(store, comparison):
        return ""
    head = f"{len(_unfinished(store, comparison))} campaigns of {comparison.name} are not finished"
    tail = f"the same command again continues them (logs: {folder})"
    return "\n".join([head, *lines[:10], tail])


def _unfinished(store: Store, comparison: Comparison) -> list[str]:
    names = [run.campaign for run in comparison.runs]
    found = store.find("campaigns", {"_id": {"$in": names}}, fields=["state"])
    done = {campaign["_id"] for campaign in found if campaign["state"] == "finished"}
    return [name for name in names if name not in done]


def _watch(store: Store, comparison: Comparison, processes: list[subprocess.Popen[bytes]], console: Console) -> None:
    """A line per closed cycle until all campaigns are finished or every worker has ended."""
    names = [run.campaign for run in comparison.runs]
    known = {cycle["_id"] for cycle in store.find("cycles", {"campaign": {"$in": names}}, fields=())}
    began = reminded = time.monotonic()
    at_start = len(known)
    while True:
        working = any(process.poll() is None for process in processes)
        cycles = store.find("cycles", {"campaign": {"$in": names}}, fields=["campaign", "cycle"], sort=("created",))
        for cycle in cycles:
            if cycle["_id"] not in known:
                known.add(cycle["_id"])
                console.print(_line(store.get("cycles", cycle["_id"]) or {}))
        unfinished = _unfinished(store, comparison)
        if not working or not unfinished:
            return
        if time.monotonic() - reminded > REMIND:
            reminded = time.monotonic()
            console.print(_how_far(comparison, len(names) - len(unfinished), len(known), at_start, reminded - began))
        time.sleep(LOOK)


def _line(cycle: dict[str, Any]) -> str:
    line = f"{cycle['campaign']}: N = {cycle['n_surrogates']}, {cycle['n_outliers']} outliers"
    errors = cycle["metrics"]["target"]
    if errors:
        line += (
            f", {errors['energy_rmse']['mean']:.2f} meV/atom (bias {errors['energy_bias']['mean']:+.2f}), "
            f"{errors['force_rmse']['mean']:.4f} eV/Å"
        )
    return line + (f"; {cycle['reason']}" if cycle["stop"] else "")


def _how_far(comparison: Comparison, finished: int, cycles: int, at_start: int, seconds: float) -> str:
    from kmde_fw.report.cycles import duration

    total = len(comparison.runs) * (comparison.surrogates + 1)
    line = f"{finished} of {len(comparison.runs)} campaigns finished, {cycles} of at most {total} cycles"
    if cycles > at_start:
        line += f", about {duration(seconds / (cycles - at_start) * max(0, total - cycles))} left"
    return line


def _report(store: Store, comparison: Comparison, spec: Path, folder: Path, console: Console) -> dict[str, Any]:
    """Write the files, show the table; everything as one dictionary."""
    from kmde_fw.report import comparison as report
    from kmde_fw.report.comparison_page import comparison_page
    from kmde_fw.report.plots import write_plots
    from kmde_fw.report.stops import stop_rows
    from kmde_fw.workflows.comparison import stop_rules

    rows = report.run_rows(store, comparison)
    if not rows:
        raise ConfigError(
            f"the database has no finished cycle of comparison {comparison.name}; run it without --report-only first"
        )
    summary, categories = report.summary_rows(comparison, rows), report.category_rows(store, rows)
    energies, states = report.energy_rows(store, rows), report.state_rows(store, comparison)
    costs, stops = report.cost_rows(comparison, rows), stop_rows(store, comparison, rows, stop_rules(comparison, spec))
    notes = report.remarks(comparison, states)
    text = report.results_text(comparison, f"kmde compare {spec}", summary, categories, costs, stops, notes)
    files = {
        "summary.csv": report.as_csv(summary),
        "runs.csv": report.as_csv(rows),
        "categories.csv": report.as_csv(categories),
        "energies.csv": report.as_csv(energies),
        "by_cost.csv": report.as_csv(costs),
        "stops.csv": report.as_csv(stops),
        "README.md": text,
        "report.html": comparison_page(comparison, summary, categories, costs, stops, states, notes),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        plots = write_plots(folder, summary, energies)
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; give another --output") from None
    console.print(report.summary_table(summary, f"comparison {comparison.name}"))
    for note in notes:
        console.print(f"note: {note}")
    console.print(f"tables and plots: {folder}")
    return {
        "name": comparison.name,
        "summary": summary,
        "runs": rows,
        "categories": categories,
        "energies": energies,
        "by_cost": costs,
        "stops": stops,
        "campaigns": states,
        "remarks": notes,
        "files": [str(folder / name) for name in (*files, *plots)],
    }
