"""The certificate's ranges, its belonging, and what a run leaves."""

import hashlib

import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.core.certificate import DomainLog, certify, read_certificate
from kmde_fw.core.outliers import FeatureRange
from kmde_fw.errors import ModelError
from kmde_fw.records import Structure

RANGES = {"Cu": FeatureRange(np.array([0.0, 1.0]), np.array([1.0, 3.0]))}


def copper(a=3.6):
    return Structure.from_atoms(bulk("Cu", "fcc", a=a, cubic=True))


@pytest.fixture
def certificate():
    sha256 = hashlib.sha256(b"model").hexdigest()
    train = [copper(3.6), copper(3.7)]
    return certify(("Au", "Cu"), 4.0, ("f", "g"), RANGES, train, model={"sha256": sha256}, data={}, cite=["x"])


def test_support_is_what_lies_near_a_sample(certificate):
    assert certificate.support["Au-Cu"].ranges == []
    support = certificate.support["Cu-Cu"]
    # 3.6 / √2 = 2.546, 3.7 / √2 = 2.616, nearer than 0.1 Å: one range; then the second neighbours
    assert support.ranges == [[2.495584, 2.666295], [3.55, 3.75]]
    assert support.samples == 2 * 4 * (12 + 6) // 2
    assert certificate.support["Cu-Cu-Cu"].ranges[-1] == [178.0, 180.0]
    assert certificate.composition == {"Au": [0.0, 0.0], "Cu": [1.0, 1.0]}


def test_it_comes_back_and_belongs_to_one_model(certificate, tmp_path):
    path = tmp_path / "certificate.json"
    path.write_text(certificate.dumps())
    again = read_certificate(path)
    assert again == certificate
    again.check(b"model")
    with pytest.raises(ModelError, match="belongs to another model"):
        again.check(b"other")
    text = path.read_text()
    for changed in (text.replace("3.55", "3.15"), text.replace('"checksum"', '"checksam"'), "[]", text[:-80] + "}"):
        assert changed != text
        path.write_text(changed)
        with pytest.raises(
            ModelError, match=r"has no checksum|was changed after it was written|is no coverage certificate"
        ):
            read_certificate(path)
    path.write_text(text.replace("3.55", "3.15"))
    with pytest.raises(ModelError, match="was changed after it was written, its checksum does not fit"):
        read_certificate(path)
    path.write_text(text[:-30])
    with pytest.raises(ModelError, match="is no coverage certificate"):
        read_certificate(path)
    with pytest.raises(ModelError, match="cannot read"):
        read_certificate(tmp_path / "none.json")


def test_a_run_inside_leaves_nothing(certificate):
    log = DomainLog(("Au", "Cu"), ("f", "g"), RANGES, certificate, every=1)
    for step, a in enumerate((3.6, 3.61, 3.69, 3.7)):
        log.add(step, copper(a), np.full((4, 2), 1.0), np.zeros((4, 2), dtype=bool), np.ones(4, dtype=bool))
    report = log.report()
    assert (report["atoms"], report["atoms_outside"], report["motifs"], report["first"]) == (16, 0, [], None)


def test_what_left_is_named_with_how_often_and_when_first(certificate):
    log = DomainLog(("Au", "Cu"), ("f", "g"), RANGES, certificate, every=2)
    inside = np.zeros((4, 2), dtype=bool)
    for step in range(7):
        features, outside = np.full((4, 2), 1.0), inside.copy()
        if step >= 3:
            features[1, 1], outside[1, 1] = 3.0 + 0.1 * step, True
        a = 3.6 if step < 3 else 3.2  # 2.263 and 3.2 Å; 3.919 at √(3/2) a
        log.add(step, copper(a), features, outside, np.ones(4, dtype=bool))
    report = log.report()
    assert (report["structures"], report["structures_outside"], report["first"]) == (7, 4, 3)
    assert (report["atoms_outside"], report["most_at_once"], report["searched_for_motifs"]) == (4, 1, 4)
    (function,) = report["functions"]
    assert (function["element"], function["function"], function["times"], function["first"]) == ("Cu", "g", 4, 3)
    assert function["value"] == 3.6
    assert function["excess"] == pytest.approx(0.3)
    distances = [m for m in report["motifs"] if m["kind"] == "distance"]
    assert [(m["low"], m["high"], m["times"], m["structures"], m["first"]) for m in distances] == [
        (3.9, 3.95, 2 * 48, 2, 4),
        (2.25, 2.3, 2 * 24, 2, 4),
        (3.2, 3.25, 2 * 12, 2, 4),
    ]
    said = str(log).splitlines()
    assert said[0] == "4 of 28 atoms were outside in 4 of 7 structures, first in number 3"
    assert "  Cu-Cu 3.90–3.95 Å: 96 times, first in number 4" in said
    assert all(m["channel"] == "Cu-Cu" and not m["none_in_train"] for m in distances)


def test_elements_without_data_are_outside_and_counted(certificate):
    log = DomainLog(("Au", "Cu"), ("f", "g"), RANGES, certificate, every=1)
    crystal = copper()
    gold = Structure(("Au", *crystal.species[1:]), crystal.cell, crystal.positions)
    log.add(5, gold, np.full((4, 2), 1.0), np.zeros((4, 2), dtype=bool), np.array([False, True, True, True]))
    report = log.report()
    assert report["untrained"] == [{"element": "Au", "times": 1, "first": 5}]
    assert {m["channel"] for m in report["motifs"] if m["none_in_train"]} >= {"Au-Cu", "Cu-Au-Cu"}
