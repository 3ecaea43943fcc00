"""Labels through the whole path, production code all of it: only the executable is a stand-in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from kmde_fw.errors import EngineError
from kmde_fw.records import Structure
from waiting import until

#: what custodian corrects: fault, further settings, what it did
CORRECTED = [
    ("edddav", {}, "edddav", {"ALGO": ["Normal", "All"]}),
    ("brmix", {}, "brmix", {"IMIX": [None, 1]}),
    ("unconverged", {}, "Unconverged", {"ALGO": ["Normal", "All"]}),
    ("unconverged:2", {}, "Unconverged", {"NELMDL": [None, -6]}),
    (
        "subspace",
        {"incar": {"LREAL": "Auto"}, "allow_changes": ["LREAL"]},
        "subspacematrix",
        {"LREAL": ["Auto", False]},
    ),
    ("tet", {"incar": {"ISMEAR": -5}, "allow_changes": ["ISMEAR", "sigma"]}, "tet", {"ISMEAR": [-5, 0]}),
    ("zbrent", {"allow_changes": ["EDIFF"]}, "zbrent", {"NELMIN": [None, 8]}),
    ("hang", {"incar": {"ALGO": "Fast"}, "handlers": {"FrozenJobErrorHandler": {"timeout": 4}}}, "Frozen job", {}),
]
#: what becomes no label: fault, further settings, state, a part of the reason
REFUSED = [
    ("brmix:always", {"max_corrections": 2}, "failed", "given up after 2 corrections (brmix)"),
    ("unconverged:always", {"max_corrections": 2}, "failed", "given up after 2 corrections (Unconverged)"),
    ("unconverged:always", {"handlers": {}}, "rejected", "electronic convergence: NELM = 200 electronic steps"),
    ("early", {}, "rejected", "electronic convergence: the last of 5 steps changed the energy by 2 eV"),
    ("subspace", {"incar": {"LREAL": "Auto"}}, "rejected", "LREAL Auto → False (allow_changes: [LREAL] would"),
    ("subspace", {}, "failed", "VaspErrorHandler knows no correction for: subspacematrix"),
    (
        "tet",
        {"incar": {"ISMEAR": -5}},
        "rejected",
        "level of theory: a correction changed what decides the energy: ISMEAR",
    ),
    ("zbrent", {}, "rejected", "EDIFF 1e-05 → 1e-06"),
    ("hang", {"handlers": {"FrozenJobErrorHandler": {"timeout": 3}}}, "failed", "knows no correction for: Frozen job"),
    ("crash", {}, "failed", "VASP ended with exit code 134"),
    ("segfault", {}, "failed", "VASP ended with signal 11 (SIGSEGV)"),
    ("truncated", {}, "failed", "VasprunXMLValidator found no complete output"),
    ("stars", {}, "rejected", "finite numbers: not finite: forces"),
    ("moved", {}, "rejected", "(Cu) has moved by 0.017 Å"),
    ("ionic", {}, "rejected", "one ionic step: 2 ionic steps"),
    ("slow", {"walltime": 2, "handlers": {}}, "failed", "stopped after 2 s, when its wall time was over"),
    ("hang", {"walltime": 3, "walltime_reserve": 1, "handlers": {}}, "failed", "wall time was over"),
    ("garbage", {}, "failed", "custodian failed: UnicodeDecodeError"),
    ("silent", {}, "failed", "found no complete output"),
]


def test_a_label_is_what_the_calculator_says(engine, crystal, tmp_path):
    made = engine(keep="all")
    result = made.label(crystal, tmp_path)
    atoms = crystal.to_atoms()
    atoms.calc = EMT()
    assert result.state == "accepted", result.reason
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-8)
    np.testing.assert_allclose(result.stress, atoms.get_stress(), atol=1e-9)
    assert set(result.checks.values()) == {"passed"}
    assert list(result.checks) == [
        "shortest bond", "custodian", "one ionic step", "electronic convergence", "forces' shape", "finite numbers",
        "geometry", "POTCARs", "level of theory",
    ]  # fmt: skip
    energies = result.details["energies"]
    assert result.energy == energies["e_fr_energy"], "the one that matches the forces"
    assert energies["e_0_energy"] == pytest.approx(result.energy + 0.012)
    assert result.versions == {"vasp": "6.4.2"}
    assert result.corrections == []
    # kept, compressed, found from the label, without POTCAR
    kept = Path(result.run_directory)
    assert kept.parent == tmp_path
    names = {path.name for path in kept.iterdir()}
    assert {"INCAR.gz", "POSCAR.gz", "vasprun.xml.gz", "OUTCAR.gz", "custodian.json.gz"} <= names
    assert not any("POTCAR" in name for name in names)


@pytest.mark.parametrize(("fault", "reference", "error", "changed"), CORRECTED, ids=[c[0] for c in CORRECTED])
def test_what_custodian_corrects_is_recorded_and_accepted(
    engine, crystal, tmp_path, monkeypatch, fault, reference, error, changed
):
    monkeypatch.setenv("KMDE_STANDIN_FAULT", fault)
    result = engine(keep="all", **reference).label(crystal, tmp_path)
    assert result.state == "accepted", result.reason
    assert result.corrections[-1]["errors"] == [error]
    assert result.corrections[-1]["actions"]
    assert {tag: result.details["changed_tags"].get(tag) for tag in changed} == changed
    assert f"corrected by custodian: {error}" in result.notes[0]
    atoms = crystal.to_atoms()
    atoms.calc = EMT()
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    for archive in Path(result.run_directory).glob("error.*.tar*"):
        with tarfile.open(archive) as tar:
            assert not [name for name in tar.getnames() if "POTCAR" in name]


@pytest.mark.parametrize(
    ("fault", "reference", "state", "reason"), REFUSED, ids=[f"{c[0]}-{n}" for n, c in enumerate(REFUSED)]
)
def test_what_is_wrong_becomes_no_label(engine, crystal, tmp_path, monkeypatch, fault, reference, state, reason):
    monkeypatch.setenv("KMDE_STANDIN_FAULT", fault)
    result = engine(**reference).label(crystal, tmp_path)
    assert result.state == state
    assert reason in result.reason
    assert result.host
    assert Path(result.run_directory).is_dir(), "what failed is kept"
    assert not list(Path(result.run_directory).rglob("POTCAR*"))
    if state == "failed":
        assert result.energy is None
        assert any("stand-in" in line for line in result.details["tail"])
    else:
        assert result.reason.split(":")[0] in result.checks


def test_stale_outputs_are_never_mistaken_for_new_ones(engine, crystal, tmp_path, monkeypatch):
    """A crash after a good run of the same name: custodian itself would accept the old vasprun.xml."""
    assert engine(keep="all").label(crystal, tmp_path).state == "accepted"
    (old,) = tmp_path.glob("label.run-*")
    (old / "POTCAR").write_text("left by a lost node")
    monkeypatch.setenv("KMDE_STANDIN_FAULT", "silent")
    result = engine().label(crystal, tmp_path)
    assert result.state == "failed"
    assert not old.exists()
    assert [str(path) for path in tmp_path.iterdir()] == [result.run_directory]


@pytest.mark.parametrize(("keep", "fault", "stays"), [
    ("all", "", True), ("failed", "", False), ("none", "", False), ("failed", "crash", True), ("none", "crash", False),
])  # fmt: skip
def test_keep(engine, crystal, tmp_path, monkeypatch, keep, fault, stays):
    monkeypatch.setenv("KMDE_STANDIN_FAULT", fault)
    result = engine(keep=keep).label(crystal, tmp_path)
    assert bool(result.run_directory) is stays
    assert [str(path) for path in tmp_path.iterdir()] == ([result.run_directory] if stays else [])


def test_run_directories_are_where_the_worker_says(engine, crystal, tmp_path):
    made = engine(keep="all", scratch=">>scratch<</labels")
    made.env = {**made.env, "scratch": str(tmp_path / "fast")}
    made.run_name = "alloy-003-000-001"
    result = made.label(crystal, tmp_path / "elsewhere")
    assert Path(result.run_directory).parent == tmp_path / "fast" / "labels"
    assert Path(result.run_directory).name.startswith("alloy-003-000-001.run-")


def test_atoms_too_close_are_not_calculated(engine, tmp_path, crystal):
    squeezed = Structure(crystal.species, crystal.cell * 0.75, crystal.positions * 0.75)
    result = engine().label(squeezed, tmp_path)
    assert result.state == "rejected"
    assert result.reason.startswith("shortest bond: atoms")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("environment", "message"), [
    ({}, r"this worker's env has no 'vasp_cmd'; write `env: \{vasp_cmd: ...\}` into its my_fworker.yaml"),
    ({"vasp_command": "x"}, "did you mean 'vasp_command'"),
    ({"vasp_cmd": "no_such_vasp -n 4"}, "the program 'no_such_vasp' .* is not on this machine"),
    ({"vasp_cmd": "nice -n 4 no_such_vasp"}, "the program 'no_such_vasp' .* is not on this machine"),
    ({"vasp_cmd": ""}, "vasp_cmd is empty"),
])  # fmt: skip
def test_a_worker_that_cannot_run_vasp_says_so(engine, crystal, tmp_path, environment, message):
    made = engine()
    made.env = environment
    with pytest.raises(EngineError, match=message):
        made.label(crystal, tmp_path)


def test_what_a_launcher_starts_may_start_vasp_itself():
    from kmde_fw.reference.vasp.run import split_command

    assert split_command("nice -n 4 sh -c 'module load vasp; vasp_std'")[3] == "sh"


def test_scratch_that_cannot_be_written(engine, crystal, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="give the worker another scratch folder"):
        engine(scratch=str(tmp_path / "file" / "below")).label(crystal, tmp_path)


@pytest.mark.parametrize(("left", "limit"), [("1:00:10", 3310.0), ("1-00:00:00", 86100.0), ("UNLIMITED", None)])
def test_what_is_left_of_a_slurm_job_limits_the_run(engine, tmp_path, monkeypatch, left, limit):
    from kmde_fw.reference.vasp.run import seconds_left

    _squeue(tmp_path, monkeypatch, left)
    assert seconds_left(engine().settings) == limit
    assert seconds_left(engine(walltime=60).settings) == 60


def test_a_slurm_job_that_is_nearly_over_begins_nothing(engine, crystal, tmp_path, monkeypatch):
    _squeue(tmp_path, monkeypatch, "4:30")
    with pytest.raises(EngineError, match=r"job 17 has 270 s left, less than walltime_reserve .* rerun this firework"):
        engine().label(crystal, tmp_path)
    # and one that ends while VASP runs stops it in time
    _squeue(tmp_path, monkeypatch, "0:03")
    monkeypatch.setenv("KMDE_STANDIN_FAULT", "slow")
    result = engine(walltime_reserve=2, handlers={}).label(crystal, tmp_path / "run")
    assert result.reason == "stopped after 1 s, when its wall time was over"


def test_without_squeue_there_is_no_limit(engine, monkeypatch):
    from kmde_fw.reference.vasp.run import seconds_left

    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert seconds_left(engine().settings) is None


def _squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A squeue that gives this answer, and a SLURM job around us."""
    script = folder / "bin" / "squeue"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\n[ "$*" = "-h -j 17 -o %L" ] && echo "{answer}"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def test_a_signal_leaves_no_vasp_and_no_potcar_behind(engine, crystal, tmp_path, monkeypatch):
    monkeypatch.setenv("KMDE_STANDIN_FAULT", "hang")

    def interrupt(number: int, frame: object) -> None:
        raise SystemExit("stopped")

    before = signal.signal(signal.SIGUSR1, interrupt)
    started = threading.Thread(target=_when_it_runs, args=(tmp_path, threading.get_ident()))
    started.start()
    try:
        with pytest.raises(SystemExit):
            engine().label(crystal, tmp_path)
    finally:
        started.join()
        signal.signal(signal.SIGUSR1, before)
    (directory,) = tmp_path.glob("label.run-*")
    assert not list(directory.rglob("POTCAR*"))
    assert _processes_in(directory) == []


def _when_it_runs(folder: Path, thread: int) -> None:
    until(lambda: list(folder.glob("label.run-*/.standin_runs")), 300)
    signal.pthread_kill(thread, signal.SIGUSR1)


def _processes_in(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").resolve() == directory:
                    found.append(entry.name)
            except OSError:
                continue
    return found


@pytest.mark.parametrize(("change", "message"), [
    (("INCAR", "NELECT = 7\n"), "NELECT = 7, and the atoms have"),
    (("INCAR", "ENCUTT = 500\n"), "I found the tag ENCUTT"),
    (("INCAR", "MAGMOM = 3*0.6\n"), "MAGMOM has 3 moments for 4 atoms"),
    (("POTCAR", None), "the species of POTCAR (Cu Au) are not those of POSCAR (Au Cu)"),
])  # fmt: skip
def test_the_stand_in_checks_its_input_as_vasp_does(engine, crystal, tmp_path, library, change, message):
    from kmde_fw.reference.vasp.inputs import make_inputs

    make_inputs(engine().settings, crystal).write(tmp_path)
    name, text = change
    if text is None:
        folder = library / "POT_PAW_PBE_64"
        text = (folder / "POTCAR.Cu_pv").read_text() + (folder / "POTCAR.Au").read_text()
    else:
        kept = [line for line in (tmp_path / name).read_text().splitlines(True) if not line.startswith("MAGMOM")]
        text = "".join(kept) + text
    (tmp_path / name).write_text(text)
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).parents[3] / "docker" / "vasp")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert message in ended.stdout


def test_a_killed_worker_leaves_no_vasp_and_no_potcar_behind(crystal, tmp_path, potcars):
    """kill -9, as by the kernel when memory is short: VASP is the child of a shell script here, as with mpirun."""
    script = tmp_path / "vasp.sh"
    stand_in = Path(__file__).parents[3] / "docker" / "vasp"
    script.write_text(f"#!/bin/sh\n{sys.executable} {stand_in}\necho ended\n")
    script.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from kmde_fw.config import VaspReference\n"
        "from kmde_fw.records import Structure; from kmde_fw.reference.vasp import VaspEngine\n"
        "import ase.io; structure = Structure.from_atoms(ase.io.read(sys.argv[2]))\n"
        "settings = VaspReference(engine='vasp', vasp_cmd=sys.argv[3])\n"
        "VaspEngine(settings, ('Cu', 'Au'), {}).label(structure, Path(sys.argv[1]))\n"
    )
    crystal.to_atoms().write(tmp_path / "crystal.extxyz")
    command = [sys.executable, "-c", code, tmp_path / "runs", tmp_path / "crystal.extxyz", str(script)]
    with subprocess.Popen(command, env={**os.environ, "KMDE_STANDIN_FAULT": "hang"}) as worker:
        try:
            until(lambda: list(tmp_path.glob("runs/label.run-*/.standin_runs")), 300)
            (directory,) = tmp_path.glob("runs/label.run-*")
            assert len(_processes_in(directory)) == 3, "the guard, the shell, the stand-in"
        finally:
            worker.kill()
    until(lambda: not _processes_in(directory) and not list(directory.rglob("POTCAR*")), 300)
