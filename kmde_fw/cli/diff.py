"""kmde diff: how two campaigns differ."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Csv, show, to_json


def diff(
    first: Annotated[str, typer.Argument(help="name of a campaign")],
    second: Annotated[str, typer.Argument(help="name of another one")],
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare two campaigns: settings, data, and side by side what each cycle picked and reached."""
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        record = queries.diff(store, first, second)
    if as_json:
        typer.echo(to_json(record))
        return
    show(_rows(record), {heading: _cell(heading) for heading in ("what", "first", "second")}, "", False, as_csv, "")


def _cell(heading: str) -> Any:
    return lambda row: row[heading]


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings that differ, data, cycles and picks, each as what, first, second."""
    rows = [{"what": "campaign", "first": record["first"], "second": record["second"]}]
    rows += [
        {"what": s["option"], "first": _short(s["first"]), "second": _short(s["second"])} for s in record["settings"]
    ]
    for key, data in record["data"].items():
        what = f"{key.replace('_', ' ')}, {data['both']} in both"
        rows.append({"what": what, "first": f"{len(data['first'])} more", "second": f"{len(data['second'])} more"})
    for pick in record["picks"]:
        what = f"cycle {pick['cycle']} slot {pick['slot']}" + (" (same)" if pick["same"] else "")
        rows.append({"what": what, "first": pick["first"], "second": pick["second"]})
    for cycle in record["cycles"]:
        for key in ("n_outliers", "gap", "energy_rmse", "energy_bias", "energy_scatter", "force_rmse"):
            values = {side: (cycle[side] or {}).get(key) for side in ("first", "second")}
            if any(value is not None for value in values.values()):
                rows.append({"what": f"cycle {cycle['cycle']} {key.replace('_', ' ')}", **values})
    rows.append({"what": "why it stopped", "first": record["first_reason"], "second": record["second_reason"]})
    return rows


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
