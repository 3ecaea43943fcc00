"""What signals do to a process that launches rockets."""

from __future__ import annotations

import signal

from kmde_fw.firetasks.base import KmdeTask
from kmde_fw.workflows.lost import INTERRUPTED

#: SIGTERM: the queue or a person ends us; SIGUSR1: the queue, ahead of the wall time; SIGHUP: the terminal is gone
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Stop:
    """A signal handler.

    A task at work is interrupted: its rocket makes it FIZZLED at once, where a signal's default would leave it RUNNING
    for ever. FireWorks' own writing is not: half of it would leave a workflow that nobody can go on with. Only the
    first signal counts, as a task that is cleaning up is at work, too.
    """

    def __init__(self) -> None:
        self.number = 0

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.number != 0

    @property
    def reason(self) -> str:
        """Which signal, in words."""
        return f"stopped by signal {self.number} ({signal.Signals(self.number).name})" if self.number else ""

    def install(self) -> Stop:
        """Handle all of SIGNALS from now on, but for one that is ignored (nohup)."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self)
        return self

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal."""
        if self.asked:
            return
        self.number = number
        KmdeTask.stopping = f"{INTERRUPTED} {self.reason}"
        if KmdeTask.at_work:
            raise SystemExit(KmdeTask.stopping)
