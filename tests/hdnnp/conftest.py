"""Small crystals, an untrained model, and labels from a classical potential."""

import numpy as np
import pytest

from kmde_fw.config import Descriptor
from kmde_fw.hdnnp import Hdnnp, SymmetryFunctions
from kmde_fw.hdnnp.network import initial_weights
from kmde_fw.records import Labelled, Structure

ELEMENTS = ("Al", "Fe", "Pt")


def _structure(seed=0, species=("Al", "Fe", "Pt", "Al", "Fe"), length=4.3):
    """Atoms near bcc sites in a skewed cell that is smaller than twice the cutoff."""
    generator = np.random.default_rng(seed)
    n = len(species)
    sites = np.array([(i, i, i) for i in range(n)]) / n + np.array([(0.0, 0.5 * (i % 2), 0.0) for i in range(n)])
    cell = np.diag([length, 1.05 * length, 1.1 * length]) + generator.uniform(-0.4, 0.4, (3, 3))
    return Structure(tuple(species), cell, (sites + generator.uniform(-0.03, 0.03, (n, 3))) @ cell)


def _model(elements=ELEMENTS, seed=0, descriptor=None, hidden=(7, 5)):
    """A model with random weights, so that its predictions are far from trivial."""
    generator = np.random.default_rng(seed)
    descriptor = descriptor or Descriptor()
    table = (len(elements), len(SymmetryFunctions(elements, descriptor)))
    weights = initial_weights(*table, hidden, generator)
    return Hdnnp(
        elements=elements,
        descriptor=descriptor,
        hidden=hidden,
        weights=weights + generator.normal(0, 0.3, weights.shape),
        center=generator.uniform(0, 1, table),
        scale=generator.uniform(0.5, 2, table),
        offsets=generator.uniform(-5, -3, len(elements)),
        minimum=np.zeros(table),
        maximum=np.full(table, 0.5),
        provenance={"seed": seed},
    )


def _data(n=6, seed=0):
    """Cu-Au crystals of 4 and 8 atoms with the energies, forces and stresses of effective medium theory."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    generator = np.random.default_rng(seed)
    data = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.85, cubic=True) * ((2, 1, 1) if k % 2 else (1, 1, 1))
        gold = generator.permutation(len(atoms))[: 1 + k % 3]
        atoms.symbols[gold] = "Au"
        atoms.positions += generator.normal(0, 0.1, atoms.positions.shape)
        atoms.calc = EMT()
        data.append(
            Labelled(
                Structure.from_atoms(atoms, name=f"Cu-Au {k}"),
                atoms.get_potential_energy(),
                atoms.get_forces(),
                atoms.get_stress(),
            )
        )
    return data


@pytest.fixture(scope="session")
def make_structure():
    return _structure


@pytest.fixture(scope="session")
def make_model():
    return _model


@pytest.fixture(scope="session")
def structure():
    return _structure()


@pytest.fixture(scope="session")
def model():
    return _model()


@pytest.fixture(scope="session")
def copper_gold():
    return _data()
