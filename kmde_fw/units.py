"""Units and constants.

Lengths are Å, energies eV, forces eV/Å, stress eV/Å³ (ASE's sign and Voigt order), angles degrees.
"""

import numpy as np
from ase.data import atomic_numbers, covalent_radii

MEV_PER_EV = 1000.0


def covalent_radius(element: str) -> float:
    """Covalent radius in Å (Cordero et al., Dalton Trans. 2832 (2008), as tabulated by ASE)."""
    return float(covalent_radii[atomic_numbers[element]])


def radius_sums(elements: tuple[str, ...]) -> np.ndarray:
    """Sums of covalent radii r_i + r_j in Å, shape (n_elements, n_elements)."""
    radii = np.array([covalent_radius(element) for element in elements])
    return radii[:, None] + radii[None, :]
