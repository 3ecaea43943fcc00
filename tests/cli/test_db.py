"""kmde db as a user meets it, and FireWorks' own tools on what it made ready."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from kmde_fw.cli.db import app
from kmde_fw.errors import KmdeError
from kmde_fw.records import SCHEMA_VERSION
from kmde_fw.store import server


def run(*command, cwd, **environment):
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=60
    )


def kmde_db(*arguments):
    """The command in this process: exit code, standard output, the sentence of a KmdeError."""
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit | KmdeError):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, text=result.output, sentence=str(result.exception))


def tool(name):
    return str(Path(sys.executable).parent / name)


@pytest.fixture
def place(tmp_path, free_port):
    """A folder with a launchpad.yaml for an embedded server of its own."""
    host = f"mongodb://127.0.0.1:{free_port()}/?{server.URI_OPTIONS}"
    (tmp_path / "launchpad.yaml").write_text(yaml.safe_dump({"host": host, "name": "kmde_fw", "uri_mode": True}))
    yield tmp_path
    server.stop(tmp_path / ".kmde" / "db")


def test_start_use_with_fireworks_stop(place, monkeypatch):
    monkeypatch.chdir(place)
    down = kmde_db("status")
    assert down.code == 1
    assert "`kmde db start`" in down.text
    assert kmde_db("stop").text.startswith("no embedded server was running")

    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    started = kmde_db("start")
    assert started.code == 0, started.sentence
    assert "the database server runs now" in started.text
    assert "database kmde_fw is new and ready for kmde, lpad and rlaunch" in started.text
    monkeypatch.chdir(place)
    assert (place / ".kmde" / "db" / "server.json").is_file()
    again = kmde_db("start", "-l", "launchpad.yaml")
    assert again.code == 0
    assert "was running already" in again.text
    assert "database kmde_fw is ready" in again.text

    (place / "wf.yaml").write_text(
        "fws:\n- fw_id: 1\n  spec:\n    _tasks:\n    - _fw_name: ScriptTask\n      script: echo ran >> ran.txt\n"
        "links: {}\nmetadata: {}\n"
    )
    added = run(tool("lpad"), "-l", "launchpad.yaml", "add", "wf.yaml", cwd=place)
    assert added.returncode == 0, added.stderr
    ran = run(tool("rlaunch"), "-l", "launchpad.yaml", "rapidfire", cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert [p.read_text() for p in place.glob("launcher_*/ran.txt")] == ["ran\n"]

    # a start on a database in use leaves it as it is
    kmde_db("start")
    status = json.loads(kmde_db("status", "--json").text)
    assert status["answers"] is True
    assert status["documents"]["fireworks"] == 1
    assert status["embedded"]["data"] == str(place / ".kmde" / "db")
    assert f"it answers, schema version {SCHEMA_VERSION}: 0 campaigns" in kmde_db("status").text

    stopped = kmde_db("stop")
    assert stopped.code == 0
    assert "has stopped; its data stay" in stopped.text
    down = kmde_db("status", "--json")
    assert down.code == 1
    assert json.loads(down.text)["answers"] is False


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        (
            "mongodb://db.example.org:27017/",
            "points to db.example.org:27017, which is not an address of this machine alone",
        ),
        ("mongodb://me:secret@127.0.0.1:27117/", "gives a user, and the embedded server has none"),
    ],
)
def test_nothing_to_start(tmp_path, host, sentence, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "launchpad.yaml").write_text(yaml.safe_dump({"host": host, "name": "kmde_fw", "uri_mode": True}))
    result = kmde_db("start")
    assert result.code == 1
    assert sentence in result.sentence
    assert "secret" not in result.text + result.sentence
    assert not (tmp_path / ".kmde").exists()


def test_without_a_launchpad(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for command in ("start", "stop", "status"):
        result = kmde_db(command)
        assert result.code == 1
        assert "no launchpad.yaml" in result.sentence
