"""The certificate of a model in the database, and its page."""

import pytest

from kmde_fw.hdnnp import from_bytes
from kmde_fw.hdnnp.calculator import ranges_of
from kmde_fw.report.certificate import certificate_of, certificate_page, write_certificate


@pytest.fixture
def model(finished):
    return finished.get("models", finished.cycles("demo")[1]["models"][0])


@pytest.fixture
def certificate(finished, model):
    found = from_bytes(finished.get_blob(model["weights"]["sha256"]))
    return certificate_of(finished, model["_id"], ranges_of(found), list(found.symmetry_functions.keys))


def test_every_part_comes_from_the_documents(finished, model, certificate):
    cycle = finished.cycles("demo")[1]
    assert certificate.sha256 == model["weights"]["sha256"]
    assert certificate.campaign["name"] == "demo"
    assert certificate.campaign["cycle"] == 1
    assert certificate.data["structures"] == len(model["train_labels"])
    assert certificate.data["chosen_structures"] == len(model["train_labels"]) - len(
        finished.campaign("demo")["train_labels"]
    )
    provenance = from_bytes(finished.get_blob(model["weights"]["sha256"])).provenance
    assert certificate.data["sha256"] == provenance["training_data"]
    assert certificate.uncovered["outlier_atoms"] == cycle["n_outliers"]
    assert certificate.uncovered["gap"] == cycle["gap"]
    assert certificate.errors["target"]["force_rmse"] > 0
    assert certificate.level == finished.campaign("demo")["level"]
    assert set(certificate.support) >= {"Au-Cu", "Cu-Au-Cu"}
    assert all(support.samples for support in certificate.support.values())
    assert sum(certificate.atoms.values()) == certificate.data["atoms"]


def test_the_page_says_it(certificate):
    page = certificate_page(certificate)
    assert page.startswith("<!doctype html>")
    for said in (certificate.sha256, "How to cite", "Au-Cu", "meV/atom", "emt", "Sakoda", "Ranges of the symmetry"):
        assert said.lower() in page.lower(), said
    assert "http" not in page.replace("http-equiv", "")


def test_it_is_written_beside_a_file_or_into_a_folder_with_its_hashes(certificate, tmp_path):
    file = tmp_path / "m.safetensors"
    file.write_bytes(b"x")
    assert [p.name for p in write_certificate(certificate, file)] == ["m.certificate.json", "m.certificate.html"]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "input.nn").write_text("x")
    first = write_certificate(certificate, folder)[0].read_text()
    assert '"input.nn": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"' in first
    assert write_certificate(certificate, folder)[0].read_text() == first
