"""An HDNNP as an ASE calculator."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.model import Hdnnp
from kmde_fw.hdnnp.model_file import load
from kmde_fw.records import Structure


class HdnnpCalculator(Calculator):
    """Energy, free_energy (the same), energies (per atom), forces and stress, in ASE's units, signs and Voigt order.

    results["extrapolating"]: (n,) bool, the atoms outside the model's training data (see `Hdnnp.extrapolating`).
    model: an `Hdnnp` or the path of a model file; tolerance: relative, of the training range.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, model: Hdnnp | Path | str, tolerance: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model if isinstance(model, Hdnnp) else load(model)
        self.tolerance = tolerance

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute everything at once; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        if not np.all(self.atoms.pbc):
            raise ModelError("the model is for crystals: set atoms.pbc to True, with vacuum in the cell if need be")
        prediction = self.model.predict(Structure.from_atoms(self.atoms))
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.atomic_energies,
            "forces": prediction.forces,
            "stress": prediction.stress,
            "extrapolating": self.model.extrapolating(prediction.features, prediction.species, self.tolerance),
        }
