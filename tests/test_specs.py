"""Every file in fw_specs does what it says: campaigns validate, workflows load as FireWorks workflows."""

from pathlib import Path

import pytest
import yaml
from fireworks import Workflow

from kmde_fw.comparison import load_comparison
from kmde_fw.config import campaign_path
from kmde_fw.workflows.comparison import prepare_comparison
from kmde_fw.workflows.prepare import prepare
from kmde_fw.workflows.start import workflow_yaml

SPECS = Path(__file__).parent.parent / "fw_specs"
COMPARISONS = sorted(SPECS.glob("compare_*.yaml"))
WORKFLOWS = sorted(set(SPECS.glob("*.yaml")) - set(COMPARISONS))
CAMPAIGNS = sorted(SPECS.glob("*/campaign.yaml"))


def test_there_are_some():
    assert [path.stem for path in WORKFLOWS] == ["al_fe_pt", "cu_au"]
    assert [path.parent.name for path in CAMPAIGNS] == ["al_fe_pt", "cu_au", "ni_al_pt"]
    assert [path.stem for path in COMPARISONS] == ["compare_al_fe_pt", "compare_near_al_fe_pt", "compare_ni_al_pt"]


@pytest.mark.parametrize(("name", "command", "category"), [
    ("slurm/kmde_dft/my_fworker.yaml", "srun vasp_std", "kmde_dft"), ("workers/stand_in_fworker.yaml", "vasp", "")
])  # fmt: skip
def test_the_vasp_campaign_and_its_workers_fit(name, command, category):
    from fireworks import FWorker

    from kmde_fw.config import VaspReference, load_campaign
    from kmde_fw.worker_env import read_fworker, resolve

    worker = SPECS / name
    settings = load_campaign(SPECS / "al_fe_pt" / "campaign_vasp.yaml")
    assert isinstance(settings.reference, VaspReference)
    assert resolve(settings.reference.vasp_cmd, read_fworker(worker), "vasp_cmd") == command
    assert FWorker.from_file(str(worker)).category == category


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_loads_and_is_what_submit_writes(path: Path):
    workflow = Workflow.from_file(str(path))
    assert [fw.spec["kmde"]["step"] for fw in workflow.fws] == ["StartCampaign", "Finish"]
    assert all(fw.spec["_category"] == "kmde_cpu" for fw in workflow.fws)
    assert path.read_text() == workflow_yaml(path.stem, Path(f"fw_specs/{path.stem}/campaign.yaml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_kmde_takes_a_workflow_for_its_campaign(path: Path):
    assert campaign_path(path) == SPECS / path.stem / "campaign.yaml"


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.parent.name)
def test_campaign_can_be_submitted(path: Path):
    if yaml.safe_load(path.read_text())["reference"]["calculator"] == "sevennet":
        pytest.importorskip("sevenn")
    prepared = prepare(path)
    assert prepared.settings.name == path.parent.name
    assert prepared.target_labels is not None
    (untold,) = prepared.remarks
    assert "do not say of what level of theory they are" in untold


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_comparison_can_be_submitted(path: Path):
    pytest.importorskip("sevenn")
    comparison = load_comparison(path)
    comparison = comparison.model_copy(update={"seeds": comparison.seeds[:1]})
    prepared = prepare_comparison(comparison, path)
    assert [p.settings.name for p in prepared] == [run.campaign for run in comparison.runs]
    assert len({p.config_hash for p in prepared}) == len(prepared)
    assert all(len(p.evaluate["displaced"]) == len(p.target) for p in prepared)


def test_the_campaign_with_real_dft_has_one_level_of_theory():
    from kmde_fw.config import load_campaign
    from kmde_fw.reference.datasets import load_recipe

    recipe, campaign = (
        load_recipe(SPECS / "real_dft" / "recipe.yaml"),
        load_campaign(SPECS / "real_dft" / "real_dft.yaml"),
    )
    assert recipe.reference == campaign.reference
    assert campaign.design.max_atoms <= 8


def test_the_circle_of_md_has_one_level_of_theory():
    from kmde_fw.config import load_campaign
    from kmde_fw.reference.datasets import load_recipe

    recipe = load_recipe(SPECS / "md_circle" / "recipe.yaml")
    campaign = load_campaign(SPECS / "md_circle" / "md_circle.yaml")
    assert recipe.reference.arguments == campaign.reference.arguments
    assert recipe.reference.domain.min_bond == campaign.reference.domain.min_bond


def test_a_misspelt_key_in_a_worker_file_is_named(tmp_path: Path):
    """Without its category the worker would take the steps of all."""
    from kmde_fw.errors import ConfigError
    from kmde_fw.worker_env import read_fworker_file

    worker = tmp_path / "my_fworker.yaml"
    worker.write_text("name: a\ncategroy: kmde_dft\nquery: '{}'\n")
    with pytest.raises(ConfigError, match="unknown key 'categroy': did you mean 'category'"):
        read_fworker_file(worker)
