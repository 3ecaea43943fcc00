"""What small campaigns choose, what they refuse, when they end."""

from __future__ import annotations

import numpy as np
import pytest

from campaigns import call, launch, picks, write_quick
from kmde_fw.hdnnp.model_file import from_bytes


def test_the_score_of_key_motif_is_made_of_its_terms(launchpad_file, store, tmp_path):
    file = write_quick(tmp_path, "by_motifs", stop={"max_surrogates": 1}, design={"strategy": "key_motif"})
    launch(file, launchpad_file)
    (slot,) = store.get("selections", "by_motifs/001")["slots"]
    pick = slot[0]
    assert pick["score"] == pytest.approx(pick["motif_score"] - pick["distance_penalty"] - pick["energy_penalty"])
    assert "promise" not in pick
    last = store.cycles("by_motifs")[-1]
    assert last["promised"] == []
    assert last["realised"]["vicinity"][1] < last["realised"]["vicinity"][0], "measured whatever the strategy"


def test_a_narrow_domain_refuses_labels_also_those_that_another_campaign_has(launchpad_file, store, tmp_path):
    """The next-best candidate takes a refused one's place; when none is left the campaign says so and ends."""
    narrow = {"reference": {"domain": {"min_bond": 0.8, "scale": [1.18, 1.19]}}, "stop": {"max_surrogates": 1}}
    launch(write_quick(tmp_path, "wide", stop={"max_surrogates": 1}), launchpad_file)
    assert store.cycles("wide")[-1]["n_surrogates"] == 1
    accepted = store.count("labels", {"state": "accepted"})
    file = write_quick(tmp_path, "narrow", **narrow)
    ended = call("kmde", "run", file, "-l", launchpad_file, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "refused label, cycle 3: scale:" in ended.stdout
    assert "all 12 labels of the last 3 cycles failed" in ended.stdout
    outcome = store.outcomes("narrow", 1)[0]
    assert outcome["label_id"] is None
    selection = store.selection("narrow", 1)
    assert [r["structure_id"] for r in outcome["refused"]] == [c["structure_id"] for c in selection["slots"][0]]
    assert len(outcome["refused"]) == 4, "the pick and its three reserves"
    assert store.count("labels", {"state": "accepted"}) == accepted
    assert all(cycle["n_surrogates"] == 0 for cycle in store.cycles("narrow"))
    assert store.campaign("narrow")["state"] == "finished"
    # the first pick was labelled by the other campaign, and is refused here all the same
    assert picks(store, "narrow")[0] == picks(store, "wide")[0]


def test_a_random_campaign_runs(launchpad_file, store, tmp_path):
    design = {"strategy": "random", "candidates": 100}
    launch(write_quick(tmp_path, "dice", stop={"max_surrogates": 1}, design=design), launchpad_file)
    assert store.cycles("dice")[-1]["n_surrogates"] == 1
    assert store.motifs("dice", 0) == []


def test_when_a_campaign_without_outliers_ends_and_what_its_labels_may_cost(launchpad_file, store, tmp_path):
    """The target is a perfect crystal, a parent of the candidates: one label, and no atom is an outlier any more."""

    def run(name, **stop):
        design = {"candidates": 100, "prototypes": [], "max_strain": 0, "max_displacement": 0}
        changes = {"target": ["cuau.cif"], "evaluate": {}, "design": design}
        launch(write_quick(tmp_path, name, stop={"max_surrogates": 2, **stop}, **changes), launchpad_file)
        return store.cycles(name)

    content = run("content", vicinity_gain=0.9, energy_change=None, force_change=None)
    patient = run("patient", vicinity_gain=0.0, energy_change=1e-9, force_change=1e-9)
    thrifty = run("thrifty", vicinity_gain=0.0, max_cost=1.0001 * content[1]["cost"])
    assert content[1]["opinion"] == patient[1]["opinion"]
    assert patient[0]["n_outliers"] > 0
    assert patient[1]["n_outliers"] == 0
    before, after = patient[1]["remaining"]["vicinity"]
    assert 0 < 1 - after / before < 0.9
    assert before == pytest.approx(patient[1]["opinion"]["vicinity"], rel=1e-6)
    assert [cycle["n_surrogates"] for cycle in content] == [0, 1]
    assert content[1]["reason"].startswith("no target atom is an outlier any more")
    gain = (
        f"the best remaining candidate would make the target's vicinity known {100 * (1 - after / before):.1f} % better"
    )
    assert content[1]["reason"].endswith(gain)
    assert [cycle["n_surrogates"] for cycle in patient] == [0, 1, 2]
    assert patient[1]["reason"].endswith(gain)

    # what is predicted for the target moved, from one cycle's model to the next one's
    assert "the energies predicted for the target still moved by" in patient[1]["reason"]
    assert "the forces predicted for the target still moved by" not in patient[1]["reason"], "they are 0 by symmetry"
    energies, models = [], []
    for cycle in patient[:2]:
        evaluation = store.get("evaluations", cycle["_id"])
        energies.append(evaluation["rows"][0]["target_energies"])
        models.append(from_bytes(store.get_blob(store.get("models", evaluation["models"][0])["weights"]["sha256"])))
    (target,) = store.get_structures(store.campaign("patient")["target_structures"])
    assert patient[0]["changes"] is None
    assert patient[1]["changes"]["energy"] == pytest.approx(1000 * abs(energies[1][0] - energies[0][0]) / len(target))
    forces = [model.predict(target).forces for model in models]
    change = np.sqrt(np.mean((forces[1] - forces[0]) ** 2))
    assert patient[1]["changes"]["forces"] == pytest.approx(change, abs=1e-12)

    # one label can be paid, no second one
    assert [cycle["n_surrogates"] for cycle in thrifty] == [0, 1, 1]
    assert 0 < thrifty[1]["spent"] == thrifty[1]["cost"] == content[1]["cost"]
    assert "no candidate could be picked in cycle 2 (0 of 1 picks" in thrifty[2]["reason"]
    assert "that cost more than max_cost leaves" in thrifty[2]["reason"]
    assert store.campaign("thrifty")["reason"] == thrifty[2]["reason"]
