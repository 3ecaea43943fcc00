"""Processes that must not outlive the one that answers for them (Linux; elsewhere the two prctl calls do nothing)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

# of <linux/prctl.h>
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """From now on this process gets a signal when its parent dies, however that happens.

    parent: the parent's id as it was when this process began; if it is gone already, the signal comes at once.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """From now on descendants whose parent dies become children of this process, so that `descendants` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[psutil.Process]:
    """Every process that this one has started, directly or not, zombies left out."""
    return [p for p in psutil.Process().children(recursive=True) if _is_alive(p)]


def working_in(directory: Path) -> list[psutil.Process]:
    """Processes of this user whose working directory is this one or inside it. On this machine only."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and Path(process.cwd()).is_relative_to(directory):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it ended while we looked, or is none of ours
    return found


def end(processes: Sequence[psutil.Process], patience: float) -> None:
    """SIGTERM to all of them, and after `patience` seconds SIGKILL to those that are still there."""
    for process in processes:
        _send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=patience)


def identity() -> tuple[int, float]:
    """This process: id and time of its start. Together they are never used again on a machine."""
    return os.getpid(), psutil.Process().create_time()


def is_running(pid: int, started: float | None) -> bool:
    """Whether the process of that `identity` runs on this machine; without a time, any of that id."""
    try:
        # the clock may have been set meanwhile, by which psutil's times move a little
        process = psutil.Process(pid)
        return _is_alive(process) and (started is None or abs(process.create_time() - started) < 60.0)
    except psutil.Error:
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):  # it has ended
        process.send_signal(number)


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)
