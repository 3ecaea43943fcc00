from dataclasses import fields

import numpy as np
import pytest
import torch

from kmde_fw.config import Descriptor
from kmde_fw.hdnnp import SymmetryFunctions
from kmde_fw.hdnnp.forces import ForceMap, Geometry, TorchForceMap, forces_of_pulls, pulls
from kmde_fw.hdnnp.network import Columns

FUNCTIONS = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor())


@pytest.fixture(scope="module")
def geometry(make_structure):
    """Two structures, their atoms in some other order."""
    structures = [make_structure(), make_structure(1, ("Pt", "Pt", "Al"))]
    fingerprints = [FUNCTIONS.compute(structure, derivatives=True) for structure in structures]
    return Geometry.of(fingerprints, np.random.default_rng(0).permutation(8))


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_forces_are_sums_over_the_pairs_one_by_one(geometry):
    gradients = random(8, 57).numpy()
    expected = np.zeros((8, 3))
    pair_pulls = pulls(gradients, geometry)
    for k, centre in enumerate(geometry.row):
        for p in range(geometry.starts[k], geometry.starts[k + 1]):
            columns = geometry.columns[geometry.neighbour_species[p]]
            slope = geometry.derivatives[p] @ gradients[centre, columns]
            np.testing.assert_allclose(pair_pulls[p], slope, rtol=1e-12, atol=1e-12)
            expected[geometry.neighbour_row[p]] -= slope
            expected[centre] += slope
    np.testing.assert_allclose(forces_of_pulls(pair_pulls, geometry), expected, rtol=1e-12, atol=1e-12)


def test_the_map_back_is_the_transpose(geometry):
    gradients, by_forces = random(8, 57), random(8, 3, seed=1)
    force_map = ForceMap(geometry)
    forwards = (force_map.forward(gradients) * by_forces).sum()
    backwards = (force_map.transposed(by_forces, 57) * gradients).sum()
    assert float(forwards) == pytest.approx(float(backwards), rel=1e-12)


def test_torch_operations_do_what_compiled_loops_do(geometry):
    gradients, by_forces = random(8, 57), random(8, 3, seed=1)
    compiled, plain = ForceMap(geometry), TorchForceMap(geometry, "cpu")
    np.testing.assert_allclose(plain.forward(gradients), compiled.forward(gradients), rtol=1e-12, atol=1e-12)
    back = compiled.transposed(by_forces, 57)
    np.testing.assert_allclose(plain.transposed(by_forces, 57), back, rtol=1e-12, atol=1e-12)


def test_scaling_is_taken_into_the_derivatives(geometry):
    """Also where a symmetry function that no network sees is left out."""
    scale = np.random.default_rng(2).uniform(0.5, 2, (8, 57))
    scale[:, [0, 5, 56]] = 0.0
    columns = Columns.seen(scale)
    assert columns.width == 56
    by_inputs = random(8, 57)
    expected = ForceMap(geometry).forward(by_inputs * torch.from_numpy(scale))
    packed = geometry.of_inputs(scale, columns.places())
    found = ForceMap(packed).forward(columns.pack(by_inputs))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_work_grows_with_the_pairs(make_structure):
    """Counted: numbers that a geometry holds for n times the crystal are n times as many."""
    structure = make_structure()
    sizes = []
    for n in (1, 3):
        larger = type(structure).from_atoms(structure.to_atoms() * (n, 1, 1))
        geometry = Geometry.of([FUNCTIONS.compute(larger, derivatives=True)], np.arange(len(larger)))
        arrays = [getattr(geometry, f.name) for f in fields(geometry) if f.name not in ("columns", "starts")]
        sizes.append([array.size for array in arrays])
    np.testing.assert_array_equal(sizes[1], np.multiply(sizes[0], 3))
