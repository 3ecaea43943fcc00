import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, make_supercell

from kmde_fw.config import PROTOTYPES
from kmde_fw.core.parents import MAX_STRUCTURE_ATOMS, derive_parents, reduced_formula, same_crystal
from kmde_fw.core.prototypes import primitive_parent, prototype
from kmde_fw.records import Structure

SPECS = Path(__file__).parents[2] / "fw_specs"


def rattled(atoms, displacement, seed=0, dopant=None):
    """The structure of an ase.Atoms, its first atom replaced and each coordinate moved at random."""
    atoms = atoms.copy()
    if dopant:
        atoms.symbols[0] = dopant
    atoms.positions += np.random.default_rng(seed).normal(0, displacement, atoms.positions.shape)
    return Structure.from_atoms(atoms)


def cu3au(a=3.75):
    atoms = bulk("Cu", "fcc", a=a, cubic=True)
    atoms.symbols[0] = "Au"
    return atoms


def noise(n, seed=0):
    rng = np.random.default_rng(seed)
    length = (16 * n) ** (1 / 3)
    return Structure(("Al", "Fe") * (n // 2), length * np.eye(3), length * rng.random((n, 3)))


@pytest.mark.parametrize("displacement", [0.0, 0.02, 0.1])
def test_doped_displaced_supercell(displacement):
    structures = [rattled(cu3au() * (3, 3, 2), displacement, seed, "Pt") for seed in range(3)]
    (parent,) = derive_parents(structures, 60)
    assert parent.name == "parent of the target: AuCu3"
    assert parent.volume == pytest.approx(3.75**3)
    known = primitive_parent(parent)
    assert (len(known.structure), len(known.sites)) == (4, 2)


def test_skewed_supercell_of_a_crystal_with_inner_freedom():
    """Sigma: 30 atoms on 5 sites, whose positions the copies' mean has to find."""
    crystal = prototype("sigma")
    species = tuple("CrFeCrFeCr"[2 * k : 2 * k + 2] for k in crystal.orbits)
    sigma = Structure(species, 8.8 * crystal.cell, 8.8 * crystal.positions)
    supercell = make_supercell(sigma.to_atoms(), [[1, 1, 0], [-1, 1, 0], [1, 0, 2]])
    (parent,) = derive_parents([rattled(supercell, 0.05, dopant="W")], 60)
    assert len(parent) == 30
    assert len(primitive_parent(parent).sites) == 5
    assert reduced_formula(parent) == reduced_formula(sigma)
    assert parent.volume == pytest.approx(sigma.volume)


@pytest.mark.parametrize("name", PROTOTYPES)
def test_a_primitive_crystal_is_its_own_parent(name):
    crystal = prototype(name)
    metals = ("Al", "Fe", "Pt", "Ni", "Cu")
    size = 2.5 / (abs(np.linalg.det(crystal.cell)) / len(crystal)) ** (1 / 3)
    species = tuple(metals[k] for k in crystal.orbits)
    structure = Structure(species, size * crystal.cell, size * crystal.positions)
    (parent,) = derive_parents([structure], 60, source="train set")
    assert parent.name == f"parent of the train set: {structure.formula}"
    assert len(parent) == len(structure)
    assert len(primitive_parent(parent).sites) == crystal.n_orbits
    assert derive_parents([structure], len(structure) - 1) == []


@pytest.mark.parametrize("n", [20, 200])
def test_amorphous_structures_have_no_parent(n):
    assert derive_parents([noise(n)], 60) == []


def test_the_dopants_host_is_the_element_that_makes_a_crystal():
    path = SPECS / "al_fe_pt" / "target.extxyz"
    target = [Structure.from_atoms(ase.io.read(path, index)) for index in (0, 12)]
    assert [label.info["label"][:5] for label in ase.io.read(path, "0:13:12")] == ["Pt@Fe", "Pt@Al"]
    for structure in target:
        (parent,) = derive_parents([structure], 60)
        assert parent.formula == "Al39Fe12"
        assert len(primitive_parent(parent).sites) == 20
        host = Structure.from_atoms(ase.io.read(SPECS / "al_fe_pt/host.extxyz"))
        assert same_crystal(parent, host)
    assert len(derive_parents(target, 60)) == 1
    assert derive_parents(target, 50) == []


def test_one_parent_of_each_crystal_in_a_fixed_order():
    cells = [rattled(cu3au() * 2, 0.05), rattled(cu3au() * 2, 0.0), rattled(bulk("Cu", cubic=True) * 2, 0.05)]
    found = derive_parents(cells, 60)
    assert [p.formula for p in found] == ["Cu", "AuCu3"]
    assert [p.id for p in derive_parents(cells[::-1], 60)] == [p.id for p in found]
    # the cell whose copies differ least
    assert [p.id for p in derive_parents(cells[1:2], 60)] == [found[1].id]


def test_same_crystal():
    one, wide = (Structure.from_atoms(cu3au(a)) for a in (3.75, 3.80))
    assert same_crystal(one, Structure.from_atoms(cu3au(3.76) * 2))
    assert not same_crystal(one, wide)
    assert not same_crystal(one, Structure.from_atoms(bulk("Cu", a=3.75)))


def test_large_structures_and_long_trajectories_take_little_time():
    start = time.perf_counter()
    large = Structure.from_atoms(bulk("Cu", cubic=True) * (8, 8, 8))
    assert len(large) > MAX_STRUCTURE_ATOMS
    assert derive_parents([large], 60) == []
    frames = [noise(60, seed) for seed in range(300)]
    assert derive_parents(frames, 60) == []
    assert time.perf_counter() - start < 10
