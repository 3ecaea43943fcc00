"""Parent crystals derived from structures themselves: what a doped, displaced supercell is a supercell of.

The cells that a target is made of are usually supercells of a known crystal with a few foreign atoms and everything
relaxed or displaced. Undoing the three gives the crystal to make candidates of, with no file that names it.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from kmde_fw.core.prototypes import SYMMETRY_TOLERANCE
from kmde_fw.records import Structure

#: an element with at most this share of a structure's atoms is taken for a dopant and replaced
RARE = 0.05
#: Å within which atoms are copies of each other: the first that gives a small cell is used. Cells relaxed around a
#: dopant need half an Å or more; neighbours are more than 2 Å apart. spglib's own search for a primitive cell gives up
#: on displaced cells of a hundred atoms, so ours is used
TOLERANCES = (0.01, 0.03, 0.1, 0.3, 0.5, 0.8)
#: larger structures are skipped: the time grows with the square of the number of atoms, seconds from here on
MAX_STRUCTURE_ATOMS = 2000
#: at most so many structures, evenly spaced, are looked at: a long trajectory is one crystal or none
MAX_STRUCTURES = 100
#: the cell may change its shape by this much when its symmetry is made exact
MAX_CELL_CHANGE = 0.001
#: a parent and another of the same composition are one crystal when their volumes per atom agree to this
SAME_VOLUME = 0.02


def derive_parents(structures: Sequence[Structure], max_atoms: int, source: str = "target") -> list[Structure]:
    """The crystals that structures are doped, displaced supercells of, as primitive cells of at most `max_atoms`.

    Rare elements are replaced by each of the others in turn, and the primitive cell is looked for at growing
    tolerances; its atoms go to the mean of their copies, and its symmetry is made exact. A structure that is a
    primitive cell by itself, and small enough, is its own parent. Of each composition and number of atoms there is one
    parent, the one whose copies differ least; sorted by number of atoms and formula. Amorphous structures give none.

    source: what the structures are, for the parents' names ("parent of the target: Al39Fe12").
    """
    step = max(1, math.ceil(len(structures) / MAX_STRUCTURES))
    best: dict[tuple[str, int], tuple[float, float, Structure]] = {}
    for structure in structures[::step]:
        found = _parent_of(structure, max_atoms)
        if found is None:
            continue
        rms, _, parent = found
        key = reduced_formula(parent), len(parent)
        if key not in best or rms < best[key][0]:
            best[key] = found
    parents = []
    for (_, n_atoms), (_, tolerance, parent) in best.items():
        exact = _symmetric(parent, tolerance)
        name = f"parent of the {source}: {exact.formula}"
        parents.append((n_atoms, exact.formula, Structure(exact.species, exact.cell, exact.positions, name)))
    return [parent for *_, parent in sorted(parents, key=lambda row: row[:2])]


def same_crystal(one: Structure, other: Structure) -> bool:
    """The same composition and, to SAME_VOLUME, the same volume per atom."""
    volumes = [s.volume / len(s) for s in (one, other)]
    return reduced_formula(one) == reduced_formula(other) and abs(volumes[0] / volumes[1] - 1) <= SAME_VOLUME


def reduced_formula(structure: Structure) -> str:
    """Counts by element without their common divisor, alphabetical: Al13Fe4 for Al39Fe12."""
    counts = Counter(structure.species)
    divisor = math.gcd(*counts.values())
    return "".join(f"{e}{n // divisor if n > divisor else ''}" for e, n in sorted(counts.items()))


def _parent_of(structure: Structure, max_atoms: int) -> tuple[float, float, Structure] | None:
    """Root mean square displacement of the copies in Å, tolerance, parent; None where there is no small cell."""
    if len(structure) > MAX_STRUCTURE_ATOMS:
        return None
    found = [parent for host in _without_rare(structure) if (parent := _folded(host, max_atoms)) is not None]
    return min(found, key=lambda row: (len(row[2]), row[0]), default=None)


def _without_rare(structure: Structure) -> list[Structure]:
    """The structure with its rare atoms replaced by each majority element; as it is where it has no rare element."""
    counts = Counter(structure.species)
    rare = {element for element, n in counts.items() if n <= RARE * len(structure)}
    if not rare:
        return [structure]
    return [
        Structure(tuple(host if s in rare else s for s in structure.species), structure.cell, structure.positions)
        for host in sorted(set(counts) - rare)
    ]


def _folded(structure: Structure, max_atoms: int) -> tuple[float, float, Structure] | None:
    """See `_parent_of`; a structure that does not fold is its own parent if it is small and has a symmetry."""
    translations = _translations(structure)
    for tolerance in TOLERANCES:
        folded = _averaged(structure, translations, tolerance)
        if folded is None or len(folded[1]) > max_atoms:
            continue
        rms, parent = folded
        # the mean is less noisy than its copies: it may have translations that the noise hid
        while (again := _averaged(parent, _translations(parent), tolerance)) is not None:
            rms, parent = math.hypot(rms, again[0]), again[1]
        return round(rms, 6), tolerance, parent
    if len(structure) <= max_atoms and _has_symmetry(structure):
        return 0.0, TOLERANCES[0], structure
    return None


@dataclass(frozen=True, eq=False)
class _Translations:
    """What almost maps a structure onto itself, the translation by nothing first.

    fractional: (n, 3); images: (n, n_atoms), the atom that each atom is moved to; deviations: (n,), how far from it at
    most, Å.
    """

    fractional: np.ndarray
    images: np.ndarray
    deviations: np.ndarray


def _translations(structure: Structure) -> _Translations:
    """All translations within the largest tolerance; each is the mean over the atoms of what moves them."""
    from scipy.spatial import cKDTree

    n, inverse = len(structure), np.linalg.inv(structure.cell)
    fractional = structure.positions @ inverse % 1.0
    kinds = np.unique(structure.species, return_inverse=True)[1]
    rarest = np.flatnonzero(kinds == np.bincount(kinds).argmin())
    # the cell and what is around it, so that the nearest atom is found without periodic images
    reach = 2 * TOLERANCES[-1]
    margin = reach * np.linalg.norm(inverse, axis=0)
    steps = [np.arange(-math.ceil(m), math.ceil(m) + 1) for m in margin]
    shifts = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    around = (fractional + shifts).reshape(-1, 3)
    inside = np.flatnonzero(((around > -margin) & (around < 1 + margin)).all(axis=1))
    trees = []
    for kind in range(kinds.max() + 1):
        rows = inside[kinds[inside % n] == kind]
        trees.append((np.flatnonzero(kinds == kind), rows, cKDTree(around[rows] @ structure.cell)))

    found, images, deviations = [np.zeros(3)], [np.arange(n)], [0.0]
    for other in rarest[1:]:
        step = fractional[other] - fractional[rarest[0]]
        image, moved = np.empty(n, dtype=np.int64), np.empty((n, 3))
        for atoms, rows, tree in trees:
            wanted = (fractional[atoms] + step) % 1.0
            distances, nearest = tree.query(wanted @ structure.cell, distance_upper_bound=reach)
            if not np.isfinite(distances).all():
                break
            image[atoms] = rows[nearest] % n
            moved[atoms] = around[rows[nearest]] - wanted
        else:
            if len(np.unique(image)) == n:
                mean = moved.mean(axis=0)
                found.append(step + mean)
                images.append(image)
                deviations.append(float(np.linalg.norm((moved - mean) @ structure.cell, axis=1).max()))
    return _Translations(np.array(found), np.array(images), np.array(deviations))


def _averaged(structure: Structure, translations: _Translations, tolerance: float) -> tuple[float, Structure] | None:
    """The cell that translations within the tolerance leave, its atoms at the mean of their copies; and their rms, Å.

    None where there are none, or they are no group: a product of two of them is missing.
    """
    from ase.geometry import find_mic, minkowski_reduce

    taken = np.flatnonzero(translations.deviations <= tolerance)
    order = len(taken)
    if order == 1:
        return None
    # of a group of this order, every element's order divides it
    lattice = _integer_basis(
        [*np.rint(order * translations.fractional[taken]).astype(int), *order * np.eye(3, dtype=int)]
    )
    if abs(round(np.linalg.det(lattice))) * order != order**3:
        return None
    cell = minkowski_reduce(lattice / order @ structure.cell)[0]
    off = translations.fractional[taken] - np.rint(order * translations.fractional[taken]) / order
    if np.linalg.norm(off @ structure.cell, axis=1).max() > tolerance:
        return None
    first = translations.images[taken].min(axis=0)
    kept, copy_of = np.unique(first, return_inverse=True)
    if len(kept) * order != len(structure):
        return None
    moved = find_mic(structure.positions - structure.positions[first], cell)[0]
    means = np.stack([np.bincount(copy_of, moved[:, axis]) for axis in range(3)], axis=1) / order
    rms = float(np.sqrt(((moved - means[copy_of]) ** 2).sum(axis=1).mean()))
    species = tuple(structure.species[k] for k in kept.tolist())
    return rms, Structure(species, cell, structure.positions[kept] + means)


def _integer_basis(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """A basis (3, 3), triangular, of the lattice that integer vectors span (Euclid's algorithm by columns)."""
    rows, basis = [list(map(int, v)) for v in vectors], []
    for axis in range(3):
        while len(left := [row for row in rows if row[axis]]) > 1:
            least = min(left, key=lambda row: abs(row[axis]))
            for row in left:
                if row is not least:
                    times = row[axis] // least[axis]
                    row[:] = [a - times * b for a, b in zip(row, least, strict=True)]
        basis.append(left[0])
        rows = [row for row in rows if row is not left[0]]
    return np.array(basis)


def _has_symmetry(structure: Structure) -> bool:
    """Anything but P1: a cell of displaced atoms is no crystal to make candidates of."""
    import spglib

    symbols = sorted(set(structure.species))
    cell = (
        structure.cell,
        structure.positions @ np.linalg.inv(structure.cell),
        [symbols.index(s) for s in structure.species],
    )
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning), suppress(spglib.SpglibError):
        data = spglib.get_symmetry_dataset(cell, symprec=SYMMETRY_TOLERANCE)
        return data is not None and data.number > 1
    return False


def _symmetric(parent: Structure, tolerance: float) -> Structure:
    """The parent with the symmetry it has within the tolerance, or a smaller one if that changes the cell's shape."""
    import spglib
    from ase.spacegroup.symmetrize import refine_symmetry

    for symprec in reversed([t for t in TOLERANCES if t <= tolerance]):
        atoms = parent.to_atoms()
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            suppress(spglib.SpglibError, AttributeError, ValueError),
        ):
            refine_symmetry(atoms, symprec=symprec)
            exact = Structure(parent.species, atoms.cell.array.copy(), atoms.get_positions())
            if _same_shape(parent.cell, exact.cell):
                return exact
    return parent


def _same_shape(one: np.ndarray, other: np.ndarray) -> bool:
    """Lengths and angles of two cells agree to MAX_CELL_CHANGE, however they are turned."""
    lengths = np.linalg.norm(one, axis=1)
    change = np.abs(one @ one.T - other @ other.T) / np.outer(lengths, lengths)
    return bool(change.max() <= 2 * MAX_CELL_CHANGE)
