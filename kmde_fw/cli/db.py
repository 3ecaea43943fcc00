"""kmde db: the embedded database server of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import Json, LaunchpadFile

if TYPE_CHECKING:
    from kmde_fw.store import Connection

app = typer.Typer(no_args_is_help=True, help="Start, stop and look at the embedded database server of this machine.")

DataDirectory = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="data directory; default: .kmde/db beside launchpad.yaml")
]


@app.command()
def start(launchpad: LaunchpadFile = None, data: DataDirectory = None) -> None:
    """Start the embedded server at the address of launchpad.yaml, and make its database ready for FireWorks."""
    from kmde_fw.errors import ServerError
    from kmde_fw.store import Store, read_launchpad, server
    from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad

    connection = read_launchpad(launchpad)
    if not connection.is_loopback:
        raise ServerError(
            f"{connection.source} points to {connection.address}, which is not an address of this machine alone: "
            "there is nothing to start here; for the embedded server set its host to 127.0.0.1"
        )
    if connection.has_credentials:
        raise ServerError(f"{connection.source} gives a user, and the embedded server has none: take the user out")
    (host, port), directory = connection.servers[0], _directory(connection, data)
    process, is_new = server.start(directory, host, port or 27017)
    how = "runs now" if is_new else "was running already"
    typer.echo(f"the database server {how}: {process.address}, process {process.pid}, data in {directory}")
    if "journal=true" not in str(connection.settings["host"]).lower():
        typer.echo(
            f"note: without journal=true in the host of {connection.source} a crash may lose the last writes", err=True
        )
    pad = open_launchpad(connection)
    try:
        Store(pad.db)
        fresh = ensure_initialised(pad)
    finally:
        pad.connection.close()
    typer.echo(f"database {connection.database} is {'new and ' if fresh else ''}ready for kmde, lpad and rlaunch")


@app.command()
def stop(launchpad: LaunchpadFile = None, data: DataDirectory = None) -> None:
    """Stop the embedded server. Its data stay."""
    from kmde_fw.store import read_launchpad, server

    directory = _directory(read_launchpad(launchpad), data)
    stopped = server.stop(directory)
    if stopped is None:
        typer.echo(f"no embedded server was running on {directory}")
    else:
        typer.echo(
            f"the database server at {stopped.address} (process {stopped.pid}) has stopped; its data stay in "
            f"{directory}"
        )


@app.command()
def migrate(
    launchpad: LaunchpadFile = None,
    end: Annotated[bool, typer.Option("--end", help="end campaigns that are not finished, as they are")] = False,
    as_json: Json = False,
) -> None:
    """Bring the documents of an older kmde_fw to this one's schema version. Interrupted, it is called again."""
    from kmde_fw.records import SCHEMA_VERSION
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.migration import migrate_database

    with launchpad_of(launchpad) as pad:
        changed = migrate_database(pad, end)
    if as_json:
        typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, "migrated": changed}, indent=2))
    elif changed:
        counts = ", ".join(f"{number} {name}" for name, number in changed.items())
        typer.echo(f"the database has schema version {SCHEMA_VERSION} now; migrated: {counts}")
    else:
        typer.echo(f"the database has schema version {SCHEMA_VERSION} already: nothing was changed")


@app.command()
def status(launchpad: LaunchpadFile = None, data: DataDirectory = None, as_json: Json = False) -> None:
    """Say where the database is, whether it answers and what is in it. Exit code 1 if it does not answer."""
    from kmde_fw.errors import StoreError
    from kmde_fw.store import contents, read_launchpad, server

    connection = read_launchpad(launchpad)
    directory = _directory(connection, data)
    process = server.find(directory)
    facts: dict[str, Any] = {
        "address": connection.address,
        "database": connection.database,
        "launchpad": connection.source,
        "embedded": None
        if process is None
        else {"process": process.pid, "machine": process.machine, "address": process.address, "data": str(directory)},
        "answers": False,
        "problem": None,
    }
    try:
        facts.update(contents(connection), answers=True)
    except StoreError as error:
        facts["problem"] = str(error)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        for line in _sentences(facts):
            typer.echo(line)
    if facts["problem"] is not None:
        raise typer.Exit(1)


def _sentences(facts: dict[str, Any]) -> list[str]:
    embedded = facts["embedded"]
    lines = [f"database {facts['database']} at {facts['address']} ({facts['launchpad']})"]
    if embedded is None:
        lines.append("no embedded server of ours runs here")
    else:
        lines.append(
            f"embedded server: process {embedded['process']} on {embedded['machine']}, data in {embedded['data']}"
        )
    if facts["problem"] is not None:
        lines.append(facts["problem"])
    elif facts["schema_version"] is None:
        lines.append("it answers, and is empty of campaigns (`kmde db start` or `kmde submit` makes it ready)")
    else:
        counts = ", ".join(f"{number} {name}" for name, number in facts["documents"].items())
        lines.append(f"it answers, schema version {facts['schema_version']}: {counts}")
        if facts["needs_migration"]:
            lines.append("this kmde_fw needs a newer schema version: `kmde db migrate` brings it there")
    return lines


def _directory(connection: Connection, data: Path | None) -> Path:
    from kmde_fw.store.server import default_data_directory

    return (data or default_data_directory(connection.folder)).resolve()
