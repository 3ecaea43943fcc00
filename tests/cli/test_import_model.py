"""kmde import-model: what a potential of n2p2 lacks for a target, a campaign from there, and sentences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from kmde_fw.hdnnp import load
from kmde_fw.inputs import read_labelled
from kmde_fw.workflows.prepare import prepare

N2P2 = Path(__file__).parent.parent / "hdnnp" / "n2p2"
TARGET = Path("fw_specs/cu_au/target.extxyz")
LIKE = Path("fw_specs/cu_au/campaign.yaml")
ATOMIC = ("--length", "bohr", "--energy", "hartree")


def test_errors_outliers_and_gaps_are_told(kmde):
    code, out, err = kmde("import-model", N2P2 / "bohr", "--target", TARGET, *ATOMIC)
    assert code == 0, err
    for words in ("Au, Cu", "14 structures", "meV/atom", "target atoms (", "coverage gap", "key motifs", "our grid"):
        assert words in out
    facts = json.loads(kmde("import-model", N2P2 / "bohr", "--target", TARGET, *ATOMIC, "--json")[1])
    assert facts["potential"]["symmetry_functions"] == {"Au": 5, "Cu": 6}
    assert facts["train"]["structures"] == 14
    assert facts["train"]["outside_scaling"] == 0
    assert facts["train"]["errors"]["energy_rmse"] < 200
    assert facts["target"]["outliers"]["atoms"] == len(facts["target"]["outlier_atoms"]) > 0
    assert facts["target"]["gap"]["total"] > 0
    assert facts["target"]["motifs"]
    assert facts["written"] == []


def test_a_campaign_begins_from_the_potential(kmde, tmp_path: Path):
    folder = tmp_path / "from"
    words = ("import-model", N2P2 / "normalised", "--target", TARGET, "--like", LIKE, "-o", folder)
    code, out, err = kmde(*words)
    assert code == 0, err
    assert f"kmde plan {folder}/campaign.yaml" in out
    prepared = prepare(folder / "campaign.yaml")
    model = load(folder / "model.safetensors")
    assert prepared.settings.descriptor == model.descriptor
    assert prepared.settings.network.hidden == model.hidden == (8,)
    assert prepared.elements == model.elements == ("Au", "Cu")
    assert prepared.settings.reference.calculator == "emt"
    assert [x.energy for x in prepared.train] == [x.energy for x in read_labelled(folder / "train.extxyz")]
    code, _, err = kmde(*words)
    assert code == 1
    assert "has a model.safetensors already" in err


def test_without_a_campaign_to_be_like_the_reference_is_left_to_the_user(kmde, tmp_path: Path):
    code, out, err = kmde("import-model", N2P2 / "normalised", "--target", TARGET, "-o", tmp_path / "from")
    assert code == 0, err
    assert "add the `reference`" in out
    assert "reference" not in yaml.safe_load((tmp_path / "from" / "campaign.yaml").read_text())
    code, _, err = kmde("validate", tmp_path / "from" / "campaign.yaml")
    assert code == 1
    assert "'reference' is missing" in err


def test_without_a_train_set_outliers_are_by_the_limits_of_scaling_data(kmde, tmp_path: Path):
    folder = Path(shutil.copytree(N2P2 / "normalised", tmp_path / "model"))
    (folder / "input.data").unlink()
    facts = json.loads(kmde("import-model", folder, "--target", TARGET, "-o", tmp_path / "out", "--json")[1])
    assert facts["train"] is None
    assert "gap" not in facts["target"]
    assert facts["target"]["outliers"]["atoms"] > 0
    assert facts["written"] == [str(tmp_path / "out" / "model.safetensors")]
    assert any("no input.data" in note for note in facts["notes"])
    words = ("import-model", folder, "--target", TARGET, "--like", LIKE, "-o", tmp_path / "other")
    code, out, _ = kmde(*words)
    assert code == 0
    assert "note: no campaign file was written, and --like has no effect: there is no train set" in out
    code, _, err = kmde("import-model", folder, "--data-only")
    assert code == 1
    assert "nothing else" in err


def test_the_train_set_of_a_potential_that_cannot_be_represented_is_still_a_start(kmde, tmp_path: Path):
    folder = Path(shutil.copytree(N2P2 / "normalised", tmp_path / "model"))
    text = (folder / "input.nn").read_text()
    (folder / "input.nn").write_text(text.replace("cutoff_type 1", "cutoff_type 7"))
    code, _, err = kmde("import-model", folder, "-o", tmp_path / "out")
    assert code == 1
    assert "cutoff function 7 (polynomial of degree 7) cannot be represented" in err
    assert not (tmp_path / "out").exists()
    words = ("import-model", folder, "--data-only", "--target", TARGET, "-o", tmp_path / "out", "--json")
    facts = json.loads(kmde(*words)[1])
    assert facts["potential"] is None
    assert facts["target"]["gap"]["total"] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["campaign.yaml", "train.extxyz"]


def test_wrong_units_and_a_train_set_of_another_potential_are_noted(kmde, tmp_path: Path):
    words = ("--length", "angstrom", "--energy", "ev", "--json")
    facts = json.loads(kmde("import-model", N2P2 / "bohr", *words)[1])
    assert any("is angstrom the right unit of length?" in note for note in facts["notes"])
    folder = Path(shutil.copytree(N2P2 / "bohr", tmp_path / "model"))
    lines = (folder / "input.data").read_text().splitlines()
    stretched = [
        " ".join([w[0], *(repr(1.1 * float(x)) for x in w[1:4]), *w[4:]]) if w[0] in ("lattice", "atom") else line
        for line in lines
        for w in [line.split()]
    ]
    (folder / "input.data").write_text("\n".join(stretched))
    facts = json.loads(kmde("import-model", folder, *ATOMIC, "--json")[1])
    assert facts["train"]["outside_scaling"] > 0
    assert any("outside the limits in scaling.data" in note for note in facts["notes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([N2P2 / "bohr"], "does not say which units it is in"),
        ([N2P2 / "bohr", "--length", "bohr"], "--length and --energy go together"),
        ([N2P2 / "nothing"], "no such folder"),
        ([N2P2], "cannot read"),
        ([N2P2 / "normalised", "--target", "fw_specs/al_fe_pt/train.extxyz"], "the target contains Al, Fe, Pt"),
        ([N2P2 / "normalised", "--target", "nothing.extxyz"], "nothing.extxyz: no such file"),
        ([N2P2 / "normalised", "--target", TARGET, "--like", "fw_specs/al_fe_pt/campaign.yaml"], "is for Al, Fe, Pt"),
        ([N2P2 / "normalised", "--target", TARGET, "--like", "setup.cfg"], "setup.cfg"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(kmde, tmp_path: Path, words, said: str):
    code, _, err = kmde("import-model", *words, "-o", tmp_path / "out")
    assert code == 1
    assert said in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_like_without_a_target_or_a_place_says_so(kmde):
    code, _, err = kmde("import-model", N2P2 / "normalised", "--like", LIKE)
    assert code == 1
    assert "give --target and --output with it" in err
