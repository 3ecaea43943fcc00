"""kmde import-model: a potential of n2p2 or RuNNer as a starting point."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import Json
from kmde_fw.errors import ConfigError, InputError
from kmde_fw.units import figures

if TYPE_CHECKING:
    from kmde_fw.hdnnp.n2p2.units import Units

#: outlier atoms that are shown to people
SHOWN = 5


class Length(StrEnum):
    """Units of length."""

    angstrom = "angstrom"
    bohr = "bohr"


class Energy(StrEnum):
    """Units of energy."""

    ev = "ev"
    hartree = "hartree"


def import_model(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="with input.nn, scaling.data, weights.*.data and, if it is there, input.data"
        ),
    ],
    target: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="structures that the potential is meant for; once for each file"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="folder for model, train set and campaign file")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="CAMPAIGN.yaml", help="takes the rest of the campaign, its reference first, from this one"
        ),
    ] = None,
    length: Annotated[Length | None, typer.Option(help="of the files, where input.nn does not say it")] = None,
    energy: Annotated[Energy | None, typer.Option(help="of the files, where input.nn does not say it")] = None,
    data_only: Annotated[
        bool, typer.Option("--data-only", help="the train set alone, with our own symmetry functions")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a potential of n2p2 or RuNNer: its errors, what it lacks for a target, a campaign from there."""
    from kmde_fw.cli.tables import to_json
    from kmde_fw.files import write_folder
    from kmde_fw.inputs import read_structures
    from kmde_fw.workflows import foreign as work

    if like is not None and (output is None or not target):
        raise ConfigError("--like is for the campaign file: give --target and --output with it")
    foreign = work.read_foreign(folder, _units(length, energy), data_only)
    found = work.facts(foreign, read_structures(target) if target else [])
    files: dict[str, str | bytes] = {}
    if output is not None:
        files = work.written(foreign, target or [], output, like)
        there = [name for name in files if (output / name).exists()]
        if there:
            raise InputError(f"{output} has a {there[0]} already; give another --output")
        try:
            write_folder(output, files)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}; give another --output") from None
        if like is not None and work.CAMPAIGN not in files:
            found["notes"].append("no campaign file was written, and --like has no effect: there is no train set")
    found["written"] = [str(output / name) for name in files] if output else []
    if as_json:
        typer.echo(to_json(found))
        return
    _show(found)
    if output is not None:
        typer.echo(f"wrote {', '.join(files)} to {output}{_next(output, files, like)}")


def _units(length: Length | None, energy: Energy | None) -> Units | None:
    """What the user says of the files' units, both or nothing."""
    from kmde_fw.hdnnp.n2p2.units import Units

    if (length is None) != (energy is None):
        raise ConfigError("--length and --energy go together: the unit of forces is made of both")
    return Units(str(length), str(energy)) if length is not None else None


def _next(output: Path, files: dict[str, Any], like: Path | None) -> str:
    """What to do with what was written."""
    if "campaign.yaml" not in files:
        return ""
    first = "" if like else f"add the `reference` to {output}/campaign.yaml, then "
    return f"; {first}`kmde plan {output}/campaign.yaml`"


def _show(found: dict[str, Any]) -> None:
    from kmde_fw.cli.tables import console, gap_table, motif_table
    from kmde_fw.report.words import exceeded_words

    def line(title: str, text: str) -> None:
        screen.print(f"  {title:<11} {text}", highlight=False, markup=False)

    screen = console()
    potential, train, target = found["potential"], found["train"], found["target"]
    units = f"{found['units']['length']}, {found['units']['energy']}"
    screen.print(f"potential in {found['folder']}, in {units}", highlight=False, markup=False)
    line("elements", ", ".join(found["elements"]))
    if potential:
        functions = ", ".join(f"{n} for {element}" for element, n in potential["symmetry_functions"].items())
        line("functions", f"{functions}, cutoff {potential['cutoff']:.4g} Å")
        line("networks", "-".join(map(str, [*potential["hidden"], 1])))
    if train:
        line("train set", f"{train['structures']} structures, {train['atoms']} atoms")
        if train["errors"]:
            errors = train["errors"]
            line(
                "errors",
                f"of the potential on it: {figures(errors['energy_rmse'], 3)} meV/atom "
                f"(bias {figures(errors['energy_bias'], 3)}), {errors['force_rmse']:.3g} eV/Å",
            )
    if target:
        line("target", f"{target['structures']} structures, {target['atoms']} atoms")
        by_element = ", ".join(f"{n} {element}" for element, n in target["outliers"]["by_element"].items())
        line("outliers", f"{target['outliers']['atoms']} target atoms" + (f" ({by_element})" if by_element else ""))
        for outlier in target["outlier_atoms"][:SHOWN]:
            by_excess = [(float("inf") if e["excess"] is None else e["excess"], e) for e in outlier["exceeds"]]
            worst = max(by_excess, key=lambda pair: pair[0])[1] if by_excess else None
            why = exceeded_words(worst, outlier["element"]) if worst else outlier["reason"]
            line("", f"{outlier['name']}, atom {outlier['atom']} ({outlier['element']}): {why}")
        if len(target["outlier_atoms"]) > SHOWN:
            line("", "... all of them with --json")
        if "gap" in target:
            line("composition", target["composition_gap"])
            screen.print(gap_table(target["gap"]))
            screen.print(motif_table(target["motifs"]))
    for note in found["notes"]:
        screen.print(f"  note: {note}", highlight=False, markup=False)
