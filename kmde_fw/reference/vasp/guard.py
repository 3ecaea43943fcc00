"""Run a command that does not outlive the process that wants it: `python guard.py PARENT_PID COMMAND...` (Linux).

custodian starts VASP in a session of its own, so a worker that is killed (kill -9, out of memory) would leave it
running, with its POTCAR. This process stands between: it passes on VASP's exit code or signal, and when the worker is
gone it ends VASP's whole process group and deletes the POTCARs of its directory. It is started as a file, without the
package, so that it costs a few MB and hundredths of a second.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

#: of Linux' prctl: which signal to get when the parent dies
PR_SET_PDEATHSIG = 1
#: seconds in which VASP, or srun or mpirun above it, may end after SIGTERM
PATIENCE = 5.0


def main() -> None:
    """Start the command in the working directory, wait for it, end as it ended."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda number, frame: _look(parent))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _look(parent)
    code = subprocess.Popen(command).wait()
    if code < 0:
        # by the same signal, without a second core file
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _look(parent: int) -> None:
    """If the parent is gone, end this process group; a SIGTERM from custodian has reached all of it already."""
    if os.getppid() == parent:
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < end and os.waitpid(-1, os.WNOHANG) == (0, 0):
            time.sleep(0.05)
    for path in Path.cwd().rglob("POTCAR*"):
        path.unlink(missing_ok=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
