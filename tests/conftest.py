"""One embedded server for the whole suite, a fresh database for each test that asks for one.

KMDE_MONGO_URI in the environment names another server (a URI; its database name is not used) to test against.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
import yaml

from kmde_fw.store import Connection, Store, read_launchpad, server
from kmde_fw.store.connect import Documents

GIVEN_URI = os.environ.get("KMDE_MONGO_URI")


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """What tests and the processes that they start find is decided by them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KMDE_MONGO_URI", raising=False)
        yield


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
