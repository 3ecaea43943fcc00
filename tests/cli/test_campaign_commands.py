"""init, validate, plan, schema, submit: what a user sees; every mistake is a sentence and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from kmde_fw.cli import build_app
from kmde_fw.cli.plan import plan_facts
from kmde_fw.config import Campaign, load_campaign, parse_campaign
from kmde_fw.store import Store
from kmde_fw.workflows.prepare import prepare

CU_AU = Path(__file__).parent.parent.parent / "fw_specs" / "cu_au"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the Cu-Au campaign to break."""
    shutil.copytree(CU_AU, tmp_path / "cu_au")
    return tmp_path / "cu_au"


def edit(folder: Path, **changes: Any) -> Path:
    """The campaign file with changes laid over it; None removes a key."""
    path = folder / "campaign.yaml"
    data = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        if value is None:
            data.pop(key)
        else:
            data[key] = {**data[key], **value} if isinstance(value, dict) and isinstance(data.get(key), dict) else value
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture
def call(kmde):
    return kmde


def test_init_writes_a_campaign_file_and_never_overwrites_one(call, tmp_path):
    file = tmp_path / "campaign.yaml"
    code, out, _ = call("init", file)
    assert code == 0
    assert "kmde validate" in out
    campaign = load_campaign(file)
    assert campaign.reference.calculator == "emt"
    least = {key: yaml.safe_load(file.read_text())[key] for key in ("name", "train", "target", "reference")}
    default = parse_campaign(least)
    for section in ("training", "design", "stop", "seed"):
        assert getattr(campaign, section) == getattr(default, section), "what it shows is what is so without it"
    file.write_text("mine")
    code, _, err = call("init", file)
    assert code == 1
    assert "exists already" in err
    assert file.read_text() == "mine"
    assert call("init", file, "--force")[0] == 0


def test_schema_is_a_json_schema_that_knows_every_option(call):
    code, out, _ = call("schema")
    assert code == 0
    assert set(json.loads(out)["properties"]) == set(Campaign.model_fields)


def test_validate_says_what_is_there(call, folder):
    code, out, _ = call("validate", folder / "campaign.yaml", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["n_train"], facts["n_target"], facts["elements"]) == (6, 6, ["Au", "Cu"])
    assert facts["config"]["training"]["patience"] > 0
    assert [(p["formula"], p["n_atoms"]) for p in facts["parents"]] == [
        ("AuCu", 2),
        ("Au3Cu", 4),
        ("Cu", 1),
        ("AuCu3", 4),
    ]
    assert "parent of the target: Au3Cu (4 atoms)" in call("validate", folder / "campaign.yaml")[1]


def test_plan_equals_what_the_first_cycle_finds(call, folder):
    file = edit(folder, design={"candidates": 200, "picks_per_cycle": 1}, stop={"max_surrogates": 3})
    code, out, _ = call("plan", file, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["outliers"]["atoms"] == 192
    assert facts["candidates"]["number"] == 200
    assert facts["labels_at_most"] == 3
    # cycle 0: Train, Analyse, Evaluate, Advance; three more with two shards, Select, Label; and Finish
    assert facts["fireworks_at_most"] == 4 + 3 * 8 + 1
    assert facts["cost"]["trainings"] == 4
    code, out, _ = call("plan", file)
    assert code == 0
    assert "192 target atoms" in out
    assert "parent of the target: Au3Cu" in out


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("environment", "vicinity"),
        ("key_motif", "the best score for slot"),
        ("farthest_point", "the next one that farthest_point draws"),
        ("direct", "the next one that direct draws"),
        ("random", "the next one that random draws"),
    ],
)
def test_plan_says_why_the_first_picks_are_picked(call, folder, strategy, reason):
    file = edit(folder, design={"candidates": 200, "strategy": strategy})
    out = " ".join(call("plan", file)[1].split())
    picks = json.loads(call("plan", file, "--json")[1])["first_picks"]
    assert len(picks) == 5
    for k, pick in enumerate(picks, start=1):
        assert reason in pick["reason"]
        assert f"pick {k} {pick['formula']}: {pick['description']}: {pick['reason']}" in out
    if strategy == "key_motif":
        assert picks[0]["score"] >= picks[1]["score"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"vicinity": {"displacement": 0.2}},
        {"vicinity": {"strain": 0.1}},
        {"design": {"candidates": 200, "derive_parents": False}},
    ],
)
def test_options_of_the_choice_change_what_would_be_picked(folder, changes):
    plain = plan_facts(prepare(edit(folder, design={"candidates": 200})))["first_picks"]
    changed = plan_facts(prepare(edit(folder, **changes)))["first_picks"]
    assert [(p["description"], p["reason"]) for p in changed] != [(p["description"], p["reason"]) for p in plain]


def test_plan_needs_no_target_labels(folder):
    path = folder / "target.extxyz"
    atoms = ase.io.read(path, ":")
    for a in atoms:
        a.calc = None
    ase.io.write(path, atoms)
    file = edit(folder, design={"candidates": 100})
    assert prepare(file).target_labels is None
    assert plan_facts(prepare(file))["outliers"]["atoms"] == 192


def test_the_content_of_the_files_counts_and_not_their_names(folder, tmp_path):
    first = prepare(folder / "campaign.yaml").config_hash
    shutil.copytree(folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "train.extxyz").rename(tmp_path / "elsewhere" / "known.extxyz")
    moved = edit(tmp_path / "elsewhere", train=["known.extxyz"], description="the same in other words")
    assert prepare(moved).config_hash == first
    assert prepare(edit(folder, seed=1)).config_hash != first


def test_a_target_element_without_training_data_is_allowed_but_said(call, folder):
    atoms = ase.io.read(folder / "target.extxyz", ":")
    atoms[0].symbols[0] = "Ag"
    ase.io.write(folder / "target.extxyz", atoms)
    code, out, _ = call("validate", edit(folder, elements=None))
    assert code == 0
    assert "contains Ag and the train set does not" in out


def _break_train(change) -> Any:
    def apply(folder: Path) -> Path:
        atoms = ase.io.read(folder / "train.extxyz", ":")
        change(atoms)
        ase.io.write(folder / "train.extxyz", atoms)
        return folder / "campaign.yaml"

    return apply


def _no_label(atoms):
    atoms[2].calc = None


def _nan(atoms):
    atoms[1].positions[3, 0] = np.nan


def _overlap(atoms):
    atoms[4].positions[1] = atoms[4].positions[0] + 0.01


def _no_cell(atoms):
    atoms[0].pbc = False
    atoms[0].cell = None


def _foreign(atoms):
    atoms[5].symbols[7] = "Ni"


def _write(name: str, text: str) -> Any:
    def apply(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / "campaign.yaml"

    return apply


def _append(text: str) -> Any:
    def apply(folder: Path) -> Path:
        path = folder / "campaign.yaml"
        path.write_text(path.read_text() + text)
        return path

    return apply


MISTAKES = {
    "unknown key": (lambda f: edit(f, stratgy="key_motif"), ["stratgy"]),
    "unknown key in a section": (
        lambda f: edit(f, design={"candidate": 10}),
        ["candidate", "did you mean 'candidates'"],
    ),
    "unknown strategy": (
        lambda f: edit(f, design={"strategy": "key_motives"}),
        ["key_motives", "did you mean 'key_motif'"],
    ),
    "missing key": (lambda f: edit(f, reference=None), ["'reference' is missing"]),
    "no element": (lambda f: edit(f, elements=["Cu", "Xx"]), ["Xx"]),
    "missing file": (lambda f: edit(f, train=["trian.extxyz"]), ["trian.extxyz"]),
    "empty file": (_write("train.extxyz", ""), ["train.extxyz", "empty"]),
    "not YAML": (_write("campaign.yaml", "a: [b"), ["not valid YAML"]),
    "not a structure file": (_write("target.extxyz", "hello\nworld\n"), ["target.extxyz"]),
    "unlabelled": (_break_train(_no_label), ["train.extxyz", "entry 3", "energy"]),
    "NaN": (_break_train(_nan), ["train.extxyz", "entry 2"]),
    "atoms on top of each other": (_break_train(_overlap), ["train.extxyz", "entry 5"]),
    "no periodic cell": (_break_train(_no_cell), ["train.extxyz", "entry 1", "periodic"]),
    "foreign element": (_break_train(_foreign), ["train.extxyz", "entry 6", "Ni"]),
    "key twice": (_append("name: again\n"), ["'name' comes twice"]),
    "true for a number": (lambda f: edit(f, design={"candidates": True}), ["candidates is true"]),
    "no symmetry functions": (lambda f: edit(f, descriptor={"radial_eta": [], "angular_eta": []}), ["radial_eta"]),
    "nothing to learn": (lambda f: edit(f, training={"energy_weight": 0, "force_weight": 0}), ["nothing to learn"]),
    "seed twice": (lambda f: edit(f, training={"seeds": [0, 0]}), ["training", "twice"]),
    "nothing to make candidates of": (
        lambda f: edit(f, design={"prototypes": [], "derive_parents": False}),
        ["campaign.yaml", "prototypes"],
    ),
    "unknown argument": (lambda f: edit(f, reference={"arguments": {"asap": 1}}), ["campaign.yaml", "asap"]),
    "unknown calculator": (lambda f: edit(f, reference={"calculator": "emtt"}), ["campaign.yaml", "emtt", "emt"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_sentence_and_nothing_is_written(mistake, call, folder, launchpad_file, store):
    make, expected = MISTAKES[mistake]
    file = make(folder)
    for command in (("validate", file), ("submit", file, "-l", launchpad_file)):
        code, out, err = call(*command)
        assert code == 1
        assert out == ""
        assert "Traceback" not in err
        for fragment in expected:
            assert fragment in err
    assert store.count("campaigns") == store.count("structures") == store.count("labels") == 0
    assert store.database["fireworks"].count_documents({}) == 0


def test_a_database_that_is_down_is_said_within_five_seconds(call, folder, tmp_path, free_port):
    file = tmp_path / "launchpad.yaml"
    file.write_text(yaml.safe_dump({"host": f"mongodb://127.0.0.1:{free_port()}/", "name": "x", "uri_mode": True}))
    prepare(folder / "campaign.yaml")  # imports are not what is timed
    begin = time.monotonic()
    code, _, err = call("submit", folder / "campaign.yaml", "-l", file)
    assert code == 1
    assert "kmde db start" in err
    assert time.monotonic() - begin < 5


def test_a_database_of_another_schema_version_is_refused(call, folder, launchpad_file, database):
    Store(database)
    database["kmde_meta"].update_one({"_id": "schema"}, {"$set": {"version": 99}})
    code, _, err = call("submit", folder / "campaign.yaml", "-l", launchpad_file)
    assert code == 1
    assert "schema version 99" in err


def test_submit_twice_adds_once(call, folder, launchpad_file, store):
    words = ("submit", folder / "campaign.yaml", "-l", launchpad_file)
    assert "is queued" in call(*words)[1]
    n = store.database["fireworks"].count_documents({})
    assert "already on the LaunchPad" in call(*words)[1]
    assert store.database["fireworks"].count_documents({}) == n == 5


def test_submit_writes_a_workflow_for_lpad_instead(call, folder, tmp_path):
    from fireworks import Workflow

    code, out, _ = call("submit", folder / "campaign.yaml", "--workflow", tmp_path / "w.yaml")
    assert code == 0
    assert "lpad" in out
    start = Workflow.from_file(str(tmp_path / "w.yaml")).fws[0]
    assert start.tasks[0]["campaign_file"] == str(folder / "campaign.yaml")


def test_a_misspelt_key_of_launchpad_yaml(call, tmp_path):
    (tmp_path / "launchpad.yaml").write_text("hots: mongodb://127.0.0.1:1/\nname: x\nuri_mode: true\n")
    code, _, err = call("status", "-l", tmp_path / "launchpad.yaml")
    assert code == 1
    assert "unknown key 'hots': did you mean 'host'?" in err


def test_unwritable_places_are_sentences_and_nothing_is_queued(call, folder, launchpad_file, store, tmp_path):
    code, _, err = call("submit", folder / "campaign.yaml", "--workflow", tmp_path / "nowhere/w.yaml")
    assert code == 1
    assert "cannot write" in err
    (tmp_path / "file").write_text("")
    code, _, err = call("run", folder / "campaign.yaml", "-l", launchpad_file, "--directory", tmp_path / "file")
    assert code == 1
    assert "give another --directory" in err
    assert store.count("campaigns") == 0


def test_the_version_is_said(kmde):
    from kmde_fw import __version__

    assert kmde("--version") == (0, f"kmde_fw {__version__}\n", "")


def test_every_command_explains_itself():
    app = build_app()
    for command in get_command(app).commands:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output
