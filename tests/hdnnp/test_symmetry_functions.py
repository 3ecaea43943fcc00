from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from kmde_fw.config import Descriptor
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp import SymmetryFunctions
from kmde_fw.records import Structure

AL_FE_PT = Path(__file__).parents[2] / "fw_specs" / "al_fe_pt" / "train.extxyz"


def dscribe_features(structure, elements, d):
    """The same functions from dscribe, its columns put into our order (its elements go by atomic number)."""
    from dscribe.descriptors import ACSF

    acsf = ACSF(
        r_cut=d.cutoff,
        g2_params=[(eta, shift) for eta in d.radial_eta for shift in d.radial_shift],
        g4_params=[(eta, zeta, sign) for eta in d.angular_eta for zeta in d.angular_zeta for sign in d.angular_lambda],
        species=elements,
        periodic=True,
    )
    atoms = structure.to_atoms()
    atoms.wrap()  # dscribe 2.1 misses neighbours of atoms outside the cell
    theirs = acsf.create(atoms).reshape(len(structure), -1)
    n, n_radial = len(elements), len(d.radial_eta) * len(d.radial_shift)
    n_angular = len(d.angular_eta) * len(d.angular_zeta) * len(d.angular_lambda)
    # per element: G1, which we do not have, then G2; then G4 of the pairs (0,0), (1,0), (1,1), (2,0), ...
    columns = [e * (1 + n_radial) + 1 + m for e in range(n) for m in range(n_radial)]
    for a in range(n):
        for b in range(a, n):
            columns += [n * (1 + n_radial) + (b * (b + 1) // 2 + a) * n_angular + m for m in range(n_angular)]
    return theirs[:, columns]


def crystals(make_structure):
    return {
        "one atom, a neighbour only of its own images": (Structure.from_atoms(bulk("Al", "fcc", a=4.05)), ("Al",)),
        "small skewed cell": (make_structure(), ("Al", "Fe", "Pt")),
        "an element that does not occur": (make_structure(3, ("Al", "Pt", "Al", "Al")), ("Al", "Fe", "Pt")),
        "102 atoms": (Structure.from_atoms(read(AL_FE_PT)), ("Al", "Fe", "Pt")),
    }


@pytest.mark.parametrize(
    "descriptor", [Descriptor(), Descriptor(cutoff=5.1, radial_shift=(0, 1.5), angular_zeta=(1, 2.5))]
)
def test_values_are_those_of_dscribe(make_structure, descriptor):
    for name, (structure, elements) in crystals(make_structure).items():
        ours = SymmetryFunctions(elements, descriptor).compute(structure).features
        theirs = dscribe_features(structure, elements, descriptor)
        # the narrow G4 of large shells add up to hundreds, so the last bits of the sum differ
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, err_msg=name)


def test_a_triangle_by_hand():
    """Three atoms with sides of 2 Å in a large cell: cos θ = 1/2, f_c(2 Å) = 1/2."""
    corners = np.array([(0, 0, 0), (2, 0, 0), (1, np.sqrt(3), 0)])
    structure = Structure(("Al", "Fe", "Pt"), 20 * np.eye(3), corners + 5)
    functions = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor())
    at_aluminium = dict(zip(functions.keys, functions.compute(structure).features[0], strict=True))
    assert at_aluminium["G2 Fe eta=0.1 rs=0 rc=4"] == pytest.approx(np.exp(-0.4) / 2)
    assert at_aluminium["G3 Fe-Pt eta=0.1 zeta=4 lambda=-1 rc=4"] == pytest.approx(0.5**4 * np.exp(-1.2) / 2**3 / 2**3)
    assert at_aluminium["G3 Fe-Pt eta=0.01 zeta=1 lambda=1 rc=4"] == pytest.approx(1.5 * np.exp(-0.12) / 2**3)
    assert at_aluminium["G2 Al eta=0.1 rs=0 rc=4"] == 0


@pytest.mark.parametrize("descriptor", [Descriptor(), Descriptor(radial_shift=(0, 2.0), angular_zeta=(1, 1.5, 6))])
def test_derivatives_are_those_of_finite_differences(make_structure, descriptor):
    structure = make_structure()
    functions = SymmetryFunctions(("Al", "Fe", "Pt"), descriptor)
    fingerprint = functions.compute(structure, derivatives=True)
    n, n_features = fingerprint.features.shape
    analytic = np.zeros((n, n_features, n, 3))
    for i in range(n):
        for p in range(fingerprint.starts[i], fingerprint.starts[i + 1]):
            j = fingerprint.neighbour[p]
            columns = fingerprint.columns[fingerprint.species[j]]
            analytic[i, columns, j] += fingerprint.derivatives[p].T
            analytic[i, columns, i] -= fingerprint.derivatives[p].T

    step = 1e-5
    for atom in range(n):
        for axis in range(3):
            shift = np.zeros((n, 3))
            shift[atom, axis] = step
            plus, minus = (
                functions.compute(Structure(structure.species, structure.cell, structure.positions + s)).features
                for s in (shift, -shift)
            )
            np.testing.assert_allclose(analytic[:, :, atom, axis], (plus - minus) / (2 * step), atol=2e-8)


def test_derivatives_in_line_are_finite():
    """Neighbours on opposite sides of an atom, where 1 + cos θ = 0, as in most crystals."""
    structure = Structure.from_atoms(bulk("Fe", "bcc", a=2.87))
    fingerprint = SymmetryFunctions(("Fe",), Descriptor()).compute(structure, derivatives=True)
    assert np.isfinite(fingerprint.derivatives).all()


def test_invariance(make_structure):
    structure = make_structure()
    functions = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor())
    features = functions.compute(structure).features
    species, cell, positions = structure.species, structure.cell, structure.positions

    moved = Structure(species, cell, positions + np.array([0.3, -7.0, 11.0]))
    np.testing.assert_allclose(functions.compute(moved).features, features, atol=1e-11)

    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]  # may mirror, which must not matter
    turned = Structure(species, cell @ rotation, positions @ rotation)
    np.testing.assert_allclose(functions.compute(turned).features, features, atol=1e-11)

    order = [3, 0, 4, 2, 1]
    shuffled = Structure(tuple(species[k] for k in order), cell, positions[order])
    np.testing.assert_allclose(functions.compute(shuffled).features, features[order], atol=1e-11)

    doubled = Structure.from_atoms(structure.to_atoms() * (1, 2, 1))
    np.testing.assert_allclose(functions.compute(doubled).features, np.tile(features, (2, 1)), atol=1e-11)


def test_columns_have_stable_names():
    functions = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor())
    assert len(functions) == len(set(functions.keys)) == 57
    assert functions.keys[0] == "G2 Al eta=0.01 rs=0 rc=4"
    assert functions.keys[-1] == "G3 Pt-Pt eta=0.1 zeta=4 lambda=-1 rc=4"
    for e, element in enumerate(functions.elements):
        names = [key.split()[1].split("-") for key in functions.keys]
        assert sorted(functions.columns[e]) == [k for k, name in enumerate(names) if element in name]


@pytest.mark.parametrize(
    "change",
    [
        {"cutoff": 4.5},
        {"radial_eta": (0.02,)},
        {"radial_shift": (1.0,)},
        {"angular_eta": (0.2,)},
        {"angular_zeta": (2.0,)},
        {"angular_lambda": (1,)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_features(structure, change):
    usual = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor())
    changed = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor(**change))
    before, after = usual.compute(structure).features, changed.compute(structure).features
    assert usual.keys != changed.keys
    assert before.shape != after.shape or not np.allclose(before, after)


def test_bad_input_is_a_sentence(structure):
    with pytest.raises(ModelError, match="contains Pt, but the symmetry functions are made for Al, Fe"):
        SymmetryFunctions(("Al", "Fe"), Descriptor()).compute(structure)
    double = Structure(("Al", "Al"), 5 * np.eye(3), np.zeros((2, 3)))
    with pytest.raises(ModelError, match=r"atoms 0 and 1 are .* Å apart"):
        SymmetryFunctions(("Al",), Descriptor()).compute(double)
    with pytest.raises(ModelError, match="different elements"):
        SymmetryFunctions(("Al", "Al"), Descriptor())
    with pytest.raises(ValueError, match="no symmetry functions"):
        Descriptor(radial_eta=(), angular_eta=())
