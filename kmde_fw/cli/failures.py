"""kmde failures: what went wrong, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.cli.tables import Csv, show


def failures(
    campaign: Annotated[str | None, typer.Argument(help="one campaign; default: all")] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List refused and failed labels, picks without a label, sources without candidates, and fireworks that fizzled."""
    from kmde_fw.report.words import failure_words
    from kmde_fw.store import Store, queries
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.rockets import fizzled

    with launchpad_of(launchpad) as pad:
        store = Store(pad.db)
        rows = queries.failures(store, campaign)
        names = [campaign] if campaign else [c["_id"] for c in store.campaigns()]
        for name in names:
            rows += [
                {
                    "campaign": name,
                    "cycle": None,
                    "slot": None,
                    "kind": "firework",
                    "what": f"{f['fw_id']}: {f['name']}",
                    "structure_id": None,
                    "reason": f["reason"],
                    "traceback": f["traceback"],
                }
                for f in fizzled(pad, name)
            ]
    columns = {
        "campaign": lambda r: r["campaign"],
        "cycle>": lambda r: r["cycle"],
        "kind": lambda r: r["kind"],
        "what": lambda r: r["what"],
        "reason": failure_words,
    }
    show(rows, columns, "failures", as_json, as_csv, "nothing failed")
