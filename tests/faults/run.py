"""make faults: small campaigns among kills, outages, full disks and wrong clocks; what was lost goes to results/faults.

    python tests/faults/run.py [--kills 200] [--campaigns N] [--seed 0] [--only KIND ...] [--out results/faults]

Every run is repeatable: moments come from the seed (those in seconds meet what the machine is doing just then). With
--only, the campaigns in DIR/campaigns.csv stay in the table, but for those of the same kind and seed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pymongo
from harness import NAME, STEPS, Kill, Outcome, Place, differences, lost, outcome, place

from kmde_fw.store import server

PROJECT = Path(__file__).parent.parent.parent
#: of the source that is run, for the table
COMMIT = subprocess.run(
    ["git", "describe", "--always", "--dirty"], cwd=PROJECT, capture_output=True, text=True, check=False
).stdout.strip()
BIN = Path(sys.executable).parent


@dataclass
class Row:
    """One campaign and what it went through. again: commands that it took to finish after the last fault, 0 or 1."""

    kind: str
    seed: int
    faults: int
    finished: bool
    again: int
    lost: int
    doubled: int
    other: int
    seconds: float
    commit: str
    notes: str


class Bench:
    """A place, an undisturbed run to compare with, and the rows so far."""

    def __init__(self, where: Place, rows: list[Row] | None = None) -> None:
        self.where = where
        self.rows: list[Row] = [] if rows is None else rows
        where.fresh("calm")
        if not where.worker().ended_well():
            raise SystemExit(f"the undisturbed campaign failed: see {where.logs}")
        self.calm: Outcome = outcome(where)

    @contextlib.contextmanager
    def campaign(self, kind: str, seed: int) -> Iterator[list[str]]:
        """A campaign in a database of its own. Inside: faults, noted in the list; then it is finished and judged."""
        self.where.fresh(f"{kind}_{seed}")
        begin = time.monotonic()
        faults: list[str] = []
        yield faults
        again = 0 if self._is_finished() else 1
        finished = again == 0 or self.where.worker().ended_well()
        missing, different = lost(self.where), differences(outcome(self.where), self.calm)
        doubled = [d for d in different if "too many" in d or "twice" in d or "instead of" in d]
        gone = missing + [d for d in different if d.endswith(": missing")]
        other = [d for d in different if d not in doubled and d not in gone]
        notes = "; ".join([*faults, *gone[:3], *doubled[:3], *other[:3]])
        row = Row(kind, seed, len(faults), finished, again, len(gone), len(doubled), len(other), 0.0, COMMIT, notes)
        row.seconds = round(time.monotonic() - begin, 1)
        self.rows.append(row)
        bad = "" if finished and not (gone or doubled or other) else "  <-- " + notes
        how = "by itself" if not again else finished
        print(f"{kind} {seed}: {len(faults)} faults, finished {how}, {row.seconds} s{bad}", flush=True)

    def _is_finished(self) -> bool:
        with pymongo.MongoClient(self.where.uri) as client:
            campaign = client[self.where.database]["campaigns"].find_one({"_id": NAME})
        return campaign is not None and campaign["state"] == "finished"


def random_kill(dice: random.Random, step: str, number: int = signal.SIGKILL) -> Kill:
    """A moment in or shortly after a step: among its database commands and FireWorks' own, or of its time."""
    if number == signal.SIGKILL and dice.random() < 0.6:
        return Kill(step, 1, None, dice.randrange(1, 60), dice.random() < 0.5)
    return Kill(step, 1, round(dice.random() ** 2 * 0.6, 3), signal=number)


def kills(bench: Bench, seed: int, number: int = signal.SIGKILL) -> None:
    """Up to eight workers one after the other, each killed in a step of a random kind."""
    dice = random.Random(f"kill {seed}")
    kind = "kill -9 of a rocket" if number == signal.SIGKILL else "SIGTERM of a rocket"
    with bench.campaign(kind.replace(" ", "_").replace("-", ""), seed) as faults:
        for _ in range(8):
            kill = random_kill(dice, dice.choice(STEPS), number)
            if not bench.where.worker(kill).hit():
                break
            moment = f"{kill.seconds} s" if kill.seconds is not None else f"command {kill.command}"
            faults.append(f"{kill.step} {moment}")


def queue_jobs(bench: Bench, seed: int) -> None:
    """Up to six `kmde launch` one after the other, each ended in a step as a queue or the kernel ends jobs."""
    dice = random.Random(f"queue {seed}")
    with bench.campaign("kmde_launch_ended_by_the_queue", seed) as faults:
        for _ in range(6):
            kill = random_kill(dice, dice.choice(STEPS), dice.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL]))
            kill = replace(kill, seconds=kill.seconds or round(dice.random() ** 2 * 0.6, 3))
            if not bench.where.worker(kill, launcher=True).hit():
                break
            faults.append(f"{kill.step} {kill.seconds} s {signal.Signals(kill.signal).name}")


def one_of_two(bench: Bench, seed: int) -> None:
    """Two workers at once, one of them is killed: the other one finishes alone."""
    dice = random.Random(f"pair {seed}")
    with bench.campaign("one_of_two_workers_killed", seed) as faults:
        victim = bench.where.worker(random_kill(dice, dice.choice(STEPS[:-1])))
        other = bench.where.worker()
        if victim.hit():
            faults.append(f"{victim.kill}")
        other.hit()


def database_killed(bench: Bench, seed: int, away: float | None = None) -> None:
    """The server is killed -9 while two workers work, and started again; they go on by themselves."""
    dice = random.Random(f"database {seed}")
    kind = "database_killed" if away is None else f"database_gone_{away:.0f}_s"
    with bench.campaign(kind, seed) as faults:
        workers = [bench.where.worker() for _ in range(2)]
        workers[0].at_work()
        for _ in range(3 if away is None else 1):
            time.sleep(3.0 * dice.random())
            if not any(worker.process.is_alive() for worker in workers):
                break
            _kill_server(bench.where)
            faults.append("server killed")
            time.sleep(away if away is not None else 1.5 * dice.random())
            server.start(bench.where.data, "127.0.0.1", bench.where.port)
        for worker in workers:
            worker.hit()


def database_stopped(bench: Bench, seed: int, away: float = 60.0) -> None:
    """The server says nothing for a while, its connections stay open; SIGSTOP and SIGCONT."""
    dice = random.Random(f"stopped {seed}")
    with bench.campaign(f"database_silent_{away:.0f}_s", seed) as faults:
        workers = [bench.where.worker() for _ in range(2)]
        workers[0].at_work()
        time.sleep(3.0 * dice.random())
        process = server.find(bench.where.data)
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        faults.append(f"server silent for {away:.0f} s")
        time.sleep(away)
        os.kill(process.pid, signal.SIGCONT)
        for worker in workers:
            worker.hit()


def taken_over(bench: Bench, seed: int) -> None:
    """A worker stands still, is taken for lost and its firework given to another; then it goes on as if nothing was."""
    from kmde_fw.workflows.launchpad import launchpad_of

    dice = random.Random(f"takeover {seed}")
    with bench.campaign("lost_run_taken_over", seed) as faults:
        kill = Kill(dice.choice(STEPS), 1, round(dice.random() ** 2 * 0.3, 3), signal=signal.SIGSTOP)
        first = bench.where.worker(kill)
        if not first.stopped():
            first.hit()
            return
        with launchpad_of(bench.where.launchpad) as pad:
            pad.detect_lostruns(expiration_secs=0, rerun=True)
        faults.append(f"{kill.step} {kill.seconds} s")
        second = bench.where.worker()
        time.sleep(dice.random() * 2.0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(first.pid, signal.SIGCONT)
        for worker in (second, first):
            worker.hit()


def submitted_twice(bench: Bench, seed: int) -> None:
    """The same campaign by two (or three) at the same time; in every second run one of them is killed at it."""
    dice = random.Random(f"twice {seed}")
    with bench.campaign("submitted_twice", seed) as faults:
        workers = [bench.where.worker() for _ in range(2 + seed % 2)]
        faults.append(f"{len(workers)} at once")
        if seed % 2:
            time.sleep(0.3 + dice.random())
            workers[0].process.kill()
            faults.append("killed")
        for worker in workers:
            worker.hit()


def wrong_clocks(bench: Bench, seed: int) -> None:
    """Two real `kmde run` at once, their clocks two hours apart; one is killed, and one of yet another time ends it."""
    dice = random.Random(f"clock {seed}")
    with bench.campaign("clocks_an_hour_apart", seed) as faults:
        runs = [_kmde_run(bench.where, shift) for shift in ("-3600", "+3600")]
        faults.append("clocks of -1 h and +1 h")
        _until_a_step_is_done(bench.where)
        time.sleep(3 * dice.random())
        os.killpg(runs[seed % 2].pid, signal.SIGKILL)
        runs[seed % 2].wait()
        faults.append("one killed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            runs[1 - seed % 2].wait(timeout=300)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(runs[1 - seed % 2].pid, signal.SIGKILL)
        runs[1 - seed % 2].wait()


def older_code(bench: Bench, seed: int) -> None:
    """A rocket of an older kmde_fw takes fireworks of a campaign: it refuses them, and they are run again.

    A fault is a firework that it has taken: a worker is killed before, and what it had is READY for whoever comes.
    """
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.rockets import recover

    dice = random.Random(f"older {seed}")
    with bench.campaign("older_kmde_fw", seed) as faults:
        bench.where.worker(Kill(dice.choice(STEPS[:-1]), 1, round(dice.random() ** 2 * 0.6, 3))).hit()
        with launchpad_of(bench.where.launchpad) as pad:
            recover(pad, NAME)
        folder = bench.where.folder / "older"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PROJECT / "kmde_fw", folder / "kmde_fw")
        change = ("records.py", "SCHEMA_VERSION = 2", "SCHEMA_VERSION = 1")
        if seed % 2:
            change = ("__init__.py", '__version__ = "', '__version__ = "0.0.')
        file = folder / "kmde_fw" / change[0]
        text = file.read_text()
        assert change[1] in text, change
        file.write_text(text.replace(change[1], change[2]))
        command = [str(BIN / "rlaunch"), "-l", str(bench.where.launchpad), "rapidfire", "--nlaunches", "5"]
        subprocess.run(
            [*command, "--max_loops", "1", "--sleep", "1"],
            cwd=bench.where.runs,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        with pymongo.MongoClient(bench.where.uri) as client:
            launches = client[bench.where.database]["launches"]
            refused = launches.find({"fworker.name": {"$not": {"$regex": "^kmde "}}}, {"state": 1, "action": 1})
            said = [(launch["state"], str(launch["action"])) for launch in refused]
        assert all(state == "FIZZLED" and "errors.StoreError: " in text for state, text in said), said
        faults += [change[2]] * len(said)


def disk_full(bench: Bench, seed: int) -> None:
    """The disk of the launch directories, or of the database (odd seeds), is full for a while."""
    dice = random.Random(f"disk {seed}")
    where = bench.where
    which = where.data if seed % 2 else where.runs
    with bench.campaign("disk_full_of_the_database" if seed % 2 else "disk_full_of_the_runs", seed) as faults:
        worker = where.worker()
        time.sleep(0.5 + 2.5 * dice.random())
        ballast = which.parent / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 65536)
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"0")
        faults.append("disk full")
        end = time.monotonic() + 5.0
        while worker.process.is_alive() and time.monotonic() < end:
            time.sleep(0.1)
        ballast.unlink()
        if server.find(where.data) is None or not _is_well(where):
            faults.append("server died of it")
            _kill_server(where)
            server.start(where.data, "127.0.0.1", where.port)
        worker.hit()


def _is_well(where: Place) -> bool:
    """Whether the server can read. One whose storage has failed still answers a ping, and has to be started again."""
    try:
        with pymongo.MongoClient(where.uri) as client:
            client[where.database]["campaigns"].find_one()
    except pymongo.errors.PyMongoError:
        return False
    return True


def _kill_server(where: Place) -> None:
    process = server.find(where.data)
    if process is not None:
        os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)


def _until_a_step_is_done(where: Place, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    with pymongo.MongoClient(where.uri) as client:
        while time.monotonic() < end and not client[where.database]["launches"].find_one({"state": "COMPLETED"}):
            time.sleep(0.2)


#: begins every Python of a machine whose clock is wrong by KMDE_CLOCK seconds; the times of files stay right
_CLOCK = """import datetime, os, time
shift, right, plain = float(os.environ["KMDE_CLOCK"]), time.time, datetime.datetime
time.time = lambda: right() + shift
class Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, plain)
class Wrong(plain, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift)
    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)
datetime.datetime = Wrong
"""


def _kmde_run(where: Place, shift: str) -> subprocess.Popen[bytes]:
    """A real `kmde run` whose clock is wrong by so many seconds."""
    site = where.folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_CLOCK)
    path = os.pathsep.join([str(site), str(PROJECT)])
    command = [sys.executable, "-m", "kmde_fw", "run", str(where.campaign), "-l", str(where.launchpad)]
    command += ["--workers", "1", "--directory", str(where.runs / f"at{shift}")]
    with (where.logs / f"run{shift}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=where.folder,
            env={**os.environ, "KMDE_CLOCK": shift, "PYTHONPATH": path, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


#: kind -> what one campaign of it is, and how many campaigns there are by default
KINDS: dict[str, tuple[Callable[[Bench, int], None], int]] = {
    "kill": (kills, 0),
    "sigterm": (lambda bench, seed: kills(bench, seed, signal.SIGTERM), 5),
    "queue": (queue_jobs, 8),
    "pair": (one_of_two, 12),
    "database": (database_killed, 12),
    "gone": (lambda bench, seed: database_killed(bench, seed, 60.0), 2),
    "silent": (database_stopped, 2),
    "takeover": (taken_over, 12),
    "twice": (submitted_twice, 10),
    "clocks": (wrong_clocks, 4),
    "older": (older_code, 4),
    "disk": (disk_full, 8),
}


def main() -> None:
    """Run everything, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills of rockets at least")
    parser.add_argument("--campaigns", type=int, help="of each other kind; default: what is right for each")
    parser.add_argument("--seed", type=int, default=0, help="of the first campaign of each kind")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), help="these kinds, added to the table that is there")
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "faults")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    earlier = table(options.out / "campaigns.csv") if options.only else []
    rows: list[Row] = []
    left_out: list[str] = []
    try:
        everything(options, rows, left_out)
    finally:
        # what was interrupted is worth knowing, too
        if rows:
            again = {(row.kind, row.seed) for row in rows}
            write([row for row in earlier if (row.kind, row.seed) not in again] + rows, left_out, options)
    if any(not row.finished or row.lost or row.doubled or row.other for row in rows):
        sys.exit("not everything was survived")


def everything(options: argparse.Namespace, rows: list[Row], left_out: list[str]) -> None:
    """All campaigns of all kinds that are asked for; rows and left_out grow meanwhile."""
    with tempfile.TemporaryDirectory(prefix="kmde-faults-") as name:
        folder = Path(name)
        with place(folder / "place", free_port()) as where:
            bench = Bench(where, rows)
            for kind in options.only or KINDS:
                function, number = KINDS[kind]
                number = options.campaigns if options.campaigns is not None and number else number
                if kind == "disk":
                    continue
                for seed in range(options.seed, options.seed + number):
                    function(bench, seed)
                seed = options.seed
                while kind == "kill" and sum(row.faults for row in rows) < options.kills:
                    function(bench, seed)
                    seed += 1
        disk = not options.only or "disk" in options.only
        if disk and os.getuid() == 0:
            with (
                small_disk(folder / "runs", "2m") as runs,
                small_disk(folder / "db", "256m") as data,
                place(folder / "place2", free_port(), data / "db", runs / "runs") as where,
            ):
                bench = Bench(where, rows)
                number = KINDS["disk"][1] if options.campaigns is None else options.campaigns
                for seed in range(options.seed, options.seed + number):
                    disk_full(bench, seed)
        elif disk:
            left_out.append("disk: a small file system can be mounted by root only")


EXPLANATION = """A campaign (Cu-Au, two cycles of two picks, labels by EMT) is finished by itself, or after one
`kmde run`. Lost: what was acknowledged to a worker, or is in an undisturbed run, and is not there. Doubled:
documents, cycles, fireworks, files of weights beyond those of the undisturbed run.
Other differences: other content, other picks.
`campaigns.csv` has every campaign with its faults; `commit` is the source that a row was measured with.

Beside it: `many.json`, fifty campaigns of different users in one database (`tests/faults/many.py`), and `fuzz.json`,
damaged inputs (`make fuzz`).
"""


def table(path: Path) -> list[Row]:
    """The campaigns of an earlier run; none where there is no such file."""
    if not path.is_file():
        return []
    read = {"str": str, "int": int, "float": float, "bool": lambda text: text == "True"}
    with path.open(newline="") as file:
        return [Row(**{f.name: read[str(f.type)](line[f.name]) for f in fields(Row)}) for line in csv.DictReader(file)]


def write(rows: list[Row], left_out: list[str], options: argparse.Namespace) -> None:
    """Every campaign as CSV, the counts as JSON and as a page."""
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "campaigns.csv").open("w", newline="") as file:
        lines = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        lines.writeheader()
        lines.writerows(asdict(row) for row in rows)
    kinds = {row.kind: [r for r in rows if r.kind == row.kind] for row in rows}
    counts = {kind.replace("_", " "): counted(of_kind) for kind, of_kind in kinds.items()}
    total = counted(rows)
    commits = {row.kind.replace("_", " "): "" for row in rows}
    for kind in commits:
        commits[kind] = ", ".join(dict.fromkeys(row.commit for row in rows if row.kind.replace("_", " ") == kind))
    summary = {
        "machine": f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}",
        "minutes": round(sum(row.seconds for row in rows) / 60, 1),
        "kinds": {kind: {**count, "commit": commits[kind]} for kind, count in counts.items()},
        "total": total,
        "left out": left_out,
    }
    (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    head = ["kind of fault", *total, "commit"]
    page = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    page += [
        "| " + " | ".join([kind, *map(str, count.values()), commits[kind]]) + " |" for kind, count in counts.items()
    ]
    page.append("| **all** | " + " | ".join(f"**{value}**" for value in total.values()) + " | |")
    print("\n".join(page))
    text = f"# Faults\n\nBy `python tests/faults/run.py`: {summary['minutes']} minutes on {summary['machine']}.\n\n"
    text += "\n".join(page) + "\n\n" + EXPLANATION
    text += "".join(f"\nLeft out: {line}.\n" for line in left_out)
    (options.out / "README.md").write_text(text)


def counted(rows: list[Row]) -> dict[str, int]:
    """What became of these campaigns."""
    return {
        "campaigns": len(rows),
        "faults": sum(row.faults for row in rows),
        "finished": sum(row.finished for row in rows),
        "by themselves": sum(row.finished and not row.again for row in rows),
        "documents lost": sum(row.lost for row in rows),
        "documents doubled": sum(row.doubled for row in rows),
        "other differences": sum(row.other for row in rows),
    }


if __name__ == "__main__":
    main()
