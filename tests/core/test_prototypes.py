import time
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest

from kmde_fw.config import PROTOTYPES
from kmde_fw.core.candidates import Recipe, build
from kmde_fw.core.prototypes import (
    Family,
    _shells,
    families,
    parent_families,
    primitive_parent,
    prototype,
    shortest_bond,
    widest_cells,
)
from kmde_fw.errors import InputError
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure
from kmde_fw.units import covalent_radius

#: atoms of each orbit in the primitive cell
COMPOSITION = {
    "fcc": [1], "bcc": [1], "hcp": [2], "diamond": [2], "rocksalt": [1, 1], "cscl": [1, 1], "zincblende": [1, 1],
    "L1_2": [1, 3], "L1_0": [1, 1], "heusler": [2, 1, 1], "half_heusler": [1, 1, 1], "C14": [4, 2, 6],
    "sigma": [2, 4, 8, 8, 8],
}  # fmt: skip

#: up to this distance (in lattice constants), around an atom of each orbit: atoms of orbit 0, 1, ...
NEIGHBOURS = {
    "fcc": (0.72, [[12]]),
    "bcc": (1.01, [[8 + 6]]),
    "hcp": (1.01, [[12]]),
    "diamond": (0.44, [[4]]),
    "rocksalt": (0.51, [[0, 6], [6, 0]]),
    "cscl": (0.87, [[0, 8], [8, 0]]),
    "zincblende": (0.44, [[0, 4], [4, 0]]),
    "L1_2": (0.72, [[0, 12], [4, 8]]),
    "L1_0": (0.72, [[4, 8], [8, 4]]),
    "heusler": (0.44, [[0, 4, 4], [8, 0, 0], [8, 0, 0]]),
    "half_heusler": (0.44, [[0, 0, 4], [0, 0, 4], [4, 4, 0]]),
    # Frank-Kasper: 16 around the large atom, 4 of them large; icosahedra of 6 large and 6 small around the small ones
    "C14": (0.62, [[4, 3, 9], [6, 0, 6], [6, 2, 4]]),
}


def neighbour_counts(name, reach):
    crystal = prototype(name)
    found = find_neighbours(Structure(("X",) * len(crystal), crystal.cell, crystal.positions), reach)
    table = np.zeros((len(crystal), crystal.n_orbits), dtype=int)
    np.add.at(table, (found.centre, np.array(crystal.orbits)[found.neighbour]), 1)
    rows = []
    for orbit in range(crystal.n_orbits):
        of_orbit = table[np.array(crystal.orbits) == orbit]
        assert (of_orbit == of_orbit[0]).all()  # equivalent atoms see the same
        rows.append(of_orbit[0].tolist())
    return rows


@pytest.mark.parametrize("name", PROTOTYPES)
def test_composition(name):
    counts = Counter(prototype(name).orbits)
    assert [counts[k] for k in range(len(counts))] == COMPOSITION[name]


@pytest.mark.parametrize("name", list(NEIGHBOURS))
def test_coordination(name):
    reach, expected = NEIGHBOURS[name]
    assert neighbour_counts(name, reach) == expected


def test_second_shells():
    assert neighbour_counts("bcc", 0.9) == [[8]]
    # 8 nearest neighbours of another kind, then 6 of the other octahedral kind
    assert neighbour_counts("heusler", 0.51) == [[6, 4, 4], [8, 0, 6], [8, 6, 0]]
    assert neighbour_counts("half_heusler", 0.51) == [[0, 6, 4], [6, 0, 4], [4, 4, 0]]


def test_frank_kasper_coordination_of_sigma():
    """Neighbours by the Voronoi faces that they share: 12, 15, 14, 12, 14."""
    from pymatgen.analysis.local_env import VoronoiNN
    from pymatgen.core import Lattice
    from pymatgen.core import Structure as PymatgenStructure

    crystal = prototype("sigma")
    a = 8.8  # Å; lengths of real crystals, for VoronoiNN's cutoff
    cell = PymatgenStructure(Lattice(a * crystal.cell), ["Fe"] * 30, a * crystal.positions, coords_are_cartesian=True)
    voronoi = VoronoiNN(tol=0.05)
    found = [voronoi.get_cn(cell, crystal.orbits.index(k)) for k in range(5)]
    assert found == [12, 15, 14, 12, 14]


@pytest.mark.parametrize("name", ["hcp", "C14"])
def test_close_packing_is_ideal(name):
    assert prototype(name).cell[2, 2] == pytest.approx(1.633, abs=1e-4)


def test_number_of_families():
    assert {n: len(families(PROTOTYPES, ("Al", "Fe", "Pt")[:n])) for n in (1, 2, 3)} == {1: 8, 2: 64, 3: 330}
    assert Counter(f.crystal for f in families(PROTOTYPES, ("Al", "Fe"))) == {
        "fcc": 2, "bcc": 2, "hcp": 2, "diamond": 2,
        "rocksalt": 3,  # AB = BA; with one element it is the simple cubic crystal
        "cscl": 1, "zincblende": 1, "L1_0": 1,  # with one element: bcc, diamond, fcc
        "L1_2": 2,  # A3B and AB3; with one element fcc
        "heusler": 2,  # 8c = 4a (DO3) twice; the others are bcc and CsCl
        "half_heusler": 6, "C14": 8, "sigma": 32,
    }  # fmt: skip


def test_families_is_fast():
    families.cache_clear()
    _shells.cache_clear()
    prototype.cache_clear()
    start = time.perf_counter()
    families(PROTOTYPES, ("Al", "Fe", "Pt"))
    assert time.perf_counter() - start < 1.0


def test_a_prototype_alone_keeps_what_others_would_have():
    assert families(("L1_2",), ("Al",)) == (Family("L1_2", ("Al", "Al")),)
    assert {f.crystal for f in families(("fcc", "L1_2"), ("Al",))} == {"fcc"}


def test_distances_of_fingerprints_are_not_on_a_rounding_edge():
    from kmde_fw.core.prototypes import _FINGERPRINT_DECIMALS, _FINGERPRINT_RADIUS

    for name in PROTOTYPES:
        crystal = prototype(name)
        size = (abs(np.linalg.det(crystal.cell)) / len(crystal)) ** (1 / 3)
        unit = Structure(("X",) * len(crystal), crystal.cell / size, crystal.positions / size)
        distances = find_neighbours(unit, _FINGERPRINT_RADIUS + 1e-6).distances
        assert (np.abs(distances - _FINGERPRINT_RADIUS) > 1e-6).all()
        steps = distances * 10**_FINGERPRINT_DECIMALS
        assert (np.abs(steps % 1 - 0.5) > 1e-6).all()


def test_families_against_pymatgen():
    """Each decoration of two elements (sigma aside, for time) is one of the families, and no two families are one."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice
    from pymatgen.core import Structure as PymatgenStructure

    names = PROTOTYPES[:-1]

    def crystal_of(family):
        crystal = prototype(family.crystal)
        a = 4.0 / shortest_bond(Family(family.crystal, ("Fe",) * crystal.n_orbits))
        species = [family.assignment[k] for k in crystal.orbits]
        return PymatgenStructure(Lattice(a * crystal.cell), species, a * crystal.positions, coords_are_cartesian=True)

    def formula(structure):
        return structure.composition.reduced_formula

    matcher = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.5, scale=True, primitive_cell=True)
    kept = [(f, crystal_of(f)) for f in families(names, ("Al", "Fe"))]
    for k, (one, crystal) in enumerate(kept):
        for other, another in kept[:k]:
            assert formula(crystal) != formula(another) or not matcher.fit(crystal, another), (one, other)
    dropped = 0
    for name in names:
        for assignment in product(("Al", "Fe"), repeat=prototype(name).n_orbits):
            family = Family(name, assignment)
            if family not in [f for f, _ in kept]:
                crystal = crystal_of(family)
                assert any(formula(crystal) == formula(c) and matcher.fit(crystal, c) for _, c in kept), family
                dropped += 1
    assert dropped == sum(2 ** prototype(name).n_orbits for name in names) - len(kept) == 20


def test_shortest_bond():
    al, fe = covalent_radius("Al"), covalent_radius("Fe")
    assert shortest_bond(Family("fcc", ("Al",))) == pytest.approx(0.5**0.5 / (2 * al))
    # rocksalt: the nearest neighbours are unlike
    assert shortest_bond(Family("rocksalt", ("Al", "Fe"))) == pytest.approx(0.5 / (al + fe))
    # hydrogen and caesium: the second shell, of large atoms, is the tight one
    cs, h = covalent_radius("Cs"), covalent_radius("H")
    expected = min(0.5 / (cs + h), 0.5**0.5 / (2 * cs))
    assert shortest_bond(Family("rocksalt", ("H", "Cs"))) == pytest.approx(expected)
    assert expected == 0.5**0.5 / (2 * cs)


# parents ----------------------------------------------------------------------------------------------------------


def cubic_cell(species):
    """A conventional fcc cell of 4 atoms, a = 4 Å."""
    fractional = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Structure(species, 4.0 * np.eye(3), 4.0 * fractional, "cube")


def test_parent_is_reduced_and_substituted():
    fcc, l1_2 = cubic_cell(("Al",) * 4), cubic_cell(("Al", "Pt", "Pt", "Pt"))
    assert len(primitive_parent(fcc).structure) == 1
    assert primitive_parent(fcc).structure.volume == pytest.approx(16.0)
    assert parent_families(fcc, ("Al", "Fe"), 1) == (
        Family("cube", parent=fcc.id),
        Family("cube", parent=fcc.id, substitutions=((0, "Fe"),)),
    )
    found = parent_families(l1_2, ("Al", "Fe", "Pt"), 4)
    assert found[0].substitutions == ()
    # two sites, two other elements for each
    assert Counter(len(f.substitutions) for f in found[1:])[1] == 2 * 2
    assert len(primitive_parent(l1_2).sites) == 2


def test_small_parents_are_also_doped_in_wide_cells():
    l1_2 = cubic_cell(("Al", "Pt", "Pt", "Pt"))
    crystal = primitive_parent(l1_2).structure
    assert widest_cells(crystal, 60) == (2, 2, 2)
    assert widest_cells(crystal, 4) == widest_cells(crystal, 31) == (1, 1, 1)
    slab = Structure(("Al",), np.diag([3.0, 6.0, 12.0]), np.zeros((1, 3)))
    assert widest_cells(slab, 8) == (4, 2, 1)
    found = parent_families(l1_2, ("Al", "Pt"), 60)
    wide = [family for family in found if family.cells == (2, 2, 2)]
    assert [f.substitutions for f in wide[:1]] == [()]
    assert {len(f.substitutions) for f in wide} == {0, 1, 2, 3, 4}
    structure = build(Recipe(0, wide[1], 1.0), {l1_2.id: l1_2})
    assert len(structure) == 32
    assert Counter(structure.species) in ({"Al": 7, "Pt": 25}, {"Al": 9, "Pt": 23})
    assert structure.volume == pytest.approx(8 * crystal.volume)


def test_parent_of_the_thesis():
    from pathlib import Path

    import ase.io

    path = Path(__file__).parents[2] / "fw_specs" / "al_fe_pt" / "host.extxyz"
    host = Structure.from_atoms(ase.io.read(path), "Al13Fe4")
    parent = primitive_parent(host)
    assert (len(parent.structure), len(parent.sites)) == (51, 20)
    assert parent.structure.volume == pytest.approx(host.volume / 2)
    assert Counter(parent.structure.species[site] for site in parent.sites) == {"Al": 15, "Fe": 5}
    found = parent_families(host, ("Al", "Fe", "Pt"), 60)
    assert Counter(len(f.substitutions) for f in found) == {0: 1, 1: 20 * 2, 2: 3 * 16, 3: 3 * 16, 4: 3 * 16}
    assert len({f.substitutions for f in found}) == len(found)
    crystal = parent.structure
    pairs = find_neighbours(crystal, 2.4)
    close = set(zip(pairs.centre.tolist(), pairs.neighbour.tolist(), strict=True))
    assert close
    for family in found:
        atoms = [atom for atom, _ in family.substitutions]
        assert len({element for _, element in family.substitutions}) <= 1
        assert all(crystal.species[atom] != element for atom, element in family.substitutions)
        assert not {(a, b) for a in atoms for b in atoms if a != b} & close


def test_several_atoms_at_once_where_they_fit():
    """L1_2 at a = 4 Å: neighbours are 2.8 Å apart, at 3.3 Å they are too close to be doped together."""
    wide = cubic_cell(("Al", "Pt", "Pt", "Pt"))
    found = [f.substitutions for f in parent_families(wide, ("Al", "Pt"), 4) if len(f.substitutions) > 1]
    crystal = primitive_parent(wide).structure
    platinum = [k for k, s in enumerate(crystal.species) if s == "Pt"]
    assert sorted(found) == sorted(
        tuple((k, "Al") for k in atoms) for n in (2, 3) for atoms in combinations(platinum, n)
    )
    assert found == [f.substitutions for f in parent_families(wide, ("Al", "Pt"), 4) if len(f.substitutions) > 1]
    tight = Structure(wide.species, 3.3 / 4 * wide.cell, 3.3 / 4 * wide.positions)
    assert max(len(f.substitutions) for f in parent_families(tight, ("Al", "Pt"), 4)) == 1


def test_parents_that_cannot_be_used():
    l1_2 = cubic_cell(("Al", "Pt", "Pt", "Pt"))
    with pytest.raises(InputError, match=r"4 atoms, more than design\.max_atoms = 3"):
        parent_families(l1_2, ("Al", "Pt"), 3)
    with pytest.raises(InputError, match="cube is not used: Pt is not among the elements"):
        parent_families(l1_2, ("Al", "Fe"), 60)
    fused = Structure(("Al", "Al"), 4.0 * np.eye(3), np.zeros((2, 3)), "fused")
    with pytest.raises(InputError, match="atoms on top of each other"):
        parent_families(fused, ("Al",), 60)
