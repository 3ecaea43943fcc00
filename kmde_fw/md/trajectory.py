"""Trajectories, read one frame at a time: extended XYZ, ASE's own, and LAMMPS dumps. Lengths in Å.

What is wrong with a file is one sentence that names file and frame; frames are counted from 1.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from ase.data import atomic_numbers

from kmde_fw.errors import InputError
from kmde_fw.inputs import is_cell
from kmde_fw.records import Structure

Kind = Literal["extxyz", "traj", "dump", "log"]

#: lines of a file that are looked at to see what it is
_HEAD = 400
WARNING = "### NNP EXTRAPOLATION WARNING ###"
SUMMARY = "### NNP EW SUMMARY ###"


@dataclass(frozen=True)
class Frame:
    """One frame of a trajectory: its number, from 1; its time step where the file says it; the structure."""

    number: int
    step: int | None
    structure: Structure

    @property
    def where(self) -> str:
        """For people: "frame 3 (step 200)"."""
        return f"frame {self.number}" + ("" if self.step is None else f" (step {self.step})")


def kind_of(path: Path) -> Kind:
    """What a file is, by what is in it. InputError if it is none of those."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: a folder; name the trajectory in it")
    try:
        with open_file(path, "rb") as file:
            if file.read(16).startswith(b"- of Ulm"):
                return "traj"
        with open_file(path) as file:
            lines = list(islice(file, _HEAD))
    except UnicodeDecodeError:
        lines = ["\0"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not lines:
        raise InputError(f"{path}: is empty")
    if lines[0].startswith("ITEM:"):
        return "dump"
    if lines[0].startswith("LAMMPS (") or any(line.startswith((WARNING, SUMMARY)) for line in lines):
        return "log"
    if lines[0].strip().isdigit():
        return "extxyz"
    raise InputError(
        f"{path}: is neither extended XYZ, a trajectory of ASE, a LAMMPS dump (dump custom) nor a LAMMPS log; convert "
        "it to extended XYZ"
    )


def read_frames(path: Path, known: Sequence[str], types: Sequence[str] | None = None) -> Iterator[Frame]:
    """The frames of a trajectory, in bounded memory.

    known: the elements of the model; types: the element of each LAMMPS type, for dumps that do not say it. InputError
    for a frame that is truncated, foreign, without a cell, or with an element that the model does not know.
    """
    kind = kind_of(path)
    if kind == "log":
        raise InputError(f"{path}: is a LAMMPS log, not a trajectory")
    frames = _dump_frames(path, types) if kind == "dump" else _ase_frames(path, kind)
    number = 0
    for number, (step, atoms) in enumerate(frames, start=1):
        frame = Frame(number, step, Structure.from_atoms(atoms))
        _check(path, frame, atoms.pbc, known)
        yield frame
    if not number:
        raise InputError(f"{path}: has no frame in it")


def _check(path: Path, frame: Frame, pbc: Any, known: Sequence[str]) -> None:
    where, structure = f"{path}, {frame.where}", frame.structure
    if not len(structure):
        raise InputError(f"{where}: has no atoms")
    foreign = sorted(set(structure.species) - set(known))
    if foreign:
        nothing = [e for e in foreign if e == "X" or e not in atomic_numbers]
        what = f"atoms of no element ({', '.join(nothing)})" if nothing else ", ".join(foreign)
        raise InputError(f"{where}: has {what}, and the model knows {', '.join(known)} only; is it the right model?")
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        raise InputError(f"{where}: positions or cell are not finite numbers: the run has exploded; cut it off before")
    if not all(pbc) or not is_cell(structure):
        raise InputError(
            f"{where}: has no cell that is periodic in all three directions, which a campaign's target needs; write "
            'the trajectory with its cell (in extended XYZ: Lattice="..." and pbc="T T T")'
        )


def open_file(path: Path, mode: str = "r") -> IO[Any]:
    """A file, decompressed where its name says so (.gz, .bz2, .xz)."""
    from ase.io.formats import open_with_compression

    return open_with_compression(str(path), mode)


def _ase_frames(path: Path, kind: Kind) -> Iterator[tuple[int | None, Any]]:
    import ase.io

    done = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for atoms in ase.io.iread(str(path), index=":", format=kind):
                done += 1
                steps = [atoms.info[key] for key in ("step", "timestep", "Step") if key in atoms.info]
                yield (int(steps[0]) if steps and isinstance(steps[0], int | np.integer) else None), atoms
    except InputError:
        raise
    except Exception as error:  # whatever a reader stumbles over in a foreign file
        text = " ".join(str(error).split()) or type(error).__name__
        # the reader of extended XYZ goes through the whole file before it gives the first frame
        after = f" after {done} good frames" if done else ""
        raise InputError(
            f"{path}: cannot be read as {kind}{after} ({text}); if the run was killed, cut the last frame off"
        ) from None


def _dump_frames(path: Path, types: Sequence[str] | None) -> Iterator[tuple[int | None, Any]]:
    from ase.io.lammpsrun import read_lammps_dump_text

    for number, (first, lines) in enumerate(_dump_blocks(path), start=1):
        where = f"{path}, frame {number}"
        step = _check_dump(where, first, lines, types)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                order = None if types is None else list(types)
                atoms = read_lammps_dump_text(io.StringIO("".join(lines)), index=0, specorder=order)
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{where}: cannot be read as a LAMMPS dump ({text}); write it with dump custom") from None
        yield step, atoms


def _dump_blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of each frame, and the number of its first line."""
    block: list[str] = []
    first = 1
    try:
        with open_file(path) as file:
            for number, line in enumerate(file, start=1):
                if line.startswith("ITEM: TIMESTEP") and block:
                    yield first, block
                    block, first = [], number
                block.append(line)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file; write the dump as text") from None
    if block:
        yield first, block


def _check_dump(where: str, first: int, lines: list[str], types: Sequence[str] | None) -> int:
    """The time step of a frame. InputError unless it is whole, with cell, ids and elements."""
    heads = {line.split("ITEM:")[1].strip(): k for k, line in enumerate(lines) if line.startswith("ITEM:")}
    try:
        step = int(lines[heads["TIMESTEP"] + 1])
        n = int(lines[heads["NUMBER OF ATOMS"] + 1])
        names = next(head for head in heads if head.startswith("ATOMS"))
        rows = lines[heads[names] + 1 :]
        bounds = next(head for head in heads if head.startswith("BOX BOUNDS"))
    except (KeyError, IndexError, ValueError, StopIteration):
        rows, n, names, bounds, step = [], 1, "ATOMS", "", 0
    columns = names.split()[1:]
    if len(rows) != n or (rows and len(rows[-1].split()) < len(columns)) or not rows[-1].endswith("\n"):
        raise InputError(
            f"{where}: is incomplete, it begins in line {first} and ends after {len(lines)} lines; if the run was "
            f"killed there, cut it off (head -n {first - 1})"
        )
    if "id" not in columns:
        raise InputError(f"{where}: has no column id, and LAMMPS does not keep the order of atoms; dump id as well")
    if types is None and not {"element", "mass"} & set(columns):
        raise InputError(
            f"{where}: has types and no element names; give the element of each type in their order, such as "
            "--elements Al,Fe,Pt (or dump the column element)"
        )
    if types is not None and "type" in columns and not {"element", "mass"} & set(columns):
        place = columns.index("type")
        most = max(int(row.split()[place]) for row in rows)
        if most > len(types):
            raise InputError(f"{where}: has {most} types, and --elements names {len(types)}; name the element of each")
    if bounds.split()[-3:] != ["pp", "pp", "pp"]:
        raise InputError(
            f"{where}: its cell is not periodic in all three directions ({' '.join(bounds.split()[2:]) or 'not said'}),"
            " which a campaign's target needs"
        )
    return step
