"""Recipes of data sets: what they plan, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk

from kmde_fw.errors import ConfigError
from kmde_fw.inputs import read_structures
from kmde_fw.records import Structure
from kmde_fw.reference.datasets import DataRecipe, Item, load_recipe, plan

SPECS = Path(__file__).parents[2] / "fw_specs"

BASE = {
    "hosts": {"Cu": "cu.cif"},
    "sets": {"train": [{"host": "Cu", "dopant": "Au"}]},
    "reference": {"calculator": "emt"},
}


def copper() -> Structure:
    return Structure.from_atoms(bulk("Cu", "fcc", 3.6, cubic=True), "Cu")


def items(hosts=("Cu",), **group):
    sets = {"train": [{"host": "Cu", **group}]}
    recipe = DataRecipe.model_validate({**BASE, "hosts": {name: "x.cif" for name in hosts}, "sets": sets})
    return plan(recipe, dict.fromkeys(hosts, copper()), dict.fromkeys(hosts, copper()))["train"]


def test_a_dopant_replaces_the_first_atom_of_each_site():
    (item,) = items(dopant="Au")
    assert (item.label, item.site, item.dopant_index, item.replaced) == ("Au@Cu1", 0, 0, "Cu")
    assert item.structure.species == ("Au", "Cu", "Cu", "Cu")
    assert item.relax
    assert item.sites.tolist() == [0, 0, 0, 0]
    assert items(dopant="Cu") == []  # nothing to replace


def test_scales_displacements_and_repeats():
    made = items(repeat=(1, 1, 2), scales=(0.98, 1.02), displacement=0.05, relax=False)
    assert [item.label for item in made] == ["Cu_0.98_d0.05", "Cu_1.02_d0.05"]
    assert all(len(item.structure) == len(item.sites) == 8 for item in made)
    assert made[0].structure.volume == pytest.approx(2 * (3.6 * 0.98) ** 3)
    perfect = items(repeat=(1, 1, 2), scales=(0.98,))[0]
    moved = made[0].structure.positions - perfect.structure.positions
    assert 0.03 < moved.std() < 0.07
    assert not made[0].relax


def test_displacements_depend_on_the_seed_and_the_label_alone():
    def positions(seed, scales):
        sets = {"train": [{"host": "Cu", "scales": scales, "displacement": 0.05}]}
        recipe = DataRecipe.model_validate({**BASE, "sets": sets, "seed": seed})
        return plan(recipe, {"Cu": copper()}, {"Cu": copper()})["train"][-1].structure.positions

    np.testing.assert_array_equal(positions(0, (0.98, 1.02)), positions(0, (0.96, 0.98, 1.02)))
    assert np.abs(positions(0, (0.98, 1.02)) - positions(1, (0.98, 1.02))).max() > 0.01


def of_file(structure: Structure, seed: int = 0, **group) -> list[Item]:
    sets = {"moved": [{"file": "target.extxyz", "relax": False, **group}]}
    recipe = DataRecipe.model_validate({"sets": sets, "reference": {"calculator": "emt"}, "seed": seed})
    item = Item("Au@Cu1", structure, np.zeros(len(structure), dtype=int), False, 0, 0, "Cu")
    return plan(recipe, {}, {}, {"target.extxyz": [item]})["moved"]


def test_structures_of_a_file_are_strained_and_displaced():
    big = Structure.from_atoms(copper().to_atoms().repeat(8), "big")
    (item,) = of_file(big, strain=0.02, displacement=0.05)
    assert (item.label, item.site, item.dopant_index, item.replaced) == ("Au@Cu1_d0.05_s0.02", 0, 0, "Cu")
    strain = np.linalg.solve(big.cell, item.structure.cell) - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert 0.005 < np.abs(strain).max() < 0.02
    moved = item.structure.positions - big.positions @ (np.eye(3) + strain)
    assert np.sqrt((moved**2).mean(axis=0)) == pytest.approx(0.05, rel=0.06)
    np.testing.assert_array_equal(
        item.structure.positions, of_file(big, strain=0.02, displacement=0.05)[0].structure.positions
    )
    assert np.abs(item.structure.cell - of_file(big, 1, strain=0.02)[0].structure.cell).max() > 1e-3
    (same,) = of_file(big)
    np.testing.assert_array_equal(same.structure.positions, big.positions)
    assert len(of_file(copper(), repeat=(1, 1, 2))[0].sites) == 8
    with pytest.raises(ConfigError, match="`dopant` belongs to a `host`"):
        of_file(big, dopant="Au")


def test_labels_name_the_host_where_there_are_several():
    assert items(("Cu", "B"), dopant="Au", repeat=(2, 1, 1))[0].label == "Cu_Au@Cu1_2x1x1"


def test_two_structures_of_one_name_are_refused():
    recipe = DataRecipe.model_validate({**BASE, "sets": {"train": [{"host": "Cu"}, {"host": "Cu", "relax": False}]}})
    with pytest.raises(ConfigError, match="two structures would be called Cu"):
        plan(recipe, {"Cu": copper()}, {"Cu": copper()})


def test_shipped_recipes_plan_the_shipped_sets():
    for folder in ("al_fe_pt", "cu_au"):
        recipe = load_recipe(SPECS / folder / "recipe.yaml")
        crystals = {name: read_structures(SPECS / folder / file)[0] for name, file in recipe.hosts.items()}
        names = {group.file for groups in recipe.sets.values() for group in groups} - {None}
        files = {
            name: [Item(s.name, s, np.zeros(len(s)), False) for s in read_structures(SPECS / folder / name)]
            for name in names
        }
        planned = plan(recipe, crystals, crystals, files)
        for name, made in planned.items():
            shipped = read_structures(SPECS / folder / f"{name}.extxyz")
            assert [item.label for item in made] == [s.name for s in shipped]
            assert [item.structure.species for item in made] == [s.species for s in shipped]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fmx": 0.1}, "unknown key 'fmx': did you mean 'fmax'?"),
        ({"sets": {"train": [{"host": "Cu", "dopand": "Au"}]}}, "did you mean 'dopant'?"),
        ({"sets": {"train": [{"host": "cu"}]}}, "no host 'cu': did you mean 'Cu'?"),
        ({"sets": {"train": [{"host": "Cu", "dopant": "Zz"}]}}, "'Zz' is not a chemical element"),
        ({"sets": {"host": [{"host": "Cu"}]}}, "give the set another name"),
        ({"sets": {"../out": [{"host": "Cu"}]}}, "sets.../out"),
        ({"sets": {"train": [{"host": "Cu", "file": "a.extxyz"}]}}, "give one of the two"),
        ({"hosts": {}}, "no host 'Cu'; there are no `hosts`"),
        ({"reference": {}}, "reference.calculator: Field required"),
    ],
)
def test_mistakes_in_a_recipe(tmp_path, change, expected):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**BASE, **change}))
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match="cannot read recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"list\.yaml"):
        load_recipe(tmp_path / "list.yaml")
