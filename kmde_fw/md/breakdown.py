"""When a run has broken down: atoms nearer to each other than any bond, in frames that are no use to anybody."""

from __future__ import annotations

from kmde_fw.inputs import overlaps
from kmde_fw.records import Structure
from kmde_fw.reference.domain import shortest_bond
from kmde_fw.units import MIN_BOND


def broken(structure: Structure, min_bond: float = MIN_BOND) -> str:
    """What is too close in a frame, in words; empty if nothing is. min_bond: over the sum of covalent radii."""
    short = shortest_bond(structure, min_bond) if min_bond > 0 else None
    if short is not None:
        return f"{short[1]}, {short[0]:.2f} of the sum of their covalent radii"
    return next(overlaps(structure), "")
