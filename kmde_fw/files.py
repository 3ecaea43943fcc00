"""Files that are written: folders at once, structures to the last digit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kmde_fw.records import Labelled


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, name -> text or bytes, into a folder, which is made if it is not there. OSError if that fails.

    First all of them beside it, then each in its place: an error while writing leaves the folder as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (Path(place) / name).write_bytes(data)
        folder.mkdir(exist_ok=True)
        for name in files:
            os.replace(Path(place) / name, folder / name)


def extxyz_frame(labelled: Labelled, info: Mapping[str, str]) -> str:
    """A labelled structure in extended XYZ, its numbers to the last digit (ASE's own writer keeps 8 decimals).

    info: further entries of the comment line, as words or quoted.
    """
    structure = labelled.structure
    cell = " ".join(repr(float(x)) for x in np.asarray(structure.cell).ravel())
    head = f'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 energy={float(labelled.energy)!r}'
    lines = [str(len(structure)), " ".join([head, *(f"{key}={value}" for key, value in info.items()), 'pbc="T T T"'])]
    for species, position, force in zip(structure.species, structure.positions, labelled.forces, strict=True):
        lines.append(" ".join([species, *(repr(float(x)) for x in (*position, *force))]))
    return "\n".join(lines) + "\n"
