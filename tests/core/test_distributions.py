from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from kmde_fw.core import distributions
from kmde_fw.core.distributions import (
    AroundAtoms,
    Tally,
    pair_channels,
    rdf,
    sample_geometry,
    tally_geometry,
    triplet_channels,
)
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

ELEMENTS = ("Al", "Fe", "Pt")


def crystal(*arguments, **keywords) -> Structure:
    return Structure.from_atoms(bulk(*arguments, **keywords))


def shells(samples, digits=3) -> dict[float, int]:
    return dict(sorted(Counter(np.round(samples, digits).tolist()).items()))


def test_channels_are_alphabetical_and_unordered():
    assert pair_channels(("Pt", "Al", "Fe")) == ("Al-Al", "Al-Fe", "Al-Pt", "Fe-Fe", "Fe-Pt", "Pt-Pt")
    triplets = triplet_channels(("Pt", "Al", "Fe"))
    assert len(triplets) == 18
    assert triplets[:2] == ("Al-Al-Al", "Al-Al-Fe")
    assert "Fe-Pt-Fe" in triplets
    assert "Pt-Al-Fe" not in triplets


def test_fcc_shells_and_angles():
    fcc = crystal("Al", "fcc", a=4.0)  # one atom; both shells are beyond the cell
    assert len(fcc) == 1
    geometry = sample_geometry([fcc], ("Al",), 4.1)
    assert shells(geometry.distances["Al-Al"]) == {2.828: 6, 4.0: 3}  # 12 and 6 neighbours, each pair once
    nearest = sample_geometry([fcc], ("Al",), 3.0).angles["Al-Al-Al"]
    assert shells(nearest) == {60.0: 24, 90.0: 12, 120.0: 24, 180.0: 6}


def test_bcc_shells_and_angles():
    bcc = crystal("Fe", "bcc", a=3.0)
    assert shells(sample_geometry([bcc], ("Fe",), 3.1).distances["Fe-Fe"]) == {2.598: 4, 3.0: 3}
    nearest = sample_geometry([bcc], ("Fe",), 2.9).angles["Fe-Fe-Fe"]
    assert shells(nearest, 2) == {70.53: 12, 109.47: 12, 180.0: 4}


def test_rocksalt_shells_and_angles():
    salt = crystal("NaCl", "rocksalt", a=5.6)
    geometry = sample_geometry([salt], ("Na", "Cl"), 4.0)
    assert shells(geometry.distances["Cl-Na"]) == {2.8: 6}
    assert shells(geometry.distances["Na-Na"]) == {3.96: 6}
    assert shells(geometry.distances["Cl-Cl"]) == {3.96: 6}
    nearest = sample_geometry([salt], ("Na", "Cl"), 3.0)
    assert shells(nearest.angles["Cl-Na-Cl"]) == {90.0: 12, 180.0: 3}
    assert shells(nearest.angles["Na-Cl-Na"]) == {90.0: 12, 180.0: 3}
    assert len(nearest.angles["Cl-Na-Na"]) == 0
    # with the second shell: unlike-like pairs at one vertex, 6 × 12 of them
    assert len(geometry.angles["Cl-Na-Na"]) == 72


def test_vertex_is_in_the_middle():
    # Al between Fe and Pt in a line; Fe and Pt do not see each other
    atoms = Atoms("FeAlPt", positions=[[0, 0, 0], [2, 0, 0], [4, 0, 0]], cell=[20, 20, 20], pbc=True)
    geometry = sample_geometry([Structure.from_atoms(atoms)], ("Al", "Fe", "Pt"), 3.0)
    assert geometry.angles["Fe-Al-Pt"].tolist() == [180.0]
    assert sum(map(len, geometry.angles.values())) == 1
    assert {key for key, samples in geometry.distances.items() if len(samples)} == {"Al-Fe", "Al-Pt"}


@pytest.mark.parametrize("seed", [0, 1])
def test_primitive_cell_equals_supercell_per_atom(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([2.6, 2.9, 3.3]) + rng.normal(scale=0.3, size=(3, 3))  # smaller than the cutoff in every direction
    small = Atoms("AlFePt", scaled_positions=rng.random((3, 3)), cell=cell, pbc=True)
    large = make_supercell(small, [[2, 0, 0], [1, 2, 0], [0, -1, 3]])
    elements = ("Al", "Fe", "Pt")
    one = sample_geometry([Structure.from_atoms(small)], elements, 4.0)
    many = sample_geometry([Structure.from_atoms(large)], elements, 4.0)
    for kind in ("distances", "angles"):
        for key, samples in getattr(one, kind).items():
            np.testing.assert_allclose(np.repeat(samples, 12), getattr(many, kind)[key], atol=3e-6)


def test_samples_do_not_change_on_turning_or_moving_the_crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    moved = atoms.copy()
    moved.rotate(37, (1, 2, 3), rotate_cell=True)
    moved.translate([1.0, 2.0, 3.0])
    before, after = (sample_geometry([Structure.from_atoms(a)], ("Cl", "Na"), 4.0) for a in (atoms, moved))
    for kind in ("distances", "angles"):
        for key, samples in getattr(before, kind).items():
            np.testing.assert_allclose(samples, getattr(after, kind)[key], atol=2e-6)


def geometry_of(structure, atom, elements):
    """geometry(a) of T(2.2): samples of one atom by channel, sorted."""
    (block,) = AroundAtoms([structure], [(0, atom)], elements, 4.0)
    return {key: np.sort(values) for key, values in block.values.items()}


def test_geometry_of_one_atom_sees_every_neighbour_from_it():
    salt = crystal("NaCl", "rocksalt", a=5.6)
    geometry = geometry_of(salt, salt.species.index("Na"), ("Na", "Cl"))
    assert shells(geometry["Cl-Na"]) == {2.8: 6}
    assert shells(geometry["Na-Na"]) == {3.96: 12}
    assert len(geometry["Cl-Cl"]) == 0
    assert len(geometry["Cl-Na-Cl"]) == 15
    angles = {key: samples for key, samples in geometry.items() if key.count("-") == 2}
    assert all(len(samples) == 0 for key, samples in angles.items() if key.split("-")[1] == "Cl")


def test_atoms_of_a_structure_add_up_to_the_structure():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=2)
    structure = Structure.from_atoms(atoms)
    elements = ("Cl", "Na")
    whole = sample_geometry([structure], elements, 4.0)
    parts = [geometry_of(structure, i, elements) for i in range(len(structure))]
    for key, samples in whole.angles.items():
        np.testing.assert_array_equal(samples, np.sort(np.concatenate([part[key] for part in parts])))
    for key, samples in whole.distances.items():
        both = np.sort(np.concatenate([part[key] for part in parts]))
        np.testing.assert_allclose(np.repeat(samples, 2), both, atol=1.1e-6)


def test_several_structures_are_pooled_and_foreign_elements_left_out():
    fcc, salt = crystal("Al", "fcc", a=4.0), crystal("NaCl", "rocksalt", a=5.6)
    geometry = sample_geometry([fcc, salt, fcc], ("Al", "Na"), 3.0)
    assert len(geometry.distances["Al-Al"]) == 12
    assert sum(map(len, geometry.distances.values())) == 12
    assert len(sample_geometry([], ("Al",), 3.0).distances["Al-Al"]) == 0


def readable_geometry(structure, elements, cutoff):
    """What the compiled loop must give, vertex by vertex."""
    neighbours = find_neighbours(structure, cutoff)
    samples = {key: [] for key in (*pair_channels(elements), *triplet_channels(elements))}
    for i, centre in enumerate(structure.species):
        pairs = range(neighbours.starts[i], neighbours.starts[i + 1])
        for p in pairs:
            samples["-".join(sorted((centre, structure.species[neighbours.neighbour[p]])))].append(
                neighbours.distances[p]
            )
        for p, q in combinations(pairs, 2):
            ends = sorted((structure.species[neighbours.neighbour[p]], structure.species[neighbours.neighbour[q]]))
            u, v = neighbours.vectors[p], neighbours.vectors[q]
            angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v))
            samples[f"{ends[0]}-{centre}-{ends[1]}"].append(angle)
    # from both ends: every second one
    return {key: np.sort(s)[:: 2 if key.count("-") == 1 else 1] for key, s in samples.items()}


def small_and_irregular(seed=0) -> Structure:
    rng = np.random.default_rng(seed)
    cell = np.diag([2.6, 5.9, 3.3]) + rng.normal(scale=0.3, size=(3, 3))
    return Structure(("Al", "Pt", "Fe", "Al", "Fe"), cell, rng.random((5, 3)) @ cell)


def test_compiled_samples_are_those_of_the_readable_form():
    structure = small_and_irregular()
    geometry = sample_geometry([structure], ELEMENTS, 4.0)
    for key, expected in readable_geometry(structure, ELEMENTS, 4.0).items():
        found = (geometry.distances if key.count("-") == 1 else geometry.angles)[key]
        np.testing.assert_allclose(found, expected, atol=0.51e-6)


def test_blocks_change_nothing(monkeypatch):
    structures = [small_and_irregular(seed) for seed in range(3)]
    whole = sample_geometry(structures, ELEMENTS, 4.0)
    atoms = [(2, 4), (0, 1), (0, 3)]
    (first, last) = AroundAtoms(structures, atoms, ELEMENTS, 4.0)
    assert first.atoms + last.atoms == ((0, 1), (0, 3), (2, 4))
    monkeypatch.setattr(distributions, "BLOCK_ANGLES", 1)
    sizes = [len(b.all_samples) for b in distributions._blocks(structures[0], ELEMENTS, 4.0, each_pair_once=True)]
    assert len(sizes) == 5
    parts = sample_geometry(structures, ELEMENTS, 4.0)
    for kind in ("distances", "angles"):
        for key, samples in getattr(whole, kind).items():
            np.testing.assert_array_equal(samples, getattr(parts, kind)[key])
    blocks = list(AroundAtoms(structures, atoms, ELEMENTS, 4.0))
    assert [block.atoms for block in blocks] == [((0, 1),), ((0, 3),), ((2, 4),)]
    for key, values in first.values.items():
        for place in range(2):
            mine = np.sort(values[first.owners[key] == place])
            np.testing.assert_array_equal(mine, np.sort(blocks[place].values[key]))


def test_around_atoms_can_be_gone_through_twice_and_is_their_geometry():
    structures = [small_and_irregular(seed) for seed in range(2)]
    around = AroundAtoms(structures, [(1, 2), (1, 0)], ELEMENTS, 4.0)
    for _ in range(2):
        (block,) = around
        for place, (number, atom) in enumerate(block.atoms):
            for key, expected in geometry_of(structures[number], atom, ELEMENTS).items():
                mine = block.values[key][block.owners[key] == place]
                np.testing.assert_array_equal(np.sort(mine), expected)


def test_work_and_room_are_linear_in_the_atoms(monkeypatch):
    """Counted, not timed: samples made, samples per block, values kept."""
    monkeypatch.setattr(distributions, "BLOCK_ANGLES", 5000)
    monkeypatch.setattr(distributions, "MAX_DISTINCT", 1000)
    made, largest = [], []
    for repeat in (1, 2, 4):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (repeat, 2, 4)
        atoms.rattle(0.1, seed=3)
        structure = Structure.from_atoms(atoms)
        blocks = [len(b.all_samples) for b in distributions._blocks(structure, ("Cl", "Na"), 4.5, each_pair_once=True)]
        made.append(sum(blocks) / len(structure))
        largest.append(max(blocks))
        tallies = tally_geometry([structure], ("Cl", "Na"), 4.5)
        assert sum(map(len, tallies.values())) == sum(blocks)
        assert max(len(tally.values) for tally in tallies.values()) <= 1000
    np.testing.assert_allclose(made, made[0], rtol=0.05)
    assert max(largest) < 1.2 * 5000


def test_tally_is_exact_until_it_would_be_too_large(monkeypatch):
    samples = np.random.default_rng(4).integers(0, 180_000_000, 5000).astype(np.int32)
    exact = Tally()
    exact.add(samples)
    assert (exact.step, len(exact)) == (1, 5000)
    np.testing.assert_array_equal(np.repeat(exact.values, exact.counts), np.sort(samples) / 1e6)

    monkeypatch.setattr(distributions, "MAX_DISTINCT", 500)
    coarse, other_way = Tally(), Tally()
    for part in np.array_split(samples, 7):
        coarse.add(part)
    for part in np.array_split(samples[::-1], 3):
        other_way.add(part)
    assert coarse.step > 1
    assert 180_000_000 / 500 / 2 < coarse.step < 2 * 180_000_000 / 500
    assert len(coarse) == coarse.counts.sum() == 5000
    assert len(coarse.values) <= 500
    assert coarse.step == other_way.step
    np.testing.assert_array_equal(coarse.values, other_way.values)
    np.testing.assert_array_equal(coarse.counts, other_way.counts)
    # bins on the grid hold the same
    edges = np.arange(0, 200_000_000, 13 * coarse.step) / 1e6
    in_bins = np.histogram(coarse.values, edges, weights=coarse.counts)[0]
    np.testing.assert_array_equal(in_bins, np.histogram(samples / 1e6, edges)[0])


def test_tallies_add_up_on_the_coarser_grid(monkeypatch):
    rng = np.random.default_rng(5)
    monkeypatch.setattr(distributions, "MAX_DISTINCT", 500)
    few, many, both = Tally(), Tally(), Tally()
    a, b = (rng.integers(0, 4_000_000, n).astype(np.int32) for n in (100, 3000))
    few.add(a)
    many.add(b)
    both.add(np.concatenate([a, b]))
    pooled = few + many
    assert (few.step, pooled.step) == (1, both.step)
    np.testing.assert_array_equal(pooled.values, both.values)
    np.testing.assert_array_equal(pooled.counts, both.counts)
    assert len((Tally() + Tally()).values) == 0


def test_rdf_integrates_to_neighbours():
    salt = crystal("NaCl", "rocksalt", a=5.6)
    r, g = rdf([salt, salt], ("Na", "Cl"), 4.0, 0.02)
    density = 1 / salt.volume  # of Na, and of Cl
    shell = 4 / 3 * np.pi * ((r + 0.01) ** 3 - (r - 0.01) ** 3)
    assert np.sum(g["Cl-Na"] * shell * density) == pytest.approx(6)
    assert np.sum(g["Na-Na"] * shell * density) == pytest.approx(12)


def test_rdf_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(3)
    gas = Structure(("Al",) * 300 + ("Fe",) * 100, np.eye(3) * 15, rng.random((400, 3)) * 15)
    r, g = rdf([gas], ("Al", "Fe", "Pt"), 6.0, 0.5)
    for key in ("Al-Al", "Al-Fe", "Fe-Fe"):
        assert np.average(g[key], weights=r**2) == pytest.approx(1, abs=0.05)
    assert not g["Al-Pt"].any()
