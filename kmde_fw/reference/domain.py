"""Where a reference can be trusted: not with atoms too close, not too far from its own equilibrium volume."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure
from kmde_fw.units import radius_sums

#: the checks that say whether a structure is inside the domain
DOMAIN_CHECKS = ("shortest bond", "scale")
#: ratio between neighbouring scales of the search for equilibrium
STEP = 1.04
#: bond ratios (distance over sum of covalent radii) between which energies are asked for at all
SANE_BONDS = (0.75, 2.2)


def shortest_bond(structure: Structure, limit: float) -> tuple[float, str] | None:
    """The smallest distance / (r_cov,i + r_cov,j) below `limit`, and a phrase naming the two atoms; None if none is."""
    elements = tuple(sorted(set(structure.species)))
    sums = radius_sums(elements)
    pairs = find_neighbours(structure, limit * float(sums.max()))
    kind = structure.species_index(elements)
    ratios = pairs.distances / sums[kind[pairs.centre], kind[pairs.neighbour]]
    if not len(ratios) or ratios.min() >= limit:
        return None
    k = int(np.argmin(ratios))
    i, j = sorted((int(pairs.centre[k]), int(pairs.neighbour[k])))
    first, second = (f"{a + 1} ({structure.species[a]})" for a in (i, j))
    return float(ratios[k]), f"atoms {first} and {second} are {pairs.distances[k]:.2f} Å apart"


def check_bonds(structure: Structure, min_bond: float) -> str:
    """Why the structure is refused for its shortest bond, or an empty string."""
    short = shortest_bond(structure, min_bond) if min_bond > 0 else None
    if short is None:
        return ""
    return f"{short[1]}, {short[0]:.2f} of the sum of their covalent radii; the reference is trusted from {min_bond:g}"


def check_scale(structure: Structure, energy: Callable[[Structure], float], scale: tuple[float, float]) -> str:
    """Why the structure is refused for its linear scale relative to equilibrium, or an empty string.

    energy: of a structure in eV. scale: (low, high), trusted linear scales. The structure is scaled isotropically,
    downhill in energy from where it is, in steps of 4 %, until the minimum lies between three scales; a parabola
    through them gives the equilibrium. Walking from the structure itself, never from a grid that reaches into strong
    compression, keeps away from the holes that learned potentials have there. Takes 3 to about 12 energies.
    """
    low, high = scale
    bond = shortest_bond(structure, SANE_BONDS[1])
    if bond is None:
        return f"no two atoms are closer than {SANE_BONDS[1]:g} of the sum of their covalent radii: not a solid"
    energies: dict[int, float] = {}

    def at(k: int) -> float:
        """Energy at STEP**k times the structure's own lengths; not finite outside sane bonds."""
        if not SANE_BONDS[0] <= bond[0] * STEP**k <= SANE_BONDS[1]:
            return math.nan
        if k not in energies:
            energies[k] = energy(scaled(structure, STEP**k))
        return energies[k]

    # one step more than the trusted range: there, an equilibrium is known to lie outside without knowing where
    furthest = {-1: math.ceil(math.log(high) / math.log(STEP)) + 1, 1: math.ceil(-math.log(low) / math.log(STEP)) + 1}
    direction = -1 if at(-1) < at(0) else 1
    k = 0
    while at(k + direction) < at(k):
        k += direction
        if abs(k) > furthest[direction]:
            word, bound = ("expanded", high) if direction < 0 else ("compressed", low)
            return f"{word} beyond {bound:g} of the reference's own equilibrium of this crystal (linear scale)"
    below, middle, above = at(k - 1), at(k), at(k + 1)
    # a NaN makes every comparison false, so this also catches a bracket cut off by insane bonds
    if not (below > middle and above > middle):
        return "the reference's own equilibrium of this crystal cannot be bracketed by scaling it"
    shift = 0.5 * (below - above) / (below - 2 * middle + above)
    own = STEP ** -(k + shift)
    if low <= own <= high:
        return ""
    return (
        f"linear scale {own:.3f} of the reference's own equilibrium of this crystal; the reference is trusted from "
        f"{low:g} to {high:g}"
    )


def scaled(structure: Structure, factor: float) -> Structure:
    """All lengths times `factor`."""
    return Structure(structure.species, structure.cell * factor, structure.positions * factor, structure.name)
