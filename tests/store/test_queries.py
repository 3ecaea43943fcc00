"""The query layer, against a finished campaign whose documents say what is true."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from kmde_fw.core.coverage import Coverage
from kmde_fw.errors import StoreError
from kmde_fw.records import Structure
from kmde_fw.store import Store, queries
from kmde_fw.store.documents import SHORT


def test_surrogates_are_what_the_outcomes_say(finished: Store):
    rows = queries.surrogates(finished, "demo")
    assert [row["number"] for row in rows if row["number"]] == [1, 2, 3, 4]
    for row in rows:
        label = finished.get("labels", row["label_id"])
        assert label["structure_id"] == row["structure_id"]
        assert row["n_candidates"] == 400
    assert sum(len(row["refused"]) for row in rows) > 0, "the fixture's domain refuses some"


def test_ids_are_found_by_their_beginning(finished: Store):
    pick = queries.surrogates(finished, "demo")[0]
    for collection, key in (
        ("structures", pick["structure_id"]),
        ("labels", pick["label_id"]),
        ("models", finished.cycles("demo")[0]["models"][0]),
    ):
        assert queries.resolve(finished, key) == (collection, key)
        assert queries.resolve(finished, key[: SHORT + 2]) == (collection, key)
    assert queries.resolve(finished, "demo/1/0") == ("structures", pick["structure_id"])
    candidate = queries.candidates(finished, "demo", 1, 1)[0]
    assert queries.resolve(finished, candidate["_id"])[1] == candidate["structure_id"]


def test_a_structure_is_found_by_its_name_where_it_is_the_only_one(finished: Store):
    found = finished.find("structures", {}, fields=("name",))
    names = Counter(document["name"] for document in found)
    unique = next(document for document in found if document["name"] and names[document["name"]] == 1)
    assert queries.resolve(finished, unique["name"]) == ("structures", unique["_id"])


def test_a_name_that_several_structures_have_is_a_sentence_with_their_ids(store: Store):
    cells = [Structure(("Cu",), a * np.eye(3), np.zeros((1, 3)), "copper") for a in (3.6, 3.7)]
    ids = store.put_structures(cells, role="train")
    with pytest.raises(StoreError, match="2 structures have the name 'copper': give one of the ids") as error:
        queries.resolve(store, "copper")
    assert all(key[:8] in str(error.value) for key in ids)
    assert queries.resolve(store, ids[0][:9]) == ("structures", ids[0])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("abc", "too short"),
        ("000000", "no structure, label or model"),
        ("no id", "no structure's name, nor the beginning of an id"),
        ("demo/9", "picked nothing in cycle 9"),
        ("demo/1", "has 2 picks: demo/1/0, demo/1/1"),
        ("demo/1/7", "no slot 7"),
        ("demo/x", "CAMPAIGN/CYCLE"),
        ("nobody/1", "no campaign"),
    ],
)
def test_what_names_nothing_is_a_sentence(finished: Store, name: str, said: str):
    with pytest.raises(StoreError, match=said):
        queries.resolve(finished, name)


def test_an_ambiguous_beginning_lists_what_it_could_be(store: Store):
    for key in ("aaaaaab", "aaaaaac"):
        store.insert_once("models", {"_id": key})
    with pytest.raises(StoreError, match="begins 2 ids: model aaaaaab, model aaaaaac"):
        queries.resolve(store, "aaaaaa")


def test_candidates_come_best_first_from_the_cycle_asked_for(finished: Store):
    rows = queries.candidates(finished, "demo", 1, top=30)
    assert [row["rank"] for row in rows] == list(range(30))
    assert {row["cycle"] for row in rows} == {1}
    assert queries.candidates(finished, "demo")[0]["cycle"] == 2
    with pytest.raises(StoreError, match="no selection of cycle 7"):
        queries.candidates(finished, "demo", 7)


def test_candidates_carry_their_motif_counts(finished: Store):
    from kmde_fw.core.motifs import Motif
    from kmde_fw.core.scoring import count_motifs
    from kmde_fw.records import Structure

    motifs = [Motif.from_document(m) for m in finished.motifs("demo", 0)]
    pick = queries.surrogates(finished, "demo")[0]
    structure = Structure.from_document(finished.get("structures", pick["structure_id"]))
    (counts,) = count_motifs([structure], motifs, ("Au", "Cu"), 4.0)
    assert pick["motifs"] == {str(rank): int(n) for rank, n in enumerate(counts) if n}
    assert pick["motifs"]


def test_outliers_say_what_they_exceed_and_what_surrounds_them(finished: Store):
    rows = queries.outliers(finished, "demo", 0)
    analysis = finished.get("analyses", "demo/000")
    assert len(rows) == analysis["n_outliers"] == len(analysis["outliers"])
    target = finished.get_structures(finished.campaign("demo")["target_structures"])
    by_atom = {(o["structure"], o["atom"]): o for o in analysis["outliers"]}
    for row in rows:
        assert target[row["structure"]].species[row["atom"]] == row["element"]
        assert len(row["exceeds"]) == len(by_atom[row["structure"], row["atom"]]["components"])
        assert sum(near["count"] for near in row["neighbours"].values()) >= 12
        assert all(2.0 < near["nearest"] < 4.0 for near in row["neighbours"].values())
    exceeded = rows[0]["exceeds"][0]
    assert exceeded["function"].startswith(("G2 ", "G3 "))
    assert exceeded["value"] > exceeded["high"] or exceeded["value"] < exceeded["low"]
    for motif in finished.motifs("demo", 0):
        assert sum(motif["rank"] in row["motifs"] for row in rows) == len(motif["atoms"])


def test_a_passport_leads_from_a_label_to_outlier_atoms_and_to_models(finished: Store):
    pick = queries.surrogates(finished, "demo")[0]
    passport = queries.passport(finished, pick["structure_id"])
    choice = next(c for c in passport["chosen"] if c["campaign"] == "demo")
    assert (choice["cycle"], choice["slot"], choice["rank"]) == (1, 0, pick["rank"])
    assert {m["rank"] for m in choice["motifs"]} == set(map(int, pick["motifs"]))
    assert {(o["structure"], o["atom"]) for o in choice["outliers"]} == {
        tuple(atom) for m in choice["motifs"] for atom in m["atoms"]
    }
    assert {label["_id"] for label in passport["labels"]} == {pick["label_id"]}
    trained = [c["models"] for c in finished.cycles("demo")[1:]]
    mine = [m["_id"] for m in passport["models"] if m["campaign"] == "demo"]
    assert sorted(mine) == sorted(m for models in trained for m in models)
    assert all(other["outcome"] != "picked" for other in choice["above"])
    json.dumps(passport, default=str)


def test_the_gain_is_what_the_analyses_say(finished: Store):
    pick = queries.surrogates(finished, "demo")[0]
    choice = queries.passport(finished, pick["structure_id"])["chosen"][0]
    gain = choice["gain"]
    before, after = (Coverage.from_document(finished.get("analyses", f"demo/00{c}")["coverage"]) for c in (0, 1))
    assert gain["gap"] == [pytest.approx(before.total), pytest.approx(after.total)]
    assert gain["n_picks"] == 2
    for motif in gain["motifs"]:
        channel = after[motif["channel"]]
        (middle,) = channel.bins([(motif["low"] + motif["high"]) / 2])
        assert motif["after"] == pytest.approx(channel.difference()[middle])
    atoms = [{(o["structure"], o["atom"]) for o in finished.get("analyses", f"demo/00{c}")["outliers"]} for c in (0, 1)]
    designed = {(o["structure"], o["atom"]) for o in choice["outliers"]}
    assert gain["atoms"] == {"with_motifs": len(designed), "cured": len(designed - atoms[1])}


def test_passports_of_what_was_given_and_of_what_was_never_picked(finished: Store):
    target = finished.campaign("demo")["target_structures"][0]
    assert {(g["campaign"], g["as"]) for g in queries.passport(finished, target)["given"]} >= {
        ("demo", "target"),
        ("twin", "target"),
    }
    unpicked = next(r for r in queries.candidates(finished, "demo", 1, top=400) if r["outcome"] == "not_best")
    passport = queries.passport(finished, unpicked["structure_id"])
    assert passport["chosen"][0]["gain"] is None
    assert passport["labels"] == passport["models"] == []
    with pytest.raises(StoreError, match="no structure"):
        queries.passport(finished, "f" * 64)


def test_lineage_names_every_label_and_why_it_is_there(finished: Store):
    model_id = finished.cycles("demo")[2]["models"][1]
    lineage = queries.lineage(finished, model_id)
    model = finished.get("models", model_id)
    assert [row["label_id"] for row in lineage["train"]] == model["train_labels"]
    assert [row["origin"]["kind"] for row in lineage["train"]] == ["initial"] * 6 + ["pick"] * 4
    assert [row["origin"]["number"] for row in lineage["train"][6:]] == [1, 2, 3, 4]
    assert lineage["used_in"] == [{"campaign": "demo", "cycle": 2}]
    assert lineage["model"]["versions"]["torch"]
    assert model["always_train"] == [row["structure_id"] for row in lineage["train"][6:]]


def test_failures_name_what_was_refused_and_why(finished: Store):
    rows = queries.failures(finished, "demo")
    refused = [r for o in finished.outcomes("demo", 9) for r in o["refused"]]
    assert [r["structure_id"] for r in rows if r["kind"] == "label"] == [r["structure_id"] for r in refused]
    assert all("scale" in r["reason"] for r in rows if r["kind"] == "label")
    assert len(queries.failures(finished)) >= len(rows)


def test_savings_count_labels_that_were_there(finished: Store):
    assert queries.savings(finished, "demo") == {"labels": 4, "labels_reused": 0, "models": 6, "models_reused": 0}
    twin = queries.savings(finished, "twin")
    models = [{m for c in finished.cycles(name) for m in c["models"]} for name in ("demo", "twin")]
    assert twin["models_reused"] == len(models[0] & models[1]) >= 2, "cycle 0 has the same train set"
    shared = {r["label_id"] for r in queries.surrogates(finished, "demo")} & {
        r["label_id"] for r in queries.surrogates(finished, "twin")
    }
    assert twin["labels_reused"] == len(shared)


def test_diff_names_the_option_and_what_followed(finished: Store):
    record = queries.diff(finished, "demo", "twin")
    assert record["settings"] == [
        {"option": "design.keep_columns", "first": True, "second": False},
        {"option": "seed", "first": 0, "second": 1},
    ]
    assert record["data"]["train_labels"] == {"both": 6, "first": [], "second": []}
    assert len(record["cycles"]) == max(len(finished.cycles(name)) for name in ("demo", "twin"))
    assert record["cycles"][0]["first"] == record["cycles"][0]["second"]
    assert not all(p["same"] for p in record["picks"])
    same = queries.diff(finished, "demo", "demo")
    assert same["settings"] == []
    assert all(p["same"] for p in same["picks"])


def test_the_summary_of_a_cycle_counts_all_candidates(finished: Store):
    selection = finished.selection("demo", 1)
    summary = selection["summary"]
    assert sum(row["n"] for row in summary) == selection["n_candidates"] == 400
    assert all(row["n"] >= row["in_domain"] >= row["with_motifs"] for row in summary)
    best = [row["best"] for row in summary if row["best"] is not None]
    assert best == sorted(best, reverse=True)
    assert (summary[0]["best"] is None) == (not any(row["with_motifs"] for row in summary))


def test_columns_stay_unless_the_campaign_does_not_want_them(finished: Store):
    """`twin` has keep_columns: false; a repeated Generate or Select brings nothing back."""
    assert finished.count("shards", {"campaign": "demo"}) == 4
    assert finished.count("shards", {"campaign": "twin"}) == 0
    assert finished.count("candidates", {"campaign": "twin", "cycle": 1}) > 10
    from kmde_fw.firetasks.generate import Generate
    from kmde_fw.firetasks.select import Select

    for task in (Generate(campaign="twin", cycle=1, shard=0), Select(campaign="twin", cycle=1)):
        assert task.work(finished, {}) is None
    assert finished.count("shards", {"campaign": "twin"}) == 0
