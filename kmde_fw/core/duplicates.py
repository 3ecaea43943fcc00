"""When two structures are one crystal, and labelling the second would be labelling the first again."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from math import gcd

from kmde_fw.core.prototypes import primitive_cell
from kmde_fw.errors import InputError
from kmde_fw.records import Structure

#: relative difference of lengths, rms distance of sites over the mean atomic spacing, and difference of angles in
#: degrees up to which two crystals are one: rounding and noise, but not a step of the lattice scan or of the strain
LENGTH_TOLERANCE = 1e-3
SITE_TOLERANCE = 1e-3
ANGLE_TOLERANCE = 0.1
#: Å within which translations map atoms onto each other when a cell is reduced
SYMMETRY_TOLERANCE = 1e-3


def is_duplicate(a: Structure, b: Structure) -> bool:
    """Whether a and b are the same crystal of the same size, whatever its cell, orientation or origin."""
    if a.id == b.id:
        return True
    if _reduced_counts(a) != _reduced_counts(b):
        return False
    volumes = a.volume / len(a), b.volume / len(b)
    if abs(volumes[0] - volumes[1]) > 4 * LENGTH_TOLERANCE * max(volumes):  # three lengths, and the angles
        return False
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice
    from pymatgen.core import Structure as PymatgenStructure

    one, other = _primitive(a), _primitive(b)
    if len(one) != len(other):
        return False
    # not the matcher's own primitive_cell: its tolerance of 0.25 Å undoes small displacements
    matcher = StructureMatcher(
        ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE, scale=False, primitive_cell=False
    )
    return bool(
        matcher.fit(
            *(
                PymatgenStructure(Lattice(s.cell), list(s.species), s.positions, coords_are_cartesian=True)
                for s in (one, other)
            )
        )
    )


def _primitive(structure: Structure) -> Structure:
    """The primitive cell, or the structure itself where that cannot be told."""
    try:
        return primitive_cell(structure, SYMMETRY_TOLERANCE)[0]
    except InputError:
        return structure


def _reduced_counts(structure: Structure) -> dict[str, int]:
    """Atoms per element of the smallest formula unit."""
    counts = Counter(structure.species)
    divisor = reduce(gcd, counts.values())
    return {element: n // divisor for element, n in counts.items()}
