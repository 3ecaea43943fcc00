"""kmde make-data."""

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from kmde_fw.cli.data import make_data
from kmde_fw.config import load_campaign
from kmde_fw.errors import ConfigError, EngineError, InputError, KmdeError
from kmde_fw.inputs import read_labelled, read_target

SPECS = Path(__file__).parents[2] / "fw_specs"
RECIPE = SPECS / "cu_au/recipe.yaml"

app = typer.Typer()
app.command()(make_data)


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, KmdeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def recipe_folder(tmp_path: Path) -> Path:
    """A copy of the Cu-Au recipe that a test may change."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    for file in (SPECS / "cu_au").glob("*"):
        if file.suffix in (".yaml", ".cif"):
            shutil.copy(file, folder)
    return folder


def test_the_shipped_cu_au_data_come_out_again(tmp_path):
    output = run(RECIPE, "-o", tmp_path / "out")
    assert "1 of 12: train Cu_2x2x2_0.98_d0.05: 1.8" in output
    assert "12 structures made, 0 were there already" in output
    for name, read in (("train", read_labelled), ("target", read_target), ("host", read_labelled)):
        made, shipped = read(tmp_path / f"out/{name}.extxyz"), read(SPECS / f"cu_au/{name}.extxyz")
        assert len(made) == len(shipped)
        for one, two in zip(made, shipped, strict=True):
            one, two = (x if name != "target" else x[1] for x in (one, two))
            assert one.structure.name == two.structure.name
            assert one.energy == pytest.approx(two.energy, abs=1e-4)
            np.testing.assert_allclose(one.structure.positions, two.structure.positions, atol=1e-3)


def doping_recipe(tmp_path: Path, **more) -> Path:
    """A recipe that puts Au on a Cu site of Cu3Au and relaxes, as the Al-Fe-Pt data are made."""
    recipe = yaml.safe_load((recipe_folder(tmp_path) / "recipe.yaml").read_text())
    recipe["sets"]["target"] = [{"host": "Cu3Au", "repeat": [2, 2, 2], "dopant": "Au"}]
    path = tmp_path / "recipe/recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, **more}, sort_keys=False))
    return path


def test_doping_and_relaxing(tmp_path):
    run(doping_recipe(tmp_path), "-o", tmp_path / "out", "--set", "target")
    frame = ase.io.read(tmp_path / "out/target.extxyz", index=0)
    assert {k: frame.info[k] for k in ("label", "site", "dopant_index", "replaced", "role")} == {
        "label": "Cu3Au_Au@Cu1_2x2x2",
        "site": 1,
        "dopant_index": 1,
        "replaced": "Cu",
        "role": "target",
    }
    assert frame.info["reference"].startswith("ase-")
    assert frame.info["reference"].endswith("/EMT")
    assert set(frame.calc.results) >= {"energy", "forces", "stress"}
    assert np.linalg.norm(frame.get_forces(), axis=1).max() < 0.01


def test_a_displaced_copy_of_a_file(tmp_path):
    folder = recipe_folder(tmp_path)
    shutil.copy(SPECS / "cu_au/target.extxyz", folder)
    recipe = {
        "sets": {"moved": [{"file": "target.extxyz", "displacement": 0.05, "strain": 0.02, "relax": False}]},
        "reference": {"engine": "ase", "calculator": "emt"},
    }
    (folder / "moved.yaml").write_text(yaml.safe_dump(recipe))
    run(folder / "moved.yaml", "-o", tmp_path / "out")
    assert not (tmp_path / "out/host.extxyz").exists()
    shipped, made = read_labelled(folder / "target.extxyz"), read_labelled(tmp_path / "out/moved.extxyz")
    assert [m.structure.name for m in made] == [f"{s.structure.name}_d0.05_s0.02" for s in shipped]
    assert all(m.energy > s.energy for m, s in zip(made, shipped, strict=True))
    (folder / "target.extxyz").unlink()
    with pytest.raises(InputError, match=r"target\.extxyz: no such file"):
        run(folder / "moved.yaml", "-o", tmp_path / "other")


def test_what_is_there_is_kept_and_the_order_is_the_recipes(tmp_path):
    out = tmp_path / "out"
    second, first = "Cu_2x2x2_1_d0.05", "Cu_2x2x2_0.98_d0.05"
    run(RECIPE, "-o", out, "--set", "train", "--only", second)
    assert not (out / "target.extxyz").exists()
    host, made = (out / "host.extxyz").read_bytes(), ase.io.read(out / "train.extxyz")
    output = run(RECIPE, "-o", out, "--only", f"{first}, {second}")
    assert "1 structures made, 1 were there already" in output
    assert "host" not in output
    assert (out / "host.extxyz").read_bytes() == host
    frames = ase.io.read(out / "train.extxyz", index=":")
    assert [f.info["label"] for f in frames] == [first, second]
    np.testing.assert_array_equal(frames[1].positions, made.positions)


def test_shipped_folders_are_complete():
    for folder, n in (("al_fe_pt", 60), ("cu_au", 12)):
        before = sorted((f.name, f.stat().st_mtime_ns) for f in (SPECS / folder).iterdir())
        assert f"0 structures made, {n} were there already" in run(SPECS / folder / "recipe.yaml", "-o", SPECS / folder)
        assert sorted((f.name, f.stat().st_mtime_ns) for f in (SPECS / folder).iterdir()) == before


def test_the_cu_au_campaign_is_valid():
    campaign = load_campaign(SPECS / "cu_au/campaign.yaml")
    for name in (*campaign.train, *campaign.target):
        assert read_target(SPECS / "cu_au" / name, campaign.elements)


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"did you mean 'Cu_2x2x2_1_d0\.05'"):
        run(RECIPE, "-o", out, "--only", "Cu_2x2x2_1_d0.5")
    with pytest.raises(ConfigError, match="no set 'trian': did you mean 'train'"):
        run(RECIPE, "-o", out, "--set", "trian")
    folder = recipe_folder(tmp_path)
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("calculator: emt", "calculator: emtt"))
    with pytest.raises(EngineError, match="did you mean 'emt'"):
        run(folder / "recipe.yaml", "-o", out)
    (folder / "cu.cif").unlink()
    with pytest.raises(InputError, match=r"cu\.cif: no such file"):
        run(folder / "recipe.yaml", "-o", out)
    assert not out.exists()


def test_data_of_two_recipes_do_not_mix(tmp_path):
    out = tmp_path / "out"
    run(RECIPE, "-o", out, "--only", "Cu_2x2x2_1_d0.05")
    folder = recipe_folder(tmp_path)
    (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text().replace("fmax: 0.01", "fmax: 0.02"))
    with pytest.raises(ConfigError, match="made with another recipe"):
        run(folder / "recipe.yaml", "-o", out)
    (out / "recipe.yaml").unlink()
    with pytest.raises(ConfigError, match="without their recipe"):
        run(RECIPE, "-o", out)


def test_a_relaxation_that_does_not_end_is_an_error_and_what_was_made_stays(tmp_path):
    recipe = doping_recipe(tmp_path, max_steps=10)
    with pytest.raises(EngineError, match="after 10 steps of relaxation"):
        run(recipe, "-o", tmp_path / "out")
    assert len(read_labelled(tmp_path / "out/train.extxyz")) == 6
