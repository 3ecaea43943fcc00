"""What `prepare` makes of the files that a campaign names."""

import shutil
from pathlib import Path

import ase.io
import pytest
import yaml

from kmde_fw.errors import InputError
from kmde_fw.workflows.prepare import prepare

CU_AU = Path(__file__).parents[2] / "fw_specs/cu_au"


def campaign(folder: Path, **changes) -> Path:
    shutil.copytree(CU_AU, folder)
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    del data["elements"]
    (folder / "campaign.yaml").write_text(yaml.safe_dump(data | changes))
    return folder / "campaign.yaml"


def test_sets_to_evaluate_are_read_and_belong_to_the_campaigns_identity(tmp_path):
    plain = prepare(campaign(tmp_path / "a"))
    more = prepare(campaign(tmp_path / "b", evaluate={"again": ["target.extxyz"]}))
    assert plain.evaluate == {}
    assert [d.structure.id for d in more.evaluate["again"]] == [s.id for s in more.target]
    assert more.config_hash != plain.config_hash


def test_sets_to_evaluate_bring_no_new_elements(tmp_path):
    path = campaign(tmp_path / "a", evaluate={"other": ["other.extxyz"]})
    frame = ase.io.read(CU_AU / "target.extxyz")
    frame.symbols[0] = "Pd"
    ase.io.write(path.parent / "other.extxyz", frame)
    with pytest.raises(
        InputError, match=r"evaluate\.other contains Pd, but train, target and parents have only Au, Cu"
    ):
        prepare(path)
    path = campaign(tmp_path / "b", evaluate={"other": ["cu.cif"]})
    with pytest.raises(InputError, match="has no energies and forces"):
        prepare(path)
