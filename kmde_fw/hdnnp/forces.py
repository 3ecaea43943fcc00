"""From dE/dG to forces and virial, T(1.7)-(1.8), with the stored derivatives of the symmetry functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        derivatives = [f.derivatives for f in fingerprints if f.derivatives is not None]
        starts = [f.starts[:-1] + n for f, n in zip(fingerprints, n_pairs, strict=False)]
        return cls(
            row=row,
            starts=np.concatenate([*starts, n_pairs[-1:]]),
            neighbour_row=row[neighbour],
            neighbour_species=np.concatenate([f.species for f in fingerprints])[neighbour],
            derivatives=derivatives[0] if len(derivatives) == 1 else np.concatenate(derivatives),  # a copy takes time
            columns=fingerprints[0].columns,
        )

    def of_inputs(self, scale: np.ndarray, places: np.ndarray) -> "Geometry":
        """The derivatives of the networks' inputs, in place of those of the symmetry functions.

        scale: (n, F), what each atom's symmetry functions are multiplied with; places: (F,) the columns they come to.
        """
        centre_row = np.repeat(self.row, np.diff(self.starts))
        factors = scale[centre_row[:, None], self.columns[self.neighbour_species]]
        derivatives = self.derivatives * factors[:, None, :]
        return replace(self, derivatives=derivatives, columns=places[self.columns])


def pulls(gradients: np.ndarray, geometry: Geometry) -> np.ndarray:
    """dE_i/dR_j (n_pairs, 3) in eV/Å, of centre i and neighbour j of each pair, from dE_i/dG_i (n, F) in eV.

    Forces and virial are sums over them: see `forces_of_pulls`; dE/dε (3, 3) for a strain that maps r to (1 + ε) r is
    pulls.T @ vectors, with the pairs' vectors (n_pairs, 3) in Å.
    """
    result = np.empty((len(geometry.neighbour_row), 3))
    _map_to_pairs(gradients, *_arrays(geometry), result)
    return result


def forces_of_pulls(pulls: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Forces (n, 3): each pair pulls on its neighbour, and with the opposite sign on its centre."""
    result = np.zeros((len(geometry.row), 3))
    _add_forces(pulls, geometry.row, geometry.starts, geometry.neighbour_row, result)
    return result


class ForceMap:
    """Forces F_a = -Σ_i Σ_m dE_i/dG_im · dG_im/dR_a, and the transpose of this linear map, in compiled loops.

    Training needs the transpose: slopes of a loss by the forces become slopes by dE_i/dG_i.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def forward(self, gradients: torch.Tensor) -> torch.Tensor:
        """Forces (n, 3) in eV/Å from dE_i/dG_i (n, F) in eV."""
        return torch.from_numpy(forces_of_pulls(pulls(gradients.numpy(), self.geometry), self.geometry))

    def transposed(self, by_forces: torch.Tensor, n_features: int) -> torch.Tensor:
        """Slopes of a loss by dE_i/dG_i (n, F), from its slopes by the forces (n, 3)."""
        result = np.zeros((len(by_forces), n_features))
        _map_back(by_forces.contiguous().numpy(), *_arrays(self.geometry), result)
        return torch.from_numpy(result)


class TorchForceMap:
    """The same in torch's own operations, for a device that compiled loops do not reach."""

    def __init__(self, geometry: Geometry, device: torch.device | str) -> None:
        centre_row = np.repeat(geometry.row, np.diff(geometry.starts))
        self.centre_row = torch.from_numpy(centre_row).to(device)
        self.neighbour_row = torch.from_numpy(geometry.neighbour_row).to(device)
        self.columns = torch.from_numpy(geometry.columns[geometry.neighbour_species]).to(device)
        self.derivatives = torch.from_numpy(geometry.derivatives).to(device)

    def forward(self, gradients: torch.Tensor) -> torch.Tensor:
        """As in `ForceMap`."""
        own = gradients[self.centre_row[:, None], self.columns]
        pulls = (self.derivatives @ own[:, :, None])[:, :, 0]
        zero = gradients.new_zeros((len(gradients), 3))
        return zero.index_add_(0, self.centre_row, pulls).index_add_(0, self.neighbour_row, -pulls)

    def transposed(self, by_forces: torch.Tensor, n_features: int) -> torch.Tensor:
        """As in `ForceMap`."""
        by_pulls = by_forces[self.centre_row] - by_forces[self.neighbour_row]
        by_own = (by_pulls[:, None, :] @ self.derivatives)[:, 0, :]
        zero = by_forces.new_zeros((len(by_forces), n_features))
        return zero.index_put_((self.centre_row[:, None], self.columns), by_own, accumulate=True)


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
def _add_forces(
    pulls: np.ndarray, row: np.ndarray, starts: np.ndarray, neighbour_row: np.ndarray, result: np.ndarray
) -> None:
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
