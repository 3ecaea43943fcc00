"""Questions to a database of many campaigns: seconds, whether an index answers them, and the bytes of a candidate.

A small Cu-Au campaign is run and copied under other names and ids: 100 campaigns of 10 cycles with all their documents
but shards, and the 1000 documents of the best of 20 000 candidates per cycle for one campaign in 25 (40 000 of 1
million). The questions are asked of campaigns that have them. A question reads by index what belongs to one campaign:
its time depends on the size of that campaign, and on the rest only through the depth of the indexes; `of_tenth` is the
slowest question when a tenth as many campaigns are there. No other package does this; the goal is a second.
`report` is the time of all that a report says, which is many questions.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bson
import pymongo
import yaml
from common import arguments, finish, versions
from embedded import own_server
from pymongo import monitoring
from rich.table import Table

from kmde_fw.report.facts import report_facts
from kmde_fw.store import Store, queries, read_launchpad

CU_AU = Path(__file__).parents[1] / "fw_specs" / "cu_au"
CAMPAIGNS, CYCLES, CANDIDATES, KEEP = 100, 10, 20_000, 1000
#: every so many campaigns has its candidates
EVERY = 25
#: seconds within which a question must be answered
GOAL = 1.0
_HASH = re.compile("[0-9a-f]{64}")


class Listener(monitoring.CommandListener):
    """Keeps every query that the driver sends."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep finds and counts."""
        if event.command_name in ("find", "aggregate"):
            self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to do."""


def questions(store: Store, campaign: str) -> dict[str, Callable[[], Any]]:
    """What people ask, of one campaign."""
    pick = queries.surrogates(store, campaign)[0]
    other = store.campaigns()[0]["_id"]
    model = store.cycles(campaign)[-1]["models"][0]
    return {
        "why STRUCTURE": lambda: queries.passport(store, queries.resolve(store, pick["structure_id"][:8])[1]),
        "why MODEL, lineage": lambda: queries.lineage(store, queries.resolve_model(store, model[:8])),
        "candidates": lambda: queries.candidates(store, campaign, 1, 20),
        "motifs": lambda: queries.motifs(store, campaign),
        "outliers": lambda: queries.outliers(store, campaign),
        "failures": lambda: queries.failures(store, campaign),
        "diff": lambda: queries.diff(store, campaign, other),
    }


def scans(store: Store, listener: Listener, ask: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Queries that the server answers by going through a collection, each as "question: collection filter"."""
    found = []
    for name, question in ask.items():
        listener.commands.clear()
        question()
        for command in list(listener.commands):
            if command.get("find") and command.get("filter"):
                plain = {
                    key: command[key] for key in ("find", "filter", "sort", "limit", "projection") if key in command
                }
                plan = store.database.command("explain", plain)
                if "COLLSCAN" in str(plan):
                    found.append(f"{name}: {command['find']} {command['filter']}")
    return found


def run_one(launchpad: Path, folder: Path) -> None:
    """A small campaign with as many candidates per cycle as a large one."""
    from kmde_fw.cli.work import launch_all
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    shutil.copytree(CU_AU, folder / "cu_au")
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    data["name"] = "original"
    data["training"] = {"max_closures": 3, "seeds": [0]}
    data["network"] = {"hidden": [4]}
    data["design"] |= {"candidates": CANDIDATES, "picks_per_cycle": 1, "keep": KEEP}
    data["stop"] = {"max_surrogates": 1}
    (folder / "cu_au" / "campaign.yaml").write_text(yaml.safe_dump(data))
    logging.disable(logging.INFO)
    with launchpad_of(launchpad) as pad:
        submit(pad, prepare(folder / "cu_au" / "campaign.yaml"))
        launch_all(pad, ["original"], folder)
    logging.disable(logging.NOTSET)


def copy_campaign(store: Store, name: str, candidates: bool) -> None:
    """The original under another name, its second cycle once for each of CYCLES, every hash another one."""

    def other(value: Any, cycle: int) -> Any:
        if isinstance(value, dict):
            return {k: other(v, cycle) for k, v in value.items()}
        if isinstance(value, list):
            return [other(v, cycle) for v in value] if value and not isinstance(value[0], int | float) else value
        if not isinstance(value, str):
            return value
        if _HASH.fullmatch(value):
            return hashlib.sha256(f"{name}{cycle if value in OF_CYCLE else ''}{value}".encode()).hexdigest()
        return value.replace("original/001", f"{name}/{cycle:03d}").replace("original", name)

    def insert(collection: str, documents: list[dict[str, Any]]) -> None:
        if documents:
            store.database[collection].insert_many(documents)

    for collection in ("structures", "labels", "models"):
        originals = store.find(collection, {"_id": {"$in": ORIGINALS[collection]}})
        documents = [
            other(d, cycle) for d in originals for cycle in (range(1, CYCLES + 1) if d["_id"] in OF_CYCLE else (0,))
        ]
        insert(collection, [{**d, "short": d["_id"][:6]} for d in documents])
    insert("campaigns", [other(store.campaign("original"), 0)])
    for collection in ("cycles", "analyses", "evaluations", "selections", "outcomes", "motifs", "candidates"):
        if collection == "candidates" and not candidates:
            continue
        first = store.find(collection, {"campaign": "original", "cycle": 0})
        insert(collection, [other(d, 0) for d in first])
        later = store.find(collection, {"campaign": "original", "cycle": 1})
        for cycle in range(1, CYCLES + 1):
            copies = [{**other(d, cycle), "cycle": cycle} for d in later]
            insert(collection, copies)


#: ids of the original by collection, and of what each cycle has its own of: surrogates, their labels, models
ORIGINALS: dict[str, list[str]] = {}
OF_CYCLE: set[str] = set()


def ask_all(store: Store, ask: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each question, asked for the first time."""
    taken = {}
    for name, question in ask.items():
        start = time.perf_counter()
        question()
        taken[name] = time.perf_counter() - start
    return taken


def candidate_bytes(store: Store) -> dict[str, float]:
    """Bytes (BSON, before the database compresses) of a candidate in its shard's columns, of one with a document of its
    own, and of a candidate on average."""
    selection = store.selection("original", 1)
    shards = store.find("shards", {"campaign": "original"})
    column = sum(len(bson.encode(shard)) for shard in shards) / selection["n_candidates"]
    kept = store.find("candidates", {"campaign": "original"})
    document = sum(len(bson.encode(d)) for d in kept) / len(kept)
    share = len(kept) / selection["n_candidates"]
    return {"in_columns": column, "as_document": document, "on_average": column + share * document}


def main() -> None:
    """Run."""
    options = arguments(__doc__)
    listener = Listener()
    with tempfile.TemporaryDirectory() as temporary, own_server(Path(temporary)) as launchpad:
        folder = Path(temporary)
        run_one(launchpad, folder)
        connection = read_launchpad(launchpad)
        client: Any = pymongo.MongoClient(str(connection.settings["host"]), event_listeners=[listener])
        store = Store(client[connection.database])
        for collection in ("structures", "labels", "models"):
            ORIGINALS[collection] = [d["_id"] for d in store.find(collection, fields=())]
        surrogates = queries.surrogates(store, "original")
        OF_CYCLE.update(c["structure_id"] for c in store.find("candidates", {"campaign": "original", "cycle": 1}))
        OF_CYCLE.update(row["label_id"] for row in surrogates)
        OF_CYCLE.update(store.cycles("original")[1]["models"])
        names = [f"copy{k:03d}" for k in range(CAMPAIGNS)]
        tenth: dict[str, float] = {}
        for k, name in enumerate(names):
            if k == max(1, CAMPAIGNS // 10):
                tenth = ask_all(store, questions(store, names[0]))
            copy_campaign(store, name, candidates=k % EVERY == 0)
        chosen = names[(CAMPAIGNS - 1) // EVERY * EVERY]
        ask = questions(store, chosen)
        taken = ask_all(store, ask)
        report = ask_all(store, {"report": lambda: report_facts(store, chosen)})
        found = scans(store, listener, {**ask, "report": lambda: report_facts(store, chosen)})
        size = candidate_bytes(store)
        counts = {name: store.count(name) for name in ("campaigns", "cycles", "structures", "motifs", "candidates")}
        client.close()
    slowest = max(taken.values())
    result = {
        "row": f"seven questions to {CAMPAIGNS} campaigns of {CYCLES} cycles, the slowest",
        "ours_seconds": slowest,
        "peers": {},
        "ratios": {},
        "goal": f"each within {GOAL:g} s, none scans a collection",
        "reached": slowest <= GOAL and not found,
        "versions": versions("pymongo", "secantusdb"),
        "seconds": {**taken, **report},
        "of_tenth": max(tenth.values(), default=None),
        "scans": found,
        "bytes_of_a_candidate": size,
        "documents": counts,
    }
    finish(result, options.json, table_of(result))


def table_of(result: dict[str, Any]) -> Table:
    """One row per question."""
    size = ", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in result["bytes_of_a_candidate"].items())
    table = Table(
        title=f"{result['row']}: {result['ours_seconds']:.2f} s; {result['goal']}",
        caption=f"bytes of a candidate: {size}; collections scanned: {len(result['scans'])}",
    )
    table.add_column("question")
    table.add_column("seconds", justify="right")
    for name, seconds in result["seconds"].items():
        table.add_row(name, f"{seconds:.3f}")
    return table


if __name__ == "__main__":
    main()
