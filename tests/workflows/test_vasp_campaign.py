"""Campaigns labelled by the stand-in VASP, through real rockets: the same as with ASE; and with labels that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kmde_fw.store import Store, read_launchpad
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
from kmde_fw.workflows.start import workflow_yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
VASP = {
    "engine": "vasp",
    "poll": 0.05,
    "domain": {"min_bond": 0.8},
    "potcars": {"Cu": "Cu_pv", "Au": "Au"},
    "scratch": ">>scratch<<",
    "keep": "none",
}
EMT = {"engine": "ase", "calculator": "emt", "domain": {"min_bond": 0.8}}


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """my_fworker.yaml of a machine with the stand-in VASP, and a library of POTCARs in the environment."""
    make = [sys.executable, str(ROOT / "docker" / "make_potcars.py"), str(tmp_path / "potcars"), "Cu_pv", "Au"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setenv("PMG_VASP_PSP_DIR", str(tmp_path / "potcars"))
    env = {"vasp_cmd": f"{sys.executable} {ROOT / 'docker' / 'vasp'}", "scratch": str(tmp_path / "scratch")}
    path = tmp_path / "my_fworker.yaml"
    path.write_text(yaml.safe_dump({"name": "here", "category": "", "query": "{}", "env": env}))
    return path


@pytest.fixture
def pads(client: Any, mongo_uri: str, tmp_path: Path) -> Iterator[Any]:
    """pads(name): a launchpad.yaml on a fresh database, and its store."""
    made = []

    def make(name: str) -> tuple[Path, Store]:
        database = f"kmde_test_vasp_{name}_{os.getpid()}"
        made.append(database)
        client.drop_database(database)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"host": mongo_uri, "name": database, "uri_mode": True}))
        pad = open_launchpad(read_launchpad(path))
        ensure_initialised(pad)
        pad.connection.close()
        return path, Store(client[database])

    yield make
    for database in made:
        client.drop_database(database)


def write_campaign(folder: Path, reference: dict[str, Any], **changes: Any) -> Path:
    """A small Cu-Au campaign with this reference."""
    shutil.copytree(ROOT / "fw_specs" / "cu_au", folder)
    data = yaml.safe_load((folder / "campaign.yaml").read_text())
    data["reference"] = reference
    data["network"] = {"hidden": [6]}
    data["training"] = {"max_closures": 15, "seeds": [0]}
    data["design"] = {"candidates": 300, "max_atoms": 12, "shards": 1, "picks_per_cycle": 1}
    data["stop"] = {"max_surrogates": 2}
    for key, value in changes.items():
        data[key] = {**data[key], **value}
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def start(launchpad: Path, campaign: Path, worker: Path, rockets: int) -> None:
    """lpad add, then that many rlaunch processes at once until nothing is left."""
    flow = campaign.with_name("workflow.yaml")
    flow.write_text(workflow_yaml("cu_au", campaign))
    subprocess.run([BIN / "lpad", "-l", launchpad, "add", flow], check=True, stdout=subprocess.DEVNULL)
    words = [BIN / "rlaunch", "-l", launchpad, "-w", worker, "rapidfire", "--sleep", "1"]
    processes = [
        subprocess.Popen(words, cwd=campaign.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(rockets)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def labels(store: Store) -> list[dict[str, Any]]:
    """The labels of the surrogates, in order."""
    return [store.get("labels", o["label_id"]) for o in store.outcomes("cu_au", 99) if o["label_id"]]


def test_the_same_picks_and_energies_as_with_the_calculator_behind_it(pads, worker, tmp_path):
    (pad_a, ase), (pad_v, vasp) = pads("ase"), pads("vasp")
    start(pad_a, write_campaign(tmp_path / "ase", EMT), worker, 1)
    start(pad_v, write_campaign(tmp_path / "vasp", VASP), worker, 2)
    assert vasp.campaign("cu_au")["state"] == ase.campaign("cu_au")["state"] == "finished"
    assert vasp.campaign("cu_au")["reason"] == ase.campaign("cu_au")["reason"]
    first, second = labels(ase), labels(vasp)
    assert len(first) == 2
    assert [x["structure_id"] for x in first] == [x["structure_id"] for x in second]
    for x, y in zip(first, second, strict=True):
        assert x["energy"] == pytest.approx(y["energy"], abs=1e-8), "vasprun.xml prints eight decimals"
        np.testing.assert_allclose(x["forces"], y["forces"], atol=1e-8)
        assert y["engine"] == "vasp"
        assert y["level_key"] == vasp.campaign("cu_au")["level_key"]
        assert y["level"]["potcars"]["Cu"]["titel"] == "PAW_PBE Cu_pv 06Sep2000"
    # all ran under the worker's own settings, nothing is left of POTCARs, neither on disk nor in the database
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not [p for p in tmp_path.rglob("POTCAR*") if tmp_path / "potcars" not in p.parents]
    for name in vasp.database.list_collection_names():
        for document in vasp.database[name].find():
            assert "local part" not in str(document), name


def test_a_campaign_of_which_30_per_cent_fail_ends_and_names_what_stays_open(pads, worker, tmp_path, monkeypatch):
    monkeypatch.setenv("KMDE_STANDIN_FAULT", "crash:always@0.3")
    pad, store = pads("failing")
    design = {"picks_per_cycle": 3, "replacements": 0}
    reference = {**VASP, "keep": "failed", "max_failed_fraction": 1}
    campaign = write_campaign(tmp_path / "f", reference, design=design, stop={"max_surrogates": 6})
    start(pad, campaign, worker, 1)
    assert store.campaign("cu_au")["state"] == "finished"
    failed = [label for label in store.find("labels") if label["state"] == "failed"]
    assert failed
    assert {label["reason"] for label in failed} == {"VASP ended with exit code 134"}
    for label in failed:
        assert Path(label["run_directory"]).is_dir()
        assert label["energy"] is None
        assert "forrtl: error" in label["details"]["tail"][-1]
    trained = {key for cycle in store.cycles("cu_au") for key in cycle["train_labels"]}
    assert not trained & {label["_id"] for label in failed}
    words = [BIN / "kmde", "status", "cu_au", "-l", pad]
    facts = json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout)
    assert len(facts["refused_labels"]) == len(failed)
    assert {row["run_directory"] for row in facts["refused_labels"]} == {label["run_directory"] for label in failed}
    without = [o for o in store.outcomes("cu_au", 99) if o["label_id"] is None]
    assert len(facts["open_slots"]) == len(without) == len(failed)
    assert all(slot["motifs"] for slot in facts["open_slots"]), "every gap that stayed open is named"
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "failed labels" in told
    assert "stayed open in cycle" in told
