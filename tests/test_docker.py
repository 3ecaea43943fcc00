"""docker/ without an engine: what compose.yaml promises, and that every path in it and in the Dockerfile is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from fireworks import FWorker
from typer.testing import CliRunner

from kmde_fw import __version__
from kmde_fw.cli import build_app
from kmde_fw.cluster import CATEGORIES
from kmde_fw.store import read_launchpad

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_the_database_lets_nobody_in_without_a_password_and_listens_on_loopback(compose):
    mongo = compose["services"]["mongo"]
    assert "--auth" in mongo["command"]
    assert re.fullmatch(r"mongo:\d+\.\d+\.\d+", mongo["image"]), "pinned"
    (port,) = mongo["ports"]
    assert port.startswith("${KMDE_MONGO_BIND:-127.0.0.1}:")
    assert "database:/data/db" in mongo["volumes"]
    assert "kmde_worker" in mongo["healthcheck"]["test"][1]
    assert set(compose["volumes"]) == {"database", "runs"}


def test_no_password_has_a_default_and_each_missing_one_is_a_sentence():
    text = (DOCKER / "compose.yaml").read_text()
    variables = re.findall(r"\$\{(\w*PASSWORD)([^}]*)\}", text)
    assert {name for name, _ in variables} == {"KMDE_ROOT_PASSWORD", "KMDE_MONGO_PASSWORD"}
    assert all(rest.startswith(f":?set {name}, the password of") for name, rest in variables)


def test_there_is_a_worker_for_each_category_and_its_command_line_is_one(compose, monkeypatch):
    monkeypatch.setenv("KMDE_MONGO_PASSWORD", "given")
    for category in CATEGORIES:
        service = compose["services"][category]
        words = service["command"]
        files = {
            words[k]: DOCKER / "worker" / Path(words[k + 1]).name for k in range(len(words)) if words[k] in ("-l", "-w")
        }
        assert FWorker.from_file(str(files["-w"])).category == category
        connection = read_launchpad(files["-l"])
        assert (connection.servers[0][0], connection.settings["password"]) == ("mongo", "given")
        # the option parser takes it; nobody is called mongo here
        ended = CliRunner().invoke(build_app(), [*words, "--help"])
        assert ended.exit_code == 0
        assert service["depends_on"] == {"mongo": {"condition": "service_healthy"}}
        assert "./worker:/etc/kmde:ro" in service["volumes"]
        assert service["image"] == f"kmde_fw:{__version__}"
        assert int(service["stop_grace_period"].removesuffix("s")) > 20 + 6, "kmde launch's grace, and what it ends"


def test_every_file_that_is_copied_or_mounted_is_there(compose):
    for line in (DOCKER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line
            allowed = (DOCKER / "Dockerfile.dockerignore").read_text().split()
            assert all(f"!{source}" in allowed for source in sources), "the context has it"
    for volume in compose["services"]["mongo"]["volumes"]:
        source = volume.split(":")[0]
        assert not source.startswith(".") or (DOCKER / source).exists()


def test_the_image_is_pinned_and_runs_as_a_user():
    text = (DOCKER / "Dockerfile").read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.11.14-slim-bookworm"}
    assert re.search(r"^USER kmde$", text, re.MULTILINE)
    pins = [line for line in (DOCKER / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(pins) > 50
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^ ]+", pin) for pin in pins)


def test_the_workers_user_may_use_one_database_only():
    text = (DOCKER / "mongo-init.js").read_text()
    assert re.findall(r"role: \"(\w+)\", db: \"(\w+)\"", text) == [("readWrite", "kmde_fw")]
    assert "process.env.KMDE_MONGO_PASSWORD" in text
