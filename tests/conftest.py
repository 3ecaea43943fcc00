"""One embedded server for the whole suite, a fresh database for each test that asks for one.

KMDE_MONGO_URI in the environment names another server (a URI; its database name is not used) to test against.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pymongo
import pytest
import yaml

from kmde_fw.store import Connection, Store, read_launchpad, server
from kmde_fw.store.connect import Documents

CU_AU = Path(__file__).parent.parent / "fw_specs" / "cu_au"
GIVEN_URI = os.environ.get("KMDE_MONGO_URI")
#: files that run whole campaigns: begun first, so that no process is left alone with one of them at the end
LONG = ("test_campaign.py", "test_compare.py", "test_campaign_choices.py", "test_campaign_interrupted.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, in the order of LONG; the others stay in theirs."""
    order = {name: k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """What tests and the processes that they start find is decided by them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KMDE_MONGO_URI", raising=False)
        yield


@pytest.fixture(autouse=True)
def _working_directory() -> Iterator[None]:
    """Rockets change the folder, and tests remove theirs: each test begins and ends in the project's."""
    project = Path(__file__).parent.parent
    os.chdir(project)
    yield
    os.chdir(project)


@pytest.fixture
def kmde(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """A function: exit code, stdout, stderr of `kmde words`, in this process."""
    from kmde_fw.cli import main

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()  # what rockets of this process have said before
        monkeypatch.setattr("sys.argv", ["kmde", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def free_port() -> object:
    """A function that finds a port of 127.0.0.1 that nothing listens on."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory, free_port) -> Iterator[str]:
    """URI of the server that the tests use."""
    if GIVEN_URI:
        yield GIVEN_URI
        return
    directory = tmp_path_factory.mktemp("server")
    process, _ = server.start(directory, "127.0.0.1", free_port())
    yield f"mongodb://{process.address}/?{server.URI_OPTIONS}"
    server.stop(directory)


@pytest.fixture(scope="session")
def client(mongo_uri: str) -> Iterator[pymongo.MongoClient]:
    """One connection for all tests of this process."""
    with pymongo.MongoClient(mongo_uri) as client:
        yield client


@pytest.fixture
def database(client: pymongo.MongoClient) -> Iterator[Documents]:
    """A database of this test's own, dropped after it."""
    name = f"kmde_test_{uuid.uuid4().hex[:12]}"
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def store(database: Documents) -> Store:
    """A store on this test's own database."""
    return Store(database)


@pytest.fixture
def launchpad_file(mongo_uri: str, database: Documents, tmp_path: Path) -> Path:
    """A launchpad.yaml for this test's own database, FireWorks initialised: for lpad, rlaunch and kmde as processes."""
    from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad

    path = tmp_path / "launchpad.yaml"
    path.write_text(yaml.safe_dump({"host": mongo_uri, "name": database.name, "uri_mode": True}))
    launchpad = open_launchpad(read_launchpad(path))
    ensure_initialised(launchpad)
    launchpad.connection.close()
    return path


@pytest.fixture
def connection(launchpad_file: Path) -> Connection:
    """The settings of `launchpad_file`."""
    return read_launchpad(launchpad_file)


@pytest.fixture(scope="session")
def finished_launchpad(client: pymongo.MongoClient, mongo_uri: str, tmp_path_factory) -> Iterator[Path]:
    """launchpad.yaml of a database with a finished campaign `demo` and its twin `twin` of another seed. Do not write.

    Small Cu-Au campaigns of two cycles, two picks each, two models; their domain is so narrow that labels are refused.
    """
    from kmde_fw.cli.work import launch_all
    from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(CU_AU, folder, dirs_exist_ok=True)
    name = f"kmde_test_finished_{uuid.uuid4().hex[:8]}"
    path = folder / "launchpad.yaml"
    path.write_text(yaml.safe_dump({"host": mongo_uri, "name": name, "uri_mode": True, "strm_lvl": "ERROR"}))
    launchpad = open_launchpad(read_launchpad(path))
    ensure_initialised(launchpad)
    for campaign, seed in (("demo", 0), ("twin", 1)):
        data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
        data |= {"name": campaign, "seed": seed, "network": {"hidden": [8]}}
        data["training"] = {"max_closures": 30, "seeds": [0, 1]}
        data["design"] |= {"candidates": 400, "picks_per_cycle": 2, "keep_columns": campaign == "demo"}
        data["design"] |= {"strategy": "key_motif", "derive_parents": False}
        data["stop"]["max_surrogates"] = 4
        data["reference"]["domain"]["scale"] = [0.975, 1.03]
        (folder / f"{campaign}.yaml").write_text(yaml.safe_dump(data))
        submit(launchpad, prepare(folder / f"{campaign}.yaml"))
        launch_all(launchpad, [campaign], folder)
    launchpad.connection.close()
    yield path
    client.drop_database(name)


@pytest.fixture
def finished(finished_launchpad: Path, client: pymongo.MongoClient) -> Store:
    """The store of `finished_launchpad`."""
    return Store(client[read_launchpad(finished_launchpad).database])
