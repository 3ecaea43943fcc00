"""A small model of Cu-Au, trained on six crystals."""

import numpy as np
import pytest

from kmde_fw.config import Descriptor, Network, Training
from kmde_fw.hdnnp import train
from kmde_fw.records import Labelled, Structure


@pytest.fixture(scope="session")
def copper_gold():
    """Cu-Au crystals of 4 and 8 atoms, labelled by effective medium theory."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    generator = np.random.default_rng(0)
    data = []
    for k in range(6):
        atoms = bulk("Cu", "fcc", a=3.85, cubic=True) * ((2, 1, 1) if k % 2 else (1, 1, 1))
        atoms.symbols[generator.permutation(len(atoms))[: 1 + k % 3]] = "Au"
        atoms.positions += generator.normal(0, 0.1, atoms.positions.shape)
        atoms.calc = EMT()
        data.append(Labelled(Structure.from_atoms(atoms), atoms.get_potential_energy(), atoms.get_forces()))
    return data


@pytest.fixture(scope="session")
def model(copper_gold):
    settings = Training(max_closures=60, validation_fraction=0)
    return train(copper_gold, ("Au", "Cu"), Descriptor(), Network(hidden=(6, 6)), settings, seed=0)[0]
