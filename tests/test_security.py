"""Credentials stay where they are read, files of others are opened without running what is in them."""

from __future__ import annotations

import ast
import bz2
import gzip
import json
import lzma
import os
import pickle
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import yaml
from pymongo import monitoring
from pymongo.errors import OperationFailure
from safetensors.numpy import save as save_tensors
from typer.testing import CliRunner

from kmde_fw.cli import build_app
from kmde_fw.cli.work import launch_all
from kmde_fw.comparison import load_comparison
from kmde_fw.config import load_campaign
from kmde_fw.core.certificate import read_certificate
from kmde_fw.errors import ConfigError, InputError, ModelError, ServerError, StoreError
from kmde_fw.hdnnp.model_file import METADATA_KEY, from_bytes
from kmde_fw.inputs import read_structures
from kmde_fw.md.trajectory import read_frames
from kmde_fw.reference.datasets import load_recipe
from kmde_fw.store import COLLECTIONS, Connection, Store, read_launchpad, server
from kmde_fw.workflows.health import CHECKS, Patient
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
from kmde_fw.workflows.lineage import retrain
from kmde_fw.workflows.lost import find_lost
from kmde_fw.workflows.prepare import prepare
from kmde_fw.workflows.rockets import recover
from kmde_fw.workflows.start import submit

PROJECT = Path(__file__).parent.parent
CU_AU = PROJECT / "fw_specs" / "cu_au"
PASSWORD = "S3cret-of-the-test"


class Listener(monitoring.CommandListener):
    """Keeps which commands go to which collections, and every one that tells the password."""

    def __init__(self) -> None:
        self.used: set[tuple[str, str]] = set()
        self.leaks: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        name = event.command_name
        collection = event.command.get("collection") if name == "getMore" else event.command.get(name)
        if isinstance(collection, str):
            for action in ACTIONS[name](event.command):
                self.used.add((collection, action))
        if PASSWORD in str(event.command):
            self.leaks.append(name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


def _find_and_modify(command: Any) -> list[str]:
    return ["find", "remove" if command.get("remove") else "update", *(["insert"] if command.get("upsert") else [])]


def _update(command: Any) -> list[str]:
    return ["update", *(["insert"] if any(entry.get("upsert") for entry in command["updates"]) else [])]


#: what MongoDB asks for each command on a collection
ACTIONS = {
    "find": lambda _: ["find"],
    "getMore": lambda _: ["find"],
    "count": lambda _: ["find"],
    "aggregate": lambda _: ["find"],
    "distinct": lambda _: ["find"],
    "insert": lambda _: ["insert"],
    "update": _update,
    "delete": lambda _: ["remove"],
    "findAndModify": _find_and_modify,
    "createIndexes": lambda _: ["createIndex"],
    "listIndexes": lambda _: ["listIndexes"],
    "killCursors": lambda _: [],
}


def small_campaign(folder: Path) -> Path:
    """The Cu-Au campaign, its labels sometimes refused and its columns not kept: all that workers ever write."""
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    for key in ("train", "target"):
        data[key] = [str(CU_AU / name) for name in data[key]]
    data |= {"network": {"hidden": [4]}, "training": {"max_closures": 5}}
    data["design"] = {"candidates": 60, "picks_per_cycle": 2, "keep_columns": False, "max_atoms": 8}
    data["reference"]["domain"]["scale"] = [0.995, 1.005]
    data["stop"]["max_surrogates"] = 2
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def role() -> dict[str, list[str]]:
    """Collection -> actions, as docker/worker_role.js has them."""
    text = (PROJECT / "docker" / "worker_role.js").read_text()
    found: dict[str, list[str]] = json.loads(text.partition("const actions = ")[2].partition(";\n")[0])
    return found


@pytest.fixture
def worker_uri(mongo_uri, database) -> Iterator[str]:
    """URI of the test's database with a user and a password, both of which the server asks for and checks."""
    database.command("createUser", "worker", pwd=PASSWORD, roles=["readWrite"])
    address = mongo_uri.removeprefix("mongodb://").rpartition("@")[2]
    there = f"/{database.name}?authSource={database.name}&"
    yield f"mongodb://worker:{PASSWORD}@{address.replace('/?', there)}"
    database.command("dropUser", "worker")


def test_a_worker_needs_no_more_than_its_role_and_tells_nobody_its_password(
    worker_uri, database, tmp_path, monkeypatch, capfd
):
    """One campaign, submitted by a person and worked off by a worker whose commands are listened to."""
    with pymongo.MongoClient(worker_uri.replace(PASSWORD, "another")) as client, pytest.raises(OperationFailure):
        client[database.name]["campaigns"].find_one()
    monkeypatch.setenv("KMDE_MONGO_URI", worker_uri)
    monkeypatch.chdir(tmp_path)
    connection = read_launchpad()
    assert PASSWORD not in repr(connection)
    pad = open_launchpad(connection)
    ensure_initialised(pad)
    submit(pad, prepare(small_campaign(tmp_path)))
    pad.connection.close()

    listener = Listener()
    settings = {**connection.settings, "mongoclient_kwargs": {"event_listeners": [listener]}}
    pad = open_launchpad(Connection(settings, connection.source, connection.folder, connection.servers))
    launch_all(pad, ["cu_au"], tmp_path)
    # as `kmde doctor`, `kmde reconcile` and the next `kmde run` of the same user
    store = Store(pad.db)
    CHECKS.examine(Patient(pad, store, store.campaigns()))
    assert find_lost(pad, None) == []
    assert recover(pad, "cu_au") == []
    pad.connection.close()
    assert database["campaigns"].find_one()["state"] == "finished"
    assert database["labels"].count_documents({"state": "rejected"}) > 0
    allowed = {(collection, action) for collection, actions in role().items() for action in actions}
    assert listener.used <= allowed, f"the role lacks {sorted(listener.used - allowed)}"

    said = "".join(capfd.readouterr())
    assert PASSWORD not in said
    assert listener.leaks == []
    everything = {name: list(database[name].find()) for name in database.list_collection_names()}
    assert {"fireworks", "launches", "campaigns", "kmde_blobs.chunks"} <= set(everything)
    assert PASSWORD not in str(everything)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "FW.json" for path in files)
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_what_a_worker_may_not_do():
    actions = role()
    kept = {"structures", "models", "cycles", "candidates", "labels", "campaigns", "outcomes", "selections", "motifs"}
    assert not [name for name in kept if "remove" in actions[name]]
    assert [name for name in kept if "update" in actions[name]] in (["labels", "campaigns"], ["campaigns", "labels"])
    assert set(COLLECTIONS) <= set(actions)
    given = {action for found in actions.values() for action in found}
    assert given == {"find", "insert", "update", "remove", "createIndex", "listIndexes"}


@pytest.mark.parametrize(
    "settings",
    [
        {"host": f"mongodb://me:{PASSWORD}@127.0.0.1:1/?serverSelectionTimeoutMS=200", "name": "x", "uri_mode": True},
        {"host": "127.0.0.1", "port": 1, "name": "x", "username": "me", "password": PASSWORD},
        {"host": f"mongodb://me:{PASSWORD}@127.0.0.1:1/?nonsense=%zz", "name": "x", "uri_mode": True},
        {"host": f"mongodb://me:{PASSWORD}@:::/", "name": "x", "uri_mode": True},
        {"host": f"mongodb://me:{PASSWORD}@127.0.0.1:1/", "name": "x", "uri_mode": True, "nonsense": 1},
        {"host": f"mongodb://me:{PASSWORD}@127.0.0.1:1/", "name": "x y/", "uri_mode": True},
    ],
)
def test_no_error_about_a_database_tells_the_password(settings, tmp_path, monkeypatch):
    import subprocess
    import sys

    monkeypatch.chdir(tmp_path)
    (tmp_path / "launchpad.yaml").write_text(yaml.safe_dump(settings))
    for command in (["db", "status"], ["status"], ["submit", str(CU_AU / "campaign.yaml")]):
        done = subprocess.run(
            [sys.executable, "-m", "kmde_fw", *command, "-l", str(tmp_path / "launchpad.yaml")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        if command == ["db", "status"]:
            continue
        break
    for option in (["-l", "launchpad.yaml"], ["-llaunchpad.yaml"], ["--launchpad_file=launchpad.yaml"]):
        ended = CliRunner().invoke(build_app(), ["fw", "lpad", *option, "get_fws"])
        assert isinstance(ended.exception, StoreError)
        assert PASSWORD not in str(ended.exception) + ended.output


def test_the_embedded_server_listens_on_loopback_only(mongo_uri, tmp_path):
    port = int(re.search(r":(\d+)/", mongo_uri)[1])
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    with pytest.raises(ServerError, match="is not an address of this machine alone"):
        server.start(tmp_path, socket.gethostname(), port + 1)


# files of others ------------------------------------------------------------------------------------------------------

EXPLOIT = "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{path}]]"


def test_yaml_files_run_nothing(tmp_path, launchpad_file):
    import subprocess
    import sys

    ran = tmp_path / "ran"
    exploit = EXPLOIT.format(path=ran)
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text(f"name: {exploit}\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_campaign(campaign)
    (tmp_path / "lineage").mkdir()
    for name in ("train.extxyz", "model.safetensors"):
        (tmp_path / "lineage" / name).write_bytes(b"")
    (tmp_path / "lineage" / "lineage.yaml").write_text(f"model: {exploit}\n")
    with pytest.raises(InputError, match="is no lineage of kmde_fw"):
        retrain(tmp_path / "lineage")
    # FireWorks' own reader
    (tmp_path / "workflow.yaml").write_text(f"name: {exploit}\nfws: []\nmetadata: {{}}\n")
    command = [str(Path(sys.executable).parent / "lpad"), "-l", str(launchpad_file), "add", "workflow.yaml"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert not ran.exists()


#: a few hundred bytes of YAML that are 10^12 entries
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)


@pytest.mark.parametrize("text", [BOMB, "name: x\ntrain: &a [*a]\n", "&a {name: *a}\n"])
def test_yaml_that_has_no_end_is_refused_at_once(text, tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    for read in (load_campaign, load_comparison, load_recipe):
        with pytest.raises(ConfigError, match="is not valid YAML: its aliases"):
            read(file)
    for name in ("train.extxyz", "model.safetensors"):
        (tmp_path / name).touch()
    file.rename(tmp_path / "lineage.yaml")
    with pytest.raises(InputError, match="is no lineage of kmde_fw: its aliases"):
        retrain(tmp_path)


def test_aliases_that_save_typing_are_fine(tmp_path):
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    file = tmp_path / "campaign.yaml"
    file.write_text(
        f"train: &files [{CU_AU}/train.extxyz]\n"
        + yaml.safe_dump({**data, "train": 0}).replace("train: 0\n", "evaluate: {again: *files}\n")
    )
    assert load_campaign(file).evaluate == {"again": load_campaign(file).train}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "all of it: Input should be a valid dictionary"),
        ("[]", "all of it: Input should be a valid dictionary"),
        ("train: 3\nmodel: 3", "model: Input should be"),
        ("train: [1]\nmodel: {elements: [Cu]}", "model.descriptor: Field required"),
        ("[" * 20000, "maximum recursion depth"),
    ],
)
def test_what_is_no_lineage_is_a_sentence(text, said, tmp_path):
    for name in ("train.extxyz", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "lineage.yaml").write_text(text)
    with pytest.raises(InputError, match="is no lineage of kmde_fw: ") as error:
        retrain(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
def test_small_files_that_become_large_ones_are_refused(packed, tmp_path):
    ending = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[packed]
    path = tmp_path / f"a.extxyz.{ending}"
    path.write_bytes(packed(b"1\n" + b"a" * (1 << 25)))
    assert path.stat().st_size < 40_000
    with pytest.raises(InputError, match="becomes more than 16 MiB when it is decompressed"):
        read_structures(path)
    with pytest.raises(InputError, match="becomes more than 16 MiB when it is decompressed"):
        list(read_frames(path, ["Cu"]))


def test_room_is_made_for_atoms_that_are_there_only(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text("x\n1.0\n3 0 0\n0 3 0\n0 0 3\nCu Au\n1 900000000\nDirect\n0 0 0\n")
    with pytest.raises(InputError, match="says that it has 1 900000000 atoms, and has 9 lines"):
        read_structures(path)


def test_a_pipe_is_no_trajectory(tmp_path):
    os.mkfifo(tmp_path / "a.dump")
    with pytest.raises(InputError, match="is no file but a device or a pipe"):
        list(read_frames(tmp_path / "a.dump", ["Cu"]))


class Exploit:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/kmde_fw_ran_a_pickle"),))


def test_a_pickle_is_no_model():
    with pytest.raises(ModelError, match="no safetensors file"):
        from_bytes(pickle.dumps(Exploit()))
    assert not Path("/tmp/kmde_fw_ran_a_pickle").exists()


@pytest.mark.parametrize("text", ["[1]", "1", '"x"', "NaN", "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_model_and_no_certificate_is_a_sentence(text, tmp_path):
    data = save_tensors({}, {METADATA_KEY: text})
    with pytest.raises(ModelError, match=r"is damaged or no safetensors file|says nothing of the model"):
        from_bytes(data)
    (tmp_path / "certificate.json").write_text(text)
    with pytest.raises(ModelError, match="is no coverage certificate of kmde_fw"):
        read_certificate(tmp_path / "certificate.json")


@pytest.mark.parametrize("name", ["../outside", "a/b", "/etc/x", "..", "a\nb", "$where", ""])
def test_names_that_become_paths_and_keys_are_plain(name, tmp_path):
    for data in ({"name": name}, {"name": "good", "evaluate": {name: ["x.extxyz"]}}):
        file = tmp_path / "campaign.yaml"
        file.write_text(yaml.safe_dump({"train": ["x"], "target": ["x"], "reference": {"calculator": "emt"}, **data}))
        with pytest.raises(ConfigError):
            load_campaign(file)


def test_a_calculator_is_a_class_of_ase_and_nothing_else(tmp_path):
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    for key in ("train", "target"):
        data[key] = [str(CU_AU / name) for name in data[key]]
    for calculator in ("os.system", "subprocess.Popen", "builtins.eval"):
        data["reference"]["calculator"] = calculator
        file = tmp_path / "campaign.yaml"
        file.write_text(yaml.safe_dump(data))
        with pytest.raises(Exception, match="is not a class derived from ASE's Calculator"):
            prepare(file)


def test_workers_do_not_import_from_the_folder_that_they_are_started_in(tmp_path, monkeypatch):
    """A campaign's folder may hold a yaml.py."""
    from kmde_fw.cli.run import start_worker

    (tmp_path / "yaml.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "launchpad.yaml").write_text("host: mongodb://127.0.0.1:1/\nname: x\nuri_mode: true\n")
    monkeypatch.chdir(tmp_path)
    worker = start_worker(["none"], tmp_path / "launchpad.yaml", tmp_path, 0)
    assert worker.wait(timeout=60) == 1
    assert "no database server answers" in (tmp_path / "worker-0.log").read_text()
    assert not (tmp_path / "ran").exists()


#: calls that run what is in a file, or write where a file says
FORBIDDEN = {
    "pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "tarfile", "eval", "exec", "compile_command",
    "unpack_archive", "extractall", "full_load", "unsafe_load", "FullLoader", "UnsafeLoader", "mktemp",
}  # fmt: skip


def test_nothing_in_the_package_can_run_a_file_by_accident():
    found = []
    for file in sorted((PROJECT / "kmde_fw").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name.split(".")[0] for alias in node.names] + [getattr(node, "module", None) or ""]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
                if node.attr == "load" and isinstance(node.value, ast.Name) and node.value.id in ("torch", "np"):
                    names.append("exec")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = [node.func.id]
            found += [f"{file.relative_to(PROJECT)}:{node.lineno} {name}" for name in names if name in FORBIDDEN]
            if isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle"):
                found.append(f"{file.relative_to(PROJECT)}:{node.value.lineno} {node.arg}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "yaml.load":
                assert ast.unparse(node.args[1]) in ("_UniqueKeyLoader", "PlainLoader"), "which are SafeLoaders"
    assert found == []
    config = __import__("kmde_fw.config").config
    assert issubclass(config._UniqueKeyLoader, config.PlainLoader)
    assert issubclass(config.PlainLoader, yaml.SafeLoader)
    assert pymongo.version
