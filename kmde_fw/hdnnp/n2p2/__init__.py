"""Potentials as files of n2p2 and RuNNer: input.nn, scaling.data, weights.*.data, input.data.

n2p2 (https://github.com/CompPhysVienna/n2p2) is what LAMMPS' `pair_style hdnnp` runs. Names are looked up on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmde_fw.hdnnp.n2p2.read import Potential, read_potential
    from kmde_fw.hdnnp.n2p2.structures import read_input_data
    from kmde_fw.hdnnp.n2p2.units import Units
    from kmde_fw.hdnnp.n2p2.write import n2p2_files

__all__ = ["Potential", "Units", "n2p2_files", "read_input_data", "read_potential"]

_MODULES = {
    "read": ("Potential", "read_potential"),
    "structures": ("read_input_data",),
    "units": ("Units",),
    "write": ("n2p2_files",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
