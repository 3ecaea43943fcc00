"""Structure files: what is read, and the sentence for every mistake."""

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from kmde_fw.errors import InputError
from kmde_fw.inputs import find_elements, read_labelled, read_structures, read_target

SHIPPED = Path(__file__).parents[1] / "fw_specs"


def copper(energy=-1.0, forces=None, label="Cu a", **results) -> Atoms:
    atoms = bulk("Cu", "fcc", 3.6, cubic=True)
    atoms.info["label"] = label
    forces = np.arange(12).reshape(4, 3) * 0.1 if forces is None else forces
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, **results)
    return atoms


def write(path: Path, *frames: Atoms) -> Path:
    ase.io.write(path, list(frames), format="extxyz")
    return path


def mistake(path, elements=None, read=read_labelled) -> str:
    with pytest.raises(InputError) as caught:
        read(path, elements)
    return str(caught.value)


# what is read ---------------------------------------------------------------------------------------------------------


def test_labels_come_out_as_they_went_in(tmp_path):
    path = write(tmp_path / "a.extxyz", copper(stress=np.arange(6.0)))
    (labelled,) = read_labelled(path)
    assert labelled.structure.name == "Cu a"
    assert labelled.structure.species == ("Cu",) * 4
    assert labelled.energy == -1.0
    np.testing.assert_allclose(labelled.forces, np.arange(12).reshape(4, 3) * 0.1)
    np.testing.assert_allclose(labelled.stress, np.arange(6.0))


def test_the_energy_that_matches_the_forces_is_taken(tmp_path):
    path = write(tmp_path / "a.extxyz", copper(energy=-1.0, free_energy=-1.5))
    assert read_labelled(path)[0].energy == -1.5


def test_energy_and_forces_may_stand_in_info_and_arrays(tmp_path):
    atoms = copper()
    atoms.calc = None
    atoms.info["energy"] = -3.0
    atoms.arrays["forces"] = np.ones((4, 3))
    (labelled,) = read_labelled(write(tmp_path / "a.extxyz", atoms))
    assert labelled.energy == -3.0
    np.testing.assert_array_equal(labelled.forces, 1.0)


def test_constraints_of_the_file_do_not_touch_the_forces(tmp_path):
    atoms = copper(forces=np.ones((4, 3)))
    atoms.set_constraint(FixAtoms([0, 1]))
    (labelled,) = read_labelled(write(tmp_path / "a.extxyz", atoms))
    np.testing.assert_array_equal(labelled.forces, 1.0)


def test_names_come_from_label_then_name_then_file(tmp_path):
    frames = [copper(label="first"), copper(), copper()]
    for k, atoms in enumerate(frames):
        atoms.positions[0, 0] += 0.01 * k  # three different structures
    frames[1].info = {"name": "second"}
    frames[2].info = {}
    assert [d.structure.name for d in read_labelled(write(tmp_path / "some.xyz", *frames))] == [
        "first",
        "second",
        "some 3",
    ]


def test_target_needs_no_labels(tmp_path):
    bare = bulk("Au", "fcc", 4.1)
    pairs = read_target(write(tmp_path / "a.extxyz", copper(), bare))
    assert [label is None for _, label in pairs] == [False, True]
    assert pairs[0][1].energy == -1.0


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR.relaxed", "cu.vasp", "cu.cif"])
def test_crystals_without_labels(tmp_path, name):
    ase.io.write(tmp_path / name, bulk("Cu", "fcc", 3.6, cubic=True), format="cif" if name.endswith("cif") else "vasp")
    (structure,) = read_structures(tmp_path / name)
    assert structure.formula == "Cu4"
    assert structure.volume == pytest.approx(3.6**3)
    assert "no energies and forces" in mistake(tmp_path / name)


def test_several_files_and_the_shipped_data():
    train = read_labelled([SHIPPED / "al_fe_pt/train.extxyz", SHIPPED / "al_fe_pt/target.extxyz"], ("Al", "Fe", "Pt"))
    assert [len(d.structure) for d in train] == [102] * 20 + [204] * 20
    assert train[0].structure.name == "Pt@Fe1"
    assert train[0].energy == pytest.approx(-527.3753662)
    assert find_elements([train[0].structure]) == ("Al", "Fe", "Pt")
    (crystal,) = read_structures(SHIPPED / "al_fe_pt/al13fe4.cif")
    assert crystal.formula == "Al78Fe24"


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
 <parameters><i type="int" name="NELM">3</i></parameters>
 <atominfo><array name="atoms"><set><rc><c>Al</c><c>1</c></rc><rc><c>Fe</c><c>2</c></rc></set></array></atominfo>
 <structure name="initialpos"><crystal><varray name="basis"><v>3 0 0</v><v>0 3 0</v><v>0 0 3</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray>
  <varray name="selective"><v type="logical">F F F</v><v type="logical">T T T</v></varray></structure>
{steps}
</modeling>"""

VASPRUN_STEP = """ <calculation>
  {scsteps}
  <structure><crystal><varray name="basis"><v>3 0 0</v><v>0 3 0</v><v>0 0 3</v></varray></crystal>
   <varray name="positions"><v>0 0 {z}</v><v>0.5 0.5 0.5</v></varray></structure>
  <varray name="forces"><v>0.1 0.2 0.3</v><v>-0.1 -0.2 -0.3</v></varray>
  <varray name="stress"><v>1 0 0</v><v>0 1 0</v><v>0 0 1</v></varray>
  <energy><i name="e_fr_energy">{energy}</i><i name="e_wo_entrp">-9.8</i><i name="e_0_energy">-9.9</i></energy>
 </calculation>"""

SCSTEP = '<scstep><energy><i name="e_fr_energy">-10</i><i name="e_0_energy">-10</i></energy></scstep>'


def vasprun(path: Path, *steps: tuple[int, float]) -> Path:
    """Steps of (electronic steps, free energy)."""
    text = "\n".join(
        VASPRUN_STEP.format(scsteps=SCSTEP * n, energy=e, z=0.01 * k) for k, (n, e) in enumerate(steps, start=1)
    )
    path.write_text(VASPRUN.format(steps=text))
    return path


def test_vasprun_gives_every_ionic_step_with_free_energy_and_raw_forces(tmp_path):
    found = read_labelled(vasprun(tmp_path / "vasprun.xml", (2, -10.0), (1, -10.5)))
    assert [d.energy for d in found] == [-10.0, -10.5]
    assert [d.structure.name for d in found] == ["vasprun 1", "vasprun 2"]
    # atom 1 is fixed by selective dynamics; its force counts all the same
    np.testing.assert_allclose(found[0].forces[0], [0.1, 0.2, 0.3])


def test_vasprun_step_without_electronic_convergence_is_refused(tmp_path):
    text = mistake(vasprun(tmp_path / "vasprun.xml", (2, -10.0), (3, 38.0)))
    assert "entry 2 (vasprun 2)" in text
    assert "did not converge" in text
    assert "entry 1" not in text


def test_vasprun_of_a_run_that_was_stopped_before_it_converged_is_refused(tmp_path):
    path = vasprun(tmp_path / "vasprun.xml", (2, -10.0))
    text = path.read_text().replace("<parameters>", '<parameters><i name="EDIFF">0.00001</i>')
    path.write_text(text)
    assert len(read_labelled(path)) == 1
    path.write_text(text.replace('"e_fr_energy">-10<', '"e_fr_energy">38<', 1))
    assert "did not converge" in mistake(path)


def test_vasprun_of_a_killed_run_keeps_its_finished_steps(tmp_path):
    path = vasprun(tmp_path / "vasprun.xml", (2, -10.0))
    path.write_text(path.read_text().replace("</modeling>", "<calculation><scstep><energy>"))
    assert [d.energy for d in read_labelled(path)] == [-10.0]


OUTCAR_HEAD = """ vasp.6.4.2
 POTCAR:    PAW_PBE Al 04Jan2001
 POTCAR:    PAW_PBE Fe 06Sep2000
 POTCAR:    PAW_PBE Al 04Jan2001
 POTCAR:    PAW_PBE Fe 06Sep2000
   ions per type =               1   1
   ISPIN  =      1    spin polarized calculation?
   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      8
 k-points in reciprocal lattice and weights: gamma
   0.00000000  0.00000000  0.00000000       1.000
"""

OUTCAR_STEP = """----------------------------- Iteration      {k}(   1)  -----------------------------
------------------------ aborting loop {end} ----------------------------------------
  in kB       1.00000     1.00000     1.00000     0.00000     0.00000     0.00000
      direct lattice vectors                 reciprocal lattice vectors
     3.000000000  0.000000000  0.000000000     0.333333333  0.000000000  0.000000000
     0.000000000  3.000000000  0.000000000     0.000000000  0.333333333  0.000000000
     0.000000000  0.000000000  3.000000000     0.000000000  0.000000000  0.333333333
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.0{k}000         0.100000      0.200000      0.300000
      1.50000      1.50000      1.50000        -0.100000     -0.200000     -0.300000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =       -10.{k}0000000 eV

  energy  without entropy=       -9.80000000  energy(sigma->0) =       -9.90000000
"""


def test_outcar_gives_every_ionic_step_and_refuses_unconverged_ones(tmp_path):
    good = OUTCAR_STEP.format(k=1, end="because EDIFF is reached") + OUTCAR_STEP.format(
        k=2, end="because EDIFF is reached"
    )
    (tmp_path / "OUTCAR").write_text(OUTCAR_HEAD + good)
    found = read_labelled(tmp_path / "OUTCAR")
    assert [d.energy for d in found] == [-10.1, -10.2]
    assert found[0].structure.species == ("Al", "Fe")
    with gzip.open(tmp_path / "OUTCAR.gz", "wt") as file:
        file.write(OUTCAR_HEAD + good)
    assert [d.energy for d in read_labelled(tmp_path / "OUTCAR.gz")] == [-10.1, -10.2]
    for end in ("EDIFF was not reached (unconverged)", "because hard stop was set"):
        bad = OUTCAR_STEP.format(k=2, end=end)
        (tmp_path / "OUTCAR").write_text(OUTCAR_HEAD + OUTCAR_STEP.format(k=1, end="because EDIFF is reached") + bad)
        assert "entry 2 (OUTCAR 2): its electronic loop did not converge" in mistake(tmp_path / "OUTCAR")


# mistakes of files ----------------------------------------------------------------------------------------------------


def test_missing_empty_foreign_and_damaged_files(tmp_path):
    assert "no such file" in mistake(tmp_path / "none.extxyz")
    assert "a folder" in mistake(tmp_path)
    (tmp_path / "empty.extxyz").touch()
    assert "is empty" in mistake(tmp_path / "empty.extxyz")
    (tmp_path / "data.csv").write_text("1,2,3")
    assert "unknown kind of file" in mistake(tmp_path / "data.csv")
    (tmp_path / "noise.extxyz").write_bytes(bytes(range(256)))
    assert "cannot be read as extxyz" in mistake(tmp_path / "noise.extxyz")
    whole = write(tmp_path / "cut.extxyz", copper()).read_text()
    (tmp_path / "cut.extxyz").write_text("\n".join(whole.splitlines()[:-1]))
    assert "cannot be read as extxyz" in mistake(tmp_path / "cut.extxyz")
    (tmp_path / "vasprun.xml").write_text("<html>not found</html>")
    assert "vasprun.xml: " in mistake(tmp_path / "vasprun.xml")
    for text in map(mistake, [tmp_path / "none.extxyz", tmp_path / "noise.extxyz"]):
        assert str(tmp_path) in text
        assert "\n" not in text


def test_mistakes_of_all_files_are_listed_together(tmp_path):
    good = write(tmp_path / "good.extxyz", copper())
    bad = write(tmp_path / "bad.extxyz", copper(energy=np.nan))
    lines = mistake([good, tmp_path / "none.extxyz", bad]).splitlines()
    assert len(lines) == 2
    assert any("none.extxyz" in line for line in lines)
    assert any("bad.extxyz, entry 1 (Cu a)" in line for line in lines)


def test_at_most_ten_lines_and_the_number_of_the_others(tmp_path):
    frames = [copper(energy=np.nan, label=f"bad {k}") for k in range(13)]
    lines = mistake(write(tmp_path / "a.extxyz", *frames)).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 3 more mistakes"


# mistakes of entries --------------------------------------------------------------------------------------------------


def test_train_structure_without_labels(tmp_path):
    bare = copper()
    bare.calc = None
    only_energy = copper()
    only_energy.calc = SinglePointCalculator(only_energy, energy=-1.0)
    text = mistake(write(tmp_path / "a.extxyz", copper(), bare, only_energy))
    assert "entry 2 (Cu a): has no energy and forces" in text
    assert "entry 3 (Cu a): has no forces" in text
    assert "entry 1" not in text


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({"energy": np.nan}, "energy is not a finite number"),
        ({"energy": np.inf}, "energy is not a finite number"),
        ({"forces": np.array([[0, 0, 0], [0, 0, 0], [0, np.nan, 0], [0, 0, 0.0]])}, "force on atom 3 (Cu)"),
    ],
)
def test_labels_that_are_not_finite(tmp_path, results, expected):
    path = write(tmp_path / "a.extxyz", copper(**results))
    assert expected in mistake(path)
    assert expected in mistake(path, read=read_target)


def test_forces_of_a_wrong_shape_and_an_energy_in_words(tmp_path):
    path = write(tmp_path / "a.extxyz", copper())
    lines = path.read_text().replace("forces:R:3", "forces:R:2").splitlines()
    lines[2:] = [" ".join(line.split()[:6]) for line in lines[2:]]
    path.write_text("\n".join(lines) + "\n")
    assert "forces have shape (4, 2) instead of (4, 3)" in mistake(path)
    path = write(tmp_path / "a.extxyz", copper())
    path.write_text(path.read_text().replace("energy=-1.0", "energy=unknown"))
    assert "its energy is not a number ('unknown')" in mistake(path)


def test_positions_that_are_not_finite(tmp_path):
    atoms = copper()
    atoms.positions[1, 2] = np.nan
    assert "not finite numbers" in mistake(write(tmp_path / "a.extxyz", atoms))


@pytest.mark.parametrize("case", ["slab", "molecule", "flat", "tiny"])
def test_no_crystal(tmp_path, case):
    atoms = copper()
    if case == "slab":
        atoms.pbc = (True, True, False)
    elif case == "molecule":
        atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((2, 3)))
    elif case == "flat":
        atoms.cell[2] = atoms.cell[0] + atoms.cell[1] + [0, 0, 1e-5]
    else:
        atoms.set_cell(atoms.cell * 0.01, scale_atoms=True)
    assert "is not a crystal" in mistake(write(tmp_path / "a.extxyz", atoms))


def test_a_left_handed_cell_is_a_cell(tmp_path):
    atoms = copper()
    atoms.cell[2] *= -1
    assert read_labelled(write(tmp_path / "a.extxyz", atoms))[0].structure.volume == pytest.approx(3.6**3)


def test_atoms_on_top_of_each_other(tmp_path):
    atoms = copper()
    atoms.positions[3] = atoms.positions[1] + [3.6, 0, 0.3]  # through the periodic boundary
    text = mistake(write(tmp_path / "a.extxyz", atoms))
    assert "atom 2 (Cu) lies on top of atom 4 (Cu), 0.300 Å away" in text
    thin = Atoms("Cu", cell=[0.9, 6, 6], pbc=True)
    assert "its own periodic image" in mistake(write(tmp_path / "b.extxyz", thin), read=read_structures)


def test_elements_outside_the_campaign(tmp_path):
    path = write(tmp_path / "a.extxyz", copper())
    assert read_labelled(path, ("Cu", "Au"))
    assert "contains Cu, but the campaign's elements are Al, Fe" in mistake(path, ("Al", "Fe"))
    path.write_text(path.read_text().replace("Cu ", "X  "))
    assert "atoms of no element (X)" in mistake(path)


def test_partial_occupancies(tmp_path):
    ase.io.write(tmp_path / "a.cif", bulk("Cu", "fcc", 3.6, cubic=True))
    text = (tmp_path / "a.cif").read_text()
    assert "1.0000\n" in text
    (tmp_path / "a.cif").write_text(text.replace("1.0000\n", "0.5000\n"))
    assert "partially occupied" in mistake(tmp_path / "a.cif", read=read_structures)


# duplicates -----------------------------------------------------------------------------------------------------------


def test_the_same_structure_twice_counts_once(tmp_path):
    path = write(tmp_path / "a.extxyz", copper(label="one"), copper(label="two"))
    assert [d.structure.name for d in read_labelled(path)] == ["one"]
    bare = copper(label="bare")
    bare.calc = None
    ((structure, label),) = read_target(write(tmp_path / "b.extxyz", bare, copper()))
    assert structure.name == "bare"
    assert label.energy == -1.0


def test_the_same_structure_with_two_energies_is_a_mistake(tmp_path):
    first = write(tmp_path / "a.extxyz", copper(label="one"))
    second = write(tmp_path / "b.extxyz", copper(label="two", energy=-1.1))
    text = mistake([first, second])
    assert "b.extxyz, entry 1 (two): is the same structure as" in text
    assert "a.extxyz, entry 1 (one)" in text


def test_readers_make_no_noise(tmp_path, capfd):
    ase.io.write(tmp_path / "a.cif", bulk("Cu", "fcc", 3.6, cubic=True))
    text = (tmp_path / "a.cif").read_text().replace("'P 1'", "'nonsense'")
    (tmp_path / "a.cif").write_text(text)
    read_structures(tmp_path / "a.cif")
    assert capfd.readouterr() == ("", "")
