"""Parameters of Firetasks: FireWorks accepts anything, we do not."""

import pytest
from fireworks import Firework, LaunchPad

from kmde_fw.errors import ConfigError, StoreError
from kmde_fw.firetasks.base import CPU, firework
from kmde_fw.firetasks.generate import Generate
from kmde_fw.store import read_launchpad
from kmde_fw.workflows.cycle import Advance
from kmde_fw.workflows.launchpad import open_launchpad


@pytest.fixture
def pad(launchpad_file):
    pad: LaunchPad = open_launchpad(read_launchpad(launchpad_file))
    yield pad
    pad.connection.close()


def with_pad(task, pad):
    task.launchpad, task.fw_id = pad, 1
    return task


def test_unknown_parameter_is_named_with_the_nearest_known_one(pad):
    task = with_pad(Generate(campaign="c", cycle=1, shard=0, shrad=2), pad)
    with pytest.raises(ConfigError, match=r"unknown parameter 'shrad': did you mean 'shard'"):
        task.run_task({})


def test_missing_parameter():
    with pytest.raises((ConfigError, RuntimeError), match="shard"):
        Generate(campaign="c", cycle=1).run_task({})


def test_a_spec_without_the_database_says_what_to_add():
    with pytest.raises(ConfigError, match="_add_launchpad_and_fw_id: true"):
        Advance(campaign="c", cycle=0).run_task({})


def test_unknown_campaign(pad):
    with pytest.raises(StoreError, match="no campaign 'nobody'"):
        with_pad(Advance(campaign="nobody", cycle=0), pad).run_task({})


def test_specs_hold_ids_and_plain_types_and_survive_the_database(pad):
    fw = firework(Generate(campaign="c", cycle=1, shard=3), CPU)
    assert fw.name == "c 001 Generate shard 3"
    assert fw.spec["kmde"] == {"campaign": "c", "cycle": 1, "step": "Generate"}
    again = Firework.from_dict(fw.to_dict())
    assert again.to_dict()["spec"] == fw.to_dict()["spec"]
    assert isinstance(again.tasks[0], Generate)
