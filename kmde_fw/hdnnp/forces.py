"""From dE/dG to forces and virial, T(1.7)-(1.8), with the stored derivatives of the symmetry functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit

from kmde_fw.hdnnp.symmetry_functions import Fingerprint


@dataclass(frozen=True, eq=False)
class Geometry:
    """The derivatives of the symmetry functions of one or many structures, whose atoms stand in any order.

    row: (n,) where the atom of each centre stands; starts: (n + 1,) the pairs of centre k are starts[k]:starts[k + 1];
    neighbour_row, neighbour_species: (n_pairs,) where the neighbour stands, and its element;
    derivatives: (n_pairs, 3, T) and columns: (n_elements, T) as in `Fingerprint`.
    """

    row: np.ndarray
    starts: np.ndarray
    neighbour_row: np.ndarray
    neighbour_species: np.ndarray
    derivatives: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, fingerprints: Sequence[Fingerprint], row: np.ndarray) -> "Geometry":
        """Join structures; row[a] is where atom a, counted through all structures, stands."""
        n_atoms = np.cumsum([0] + [len(f.species) for f in fingerprints])
        n_pairs = np.cumsum([0] + [len(f.neighbour) for f in fingerprints])
        neighbour = np.concatenate([f.neighbour + n for f, n in zip(fingerprints, n_atoms, strict=False)])
        starts = [f.starts[:-1] + n for f, n in zip(fingerprints, n_pairs, strict=False)]
        return cls(
            row=row,
            starts=np.concatenate([*starts, n_pairs[-1:]]),
            neighbour_row=row[neighbour],
            neighbour_species=np.concatenate([f.species for f in fingerprints])[neighbour],
            derivatives=np.concatenate([f.derivatives for f in fingerprints]),
            columns=fingerprints[0].columns,
        )


def forces(gradients: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Forces (n, 3) in eV/Å from dE_i/dG_i (n, F) in eV: F_a = -Σ_i Σ_m dE_i/dG_im · dG_im/dR_a.

    Differentiable once; F is linear in the gradients, so the backward pass is the transposed map.
    """
    return _Forces.apply(gradients, geometry)


def virial(gradients: np.ndarray, geometry: Geometry, vectors: np.ndarray) -> np.ndarray:
    """dE/dε (3, 3) in eV for a strain that maps r to (1 + ε) r; vectors: (n_pairs, 3) in Å, in the geometry's order."""
    pulls = np.zeros((len(vectors), 3))
    _map_to_pairs(gradients, *_arrays(geometry), pulls)
    return pulls.T @ vectors


class _Forces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradients: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        ctx.geometry, ctx.shape = geometry, gradients.shape
        result = np.zeros((len(gradients), 3))
        _map_to_forces(gradients.detach().contiguous().numpy(), *_arrays(geometry), result)
        return torch.from_numpy(result)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        result = np.zeros(ctx.shape)
        _map_back(upstream[0].contiguous().numpy(), *_arrays(ctx.geometry), result)
        return torch.from_numpy(result), None


def _arrays(geometry: Geometry) -> tuple[np.ndarray, ...]:
    return (
        geometry.row,
        geometry.starts,
        geometry.neighbour_row,
        geometry.neighbour_species,
        geometry.derivatives,
        geometry.columns,
    )


# Sums may be reordered by the compiler (reassoc) so that they use vector instructions; the order is fixed at compile
# time, so results repeat.
_compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})


@_compiled
def _map_to_pairs(
    gradients: np.ndarray,
    row: np.ndarray,
    starts: np.ndarray,
    neighbour_row: np.ndarray,
    neighbour_species: np.ndarray,
    derivatives: np.ndarray,
    columns: np.ndarray,
    pulls: np.ndarray,
) -> None:
    """dE_i/dR_j of every pair into `pulls` (n_pairs, 3)."""
    n_elements, n_columns = columns.shape
    own = np.empty((n_elements, n_columns))  # dE/dG of the centre, in each element's columns
    for k in range(len(row)):
        for e in range(n_elements):
            for t in range(n_columns):
                own[e, t] = gradients[row[k], columns[e, t]]
        for p in range(starts[k], starts[k + 1]):
            e = neighbour_species[p]
            for c in range(3):
                pull = 0.0
                for t in range(n_columns):
                    pull += own[e, t] * derivatives[p, c, t]
                pulls[p, c] = pull


@_compiled
def _map_to_forces(
    gradients: np.ndarray,
    row: np.ndarray,
    starts: np.ndarray,
    neighbour_row: np.ndarray,
    neighbour_species: np.ndarray,
    derivatives: np.ndarray,
    columns: np.ndarray,
    result: np.ndarray,
) -> None:
    """Add the forces to `result` (n, 3): each pair pulls on its neighbour, and with the opposite sign on its centre."""
    pulls = np.empty((len(neighbour_row), 3))
    _map_to_pairs(gradients, row, starts, neighbour_row, neighbour_species, derivatives, columns, pulls)
    for k in range(len(row)):
        for p in range(starts[k], starts[k + 1]):
            for c in range(3):
                result[neighbour_row[p], c] -= pulls[p, c]
                result[row[k], c] += pulls[p, c]


@_compiled
def _map_back(
    upstream: np.ndarray,
    row: np.ndarray,
    starts: np.ndarray,
    neighbour_row: np.ndarray,
    neighbour_species: np.ndarray,
    derivatives: np.ndarray,
    columns: np.ndarray,
    result: np.ndarray,
) -> None:
    """Add the transposed map of `upstream` (n, 3) to `result` (n, F)."""
    n_elements, n_columns = columns.shape
    own = np.empty((n_elements, n_columns))
    for k in range(len(row)):
        i = row[k]
        own[:] = 0.0
        for p in range(starts[k], starts[k + 1]):
            e, j = neighbour_species[p], neighbour_row[p]
            x, y, z = (
                upstream[i, 0] - upstream[j, 0],
                upstream[i, 1] - upstream[j, 1],
                upstream[i, 2] - upstream[j, 2],
            )
            for t in range(n_columns):
                own[e, t] += x * derivatives[p, 0, t] + y * derivatives[p, 1, t] + z * derivatives[p, 2, t]
        for e in range(n_elements):
            for t in range(n_columns):
                result[i, columns[e, t]] += own[e, t]
