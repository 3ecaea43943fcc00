"""Potentials that n2p2 made: the same energies and forces in our model; what we cannot represent is refused by name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kmde_fw.errors import InputError
from kmde_fw.hdnnp import from_bytes, to_bytes
from kmde_fw.hdnnp.n2p2 import Units, n2p2_files, read_input_data, read_potential
from kmde_fw.inputs import read_labelled

HERE = Path(__file__).parent
ATOMIC = Units("bohr", "hartree")


@pytest.fixture
def bohr(tmp_path: Path) -> Path:
    """A copy of a potential in Bohr and Hartree, to be spoilt."""
    return Path(shutil.copytree(HERE / "bohr", tmp_path / "bohr"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("name", "units"), [("bohr", ATOMIC), ("normalised", None)])
def test_energies_and_forces_are_those_of_n2p2(name: str, units: Units | None):
    """Other units, centred and scaled by range, logistic and tanh, functions that are no grid; or normalised data,
    divided nodes, scaled by sigma, shifted Gaussians."""
    potential = read_potential(HERE / name, units)
    for expected in read_labelled(HERE / name / "n2p2.extxyz"):
        prediction = potential.model.predict(expected.structure)
        assert prediction.energy == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(prediction.forces, expected.forces, atol=1e-9)


@pytest.mark.parametrize(("name", "units"), [("bohr", ATOMIC), ("normalised", None)])
def test_limits_are_those_of_the_train_set_and_all_survives_our_files(name: str, units: Units | None, tmp_path: Path):
    potential = read_potential(HERE / name, units)
    train = list(read_input_data(HERE / name / "input.data", potential.units, ("Au", "Cu")))
    again = from_bytes(to_bytes(potential.model))
    for file, text in n2p2_files(again, "a model").items():
        (tmp_path / file).write_text(text)
    and_again = read_potential(tmp_path)
    assert and_again.n_functions == potential.n_functions, "what the networks do not see is not written"
    for labelled in train:
        prediction = again.predict(labelled.structure)
        assert not again.extrapolating(prediction.features, prediction.species).any()
        assert and_again.model.predict(labelled.structure).energy == pytest.approx(prediction.energy, abs=1e-9)


def test_a_stretched_crystal_extrapolates():
    model = read_potential(HERE / "normalised").model
    structure = read_labelled(HERE / "normalised" / "n2p2.extxyz")[0].structure
    wide = type(structure)(structure.species, structure.cell * 1.2, structure.positions * 1.2)
    prediction = model.predict(wide)
    assert model.extrapolating(prediction.features, prediction.species).any()


def test_units_are_converted():
    """Lengths in Bohr and energies in Hartree are those of the same structures in Å and eV."""
    one = list(read_input_data(HERE / "bohr" / "input.data", ATOMIC, ("Au", "Cu")))
    other = list(read_input_data(HERE / "normalised" / "input.data", Units(), ("Au", "Cu")))
    assert len(one) == len(other) == 14
    for a, b in zip(one, other, strict=True):
        assert a.structure.species == b.structure.species
        np.testing.assert_allclose(a.structure.cell, b.structure.cell, atol=1e-8)
        np.testing.assert_allclose(a.structure.positions, b.structure.positions, atol=1e-8)
        assert a.energy == pytest.approx(b.energy, abs=1e-8)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-8)


def test_units_are_asked_for_where_the_file_does_not_say_them():
    with pytest.raises(InputError, match=r"does not say which units .* --length angstrom or bohr, --energy"):
        read_potential(HERE / "bohr")
    with pytest.raises(InputError, match="says that it is in Å, eV, and you say bohr, hartree"):
        read_potential(HERE / "normalised", ATOMIC)


SETTINGS_MISTAKES = {
    "cutoff_type 1 0.0|cutoff_type 3": r"line \d+ \(cutoff_type\): cutoff function 3 \(scaled tanh³\) cannot be",
    "cutoff_type 1 0.0|cutoff_type 1 0.5": r"an inner cutoff \(α = 0.5\) cannot",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 2 Cu 0.0 0.0 8.0": "different cutoff radii",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 2 Cu 0.0 -1.0 9.0": "should be positive",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 2 Cu 0.0 0.0": "a function of type 2 has 6 values",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 2 Pt 0.0 0.0 9.0": "Pt is not among the elements Cu Au",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 2 Cu zero 0.0 9.0": "'zero' is no number",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 9 Cu Cu 0.0 1 1 9.0": r"type 9 \(wide angular\) cannot",
    "Cu 2 Cu 0.0 0.0 9.0|Cu 20 Cu 0.0 9.0 p2": r"type 20 \(polynomial radial\) cannot",
    "Cu 2 Cu 0.12 0.0 9.0|Cu 2 Cu 0.0 0.0 9.0": "there twice",
    "0.02 -1.0 4.0 9.0|0.02 -1.0 4.0 9.0 1.5": "a shift of 1.5 in an angular function",
    "0.02 -1.0 4.0 9.0|0.02 -0.5 4.0 9.0": "λ = -0.5",
    "0.02 -1.0 4.0 9.0|0.02 -1.0 0.5 9.0": "ζ = 0.5",
    "short s t l|short p t l": r"the activation p \(softplus\) cannot be represented in a hidden layer; t or s can",
    "short s t l|short s t t": r"the activation t \(tanh\) cannot be represented in the output layer",
    "short s t l|short s l": "2 activations, 3 layers",
    "nodes_short 6 5|nodes_short 6": "nodes of 1 hidden layers, there are 2",
    "elements Cu Au|elements Cu Xx": "'Xx' is no chemical element",
    "elements Cu Au|elements Cu Au Pt": "number_of_elements says 2",
    "center_symmetry_functions|center_symetry_functions": "did you mean 'center_symmetry_functions'",
    "cutoff_type 1 0.0|cutoff_type 1\ncutoff_type 1": "is there a second time",
    "cutoff_type 1 0.0|": "cutoff_type is missing",
    "use_short_forces|use_electrostatics": r"\(use_electrostatics\): cannot be represented: electrostatics",
    "use_short_forces|element_nodes_short Cu 1 5": "networks that differ from element to element",
    "use_short_forces|nnp_generation 4": "4 cannot be represented; only 2G-HDNNP can",
    "use_short_forces|nn_type_short 2": "only 1, networks of atoms",
    "use_short_forces|mean_energy 1.0": "lacks conv_energy, conv_length; they go together",
    "scale_min_short -0.5|scale_min_short 2": "scale_min_short 2 should be below",
    "atom_energy Cu|atom_energy Fe": "should name each element at most once",
    "0.12 0.0 9.0|0.12 0.0 90.0": "different cutoff radii",
}


@pytest.mark.parametrize("edit", SETTINGS_MISTAKES)
def test_what_input_nn_has_and_we_have_not_is_one_sentence(bohr: Path, edit: str):
    old, _, new = edit.partition("|")
    change(bohr / "input.nn", old, new)
    with pytest.raises(InputError, match=SETTINGS_MISTAKES[edit]) as caught:
        read_potential(bohr, ATOMIC)
    assert "\n" not in str(caught.value)
    assert str(bohr / "input.nn") in str(caught.value)


def test_a_cutoff_beyond_what_is_allowed_is_one_sentence(bohr: Path):
    (bohr / "input.nn").write_text((bohr / "input.nn").read_text().replace(" 9.0", " 90.0"))
    with pytest.raises(InputError, match="cannot be represented: cutoff: Input should be less than"):
        read_potential(bohr, ATOMIC)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("scaling.data", lambda text: text[:1200], "ends within a line: is it cut off"),
        (
            "scaling.data",
            lambda text: "\n".join(text.splitlines()[:-3]) + "\n",
            "has 8 of 11 functions .* is it cut off",
        ),
        ("scaling.data", lambda text: text[: text.rindex(" ")] + "\n", "has 5 values"),
        ("scaling.data", lambda text: text + text.splitlines()[-1] + "\n", "more functions"),
        (
            "scaling.data",
            lambda text: re.sub(r"\n +1 +2 ", "\n 1 7 ", text),
            "function 2 of element 1 should stand here",
        ),
        ("scaling.data", lambda text: "begin\nend\n", "is no line of a scaling.data"),
        ("weights.029.data", lambda text: text[: len(text) // 2], "ends within a line: is it cut off"),
        (
            "weights.029.data",
            lambda text: text[: text.index("\n", len(text) // 2) + 1],
            "weights and biases, the networks of input.nn have",
        ),
        ("weights.029.data", lambda text: "\n".join(text.splitlines()[:-2]) + "\n", "weights and biases"),
        ("weights.079.data", lambda text: "something else\n", "'something' is no number; this is no file of weights"),
        ("weights.079.data", lambda text: text.replace("E", "X"), "is no number"),
        ("input.nn", lambda text: text[: text.index("symfunction")], "symfunction_short is missing"),
        ("input.nn", lambda text: text[: text.index("symfunction_short Au")], "Au has no symmetry functions"),
        ("input.nn", lambda text: "units metal\n", "none of the keywords of n2p2 or RuNNer"),
    ],
)
def test_damaged_and_foreign_files_are_one_sentence(bohr: Path, file: str, damage, said: str):
    (bohr / file).write_text(damage((bohr / file).read_text()))
    with pytest.raises(InputError, match=said) as caught:
        read_potential(bohr, ATOMIC)
    assert str(bohr / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_are_one_sentence(bohr: Path):
    (bohr / "weights.079.data").unlink()
    with pytest.raises(InputError, match=r"cannot read .*weights.079.data: No such file"):
        read_potential(bohr, ATOMIC)
    (bohr / "scaling.data").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"scaling\.data is not a text file"):
        read_potential(bohr, ATOMIC)


def test_a_function_that_does_not_vary_is_refused(bohr: Path):
    lines = (bohr / "scaling.data").read_text().splitlines()
    place = next(k for k, line in enumerate(lines) if line.split()[:2] == ["1", "3"])
    words = lines[place].split()
    lines[place] = " ".join([*words[:3], words[2], *words[4:]])
    (bohr / "scaling.data").write_text("\n".join([*lines, ""]))
    with pytest.raises(InputError, match=r"function 3 of Cu does not vary"):
        read_potential(bohr, ATOMIC)


@pytest.mark.parametrize(
    ("scaling", "outside"),
    [("scale_symmetry_functions", 0), ("center_symmetry_functions", 0), ("", 0)],
    ids=["by range", "centred", "not at all"],
)
def test_every_way_of_scaling_is_an_affine_map(bohr: Path, scaling: str, outside: int):
    """(G - center) · scale is n2p2's S_min + (S_max - S_min) (G - G_min) / (G_max - G_min), G - mean, or G."""
    text = (bohr / "input.nn").read_text()
    text = text.replace("center_symmetry_functions\n", "").replace("scale_symmetry_functions\n", f"{scaling}\n")
    (bohr / "input.nn").write_text(text)
    model = read_potential(bohr, ATOMIC).model
    seen = model.scale != 0
    low, high = (model.minimum - model.center) * model.scale, (model.maximum - model.center) * model.scale
    if scaling == "scale_symmetry_functions":
        np.testing.assert_allclose(low[seen], -0.5, atol=1e-9)
        np.testing.assert_allclose(high[seen], 1.5, atol=1e-9)
    else:
        assert (model.scale[seen] == 1).all()
        assert (low[seen] < 0).all() if scaling else (model.center == 0).all()


DATA_MISTAKES = {
    "begin\n|start\n": "'start' where `begin` should be",
    "end\nbegin|begin": "has no `end` before the next `begin`",
    "energy |power ": "'power' is no word of an input.data",
    "lattice |#": "has 2 `lattice` lines instead of three",
    "Cu 0.0 0.0|Pt 0.0 0.0": "Pt is not an element of the potential, which is for Au, Cu",
    "Cu 0.0 0.0|Cv 0.0 0.0": "Cv is no chemical element",
    "Cu 0.0 0.0|Cu 0.0": "an `atom` line has 9 values",
    "atom 0|atom x": "is no number",
    "energy |energy nan ": "not a finite number",
    "energy |charge ": "has no `energy`",
}


@pytest.mark.parametrize("edit", DATA_MISTAKES)
def test_mistakes_in_input_data_are_one_sentence_with_the_line(bohr: Path, edit: str):
    old, _, new = edit.partition("|")
    change(bohr / "input.data", old, new)
    with pytest.raises(InputError, match=DATA_MISTAKES[edit]) as caught:
        list(read_input_data(bohr / "input.data", ATOMIC, ("Cu", "Au")))
    assert re.search(r"line \d+", str(caught.value))


def test_an_input_data_that_is_cut_off_empty_or_without_a_cell_is_one_sentence(bohr: Path):
    path = bohr / "input.data"
    text = path.read_text()
    for damaged, said in (
        (text[: text.rindex("energy")], "has no `end`: the file is cut off"),
        ("", "has no structure"),
        (re.sub("lattice.*\n", "", text), "no `lattice` lines instead of three; kmde_fw is for crystals"),
        ("begin\nenergy 1\nend\n", "has no atoms"),
    ):
        path.write_text(damaged)
        with pytest.raises(InputError, match=re.escape(said)):
            list(read_input_data(path, ATOMIC, ("Cu", "Au")))
    with pytest.raises(InputError, match="cannot read"):
        list(read_input_data(bohr / "nothing", ATOMIC, ("Cu", "Au")))
