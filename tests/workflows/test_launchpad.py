"""A database made ready for FireWorks: once, by however many, and never at the cost of what is in it."""

import threading

import pytest
from fireworks import Firework, Workflow

from kmde_fw.errors import StoreError
from kmde_fw.store import read_launchpad
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad


@pytest.fixture
def launchpad(launchpad_file):
    launchpad = open_launchpad(read_launchpad(launchpad_file))
    yield launchpad
    launchpad.connection.close()


def test_quiet_and_once(launchpad, capsys):
    assert not ensure_initialised(launchpad)
    launchpad.add_wf(Workflow([Firework([])]))
    assert not ensure_initialised(launchpad)
    assert launchpad.get_fw_ids() == [1]
    assert capsys.readouterr().out == ""


def test_many_at_once(launchpad):
    launchpad.fw_id_assigner.delete_many({})
    made = []
    threads = [threading.Thread(target=lambda: made.append(ensure_initialised(launchpad))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 5 + [True]
    assert launchpad.fw_id_assigner.count_documents({}) == 1
    assert launchpad.get_new_fw_id() == 1


def test_fireworks_without_their_counter(launchpad):
    launchpad.add_wf(Workflow([Firework([])]))
    launchpad.fw_id_assigner.delete_many({})
    with pytest.raises(StoreError, match="has fireworks but not FireWorks' counter"):
        ensure_initialised(launchpad)
