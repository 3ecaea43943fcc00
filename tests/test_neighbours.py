import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure


def random(seed, cell, n):
    """Atoms anywhere, also far outside the cell."""
    return Structure(("Al",) * n, np.array(cell, dtype=float), np.random.default_rng(seed).uniform(-9, 12, (n, 3)))


STRUCTURES = {
    "one atom": (Structure.from_atoms(bulk("Al", "fcc", a=4.05)), 6.3),
    "smaller than the cutoff in one direction": (random(0, [(2.1, 0, 0), (0, 9, 0), (0, 0, 14)], 5), 5.0),
    "strongly skewed": (random(1, [(5, 0, 0), (-11, 4, 0), (7, 6, 3)], 8), 4.5),
    "left-handed": (random(2, [(0, 6, 0), (7, 0, 0), (1, 0, 8)], 9), 4.0),
    "nothing near": (Structure(("Al", "Al"), 30 * np.eye(3), np.array([(0, 0, 0), (9, 9, 9)])), 4.0),
    "larger than bins": (random(3, np.diag((25, 27, 31)), 400), 4.0),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_pairs_are_those_of_ase_in_order(name):
    structure, cutoff = STRUCTURES[name]
    found = find_neighbours(structure, cutoff)
    i, j, d, v = neighbor_list("ijdD", structure.to_atoms(), cutoff)
    r = np.round(v, 6)
    order = np.lexsort((r[:, 2], r[:, 1], r[:, 0], j, np.round(d, 6), i))
    np.testing.assert_array_equal(found.centre, i[order])
    np.testing.assert_array_equal(found.neighbour, j[order])
    np.testing.assert_allclose(found.distances, d[order], atol=1e-12)
    np.testing.assert_allclose(found.vectors, v[order], atol=1e-12)
    np.testing.assert_array_equal(found.starts, np.searchsorted(i[order], np.arange(len(structure) + 1)))


@pytest.mark.parametrize("name", STRUCTURES)
def test_both_ends_of_a_pair_agree_to_the_last_bit(name):
    found = find_neighbours(*STRUCTURES[name])
    there = set(zip(found.centre, found.neighbour, *found.vectors.T, found.distances, strict=True))
    back = set(zip(found.neighbour, found.centre, *-found.vectors.T, found.distances, strict=True))
    assert len(there) == len(found.centre)
    assert there == back


def test_a_pair_at_the_cutoff_is_none():
    structure = Structure(("Al",), 2.0 * np.eye(3), np.zeros((1, 3)))
    assert len(find_neighbours(structure, 2.0).distances) == 0
    np.testing.assert_array_equal(find_neighbours(structure, np.nextafter(2.0, 3)).distances, [2.0] * 6)


def test_the_order_does_not_depend_on_rounding():
    """A perfect crystal, where all is equal but for the last bits, is the same wherever it lies."""
    atoms = bulk("Fe", "bcc", a=2.87, cubic=True) * (2, 2, 3)
    first = find_neighbours(Structure.from_atoms(atoms), 5.0)
    atoms.translate((0.123, -4.7, 11.9))
    moved = find_neighbours(Structure.from_atoms(atoms), 5.0)
    np.testing.assert_array_equal(moved.neighbour, first.neighbour)
    np.testing.assert_allclose(moved.vectors, first.vectors, atol=1e-12)
