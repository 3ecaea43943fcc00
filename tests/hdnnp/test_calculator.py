import hashlib
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet

from kmde_fw.config import Descriptor, Network, Training
from kmde_fw.core.certificate import certify
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp import HdnnpCalculator, save, to_bytes, train
from kmde_fw.hdnnp.calculator import ranges_of


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


def test_a_run_is_held_against_the_certificate(make_model, structure):
    model = make_model()
    features = model.predict(structure).features
    species = structure.species_index(model.elements)
    for e in range(3):
        own = features[species == e]
        model.minimum[e], model.maximum[e] = own.min(axis=0), own.max(axis=0)
    sha256 = hashlib.sha256(to_bytes(model)).hexdigest()
    functions, ranges = model.symmetry_functions.keys, ranges_of(model)
    facts = {"model": {"sha256": sha256}, "data": {}, "cite": []}
    certificate = certify(model.elements, 4.0, functions, ranges, [structure], **facts)
    atoms = structure.to_atoms()
    atoms.calc = HdnnpCalculator(model, certificate, every=1)
    atoms.get_potential_energy()
    assert not atoms.calc.domain.report()["motifs"]
    atoms.set_cell(atoms.cell * 0.9, scale_atoms=True)
    atoms.get_potential_energy()
    report = atoms.calc.domain.report()
    assert (report["first"], report["structures"], report["structures_outside"]) == (1, 2, 1)
    assert report["motifs"]
    assert report["functions"][0]["function"] in functions
    with pytest.raises(ModelError, match="belongs to another model"):
        HdnnpCalculator(make_model(seed=1), certificate)


def _displaced_slopes(atoms, calculator, step=1e-4):
    """-dE/dR (n, 3) by central differences."""
    slopes = np.zeros((len(atoms), 3))
    for k in range(len(atoms)):
        for c in range(3):
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[k, c] += sign * step
                moved.calc = calculator
                slopes[k, c] -= sign * moved.get_potential_energy() / (2 * step)
    return slopes


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False), (False, True, False), (True, True, True)])
def test_forces_and_stress_are_slopes_whatever_is_periodic(model, structure, pbc):
    atoms = structure.to_atoms()
    atoms.pbc = pbc
    calculator = HdnnpCalculator(model)
    atoms.calc = calculator
    forces, stress = atoms.get_forces(), atoms.get_stress()
    np.testing.assert_allclose(forces, _displaced_slopes(atoms, calculator), atol=1e-6)
    assert np.abs(forces.sum(axis=0)).max() < 1e-10
    for k, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * 0.5e-4
            strain[b, a] += sign * 0.5e-4
            moved = atoms.copy()
            moved.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
            moved.calc = calculator
            energies.append(moved.get_potential_energy())
        assert stress[k] == pytest.approx((energies[0] - energies[1]) / 2e-4 / atoms.get_volume(), abs=1e-6)


def test_a_cluster_needs_no_cell_and_is_where_it_is(model, structure):
    atoms = structure.to_atoms()
    atoms.pbc = False
    atoms.calc = calculator = HdnnpCalculator(model)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    alone = Atoms(atoms.symbols, atoms.positions + 100.0, calculator=calculator)
    assert alone.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(alone.get_forces(), forces, atol=1e-10)
    with pytest.raises(PropertyNotImplementedError):
        alone.get_stress()
    boxed = atoms.copy()
    boxed.set_cell(np.diag([60.0, 60.0, 60.0]))
    boxed.pbc = True
    boxed.calc = calculator
    assert boxed.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    single = Atoms("Al", calculator=calculator)
    assert single.get_forces().tolist() == [[0.0, 0.0, 0.0]]


def test_a_missing_cell_vector_and_lost_atoms_are_refused(model, structure):
    atoms = Atoms("AlFe", [[0, 0, 0], [2, 0, 0]], cell=[5, 5, 0], pbc=True, calculator=HdnnpCalculator(model))
    with pytest.raises(ModelError, match="cell vector is missing"):
        atoms.get_potential_energy()
    atoms = structure.to_atoms()
    atoms.calc = HdnnpCalculator(model)
    atoms.positions[2, 1] = np.nan
    with pytest.raises(ModelError, match="the run has exploded"):
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
