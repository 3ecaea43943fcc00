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
        code, out, err = kmde("export", *name, "-o", tmp_path / "m.safetensors", "--force", "-l", finished_launchpad)
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
        (["nothing"], "nor the beginning of an id"),
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
    names = [
        "certificate.html",
        "certificate.json",
        "input.nn",
        "pair_hdnnp.lmp",
        "scaling.data",
        "weights.029.data",
        "weights.079.data",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [path.name for path in folder.parent.iterdir()] == ["hdnnp"], "nothing is left over"
    assert kmde("export", "demo", "-o", tmp_path / "m.safetensors", "-l", finished_launchpad)[0] == 0
    structure = read_structures("fw_specs/cu_au/target.extxyz")[0]
    same = load(tmp_path / "m.safetensors").predict(structure).energy
    assert read_potential(folder).model.predict(structure).energy == pytest.approx(same, abs=1e-9)
    (tmp_path / "file").write_text("")
    words = ("export", tmp_path / "m.safetensors", "--format", "n2p2", "-o", tmp_path / "file", "--force")
    code, _, err = kmde(*words)
    assert code == 1
    assert "cannot write" in err
    assert (tmp_path / "file").read_text() == ""
    # neither a file nor a folder is overwritten unasked
    for output in (tmp_path / "m.safetensors", folder):
        code, _, err = kmde("export", tmp_path / "m.safetensors", "--format", "n2p2", "-o", output)
        assert code == 1
        assert "exists already; give another --output, or --force to overwrite it" in err
    assert kmde("export", tmp_path / "m.safetensors", "--format", "n2p2", "-o", folder, "--force")[0] == 0


def test_the_folder_for_ase_takes_two_lines(kmde, finished: Store, finished_launchpad, tmp_path: Path):
    from kmde_fw.errors import ModelError
    from kmde_fw.hdnnp import HdnnpCalculator

    folder = tmp_path / "potential"
    code, out, err = kmde("export", "demo", "--format", "ase", "-o", folder, "-l", finished_launchpad)
    assert code == 0, err
    assert {f.name for f in folder.iterdir()} == {
        *("model.safetensors", "README.txt", "certificate.json", "certificate.html")
    }
    names: dict = {"atoms": finished.get_structures(finished.campaign("demo")["target_structures"])[0].to_atoms()}
    exec("\n".join(line.strip() for line in out.splitlines() if line.startswith("  ")), names)
    atoms = names["atoms"]
    assert atoms.get_forces().shape == (len(atoms), 3)
    assert {"stress", "energies", "extrapolating"} <= set(atoms.calc.results)
    report = atoms.calc.domain.report()
    assert report["structures"] == 1
    assert report["searched_for_motifs"] == 1
    # the folder is a model for every command, and its certificate goes with it
    code, _, err = kmde("export", folder, "--format", "ase", "-o", tmp_path / "copy")
    assert code == 0, err
    assert (tmp_path / "copy" / "certificate.json").read_bytes() == (folder / "certificate.json").read_bytes()
    # a certificate of another model is refused
    other = tmp_path / "other.safetensors"
    assert kmde("export", "demo/0", "-o", other, "-l", finished_launchpad)[0] == 0
    (folder / "model.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(ModelError, match="belongs to another model"):
        HdnnpCalculator(folder)
    code, _, err = kmde("export", folder, "-o", tmp_path / "m.safetensors")
    assert code == 1
    assert "belongs to another model" in err
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_file_comes_with_its_certificate(kmde, finished_launchpad, tmp_path: Path):
    from kmde_fw.hdnnp import HdnnpCalculator

    file = tmp_path / "m.safetensors"
    code, out, _ = kmde("export", "demo", "-o", file, "-l", finished_launchpad)
    assert code == 0
    assert "m.certificate.html" in out
    assert HdnnpCalculator(file).certificate is not None
    (tmp_path / "m.certificate.json").unlink()
    assert HdnnpCalculator(file).certificate is None
    code, out, _ = kmde("export", file, "-o", tmp_path / "again.safetensors")
    assert code == 0
    assert "without a coverage certificate" in out
