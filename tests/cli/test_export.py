"""kmde export: every way to name a model, and sentences for what is no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmde_fw.store import Store


def test_a_model_is_named_by_campaign_cycle_number_id_or_file(
    kmde, finished: Store, finished_launchpad, tmp_path: Path
):
    cycles = finished.cycles("demo")
    second = finished.get("models", cycles[1]["models"][1])
    names = (["demo", "--cycle", 1, "--number", 2], ["demo/1/2"], [second["_id"]], [second["_id"][:10]])
    for name in names:
        code, out, err = kmde("export", *name, "-o", tmp_path / "m.safetensors", "-l", finished_launchpad)
        assert code == 0, err
        assert second["_id"][:12] in out
        assert (tmp_path / "m.safetensors").read_bytes() == finished.get_blob(second["weights"]["sha256"])
    code, _, err = kmde("export", tmp_path / "m.safetensors", "-o", tmp_path / "again.safetensors")
    assert code == 0, err
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    assert kmde("export", "demo", "-o", tmp_path / "last.safetensors", "-l", finished_launchpad)[0] == 0
    last = finished.get("models", cycles[-1]["models"][0])
    assert (tmp_path / "last.safetensors").read_bytes() == finished.get_blob(last["weights"]["sha256"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--cycle", "9"], "no closed cycle 9"),
        (["demo", "--number", "9"], "numbered from 1"),
        (["demo/1", "--number", "1"], "go with one"),
        (["nothing.safetensors"], "cannot read the model file"),
        (["nothing"], "not the beginning of an id"),
    ],
)
def test_what_is_no_model_is_a_sentence_and_writes_nothing(kmde, finished_launchpad, tmp_path, words, said):
    output = tmp_path / "m.safetensors"
    code, _, err = kmde("export", *words, "-o", output, "-l", finished_launchpad)
    assert code == 1
    assert said in err
    assert not output.exists()


def test_a_foreign_file_and_an_unwritable_place_are_sentences(kmde, finished_launchpad, tmp_path):
    (tmp_path / "foreign").write_bytes(b"something else")
    code, _, err = kmde("export", tmp_path / "foreign", "-o", tmp_path / "m.safetensors")
    assert code == 1
    assert "no safetensors file" in err
    code, _, err = kmde("export", "demo", "-o", tmp_path / "nowhere" / "m", "-l", finished_launchpad)
    assert code == 1
    assert "cannot write" in err


def test_n2p2_gets_a_folder_and_a_line_for_lammps(kmde, finished_launchpad, tmp_path: Path):
    from kmde_fw.hdnnp import load
    from kmde_fw.hdnnp.n2p2 import read_potential
    from kmde_fw.inputs import read_structures

    folder = tmp_path / "deep" / "hdnnp"
    code, out, err = kmde("export", "demo", "--format", "n2p2", "-o", folder, "-l", finished_launchpad)
    assert code == 0, err
    assert f"include {folder}/pair_hdnnp.lmp" in out
    names = ["input.nn", "pair_hdnnp.lmp", "scaling.data", "weights.029.data", "weights.079.data"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [path.name for path in folder.parent.iterdir()] == ["hdnnp"], "nothing is left over"
    assert kmde("export", "demo", "-o", tmp_path / "m.safetensors", "-l", finished_launchpad)[0] == 0
    structure = read_structures("fw_specs/cu_au/target.extxyz")[0]
    same = load(tmp_path / "m.safetensors").predict(structure).energy
    assert read_potential(folder).model.predict(structure).energy == pytest.approx(same, abs=1e-9)
    (tmp_path / "file").write_text("")
    code, _, err = kmde("export", tmp_path / "m.safetensors", "--format", "n2p2", "-o", tmp_path / "file")
    assert code == 1
    assert "cannot write" in err
    assert (tmp_path / "file").read_text() == ""
