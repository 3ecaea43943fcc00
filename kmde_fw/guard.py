"""A guard beside a calculation: should its worker die, it ends what runs in the directory and deletes POTCARs there.

A worker that is killed with -9 can clean up nothing, and VASP, which custodian starts in a session of its own, would go
on. The guard is a small process in another session that reads from a pipe: the worker says when all is well, the kernel
closes the pipe when the worker dies.

    python -m kmde_fw.guard DIRECTORY
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmde_fw.processes import end, working_in

#: what the worker says at its own end of the calculation
_WELL = b"well"
#: seconds between asking a calculation to end and ending it
PATIENCE = 5.0


@contextmanager
def guarded(directory: Path) -> Iterator[None]:
    """Inside, a guard watches over the directory. However the block ends, short of the worker's death, it leaves."""
    command = [sys.executable, "-m", "kmde_fw.guard", str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", start_new_session=True)
    try:
        yield
    finally:
        assert process.stdin is not None
        try:
            process.stdin.write(_WELL)
            process.stdin.close()
        except OSError:
            pass  # somebody killed it
        process.wait()


def remove_potcars(directory: Path) -> list[Path]:
    """Delete POTCAR and its copies in a directory and below. Returns what was deleted."""
    found = [path for path in directory.rglob("POTCAR*") if path.is_file() or path.is_symlink()]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def main(directory: Path) -> None:
    """Wait for the worker's word or its death."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a queue's signal is for everybody; we end a moment after the worker
    if sys.stdin.buffer.read() != _WELL:
        end(working_in(directory), PATIENCE)
        remove_potcars(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
