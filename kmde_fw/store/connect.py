"""From launchpad.yaml, the file that FireWorks' own tools use, to a database that answers."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import yaml
from pymongo.database import Database
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
)
from pymongo.uri_parser import parse_uri

from kmde_fw.config import did_you_mean
from kmde_fw.errors import StoreError

#: a full URI here is used instead of any launchpad.yaml that is found, but not instead of one that is named
ENVIRONMENT_VARIABLE = "KMDE_MONGO_URI"
DEFAULT_DATABASE = "kmde_fw"
#: seconds in which a database must answer
PATIENCE = 3.0
#: the password of launchpad.yaml's `username`, where neither `password` nor `password_file` gives it
PASSWORD_VARIABLE = "KMDE_MONGO_PASSWORD"
#: entries of launchpad.yaml, those of fireworks.LaunchPad and our `password_file`
_KEYS = (
    "host", "port", "name", "username", "password", "password_file", "authsource", "uri_mode", "mongoclient_kwargs",
    "logdir", "strm_lvl", "user_indices", "wf_user_indices",
)  # fmt: skip
#: MongoDB's codes for: unauthorized, authentication failed
_REFUSED = (13, 18)
#: MongoDB's code for what should not happen; the embedded server's answer to everything once its storage has failed
_INTERNAL_ERROR = 1

Documents = Database[dict[str, Any]]


@dataclass(frozen=True)
class Connection:
    """Where the database is.

    settings: the entries of launchpad.yaml, as `fireworks.LaunchPad.from_dict` takes them; they may hold a password,
    so they are neither shown nor stored. source: what they were read from, for messages. folder: where relative paths
    (the embedded server's data directory) start. servers: host and port of each server, without credentials.
    """

    settings: dict[str, Any] = field(repr=False)
    source: str
    folder: Path
    servers: tuple[tuple[str, int | None], ...]

    @property
    def database(self) -> str:
        """Name of the database."""
        return str(self.settings["name"])

    @property
    def address(self) -> str:
        """host:port of the servers, for messages."""
        return ",".join(host if port is None else f"{host}:{port}" for host, port in self.servers)

    @property
    def is_loopback(self) -> bool:
        """True if the server is on this machine and seen from it only: where an embedded server can be."""
        return len(self.servers) == 1 and is_loopback(self.servers[0][0])

    @property
    def has_credentials(self) -> bool:
        """True if a user name is given, in the URI or beside it."""
        return bool(self.settings.get("username")) or "@" in str(self.settings["host"])

    @property
    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the MongoDB client: those of launchpad.yaml, and a time limit where it sets none."""
        arguments = dict(self.settings.get("mongoclient_kwargs") or {})
        given = {key.lower() for key in arguments}
        for key in ("serverSelectionTimeoutMS", "connectTimeoutMS"):
            if key.lower() not in given and f"{key.lower()}=" not in str(self.settings["host"]).lower():
                arguments[key] = 3000
        return arguments


def is_loopback(host: str) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_launchpad(path: Path | None = None) -> Connection:
    """Read the settings from `path`, else the environment's KMDE_MONGO_URI, else the nearest launchpad.yaml (in this
    folder or one above it), else the file that FireWorks' own configuration names.

    Raises StoreError if there is none, or it does not say where the database is.
    """
    if path is None and os.environ.get(ENVIRONMENT_VARIABLE):
        settings = {"host": os.environ[ENVIRONMENT_VARIABLE], "uri_mode": True}
        return _connection(settings, f"the environment variable {ENVIRONMENT_VARIABLE}", Path.cwd())
    path = path or find_launchpad()
    settings = read_yaml(path)
    check_keys(settings, path)
    if not settings.get("host") and settings.get("uri_mode"):
        raise StoreError(f"{path}: `host` is missing; with `uri_mode: true` it is the server's mongodb:// URI")
    return _connection(with_password(settings, path), str(path), path.resolve().parent)


def check_keys(settings: Mapping[str, Any], path: Path) -> None:
    """StoreError if the launchpad.yaml at `path` has a key that nobody reads."""
    for key in settings:
        if key not in _KEYS:
            raise StoreError(f"{path}: unknown key {key!r}{did_you_mean(str(key), _KEYS)}; known: {', '.join(_KEYS)}")


def find_launchpad() -> Path:
    """The nearest launchpad.yaml, in this folder or one above it, else what FireWorks itself would take.

    Raises StoreError if there is none.
    """
    path = _find_upwards("launchpad.yaml") or _fireworks_launchpad()
    if path is None:
        raise StoreError(
            f"no launchpad.yaml in {Path.cwd()} or any folder above it: give one with -l, or set {ENVIRONMENT_VARIABLE}"
        )
    return path


def with_password(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The entries of the launchpad.yaml at `path`, the password of its `username` among them, wherever it is kept.

    It is looked for in `password`, then in the environment's KMDE_MONGO_PASSWORD, then in the file that `password_file`
    names (relative to launchpad.yaml). StoreError for a file that is missing or that others may read.
    """
    settings = dict(settings)
    named = settings.pop("password_file", None)
    if not settings.get("username") or settings.get("password"):
        return settings
    file = path.resolve().parent / Path(str(named)).expanduser() if named else None
    if os.environ.get(PASSWORD_VARIABLE):
        settings["password"] = os.environ[PASSWORD_VARIABLE]
    elif file is None:
        raise StoreError(
            f"{path} names the user {settings['username']!r} and no password: give a `password_file`, or set "
            f"{PASSWORD_VARIABLE}"
        )
    else:
        try:
            if file.stat().st_mode & 0o077:
                raise StoreError(f"{file}, the password_file of {path}, can be read by others: chmod 600 {file}")
            settings["password"] = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StoreError(
                f"cannot read {file}, the password_file of {path}: {error.strerror}; write the password into it "
                f"(chmod 600), or set {PASSWORD_VARIABLE}"
            ) from None
    return settings


def connect(connection: Connection) -> Documents:
    """The database, after it has answered. Raises StoreError within 5 s if it does not.

    The caller closes the client: `database.client.close()`.
    """
    settings = connection.settings
    try:
        if settings.get("uri_mode"):
            client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
                settings["host"], **connection.client_arguments
            )
        else:
            client = pymongo.MongoClient(
                settings["host"],
                settings["port"],
                username=settings.get("username"),
                password=settings.get("password"),
                authSource=settings.get("authsource") or settings["name"],
                **connection.client_arguments,
            )
    except (ConfigurationError, ValueError, TypeError):
        # the driver's own message is not shown: it may quote the URI
        raise StoreError(f"{connection.source}: the MongoDB driver does not accept these settings") from None
    try:
        database = client[connection.database]
    except PyMongoError as error:
        client.close()
        raise StoreError(f"{connection.source}: `name` is no name of a database: {error}") from None
    try:
        _check_answers(database, connection)
    except StoreError:
        client.close()
        raise
    return database


def _check_answers(database: Documents, connection: Connection) -> None:
    """Nothing if the database answers and lets us in; StoreError otherwise, within 5 s."""
    try:
        if connection.is_loopback and not _listens(*connection.servers[0]):
            raise ConnectionFailure("nobody listens")  # known at once, where the driver would try again for seconds
        with pymongo.timeout(PATIENCE):
            # a ping would do without being let in, and one collection may be readable where others are not
            database.client.admin.command("ping")
            database["kmde_meta"].find_one({"_id": "schema"})
    except OperationFailure as error:
        if error.code in _REFUSED:
            raise StoreError(
                f"the database server at {connection.address} does not let us into {connection.database}: "
                f"check user and password in {connection.source}"
            ) from None
        raise translated(error, connection.address) from None
    except PyMongoError:
        remedy = (
            f"`kmde db start` starts it, or {connection.source} names another"
            if connection.is_loopback
            else f"check that it runs and that {connection.source} names it"
        )
        raise StoreError(f"no database server answers at {connection.address}: {remedy}") from None


def _listens(host: str, port: int | None) -> bool:
    """Whether a connection to that port of this machine is accepted."""
    try:
        with socket.create_connection((host, port or 27017), timeout=1.0):
            return True
    except OSError:
        return False


@contextmanager
def sentences(database: Documents) -> Iterator[None]:
    """Inside, the driver's errors become StoreErrors."""
    try:
        yield
    except PyMongoError as error:
        raise translated(error, address_of(database)) from error


def is_outage(error: BaseException | None) -> bool:
    """True if an error comes from a server that did not answer, however often it was wrapped on its way."""
    while error is not None:
        if isinstance(error, ConnectionFailure):
            return True
        error = error.__cause__ or error.__context__
    return False


def says_outage(line: str) -> bool:
    """`is_outage` of an error of which the last line of its traceback is left: our sentence, or the driver's own."""
    module, _, name = line.partition(":")[0].rpartition(".")
    kind = getattr(pymongo.errors, name, object) if module == "pymongo.errors" else object
    return "does not answer any more" in line or (isinstance(kind, type) and issubclass(kind, ConnectionFailure))


def answers(database: Documents) -> bool:
    """Whether the server answers now, within PATIENCE."""
    try:
        with pymongo.timeout(PATIENCE):
            database.client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def translated(error: PyMongoError, address: str) -> StoreError:
    """The driver's error as a sentence."""
    if isinstance(error, ConnectionFailure):
        return StoreError(f"the database server at {address} does not answer any more: is it running?")
    if isinstance(error, DocumentTooLarge):
        return StoreError("a document is larger than the 16 MB that MongoDB allows")
    if isinstance(error, OperationFailure) and error.code == _INTERNAL_ERROR:
        return StoreError(
            f"the database server at {address} has failed inside, as it does when its disk is full: see its log, make "
            "room, and start it again (an embedded one: `kmde db stop`, `kmde db start`)"
        )
    if isinstance(error, OperationFailure):
        details = error.details or {}
        return StoreError(f"the database server at {address} refused: {details.get('errmsg') or error}")
    return StoreError(f"the database server at {address}: {error}")


def address_of(database: Documents) -> str:
    """host:port of the servers of a database, without credentials."""
    servers = sorted(database.client.topology_description.server_descriptions(), key=str)
    return ",".join(f"{host}:{port}" for host, port in servers)


def _connection(settings: dict[str, Any], source: str, folder: Path) -> Connection:
    settings = dict(settings)
    if not settings.get("uri_mode"):
        # the defaults of fireworks.LaunchPad
        settings["host"] = settings.get("host") or "localhost"
        settings["port"] = settings.get("port") or 27017
        settings["name"] = settings.get("name") or "fireworks"
    if not isinstance(settings["host"], str) or not isinstance(settings.get("port") or 0, int):
        raise StoreError(f"{source}: `host` must be text and `port` a whole number")
    if not settings.get("uri_mode") and "://" not in settings["host"]:
        return Connection(settings, source, folder, ((settings["host"], settings["port"]),))
    uri = settings["host"]
    if uri.startswith("mongodb+srv://"):
        # looking the servers up would ask the network; the name is enough for messages
        host, _, path = uri.removeprefix("mongodb+srv://").rpartition("@")[2].partition("/")
        servers: tuple[tuple[str, int | None], ...] = ((host.partition("?")[0], None),)
        named = path.partition("?")[0]
    else:
        try:
            parsed = parse_uri(uri, warn=False)
        except (PyMongoError, ValueError):
            raise StoreError(
                f"{source}: the host is not a MongoDB URI, mongodb://user:password@host:port/?option=value "
                "(special characters in user and password percent-encoded, options spelt as MongoDB has them)"
            ) from None
        servers = tuple(parsed["nodelist"])
        named = parsed["database"] or ""
    if source.endswith(ENVIRONMENT_VARIABLE):
        settings["name"] = named or DEFAULT_DATABASE
    if not settings.get("name"):
        raise StoreError(
            f"{source}: `name`, the database's name, is missing (in uri_mode it is not taken from the URI)"
        )
    return Connection(settings, source, folder, servers)


def _find_upwards(name: str) -> Path | None:
    here = Path.cwd()
    return next((folder / name for folder in (here, *here.parents) if (folder / name).is_file()), None)


def _fireworks_launchpad() -> Path | None:
    """What FireWorks would take unasked: LAUNCHPAD_LOC of its FW_config.yaml, or a my_launchpad.yaml beside that."""
    folders = [Path.cwd(), Path.home() / ".fireworks"]
    files = [folder / "FW_config.yaml" for folder in folders]
    if os.environ.get("FW_CONFIG_FILE"):
        files.append(Path(os.environ["FW_CONFIG_FILE"]))
    config = next((read_yaml(file) for file in files if file.is_file()), {})
    if config.get("LAUNCHPAD_LOC"):
        return Path(config["LAUNCHPAD_LOC"])
    if config.get("CONFIG_FILE_DIR"):
        folders.insert(0, Path(config["CONFIG_FILE_DIR"]))
    return next((f / "my_launchpad.yaml" for f in folders if (f / "my_launchpad.yaml").is_file()), None)


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a launchpad file. StoreError, which quotes no line of it, if it is no YAML mapping."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        # the parser's message may quote the line with the password
        raise StoreError(f"{path} is not valid YAML") from None
    if not isinstance(data, dict):
        raise StoreError(f"{path}: a launchpad file is a YAML mapping with the keys host, name, uri_mode, ...")
    return data
