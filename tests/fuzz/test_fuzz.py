"""A few of the cases of `make fuzz`, and what it found once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import cases
import fuzz


@pytest.mark.parametrize("kind", cases.seeds())
def test_damaged_inputs_are_taken_or_refused_with_a_sentence(kind, tmp_path):
    tried, failure = fuzz.run(kind, 25, 1, tmp_path)
    assert not failure, failure
    assert tried >= 25


@pytest.mark.parametrize(
    "text",
    [
        "? [a, b]\n: c\n", "name: 2001-99-99\n", "name: " + "[" * 3000, "fws: 3\n", "fws: [{spec: 1}]\n",
        "fws: [{spec: {_tasks: [{campaign_file: 7}]}}]\n", "fws: [{spec: {_tasks: [{campaign_file: \"\\0\"}]}}]\n",
        "name: &a [*a]\n", "name: " + "9" * 5000 + "\n",
    ],
)  # fmt: skip
def test_campaign_files_that_once_ended_in_a_traceback(text, tmp_path):
    cases.campaign_file(tmp_path, text.encode())


@pytest.mark.parametrize(("head", "columns"), [
    ("9" * 22, "3"), ("9" * 10, "3"), ("9" * 5000, "3"), ("-3", "3"), ("2\nVEC1 1 0 0", "3"),
    ("1", "399999999999"), ("1", "9" * 5000), ("1", "99999999"), ("1", "-3"),
])  # fmt: skip
def test_a_damaged_number_in_extended_xyz_does_not_take_for_ever(head, columns, tmp_path):
    text = f"{head}\nProperties=species:S:1:pos:R:{columns}\nCu 0 0 0\n"
    cases.structures("fuzz.extxyz")(tmp_path, text.encode())


def test_a_damaged_lattice_vector_does_not_end_the_process(tmp_path):
    text = '1\nLattice="7 0 0 0 793808255 0 0 0 7" Properties=species:S:1:pos:R:3\nCu 0 0 0\n'
    cases.structures("fuzz.extxyz")(tmp_path, text.encode())
