"""Rows for people, for programs (--json) and for spreadsheets (--csv)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

Csv = Annotated[bool, typer.Option("--csv", help="print comma-separated values, a header first")]

#: heading -> what a cell says; a heading that ends in ">" is right-aligned
Columns = Mapping[str, Callable[[Mapping[str, Any]], Any]]


def to_json(value: Any) -> str:
    """Indented JSON; times as ISO 8601."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def show(
    rows: Sequence[Mapping[str, Any]], columns: Columns, title: str, as_json: bool, as_csv: bool, empty: str
) -> None:
    """Print the rows: all that they hold as JSON, the columns as CSV or as a table; `empty` is said of no rows."""
    if as_json:
        typer.echo(to_json(rows))
        return
    from kmde_fw.report.words import number

    cells = [[number(cell(row)) for cell in columns.values()] for row in rows]
    headings = [heading.rstrip(">") for heading in columns]
    if as_csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([headings, *cells])
        typer.echo(text.getvalue(), nl=False)
        return
    if not rows:
        typer.echo(empty)
        return
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for heading in columns:
        table.add_column(heading.rstrip(">"), justify="right" if heading.endswith(">") else "left", overflow="fold")
    for line in cells:
        table.add_row(*line)
    console().print(table, markup=False)


def gap_table(gap: Mapping[str, Any]) -> Any:
    """What of the target is missing in the train set, channel by channel, the most first."""
    from rich.table import Table

    table = Table(title=f"coverage gap, {gap['total']:.3f} in all", title_justify="left", header_style="bold")
    table.add_column("channel")
    table.add_column("missing part of the target", justify="right")
    table.add_column("bin width", justify="right")
    for key, channel in sorted(gap["channels"].items(), key=lambda item: -item[1]["missing"]):
        if channel["missing"] > 0:
            unit = "Å" if key.count("-") == 1 else "°"
            table.add_row(key, f"{100 * channel['missing']:.2f} %", f"{channel['bin_width']:.3g} {unit}")
    return table


def motif_table(motifs: Sequence[Mapping[str, Any]], most: int = 10) -> Any:
    """The first key motifs."""
    from rich.table import Table

    table = Table(title="key motifs", title_justify="left", header_style="bold")
    for name in ("rank", "channel", "range", "score", "around outliers"):
        table.add_column(name, justify="left" if name == "channel" else "right")
    for m in motifs[:most]:
        unit = "Å" if m["kind"] == "distance" else "°"
        between = f"{m['low']:.3f}–{m['high']:.3f} {unit}"
        table.add_row(str(m["rank"] + 1), m["channel"], between, f"{m['score']:.3g}", str(m["count"]))
    return table


def console() -> Any:
    """One that is wide enough where there is no terminal."""
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 140)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value)
