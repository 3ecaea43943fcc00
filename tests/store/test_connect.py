"""Where the settings come from, and what is said when no database answers."""

import socket
import sys
import threading
import time

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from kmde_fw.errors import StoreError
from kmde_fw.store import Store, connect, read_launchpad
from kmde_fw.store.connect import is_loopback, translated

URI = "mongodb://127.0.0.1:27117/?directConnection=true"


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """A folder with nothing above it that matters, a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FW_CONFIG_FILE", raising=False)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def launchpad(folder, name="db", uri=URI, file="launchpad.yaml"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    path.write_text(f"host: {uri}\nname: {name}\nuri_mode: true\n")
    return path


def test_the_order_of_places(somewhere, tmp_path, monkeypatch):
    with pytest.raises(StoreError, match=r"no launchpad\.yaml in .* or any folder above it"):
        read_launchpad()
    launchpad(tmp_path / "home" / ".fireworks", "of_fireworks", file="my_launchpad.yaml")
    assert read_launchpad().database == "of_fireworks"
    other = launchpad(tmp_path / "other", "configured")
    (tmp_path / "home" / ".fireworks" / "FW_config.yaml").write_text(f"LAUNCHPAD_LOC: {other}\n")
    assert read_launchpad().database == "configured"
    launchpad(tmp_path / "a", "above")
    found = read_launchpad()
    assert found.database == "above"
    assert found.folder == tmp_path / "a"
    launchpad(somewhere, "here")
    assert read_launchpad().database == "here"
    monkeypatch.setenv("KMDE_MONGO_URI", "mongodb://db.example.org/named")
    assert read_launchpad().database == "named"
    assert read_launchpad(other).database == "configured"


def test_uri_of_the_environment(somewhere, monkeypatch):
    monkeypatch.setenv("KMDE_MONGO_URI", "mongodb://user:secret@db.example.org:1/?tls=true")
    connection = read_launchpad()
    assert connection.database == "kmde_fw"
    assert connection.address == "db.example.org:1"
    assert connection.has_credentials
    assert not connection.is_loopback
    assert "secret" not in repr(connection)


def test_plain_settings(tmp_path):
    path = tmp_path / "l.yaml"
    path.write_text("host: localhost\nport: 27018\nname: fw\nusername: me\npassword: secret\n")
    connection = read_launchpad(path)
    assert (connection.address, connection.database) == ("localhost:27018", "fw")
    assert connection.is_loopback
    assert connection.has_credentials
    path.write_text("logdir: null\n")
    assert (read_launchpad(path).address, read_launchpad(path).database) == ("localhost:27017", "fireworks")


def test_limits_where_none_are_set(tmp_path):
    path = tmp_path / "l.yaml"
    path.write_text(
        "host: mongodb://h/?serverselectiontimeoutms=9\nname: d\nuri_mode: true\nmongoclient_kwargs: {appname: x}"
    )
    assert read_launchpad(path).client_arguments == {"appname": "x", "connectTimeoutMS": 3000}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("host: mongodb://me:sec/ret@h\nname: d\nuri_mode: true", "not a MongoDB URI"),
        ("host: mongodb://h:99999999/secret\nname: d\nuri_mode: true", "not a MongoDB URI"),
        ("host: db.example.org secret\nname: d\nuri_mode: true", "not a MongoDB URI"),
        ("host: mongodb://h/d?secret=1\nname: d\nuri_mode: true", "not a MongoDB URI"),
        ("host: mongodb://h/d\nuri_mode: true", "`name`.* is missing"),
        ("uri_mode: true\nname: secret", "`host` is missing"),
        ("host: [secret]\nname: d", "`host` must be text"),
        ("host: h\nname: d\nmongoclient_kwargs: {secret: 1}", "does not accept these settings"),
        ("host: {secret", "not valid YAML"),
        ("secret", "a YAML mapping"),
    ],
)
def test_bad_files_without_their_secrets(tmp_path, text, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StoreError, match=sentence) as raised:
        connect(read_launchpad(path))
    assert "bad.yaml" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "ret@" not in str(raised.value)


def test_no_such_file(tmp_path):
    with pytest.raises(StoreError, match=r"cannot read .*none\.yaml: No such file"):
        read_launchpad(tmp_path / "none.yaml")


def test_down(tmp_path, free_port):
    port = free_port()
    path = launchpad(tmp_path, uri=f"mongodb://me:secret@127.0.0.1:{port}/?serverSelectionTimeoutMS=60000")
    begin = time.monotonic()
    with pytest.raises(StoreError, match=f"no database server answers at 127.0.0.1:{port}: `kmde db start`") as raised:
        connect(read_launchpad(path))
    assert time.monotonic() - begin < 5
    assert "secret" not in str(raised.value)


def test_something_silent(tmp_path, monkeypatch):
    """A listener that takes connections and never answers."""
    monkeypatch.setattr(sys.modules["kmde_fw.store.connect"], "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = launchpad(tmp_path, uri=f"mongodb://127.0.0.1:{listener.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(StoreError, match="no database server answers"):
            connect(read_launchpad(path))
        assert time.monotonic() - begin < 2


def test_something_else(tmp_path, monkeypatch):
    """A listener of another protocol."""
    monkeypatch.setattr(sys.modules["kmde_fw.store.connect"], "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        path = launchpad(tmp_path, uri=f"mongodb://127.0.0.1:{listener.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(StoreError, match="no database server answers"):
            connect(read_launchpad(path))
        assert time.monotonic() - begin < 2
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_store_of_its_own_connection(connection):
    with Store.open(connection) as store:
        assert store.name == connection.database
        assert store.address == connection.address
        assert store.find("campaigns") == []


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)],
)
def test_loopback(host, answer):
    assert is_loopback(host) is answer


@pytest.mark.parametrize(("error", "sentence"), [
    (OperationFailure("internal server error", 1), "at db:1 has failed inside, as it does when its disk is full"),
    (OperationFailure("not authorized", 13, {"errmsg": "not authorized"}), "at db:1 refused: not authorized"),
    (AutoReconnect("connection closed"), "at db:1 does not answer any more"),
])  # fmt: skip
def test_what_a_server_says_is_a_sentence(error, sentence):
    assert sentence in str(translated(error, "db:1"))
