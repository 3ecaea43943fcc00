import json
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest

from kmde_fw.config import PROTOTYPES, Design
from kmde_fw.core.candidates import LEAST_OF_PARENTS, CandidatePool, Recipe, build
from kmde_fw.core.prototypes import Family, prototype
from kmde_fw.errors import ConfigError, InputError
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure
from kmde_fw.units import covalent_radius

FCC_AL = Family("fcc", ("Al",))


def cell_of_two(a=3.0, name="B2 parent"):
    return Structure(("Al", "Fe"), a * np.eye(3), a * np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), name)


def pool_of(parents=(), seed=0, cycle=1, elements=("Al", "Fe"), **options):
    return CandidatePool(elements, Design(**options), {p.id: p for p in parents}, seed=seed, cycle=cycle)


def recipes(pool):
    return [pool.recipe(i) for i in range(len(pool))]


def variant(recipe):
    if recipe.displacement:
        return "displaced"
    return {0: "perfect", 1: "uniaxial", 2: "shear"}[len(recipe.strain_axes)]


# recipes ----------------------------------------------------------------------------------------------------------


def test_recipe_survives_json():
    pool = pool_of([cell_of_two()], candidates=300)
    for recipe in recipes(pool):
        again = Recipe.from_document(json.loads(json.dumps(recipe.to_document())))
        assert again == recipe
        assert build(again, pool.parents).id == pool.structure(recipe.index).id


def test_perfect_crystal():
    cell = build(Recipe(0, FCC_AL, 4.0), {})
    assert cell.species == ("Al",)
    assert cell.volume == pytest.approx(16.0)
    assert find_neighbours(cell, 2.9).distances == pytest.approx([8**0.5] * 12)


def test_uniaxial_strain():
    family = Family("cscl", ("Al", "Fe"))
    cell = build(Recipe(0, family, 3.0, strain_axes="z", strain=0.02), {})
    assert cell.cell == pytest.approx(np.diag([3.0, 3.0, 3.06]))
    assert cell.positions[1] == pytest.approx([1.5, 1.5, 1.53])


def test_shear_strain():
    cell = build(Recipe(0, Family("cscl", ("Al", "Fe")), 3.0, strain_axes="xz", strain=0.1), {})
    assert cell.cell == pytest.approx(np.array([[3.0, 0, 0], [0, 3.0, 0], [0.3, 0, 3.0]]))
    assert cell.positions[1] == pytest.approx([1.65, 1.5, 1.5])
    assert cell.volume == pytest.approx(27.0)


def test_repeat_changes_the_cell_and_not_the_crystal():
    one = build(Recipe(0, Family("L1_2", ("Al", "Fe")), 3.8), {})
    many = build(Recipe(0, Family("L1_2", ("Al", "Fe")), 3.8, repeat=(2, 1, 3)), {})
    assert Counter(many.species) == {"Al": 6, "Fe": 18}
    assert many.volume == pytest.approx(6 * one.volume)
    # same neighbours around each atom of each kind
    few, lots = find_neighbours(one, 4.0), find_neighbours(many, 4.0)
    assert np.sort(lots.distances)[::6] == pytest.approx(np.sort(few.distances))
    shells = {s: few.distances[few.starts[i] : few.starts[i + 1]] for i, s in enumerate(one.species)}
    for i, s in enumerate(many.species):
        assert lots.distances[lots.starts[i] : lots.starts[i + 1]] == pytest.approx(shells[s])


def test_displacement_has_its_size_and_its_seed():
    family = Family("bcc", ("Fe",))
    still = build(Recipe(0, family, 2.9, repeat=(2, 2, 2)), {})
    one = build(Recipe(0, family, 2.9, repeat=(2, 2, 2), displacement=0.1, seed=1), {})
    two = build(Recipe(0, family, 2.9, repeat=(2, 2, 2), displacement=0.2, seed=1), {})
    other = build(Recipe(0, family, 2.9, repeat=(2, 2, 2), displacement=0.1, seed=2), {})
    moved = one.positions - still.positions
    assert 0.05 < moved.std() < 0.15
    assert two.positions - still.positions == pytest.approx(2 * moved)
    assert not np.allclose(one.positions, other.positions)


def test_parent_recipes():
    parent = cell_of_two()
    family = Family("B2 parent", parent=parent.id, substitutions=((1, "Al"),))
    cell = build(Recipe(0, family, 1.1), {parent.id: parent})
    assert cell.species == ("Al", "Al")
    assert cell.volume == pytest.approx((3.0 * 1.1) ** 3)
    with pytest.raises(InputError, match="B2 parent"):
        build(Recipe(0, family, 1.1), {})


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (
            Recipe(0, Family("L1_0", ("Fe", "Pt")), 3.86, strain_axes="z", strain=0.021),
            "L1_0 Fe|Pt a=3.860 Å, uniaxial +2.1 % along z",
        ),
        (Recipe(0, FCC_AL, 4.0, strain_axes="xy", strain=-0.03), "fcc Al a=4.000 Å, shear -3.0 % in xy"),
        (
            Recipe(0, FCC_AL, 4.0, repeat=(2, 2, 1), displacement=0.05, seed=3),
            "fcc Al a=4.000 Å, 2×2×1 cells, displaced by 0.050 Å",
        ),
        (
            Recipe(0, Family("Al13Fe4", parent="0" * 64, substitutions=((4, "Pt"),)), 1.02),
            "Al13Fe4, Pt on site 4, scaled by 1.0200",
        ),
        (
            Recipe(0, Family("Al13Fe4", parent="0" * 64, substitutions=((3, "Pt"), (17, "Pt"), (40, "Pt"))), 1.0),
            "Al13Fe4, Pt on sites 3, 17 and 40",
        ),
    ],
)
def test_describe(recipe, text):
    assert recipe.describe() == text


# the pool ---------------------------------------------------------------------------------------------------------


def spread(counts):
    return max(counts) - min(counts)


def test_exactly_so_many_in_equal_shares():
    """Half of them are of prototypes, half of parents; equal shares within each half."""
    other = cell_of_two(3.5, "another")
    for n in (1, 2, 26, 333, 2000):
        pool = pool_of([cell_of_two(), other], candidates=n)
        found = recipes(pool)
        assert len(pool) == len(found) == n
        assert [r.index for r in found] == list(range(n))
        of_parents = Counter(r.family.crystal for r in found if r.family.parent)
        of_prototypes = Counter(r.family.crystal for r in found if not r.family.parent)
        assert abs(sum(of_parents.values()) - sum(of_prototypes.values())) <= 1
        if n >= 26:
            assert set(of_prototypes) == set(PROTOTYPES)
            assert set(of_parents) == {"B2 parent", "another"}
            assert spread(of_prototypes.values()) <= 1
            assert spread(of_parents.values()) <= 1
        for crystal in (*of_parents, *of_prototypes):
            own = Counter(r.family for r in found if r.family.crystal == crystal)
            # the undoped parent has a share of its own
            doped = [n for family, n in own.items() if family.parent is None or family.substitutions]
            assert spread(doped or [0]) <= 1


def test_one_kind_of_source_has_all():
    assert all(r.family.parent for r in recipes(pool_of([cell_of_two()], candidates=50, prototypes=())))
    assert not any(r.family.parent for r in recipes(pool_of(candidates=50)))


def host():
    path = Path(__file__).parents[2] / "fw_specs/al_fe_pt/host.extxyz"
    return Structure.from_atoms(ase.io.read(path), "Al13Fe4")


def test_a_parent_with_many_families_is_not_lost_among_them():
    pool = pool_of([host()], elements=("Al", "Fe", "Pt"), candidates=4000, prototypes=())
    counts = Counter(r.family.substitutions for r in recipes(pool))
    assert len(counts) == 185
    assert counts.pop(()) == 200  # 5 %
    assert spread(counts.values()) <= 1


def test_candidates_of_a_parent():
    options = {"candidates": 4000, "prototypes": (), "max_displacement": 0.2, "max_strain": 0.04}
    pool = pool_of([host()], elements=("Al", "Fe", "Pt"), **options)
    by_family = {}
    for recipe in recipes(pool):
        by_family.setdefault(recipe.family, []).append(recipe)
    rest = []
    for family, (first, *others) in by_family.items():
        assert first == Recipe(first.index, family, 1.0)
        rest += others
    kinds = Counter("strained" if r.strain_axes else "scaled" for r in rest)
    assert kinds["scaled"] / len(rest) == pytest.approx(0.2, abs=0.01)
    scaled = [r for r in rest if not r.strain_axes]
    strained = [r for r in rest if r.strain_axes]
    assert min(r.scale for r in scaled) < 0.96
    assert max(r.scale for r in scaled) > 1.04
    assert {r.strain_axes for r in strained} == {*"xyz", "xy", "xz", "yx", "yz", "zx", "zy"}
    assert all(0.98 <= r.scale <= 1.02 for r in strained)
    for values, least, largest in (
        ([r.displacement for r in rest], LEAST_OF_PARENTS * 0.2, 0.2),
        ([abs(r.strain) for r in strained], 0.0, 0.04),
    ):
        counts = np.histogram(values, bins=4, range=(least, largest))[0]
        assert counts == pytest.approx(len(values) / 4, rel=0.15)
        assert counts.sum() == len(values)
    # strain and displacement are drawn on their own
    assert abs(np.corrcoef([r.displacement for r in strained], [r.strain for r in strained])[0, 1]) < 0.1
    again = pool_of([host()], elements=("Al", "Fe", "Pt"), **options)
    assert recipes(again) == recipes(pool)
    following = pool_of([host()], elements=("Al", "Fe", "Pt"), cycle=2, **options)
    same = {pool.structure(r.index).id for r in rest} & {s.id for s in following.structures(range(4000))}
    assert not same


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"max_strain": 0}, {"perfect", "displaced"}),
        ({"max_displacement": 0}, {"perfect", "uniaxial", "shear"}),
        ({"max_displacement": 0, "max_strain": 0}, {"perfect"}),
    ],
)
def test_parents_without_strain_or_displacement(options, kinds):
    pool = pool_of([cell_of_two()], candidates=200, prototypes=(), **options)
    assert {variant(r) for r in recipes(pool)} == kinds
    assert all(r.strain == 0 for r in recipes(pool)) == ("max_strain" in options)


def test_displaced_parents_stay_within_their_scales():
    pool = pool_of([cell_of_two()], candidates=200, prototypes=(), parent_scale=(0.99, 1.01))
    assert all(0.99 <= r.scale <= 1.01 for r in recipes(pool))


def test_few_candidates_reach_other_families_in_the_next_cycle():
    """2 of sigma's 32 decorations in one cycle, all of them in 16."""
    seen = {r.family for cycle in range(16) for r in recipes(pool_of(prototypes=("sigma",), candidates=2, cycle=cycle))}
    assert len(seen) == 32


def test_shares_of_the_variants():
    counts = Counter(variant(r) for r in recipes(pool_of(candidates=4000)))
    assert {k: round(v / 4000, 1) for k, v in counts.items()} == {
        "perfect": 0.4, "uniaxial": 0.2, "shear": 0.2, "displaced": 0.2,
    }  # fmt: skip


def test_shards_are_the_pool():
    pool = pool_of(candidates=101)
    for n in (1, 4, 7):
        parts = [list(pool.shard(k, n)) for k in range(n)]
        assert sorted(i for part in parts for i in part) == list(range(101))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_crystal_is_the_same_to_the_bit_alone_and_among_others():
    """What is labelled is what was scored, through the recipe in the database, too."""
    pool = pool_of([cell_of_two()], candidates=1000, max_displacement=0.3)
    many = pool.crystals(range(1000))
    for i in (*range(0, 1000, 7), 999):
        again = build(Recipe.from_document(json.loads(json.dumps(pool.recipe(i).to_document()))), pool.parents)
        for one in (pool.structure(i), again, many.structure(i, pool.elements, "")):
            atoms = slice(many.starts[i], many.starts[i + 1])
            assert one.cell.tobytes() == many.cells[i].tobytes()
            assert one.positions.tobytes() == many.positions[atoms].tobytes()
            assert one.species_index(pool.elements).tolist() == many.species[atoms].tolist()
    few = pool.crystals([999, 3])
    assert few.structure(0, pool.elements, "").id == pool.structure(999).id
    assert few.structure(1, pool.elements, "").id == pool.structure(3).id


def test_alike_are_crystals_of_one_kind_and_size():
    pool = pool_of([cell_of_two()], candidates=600)
    one = next(r for r in recipes(pool) if r.family == FCC_AL)
    found = np.flatnonzero(pool.alike(Recipe.from_document(one.to_document())))
    kind = [r for r in recipes(pool) if r.family == FCC_AL]
    assert found.tolist() == [r.index for r in kind if abs(r.scale / one.scale - 1) < 0.05]
    assert 1 < len(found) < len(kind)
    of_parent = next(r for r in recipes(pool) if r.family.parent is not None)
    assert not pool.alike(of_parent).any(), "their sizes hardly differ: one would speak for all of them"


def test_same_on_every_machine_and_new_in_every_cycle():
    ids = {s.id for s in map(pool_of(candidates=500).structure, range(500))}
    again = pool_of(candidates=500, elements=("Fe", "Al"))
    assert {s.id for s in map(again.structure, range(500))} == ids
    assert len(ids) == 500
    for other in (pool_of(candidates=500, cycle=2), pool_of(candidates=500, seed=1)):
        assert not ids & {s.id for s in map(other.structure, range(500))}


def test_sizes_by_bonds():
    pool = pool_of(candidates=1500, bond_range=(1.0, 1.2), max_strain=0, max_displacement=0)
    shortest = []
    for i in range(len(pool)):
        cell = pool.structure(i)
        found = find_neighbours(cell, 4.2)
        radii = np.array([covalent_radius(s) for s in cell.species])
        shortest.append((found.distances / (radii[found.centre] + radii[found.neighbour])).min())
    assert 1.0 <= min(shortest) < 1.01
    assert 1.19 < max(shortest) <= 1.2


def test_perfect_crystals_are_a_grid():
    pool = pool_of(
        elements=("Al",), prototypes=("fcc",), candidates=10, lattice_scan="constants", constant_range=(3, 5)
    )
    a = [r.scale for r in recipes(pool) if variant(r) == "perfect"]
    assert len(a) == 4
    assert np.diff(a) == pytest.approx([0.5] * 3)
    assert 3.0 <= a[0] < 3.5


def test_constants_are_the_same_range_for_all():
    pool = pool_of(candidates=3000, lattice_scan="constants")
    for name in ("fcc", "sigma"):
        a = [r.scale for r in recipes(pool) if r.family.crystal == name]
        assert 2.5 <= min(a) < 2.6
        assert 6.9 < max(a) <= 7.0


def test_parents_are_scaled_by_their_own_range():
    for scan in ("bonds", "constants"):
        pool = pool_of(
            [cell_of_two()], candidates=600, prototypes=(), lattice_scan=scan, parent_scale=(0.9, 1.2), max_atoms=2
        )
        factors = [r.scale for r in recipes(pool)]
        assert 0.9 <= min(factors) < 0.92
        assert 1.18 < max(factors) <= 1.2


def test_limits_of_strain_and_displacement():
    pool = pool_of(candidates=3000, max_strain=0.2, max_displacement=0.3)
    strains = [abs(r.strain) for r in recipes(pool)]
    sigmas = [r.displacement for r in recipes(pool)]
    assert 0.19 < max(strains) <= 0.2
    assert 0.29 < max(sigmas) <= 0.3
    assert {r.strain_axes for r in recipes(pool)} == {"", *"xyz", "xy", "xz", "yx", "yz", "zx", "zy"}


@pytest.mark.parametrize(
    ("options", "without"), [({"max_strain": 0}, {"uniaxial", "shear"}), ({"max_displacement": 0}, {"displaced"})]
)
def test_no_strain_or_no_displacement(options, without):
    pool = pool_of(candidates=1000, **options)
    found = {variant(r) for r in recipes(pool)}
    assert found == {"perfect", "uniaxial", "shear", "displaced"} - without
    assert len({pool.structure(i).id for i in range(1000)}) == 1000  # more perfect crystals, and none of them twice


def test_displaced_cells_have_atoms_enough():
    pool = pool_of(candidates=1000)
    sizes = Counter(len(pool.structure(r.index)) for r in recipes(pool) if variant(r) == "displaced")
    assert min(sizes) == 4
    assert set(sizes) == {4, 6, 12, 30}


def test_max_atoms():
    small = pool_of(candidates=500, max_atoms=3)
    assert max(len(small.structure(i)) for i in range(500)) == 3
    assert [reason.split(" is not used")[0] for reason in small.skipped] == [
        "prototype L1_2", "prototype heusler", "prototype C14", "prototype sigma",
    ]  # fmt: skip
    assert "more than design.max_atoms = 3" in small.skipped[0]
    # a cell of one atom cannot be displaced, it is left as it is
    single = pool_of(candidates=50, max_atoms=1)
    assert {variant(r) for r in recipes(single)} == {"perfect", "uniaxial", "shear"}


def test_skipped_parent_says_why():
    foreign = Structure(("Ni",), 3.0 * np.eye(3), np.zeros((1, 3)), "nickel")
    pool = pool_of([foreign, cell_of_two()], candidates=26)
    assert len(pool.skipped) == 1
    assert "nickel is not used: Ni" in pool.skipped[0]
    assert {r.family.crystal for r in recipes(pool)} == {*PROTOTYPES, "B2 parent"}


def test_nothing_to_make_candidates_of():
    with pytest.raises(ConfigError, match="nothing to make candidates of: prototype C14 is not used"):
        pool_of(prototypes=("C14",), max_atoms=11)
    with pytest.raises(ConfigError, match="no parents"):
        pool_of(prototypes=())


def test_repeated_prototype_counts_once():
    assert {r.family.crystal for r in recipes(pool_of(prototypes=("fcc", "fcc", "bcc"), candidates=4))} == {
        "fcc",
        "bcc",
    }
    assert Counter(r.family.crystal for r in recipes(pool_of(prototypes=("fcc", "fcc"), candidates=4))) == {"fcc": 4}


@pytest.mark.parametrize(
    "options",
    [
        {"candidates": 201},
        {"prototypes": ("fcc", "bcc")},
        {"max_atoms": 12},
        {"lattice_scan": "constants"},
        {"bond_range": (0.9, 1.2)},
        {"lattice_scan": "constants", "constant_range": (2.5, 6.0)},
        {"parent_scale": (0.9, 1.1)},
        {"max_strain": 0.04},
        {"max_displacement": 0.05},
    ],
)
def test_every_option_changes_the_pool(options):
    def ids(**options):
        pool = pool_of([cell_of_two()], **{"candidates": 200, **options})
        return [pool.structure(i).id for i in range(len(pool))]

    base = {"lattice_scan": "constants"} if len(options) == 2 else {}
    assert ids(**options) != ids(**base)


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_prototype_crystals_are_primitive():
    import spglib

    for name in PROTOTYPES:
        crystal = prototype(name)
        fractional = crystal.positions @ np.linalg.inv(crystal.cell)
        primitive = spglib.find_primitive((crystal.cell, fractional, crystal.orbits))
        assert len(primitive[2]) == len(crystal)
