"""What a reference calculation costs, relative to others: plane-wave DFT takes about the cube of the electrons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers

#: atomic numbers of the noble gases: their electrons are the cores of the elements after them
_CORES = (0, 2, 10, 18, 36, 54, 86)


def valence_electrons(element: str) -> int:
    """Electrons outside the noble gas core, less a filled d shell in groups 13 to 18 and a filled f shell after Lu.

    Al 3, Si 4, Fe 8, Pt 10, Cu 11, Au 11, Zn 12, Ga 3: those of the PBE pseudopotentials that treat no semicore
    states. One with semicore states (Ti_sv, Ga_d) has more; where its ZVAL is known, use that instead. KeyError for a
    symbol that is no element.
    """
    number = atomic_numbers[element]
    if number == 0:
        raise KeyError(element)
    core = max(core for core in _CORES if core < number)
    outside = number - core
    if core < 54:
        return outside - 10 if outside > 12 else outside  # the filled 3d or 4d shell
    if outside > 26:
        return outside - 24  # the filled 4f and 5d shells
    return outside - 14 if outside > 17 else outside  # the filled 4f shell


def electrons(species: Iterable[str], valence: Mapping[str, float] | None = None) -> float:
    """Valence electrons of a cell. valence: those of each element where they are known, such as ZVAL of a POTCAR."""
    known = valence or {}
    return float(sum(known[s] if s in known else valence_electrons(s) for s in species))


def relative_cost(
    cells: Iterable[Sequence[str]], unit: Sequence[Sequence[str]], valence: Mapping[str, float] | None = None
) -> float:
    """Σ electrons³ over cells (symbols of each), in units of one train cell: the mean of electrons³ over `unit`.

    k-points, which a small cell needs more of, are not counted: it makes small cells a little too cheap. Raises
    ValueError for an empty `unit`.
    """
    return sum(electrons(cell, valence) ** 3 for cell in cells) / _one(unit, valence)


def costs(counts: np.ndarray, elements: Sequence[str], unit: Sequence[Sequence[str]]) -> np.ndarray:
    """`relative_cost` of each cell by itself, (n,), from its atoms per element, counts (n, n_elements)."""
    valence = np.array([valence_electrons(element) for element in elements], dtype=float)
    return np.asarray((counts @ valence) ** 3 / _one(unit, None))


def _one(unit: Sequence[Sequence[str]], valence: Mapping[str, float] | None) -> float:
    """The mean of electrons³ over the train cells."""
    if not unit:
        raise ValueError("no train cell to measure costs by")
    return sum(electrons(cell, valence) ** 3 for cell in unit) / len(unit)
