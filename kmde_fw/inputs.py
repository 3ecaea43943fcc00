"""Structure files, read into records and checked; every mistake becomes one line that names file, entry and remedy.

Entries of a file and atoms of an entry are counted from 1. A structure is named by `label` or `name` of its extxyz
comment line, else by its file. The same structure twice counts once; with two different labels it is a mistake.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import xml.etree.ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.data import atomic_numbers

from kmde_fw.errors import InputError
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Labelled, Structure
from kmde_fw.units import radius_sums

Paths = Path | str | Sequence[Path | str]

#: file name (without .gz, .bz2, .xz) -> ASE's name of the format; the first match counts
FORMATS = (
    (re.compile(r".*\.(ext)?xyz$", re.I), "extxyz"),
    (re.compile(r".*vasprun.*\.xml$", re.I), "vasp-xml"),
    (re.compile(r".*OUTCAR.*"), "vasp-out"),
    (re.compile(r".*\.cif$", re.I), "cif"),
    (re.compile(r".*(POSCAR|CONTCAR).*|.*\.(vasp|poscar)$"), "vasp"),
)
#: Å; the neighbour search divides by zero, which ends the process, where a damaged lattice vector is very long
MAX_LENGTH = 1e3
#: a compressed file that becomes so many times longer was made to fill the memory; one that stays so short may (bytes)
MAX_EXPANSION, SHORT_FILE = 200, 1 << 24
LABELLED_FORMATS = ("extxyz", "vasp-xml", "vasp-out")

#: what `kmde import` without a campaign tells of a run
VASP_RUN = frozenset({"source", "incar", "parameters", "titels", "grid"})
#: atoms closer than this (Å), or than this fraction of the sum of their covalent radii, lie on top of each other
OVERLAP_DISTANCE = 0.5
OVERLAP_FRACTION = 0.4
#: Å³ per atom; the densest element under normal pressure (diamond) has 5.7
MIN_VOLUME = 1.0
#: eV by which a change of two energies of vasprun.xml can be wrong: they have eight decimals
EDIFF_DIGITS = 2e-8
#: |det| of the cell's unit vectors; below, they lie in a plane
MIN_SKEW = 1e-3
#: two labels of one structure agree when they differ by less (eV per atom)
SAME_ENERGY = 1e-6
MAX_MISTAKES = 10


@dataclass(frozen=True)
class _Entry:
    """One structure of a file: where it stands, what it is, and what was wrong with it."""

    path: Path
    number: int
    structure: Structure
    label: Labelled | None
    mistakes: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.path}, entry {self.number} ({self.structure.name})"


def read_labelled(paths: Paths, elements: Sequence[str] | None = None) -> list[Labelled]:
    """Structures with energy and forces: extxyz, vasprun.xml or OUTCAR, one path or several; every ionic step.

    elements: the only ones allowed; None: any. Energies are those that match the forces (`free_energy` where the
    file has it: VASP's e_fr). The forces are the raw ones, constraints of the file (selective dynamics) not applied.
    Raises InputError with one line per mistake.
    """
    entries = _read(paths, elements, need_label=True)
    return [entry.label for entry in entries if entry.label is not None]


def read_target(paths: Paths, elements: Sequence[str] | None = None) -> list[tuple[Structure, Labelled | None]]:
    """Structures with their labels where the file has both energy and forces, else None; any known format.

    Raises InputError with one line per mistake; an energy or forces that are there but unusable are mistakes.
    """
    return [(entry.structure, entry.label) for entry in _read(paths, elements, need_label=False)]


def read_structures(paths: Paths, elements: Sequence[str] | None = None) -> list[Structure]:
    """Structures alone: extxyz, POSCAR/CONTCAR, CIF, vasprun.xml or OUTCAR. Raises InputError."""
    return [entry.structure for entry in _read(paths, elements, need_label=False)]


def find_elements(structures: Sequence[Structure]) -> tuple[str, ...]:
    """Elements that occur, alphabetical."""
    return tuple(sorted({symbol for structure in structures for symbol in structure.species}))


def _read(paths: Paths, elements: Sequence[str] | None, need_label: bool) -> list[_Entry]:
    """Every entry of every file, checked; raises one InputError for all mistakes together."""
    entries: list[_Entry] = []
    mistakes: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            for number, atoms in enumerate(_read_file(Path(path), need_label), start=1):
                entries.append(_check(Path(path), number, atoms, elements, need_label))
        except InputError as error:
            mistakes.append(str(error))
    mistakes = [f"{entry.where}: {mistake}" for entry in entries for mistake in entry.mistakes] + mistakes
    unique = _merge_duplicates(entries, mistakes)
    if mistakes:
        lines = mistakes[:MAX_MISTAKES]
        if len(mistakes) > MAX_MISTAKES:
            lines.append(f"... and {len(mistakes) - MAX_MISTAKES} more mistakes")
        raise InputError("\n".join(lines))
    return unique


def _format(path: Path) -> str | None:
    """ASE's name of a file's format, by the file's name; None for one that is not known."""
    name = re.sub(r"\.(gz|bz2|xz)$", "", path.name)
    return next((known for pattern, known in FORMATS if pattern.match(name)), None)


def _read_file(path: Path, need_label: bool) -> list[Any]:
    """All frames of a file as ase.Atoms. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such file; paths in a campaign file are relative to the folder that it is in")
    if path.is_dir():
        raise InputError(f"{path}: a folder; name the file in it")
    file_format = _format(path)
    if file_format is None:
        raise InputError(
            f"{path}: unknown kind of file; structures are read from *.extxyz, *.cif, POSCAR, CONTCAR, vasprun*.xml "
            "and OUTCAR, so rename or convert it"
        )
    if need_label and file_format not in LABELLED_FORMATS:
        raise InputError(
            f"{path}: has no energies and forces; train structures come from *.extxyz, vasprun*.xml or OUTCAR"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; put at least one structure in it")
    frames = []
    try:
        # readers warn and print about what is checked here anyway
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            check_expansion(path)
            if file_format == "extxyz":
                check_counts(path)
            elif file_format == "vasp":
                _check_poscar(path)
            for atoms in ase.io.iread(str(path), index=":", format=file_format):
                frames.append(atoms)
            converged = _converged_steps(path, file_format)
    except Exception as error:  # whatever a reader stumbles over in a foreign file
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as {file_format} after {len(frames)} good entries ({text}); "
            "check that the file is complete and what its name says"
        ) from None
    if not frames:
        raise InputError(f"{path}: has no structure in it; put at least one there")
    for atoms, good in zip(frames, converged, strict=False):
        atoms.info["_converged"] = good
    return frames


def check_expansion(path: Path) -> None:
    """ValueError for a compressed file that is a thousand times longer than it looks; others are not read."""
    if path.suffix not in (".gz", ".bz2", ".xz"):
        return
    length, limit = 0, max(SHORT_FILE, MAX_EXPANSION * path.stat().st_size)
    with ase.io.formats.open_with_compression(str(path), "rb") as file:
        while piece := file.read(1 << 20):
            length += len(piece)
            if length > limit:
                raise ValueError(f"it becomes more than {limit >> 20} MiB when it is decompressed")


def _check_poscar(path: Path) -> None:
    """ValueError where a POSCAR says that it has more atoms than lines: ASE's reader makes room for them first."""
    with ase.io.formats.open_with_compression(str(path), "r") as file:
        lines = list(file)
    for line in lines[5:7]:
        counts = [word for word in line.split() if word.isdecimal()]
        if any(len(count) > 9 for count in counts) or sum(map(int, counts)) > len(lines):
            raise ValueError(f"it says that it has {' '.join(counts)[:40]} atoms, and has {len(lines)} lines")


def check_counts(path: Path) -> None:
    """ValueError where a frame of an extended XYZ file says that it has more atoms or columns than can be in the file.

    ASE's reader counts to these numbers before it looks for the data, which takes for ever where one is damaged.
    """
    with ase.io.formats.open_with_compression(str(path), "r") as file:
        lengths = [len(line) for line in file]
    n_lines, longest = len(lengths), max(lengths, default=0)
    with ase.io.formats.open_with_compression(str(path), "r") as file:
        while (head := file.readline()).strip():
            try:
                n_atoms = int(head)
            except ValueError:
                if head.lstrip().startswith("VEC"):
                    continue
                return  # the reader says what it expected there
            if n_atoms > n_lines:
                raise ValueError(
                    f"a frame says that it has {head.strip()[:25]} atoms, and the file has {n_lines} lines"
                )
            columns = re.search(r"properties\s*=\s*(\"[^\"]*\"|\S+)", file.readline(), re.I)
            for number in re.findall(r"\d+", columns[1] if columns else ""):
                if len(number) > 9 or int(number) > longest:
                    raise ValueError(f"a frame says that it has {number[:25]} columns, more than a line can have")
            for _ in range(n_atoms):
                file.readline()


def _converged_steps(path: Path, file_format: str) -> list[bool]:
    """For each ionic step of a VASP run: did the electronic loop end by itself? Empty for other formats.

    One that was stopped (STOPCAR, wall time) has fewer steps than NELM, too, but a last change above EDIFF.
    """
    if file_format == "vasp-out":
        with ase.io.formats.open_with_compression(str(path), "r") as file:
            return ["EDIFF is reached" in line for line in file if "aborting loop" in line]
    if file_format != "vasp-xml":
        return []
    converged, nelm, ediff = [], None, np.inf
    with (
        contextlib.suppress(xml.etree.ElementTree.ParseError),  # the run was killed: its finished steps count
        ase.io.formats.open_with_compression(str(path), "rb") as file,
    ):
        for _, element in xml.etree.ElementTree.iterparse(file):
            if element.tag == "i" and element.get("name") == "NELM":
                nelm = int(element.text or 0)
            elif element.tag == "i" and element.get("name") == "EDIFF":
                ediff = abs(float(element.text or 0)) + EDIFF_DIGITS
            elif element.tag == "calculation":
                enough = nelm is None or len(element.findall("scstep")) < nelm
                converged.append(enough and _last_change(element) <= ediff)
                element.clear()
    return converged


def _last_change(calculation: xml.etree.ElementTree.Element) -> float:
    """The last electronic step's change of the free energy in a `calculation` of vasprun.xml, eV; 0 for one step."""
    energies = [
        float(i.text or "nan")
        for step in calculation.findall("scstep")
        for i in step.iterfind("energy/i[@name='e_fr_energy']")
    ]
    return abs(energies[-1] - energies[-2]) if len(energies) > 1 else 0.0


def _check(path: Path, number: int, atoms: Any, elements: Sequence[str] | None, need_label: bool) -> _Entry:
    """One frame as a record, with everything that is wrong with it."""
    name = str(atoms.info.get("label") or atoms.info.get("name") or f"{path.stem} {number}")
    structure = Structure.from_atoms(atoms, name)
    mistakes = list(_structure_mistakes(structure, atoms, elements))
    energy = _label_value(atoms, "free_energy", "energy")
    forces = _label_value(atoms, "forces")
    label = None
    if energy is None or forces is None:
        if need_label:
            lacking = " and ".join(n for n, v in (("energy", energy), ("forces", forces)) if v is None)
            mistakes.append(f"has no {lacking}; label it with the reference or take it out of the train set")
    else:
        wrong = list(_label_mistakes(structure, energy, forces, atoms.info.get("_converged", True)))
        mistakes += wrong
        if not wrong:
            label = Labelled(
                structure,
                float(energy),
                np.array(forces, dtype=float),
                _voigt(_label_value(atoms, "stress")),
                level_key=str(atoms.info.get("level_key", "")),
                vasp=_vasp_run(path, atoms),
            )
    return _Entry(path, number, structure, label, tuple(mistakes))


def _vasp_run(path: Path, atoms: Any) -> dict[str, Any]:
    """See `Labelled.vasp`."""
    if _format(path) in ("vasp-xml", "vasp-out"):
        return {"file": str(path)}
    told = atoms.info.get("vasp_run")
    return told if isinstance(told, dict) and told.keys() >= VASP_RUN else {}


def _label_value(atoms: Any, *names: str) -> Any:
    """The first of these properties that the frame has: among the calculator's results, else in info or arrays."""
    for name in names:
        for place in (atoms.calc.results if atoms.calc is not None else {}, atoms.info, atoms.arrays):
            if place.get(name) is not None:
                return place[name]
    return None


def _voigt(stress: Any) -> np.ndarray | None:
    """A stress as (6,), from (6,), (9,) or (3, 3); None if it is not one (it is never needed)."""
    try:
        values = np.asarray(stress, dtype=float)
    except (TypeError, ValueError):
        return None
    if values.size == 9:
        s = values.reshape(3, 3)
        values = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
    return values if values.shape == (6,) and np.isfinite(values).all() else None


def _structure_mistakes(structure: Structure, atoms: Any, elements: Sequence[str] | None) -> Iterator[str]:
    if len(structure) == 0:
        yield "has no atoms; take it out"
        return
    unknown = sorted({s for s in structure.species if s == "X" or s not in atomic_numbers})
    if unknown:
        yield f"has atoms of no element ({', '.join(unknown)}); give every atom its chemical symbol"
    elif elements is not None:
        foreign = sorted(set(structure.species) - set(elements))
        if foreign:
            yield (
                f"contains {', '.join(foreign)}, but the campaign's elements are {', '.join(elements)}; "
                "name it in `elements` or take the structure out"
            )
    occupancies = [o for site in (atoms.info.get("occupancy") or {}).values() for o in site.values()]
    if any(abs(o - 1) > 1e-6 for o in occupancies):
        yield "has partially occupied sites; make an ordered cell of it"
    finite = np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()
    if not finite:
        yield "has positions or a cell that are not finite numbers (NaN or inf); take it out or repair it"
        return
    if not all(atoms.pbc) or not is_cell(structure):
        yield (
            "is not a crystal: it needs three lattice vectors that span a volume, periodic in all three "
            'directions (in extxyz: Lattice="..." and pbc="T T T")'
        )
    elif not unknown:
        yield from overlaps(structure)


def is_cell(structure: Structure) -> bool:
    """Whether the lattice vectors span a volume that atoms fit into."""
    lengths = np.linalg.norm(structure.cell, axis=1)
    if lengths.max() > MAX_LENGTH:
        return False
    if structure.volume < MIN_VOLUME * len(structure):
        return False
    return structure.volume > MIN_SKEW * float(np.prod(lengths))


def overlaps(structure: Structure) -> Iterator[str]:
    """A sentence if two atoms lie on top of each other."""
    elements = find_elements([structure])
    limits = np.maximum(OVERLAP_DISTANCE, OVERLAP_FRACTION * radius_sums(elements))
    pairs = find_neighbours(structure, float(limits.max()))
    kind = structure.species_index(elements)
    excess = pairs.distances - limits[kind[pairs.centre], kind[pairs.neighbour]]
    if len(excess) and excess.min() < 0:
        worst = int(np.argmin(excess))
        i, j = sorted((int(pairs.centre[worst]), int(pairs.neighbour[worst])))
        other = "its own periodic image" if i == j else f"atom {j + 1} ({structure.species[j]})"
        yield (
            f"atom {i + 1} ({structure.species[i]}) lies on top of {other}, {pairs.distances[worst]:.3f} Å away; "
            "check positions, units and cell"
        )


def _label_mistakes(structure: Structure, energy: Any, forces: Any, converged: bool) -> Iterator[str]:
    if not converged:
        yield (
            "its electronic loop did not converge (NELM steps, or stopped before EDIFF was reached); "
            "calculate it again or take it out"
        )
    try:
        values = np.asarray(energy, dtype=float)
        number = values.ndim == 0 and not isinstance(energy, bool | np.bool_)
    except (TypeError, ValueError):
        number = False
    if not number:
        yield f"its energy is not a number ({energy!r}); write it in eV for the whole cell"
    elif not np.isfinite(values):
        yield "its energy is not a finite number (NaN or inf); label it again or take it out"
    shape = np.shape(forces)
    if shape != (len(structure), 3):
        yield f"its forces have shape {shape} instead of ({len(structure)}, 3); write three components per atom (eV/Å)"
    elif not np.isfinite(np.asarray(forces, dtype=float)).all():
        bad = int(np.flatnonzero(~np.isfinite(np.asarray(forces, dtype=float)).all(axis=1))[0])
        yield (
            f"the force on atom {bad + 1} ({structure.species[bad]}) is not a finite number (NaN or inf); "
            "label it again or take it out"
        )


def _merge_duplicates(entries: list[_Entry], mistakes: list[str]) -> list[_Entry]:
    """Each structure once, in order; two different energies of one structure are added to the mistakes."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        if entry.mistakes:
            continue
        same = first.setdefault(entry.structure.id, entry)
        if same is entry or entry.label is None:
            continue
        if same.label is None:
            first[entry.structure.id] = replace(same, label=entry.label)
        elif abs(entry.label.energy - same.label.energy) > SAME_ENERGY * len(entry.structure):
            mistakes.append(
                f"{entry.where}: is the same structure as {same.where} with another energy "
                f"({entry.label.energy:.6f} and {same.label.energy:.6f} eV); keep the one of your reference"
            )
    return list(first.values())
