"""What the benchmarks share: how time is taken, what is said about versions, how results are shown.

A benchmark is a script of this folder that prints a table, or with `--json` one object. `run.py` knows these keys of it
and shows whichever there are: row (its name), ours_seconds, peers {name: seconds}, ratios {name: peer over ours}, goal
(text), reached (bool), versions {package: version}; other keys are numbers that belong to the row.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


def median_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Median wall time of a call, in seconds; a first call, in which things are compiled and cached, is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def medians_in_turn(functions: Sequence[Callable[[], Any]], repeats: int = 5) -> list[float]:
    """`median_seconds` of each of several functions, called in turn: what slows the machine for a while slows all."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [median(taken) for taken in times]


def for_each(function: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], None]:
    """A function without arguments that calls `function` with every item and keeps none of the results."""

    def run() -> None:
        for item in items:
            function(item)

    return run


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage begins with what the process had that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def versions(*packages: str) -> dict[str, str]:
    """Versions of packages, by the names that pip has for them."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def arguments(description: str | None) -> argparse.Namespace:
    """The command line of a benchmark; `json` is True when an object is wanted in place of a table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    return parser.parse_args()


def finish(result: dict[str, Any], as_json: bool, table: Table) -> None:
    """Print the result: one JSON object, or the table."""
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        Console(width=120).print(table)
