"""Our models as files of n2p2: it computes the same, its order of symmetry functions, limits and LAMMPS lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from kmde_fw.config import Descriptor
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.n2p2 import n2p2_files, read_potential
from kmde_fw.hdnnp.n2p2.write import UNLIMITED
from kmde_fw.inputs import read_labelled

AL_FE_PT = Path(__file__).parent / "al_fe_pt"


def data_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def words(text: str) -> list[list[str]]:
    return [line.split() for line in data_lines(text)]


@pytest.fixture
def write(tmp_path):
    """A model in files, and back."""

    def roundtrip(model):
        for name, text in n2p2_files(model, "a model").items():
            (tmp_path / name).write_text(text)
        return read_potential(tmp_path).model

    return roundtrip


def test_energies_and_forces_are_those_of_n2p2():
    model = read_potential(AL_FE_PT).model
    frames = ase.io.read(AL_FE_PT / "n2p2.extxyz", ":")
    labelled = read_labelled(AL_FE_PT / "n2p2.extxyz")
    assert [len(x.structure) for x in labelled] == [204, 204, 30, 4, 30]
    for expected, frame in zip(labelled, frames, strict=True):
        prediction = model.predict(expected.structure)
        assert prediction.energy == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(prediction.forces, expected.forces, atol=1e-9)
        low, high = model.minimum[prediction.species], model.maximum[prediction.species]
        outside = (prediction.features < low - 1e-12) | (prediction.features > high + 1e-12)
        assert int(outside.sum()) == frame.info["extrapolation_warnings"]


def test_the_files_that_n2p2_read_are_those_that_are_written_now():
    files = n2p2_files(read_potential(AL_FE_PT).model, "al_fe_pt", "al_fe_pt")
    assert sorted(files) == sorted(path.name for path in AL_FE_PT.iterdir() if path.suffix != ".extxyz")
    for name, text in files.items():
        if name in ("input.nn", "pair_hdnnp.lmp"):
            assert data_lines(text) == data_lines((AL_FE_PT / name).read_text())
            continue
        for line, expected in zip(words(text), words((AL_FE_PT / name).read_text()), strict=True):
            assert [float(x) for x in line if x not in "ab"] == pytest.approx(
                [float(x) for x in expected if x not in "ab"], rel=1e-15
            )


@pytest.mark.parametrize(
    ("elements", "descriptor"),
    [
        (("Al", "Fe", "Pt"), Descriptor()),
        (("Au", "C", "Cu"), Descriptor(cutoff=4.7, radial_eta=(0, 0.3), radial_shift=(0, 1.5), angular_zeta=(1, 2.5))),
        (("Au", "Cu"), Descriptor(angular_eta=(), cutoff_function="tanh3")),
        (("Cu",), Descriptor(radial_eta=(), angular_eta=(0,), angular_lambda=(-1,), cutoff_function="poly2")),
    ],
    ids=["usual", "another order", "radial alone", "angular alone"],
)
def test_what_is_written_reads_back_the_same(make_model, make_structure, write, elements, descriptor):
    model = make_model(elements=elements, descriptor=descriptor)
    again = write(model)
    structure = make_structure(species=(elements * 3)[:5])
    one, other = model.predict(structure), again.predict(structure)
    assert other.energy == pytest.approx(one.energy, abs=1e-12)
    np.testing.assert_allclose(other.forces, one.forces, atol=1e-12)
    np.testing.assert_array_equal(
        again.extrapolating(other.features, other.species), model.extrapolating(one.features, one.species)
    )


def test_functions_are_in_the_order_of_n2p2(make_model):
    """By type, η, R_s, ζ, λ and neighbours by atomic number: Cu is before Au there."""
    descriptor = Descriptor(radial_eta=(0.5, 0.1), angular_eta=(0.1,), angular_zeta=(4, 1), angular_lambda=(1, -1))
    lines = words(n2p2_files(make_model(elements=("Au", "Cu"), descriptor=descriptor), "a model")["input.nn"])
    assert ["elements", "Cu", "Au"] in lines
    own = [" ".join(line[2:]) for line in lines if line[:2] == ["symfunction_short", "Cu"]]
    assert own[:4] == ["2 Cu 0.1 0.0 4.0", "2 Au 0.1 0.0 4.0", "2 Cu 0.5 0.0 4.0", "2 Au 0.5 0.0 4.0"]
    assert own[4:8] == [
        "3 Cu Cu 0.1 -1.0 1.0 4.0",
        "3 Cu Au 0.1 -1.0 1.0 4.0",
        "3 Au Au 0.1 -1.0 1.0 4.0",
        "3 Cu Cu 0.1 1.0 1.0 4.0",
    ]


def test_what_the_networks_do_not_see_has_no_weight_and_is_left_out_if_it_has_no_limits(make_model, structure, write):
    model = make_model(elements=("Al", "Fe", "Pt"))
    scale, low, high = model.scale.copy(), model.minimum.copy(), model.maximum.copy()
    scale[0, 5] = scale[1, 7] = 0.0
    low[1, 7], high[1, 7] = -UNLIMITED, UNLIMITED
    low[2], high[2] = np.inf, -np.inf  # no training data
    model = replace(model, scale=scale, minimum=low, maximum=high)
    rows = words(n2p2_files(model, "a model")["scaling.data"])
    assert [sum(row[0] == e for row in rows) for e in "123"] == [57, 56, 57]
    again = write(model)
    assert again.predict(structure).energy == pytest.approx(model.predict(structure).energy, abs=1e-12)
    np.testing.assert_array_equal(again.minimum, low)
    np.testing.assert_array_equal(again.maximum, high)


def test_lammps_reports_extrapolation_and_goes_on(make_model):
    options = "showew no showewsum 100 resetew yes maxew 2147483647"
    lines = data_lines(n2p2_files(make_model(), "a model", "some where")["pair_hdnnp.lmp"])
    assert f'pair_style hdnnp 4.01 dir "some where" {options}' in lines
    lines = data_lines(n2p2_files(make_model(), "a model", "somewhere")["pair_hdnnp.lmp"])
    assert lines == [
        "variable hdnnp_dir index somewhere",
        "mass 1 26.9815",
        "mass 2 55.845",
        "mass 3 195.084",
        "pair_style hdnnp 4.01 dir ${hdnnp_dir} " + options,
        "pair_coeff * * Al Fe Pt",
    ]


def test_networks_that_n2p2_does_not_take_are_refused(make_model):
    with pytest.raises(ModelError, match="no hidden layer"):
        n2p2_files(make_model(hidden=()), "a model")
