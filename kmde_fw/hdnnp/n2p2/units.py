"""Units of foreign files: n2p2 and RuNNer compute in whatever units their input.data has, and do not say which."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ase.units import Bohr, Hartree

#: name -> Å, and name -> eV (CODATA 2014, as in ASE)
LENGTHS = {"angstrom": 1.0, "bohr": Bohr}
ENERGIES = {"ev": 1.0, "hartree": Hartree}


@dataclass(frozen=True)
class Units:
    """length, energy: names in LENGTHS and ENERGIES."""

    length: str = "angstrom"
    energy: str = "ev"

    @property
    def angstrom(self) -> float:
        """Å of one length."""
        return LENGTHS[self.length]

    @property
    def ev(self) -> float:
        """eV of one energy."""
        return ENERGIES[self.energy]

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.length}, {self.energy}".replace("ev", "eV").replace("angstrom", "Å")


def stated_units(comments: str) -> Units | None:
    """The units that the comments of an input.nn state, as in `# Length unit: Angstrom`; None if they do not."""
    found = {
        what: re.findall(rf"\b{what} unit\s*:\s*([A-Za-z]+)", comments, re.IGNORECASE) for what in ("length", "energy")
    }
    length = {_LENGTH_NAMES.get(word.lower()) for word in found["length"]}
    energy = {_ENERGY_NAMES.get(word.lower()) for word in found["energy"]}
    if len(length) == len(energy) == 1:
        one, other = length.pop(), energy.pop()
        if one is not None and other is not None:
            return Units(one, other)
    return None


_LENGTH_NAMES = {"angstrom": "angstrom", "ang": "angstrom", "bohr": "bohr", "au": "bohr"}
_ENERGY_NAMES = {"ev": "ev", "hartree": "hartree", "ha": "hartree"}
