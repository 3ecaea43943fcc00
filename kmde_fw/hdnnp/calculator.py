"""An HDNNP as an ASE calculator."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from kmde_fw.core.certificate import FILE_NAME, Certificate, DomainLog, read_certificate
from kmde_fw.core.outliers import FeatureRange
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.model import TOLERANCE, Hdnnp, Prediction
from kmde_fw.hdnnp.model_file import from_bytes, read_bytes, to_bytes
from kmde_fw.records import Structure

#: the model in a folder that `kmde export --format ase` wrote
MODEL_NAME = "model.safetensors"


class HdnnpCalculator(Calculator):
    """Energy, free_energy (the same), energies (per atom), forces and stress, in ASE's units, signs and Voigt order.

    Crystals, slabs, wires and clusters: along directions that are not periodic there are no images, whatever the cell
    is. Stress is per volume of the cell, and missing where the cell has none. results["extrapolating"]: (n,) bool, the
    atoms outside the model's training data (see `Hdnnp.extrapolating`).

    model: an `Hdnnp`, the path of a model file, or a folder of `kmde export --format ase`, whose certificate counts
    then; certificate: of the model, or its path; tolerance: relative, of the training range; every: each so many-th
    structure is searched for motifs that the certificate does not cover. ModelError if the certificate belongs to
    another model. `domain`: what of all structures calculated so far left the model's domain (`domain.report()`).
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self,
        model: Hdnnp | Path | str,
        certificate: Certificate | Path | str | None = None,
        tolerance: float = TOLERANCE,
        every: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model, self.certificate = _open(model, certificate)
        self.tolerance = tolerance
        self.domain = domain_log(self.model, self.certificate, every)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute everything at once; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        structure = as_crystal(self.atoms, self.model.descriptor.cutoff)
        prediction = self.model.predict(structure)
        outside = note(self.domain, self.domain.steps, self.model, structure, prediction, self.tolerance)
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.atomic_energies,
            "forces": prediction.forces,
            "extrapolating": outside,
        }
        volume = abs(np.linalg.det(self.atoms.cell.array))
        if volume > 1e-9:
            self.results["stress"] = prediction.stress * (structure.volume / volume)


def domain_log(model: Hdnnp, certificate: Certificate | None, every: int = 10) -> DomainLog:
    """An empty log for runs of this model."""
    return DomainLog(model.elements, model.symmetry_functions.keys, ranges_of(model), certificate, every)


def ranges_of(model: Hdnnp) -> dict[str, FeatureRange]:
    """The ranges of the symmetry functions by element, without elements that the model has no data of."""
    return {
        element: FeatureRange(model.minimum[k], model.maximum[k])
        for k, element in enumerate(model.elements)
        if model.trained[k]
    }


def note(
    log: DomainLog, step: int, model: Hdnnp, structure: Structure, prediction: Prediction, tolerance: float
) -> np.ndarray:
    """Add a structure to the log; which of its atoms extrapolate, (n,) bool."""
    outside = model.outside(prediction.features, prediction.species, tolerance)
    trained = model.trained[prediction.species]
    log.add(step, structure, prediction.features, outside, trained)
    return outside.any(axis=1) | ~trained


def as_crystal(atoms: Atoms, cutoff: float) -> Structure:
    """A structure with the same neighbours within the cutoff (Å) as these atoms, periodic in all directions.

    A direction that is not periodic gets a lattice vector at right angles to the periodic ones, so long that no image
    is within the cutoff. ModelError for positions that are not numbers, and periodic directions without a cell vector.
    """
    cell, positions = atoms.cell.array.copy(), atoms.get_positions()
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ModelError("positions or cell are not finite numbers (NaN or inf): the run has exploded, or never began")
    pbc = np.array(atoms.pbc, dtype=bool)
    if np.linalg.matrix_rank(cell[pbc], tol=1e-6) < pbc.sum():
        raise ModelError(
            "atoms.pbc is True for a direction whose cell vector is missing, or lies in the plane of the others: give "
            "the cell, or set atoms.pbc to False for a cluster"
        )
    free = np.flatnonzero(~pbc)
    if len(free):
        # right angles to the periodic vectors: the rows of the full V that span nothing of them
        directions = np.linalg.svd(cell[pbc].reshape(-1, 3), full_matrices=True)[2][pbc.sum() :]
        for axis, direction in zip(free, directions, strict=True):
            extent = np.ptp(positions @ direction) if len(positions) else 0.0
            cell[axis] = direction * (extent + cutoff + 1.0)
    return Structure(tuple(atoms.get_chemical_symbols()), cell, positions)


def _open(model: Hdnnp | Path | str, certificate: Certificate | Path | str | None) -> tuple[Hdnnp, Certificate | None]:
    """Model and certificate, which belong together."""
    if isinstance(model, Hdnnp):
        found, data = model, None
    else:
        path, beside = certificate_beside(Path(model))
        certificate = certificate or beside
        data = read_bytes(path)
        found = from_bytes(data, str(path))
    if certificate is None:
        return found, None
    source = "the certificate"
    if not isinstance(certificate, Certificate):
        source = str(certificate)
        certificate = read_certificate(Path(certificate))
    certificate.check(to_bytes(found) if data is None else data, source)
    return found, certificate


def certificate_beside(path: Path) -> tuple[Path, Path | None]:
    """The model file that `path` (a file, or a folder of `kmde export --format ase`) means, and its certificate."""
    if path.is_dir():
        path, beside = path / MODEL_NAME, path / FILE_NAME
    else:
        beside = path.with_suffix(f".{FILE_NAME}")
    return path, beside if beside.exists() else None
