"""Sites, supercells and substitution."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.inputs import read_structures
from kmde_fw.records import Structure
from kmde_fw.reference.doping import first_atom, inequivalent_sites, site_names, substitute

DATA = Path(__file__).parents[2] / "fw_specs/al_fe_pt"


def l1_2() -> Structure:
    atoms = bulk("Cu", "fcc", 3.75, cubic=True)
    atoms.symbols[0] = "Au"
    return Structure.from_atoms(atoms, "Cu3Au")


def test_sites_of_l1_2():
    sites = inequivalent_sites(l1_2())
    assert sites.tolist() == [0, 1, 1, 1]
    assert site_names(l1_2(), sites) == ["Au1", "Cu1"]
    # symmetry does not know the unit cell: a supercell has the sites of its primitive cell
    assert inequivalent_sites(l1_2().repeated((2, 2, 2))).max() == 1


def test_crystal_file_has_the_twenty_sites_of_the_shipped_host_in_its_order():
    (crystal,) = read_structures(DATA / "al13fe4.cif")
    sites = inequivalent_sites(crystal)
    assert site_names(crystal, sites) == [f"Fe{k}" for k in range(1, 6)] + [f"Al{k}" for k in range(1, 16)]
    host = ase.io.read(DATA / "host.extxyz")
    np.testing.assert_array_equal(sites, host.arrays["site"])
    assert crystal.species == tuple(host.get_chemical_symbols())
    for site in range(20):
        atom = first_atom(sites, site)
        np.testing.assert_allclose(crystal.positions[atom], host.positions[atom], atol=2e-3)


@pytest.mark.parametrize(("name", "repeats"), [("train", (1, 1, 1)), ("target", (1, 2, 1))])
def test_doped_cells_are_those_of_the_shipped_sets(name, repeats):
    host = ase.io.read(DATA / "host.extxyz")
    sites = host.arrays["site"]
    supercell = Structure.from_atoms(host).repeated(repeats)
    frames = ase.io.read(DATA / f"{name}.extxyz", index=":")
    assert len(frames) == 20
    for frame in frames:
        atom = first_atom(sites, int(frame.info["site"]))
        assert atom == frame.info["dopant_index"]
        doped = substitute(supercell, atom, "Pt")
        assert list(doped.species) == frame.get_chemical_symbols()
        np.testing.assert_allclose(doped.cell, frame.cell, atol=1e-6)
        assert np.abs(doped.positions - frame.positions).max() < 0.5  # what relaxation moves
        names = site_names(Structure.from_atoms(host), sites)
        assert frame.info["label"] == f"Pt@{names[frame.info['site']]}"


def test_repeat_keeps_the_first_cell_first_and_density():
    double = l1_2().repeated((1, 2, 3))
    assert len(double) == 24
    assert double.volume == pytest.approx(6 * l1_2().volume)
    np.testing.assert_array_equal(double.positions[:4], l1_2().positions)
    np.testing.assert_allclose(double.cell, l1_2().cell * [[1], [2], [3]])
    np.testing.assert_allclose(double.positions[4:8] - double.positions[:4], [[0, 0, 3.75]] * 4)
    atoms = l1_2().to_atoms().repeat((1, 2, 3))
    assert sorted(map(tuple, np.round(atoms.positions, 6))) == sorted(map(tuple, np.round(double.positions, 6)))


def test_substitute_replaces_one_atom():
    doped = substitute(l1_2(), 2, "Pt")
    assert doped.species == ("Au", "Cu", "Pt", "Cu")
    np.testing.assert_array_equal(doped.positions, l1_2().positions)
