"""kmde export: a model out of the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.cli.options import LaunchpadFile
from kmde_fw.errors import StoreError


def export(
    campaign: Annotated[str, typer.Argument(help="name of a campaign")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="where to write the model")],
    cycle: Annotated[int | None, typer.Option(help="of which cycle; default: the last one that is closed")] = None,
    number: Annotated[int, typer.Option(min=1, help="which of the cycle's models, by the order of its seeds")] = 1,
    launchpad: LaunchpadFile = None,
) -> None:
    """Write a trained model as a safetensors file, for `kmde_fw.hdnnp.HdnnpCalculator`."""
    from kmde_fw.store import Store, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        store.campaign(campaign)
        cycles = {document["cycle"]: document for document in store.cycles(campaign)}
        if not cycles:
            raise StoreError(f"campaign {campaign} has no closed cycle yet; see `kmde status {campaign}`")
        chosen = cycles.get(max(cycles) if cycle is None else cycle)
        if chosen is None:
            raise StoreError(f"campaign {campaign} has no closed cycle {cycle}; it has 0 to {max(cycles)}")
        if number > len(chosen["models"]):
            raise StoreError(f"cycle {chosen['cycle']} of campaign {campaign} has {len(chosen['models'])} models only")
        model = store.get("models", chosen["models"][number - 1])
        if model is None:
            raise StoreError(f"model {chosen['models'][number - 1]} is not in the database any more")
        data = store.get_blob(model["weights"]["sha256"])
    try:
        output.write_bytes(data)
    except OSError as error:
        raise StoreError(f"cannot write {output}: {error.strerror}") from None
    typer.echo(f"wrote {output}: model {model['_id'][:12]} of cycle {chosen['cycle']}, seed {model['seed']}")
