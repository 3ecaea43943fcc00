"""A trained high-dimensional neural network potential: what it needs to predict, and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kmde_fw.config import Descriptor
from kmde_fw.hdnnp.forces import Geometry, forces_of_pulls, pulls
from kmde_fw.hdnnp.network import Columns, Networks
from kmde_fw.hdnnp.symmetry_functions import Fingerprint, SymmetryFunctions
from kmde_fw.records import Labelled, Structure

#: how far outside of the training range is inside, over its width: what rounding does
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Prediction:
    """energy: eV of the whole cell; forces: (n, 3) eV/Å; stress: (6,) eV/Å³, ASE's sign and Voigt order.

    atomic_energies: (n,) eV, they add up to the energy; features: (n, F); species: (n,) index of each atom's element.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    atomic_energies: np.ndarray
    features: np.ndarray
    species: np.ndarray


@dataclass(frozen=True, eq=False)
class Hdnnp:
    """A model: E = Σ_i [offset of i's element + network of i's element((G_i - center) * scale)], energies in eV.

    weights: flat, see `network`. center, scale: (n_elements, F), from `feature_scaling`. offsets: (n_elements,) eV,
    from `energy_offsets`. minimum, maximum: (n_elements, F) of the features in the training data, +inf and -inf for an
    element without any. provenance: plain types (seed, training data hash, code version, ...), kept with the model.
    An element without training data keeps its initial weights: it can be predicted, and all its atoms extrapolate.
    """

    elements: tuple[str, ...]
    descriptor: Descriptor
    hidden: tuple[int, ...]
    weights: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    offsets: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def symmetry_functions(self) -> SymmetryFunctions:
        """The descriptor of this model."""
        return SymmetryFunctions(self.elements, self.descriptor)

    @cached_property
    def _networks(self) -> Networks:
        columns = Columns.all(len(self.symmetry_functions))
        return Networks(torch.from_numpy(self.weights), len(self.elements), self.hidden, columns)

    def energy(self, structure: Structure) -> float:
        """Energy in eV of the whole cell, cheaper than `predict`. Raises ModelError for an unknown element."""
        return float(
            sum(
                self._evaluate(block.fingerprint, block.n_centres)[0].sum()
                for block in self.symmetry_functions.blocks(structure)
            )
        )

    def predict(self, structure: Structure) -> Prediction:
        """Energy, forces and stress, in blocks of atoms, so that room for derivatives does not grow with the structure.

        Raises ModelError for an unknown element.
        """
        n = len(structure)
        atomic_energies, features = np.empty(n), np.empty((n, len(self.symmetry_functions)))
        all_forces, strain = np.zeros((n, 3)), np.zeros((3, 3))
        for block in self.symmetry_functions.blocks(structure, derivatives=True):
            fingerprint, own = block.fingerprint, block.atoms[: block.n_centres]
            atomic_energies[own], gradients = self._evaluate(fingerprint, block.n_centres)
            features[own] = fingerprint.features[: block.n_centres]
            geometry = Geometry.of([fingerprint], np.arange(len(block.atoms)))
            pair_pulls = pulls(gradients, geometry)
            all_forces[block.atoms] += forces_of_pulls(pair_pulls, geometry)
            strain += pair_pulls.T @ fingerprint.vectors
        strain = 0.5 * (strain + strain.T) / structure.volume  # symmetric but for rounding: no energy on rotation
        return Prediction(
            energy=float(atomic_energies.sum()),
            forces=all_forces,
            stress=strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
            atomic_energies=atomic_energies,
            features=features,
            species=structure.species_index(self.elements),
        )

    @property
    def trained(self) -> np.ndarray:
        """Of which elements the model has training data, (n_elements,) bool."""
        return np.isfinite(self.minimum).all(axis=1)

    def outside(self, features: np.ndarray, species: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """Which features leave the training data, (n, F) bool, from features (n, F) and element indices (n,).

        One does below min - tolerance * (max - min) and above max + tolerance * (max - min) of its element's training
        atoms; none does of an element without any.
        """
        low, high = (np.where(self.trained[:, None], x, 0.0) for x in (self.minimum, self.maximum))
        margin = tolerance * (high - low)
        outside = (features < (low - margin)[species]) | (features > (high + margin)[species])
        return outside & self.trained[species][:, None]

    def extrapolating(self, features: np.ndarray, species: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """Which atoms leave the training data: (n,) bool, see `outside`; or are of an element without any."""
        return self.outside(features, species, tolerance).any(axis=1) | ~self.trained[species]

    def _evaluate(self, fingerprint: Fingerprint, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
        """Energies (n_atoms,) in eV of the first atoms, and dE/dG (n, F) in eV, 0 for the others."""
        species = fingerprint.species[:n_atoms]
        inputs = (fingerprint.features[:n_atoms] - self.center[species]) * self.scale[species]
        by_element = np.argsort(species, kind="stable")
        counts = np.bincount(species, minlength=len(self.elements)).tolist()
        with torch.inference_mode():
            energies, slopes, _ = self._networks.evaluate(torch.from_numpy(inputs[by_element]), counts)
        atomic_energies, gradients = self.offsets[species], np.zeros_like(fingerprint.features)
        atomic_energies[by_element] += energies.numpy()
        gradients[by_element] = slopes.numpy() * self.scale[species[by_element]]
        return atomic_energies, gradients


def feature_scaling(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center and scale (F,) of one element's training features (n, F): zero mean, unit standard deviation.

    A feature that does not vary beyond rounding gets scale 0: the network does not see it. An element without training
    atoms gets center 0 and scale 1.
    """
    if not len(features):
        return np.zeros(features.shape[1]), np.ones(features.shape[1])
    center, deviation = features.mean(axis=0), features.std(axis=0)
    varies = deviation > 1e-10 * np.maximum(1.0, np.abs(center))
    return center, np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)


def feature_range(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum (F,) of one element's training features (n, F); +inf and -inf where there are none."""
    return features.min(axis=0, initial=np.inf), features.max(axis=0, initial=-np.inf)


def energy_offsets(data: Sequence[Labelled], elements: tuple[str, ...]) -> np.ndarray:
    """Energy per atom of each element (n_elements,) in eV: least squares of Σ_e n_e x_e on the structures' energies.

    Where the compositions leave a direction open (fewer independent compositions than elements), that direction stays
    at minimum norm: it is arbitrary, and so then is the energy of any composition outside the span of the data.
    """
    counts = np.array([labelled.structure.counts(elements) for labelled in data])
    energies = np.array([labelled.energy for labelled in data])
    return np.linalg.lstsq(counts, energies, rcond=None)[0]
