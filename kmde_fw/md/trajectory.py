"""Trajectories, read one frame at a time: extended XYZ, ASE's own, and LAMMPS dumps. Lengths in Å.

What is wrong with a file is one sentence that names file and frame; frames are counted from 1.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from ase.data import atomic_numbers

from kmde_fw.errors import InputError
from kmde_fw.inputs import check_counts, check_expansion, is_cell
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
    if not path.is_file():
        raise InputError(f"{path}: is no file but a device or a pipe; save it as one, it is read twice")
    try:
        check_expansion(path)
        with open_file(path, "rb") as file:
            if file.read(16).startswith(b"- of Ulm"):
                return "traj"
        with open_file(path) as file:
            lines = list(islice(file, _HEAD))
    except UnicodeDecodeError:
        lines = ["\0"]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
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


class _CutOffError(InputError):
    """A file ends within a frame, as that of a killed run does."""


def read_frames(
    path: Path,
    known: Sequence[str],
    types: Sequence[str] | None = None,
    cut_off: Callable[[str], None] | None = None,
) -> Iterator[Frame]:
    """The frames of a trajectory, in bounded memory.

    known: the elements of the model; types: the element of each LAMMPS type, for dumps that do not say it; cut_off: is
    given a sentence where the file ends within a frame, after all frames before it; without it that is an InputError.
    InputError for a frame that is foreign, without a cell, or with an element that the model does not know, and for a
    file with no whole frame.
    """
    kind = kind_of(path)
    if kind == "log":
        raise InputError(f"{path}: is a LAMMPS log, not a trajectory")
    frames = _dump_frames(path, types) if kind == "dump" else _ase_frames(path, kind)
    number = 0
    try:
        for number, (step, atoms) in enumerate(frames, start=1):
            frame = Frame(number, step, Structure.from_atoms(atoms))
            _check(path, frame, atoms.pbc, known)
            yield frame
    except _CutOffError:
        if not number or cut_off is None:
            raise
        whole = "the whole one before it is taken" if number == 1 else f"the {number} whole ones before it are taken"
        cut_off(f"{path} ends within frame {number + 1}; {whole}")
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
        if kind == "extxyz":
            check_counts(path)
        whole, is_cut = _whole_frames(path) if kind == "extxyz" else (None, False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for atoms in islice(ase.io.iread(str(path), index=":", format=kind), whole):
                done += 1
                steps = [atoms.info[key] for key in ("step", "timestep", "Step") if key in atoms.info]
                yield (int(steps[0]) if steps and isinstance(steps[0], int | np.integer) else None), atoms
    except InputError:
        raise
    except Exception as error:  # whatever a reader stumbles over in a foreign file
        text = " ".join(str(error).split()) or type(error).__name__
        after = f" after {done} good frames" if done else ""
        # where the places of the frames are, in a file of ASE's, comes first: there only their ends can be missing
        kind_of_error = _CutOffError if kind == "traj" else InputError
        raise kind_of_error(
            f"{path}: cannot be read as {kind}{after} ({text}); if the run was killed, cut the last frame off"
        ) from None
    if is_cut:
        raise _CutOffError(f"{path}: ends within frame {done + 1}; if the run was killed there, cut that frame off")


def _whole_frames(path: Path) -> tuple[int | None, bool]:
    """How many frames of an extended XYZ file are whole, and whether it ends within one more; (None, False) for none.

    A last line that does not end may lack digits: its frame is not whole.
    """
    whole = 0
    with open_file(path) as file:
        while (head := file.readline()).strip():
            if head.lstrip().startswith("VEC"):
                continue
            if not head.strip().isdigit():
                return None, False
            rows, end = 0, head
            for line in islice(file, int(head) + 1):  # comment and atoms
                rows, end = rows + 1, line
            if rows < int(head) + 1 or not end.endswith("\n"):
                return (whole, True) if whole else (None, False)
            whole += 1
    return whole, False


def _dump_frames(path: Path, types: Sequence[str] | None) -> Iterator[tuple[int | None, Any]]:
    from ase.io.lammpsrun import read_lammps_dump_text

    for number, (first, lines, is_last) in enumerate(_dump_blocks(path), start=1):
        where = f"{path}, frame {number}"
        step = _check_dump(where, first, lines, types, is_last)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                order = None if types is None else list(types)
                atoms = read_lammps_dump_text(io.StringIO("".join(lines)), index=0, specorder=order)
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{where}: cannot be read as a LAMMPS dump ({text}); write it with dump custom") from None
        yield step, atoms


def _dump_blocks(path: Path) -> Iterator[tuple[int, list[str], bool]]:
    """The number of each frame's first line, its lines, and whether it is the last one."""
    block: list[str] = []
    first = 1
    try:
        with open_file(path) as file:
            for number, line in enumerate(file, start=1):
                if line.startswith("ITEM: TIMESTEP") and block:
                    yield first, block, False
                    block, first = [], number
                block.append(line)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file; write the dump as text") from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if block:
        yield first, block, True


def _check_dump(where: str, first: int, lines: list[str], types: Sequence[str] | None, is_last: bool) -> int:
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
        raise (_CutOffError if is_last else InputError)(
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
