"""Fifty campaigns of different users in one database, two workers for all of them; results/faults/many.json.

    python tests/faults/many.py [--campaigns 50] [--out results/faults]

Every second half of them is the first half again under other names: their labels and models are computed once. Three of
the campaigns are also run alone, each in a database of its own: they pick the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pymongo
from harness import Place, fork, place
from run import COMMIT, PROJECT, free_port


def submit_all(where: Place, seeds: dict[str, int]) -> None:
    """Put campaigns of these names and seeds on the LaunchPad."""
    import yaml

    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    with launchpad_of(where.launchpad) as pad:
        for name, seed in seeds.items():
            data = yaml.safe_load(where.campaign.read_text())
            file = where.folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump({**data, "name": name, "seed": seed}))
            submit(pad, prepare(file))


def work_off(where: Place, names: list[str], number: int) -> None:
    """A worker for all of them."""
    from kmde_fw.cli.work import launch_all
    from kmde_fw.workflows.launchpad import launchpad_of

    log = os.open(where.logs / f"many-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with launchpad_of(where.launchpad) as pad:
        launch_all(pad, names, where.runs)


def in_processes(*calls: tuple[Any, ...]) -> None:
    """Each call in a process of its own, at the same time."""
    processes = [fork.Process(target=function, args=arguments) for function, *arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"a process failed with {process.exitcode}")


def picks(database: Any, name: str) -> list[str]:
    """Structure ids of what a campaign picked, cycle by cycle."""
    found = database["selections"].find({"campaign": name}).sort("cycle")
    return [slot[0]["structure_id"] for selection in found for slot in selection["slots"] if slot]


def judge(where: Place, seeds: dict[str, int]) -> dict[str, Any]:
    """What must hold of all campaigns together."""
    with pymongo.MongoClient(where.uri) as client:
        database = client[where.database]
        finished = database["campaigns"].count_documents({"state": "finished"})
        foreign = 0
        computed = 0
        by_seed: dict[int, set[tuple[str, ...]]] = {}
        for name, seed in seeds.items():
            own = {c["structure_id"] for c in database["candidates"].find({"campaign": name}, {"structure_id": 1})}
            chosen = picks(database, name)
            foreign += sum(structure not in own for structure in chosen)
            by_seed.setdefault(seed, set()).add(tuple(chosen))
            computed += database["outcomes"].count_documents({"campaign": name, "reused": False})
        labels = database["labels"].count_documents({"engine": "ase"})
        distinct = {structure for found in by_seed.values() for chosen in found for structure in chosen}
        return {
            "campaigns": len(seeds),
            "finished": finished,
            "picks that are not among the campaign's own candidates": foreign,
            "seeds whose campaigns differ": sum(len(found) > 1 for found in by_seed.values()),
            "picks": sum(len(picks(database, name)) for name in seeds),
            "different structures picked": len(distinct),
            "labels computed": labels,
            "models": database["models"].count_documents({}),
            "fireworks": database["fireworks"].count_documents({}),
        }


def run(where: Place, number: int, alone: int = 3) -> dict[str, Any]:
    """All campaigns together, then some of them alone."""
    half = max(1, number // 2)
    seeds = {f"user{k:02d}": k % half for k in range(number)}
    where.fresh("many")
    begin = time.monotonic()
    in_processes((submit_all, where, seeds))
    submitted = time.monotonic() - begin
    in_processes(*((work_off, where, list(seeds), k) for k in range(2)))
    result = {**judge(where, seeds), "seconds to submit": round(submitted, 1)}
    result["seconds to finish"] = round(time.monotonic() - begin - submitted, 1)
    different = 0
    for name in list(seeds)[:: max(1, half // alone)][:alone]:
        with pymongo.MongoClient(where.uri) as client:
            together = picks(client[where.database], name)
        where.fresh(f"alone_{name}")
        in_processes((submit_all, where, {name: seeds[name]}))
        in_processes((work_off, where, [name], 0))
        with pymongo.MongoClient(where.uri) as client:
            different += picks(client[where.database], name) != together
        where.database = "many"
    result["run alone"], result["of these, with other picks"] = alone, different
    return result


#: one cycle of one pick
SMALLEST = {
    "training": {"max_closures": 5},
    "design": {"candidates": 40, "picks_per_cycle": 1, "shards": 1, "max_atoms": 8, "derive_parents": False},
    "stop": {"max_surrogates": 1},
}


def is_good(result: dict[str, Any]) -> bool:
    """Whether all of it is as it must be."""
    nothing = ("picks that are not among the campaign's own candidates", "seeds whose campaigns differ")
    return (
        result["finished"] == result["campaigns"]
        and not any(result[key] for key in (*nothing, "of these, with other picks"))
        and result["labels computed"] == result["different structures picked"]
    )


def main() -> None:
    """Run, write results/faults/many.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=50)
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "faults")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with (
        tempfile.TemporaryDirectory(prefix="kmde-many-") as folder,
        place(Path(folder), free_port(), **SMALLEST) as where,
    ):
        result = run(where, options.campaigns)
    options.out.mkdir(parents=True, exist_ok=True)
    command = "python tests/faults/many.py " + " ".join(sys.argv[1:])
    (options.out / "many.json").write_text(
        json.dumps({"command": command.strip(), "commit": COMMIT, **result}, indent=2) + "\n"
    )
    print(json.dumps(result, indent=2))
    sys.exit(0 if is_good(result) else "not everything is as it must be")


if __name__ == "__main__":
    main()
