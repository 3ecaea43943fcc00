"""kmde report: a campaign as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.errors import ConfigError


def report(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="the HTML file")] = Path("report.html"),
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML file, for any browser, offline; --json prints all that it says instead."""
    from kmde_fw.cli.tables import to_json
    from kmde_fw.report.facts import report_facts
    from kmde_fw.report.page import page
    from kmde_fw.store import Store, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        facts = report_facts(store, campaign)
    if as_json:
        typer.echo(to_json(facts))
        return
    try:
        output.write_text(page(facts), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; give another file") from None
    typer.echo(f"wrote {output}: " + facts["verdict"][1])
