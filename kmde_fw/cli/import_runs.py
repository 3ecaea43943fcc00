"""kmde import: VASP results that are already there, as a train set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import Json
from kmde_fw.errors import ConfigError, InputError

if TYPE_CHECKING:
    from kmde_fw.reference.vasp import VaspEngine
    from kmde_fw.reference.vasp.imports import Imported


def import_runs(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="RUNDIR...", help="run directories of single points, or their vasprun.xml or OUTCAR"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz file to write, for `train:` of a campaign")],
    campaign: Annotated[
        Path | None,
        typer.Option(
            "--for", metavar="CAMPAIGN.yaml", help="compare with what this campaign (engine: vasp) asks VASP for"
        ),
    ] = None,
    allow: Annotated[
        str, typer.Option(help="INCAR tags (or KPOINTS) that may differ from the campaign's, separated by commas")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check finished VASP single points (vasprun.xml or OUTCAR) and write the good ones as a labelled extxyz file."""
    from kmde_fw.reference.vasp.imports import common_key, import_run, one_level

    engine, elements = _reference(campaign) if campaign else (None, None)
    tags = [tag.strip() for tag in allow.split(",") if tag.strip()]
    if tags and engine is None:
        raise ConfigError("--allow compares with a campaign: give it with --for CAMPAIGN.yaml")
    found = [import_run(directory, elements, engine, tags) for directory in directories]
    good = [entry for entry in found if entry.label is not None]
    mixed = one_level(good) if engine is None else []
    if mixed:
        raise InputError(
            "\n".join(["these runs are of different levels of theory, which never mix in one train set:", *mixed])
        )
    key = ""
    if good:
        key = common_key(good) if engine is None else engine.level_key
        _write(good, key, output)
    facts = {
        "written": str(output) if good else None,
        "level_key": key or None,
        "runs": [
            {"directory": str(e.directory), "accepted": e.label is not None, "reason": e.reason, "notes": list(e.notes)}
            for e in found
        ],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _show(facts, len(good), output)
    if not good:
        raise InputError(f"none of {len(found)} runs can be used; {output} was not written")


def _reference(campaign: Path) -> tuple[VaspEngine, tuple[str, ...]]:
    """The engine of a campaign file, and its elements."""
    from kmde_fw.config import VaspReference, load_campaign
    from kmde_fw.reference.vasp import VaspEngine

    settings = load_campaign(campaign)
    if not isinstance(settings.reference, VaspReference):
        raise ConfigError(f"{campaign}: its reference is {settings.reference.engine!r}; --for takes one with vasp")
    if settings.elements is None:
        raise ConfigError(f"{campaign}: name its `elements`: its level of theory is that of all their POTCARs")
    engine = VaspEngine(settings.reference, settings.elements, {})
    _ = engine.level
    return engine, settings.elements


def _write(good: list[Imported], key: str, output: Path) -> None:
    """The whole file at once, so that an interruption leaves the old or the new one."""
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for entry in good:
        assert entry.label is not None
        atoms = entry.label.structure.to_atoms()
        place = entry.directory.resolve()
        atoms.info = {"label": (place.parent if place.is_file() else place).name, "level_key": key}
        if entry.label.vasp:
            atoms.info["vasp_run"] = entry.label.vasp
        results: dict[str, Any] = {"energy": entry.label.energy, "forces": entry.label.forces}
        if entry.label.stress is not None:
            results["stress"] = entry.label.stress
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    partial = output.with_name(output.name + ".partial")
    try:
        ase.io.write(partial, frames, format="extxyz")
        os.replace(partial, output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}; give another --output") from None


def _show(facts: dict[str, Any], n_good: int, output: Path) -> None:
    for run in facts["runs"]:
        if not run["accepted"]:
            typer.echo(f"refused: {run['directory']}: {run['reason']}")
    for note in dict.fromkeys(note for run in facts["runs"] for note in run["notes"]):
        typer.echo(f"note: {note}")
    if n_good:
        typer.echo(
            f"{n_good} of {len(facts['runs'])} runs written to {output}, level of theory {facts['level_key'][:12]}"
        )
