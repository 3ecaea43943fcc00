"""A few of the faults of `make faults`, with real processes and a server of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import run
from harness import Kill, place


@pytest.fixture(scope="module")
def bench(tmp_path_factory, free_port):
    """A server, and the undisturbed campaign to compare with."""
    with place(tmp_path_factory.mktemp("faults"), free_port()) as where:
        yield run.Bench(where)


def test_killed_in_several_steps_and_together_with_the_database(bench):
    """Documents, picks and fireworks are those of the undisturbed campaign, and every acknowledged one is there."""
    moments = [("Train", 9, True), ("Advance", 33, False), ("Generate", 5, True), ("Label", 12, False)]
    with bench.campaign("suite", 0) as faults:
        for step, command, acknowledged in moments:
            if bench.where.worker(Kill(step, 1, None, command, acknowledged)).hit():
                faults.append(f"{step} {command}")
        last = bench.where.worker(Kill("Analyse", 1, 0.02))
        last.hit()
        run._kill_server(bench.where)
        run.server.start(bench.where.data, "127.0.0.1", bench.where.port)
        faults.append("server")
    (row,) = bench.rows
    assert row.finished, row
    assert (row.lost, row.doubled, row.other) == (0, 0, 0), row.notes
    assert row.faults >= 4
