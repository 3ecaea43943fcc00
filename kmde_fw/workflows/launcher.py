"""Rockets under supervision, for queue scripts: whatever ends them, nothing stays RUNNING for nobody.

Two processes. The rocket's handles signals as `kmde work` does: its step is interrupted, VASP with it, and the firework
released. The supervisor passes signals on, and where the rocket is killed outright (kill -9, out of memory) or does not
end within the grace period, it ends all that the rocket had started and releases the firework itself. Should the
supervisor be killed, the rocket is told by the kernel. Where all is killed at once, `kmde reconcile` finds out.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmde_fw.errors import ConfigError, KmdeError, StoreError
from kmde_fw.processes import adopt_orphans, descendants, end, end_with_parent
from kmde_fw.store.connect import Connection, sentences
from kmde_fw.workflows.launchpad import open_launchpad
from kmde_fw.workflows.lost import INTERRUPTIONS, MARK, mark, settle
from kmde_fw.workflows.signals import SIGNALS, Stop

#: seconds between two looks for a ready firework, and between two tries to reach the database at the end
IDLE, RETRY = 1.0, 5.0
#: seconds that what a dead rocket had started gets to end by itself; VASP's guard takes almost as long
PATIENCE = 6.0


@dataclass(frozen=True)
class Orders:
    """What a launcher is to do.

    mode: singleshot, one firework (fw_id, or any) here; or rapidfire, one after another in folders of their own, until
    nothing has been ready for `wait` seconds, `nlaunches` are done (0: no limit), or the queue job has less than
    `reserve` seconds left. grace: seconds that a rocket has to end after a signal. retries: interrupted launches after
    which a firework stays FIZZLED. patience: seconds to wait for a database that does not answer at the end.
    """

    mode: str = "singleshot"
    fw_id: int | None = None
    nlaunches: int = 0
    wait: float = 60.0
    reserve: float = 0.0
    grace: float = 20.0
    retries: int = INTERRUPTIONS
    patience: float = 60.0


def supervise(orders: Orders, connection: Connection, worker: dict[str, Any], say: Callable[[str], None]) -> int:
    """Launch rockets in a child process and answer for them. Returns the exit code: 0, 128 + signal, or 1.

    connection: of the launchpad file; worker: content of my_fworker.yaml. Call it before anything has started threads.
    """
    adopt_orphans()
    here = os.getpid()
    sys.stdout.flush()
    me = mark()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            end_with_parent(here)
            code = _rockets(orders, connection, worker, me, say)
        except KmdeError as error:
            print(f"kmde: {error}", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    forward = _Forward(child, orders.grace)
    _, status = os.waitpid(child, 0)
    forward.ended = True
    signal.alarm(0)
    left = descendants()
    end(left, PATIENCE)
    code = os.waitstatus_to_exitcode(status)
    if code == 0 or code > 128:
        return code  # it has spoken for itself
    how = f"ended with exit code {code}" if code > 0 else f"died of signal {-code} ({signal.Signals(-code).name})"
    if forward.killed:
        how = f"did not end within {orders.grace:.0f} s of {forward.word}"
    say(f"the rocket {how}" + (f"; {len(left)} of its processes were ended" if left else ""))
    _settle_at_last(connection, me["token"], f"its rocket {how}", orders, say)
    return code if code > 0 else 128 + (forward.number or -code)


class _Forward:
    """Signals to the supervisor are for the rocket: SIGTERM to it, and SIGKILL when its grace period is over.

    Where the rocket has ended they are noted only: what it left is being released.
    """

    def __init__(self, child: int, grace: float) -> None:
        self.child, self.grace = child, grace
        self.number, self.killed, self.ended = 0, False, False
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._pass_on)
        signal.signal(signal.SIGALRM, self._kill)

    @property
    def word(self) -> str:
        return signal.Signals(self.number).name

    def _pass_on(self, number: int, frame: object) -> None:
        if not self.number:
            self.number = number
            # sent again as it came: the rocket says which it was
            self._send(number)
            signal.alarm(max(1, round(self.grace)))

    def _kill(self, number: int, frame: object) -> None:
        self.killed = self._send(signal.SIGKILL)

    def _send(self, number: int) -> bool:
        """Whether the rocket was there to get it."""
        if self.ended:
            return False  # its id may be another one's by now
        try:
            os.kill(self.child, number)
        except ProcessLookupError:
            return False
        return True


def _rockets(
    orders: Orders, connection: Connection, worker: dict[str, Any], me: dict[str, Any], say: Callable[[str], None]
) -> int:
    """The child's life: launch, and release what was interrupted. Returns its exit code."""
    stop = Stop().install()
    from kmde_fw.processes import identity
    from kmde_fw.worker_env import query_of
    from kmde_fw.workflows.rockets import Choosing

    pid, started = identity()
    worker = {**worker, "env": {**(worker.get("env") or {}), MARK: {**me, "pid": pid, "started": started}}}
    launchpad = open_launchpad(connection)
    try:
        with sentences(launchpad.db):
            choosing = Choosing(worker["name"], worker["category"], query_of(worker), worker["env"])
            _launch(orders, launchpad, choosing, me["token"], stop, say)
            if stop.asked:
                for name, state in settle(launchpad, me["token"], stop.reason, orders.retries):
                    say(f"{name}: {stop.reason}, now {state}")
    finally:
        launchpad.connection.close()
    return 128 + stop.number if stop.asked else 0


def _launch(orders: Orders, launchpad: Any, worker: Any, token: str, stop: Stop, say: Callable[[str], None]) -> None:
    """One rocket, or many, until there is a reason to end."""
    from fireworks.core.rocket_launcher import launch_rocket, rapidfire

    from kmde_fw.workflows.compatible import refuse_unfit
    from kmde_fw.workflows.rockets import after_rocket, launchable

    query = {"fw_id": orders.fw_id} if orders.fw_id else worker.query
    ours = {f"fworker.env.{MARK}.token": token}
    folder, launched, idle_since = Path.cwd(), 0, time.monotonic()
    while not stop.asked:
        try:
            refuse_unfit(launchpad, query)
            _check_folder(folder)
        except KmdeError:
            _unreserve(launchpad, orders.fw_id)
            raise
        if orders.mode == "singleshot":
            launch_rocket(launchpad, worker, orders.fw_id)
            return
        if too_late(orders.reserve):
            return
        worker.fw_ids = None
        fw_ids = launchable(launchpad, worker.query)
        if fw_ids:
            worker.fw_ids = fw_ids
            rapidfire(launchpad, worker, m_dir=str(folder), nlaunches=1, max_loops=1, sleep_time=IDLE)
            if name := after_rocket(launchpad, ours):
                say(f"{name}: the database had been away, now READY")
            launched += 1
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= orders.wait:
            return
        else:
            time.sleep(IDLE)
        if launched == orders.nlaunches > 0:
            return


def _check_folder(folder: Path) -> None:
    """ConfigError where a rocket could not even write down what it runs: FireWorks' own end there is a traceback."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"nothing is launched here: cannot write into {folder}: {error.strerror}; launch from another folder"
        ) from None


def too_late(reserve: float) -> bool:
    """Whether the SLURM job that we are in, if any, has less time left."""
    from kmde_fw.reference.vasp.run import slurm_seconds_left

    job = os.environ.get("SLURM_JOB_ID")
    left = slurm_seconds_left(job) if job and reserve > 0 else None
    return left is not None and left < reserve


def _unreserve(launchpad: Any, fw_id: int | None) -> None:
    """Give back what qlaunch had reserved for us."""
    for launch in list(launchpad.launches.find({"fw_id": fw_id, "state": "RESERVED"}, {"launch_id": 1})):
        launchpad.cancel_reservation(launch["launch_id"])


def _settle_at_last(
    connection: Connection, token: str, reason: str, orders: Orders, say: Callable[[str], None]
) -> None:
    """Release the dead rocket's firework, also where the database has to come back first."""
    until = time.monotonic() + orders.patience
    while True:
        try:
            launchpad = open_launchpad(connection)
            try:
                with sentences(launchpad.db):
                    released = settle(launchpad, token, reason, orders.retries)
            finally:
                launchpad.connection.close()
        except StoreError as error:
            if time.monotonic() > until:
                say(f"{error}; `kmde reconcile` releases the firework when the database is back")
                return
            time.sleep(RETRY)
            continue
        for name, state in released:
            say(f"{name}: {reason}, now {state}")
        return
