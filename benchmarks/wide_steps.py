"""What FireWorks and the database cost for a cycle of many picks and many shards: seconds in which nothing is computed.

The graph of a campaign's cycle (Generate × shards, Select, Label × picks, Train, Analyse, Evaluate, Advance) is spawned
by the cycle before and worked off by one worker whose steps do nothing. `per_firework` is what a rocket costs, `last`
the largest single one: where a step ends on which many wait, or that many end on. The goal is that the widest step
costs no more than a second per firework, which is little beside any label.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from common import arguments, finish, versions
from embedded import own_server
from fireworks import FWAction, LaunchPad, Workflow
from fireworks.core.rocket_launcher import rapidfire
from rich.table import Table

from kmde_fw.firetasks.base import KmdeTask
from kmde_fw.store import Store, read_launchpad
from kmde_fw.workflows.cycle import Advance, campaign_workflow, cycle_fireworks
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
from kmde_fw.workflows.prepare import prepare
from kmde_fw.workflows.register import register
from kmde_fw.workflows.rockets import worker_for

CU_AU = Path(__file__).parents[1] / "fw_specs" / "cu_au"
#: (shards, picks)
WIDTHS = ((2, 1), (2, 10), (16, 50), (64, 200))
#: seconds per firework
GOAL = 1.0


def main() -> None:
    """Measure every width, print."""
    options = arguments(__doc__)
    logging.disable(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as directory, own_server(Path(directory)) as launchpad:
        pad = open_launchpad(read_launchpad(launchpad))
        ensure_initialised(pad)
        for shards, picks in WIDTHS:
            rows.append(measure(pad, Path(directory), shards, picks))
        pad.connection.close()
    widest = rows[-1]
    result = {
        "row": f"a cycle of {widest['shards']} shards and {widest['picks']} picks: FireWorks and the database",
        "ours_seconds": widest["seconds"],
        "goal": f"{GOAL:g} s per firework",
        "reached": widest["per_firework"] <= GOAL,
        "widths": rows,
        "versions": versions("fireworks", "pymongo", "SecantusDB"),
    }
    finish(result, options.json, table_of(rows))


def measure(pad: LaunchPad, folder: Path, shards: int, picks: int) -> dict[str, Any]:
    """A campaign of that width: cycle 0, which spawns cycle 1, which is timed; then its Finish."""
    name = f"wide_{shards}_{picks}"
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    data |= {"name": name, "train": [str(CU_AU / "train.extxyz")], "target": [str(CU_AU / "target.extxyz")]}
    data["design"] = {"shards": shards, "picks_per_cycle": picks, "derive_parents": False}
    data["stop"] = {"max_surrogates": picks}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(data))
    store = Store(pad.db)
    register(store, prepare(file))
    document = store.campaign(name)
    pad.add_wf(campaign_workflow(document))
    times: list[float] = []

    def nothing(task: KmdeTask, fw_spec: dict[str, Any]) -> FWAction | None:
        if isinstance(task, Advance) and task["cycle"] == 0:
            return FWAction(detours=Workflow(cycle_fireworks(document, 1), name=f"{name} 001"))
        return None

    original = KmdeTask.run_task
    KmdeTask.run_task = nothing  # type: ignore[method-assign]
    worker = worker_for(name)
    try:
        # Train, Analyse, Evaluate, Advance of cycle 0: the last of them writes the fireworks of the next
        for _ in range(4):
            spawn = _one(pad, worker, folder)
        total = 0.0
        for _ in range(shards + 1 + picks + 4 + 1):
            times.append(_one(pad, worker, folder))
            total += times[-1]
    finally:
        KmdeTask.run_task = original  # type: ignore[method-assign]
    left = pad.fireworks.count_documents({"spec.kmde.campaign": name, "state": {"$ne": "COMPLETED"}})
    assert left == 0, f"{left} fireworks are left"
    return {
        "shards": shards,
        "picks": picks,
        "fireworks": len(times),
        "spawn": spawn,
        "seconds": total,
        "per_firework": total / len(times),
        "last": max(times),
        "after_select": times[shards],
    }


def _one(pad: LaunchPad, worker: Any, folder: Path) -> float:
    begin = time.perf_counter()
    rapidfire(pad, worker, m_dir=str(folder), nlaunches=1, max_loops=1, sleep_time=0)
    return time.perf_counter() - begin


def table_of(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    table = Table(title="FireWorks and the database for a cycle in which nothing is computed, seconds")
    for heading in (
        "shards",
        "picks",
        "fireworks",
        "to spawn it",
        "to work it off",
        "per firework",
        "slowest",
        "Select",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row["shards"]), str(row["picks"]), str(row["fireworks"]), f"{row['spawn']:.2f}",
            f"{row['seconds']:.1f}", f"{row['per_firework']:.2f}", f"{row['last']:.2f}", f"{row['after_select']:.2f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
