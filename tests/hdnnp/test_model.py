import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.config import Descriptor
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp import symmetry_functions
from kmde_fw.hdnnp.model import energy_offsets, feature_range, feature_scaling
from kmde_fw.records import Labelled, Structure


def with_positions(structure, positions):
    return Structure(structure.species, structure.cell, positions)


def strained(structure, strain):
    deformation = np.eye(3) + strain
    return Structure(structure.species, structure.cell @ deformation.T, structure.positions @ deformation.T)


def test_energy_is_the_sum_of_atoms_and_the_same_both_ways(model, structure):
    prediction = model.predict(structure)
    assert prediction.energy == pytest.approx(prediction.atomic_energies.sum(), abs=1e-12)
    assert model.energy(structure) == pytest.approx(prediction.energy, abs=1e-10)


def test_forces_are_minus_the_slope_of_the_energy(model, structure):
    forces, step = model.predict(structure).forces, 1e-4
    assert np.abs(forces).max() > 0.1
    for atom in range(len(structure)):
        for axis in range(3):
            shift = np.zeros((len(structure), 3))
            shift[atom, axis] = step
            plus, minus = (model.energy(with_positions(structure, structure.positions + s)) for s in (shift, -shift))
            assert forces[atom, axis] == pytest.approx(-(plus - minus) / (2 * step), abs=2e-6)


def test_stress_is_the_slope_of_the_energy_with_strain(model, structure):
    """In ASE's sign (positive: pulling on the cell costs energy) and order xx, yy, zz, yz, xz, xy."""
    stress, step = model.predict(structure).stress, 1e-5
    assert np.abs(stress).max() > 1e-3
    for k, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strain = np.zeros((3, 3))
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        slope = (model.energy(strained(structure, strain)) - model.energy(strained(structure, -strain))) / (2 * step)
        assert stress[k] == pytest.approx(slope / structure.volume, abs=1e-7)


@pytest.mark.parametrize("pairs_at_once", [1, 50])
def test_prediction_in_blocks_is_that_in_one(model, structure, monkeypatch, pairs_at_once):
    """What a structure of many thousand atoms does to the true size of a block."""
    larger = Structure.from_atoms(structure.to_atoms() * (1, 2, 2))
    (whole,) = model.symmetry_functions.blocks(larger)
    assert whole.n_centres == len(whole.atoms) == len(larger)
    expected = model.predict(larger)
    monkeypatch.setattr(symmetry_functions, "BLOCK_PAIRS", pairs_at_once)
    blocks = list(model.symmetry_functions.blocks(larger, derivatives=True))
    most = np.diff(model.symmetry_functions.compute(larger).starts).max()
    assert len(blocks) > 3
    assert max(len(block.fingerprint.derivatives) for block in blocks) <= max(pairs_at_once, most)
    assert sorted(a for block in blocks for a in block.atoms[: block.n_centres]) == list(range(len(larger)))
    found = model.predict(larger)
    for name in ("energy", "forces", "stress", "atomic_energies", "features"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found.species, expected.species)
    assert model.energy(larger) == pytest.approx(expected.energy, rel=1e-12)


def test_forces_and_stress_of_one_atom_that_neighbours_itself(make_model):
    model = make_model(("Al",))
    structure = strained(
        Structure.from_atoms(bulk("Al", "fcc", a=4.0)), np.array([[0.03, 0.01, 0], [0.01, 0, 0], [0, 0, 0]])
    )
    prediction = model.predict(structure)
    np.testing.assert_allclose(prediction.forces, 0, atol=1e-12)
    strain = np.diag([1e-5, 0, 0])
    slope = (model.energy(strained(structure, strain)) - model.energy(strained(structure, -strain))) / 2e-5
    assert prediction.stress[0] == pytest.approx(slope / structure.volume, abs=1e-7)


def test_invariance(model, structure):
    before = model.predict(structure)
    np.testing.assert_allclose(before.forces.sum(axis=0), 0, atol=1e-11)

    moved = model.predict(with_positions(structure, structure.positions + np.array([5.0, -0.2, 0.7])))
    assert moved.energy == pytest.approx(before.energy, abs=1e-10)
    np.testing.assert_allclose(moved.forces, before.forces, atol=1e-10)

    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turned = model.predict(Structure(structure.species, structure.cell @ rotation, structure.positions @ rotation))
    assert turned.energy == pytest.approx(before.energy, abs=1e-10)
    np.testing.assert_allclose(turned.forces, before.forces @ rotation, atol=1e-10)

    order = [2, 4, 1, 0, 3]
    shuffled = model.predict(
        Structure(tuple(structure.species[k] for k in order), structure.cell, structure.positions[order])
    )
    assert shuffled.energy == pytest.approx(before.energy, abs=1e-10)
    np.testing.assert_allclose(shuffled.forces, before.forces[order], atol=1e-10)

    larger = model.predict(Structure.from_atoms(structure.to_atoms() * (1, 1, 3)))
    assert larger.energy == pytest.approx(3 * before.energy, abs=1e-9)
    np.testing.assert_allclose(larger.forces, np.tile(before.forces, (3, 1)), atol=1e-10)
    np.testing.assert_allclose(larger.stress, before.stress, atol=1e-12)


def test_isolated_atom(model):
    prediction = model.predict(Structure(("Pt",), 30 * np.eye(3), np.zeros((1, 3))))
    assert np.isfinite(prediction.energy)
    assert not prediction.forces.any()
    assert not prediction.stress.any()


def test_unknown_element_is_an_error(model):
    with pytest.raises(ModelError, match="contains Cu"):
        model.predict(Structure.from_atoms(bulk("Cu")))


def test_radial_functions_alone_make_a_model(make_model, structure):
    model = make_model(descriptor=Descriptor(angular_eta=()))
    assert len(model.symmetry_functions) == 9
    assert np.isfinite(model.predict(structure).forces).all()


def test_extrapolating_is_relative_to_the_range(make_model):
    model = make_model(("Al", "Fe"))
    model.minimum[:], model.maximum[:] = 1.0, 3.0
    inside = np.full(model.minimum.shape[1], 2.0)

    def one(value, tolerance=0.01, element=0):
        features = inside.copy()
        features[4] = value
        return bool(model.extrapolating(features[None], np.array([element]), tolerance)[0])

    assert not any(one(value) for value in (0.981, 1.0, 3.0, 3.019))
    assert all(one(value) for value in (0.979, 3.021))
    assert one(3.019, tolerance=0.0)
    model.minimum[1], model.maximum[1] = np.inf, -np.inf
    assert one(2.0, element=1)
    assert one(2.0, element=1, tolerance=0.0)
    assert not one(2.0, element=0, tolerance=0.0)


def test_scaling_standardises_and_switches_constant_features_off():
    features = np.array([[1.0, 7.0, 0.1], [3.0, 7.0, 0.1 + 1e-17]])
    center, scale = feature_scaling(features)
    np.testing.assert_allclose((features - center) * scale, [[-1, 0, 0], [1, 0, 0]], atol=1e-12)
    center, scale = feature_scaling(np.empty((0, 3)))
    assert (center == 0).all()
    assert (scale == 1).all()
    low, high = feature_range(np.empty((0, 3)))
    assert (low == np.inf).all()
    assert (high == -np.inf).all()


def test_offsets_are_least_squares_of_minimum_norm():
    def labelled(species, energy):
        n = len(species)
        return Labelled(Structure(species, 9 * np.eye(3), np.zeros((n, 3))), energy, np.zeros((n, 3)))

    known = [labelled(("Al",), -3.0), labelled(("Al", "Fe"), -11.0)]
    np.testing.assert_allclose(energy_offsets(known, ("Al", "Fe")), [-3, -8])
    # an element without data has offset 0
    np.testing.assert_allclose(energy_offsets(known, ("Al", "Fe", "Pt")), [-3, -8, 0], atol=1e-12)
    # one composition, two elements: of all a + b = -11 the shortest
    np.testing.assert_allclose(energy_offsets(known[1:], ("Al", "Fe")), [-5.5, -5.5])
