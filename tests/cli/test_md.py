"""kmde md and kmde from-md, as a user calls them: a run, the frames that left, the campaign; and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
import yaml

from kmde_fw.store import Store

CU_AU = Path(__file__).parents[2] / "fw_specs" / "cu_au"
HOT = ("--temperature", 800, "--strain", -0.06, "--steps", 40, "--every", 5, "--timestep", 1)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A structure of the demo's target."""
    atoms = ase.io.read(CU_AU / "target.extxyz", index=0)
    path = tmp_path_factory.mktemp("start") / "start.extxyz"
    ase.io.write(path, atoms)
    return path


@pytest.fixture
def run(kmde, start, finished_launchpad, tmp_path) -> Path:
    """A hot, compressed run with the demo's last model."""
    folder = tmp_path / "run"
    code, out, err = kmde("md", start, "--model", "demo", *HOT, "-o", folder, "-l", finished_launchpad)
    assert code == 0, err
    assert "40 steps of 1 fs, 32 atoms" in out
    assert "of the atoms were outside" in out
    assert "motifs that the train set has not" in out
    return folder


def test_a_run_leaves_its_files_and_says_what_left_the_domain(kmde, run, start, finished_launchpad, tmp_path):
    assert {f.name for f in run.iterdir()} == {"trajectory.extxyz", "md.log", "domain.json"}
    facts = json.loads((run / "domain.json").read_text())
    assert facts["domain"]["atoms_outside"] > 0
    assert facts["domain"]["motifs"][0]["channel"].count("-") in (1, 2)
    assert facts["settings"]["strain"] == -0.06
    again = tmp_path / "again"
    code, out, _ = kmde("md", start, "--model", "demo", *HOT, "-o", again, "-l", finished_launchpad, "--json")
    assert code == 0
    assert json.loads(out)["domain"] == facts["domain"]
    assert (again / "trajectory.extxyz").read_text() == (run / "trajectory.extxyz").read_text()


def test_what_left_becomes_a_campaign_like_the_models_own(kmde, run, finished: Store, finished_launchpad, tmp_path):
    from kmde_fw.workflows.prepare import prepare

    folder = tmp_path / "back"
    words = ("from-md", run / "trajectory.extxyz", "--model", "demo", "--frames", 3, "-l", finished_launchpad)
    code, out, err = kmde(*words)
    assert code == 0, err
    assert "frames that differ" in out
    code, out, err = kmde(*words, "-o", folder, "--labels", 2, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert json.loads((folder / "from_md.json").read_text()) == facts
    assert 1 <= len(facts["chosen"]) <= 3
    assert facts["chosen"][0]["step"] == 0
    assert facts["chosen"][0]["atoms"][0]["exceeds"][0]["function"].startswith(("G2", "G3"))
    assert facts["chosen"][0]["motifs"]
    # the campaign: the model's train set with surrogates, its reference and settings; the frames as target
    prepared = prepare(folder / "campaign.yaml")
    own = finished.campaign("demo")
    model = finished.get("models", finished.cycles("demo")[-1]["models"][0])
    assert prepared.settings.name == facts["campaign"] == "demo_md"
    known = {d.structure.id: d for d in finished.get_labelled(model["train_labels"])}
    assert {d.structure.id for d in prepared.train} == set(known)
    for labelled in prepared.train:
        assert labelled.energy == known[labelled.structure.id].energy
        assert (labelled.forces == known[labelled.structure.id].forces).all()
    assert prepared.level_key == own["level_key"]
    assert prepared.settings.stop.max_surrogates == 2
    assert prepared.settings.network.hidden == (8,)
    assert prepared.settings.design.parent_scale[0] < 0.94
    frames = ase.io.read(folder / "target.extxyz", index=":")
    assert [f.info["label"] for f in frames] == [f"trajectory step {row['step']}" for row in facts["chosen"]]
    run_frames = {f.info["step"]: f for f in ase.io.read(run / "trajectory.extxyz", index=":")}
    for frame, row in zip(frames, facts["chosen"], strict=True):
        assert abs(frame.positions - run_frames[row["step"]].positions).max() < 1e-7
    # a second time nothing is overwritten
    code, _, err = kmde(*words, "-o", folder)
    assert code == 1
    assert "is not empty" in err


def test_a_run_that_breaks_down_and_a_file_that_is_cut_off_are_named(kmde, start, finished_launchpad, tmp_path):
    words = ("md", start, "--model", "demo", "--strain", -0.3, "--steps", 2, "--every", 1, "--timestep", 0.01)
    code, out, err = kmde(*words, "-o", tmp_path / "run", "-l", finished_launchpad)
    assert code == 0, err
    assert "the run broke down in step 0: atoms" in out
    facts = json.loads((tmp_path / "run" / "domain.json").read_text())
    assert facts["broke_down"].startswith("in step 0: atoms")
    path = tmp_path / "run" / "trajectory.extxyz"
    path.write_bytes(path.read_bytes()[:-40])
    words = ("from-md", path, "--model", "demo", "-l", finished_launchpad)
    assert "no frame is left: nothing to do" in kmde(*words)[1]
    words += ("--min-bond", 0)
    code, out, err = kmde(*words)
    assert code == 0, err
    assert "2 frames, 2 of them with atoms outside" in out
    assert f"note: {path} ends within frame 3; the 2 whole ones before it are taken" in out
    assert f"{path} ends within frame 3" in json.loads(kmde(*words, "--json")[1])["notes"][0]


def test_submit_queues_it(kmde, run, finished_launchpad, launchpad_file, client, tmp_path):
    from kmde_fw.store import read_launchpad

    model = tmp_path / "potential"
    assert kmde("export", "demo", "--format", "ase", "-o", model, "-l", finished_launchpad)[0] == 0
    words = ("from-md", run / "trajectory.extxyz", "--model", model, "--submit", "-l", launchpad_file)
    # that database does not know the model: its own campaign file is needed
    code, _, err = kmde(*words, "-o", tmp_path / "one")
    assert code == 1
    assert "give --campaign" in err
    assert not (tmp_path / "one").exists()
    code, out, _ = kmde(*(w for w in words if w != "--submit"), "-o", tmp_path / "one")
    assert code == 0
    assert "only a target" in out
    assert {f.name for f in (tmp_path / "one").iterdir()} == {"target.extxyz", "from_md.json"}
    words += ("--campaign", CU_AU / "campaign.yaml", "--name", "hot", "-o", tmp_path / "two")
    code, out, err = kmde(*words)
    assert code == 0, err
    assert "campaign hot is queued" in out
    campaign = Store(client[read_launchpad(launchpad_file).database]).campaign("hot")
    assert campaign["state"] == "running"
    text = yaml.safe_load((tmp_path / "two" / "campaign.yaml").read_text())
    assert (tmp_path / "two" / text["train"][0]).resolve() == (CU_AU / "train.extxyz").resolve()


def test_a_run_inside_the_domain_asks_for_nothing(kmde, finished: Store, finished_launchpad, tmp_path):
    train = finished.get_labelled(finished.campaign("demo")["train_labels"][:2])
    ase.io.write(tmp_path / "quiet.extxyz", [d.structure.to_atoms() for d in train])
    words = ("from-md", tmp_path / "quiet.extxyz", "--model", "demo", "-l", finished_launchpad, "--tolerance", "1e-4")
    code, out, err = kmde(*words, "-o", tmp_path / "back")
    assert code == 0, err
    assert "nothing to do" in out
    assert not (tmp_path / "back").exists()


def test_a_log_alone_tells_what_it_can(kmde, finished: Store, finished_launchpad, tmp_path):
    from kmde_fw.hdnnp import from_bytes
    from kmde_fw.hdnnp.n2p2.write import written_functions

    document = finished.get("models", finished.cycles("demo")[-1]["models"][0])
    model = from_bytes(finished.get_blob(document["weights"]["sha256"]))
    function, column = written_functions(model, "Cu")[3]
    low, high = model.minimum[1, column], model.maximum[1, column]
    log = tmp_path / "log.lammps"
    log.write_text(
        "LAMMPS (22 Jul 2025)\n   Step          Temp\n         0   300.0\n"
        f"### NNP EXTRAPOLATION WARNING ### STRUCTURE:      0 ATOM:        12 ELEMENT: Cu SYMFUNC:    4 "
        f"TYPE: {function.kind:2d} VALUE: {2 * high:10.3E} MIN: {low:10.3E} MAX: {high:10.3E}\n       100   300.0\n"
    )
    words = ("--model", "demo", "-l", finished_launchpad)
    code, out, err = kmde("from-md", log, *words)
    assert code == 0, err
    for said in ("1 extrapolation warnings", "first in step 100 or before", "what would help", "dump 1 all custom"):
        assert said in out, said
    code, out, err = kmde("from-md", log, *words, "--json")
    row = json.loads(out)["log"]["functions"][0]
    assert (row["function"], row["atoms"]) == (model.symmetry_functions.keys[column], [12])
    code, _, err = kmde("from-md", log, *words, "--submit")
    assert code == 1
    assert "--submit needs a trajectory" in err


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\n", (), "is incomplete"),
        ("2\nno cell\nCu 0 0 0\nAu 0 0 2.6\n", (), "has no cell"),
        (
            '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nPt 0 0 0\n',
            (),
            "has Pt, and the model knows",
        ),
        ("what is this\n", (), "is neither extended XYZ"),
        ("1\n", ("--elements", "Cu,Xx"), "'Xx' is no chemical element"),
    ],
)
def test_bad_trajectories_are_a_sentence_and_nothing_is_written(
    kmde, finished_launchpad, tmp_path, content, options, said
):
    path = tmp_path / "run.trj"
    path.write_text(content)
    words = ("from-md", path, "--model", "demo", "-l", finished_launchpad, *options)
    code, out, err = kmde(*words, "-o", tmp_path / "back")
    assert code == 1
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--steps", 5, "--every", 10), "no frame would be recorded"),
        (("--pressure", 5), "--pressure is for --ensemble npt"),
    ],
)
def test_wrong_runs_are_sentences(kmde, start, finished_launchpad, tmp_path, words, said):
    output = tmp_path / "run"
    code, _, err = kmde("md", start, "--model", "demo", "-l", finished_launchpad, "-o", output, *words)
    assert code == 1
    assert said in err
    assert not output.exists()
    code, _, err = kmde("md", tmp_path / "none.cif", "--model", "demo", "-l", finished_launchpad, "-o", output)
    assert code == 1
    assert "no such file" in err
