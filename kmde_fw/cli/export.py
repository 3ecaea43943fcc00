"""kmde export: a model leaves the house."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.cli.models import Found, find_model
from kmde_fw.cli.options import LaunchpadFile
from kmde_fw.errors import InputError, StoreError


class Format(StrEnum):
    """What a model can be written as."""

    safetensors = "safetensors"
    ase = "ase"
    n2p2 = "n2p2"


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="a model file; a campaign; CAMPAIGN/CYCLE or CAMPAIGN/CYCLE/NUMBER; or a model's id or its beginning",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="file, or for other formats the folder, to write")
    ],
    model_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="safetensors: one file, for kmde_fw.hdnnp.HdnnpCalculator; ase: a folder for the same; "
            "n2p2: a folder, for n2p2 and LAMMPS' pair_style hdnnp",
        ),
    ] = Format.safetensors,
    cycle: Annotated[int | None, typer.Option(help="of which cycle; default: the last one that is closed")] = None,
    number: Annotated[
        int | None, typer.Option(min=1, help="which of the cycle's models, by the order of its seeds; default: 1")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite what is there")] = False,
    launchpad: LaunchpadFile = None,
) -> None:
    """Write a trained model for use elsewhere, with its coverage certificate (JSON, and a page for people)."""
    from kmde_fw.report.certificate import write_certificate

    if not force and output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise InputError(f"{output} exists already; give another --output, or --force to overwrite it")
    found = find_model(model, launchpad, cycle, number)
    try:
        lines = WRITERS[model_format](found, output)
        if found.certificate is not None:
            _, page = write_certificate(found.certificate, output)
            lines.append(f"its coverage certificate, for people: {page}")
        else:
            lines.append("without a coverage certificate: the model file has none beside it, only the database knows")
    except OSError as error:
        raise StoreError(f"cannot write {output}: {error.strerror}; give another --output") from None
    typer.echo(f"wrote {output}: {found.name}")
    for line in lines:
        typer.echo(line)


def _safetensors(found: Found, output: Path) -> list[str]:
    output.write_bytes(found.data)
    return []


def _ase(found: Found, output: Path) -> list[str]:
    from kmde_fw.files import write_folder
    from kmde_fw.hdnnp.calculator import MODEL_NAME

    write_folder(output, {MODEL_NAME: found.data, "README.txt": _ASE_README.format(folder="THIS FOLDER")})
    return ["in Python:", *_ASE_README.format(folder=output).splitlines()[-2:]]


_ASE_README = """\
A potential of kmde_fw for ASE: energy, forces, stress, energies per atom, and which atoms extrapolate.
certificate.html says what it was trained on and how far that reaches. After a run, atoms.calc.domain.report() says
what left it. In Python:

  from kmde_fw.hdnnp import HdnnpCalculator
  atoms.calc = HdnnpCalculator("{folder}")
"""


def _n2p2(found: Found, output: Path) -> list[str]:
    from kmde_fw.files import write_folder
    from kmde_fw.hdnnp.n2p2 import n2p2_files

    files = n2p2_files(found.model, found.name, str(output))
    write_folder(output, files)
    return [
        f"  {', '.join(files)}",
        f"  in a LAMMPS input with the package ML-HDNNP: include {output}/{list(files)[-1]}",
    ]


#: each writes a model to a path, and returns what the user should know, in lines; it may raise OSError
WRITERS: dict[Format, Callable[[Found, Path], list[str]]] = {
    Format.safetensors: _safetensors,
    Format.ase: _ase,
    Format.n2p2: _n2p2,
}
