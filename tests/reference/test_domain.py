"""Where a reference can be trusted."""

import math

import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.records import Structure
from kmde_fw.reference.domain import check_bonds, check_scale, scaled, shortest_bond
from kmde_fw.units import covalent_radius


def fcc(a: float, element: str = "Cu") -> Structure:
    return Structure.from_atoms(bulk(element, "fcc", a, cubic=True), f"{element} {a}")


def morse(structure: Structure, equilibrium: float = 3.6) -> float:
    """A Morse curve in the lattice constant of a cubic cell."""
    a = structure.volume ** (1 / 3)
    return (1 - math.exp(-1.5 * (a - equilibrium))) ** 2


def test_shortest_bond_counts_periodic_images():
    ratio, names = shortest_bond(fcc(3.6), 2.0)
    assert ratio == pytest.approx(3.6 / math.sqrt(2) / (2 * covalent_radius("Cu")))
    assert "2.55 Å apart" in names
    assert shortest_bond(fcc(3.6), 0.9) is None
    one = Structure(("Cu",), np.eye(3) * 2.4, np.zeros((1, 3)))
    assert shortest_bond(one, 2.0)[0] == pytest.approx(2.4 / (2 * covalent_radius("Cu")))


def test_bonds_below_the_limit_are_refused_with_both_atoms_named():
    structure = fcc(3.6)
    structure.positions[3] = structure.positions[0] + [2.1 * 0.6, 2.1 * 0.8, 0.0]
    assert "atoms 1 (Cu) and 4 (Cu) are 2.10 Å apart" in check_bonds(structure, 0.85)
    assert check_bonds(structure, 0.79) == ""
    assert check_bonds(structure, 0) == ""


@pytest.mark.parametrize("own", [0.92, 0.97, 1.0, 1.01, 1.1, 1.25])
def test_scale_is_measured_against_the_equilibrium_of_the_same_crystal(own):
    structure = fcc(3.6 * own)
    assert check_scale(structure, morse, (0.9, 1.3)) == ""
    # 0.4 % is what a parabola through steps of 4 % of this Morse curve is good for
    assert check_scale(structure, morse, (0.8, own * 0.994)) != ""
    assert check_scale(structure, morse, (own * 1.006, 1.5)) != ""


def test_scale_outside_names_the_scale_or_the_bound():
    assert "linear scale 0.869" in check_scale(fcc(3.6 * 0.87), morse, (0.9, 1.3))
    assert "expanded beyond 1.1" in check_scale(fcc(3.6 * 1.4), morse, (0.9, 1.1))


def test_few_energies_are_asked_for_and_none_deep_in_compression():
    asked = []

    def counted(structure: Structure) -> float:
        asked.append(structure.volume ** (1 / 3) / 3.6)
        return morse(structure)

    check_scale(fcc(3.6), counted, (0.88, 1.3))
    assert len(asked) == 3
    assert min(asked) > 0.95
    asked.clear()
    check_scale(fcc(3.6 * 1.25), counted, (0.88, 1.3))
    assert len(asked) <= 9
    assert len(asked) == len(set(asked))
    assert min(asked) > 0.94


def test_a_crystal_without_an_equilibrium_is_refused():
    def hole(structure: Structure) -> float:
        return structure.volume  # the smaller the lower

    assert "expanded beyond" in check_scale(fcc(3.6), hole, (0.9, 1.1))  # within the range no minimum is met
    assert "cannot be bracketed" in check_scale(fcc(3.6), hole, (0.9, 1.5))  # bonds become insane before its end
    assert "cannot be bracketed" in check_scale(fcc(3.6), lambda s: 1.0, (0.9, 1.3))
    assert "cannot be bracketed" in check_scale(fcc(3.6), lambda s: math.nan, (0.9, 1.3))
    assert "not a solid" in check_scale(fcc(12.0), morse, (0.9, 1.3))


def test_scaled():
    structure = scaled(fcc(3.6), 1.1)
    assert structure.volume == pytest.approx((3.6 * 1.1) ** 3)
    np.testing.assert_allclose(structure.positions, fcc(3.96).positions)
