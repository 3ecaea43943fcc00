"""Small campaigns, workers that are killed in them at moments that a seed decides, and what must hold afterwards.

Workers are forked from a process that has imported everything, so that one costs half a second; they call the same
functions as `kmde run`: submit, recover, launch_all. A kill is SIGKILL from outside, `seconds` after a step began, or
by the worker to itself before the n-th command since then goes to the database, or after its reply has come.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bson
import psutil
import pymongo
import yaml
from pymongo import monitoring

from kmde_fw.store import COLLECTIONS, server

CU_AU = Path(__file__).parent.parent.parent / "fw_specs" / "cu_au"
STEPS = ("Generate", "Select", "Label", "Train", "Analyse", "Evaluate", "Advance", "Finish")
NAME = "small"
#: fields that tell when, where and how long, and differ from run to run
PASSING = {
    "created",
    "host",
    "versions",
    "seconds",
    "generate_seconds",
    "run_directory",
    "gridfs_id",
    "state_since",
    "taken_over",
}
#: documents that change while a campaign runs, or that only its run needs
FLEETING = {"campaigns", "claims", "progress"}
#: a campaign takes five seconds, and minutes on a machine that is busy with other things
PATIENCE = 900.0

fork = multiprocessing.get_context("forkserver")
fork.set_forkserver_preload(
    [
        "harness", "kmde_fw.cli.work", "kmde_fw.hdnnp.training", "kmde_fw.workflows.prepare",
        "kmde_fw.workflows.start", "kmde_fw.workflows.launcher",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """When a worker is killed: in the `occurrence`-th step of that kind that it begins.

    seconds: so long after its beginning, from outside; otherwise command: its n-th database command from then on, which
    may be one of FireWorks after the step; acknowledged: after the reply to it, else before it is sent.
    """

    step: str
    occurrence: int = 1
    seconds: float | None = None
    command: int = 0
    acknowledged: bool = False
    signal: int = signal.SIGKILL


@dataclass
class Place:
    """A database server, a folder, and a campaign file: where faults happen."""

    folder: Path
    port: int
    data: Path
    database: str = "kmde_fw"
    #: where launch directories and logs go; default: in the folder
    rockets: Path | None = None
    processes: list[Any] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """Of the server itself."""
        return f"mongodb://127.0.0.1:{self.port}/?{server.URI_OPTIONS}"

    @property
    def launchpad(self) -> Path:
        """launchpad.yaml of the workers."""
        return self.folder / "launchpad.yaml"

    @property
    def campaign(self) -> Path:
        """The campaign file."""
        return self.folder / "campaign.yaml"

    def fresh(self, database: str) -> None:
        """Another, empty database on the same server, and an empty run directory."""
        self.database = database
        for folder in (self.runs, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        settings = {"host": self.uri, "name": database, "uri_mode": True, "strm_lvl": "ERROR"}
        self.launchpad.write_text(yaml.safe_dump(settings))

    @property
    def runs(self) -> Path:
        """Where launch directories go."""
        return self.rockets or self.folder / "runs"

    @property
    def logs(self) -> Path:
        """Where workers write what they say, and what was acknowledged to them."""
        return self.folder / "logs"

    def worker(self, kill: Kill | None = None, launcher: bool = False) -> Worker:
        """Start a worker that submits the campaign, or goes on with it, until it is finished or killed.

        launcher: it works as `kmde launch rapidfire` does in a queue's job, not as `kmde run`.
        """
        return Worker(self, kill, launcher)

    def acknowledged(self) -> dict[tuple[str, str], str]:
        """Every document whose writing was acknowledged to some worker: (collection, _id) -> hash of its content."""
        found = {}
        for log in sorted(self.logs.glob("acknowledged-*")):
            for line in log.read_text().splitlines():
                if line.endswith("."):  # a line that was cut short was not written whole
                    collection, key, digest = line[:-1].split("\t")
                    found[collection, key] = digest
        return found


class Worker:
    """A process that works on the campaign of a place."""

    def __init__(self, place: Place, kill: Kill | None, launcher: bool = False) -> None:
        self.kill = kill
        self.launcher = launcher
        receive, send = fork.Pipe(duplex=False)
        number = len(place.processes)
        target = _launch if launcher else _work
        self.process = fork.Process(target=target, args=(replace(place, processes=[]), number, kill, send), daemon=True)
        self.process.start()
        send.close()
        self.words = receive
        place.processes.append(self.process)

    @property
    def pid(self) -> int:
        """Of the process."""
        return int(self.process.pid or 0)

    def hit(self, patience: float = PATIENCE) -> bool:
        """Wait until the worker's end, sending the signal of its kill in time. True if that came before its own end."""
        end = time.monotonic() + patience
        seen = 0
        while time.monotonic() < end:
            try:
                word = self.words.recv() if self.words.poll(0.05) else None
            except EOFError:
                break
            kill = self.kill
            if word and kill and kill.seconds is not None and word == kill.step:
                seen += 1
                if seen == kill.occurrence:
                    time.sleep(kill.seconds)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self._victim(kill), kill.signal)
                    self.process.join(end - time.monotonic())
                    break
        self.process.join(max(0.0, end - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"a worker was still at work after {patience:.0f} s")
        code = self.process.exitcode or 0
        return (
            code > 128
            or code == -signal.SIGKILL
            or (self.kill is not None and self.kill.signal != signal.SIGKILL and code != 0)
        )

    def _victim(self, kill: Kill) -> int:
        """Who gets the signal: of a launcher it is the supervisor, but for SIGKILL, which its rocket gets."""
        if not self.launcher or kill.signal != signal.SIGKILL:
            return self.pid
        children = psutil.Process(self.pid).children()
        return children[0].pid if children else self.pid

    def at_work(self, patience: float = PATIENCE) -> None:
        """Wait until the worker begins a step, or ends."""
        with contextlib.suppress(EOFError):
            if self.words.poll(patience):
                self.words.recv()

    def stopped(self, patience: float = PATIENCE) -> bool:
        """Wait until the worker was sent its SIGSTOP. False if it ended before."""
        end, seen, kill = time.monotonic() + patience, 0, self.kill
        assert kill is not None
        assert kill.seconds is not None
        while time.monotonic() < end:
            try:
                word = self.words.recv() if self.words.poll(0.05) else None
            except EOFError:
                return False
            if word == kill.step:
                seen += 1
                if seen == kill.occurrence:
                    time.sleep(kill.seconds)
                    self.kill = None
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.pid, signal.SIGSTOP)
                        return True
        return False

    def ended_well(self) -> bool:
        """Wait for the end. True if the worker said that its campaign is finished."""
        self.hit()
        return self.process.exitcode == 0


def _work(place: Place, number: int, kill: Kill | None, words: Any) -> None:
    """What `kmde run` and its worker do, in one process; exit code 0: the campaign is finished."""
    from kmde_fw.cli import work
    from kmde_fw.errors import KmdeError
    from kmde_fw.store import Store
    from kmde_fw.workflows import rockets, signals
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    log = os.open(place.logs / f"worker-{number:03d}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # nobody holds a lock so long here, and a kill often leaves one
    rockets.LOCK_SECONDS = rockets.RESERVING_SECONDS = 1.0
    tap = Tap(place.logs / f"acknowledged-{number:03d}", kill)
    monitoring.register(tap)
    _tell_of_steps(tap, words)
    stop = signals.Stop().install()
    try:
        with launchpad_of(place.launchpad) as pad:
            prepared = prepare(place.campaign)
            submit(pad, prepared)
            rockets.recover(pad, NAME)
            work.launch_all(pad, [NAME], place.runs, stop)
            state = Store(pad.db).campaign(NAME)["state"]
    except KmdeError as error:
        print(f"kmde: {error}", file=sys.stderr)
        state = "error"
    os._exit(0 if state == "finished" else 3)


def _launch(place: Place, number: int, kill: Kill | None, words: Any) -> None:
    """What `kmde submit` and a queue's job with `kmde launch rapidfire` do; the exit code is the launcher's."""
    from kmde_fw.store import read_launchpad
    from kmde_fw.workflows.launcher import Orders, supervise
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    log = os.open(place.logs / f"launch-{number:03d}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with launchpad_of(place.launchpad) as pad:
        submit(pad, prepare(place.campaign))
    tap = Tap(place.logs / f"acknowledged-{number:03d}", None)
    monitoring.register(tap)
    _tell_of_steps(tap, words)
    os.chdir(place.runs)
    orders = Orders("rapidfire", wait=2.0)
    worker = {"name": "kmde launch", "category": "", "query": "{}"}
    os._exit(supervise(orders, read_launchpad(place.launchpad), worker, print))


def _tell_of_steps(tap: Tap, words: Any) -> None:
    from kmde_fw.firetasks.base import KmdeTask

    run_task = KmdeTask.run_task

    def telling(self: Any, fw_spec: dict[str, Any]) -> Any:
        step = type(self).__name__
        with contextlib.suppress(OSError):
            words.send(step)
        tap.begin(step)
        return run_task(self, fw_spec)

    KmdeTask.run_task = telling  # type: ignore[method-assign]


class Tap(monitoring.CommandListener):
    """Listens to what goes to the database: notes what was acknowledged, kills its process when the time has come."""

    def __init__(self, path: Path, kill: Kill | None) -> None:
        self.log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.kill = kill
        self.seen = 0
        self.counting = False
        self.commands = 0
        self.written: dict[int, list[tuple[str, str, str]]] = {}

    def begin(self, step: str) -> None:
        """A step begins."""
        if self.kill and self.kill.seconds is None and step == self.kill.step:
            self.seen += 1
            self.counting = self.counting or self.seen == self.kill.occurrence

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """A command goes out."""
        if self.counting:
            self.commands += 1
            if self.commands == self.kill.command and not self.kill.acknowledged:  # type: ignore[union-attr]
                os.kill(os.getpid(), signal.SIGKILL)
        if event.command_name == "insert" and event.command["insert"] in COLLECTIONS:
            name = event.command["insert"]
            self.written[event.request_id] = [(name, d["_id"], content(d)) for d in event.command["documents"]]
        if event.command_name == "update" and event.command["update"] == "labels":
            new = [entry["u"] for entry in event.command["updates"]]
            self.written[event.request_id] = [("labels", d["_id"], content(d)) for d in new if "_id" in d]

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """The reply has come."""
        refused = {error["index"] for error in event.reply.get("writeErrors", ())}
        rows = [row for k, row in enumerate(self.written.pop(event.request_id, ())) if k not in refused]
        if rows:
            os.write(self.log, "".join("\t".join(row) + ".\n" for row in rows).encode())
        if self.counting and self.commands >= self.kill.command and self.kill.acknowledged:  # type: ignore[union-attr]
            os.kill(os.getpid(), signal.SIGKILL)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """The command failed."""
        self.written.pop(event.request_id, None)


def content(document: Any) -> str:
    """Hash of a document as the database keeps it."""
    return hashlib.sha256(bson.encode(dict(document))).hexdigest()[:16]


def lasting(value: Any) -> Any:
    """A document without what differs from run to run."""
    if isinstance(value, dict):
        return {key: lasting(entry) for key, entry in value.items() if key not in PASSING}
    return [lasting(entry) for entry in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Outcome:
    """All documents of a database after a campaign, without what differs from run to run; collection -> _id -> it."""

    documents: dict[str, dict[str, Any]]
    fireworks: list[str]
    files: list[str]
    chunks: int

    @property
    def picks(self) -> list[str]:
        """Structure ids of the picks, cycle by cycle."""
        found = sorted(self.documents["selections"].items())
        return [slot[0]["structure_id"] for _, selection in found for slot in selection["slots"] if slot]


def outcome(place: Place) -> Outcome:
    """Read a database whole."""
    with pymongo.MongoClient(place.uri) as client:
        database = client[place.database]
        documents = {
            name: {d["_id"]: lasting(d) for d in database[name].find()} for name in COLLECTIONS if name != "progress"
        }
        fireworks = [f["name"] for f in database["fireworks"].find({}, {"name": 1})]
        files = [f["filename"] for f in database["kmde_blobs.files"].find({}, {"filename": 1})]
        chunks = database["kmde_blobs.chunks"].count_documents({})
    return Outcome(documents, sorted(fireworks), sorted(files), chunks)


def lost(place: Place) -> list[str]:
    """What was acknowledged and is not there as it was written."""
    missing = []
    with pymongo.MongoClient(place.uri) as client:
        database = client[place.database]
        for (collection, key), digest in place.acknowledged().items():
            there = database[collection].find_one({"_id": key})
            if there is None:
                if collection != "claims":
                    missing.append(f"{collection} {key}")
            elif collection not in FLEETING and content(there) != digest and there.get("state") != "accepted":
                missing.append(f"{collection} {key} (changed)")
    return missing


def differences(now: Outcome, undisturbed: Outcome) -> list[str]:
    """What is doubled, missing or other than in an undisturbed run; empty: nothing."""
    found = []
    for name, expected in undisturbed.documents.items():
        there = now.documents[name]
        found += [f"{name} {key}: missing" for key in sorted(set(expected) - set(there))]
        found += [f"{name} {key}: too many" for key in sorted(set(there) - set(expected))]
        if name not in ("claims", "blobs"):
            found += [
                f"{name} {key}: other content"
                for key in expected
                if key in there and not _same(there[key], expected[key], name)
            ]
    cycles = [c["cycle"] for c in now.documents["cycles"].values()]
    if len(set(cycles)) != len(cycles):
        found.append(f"cycles {sorted(cycles)}: an index twice")
    if now.picks != undisturbed.picks:
        found.append("picks: others")
    if now.fireworks != undisturbed.fireworks:
        found.append(f"fireworks: {len(now.fireworks)} instead of {len(undisturbed.fireworks)}")
    if now.files != undisturbed.files or now.chunks != undisturbed.chunks:
        found.append(f"blobs: {len(now.files)} files of {now.chunks} chunks instead of {len(undisturbed.files)}")
    return found


def _same(there: Any, expected: Any, name: str) -> bool:
    """Whether two documents say the same; of an outcome, who was first to compute a label does not count."""
    if name == "outcomes":
        there, expected = ({k: v for k, v in d.items() if k != "reused"} for d in (there, expected))
    return bool(there == expected)


def write_campaign(folder: Path, **changes: Any) -> None:
    """The campaign: Cu-Au, two cycles of two picks, labels by EMT; five seconds."""
    shutil.copytree(CU_AU, folder, dirs_exist_ok=True)
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    data |= {"name": NAME, "target": ["cuau.cif", "cuau3.cif"], "network": {"hidden": [4]}}
    data["training"] = {"max_closures": 10, "seeds": [0, 1]}
    data["design"] = {"candidates": 60, "picks_per_cycle": 2, "shards": 2, "max_atoms": 8, "derive_parents": False}
    data["stop"]["max_surrogates"] = 4
    data |= changes
    (folder / "campaign.yaml").write_text(yaml.safe_dump(data))


@contextlib.contextmanager
def place(
    folder: Path, port: int, data: Path | None = None, rockets: Path | None = None, **changes: Any
) -> Iterator[Place]:
    """A server and a campaign in a folder; the server is stopped at the end, whatever happened to it."""
    where = Place(folder, port, data or folder / "db", rockets=rockets)
    write_campaign(folder, **changes)
    server.start(where.data, "127.0.0.1", port)
    try:
        yield where
    finally:
        for process in where.processes:
            if process.is_alive():
                process.kill()
        server.stop(where.data)
