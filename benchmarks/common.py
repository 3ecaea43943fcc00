"""What the benchmarks share: how time is taken, what is said about versions, how results are shown."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
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
    """Versions of installed packages, by the names that pip has for them."""
    return {package: version(package) for package in packages}


def arguments(description: str) -> argparse.Namespace:
    """The command line of a benchmark; `json` is True when an object is wanted in place of a table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    return parser.parse_args()


def finish(result: dict[str, Any], as_json: bool, table: Table) -> None:
    """Print the result: one JSON object, or the table."""
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console(width=120).print(table)
