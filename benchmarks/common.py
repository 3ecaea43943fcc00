"""What the benchmarks share: how time is taken, what is said about versions, how results are shown.

A benchmark is a script of this folder that prints a table, or with `--json` one object. `run.py` knows these keys of it
and shows whichever there are: row (its name), ours_seconds, peers {name: seconds}, ratios {name: peer over ours}, goal
(text), reached (bool), versions {package: version}; other keys are numbers that belong to the row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
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
