"""Every launch and every firework has a number of its own, however many rockets ask at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from kmde_fw.firetasks.base import CPU, firework
from kmde_fw.firetasks.generate import Generate
from kmde_fw.store import read_launchpad
from kmde_fw.workflows.launchpad import open_launchpad

ASKING, TIMES = 4, 40


@pytest.fixture
def pad(launchpad_file):
    pad = open_launchpad(read_launchpad(launchpad_file))
    yield pad
    pad.connection.close()


def test_no_number_is_given_twice(pad):
    def ask(_):
        return [(pad.get_new_launch_id(), pad.get_new_fw_id(3)) for _ in range(TIMES)]

    with ThreadPoolExecutor(ASKING) as threads:
        pairs = [pair for asked in threads.map(ask, range(ASKING)) for pair in asked]
    launches, fireworks = zip(*pairs, strict=True)
    assert sorted(launches) == list(range(1, ASKING * TIMES + 1))
    assert sorted(fireworks) == list(range(1, 3 * ASKING * TIMES + 1, 3))


def test_a_database_that_is_not_prepared(pad):
    pad.fw_id_assigner.delete_many({})
    with pytest.raises(ValueError, match="counters are missing"):
        pad.get_new_launch_id()


def test_a_plain_rocket_counts_so_from_its_first_launch_on():
    spec = firework(Generate(campaign="c", cycle=1, shard=0), CPU).to_dict()["spec"]["_tasks"]
    program = (
        "from fireworks import Firework, LaunchPad\n"
        f"Firework.from_dict({{'spec': {{'_tasks': {spec!r}}}, 'fw_id': 1}})\n"
        "print(LaunchPad.get_new_launch_id.__module__, LaunchPad.get_new_fw_id.__module__)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["kmde_fw.firetasks.counters"] * 2
