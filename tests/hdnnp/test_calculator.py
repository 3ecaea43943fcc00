import subprocess
import sys

import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

from kmde_fw.config import Descriptor, Network, Training
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp import HdnnpCalculator, save, train


def test_results_are_the_predictions(model, structure, tmp_path):
    save(model, tmp_path / "model.safetensors")
    atoms = structure.to_atoms()
    atoms.calc = HdnnpCalculator(tmp_path / "model.safetensors")
    prediction = model.predict(structure)
    assert atoms.get_potential_energy() == prediction.energy
    assert atoms.get_potential_energy(force_consistent=True) == prediction.energy
    np.testing.assert_array_equal(atoms.get_forces(), prediction.forces)
    np.testing.assert_array_equal(atoms.get_stress(), prediction.stress)
    np.testing.assert_array_equal(atoms.get_potential_energies(), prediction.atomic_energies)


def test_extrapolating_atoms_are_reported(make_model, structure):
    model = make_model()
    features = model.predict(structure).features
    model.minimum[:], model.maximum[:] = features.min(axis=0), features.max(axis=0)
    atoms = structure.to_atoms()
    atoms.calc = HdnnpCalculator(model)
    atoms.get_potential_energy()
    assert atoms.calc.results["extrapolating"].tolist() == [False] * 5
    atoms.positions[1] += 0.4
    atoms.get_potential_energy()
    assert atoms.calc.results["extrapolating"][1]
    atoms.calc = HdnnpCalculator(model, tolerance=1e6)
    atoms.get_potential_energy()
    assert not atoms.calc.results["extrapolating"].any()


def test_molecules_are_refused(model, structure):
    atoms = structure.to_atoms()
    atoms.pbc = False
    atoms.calc = HdnnpCalculator(model)
    with pytest.raises(ModelError, match=r"set atoms\.pbc to True"):
        atoms.get_potential_energy()


def test_molecular_dynamics_conserves_energy(copper_gold):
    settings = Training(max_closures=60, validation_fraction=0)
    model, _ = train(copper_gold, ("Au", "Cu"), Descriptor(), Network(hidden=(6, 6)), settings, seed=0)
    atoms = copper_gold[1].structure.to_atoms()
    atoms.calc = HdnnpCalculator(model)
    thermal = np.sqrt(units.kB * 300 * atoms.get_masses())[:, None]
    atoms.set_momenta(thermal * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    totals, potentials = [], []
    dynamics = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    for _ in range(100):
        dynamics.run(1)
        totals.append(atoms.get_total_energy())
        potentials.append(atoms.get_potential_energy())
    assert np.ptp(totals) < 0.02 * np.ptp(potentials)


def test_the_package_is_light_to_import():
    code = "import kmde_fw.hdnnp, sys; assert 'torch' not in sys.modules and 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
