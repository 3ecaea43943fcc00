"""Symmetry functions one by one, as n2p2 names and orders them; our descriptor is a grid of them.

n2p2 sorts the functions of each element when it reads input.nn, whatever their order there: scaling.data and
weights.*.data are in its order. Elements count by atomic number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ase.data import atomic_numbers

from kmde_fw.config import Descriptor

RADIAL, ANGULAR = 2, 3
#: n2p2's symmetry function types that are not ours, by number (RuNNer has 1 and 4 besides)
FOREIGN_TYPES = {
    1: "radial without a Gaussian",
    4: "radial with a cosine",
    9: "wide angular",
    12: "weighted radial",
    13: "weighted narrow angular",
    20: "polynomial radial",
    21: "polynomial narrow angular",
    22: "polynomial wide angular",
    23: "polynomial weighted radial",
    24: "polynomial weighted narrow angular",
    25: "polynomial weighted wide angular",
}


@dataclass(frozen=True)
class Function:
    """One symmetry function of one central element, lengths in the units of its file (ours: Å).

    kind: RADIAL (G2) or ANGULAR (narrow G3); neighbours: one or two elements, by atomic number; shift: R_s, of G2;
    bend, zeta: λ and ζ, of G3.
    """

    centre: str
    kind: int
    neighbours: tuple[str, ...]
    eta: float
    cutoff: float
    shift: float = 0.0
    bend: float = 0.0
    zeta: float = 0.0

    @property
    def order(self) -> tuple[float, ...]:
        """n2p2 sorts the functions of one element by this: type, r_c, η, R_s, ζ, λ, then the neighbours."""
        elements = [atomic_numbers[e] for e in self.neighbours]
        return (self.kind, self.cutoff, self.eta, self.shift, self.zeta, self.bend, *elements)

    @property
    def line(self) -> str:
        """The line of input.nn that defines it."""
        if self.kind == RADIAL:
            numbers: tuple[float, ...] = (self.eta, self.shift, self.cutoff)
        else:
            numbers = (self.eta, self.bend, self.zeta, self.cutoff)
        words = [self.centre, str(self.kind), *self.neighbours, *(repr(float(x)) for x in numbers)]
        return "symfunction_short " + " ".join(words)


def by_number(elements: Sequence[str]) -> tuple[str, ...]:
    """Elements in n2p2's order, that of their atomic numbers."""
    return tuple(sorted(elements, key=lambda e: int(atomic_numbers[e])))


def functions_of(descriptor: Descriptor, elements: Sequence[str], centre: str) -> list[Function]:
    """The symmetry functions of one central element, in the order of our columns (see `SymmetryFunctions.keys`)."""
    cutoff = float(descriptor.cutoff)
    radial = [
        Function(centre, RADIAL, (neighbour,), float(eta), cutoff, shift=float(shift))
        for neighbour in elements
        for eta, shift in product(descriptor.radial_eta, descriptor.radial_shift)
    ]
    angular = [
        Function(centre, ANGULAR, by_number((a, b)), float(eta), cutoff, bend=float(bend), zeta=float(zeta))
        for k, a in enumerate(elements)
        for b in elements[k:]
        for eta, zeta, bend in product(descriptor.angular_eta, descriptor.angular_zeta, descriptor.angular_lambda)
    ]
    return radial + angular
