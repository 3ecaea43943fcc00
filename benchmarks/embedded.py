"""An embedded database server for one benchmark."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from kmde_fw.store import server


@contextmanager
def own_server(folder: Path) -> Iterator[Path]:
    """An embedded server on a free port with its data in `folder`; gives its launchpad.yaml."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process, _ = server.start(folder / "db", "127.0.0.1", port)
    launchpad = folder / "launchpad.yaml"
    settings = {"host": f"mongodb://{process.address}/?{server.URI_OPTIONS}", "name": "benchmark", "uri_mode": True}
    launchpad.write_text(yaml.safe_dump(settings))
    try:
        yield launchpad
    finally:
        server.stop(folder / "db")
