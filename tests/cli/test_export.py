"""kmde export: every way to name a model, and sentences for what is no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmde_fw.cli import main
from kmde_fw.store import Store


@pytest.fixture
def kmde(capsys, monkeypatch):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kmde", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return call


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
