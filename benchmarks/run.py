"""Run the benchmarks of this folder and write RESULTS.md: one table, and the machine that it is from.

A benchmark whose peer is not installed, or that fails, is a row that says so, and the others still run.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
#: seconds that one script may take
LIMIT = 400
#: of what a database holds and FireWorks can take, minutes each: run by name
APART = ("questions.py", "wide_steps.py")
#: one thread, also in the libraries below
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
#: what the table has columns for; everything else is a detail
COLUMNS = ("row", "ours_seconds", "peers", "ratios", "goal", "reached", "versions")


def main() -> int:
    """Run, write; 1 where a script failed for another reason than a missing peer."""
    began, found = time.monotonic(), machine()
    results, broken = {}, False
    for script in scripts():
        start = time.monotonic()
        results[script.stem] = run(script)
        problem = results[script.stem].get("problem", "")
        broken = broken or problem.startswith("failed")
        print(f"{script.stem}: {problem or 'done'} ({time.monotonic() - start:.0f} s)", flush=True)
    RESULTS.write_text(page(results, time.monotonic() - began, found), encoding="utf-8")
    print(f"written: {RESULTS}")
    return int(broken)


def scripts() -> list[Path]:
    """The benchmarks: all scripts here that can be run, but for this one and those APART."""
    files = sorted(f for f in FOLDER.glob("*.py") if f.name not in APART)
    return [f for f in files if f != Path(__file__).resolve() and '__name__ == "__main__"' in f.read_text("utf-8")]


def run(script: Path) -> dict[str, Any]:
    """The object that a benchmark prints; or {"problem": why there is none}."""
    command = [sys.executable, str(script), "--json"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what it has started can be ended with it
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"problem": f"failed: not finished after {LIMIT} s"}
    if process.returncode:
        missing = re.search(r"ModuleNotFoundError: No module named '([^']+)'", errors)
        if missing:
            return {"problem": f"not measured: {missing[1].split('.')[0]} is not installed (pip install '.[bench]')"}
        return {"problem": f"failed: {(errors.strip().splitlines() or ['without a word'])[-1]}"}
    try:
        # a library may have said something before
        return dict(json.loads(output[max(output.find("\n{") + 1, 0) :]))
    except ValueError:
        return {"problem": "failed: it printed no JSON object"}


def page(results: dict[str, dict[str, Any]], seconds: float, machine: str) -> str:
    """RESULTS.md."""
    found: dict[str, str] = {}
    for result in results.values():
        found |= result.get("versions", {})
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; what each row is, is said at the top of the script that it names.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {seconds / 60:.1f} minutes in all, code {commit()}",
        f"- machine: {machine}",
        f"- versions: Python {platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in sorted(found.items())),
        "- one thread; seconds are medians unless the script says otherwise; ratio: peer over ours",
        "",
        "| row | script | ours | peer | ratio | goal | reached |",
        "|---|---|---|---|---|---|---|",
        *(row(name, result) for name, result in results.items()),
    ]
    for name, result in results.items():
        more = {key: value for key, value in result.items() if key not in (*COLUMNS, "problem")}
        if more:
            lines += ["", f"## {result.get('row', name)}", "", *details(more)]
    return "\n".join(lines) + "\n"


def row(name: str, result: dict[str, Any]) -> str:
    """One line of the table; a cell without a value is a dash."""
    peers, ratios = result.get("peers", {}), result.get("ratios", {})
    reached = result.get("reached")
    verdict = result.get("problem") or ("–" if reached is None else "yes" if reached else "**no**")
    cells = [
        result.get("row", name),
        f"`{name}.py`",
        duration(result.get("ours_seconds")),
        "<br>".join(f"{peer} {duration(value)}" for peer, value in peers.items()),
        "<br>".join(ratio(value) for value in ratios.values()),
        result.get("goal", result.get("target", "")),
        verdict,
    ]
    return "| " + " | ".join(str(cell or "–").replace("|", "\\|") for cell in cells) + " |"


def details(more: dict[str, Any]) -> list[str]:
    """Further numbers of a benchmark: a list, and a table for each list of objects."""
    lists = {key: value for key, value in more.items() if isinstance(value, list) and all_objects(value)}
    lines = [
        f"- {key}: {', '.join(map(plain, value)) if isinstance(value, list) else plain(value)}"
        for key, value in flat(more).items()
        if key not in lists
    ]
    for key, value in lists.items():
        rows = [flat(entry) for entry in value]
        names = list(dict.fromkeys(name for entry in rows for name in entry))
        lines += ["", f"{key}:", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        lines += ["| " + " | ".join(plain(entry.get(name, "–")) for name in names) + " |" for entry in rows]
    return lines


def all_objects(value: list[Any]) -> bool:
    """Whether a list is one of objects, which is shown as a table."""
    return bool(value) and all(isinstance(entry, dict) for entry in value)


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """{a: {b: 1}} as {"a b": 1}, however deep."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= {f"{key} {inner}": entry for inner, entry in flat(value).items()}
        else:
            found[key] = value
    return found


def plain(value: Any) -> str:
    """A number in four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def ratio(value: float | None) -> str:
    """In three digits."""
    if value is None:
        return "–"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """In the unit that suits it."""
    if seconds is None:
        return "–"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def machine() -> str:
    """Processor, cores, memory, system, and how busy it is with other things."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        name = re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE)
        processor = name[1] if name else processor
    facts = [processor, f"{os.cpu_count()} cores"]
    if hasattr(os, "sysconf"):
        facts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    facts.append(f"{platform.system()} {platform.release()}")
    if hasattr(os, "getloadavg"):
        loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
        facts.append(f"load average before the first benchmark {loads} (1, 5, 15 minutes)")
    return ", ".join(facts)


def commit() -> str:
    """The short hash of the commit, or "not in git"."""
    command = ["git", "-C", str(FOLDER), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not in git"
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
