"""A model leaves the database as files and is trained again from them to the bit; changed files are noticed."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from kmde_fw.errors import InputError, StoreError
from kmde_fw.store import Store, queries
from kmde_fw.workflows.lineage import DATA, MODEL, RECORD, retrain


@pytest.fixture
def exported(kmde, finished_launchpad: Path, tmp_path: Path) -> Path:
    """The lineage of the first model of the last cycle."""
    folder = tmp_path / "lineage"
    code, out, err = kmde("lineage", "demo/2", "--export", folder, "-l", finished_launchpad)
    assert code == 0, err
    assert "train set: 10 structures" in out
    return folder


def test_a_model_is_trained_again_to_the_bit_without_a_database(kmde, exported: Path, finished: Store, tmp_path: Path):
    code, out, err = kmde("retrain", exported, "-o", tmp_path / "again.safetensors")
    assert code == 0, out + err
    assert out.startswith("the same model, bit for bit")
    model = finished.get("models", finished.cycles("demo")[2]["models"][0])
    assert (tmp_path / "again.safetensors").read_bytes() == finished.get_blob(model["weights"]["sha256"])
    record = json.loads(kmde("retrain", exported, "--json")[1])
    assert record["identical"] is True
    assert record["versions"] == {}


def test_the_files_hold_labels_settings_and_origins(exported: Path, finished: Store):
    record = yaml.safe_load((exported / RECORD).read_text())
    model = finished.get("models", finished.cycles("demo")[2]["models"][0])
    frames = ase.io.read(exported / DATA, ":")
    for key, atoms, row in zip(model["train_labels"], frames, record["train"], strict=True):
        label = finished.get("labels", key)
        assert atoms.get_potential_energy() == label["energy"]
        assert np.array_equal(atoms.get_forces(), np.array(label["forces"]))
        assert row["label_id"] == key
    assert record["campaign"]["config"]["name"] == "demo"
    assert record["train"][-1]["origin"]["number"] == 4
    assert record["model"]["seed"] == 0


def test_a_lineage_of_schema_version_2_is_trained_as_it_was(exported: Path):
    """It does not say how first layers were trained: as they are."""
    record = yaml.safe_load((exported / RECORD).read_text())
    assert record["model"]["training"].pop("first_layer") == "whitened"
    (exported / RECORD).write_text(yaml.safe_dump(record))
    old, as_old = retrain(exported)
    record["model"]["training"]["first_layer"] = "plain"
    (exported / RECORD).write_text(yaml.safe_dump(record))
    plain, as_plain = retrain(exported)
    assert as_old == as_plain
    assert not old.identical
    assert not plain.identical


def test_another_seed_gives_another_model_and_exit_code_1(kmde, exported: Path):
    record = yaml.safe_load((exported / RECORD).read_text())
    record["model"]["seed"] = 5
    record["model"]["versions"]["torch"] = "1.0"
    (exported / RECORD).write_text(yaml.safe_dump(record))
    code, out, _ = kmde("retrain", exported)
    assert code == 1
    assert out.startswith("another model: weights differ")
    assert "torch: 1.0 when it was trained" in out


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (DATA, lambda text: text.replace("energy=", "energie=", 1), "structure 0 has no energy"),
        (RECORD, lambda text: text.replace("structure_id: ", "structure_id: 0", 1), "structure 0 is not"),
        (RECORD, lambda text: "[", "no lineage"),
    ],
)
def test_changed_files_are_noticed(exported: Path, file: str, change, said: str):
    (exported / file).write_text(change((exported / file).read_text()))
    with pytest.raises(InputError, match=said):
        retrain(exported)


def test_missing_and_foreign_files_are_sentences(exported: Path, tmp_path: Path):
    (exported / MODEL).write_bytes(b"other")
    with pytest.raises(InputError, match="its sha256 differs"):
        retrain(exported)
    with pytest.raises(InputError, match="--export"):
        retrain(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("demo/9", "no closed cycle 9"),
        ("demo/2/3", "has 2 models"),
        ("demo/x", "CAMPAIGN/CYCLE/NUMBER"),
        ("nobody/1", "no campaign"),
        ("nobody", "is no model: neither a model file, nor a campaign, nor CAMPAIGN/CYCLE"),
    ],
)
def test_models_that_are_not_there(finished: Store, name: str, said: str):
    with pytest.raises(StoreError, match=said):
        queries.resolve_model(finished, name)


def test_a_campaign_means_its_last_model(finished: Store):
    last = queries.last_cycle(finished, "demo")
    assert queries.resolve_model(finished, "demo") == queries.resolve_model(finished, f"demo/{last}/1")


def test_a_structure_is_no_model(finished: Store):
    structure = queries.surrogates(finished, "demo")[0]["structure_id"]
    with pytest.raises(StoreError, match="is a structure, not a model"):
        queries.resolve_model(finished, structure)
