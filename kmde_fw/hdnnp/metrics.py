"""Errors of predictions, thesis T(3.2)-(3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmde_fw.units import MEV_PER_EV


@dataclass(frozen=True)
class EnergyErrors:
    """Errors of energies per atom in meV/atom: rmse² = bias² + scatter²."""

    rmse: float
    bias: float
    scatter: float


def energy_errors(predicted: np.ndarray, reference: np.ndarray, n_atoms: np.ndarray) -> EnergyErrors:
    """From the energies (n_structures,) of whole cells in eV and their numbers of atoms, T(3.2).

    bias: mean of predicted - reference; scatter: standard deviation around it.
    """
    errors = MEV_PER_EV * (np.asarray(predicted) - np.asarray(reference)) / np.asarray(n_atoms)
    return EnergyErrors(
        rmse=float(np.sqrt(np.mean(errors**2))), bias=float(np.mean(errors)), scatter=float(np.std(errors))
    )


def force_rmse(predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Root mean square error in eV/Å over all force components of all structures (each (n, 3)), T(3.3)."""
    errors = np.concatenate([np.ravel(p) - np.ravel(r) for p, r in zip(predicted, reference, strict=True)])
    return float(np.sqrt(np.mean(errors**2)))
