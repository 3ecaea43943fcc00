"""kmde lineage and kmde retrain: from a model back to all that it is made of, and forward again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.errors import ModelError


def lineage(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="a campaign; CAMPAIGN/CYCLE or CAMPAIGN/CYCLE/NUMBER; or a model's id or its beginning",
        ),
    ],
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write it as files from which `kmde retrain DIR` trains it again")
    ] = None,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Lead a model back to every structure, label, setting, seed and version that it is made of."""
    from kmde_fw.cli.tables import to_json
    from kmde_fw.report.passport import model_lines
    from kmde_fw.store import Store, queries, read_launchpad
    from kmde_fw.workflows import lineage as files

    with Store.open(read_launchpad(launchpad)) as store:
        key = queries.resolve_model(store, model)
        record = queries.lineage(store, key)
        if export is not None:
            data = store.get_labelled([row["label_id"] for row in record["train"]])
            files.export(record, data, store.get_blob(record["model"]["weights"]["sha256"]), export)
    typer.echo(to_json(record) if as_json else "\n".join(model_lines(record)))
    if export is not None:
        typer.echo(f"written to {export}; `kmde retrain {export}` trains it again without the database", err=as_json)


def retrain(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a lineage that `kmde lineage --export` wrote")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="write the model trained now")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train an exported model again from its files alone, and compare: exit code 1 unless it is the same to the bit."""
    from kmde_fw.cli.tables import to_json
    from kmde_fw.workflows.lineage import retrain as train_again

    comparison, model = train_again(folder)
    if output is not None:
        try:
            output.write_bytes(model)
        except OSError as error:
            raise ModelError(f"cannot write {output}: {error.strerror}; give another file") from None
    if as_json:
        typer.echo(to_json(asdict(comparison)))
    elif comparison.identical:
        typer.echo(f"the same model, bit for bit, in {comparison.seconds:.1f} s: sha256 {comparison.sha256[0]}")
    elif comparison.weights == comparison.energy == comparison.force == 0:
        typer.echo("the same weights and predictions; what the file says about its origin differs")
    else:
        typer.echo(
            f"another model: weights differ by up to {comparison.weights:.3g}, energies of the train set by up to "
            f"{comparison.energy:.3g} meV/atom, forces by up to {comparison.force:.3g} eV/Å"
        )
    if not as_json:
        for name, (then, now) in comparison.versions.items():
            typer.echo(f"  {name}: {then} when it was trained, {now} now")
    if not comparison.identical:
        raise typer.Exit(1)
