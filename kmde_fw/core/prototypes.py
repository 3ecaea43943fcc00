"""Crystals to decorate: the thirteen prototypes, known parents, and every way to put elements on their sites.

METHOD section 3. Symmetry comes from ase.spacegroup (prototypes) and spglib (parents).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from itertools import product
from math import prod

import numpy as np

from kmde_fw.errors import InputError
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure
from kmde_fw.units import radius_sums

#: c/a of close-packed spheres, for hcp and C14
IDEAL = (8 / 3) ** 0.5

#: space group; (a, c) of its conventional cell for a lattice constant of 1; one fractional position per orbit.
#: L1_0 is given by the cubic cell that it is an ordering of (ideal c/a), so that its a compares with that of fcc.
#: C14: MgZn2 with touching spheres. sigma: the Cr-Fe phase, Bergman and Shoemaker, Acta Cryst. 7, 857 (1954).
_WYCKOFF: dict[str, tuple[int, tuple[float, float], tuple[tuple[float, float, float], ...]]] = {
    "fcc": (225, (1, 1), ((0, 0, 0),)),
    "bcc": (229, (1, 1), ((0, 0, 0),)),
    "hcp": (194, (1, IDEAL), ((1 / 3, 2 / 3, 1 / 4),)),
    "diamond": (227, (1, 1), ((0, 0, 0),)),
    "rocksalt": (225, (1, 1), ((0, 0, 0), (1 / 2, 1 / 2, 1 / 2))),
    "cscl": (221, (1, 1), ((0, 0, 0), (1 / 2, 1 / 2, 1 / 2))),
    "zincblende": (216, (1, 1), ((0, 0, 0), (1 / 4, 1 / 4, 1 / 4))),
    "L1_2": (221, (1, 1), ((0, 0, 0), (0, 1 / 2, 1 / 2))),
    "L1_0": (123, (0.5**0.5, 1), ((0, 0, 0), (1 / 2, 1 / 2, 1 / 2))),
    "heusler": (225, (1, 1), ((1 / 4, 1 / 4, 1 / 4), (0, 0, 0), (1 / 2, 1 / 2, 1 / 2))),
    "half_heusler": (216, (1, 1), ((0, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 4, 1 / 4, 1 / 4))),
    "C14": (194, (1, IDEAL), ((1 / 3, 2 / 3, 1 / 16), (0, 0, 0), (5 / 6, 2 / 3, 1 / 4))),
    "sigma": (
        136,
        (1, 0.518),
        ((0, 0, 0), (0.3986, 0.3986, 0), (0.4635, 0.1312, 0), (0.7399, 0.0661, 0), (0.1827, 0.1827, 0.2519)),
    ),
}

#: two decorated crystals are one when their neighbour shells agree up to this distance, at 1 Å³ per atom, in Å
_FINGERPRINT_RADIUS = 2.5
_FINGERPRINT_DECIMALS = 3
#: atoms of a parent that symmetry maps onto each other within this many Å are equivalent; relaxed cells are this exact
SYMMETRY_TOLERANCE = 0.01
#: a primitive cell is repeated at most so often along a lattice vector
MAX_CELLS = 4
#: so many atoms of a parent are also replaced together, in MULTIPLE random choices of each number and element
TOGETHER = (2, 3, 4)
MULTIPLE = 16
#: ... none of them closer than this, in Å: dopants rarely are neighbours
MIN_DOPANT_DISTANCE = 2.4


@dataclass(frozen=True, eq=False)
class Prototype:
    """A crystal without elements: primitive cell for a lattice constant of 1 Å.

    cell: (3, 3) rows in Å; positions: (n, 3) Cartesian; orbits: (n,) number of the orbit that each atom belongs to.
    The axes x, y, z are those of the conventional cell (hexagonal: x along a, z along c).
    """

    name: str
    cell: np.ndarray
    positions: np.ndarray
    orbits: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.orbits)

    @property
    def n_orbits(self) -> int:
        """Sets of symmetry-equivalent atoms, each decorated with one element."""
        return max(self.orbits) + 1


@dataclass(frozen=True)
class Family:
    """A crystal with elements on its sites; its size and distortion are still to be chosen.

    crystal: a name of config.PROTOTYPES, or what people call the parent. assignment: one element per orbit of a
    prototype. parent: id of the structure that a parent family comes from; cells: its primitive cell is repeated so
    often along each lattice vector; substitutions: (atom of that cell, new element) of each atom that is replaced, none
    for the parent as it is.
    """

    crystal: str
    assignment: tuple[str, ...] = ()
    parent: str | None = None
    substitutions: tuple[tuple[int, str], ...] = ()
    cells: tuple[int, int, int] = (1, 1, 1)


@cache
def prototype(name: str) -> Prototype:
    """The prototype of that name, one of config.PROTOTYPES."""
    from ase.spacegroup import crystal

    spacegroup, (a, c), basis = _WYCKOFF[name]
    hexagonal = 168 <= spacegroup <= 194
    # a symbol per orbit, to know the orbits again in the primitive cell
    marks = ["H", "He", "Li", "Be", "B"][: len(basis)]
    cellpar = [a, a, c, 90, 90, 120 if hexagonal else 90]
    atoms = crystal(marks, basis, spacegroup=spacegroup, cellpar=cellpar, primitive_cell=True)
    orbits = tuple(marks.index(symbol) for symbol in atoms.get_chemical_symbols())
    return Prototype(name, atoms.cell.array.copy(), atoms.get_positions(), orbits)


@lru_cache(maxsize=64)
def families(names: tuple[str, ...], elements: tuple[str, ...]) -> tuple[Family, ...]:
    """Every decoration of these prototypes with these elements, no crystal twice.

    All assignments of elements to orbits, those with a single element included. A decoration that is one listed
    before up to size, orientation and choice of the cell (L1_2 with one element is fcc) is left out.
    """
    seen = set()
    found = []
    for name in names:
        shells = _shells(name)
        orbits = prototype(name).orbits
        shares = [Fraction(orbits.count(k), len(orbits)) for k in range(len(shells))]
        for assignment in product(elements, repeat=len(shells)):
            fingerprint = _fingerprint(shells, shares, assignment)
            if fingerprint not in seen:
                seen.add(fingerprint)
                found.append(Family(name, assignment))
    return tuple(found)


@cache
def _shells(name: str) -> tuple[Counter[tuple[float, int]], ...]:
    """Around one atom of each orbit: how many atoms of which orbit at which distance (1 Å³ per atom, rounded)."""
    crystal = prototype(name)
    size = (abs(np.linalg.det(crystal.cell)) / len(crystal)) ** (1 / 3)
    unit = Structure(("X",) * len(crystal), crystal.cell / size, crystal.positions / size)
    neighbours = find_neighbours(unit, _FINGERPRINT_RADIUS)
    shells = []
    for orbit in range(crystal.n_orbits):
        atom = crystal.orbits.index(orbit)
        pairs = slice(neighbours.starts[atom], neighbours.starts[atom + 1])
        distances = np.round(neighbours.distances[pairs], _FINGERPRINT_DECIMALS).tolist()
        others = [crystal.orbits[j] for j in neighbours.neighbour[pairs]]
        shells.append(Counter(zip(distances, others, strict=True)))
    return tuple(shells)


def _fingerprint(
    shells: Sequence[Counter[tuple[float, int]]], shares: Sequence[Fraction], assignment: Sequence[str]
) -> frozenset[tuple[object, Fraction]]:
    """What an atom of each kind sees around it, and the share of the atoms that are of this kind."""
    kinds: Counter[object] = Counter()
    for orbit, shell in enumerate(shells):
        seen: Counter[tuple[float, str]] = Counter()
        for (distance, other), count in shell.items():
            seen[distance, assignment[other]] += count
        kinds[assignment[orbit], frozenset(seen.items())] += shares[orbit]  # type: ignore[assignment]
    return frozenset(kinds.items())  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Parent:
    """A known crystal reduced to its primitive cell. sites: one atom of each set of equivalent ones, ascending."""

    structure: Structure
    sites: tuple[int, ...]


@lru_cache(maxsize=32)
def primitive_parent(structure: Structure) -> Parent:
    """The primitive cell of a structure (the atoms stay where they are) and its inequivalent sites.

    Raises InputError when no symmetry can be determined (atoms on top of each other).
    """
    primitive, equivalent = primitive_cell(structure, SYMMETRY_TOLERANCE)
    return Parent(primitive, tuple(int(site) for site in np.unique(equivalent)))


def primitive_cell(structure: Structure, tolerance: float) -> tuple[Structure, np.ndarray]:
    """The primitive cell, not idealised, and for each of its atoms (n,) the first one that is equivalent to it.

    tolerance: Å within which symmetry maps atoms onto each other. Raises InputError when spglib finds no symmetry.
    """
    import spglib

    symbols = sorted(set(structure.species))
    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    kinds = [symbols.index(s) for s in structure.species]
    reduced = data = None
    # SpglibError, or None from versions that only announce the error: both are said below
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning), suppress(spglib.SpglibError):
        reduced = spglib.standardize_cell(
            (structure.cell, fractional, kinds), to_primitive=True, no_idealize=True, symprec=tolerance
        )
        data = spglib.get_symmetry_dataset(reduced, symprec=tolerance) if reduced is not None else None
    if reduced is None or data is None:
        raise InputError(f"{_title(structure)}: spglib finds no symmetry in it; are there atoms on top of each other?")
    cell, fractional, kinds = reduced
    species = tuple(symbols[k] for k in kinds)
    return Structure(species, np.array(cell), fractional @ cell, structure.name), data.equivalent_atoms


def parent_families(structure: Structure, elements: Sequence[str], max_atoms: int) -> tuple[Family, ...]:
    """A parent as it is, with each other element on each of its inequivalent sites, and on several atoms at once.

    The parent as it is comes first, then one atom at a time, then random choices of 2, 3 and 4 atoms that are not
    neighbours; the choices depend on the parent and the element, nothing else. All this with the primitive cell, and
    with the widest cell of at most `max_atoms` where that is another: dopants are dilute there. Raises InputError, with
    the reason, for a parent that cannot be used: an element that is not among `elements`, or a primitive cell of more
    than `max_atoms`.
    """
    foreign = sorted(set(structure.species) - set(elements))
    if foreign:
        raise InputError(f"parent {_title(structure)} is not used: {', '.join(foreign)} is not among the elements")
    parent = primitive_parent(structure)
    if len(parent.structure) > max_atoms:
        raise InputError(
            f"parent {_title(structure)} is not used: its primitive cell has {len(parent.structure)} atoms, "
            f"more than design.max_atoms = {max_atoms}"
        )
    families = list(_doped(structure, parent, elements, (1, 1, 1)))
    cells = widest_cells(parent.structure, max_atoms)
    if cells != (1, 1, 1):
        families += _doped(structure, parent, elements, cells)
    return tuple(families)


def _doped(
    structure: Structure, parent: Parent, elements: Sequence[str], cells: tuple[int, int, int]
) -> Iterator[Family]:
    """The families of one cell of a parent."""
    crystal = parent.structure.repeated(cells)
    as_it_is = Family(_title(structure), parent=structure.id, cells=cells)
    yield as_it_is
    # the atoms of the first primitive cell come first in the repeated one
    for site in parent.sites:
        for element in elements:
            if element != crystal.species[site]:
                yield replace(as_it_is, substitutions=((site, element),))
    for element in elements:
        for k in TOGETHER:
            for atoms in _choices(crystal, element, k, structure.id):
                yield replace(as_it_is, substitutions=tuple((atom, element) for atom in atoms))


def widest_cells(crystal: Structure, max_atoms: int) -> tuple[int, int, int]:
    """How often to repeat a cell so that the distance between its opposite faces is largest, with the fewest atoms."""
    widths = 1.0 / np.linalg.norm(np.linalg.inv(crystal.cell), axis=0)
    best, widest = (1, 1, 1), float(widths.min())
    some = range(1, MAX_CELLS + 1)
    for cells in sorted(((x, y, z) for x in some for y in some for z in some), key=lambda c: (prod(c), c)):
        width = float((widths * cells).min())
        if len(crystal) * prod(cells) <= max_atoms and width > widest * (1 + 1e-6):
            best, widest = cells, width
    return best


def _choices(crystal: Structure, element: str, k: int, key: str) -> list[tuple[int, ...]]:
    """Up to MULTIPLE different choices of k atoms, none of the element or close to another; key: hex, of the draw."""
    others = np.array([atom for atom, s in enumerate(crystal.species) if s != element])
    if len(others) < k:
        return []
    neighbours = find_neighbours(crystal, MIN_DOPANT_DISTANCE)
    close = np.zeros((len(crystal), len(crystal)), dtype=bool)
    close[neighbours.centre, neighbours.neighbour] = True
    rng = np.random.default_rng([int(key[:12], 16), *element.encode(), k])
    found: dict[tuple[int, ...], None] = {}
    # small cells have fewer choices than MULTIPLE, so the draws end
    for _ in range(8 * MULTIPLE):
        atoms: list[int] = []
        for atom in rng.permutation(others).tolist():
            if len(atoms) < k and not close[atom, atoms].any():
                atoms.append(atom)
        if len(atoms) == k and len(found) < MULTIPLE:
            found[tuple(sorted(atoms))] = None
    return list(found)


def substitution_words(substitutions: Iterable[tuple[int, str]]) -> str:
    """For people: "Pt on sites 3, 17 and 40"."""
    sites: dict[str, list[str]] = {}
    for atom, element in substitutions:
        sites.setdefault(element, []).append(str(atom))
    return ", ".join(
        f"{element} on site {on[0]}" if len(on) == 1 else f"{element} on sites {', '.join(on[:-1])} and {on[-1]}"
        for element, on in sites.items()
    )


def _title(structure: Structure) -> str:
    return structure.name or structure.formula


@cache
def shortest_bond(family: Family) -> float:
    """min over bonds of d_ij / (r_cov,i + r_cov,j) in the prototype crystal with a lattice constant of 1 Å."""
    sums = radius_sums(family.assignment)
    return float((_shortest_distances(family.crystal) / sums).min())


@cache
def _shortest_distances(name: str) -> np.ndarray:
    """Shortest distance in Å between atoms of each two orbits (n_orbits, n_orbits), lattice constant 1 Å."""
    crystal = prototype(name)
    size = (abs(np.linalg.det(crystal.cell)) / len(crystal)) ** (1 / 3)
    # at 1 Å³ per atom any two orbits of these thirteen come closer than the radius of the fingerprints
    neighbours = find_neighbours(
        Structure(("X",) * len(crystal), crystal.cell, crystal.positions), _FINGERPRINT_RADIUS * size
    )
    orbits = np.array(crystal.orbits)
    shortest = np.full((crystal.n_orbits, crystal.n_orbits), np.inf)
    np.minimum.at(shortest, (orbits[neighbours.centre], orbits[neighbours.neighbour]), neighbours.distances)
    return shortest
