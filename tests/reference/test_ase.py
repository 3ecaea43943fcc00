"""The reference `ase`: set-up, labels, refusals, failures."""

import os
import subprocess
import sys
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from kmde_fw.config import AseReference
from kmde_fw.errors import EngineError
from kmde_fw.inputs import read_labelled
from kmde_fw.records import Structure, content_hash
from kmde_fw.reference import make_engine

SHIPPED = Path(__file__).parents[2] / "fw_specs"


class Odd(Calculator):
    """A calculator that does what the test asks it to do wrong; no stress."""

    implemented_properties = ("energy", "free_energy", "forces")
    default_parameters = {"fault": ""}  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        print("noise on stdout")
        if self.parameters["fault"] == "raise":
            raise RuntimeError("first line\nSCF did not converge")
        forces = np.full((len(atoms), 3), 0.1)
        if self.parameters["fault"] == "nan":
            forces[0, 0] = np.nan
        if self.parameters["fault"] == "shape":
            forces = forces[:-1]
        self.results = {"energy": -1.0, "free_energy": -2.0, "forces": forces}


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """An engine with an `Odd` calculator, named by module.Class as a user would."""
    (tmp_path / "kmde_test_odd.py").write_text(
        f"import importlib.util\nspec = importlib.util.spec_from_file_location('odd_source', {str(__file__)!r})\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        "class Odd(module.Odd):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kmde_test_odd", raising=False)
    return lambda fault="": make_engine(AseReference(calculator="kmde_test_odd.Odd", arguments={"fault": fault}))


def emt(**domain):
    return make_engine(AseReference(calculator="emt", domain=domain))


def copper(a=3.6, rattle=0.05) -> Structure:
    atoms = bulk("Cu", "fcc", a, cubic=True)
    atoms.positions += np.random.default_rng(0).normal(0, rattle, (4, 3))
    return Structure.from_atoms(atoms, "Cu")


# labels ---------------------------------------------------------------------------------------------------------------


def test_a_label_is_what_the_calculator_says():
    structure = copper()
    result = emt().label(structure)
    atoms = structure.to_atoms()
    atoms.calc = EMT()
    assert result.state == "accepted"
    assert result.reason == ""
    assert result.energy == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(result.forces, atoms.get_forces())
    np.testing.assert_allclose(result.stress, atoms.get_stress())
    assert result.checks == dict.fromkeys(
        ("shortest bond", "forces' shape", "stress's shape", "finite numbers"), "passed"
    )
    assert result.versions == {"ase": ase.__version__}
    assert result.seconds > 0
    assert result.host


def test_labels_do_not_depend_on_what_was_labelled_before():
    engine = emt(scale=(0.85, 1.2))
    alone = engine.label(copper()).energy
    gold = Structure.from_atoms(bulk("Au", "fcc", 4.1))
    assert engine.label(gold).state == "accepted"
    assert engine.label(Structure.from_atoms(bulk("Fe"))).state == "failed"
    assert engine.label(copper()).energy == alone


def test_the_energy_is_the_one_that_matches_the_forces(odd, capfd):
    result = odd().label(copper())
    assert result.state == "accepted"
    assert result.energy == -2.0
    assert result.stress is None
    assert result.notes == ["Odd gives no stress"]
    assert capfd.readouterr().out == ""


def test_close_atoms_are_rejected_before_anything_is_calculated(odd):
    result = odd("raise").label(copper(a=2.9, rattle=0))
    assert result.state == "rejected"
    assert "shortest bond: atoms" in result.reason
    assert result.energy is None


def test_a_structure_outside_the_scale_is_rejected():
    engine = emt(scale=(0.95, 1.1))
    assert engine.label(copper(3.6)).state == "accepted"
    for a, expected in ((3.3, "scale: linear scale 0.9"), (4.6, "expanded beyond 1.1")):
        result = engine.label(copper(a, rattle=0))
        assert result.state == "rejected"
        assert expected in result.reason
    assert emt().label(copper(4.6)).state == "accepted"  # without scale only bonds are checked


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ("raise", "failed", "Odd failed: RuntimeError: SCF did not converge"),
        ("nan", "rejected", "finite numbers: not finite: forces"),
        ("shape", "rejected", "forces' shape: (3, 3) instead of (4, 3)"),
    ],
)
def test_bad_results_are_results_with_a_reason(odd, fault, state, reason):
    result = odd(fault).label(copper())
    assert result.state == state
    assert result.reason == reason


def test_an_element_that_the_calculator_does_not_know_fails_with_its_words():
    result = emt().label(Structure.from_atoms(bulk("Fe")))
    assert result.state == "failed"
    assert "No EMT-potential for Fe" in result.reason


def test_the_run_directory_is_handed_to_the_calculator(odd, tmp_path):
    engine = odd()
    assert engine.label(copper(), tmp_path).run_directory == str(tmp_path)
    assert engine.calculator.directory == str(tmp_path)
    assert engine.label(copper()).run_directory == ""


# level of theory ------------------------------------------------------------------------------------------------------


def test_level_names_the_class_its_arguments_and_its_package():
    engine = emt()
    assert engine.level == {
        "engine": "ase",
        "calculator": "ase.calculators.emt.EMT",
        "arguments": {},
        "package": f"ase {ase.__version__}",
    }
    assert engine.level_key == content_hash(engine.level)
    same = make_engine(AseReference(calculator="ase.calculators.emt.EMT"))
    assert same.level_key == engine.level_key
    assert same.calculator is engine.calculator
    other = make_engine(AseReference(calculator="emt", arguments={"asap_cutoff": True}))
    assert other.level_key != engine.level_key
    assert other.calculator is not engine.calculator


def test_arguments_change_the_label():
    loose = make_engine(AseReference(calculator="emt", arguments={"asap_cutoff": True}))
    assert loose.label(copper()).energy != emt().label(copper()).energy


@pytest.mark.parametrize(
    ("calculator", "expected"),
    [
        ("emtt", "did you mean 'emt'?"),
        ("sevenet", "did you mean 'sevennet'?"),
        ("nowhere.Potential", "pip install nowhere"),
        ("ase.calculators.emt.EMTT", "did you mean 'EMT'?"),
        ("numpy.ndarray", "not a class derived from ASE's Calculator"),
        ("kim", "not a class derived from ASE's Calculator"),
        ("hotbit", "needs a package that is not here"),
    ],
)
def test_unknown_calculators(calculator, expected):
    with pytest.raises(EngineError) as caught:
        make_engine(AseReference(calculator=calculator))
    assert expected in str(caught.value)
    assert repr(calculator) in str(caught.value)


def test_a_missing_package_of_a_short_name_is_said_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'sevenn=="):
        make_engine(AseReference(calculator="sevennet"))


def test_wrong_arguments():
    with pytest.raises(EngineError, match=r"takes no 'asap_cutof': did you mean 'asap_cutoff'\?"):
        make_engine(AseReference(calculator="emt", arguments={"asap_cutof": True})).label(copper())
    with pytest.raises(EngineError, match="plain finite values"):
        make_engine(AseReference(calculator="emt", arguments={"a": float("nan")}))
    with pytest.raises(EngineError, match="cannot be set up with the reference"):
        make_engine(AseReference(calculator="ase.calculators.eam.EAM", arguments={"potential": "none.alloy"})).label(
            copper()
        )


def test_setting_up_imports_no_learned_potential():
    """Submitting and planning make an engine; they should not wait for sevenn, nor need it to work."""
    code = (
        "import sys; from kmde_fw.config import AseReference; from kmde_fw.reference import make_engine\n"
        "try:\n    make_engine(AseReference(calculator='sevennet')).level_key\n"
        "except Exception as error:\n    assert 'pip install' in str(error)\n"
        "sys.exit('sevenn' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})


# relaxation -----------------------------------------------------------------------------------------------------------


def test_relax_positions_and_cell():
    engine = emt()
    steps = []
    relaxed, n = engine.relax(copper(), 0.01, 100, on_step=lambda step, largest: steps.append((step, largest)))
    assert np.abs(engine.label(relaxed).forces).max() < 0.01
    np.testing.assert_array_equal(relaxed.cell, copper().cell)
    assert steps[-1][0] == n
    assert steps[-1][1] < 0.01 < steps[0][1]
    free, _ = engine.relax(copper(3.8), 0.001, 200, cell=True)
    assert free.volume ** (1 / 3) == pytest.approx(3.594, abs=0.005)  # EMT's lattice constant of copper
    with pytest.raises(EngineError, match="left after 1 steps"):
        engine.relax(copper(), 1e-6, 1)
    with pytest.raises(EngineError, match="No EMT-potential"):
        engine.relax(Structure.from_atoms(bulk("Fe")), 0.01, 10)


# the embedded reference -----------------------------------------------------------------------------------------------


def test_sevennet_labels_as_the_shipped_data_and_keeps_out_of_compression():
    pytest.importorskip("sevenn")
    engine = make_engine(AseReference(calculator="sevennet", domain={"min_bond": 0.6, "scale": (0.88, 1.3)}))
    assert engine.level["arguments"] == {"model": "7net-0", "device": "cpu"}
    assert engine.level["package"].startswith("sevenn ")
    assert engine.level_key == make_engine(AseReference(calculator="sevenn.calculator.SevenNetCalculator")).level_key
    for scale, state in (
        (1.0, "accepted"),
        (1.2, "accepted"),
        (0.9, "accepted"),
        (0.84, "rejected"),
        (1.4, "rejected"),
    ):
        atoms = bulk("Pt", "fcc", 3.97 * scale)
        assert engine.label(Structure.from_atoms(atoms)).state == state, scale
    shipped = read_labelled(SHIPPED / "al_fe_pt/train.extxyz")[0]
    bonds_only = make_engine(AseReference(calculator="sevennet"))
    again = bonds_only.label(shipped.structure)
    assert again.energy == pytest.approx(shipped.energy, abs=1e-3)
    np.testing.assert_allclose(again.forces, shipped.forces, atol=1e-3)
    np.testing.assert_allclose(again.stress, shipped.stress, atol=1e-5)


def test_a_label_is_made_with_the_threads_asked_for(monkeypatch):
    import torch

    seen = []
    engine = make_engine(AseReference(calculator="emt", threads=3))
    calculate = type(engine.calculator).calculate
    monkeypatch.setattr(
        type(engine.calculator), "calculate", lambda *a, **k: (seen.append(torch.get_num_threads()), calculate(*a, **k))
    )
    before = torch.get_num_threads()
    engine.label(Structure(("Cu",), 3.6 * np.eye(3), np.zeros((1, 3))))
    assert set(seen) == {3}
    assert torch.get_num_threads() == before
