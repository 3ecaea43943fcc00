"""Units and constants, and how numbers are written for people.

Lengths are Å, energies eV, forces eV/Å, stress eV/Å³ (ASE's sign and Voigt order), angles degrees.
"""

import numpy as np
from ase.data import atomic_numbers, covalent_radii

MEV_PER_EV = 1000.0
#: a run has broken down where a bond is shorter than this part of the sum of the covalent radii
MIN_BOND = 0.75


def covalent_radius(element: str) -> float:
    """Covalent radius in Å (Cordero et al., Dalton Trans. 2832 (2008), as tabulated by ASE)."""
    return float(covalent_radii[atomic_numbers[element]])


def radius_sums(elements: tuple[str, ...]) -> np.ndarray:
    """Sums of covalent radii r_i + r_j in Å, shape (n_elements, n_elements)."""
    radii = np.array([covalent_radius(element) for element in elements])
    return radii[:, None] + radii[None, :]


def figures(value: float, digits: int) -> str:
    """A number for people: `digits` significant ones where it is small, all in front of the point where it is large.

    3587.2 with two digits is "3587", and not "3.6e+03"; from a million on there is an exponent all the same.
    """
    return f"{value:.0f}" if 10**digits - 0.5 <= abs(value) < 1e6 else f"{value:.{digits}g}"
