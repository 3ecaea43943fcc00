"""The files of a cluster: FireWorks loads them, queue scripts come out as meant, no password is in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fireworks import FWorker, fw_config
from fireworks.utilities.fw_serializers import load_object_from_file
from typer.testing import CliRunner

from kmde_fw.cli import build_app
from kmde_fw.cluster import CATEGORIES, Site, cluster_files, write_cluster_files
from kmde_fw.errors import ConfigError, StoreError
from kmde_fw.firetasks.base import CPU, DFT, TRAIN
from kmde_fw.store import read_launchpad

SPECS = Path(__file__).parent.parent / "fw_specs"


def kmde(*words: object):
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def test_there_is_a_kind_of_machine_for_each_category_of_steps():
    assert set(CATEGORIES) == {CPU, TRAIN, DFT}


@pytest.mark.parametrize("queue", ["slurm", "pbs"])
def test_the_files_in_fw_specs_are_what_init_writes(queue):
    site = Site(Path(f"/home/me/{queue}"), kmde="kmde")
    files = cluster_files(queue, site)
    assert {path.relative_to(SPECS / queue) for path in (SPECS / queue).rglob("*.yaml")} == set(files)
    for path, text in files.items():
        assert (SPECS / queue / path).read_text() == text, f"{queue}/{path}"
        assert "password:" not in text


@pytest.mark.parametrize("queue", ["slurm", "pbs"])
def test_fireworks_takes_them(tmp_path, queue, monkeypatch):
    words = ["--partition", "kmde_dft=big", "--partition", "kmde_cpu=short", "--account", "alloys"]
    words += ["--server", "mongo.here:27018", "--vasp-cmd", "mpirun vasp_ncl", "--ca-file", tmp_path / "ca.pem"]
    ended = kmde("init", tmp_path, "--cluster", queue, *words)
    assert ended.exit_code == 0, ended.output
    config = yaml.safe_load((tmp_path / "FW_config.yaml").read_text())
    assert set(config) <= set(vars(fw_config))
    assert config["RUN_EXPIRATION_SECS"] >= 4 * config["PING_TIME_SECS"]
    for category in CATEGORIES:
        worker = FWorker.from_file(str(tmp_path / category / "my_fworker.yaml"))
        assert worker.category == category
        adapter = load_object_from_file(str(tmp_path / category / "my_qadapter.yaml"))
        adapter["rocket_launch"] += " --fw_id 7"
        script = adapter.get_script_str("/launch/here")
        lines = script.splitlines()
        (launch,) = [line for line in lines if line.startswith("exec ")]
        assert launch.startswith(
            f"exec {Path(sys.executable).with_name('kmde')} launch -l {tmp_path}/my_launchpad.yaml"
        )
        assert f"-w {tmp_path}/{category}/my_fworker.yaml" in launch
        assert f"export FW_CONFIG_FILE={tmp_path}/FW_config.yaml OMP_NUM_THREADS=" in script
        mark = "#SBATCH" if queue == "slurm" else "#PBS"
        option = {"slurm": "--partition=", "pbs": "-q "}[queue]
        expected = {"kmde_dft": "big", "kmde_cpu": "short"}.get(category)
        assert [line for line in lines if line.startswith(f"{mark} {option}")] == (
            [f"{mark} {option}{expected}"] if expected else []
        )
        assert "alloys" in script
        if queue == "slurm":
            assert "#SBATCH --signal=B:USR1@120" in lines
            assert ("#SBATCH --gres=gpu:1" in lines) is (category == "kmde_train")
    assert FWorker.from_file(str(tmp_path / "kmde_dft" / "my_fworker.yaml")).env["vasp_cmd"] == "mpirun vasp_ncl"
    monkeypatch.setenv("KMDE_MONGO_PASSWORD", "s3cret")
    connection = read_launchpad(tmp_path / "my_launchpad.yaml")
    assert connection.address == "mongo.here:27018"
    assert connection.settings["password"] == "s3cret"
    assert connection.settings["mongoclient_kwargs"]["tlsCAFile"] == str(tmp_path / "ca.pem")
    assert "s3cret" not in repr(connection)


def test_nothing_is_overwritten_unasked(tmp_path):
    site = Site(tmp_path)
    written = write_cluster_files("slurm", site)
    (tmp_path / "FW_config.yaml").write_text("mine")
    for path in written[2:]:
        path.unlink()
    with pytest.raises(ConfigError, match=r"my_launchpad.yaml, .*FW_config.yaml exist already"):
        write_cluster_files("slurm", site)
    assert not written[-1].exists(), "not one of them is written"
    assert write_cluster_files("slurm", site, force=True) == written
    assert "PING" in (tmp_path / "FW_config.yaml").read_text()


@pytest.mark.parametrize(("words", "text"), [
    (["--cluster", "slrum"], "no such queue system: did you mean 'slurm'?"),
    (["--cluster", "slurm", "--partition", "kmde_dtf=x"], "no category 'kmde_dtf': did you mean 'kmde_dft'?"),
    (["--cluster", "slurm", "--partition", "x"], "write CATEGORY=NAME"),
    (["--cluster", "slurm", "--server", "a:b"], "the port after the colon is a number"),
])  # fmt: skip
def test_mistakes(tmp_path, words, text):
    ended = kmde("init", tmp_path, *words)
    assert isinstance(ended.exception, ConfigError)
    assert text in str(ended.exception)
    assert list(tmp_path.iterdir()) == []


def launchpad(folder: Path, **entries: object) -> Path:
    path = folder / "my_launchpad.yaml"
    path.write_text(yaml.safe_dump({"host": "127.0.0.1", "port": 1, "name": "x", "username": "me", **entries}))
    return path


def test_where_a_password_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("KMDE_MONGO_PASSWORD", raising=False)
    with pytest.raises(StoreError, match="no password: give a `password_file`, or set KMDE_MONGO_PASSWORD"):
        read_launchpad(launchpad(tmp_path))
    path = launchpad(tmp_path, password_file="secret")
    with pytest.raises(StoreError, match=r"cannot read .*secret, the password_file of"):
        read_launchpad(path)
    (tmp_path / "secret").write_text("from the file\n")
    (tmp_path / "secret").chmod(0o640)
    with pytest.raises(StoreError, match="can be read by others: chmod 600"):
        read_launchpad(path)
    (tmp_path / "secret").chmod(0o600)
    assert read_launchpad(path).settings["password"] == "from the file"
    monkeypatch.setenv("KMDE_MONGO_PASSWORD", "from the environment")
    assert read_launchpad(path).settings["password"] == "from the environment"
    assert read_launchpad(launchpad(tmp_path, password="beside")).settings["password"] == "beside"


def test_fireworks_programs_get_it_as_well(tmp_path):
    """Nobody listens there: that the driver was given a user and a password is seen by how it fails."""
    path = launchpad(tmp_path, mongoclient_kwargs={"serverSelectionTimeoutMS": 50})
    words = ["lpad", "-l", str(path), "get_fws"]
    plain = subprocess.run([Path(sys.executable).with_name("lpad"), *words[1:]], capture_output=True, text=True)
    assert "password is required" in plain.stderr
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("word")
    launchpad(tmp_path, mongoclient_kwargs={"serverSelectionTimeoutMS": 50}, password_file="secret")
    ours = subprocess.run([sys.executable, "-m", "kmde_fw", "fw", *words], capture_output=True, text=True)
    assert "127.0.0.1:1" in ours.stderr, ours.stderr
    assert "password is required" not in ours.stderr
    # its FW_config.yaml is read: an unknown key in it is an error of FireWorks'
    (tmp_path / "FW_config.yaml").write_text("PING_TYME_SECS: 1")
    config = subprocess.run([sys.executable, "-m", "kmde_fw", "fw", *words], capture_output=True, text=True)
    assert "PING_TYME_SECS" in config.stderr
    ended = kmde("fw", "lapd")
    assert "did you mean 'lpad'" in str(ended.exception)


def test_fireworks_programs_find_the_launchpad_file_as_kmde_does(finished_launchpad, tmp_path, monkeypatch):
    monkeypatch.delenv("KMDE_MONGO_URI", raising=False)
    words = [sys.executable, "-m", "kmde_fw", "fw", "lpad", "get_fws", "-d", "count"]
    (tmp_path / "launchpad.yaml").write_text(finished_launchpad.read_text())
    below = tmp_path / "below"
    below.mkdir()
    ended = subprocess.run(words, capture_output=True, text=True, cwd=below)
    assert int(ended.stdout) > 0, ended.stderr
    monkeypatch.setenv("KMDE_MONGO_URI", "mongodb://127.0.0.1:1/x")
    assert "takes a launchpad file: give one with -l" in str(kmde("fw", "lpad", "get_fws").exception)
    monkeypatch.delenv("KMDE_MONGO_URI")
    (tmp_path / "launchpad.yaml").unlink()
    ended = subprocess.run(words, capture_output=True, text=True, cwd=below, env={**os.environ, "HOME": str(tmp_path)})
    assert ended.returncode == 1
    assert "no launchpad.yaml in" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_fireworks_programs_name_a_misspelt_key_of_the_launchpad_file(tmp_path: Path):
    file = tmp_path / "my_launchpad.yaml"
    file.write_text("hots: 127.0.0.1\nname: kmde_fw\n")
    words = [sys.executable, "-m", "kmde_fw", "fw", "lpad", "-l", str(file), "get_wflows"]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "unknown key 'hots': did you mean 'host'?" in ended.stderr
