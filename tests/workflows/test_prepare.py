"""What `prepare` makes of the files that a campaign names."""

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from kmde_fw.errors import InputError
from kmde_fw.workflows.prepare import prepare

CU_AU = Path(__file__).parents[2] / "fw_specs/cu_au"
N_TRAIN = len(ase.io.read(CU_AU / "train.extxyz", ":"))
UNTOLD = (
    f"{N_TRAIN} of {N_TRAIN} labels of train do not say of what level of theory they are: they are taken to be of the "
    "reference's"
)


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


def test_parents_are_derived_from_target_and_train_set(tmp_path):
    """Those that a file gives come first and are not there twice."""
    prepared = prepare(campaign(tmp_path / "a"))
    names = ["parent of the target: AuCu", "parent of the target: Au3Cu"]
    further = ["parent of the train set: Cu", "parent of the train set: AuCu3"]
    assert [s.name for s in prepared.parents] == [*names, *further]
    assert prepared.n_derived == 4
    assert prepared.remarks == [UNTOLD]
    path = campaign(tmp_path / "b", parents=["POSCAR"])
    ase.io.write(path.parent / "POSCAR", prepared.parents[0].to_atoms() * (2, 1, 1), format="vasp")
    given = prepare(path)
    assert [s.formula for s in given.parents] == ["Au2Cu2", "Au3Cu", "Cu", "AuCu3"]
    assert given.n_derived == 3
    assert given.config_hash != prepared.config_hash


@pytest.mark.parametrize("design", [{"derive_parents": False}, None])
def test_parents_are_not_derived_if_not_asked_for(tmp_path, design):
    changes = {"design": design} if design else {"preset": "thesis", "design": {}}
    prepared = prepare(campaign(tmp_path / "a", **changes))
    assert prepared.parents == []
    assert prepared.remarks == [UNTOLD]


def test_a_target_without_a_parent_is_remarked(tmp_path):
    path = campaign(tmp_path / "a")
    frames = ase.io.read(path.parent / "target.extxyz", ":1")
    frames[0].positions += np.random.default_rng(0).normal(0, 0.5, frames[0].positions.shape)
    ase.io.write(path.parent / "target.extxyz", frames)
    (untold, remark) = prepare(path).remarks
    assert untold == UNTOLD
    assert remark.startswith("no parent could be derived from the target")
    assert remark.endswith("candidates come from prototypes and the other parents")
