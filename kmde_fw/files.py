"""Files that are written: folders at once, structures to the last digit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kmde_fw.records import Labelled, Structure


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


def extxyz_frame(frame: Labelled | Structure, info: Mapping[str, str]) -> str:
    """A structure in extended XYZ, with its label if it has one, to the last digit (ASE's own writer keeps 8 decimals).

    info: further entries of the comment line, as words or `quoted`.
    """
    if isinstance(frame, Labelled):
        structure, numbers = frame.structure, np.hstack([frame.structure.positions, frame.forces])
        label = f":forces:R:3 energy={float(frame.energy)!r}"
    else:
        structure, numbers, label = frame, frame.positions, ""
    cell = " ".join(repr(float(x)) for x in np.asarray(structure.cell).ravel())
    head = f'Lattice="{cell}" Properties=species:S:1:pos:R:3{label}'
    lines = [str(len(structure)), " ".join([head, *(f"{key}={value}" for key, value in info.items()), 'pbc="T T T"'])]
    for species, row in zip(structure.species, numbers, strict=True):
        lines.append(" ".join([species, *(repr(float(x)) for x in row)]))
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Any text as a value of the comment line."""
    return '"' + text.replace('"', "'") + '"'
