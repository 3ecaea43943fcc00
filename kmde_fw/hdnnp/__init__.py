"""High-dimensional neural network potentials: descriptor, model, training, model files, ASE calculator.

Names are looked up on first use, so that `import kmde_fw.hdnnp` does not import torch or compile kernels.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmde_fw.hdnnp.calculator import HdnnpCalculator
    from kmde_fw.hdnnp.metrics import EnergyErrors, energy_errors, force_rmse
    from kmde_fw.hdnnp.model import Hdnnp, Prediction
    from kmde_fw.hdnnp.model_file import from_bytes, load, save, to_bytes
    from kmde_fw.hdnnp.symmetry_functions import Fingerprint, SymmetryFunctions
    from kmde_fw.hdnnp.training import TrainingReport, train, training_data_hash

__all__ = [
    "EnergyErrors",
    "Fingerprint",
    "Hdnnp",
    "HdnnpCalculator",
    "Prediction",
    "SymmetryFunctions",
    "TrainingReport",
    "energy_errors",
    "force_rmse",
    "from_bytes",
    "load",
    "save",
    "to_bytes",
    "train",
    "training_data_hash",
]

_MODULES = {
    "calculator": ("HdnnpCalculator",),
    "metrics": ("EnergyErrors", "energy_errors", "force_rmse"),
    "model": ("Hdnnp", "Prediction"),
    "model_file": ("from_bytes", "load", "save", "to_bytes"),
    "symmetry_functions": ("Fingerprint", "SymmetryFunctions"),
    "training": ("TrainingReport", "train", "training_data_hash"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
