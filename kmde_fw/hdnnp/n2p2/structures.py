"""input.data: the structures, energies and forces that n2p2 and RuNNer train on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from kmde_fw.errors import InputError
from kmde_fw.hdnnp.n2p2.units import Units
from kmde_fw.records import Labelled, Structure

#: words of an `atom` line: position, element, charge, energy of the atom, force
ATOM_WORDS = 10


def read_input_data(path: Path, units: Units, elements: Sequence[str]) -> Iterator[Labelled]:
    """The structures of an input.data, one at a time, in Å and eV. Raises InputError, a sentence with the line.

    elements: those of the potential. Charges are not read. Structures without a lattice are refused.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from _blocks(path, file, units, frozenset(elements))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _blocks(path: Path, lines: Iterator[str], units: Units, elements: frozenset[str]) -> Iterator[Labelled]:
    block: _Block | None = None
    count = number = 0
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, line {number}"
        if block is None:
            if words[0] != "begin":
                raise InputError(
                    f"{where}: {words[0]!r} where `begin` should be; this is not an input.data of n2p2 or RuNNer"
                )
            count += 1
            block = _Block(f"{path}, structure {count} (from line {number})", count)
            continue
        if words[0] == "begin":
            raise InputError(f"{block.where} has no `end` before the next `begin`; is a part of the file missing?")
        if words[0] == "end":
            yield block.labelled(units)
            block = None
            continue
        block.add(where, line, words, elements)
    if block is not None:
        raise InputError(f"{block.where} has no `end`: the file is cut off; copy it again")
    if not count:
        raise InputError(f"{path}: has no structure in it")


class _Block:
    """What stands between `begin` and `end`."""

    def __init__(self, where: str, number: int) -> None:
        self.where, self.name = where, f"input.data {number}"
        self.lattice: list[list[float]] = []
        self.species: list[str] = []
        self.atoms: list[list[float]] = []
        self.energy: float | None = None

    def add(self, where: str, line: str, words: list[str], elements: frozenset[str]) -> None:
        key, values = words[0], words[1:]
        if key == "comment":
            text = re.sub(r"[^\w.+/=-]+", " ", line.strip()[len("comment") :]).strip()
            self.name = text or self.name
        elif key == "lattice":
            self.lattice.append(_numbers(where, values, 3))
        elif key == "atom":
            if len(words) < ATOM_WORDS:
                raise InputError(
                    f"{where}: an `atom` line has {ATOM_WORDS - 1} values (position, element, charge, energy, force), "
                    f"this has {len(values)}"
                )
            element = values[3]
            if element not in elements:
                known = element in atomic_numbers
                raise InputError(
                    f"{where}: {element} is {'not an element of the potential' if known else 'no chemical element'}, "
                    f"which is for {', '.join(sorted(elements))}"
                )
            self.species.append(element)
            self.atoms.append(_numbers(where, values[:3] + values[6:9], 6))
        elif key == "energy":
            (self.energy,) = _numbers(where, values[:1], 1)
        elif key != "charge":
            raise InputError(f"{where}: {key!r} is no word of an input.data")

    def labelled(self, units: Units) -> Labelled:
        if not self.atoms:
            raise InputError(f"{self.where} has no atoms")
        if self.energy is None:
            raise InputError(f"{self.where} has no `energy`")
        if len(self.lattice) != 3:
            raise InputError(
                f"{self.where} has {len(self.lattice) or 'no'} `lattice` lines instead of three; kmde_fw is for "
                "crystals: put a molecule into a cell with vacuum around it"
            )
        atoms = np.array(self.atoms)
        structure = Structure(
            tuple(self.species), np.array(self.lattice) * units.angstrom, atoms[:, :3] * units.angstrom, self.name
        )
        return Labelled(structure, self.energy * units.ev, atoms[:, 3:] * units.ev / units.angstrom)


def _numbers(where: str, words: Sequence[str], n: int) -> list[float]:
    """n numbers, D exponents of Fortran allowed. Raises InputError."""
    try:
        numbers = [float(word.replace("D", "E").replace("d", "e")) for word in words[:n]]
    except ValueError as error:
        raise InputError(
            f"{where}: {str(error).removeprefix('could not convert string to float: ')} is no number"
        ) from None
    if len(numbers) < n:
        raise InputError(f"{where}: {n} numbers should be here, there are {len(numbers)}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: a value is not a finite number")
    return numbers
