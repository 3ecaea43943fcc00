"""kmde import and kmde doctor, on runs of the stand-in VASP and on broken ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from kmde_fw.cli import build_app
from kmde_fw.config import VaspReference
from kmde_fw.doctor import CHECKS
from kmde_fw.errors import ConfigError, InputError
from kmde_fw.records import Structure
from kmde_fw.reference.vasp import VaspEngine
from kmde_fw.reference.vasp.imports import Imported, one_level
from kmde_fw.reference.vasp.inputs import make_inputs
from kmde_fw.workflows.prepare import prepare

ROOT = Path(__file__).parents[2]
STANDIN = f"{sys.executable} {ROOT / 'docker' / 'vasp'}"
REFERENCE = {"engine": "vasp", "kpoints": 50.0, "domain": {"min_bond": 0.8}}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("potcars")
    subprocess.run(
        [sys.executable, str(ROOT / "docker" / "make_potcars.py"), str(folder), "Cu_pv", "Au"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


@pytest.fixture(autouse=True)
def _potcars(library, monkeypatch):
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(library))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, library):
    """Run directories of cells of the Cu-Au train set: good ones, one at another cutoff, and broken ones."""
    from pymatgen.core import SETTINGS

    folder = tmp_path_factory.mktemp("runs")
    frames = ase.io.read(ROOT / "fw_specs" / "cu_au" / "train.extxyz", index=":")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(library))
        for name, frame, fault, reference in (
            ("good", 0, "", {}),
            ("other", 1, "", {}),
            ("cutoff", 2, "", {"incar": {"ENCUT": 500}}),
            ("relaxed", 1, "ionic", {}),
            ("truncated", 1, "truncated", {}),
            ("unconverged", 1, "unconverged", {}),
        ):
            make_run(folder / name, frames[frame], fault, reference)
    (folder / "empty").mkdir()
    (folder / "outcar").mkdir()
    shutil.copy(folder / "good" / "OUTCAR", folder / "outcar")
    (folder / "iron").mkdir()
    for file in (folder / "good").glob("*.xml"):
        (folder / "iron" / file.name).write_text(
            file.read_text().replace("<c>Cu</c>", "<c>Fe</c>").replace("Cu_pv", "Fe_pv")
        )
    return folder


def make_run(directory: Path, atoms: Any, fault: str = "", reference: dict[str, Any] | None = None) -> Path:
    """The run directory of the stand-in VASP for a cell."""
    directory.mkdir()
    settings = VaspReference(**{**REFERENCE, **(reference or {})})
    make_inputs(settings, Structure.from_atoms(atoms)).write(directory)
    subprocess.run(STANDIN.split(), cwd=directory, check=True, capture_output=True, env={"KMDE_STANDIN_FAULT": fault})
    (directory / "POTCAR").unlink()
    return directory


def campaign(folder: Path, **changes: Any) -> Path:
    """The Cu-Au campaign with a VASP reference."""
    shutil.copytree(ROOT / "fw_specs" / "cu_au", folder, dirs_exist_ok=True)
    data = yaml.safe_load((folder / "campaign.yaml").read_text())
    data |= {"reference": REFERENCE, **changes}
    (folder / "campaign.yaml").write_text(yaml.safe_dump(data))
    return folder / "campaign.yaml"


def kmde(*words: object) -> Any:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def test_our_own_runs_become_a_train_set(runs, tmp_path):
    file = campaign(tmp_path, train=["old.extxyz"])
    ended = kmde("import", runs / "good", runs / "other", "--for", file, "-o", tmp_path / "old.extxyz")
    assert ended.exit_code == 0, ended.output
    assert "2 of 2 runs written" in ended.output
    original = ase.io.read(ROOT / "fw_specs" / "cu_au" / "train.extxyz", index="0")
    (first, _) = ase.io.read(tmp_path / "old.extxyz", index=":")
    assert first.get_potential_energy() == pytest.approx(original.get_potential_energy(), abs=1e-6)
    prepared = prepare(file)
    assert {d.level_key for d in prepared.train} == {prepared.level_key}
    # and another level of theory says so
    with pytest.raises(InputError, match=r"2 of 2 labels of train \(good, ...\) have another level of theory"):
        prepare(campaign(tmp_path, train=["old.extxyz"], reference={**REFERENCE, "incar": {"ENCUT": 500}}))
    with pytest.raises(InputError, match="two levels never mix"):
        prepare(campaign(tmp_path, train=["old.extxyz"], reference={"engine": "ase", "calculator": "emt"}))


@pytest.mark.parametrize(("name", "reason"), [
    ("empty", "has neither vasprun.xml nor OUTCAR"),
    ("truncated", "cannot be read"),
    ("relaxed", "one ionic step: 2 ionic steps: a relaxation or MD, no single point"),
    ("unconverged", "electronic convergence: NELM = 200 electronic steps did not suffice"),
    ("iron", "elements: it contains Fe, wanted are Au, Cu"),
    ("cutoff", "level of theory: the campaign asks for other input in what decides the energy: ENCUT 680"),
    ("nowhere", "there is no "),
])  # fmt: skip
def test_broken_runs_are_refused_with_a_reason(runs, tmp_path, name, reason):
    file = campaign(tmp_path)
    words = ["import", runs / name, runs / "good", "--for", file, "-o", tmp_path / "old.extxyz", "--json"]
    ended = kmde(*words)
    assert ended.exit_code == 0, ended.output
    rows = json.loads(ended.stdout)["runs"]
    assert [row["accepted"] for row in rows] == [False, True]
    assert reason in rows[0]["reason"]
    assert len(ase.io.read(tmp_path / "old.extxyz", index=":")) == 1
    alone = kmde("import", runs / name, "--for", file, "-o", tmp_path / "none.extxyz")
    assert isinstance(alone.exception, InputError)
    assert not (tmp_path / "none.extxyz").exists()


def test_what_may_differ_can_be_said(runs, tmp_path):
    words = ["import", runs / "cutoff", "--for", campaign(tmp_path), "-o", tmp_path / "old.extxyz"]
    assert kmde(*words, "--allow", "encut").exit_code == 0


def test_without_a_campaign_runs_are_compared_with_each_other(runs, tmp_path):
    out = tmp_path / "old.extxyz"
    assert kmde("import", runs / "good", runs / "other", "-o", out).exit_code == 0
    mixed = kmde("import", runs / "good", runs / "cutoff", "-o", tmp_path / "mixed.extxyz")
    assert "differ in ENMAX: 680.0 and 500.0" in str(mixed.exception)
    assert not (tmp_path / "mixed.extxyz").exists()


def test_runs_of_several_compositions_have_one_level_that_a_campaign_can_compare(runs, tmp_path):
    """Without --for the file keeps what a campaign compares later."""
    out = tmp_path / "old.extxyz"
    frames = ase.io.read(ROOT / "fw_specs" / "cu_au" / "train.extxyz", index=":")
    pure = next(n for n, atoms in enumerate(frames) if set(atoms.symbols) == {"Cu"})
    mixed = next(n for n, atoms in enumerate(frames) if set(atoms.symbols) == {"Au", "Cu"})
    directories = [make_run(tmp_path / name, frames[n]) for name, n in (("pure", pure), ("mixed", mixed))]
    assert kmde("import", *directories, "-o", out).exit_code == 0
    assert len({atoms.info["level_key"] for atoms in ase.io.read(out, index=":")}) == 1
    prepared = prepare(campaign(tmp_path, train=["old.extxyz"]))
    assert {d.level_key for d in prepared.train} == {prepared.level_key}
    assert prepared.remarks == []
    with pytest.raises(InputError, match=r"pure: level of theory: .* ENCUT 600.* → 680.*--allow ENCUT would accept it"):
        prepare(campaign(tmp_path, train=["old.extxyz"], reference={**REFERENCE, "incar": {"ENCUT": 600}}))
    with pytest.raises(InputError, match=r"pure: it is a VASP run, the reference is ase\.calculators\.emt\.EMT"):
        prepare(campaign(tmp_path, train=["old.extxyz"], reference={"engine": "ase", "calculator": "emt"}))


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_vasps_own_files_as_train_set_are_compared_with_the_campaign(runs, tmp_path, name):
    def given(directory: str, **changes: Any) -> Path:
        return campaign(tmp_path, train=[str(runs / directory / name)], elements=["Au", "Cu"], **changes)

    prepared = prepare(given("good"))
    assert [d.level_key for d in prepared.train] == [prepared.level_key]
    assert not any("do not say" in remark for remark in prepared.remarks)
    file = given("cutoff")
    with pytest.raises(InputError, match=r"(?s)labels of train .*ENCUT 680(\.0)? → 500.*--allow ENCUT") as error:
        prepare(given("cutoff"))
    assert f"`kmde import RUNDIR... --for {file} --allow TAGS -o FILE.extxyz`" in str(error.value)
    assert len(prepare(given("cutoff", reference={**REFERENCE, "allow_changes": ["ENCUT"]})).train) == 1
    with pytest.raises(InputError, match="it is a VASP run, the reference is"):
        prepare(given("good", reference={"engine": "ase", "calculator": "emt"}))


def test_every_step_of_a_relaxation_is_of_the_level_of_a_single_point(runs, tmp_path):
    directory = tmp_path / "relaxation"
    shutil.copytree(runs / "relaxed", directory)
    text = (directory / "INCAR").read_text()
    assert "NSW = 0" in text
    (directory / "INCAR").write_text(text.replace("NSW = 0", "NSW = 5").replace("IBRION = -1", "IBRION = 2"))
    assert prepare(campaign(tmp_path, train=["relaxation/OUTCAR"])).train[0].level_key


def test_a_target_of_another_level_is_to_come_without_labels(runs, tmp_path):
    file = campaign(tmp_path, target=[str(runs / "cutoff" / "vasprun.xml")])
    with pytest.raises(InputError, match=r"labels of target .* POSCARs or CONTCARs: a target needs no labels"):
        prepare(file)


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_the_file_of_a_run_can_be_named_itself(runs, tmp_path, name):
    words = ["import", runs / "good" / name, "--for", campaign(tmp_path), "-o", tmp_path / "old.extxyz"]
    assert kmde(*words).exit_code == 0
    assert ase.io.read(tmp_path / "old.extxyz").info["label"] == "good"
    words[1] = runs / "good" / "INCAR"
    assert "INCAR is neither a run directory nor a vasprun.xml or OUTCAR" in kmde(*words).stdout


def test_a_refusal_says_what_would_accept_it(runs, tmp_path):
    words = ["import", runs / "cutoff", "--for", campaign(tmp_path), "-o", tmp_path / "old.extxyz"]
    assert "--allow ENCUT would accept it" in kmde(*words).stdout


def test_an_outcar_alone_will_do(runs, tmp_path):
    assert kmde("import", runs / "outcar", "-o", tmp_path / "a.extxyz").exit_code == 0
    kmde("import", runs / "good", "-o", tmp_path / "b.extxyz")
    a, b = ase.io.read(tmp_path / "a.extxyz"), ase.io.read(tmp_path / "b.extxyz")
    assert a.get_potential_energy() == b.get_potential_energy()
    np.testing.assert_allclose(a.get_forces(), b.get_forces(), atol=1e-7)


@pytest.fixture(scope="module")
def by_outcar(runs, tmp_path_factory):
    """make(name, incar, divisions): run `good` by its OUTCAR, with more tags in the INCAR, or none beside it."""
    folder = tmp_path_factory.mktemp("by_outcar")

    def make(name: str, incar: str | None = "", divisions: str = "") -> Path:
        (folder / name).mkdir()
        text = (runs / "good" / "OUTCAR").read_text()
        (line,) = [line for line in text.splitlines() if "generate k-points" in line]
        other = f" generate k-points for: {divisions}" if divisions else line
        (folder / name / "OUTCAR").write_text(text.replace(line, other))
        if incar is not None:
            (folder / name / "INCAR").write_text((runs / "good" / "INCAR").read_text() + incar)
        return folder / name

    return make


@pytest.mark.parametrize(("incar", "divisions", "reason"), [
    ("", "", ""),
    ("IVDW = 11\n", "", "IVDW unset → 11"),
    ("LDAU = .TRUE.\nLDAUU = 4 4\n", "", "LDAUU no U → Cu: U 4 J 1 l 2 type 2"),
    ("", "1 1 1", "→ [1, 1, 1]"),
    (None, "", "no INCAR beside"),
])  # fmt: skip
def test_an_outcar_for_a_campaign_is_compared_by_the_incar_beside_it(by_outcar, tmp_path, incar, divisions, reason):
    directory = by_outcar(tmp_path.name, incar, divisions)
    words = ["import", directory, "--for", campaign(tmp_path), "-o", tmp_path / "old.extxyz"]
    ended = kmde(*words)
    assert (ended.exit_code == 0) is not bool(reason), ended.output
    assert reason in ended.stdout


def test_runs_of_another_u_never_mix(by_outcar, tmp_path):
    runs = [by_outcar(f"u{u}", f"LDAU = .TRUE.\nLDAUU = {u}\nLDAUJ = 0\nLDAUL = 2\n") for u in (4, 5)]
    ended = kmde("import", *runs, "-o", tmp_path / "old.extxyz")
    assert "differ in LDAU of Cu: U 4 J 0 l 2 type 2 and U 5 J 0 l 2 type 2" in str(ended.exception)


def test_a_list_of_k_points_cannot_be_compared(runs, tmp_path):
    directory = tmp_path / "list"
    directory.mkdir()
    text = (runs / "good" / "vasprun.xml").read_text()
    head, _, rest = text.partition("  <generation")
    (directory / "vasprun.xml").write_text(head + rest.partition("</generation>")[2])
    words = ["import", directory, "--for", campaign(tmp_path), "-o", tmp_path / "old.extxyz"]
    assert "KPOINTS [" in kmde(*words).stdout
    assert kmde(*words, "--allow", "KPOINTS").exit_code == 0


def test_runs_that_share_no_element_with_the_first_are_compared_with_each_other():
    found = [
        Imported(Path(name), "", level={"incar": {}, "potcars": {element: {"titel": titel}}, "hubbard": {element: u}})
        for name, element, titel, u in (
            ("a", "Cu", "Cu_pv", "U 4"),
            ("b", "Au", "Au", "no U"),
            ("c", "Au", "Au_sv", "U 1"),
        )
    ]
    assert one_level(found) == [
        "b and c differ in POTCAR of Au: Au and Au_sv",
        "b and c differ in LDAU of Au: no U and U 1",
    ]


def test_import_for_another_engine(runs, tmp_path):
    file = campaign(tmp_path, reference={"engine": "ase", "calculator": "emt"})
    ended = kmde("import", runs / "good", "--for", file, "-o", tmp_path / "x.extxyz")
    assert isinstance(ended.exception, ConfigError)
    ended = kmde("import", runs / "good", "--allow", "ENCUT", "-o", tmp_path / "x.extxyz")
    assert "--allow compares with a campaign" in str(ended.exception)


# doctor ---------------------------------------------------------------------------------------------------------------


WORKER = {"name": "here", "category": "kmde_dft", "query": "{}"}


def doctor(
    file: Path, env: dict[str, str], head: dict[str, Any] = WORKER
) -> tuple[int, dict[str, list[dict[str, str]]]]:
    worker = file.with_name("my_fworker.yaml")
    worker.write_text(yaml.safe_dump({**head, "env": env}))
    ended = kmde("doctor", file, "--fworker", worker, "--json")
    findings: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(ended.stdout):
        findings.setdefault(finding["check"], []).append(finding)
    return ended.exit_code, findings


def test_a_worker_that_can_label(tmp_path):
    code, found = doctor(campaign(tmp_path), {"vasp_cmd": STANDIN})
    assert code == 0
    assert {finding["state"] for findings in found.values() for finding in findings} <= {"ok", "note"}
    assert [f["text"].split(",")[0] for f in found["POTCARs"]] == [
        "Au: PAW_PBE Au 04Oct2007",
        "Cu: PAW_PBE Cu_pv 06Sep2000",
    ]
    assert STANDIN in found["VASP"][0]["text"]
    assert "can be written into" in found["scratch"][0]["text"]
    assert "no limit outside of SLURM" in found["wall time"][0]["text"]
    assert set(found) <= set(CHECKS)


def test_a_worker_that_cannot(tmp_path):
    reference = {**REFERENCE, "potcars": {"Cu": "Cu_sv"}, "scratch": "/proc/nowhere"}
    code, found = doctor(campaign(tmp_path, reference=reference), {})
    assert code == 1
    problems = {check for check, findings in found.items() if any(f["state"] == "problem" for f in findings)}
    assert problems == {"VASP", "POTCARs", "level of theory", "scratch"}
    assert [f["state"] for f in found["POTCARs"]] == ["ok", "problem"]


@pytest.mark.parametrize(("head", "text"), [
    ({"name": "here"}, "my_fworker.yaml lacks category and query, and rlaunch fails without: write `category: ''` and"),
    ({**WORKER, "query": {}}, "query is {}, which is no JSON in quotes: write '{}'"),
    ({**WORKER, "query": "{"}, "query is '{', which is no JSON in quotes: write '{}'"),
])  # fmt: skip
def test_a_worker_file_that_rlaunch_cannot_read(tmp_path, head, text):
    file = campaign(tmp_path, reference={"engine": "ase", "calculator": "emt"})
    code, found = doctor(file, {}, head)
    assert code == 1
    (finding,) = found["worker file"]
    assert finding["state"] == "problem"
    assert text in finding["text"]


def test_a_worker_of_an_ase_campaign(tmp_path):
    code, found = doctor(campaign(tmp_path, reference={"engine": "ase", "calculator": "emt"}), {})
    assert code == 0
    assert set(found) == {"worker file", "calculator", "level of theory"}


def test_plan_tells_what_single_points_cost(tmp_path):
    from kmde_fw.cli.plan import plan_facts

    file = campaign(tmp_path, design={"candidates": 100, "max_atoms": 8}, training={"max_closures": 3})
    rows = plan_facts(prepare(file))["cost"]["dft"]
    assert [row["cell"] for row in rows][:2] == ["largest train cell", "pick 1"]
    engine = VaspEngine(VaspReference(**REFERENCE), ("Au", "Cu"), {})
    largest = max((d.structure for d in prepare(file).train), key=len)
    assert {key: rows[0][key] for key in ("electrons", "plane_waves", "k_points", "work")} == engine.cost(largest)
