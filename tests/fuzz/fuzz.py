"""make fuzz: 100 000 damaged inputs, none of which may end in a traceback, hang, or leave half a campaign.

python tests/fuzz/fuzz.py [--cases 100000] [--seed 0] [--only KIND ...] [--out results/faults]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import hypothesis
from cases import seeds
from hypothesis import HealthCheck, Phase, given, settings

PROJECT = Path(__file__).parents[2]
#: of the source that is run
COMMIT = subprocess.run(
    ["git", "describe", "--always", "--dirty"], cwd=PROJECT, capture_output=True, text=True, check=False
).stdout.strip()


def run(kind: str, cases: int, seed: int, folder: Path) -> tuple[int, str]:
    """So many cases of a kind. Returns how many were tried, and what failed: the smallest example."""
    strategy, check, _ = seeds()[kind]
    tried = 0

    @hypothesis.seed(seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(strategy)
    def case(data: object) -> None:
        nonlocal tried
        tried += 1
        check(folder, data)

    try:
        case()
    except BaseException:
        if sys.exc_info()[0] is KeyboardInterrupt:
            raise
        return tried, traceback.format_exc(limit=-6)
    return tried, ""


def main() -> None:
    """All kinds, each its share; fuzz.json is written after each of them. --only: adds to what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(seeds()), help="these kinds, each its share of all cases")
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "faults")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "fuzz.json"
    rows = json.loads(file.read_text())["kinds"] if options.only and file.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="kmde-fuzz-") as folder:
        for kind, (_, _, share) in seeds().items():
            if options.only and kind not in options.only:
                continue
            start = time.monotonic()
            tried, failure = run(kind, options.cases * share // 100, options.seed, Path(folder))
            seconds = round(time.monotonic() - start, 1)
            rows[kind] = {"cases": tried, "failed": int(bool(failure)), "seconds": seconds, "commit": COMMIT}
            print(f"{kind}: {rows[kind]}", failure, sep="\n" if failure else "", flush=True)
            total = {key: sum(row[key] for row in rows.values()) for key in ("cases", "failed")}
            file.write_text(json.dumps({**total, "kinds": rows}, indent=2) + "\n")
    sys.exit(1 if any(row["failed"] for row in rows.values()) else 0)


if __name__ == "__main__":
    main()
