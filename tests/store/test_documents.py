"""What is written once stays as it was; what comes out is what went in."""

import datetime
import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

import kmde_fw
from kmde_fw.errors import StoreError
from kmde_fw.records import SCHEMA_VERSION, Labelled, LabelResult, Structure
from kmde_fw.store import COLLECTIONS, Store, contents, plain


def structure(a=4.0, species=("Al", "Fe")):
    return Structure(species, a * np.eye(3), np.array([[0.0, 0.0, 0.0], [a / 2, a / 2, a / 2]]), name=f"a={a}")


def label_result(**changes):
    """An accepted label of `structure()`."""
    given = {"energy": -7.5, "forces": np.arange(6.0).reshape(2, 3), "host": "node7", "versions": {"ase": "3"}}
    return LabelResult(**{"state": "accepted", "run_directory": "/scratch/run", **given, **changes})


LEVEL = {"engine": "ase", "calculator": "emt"}


# plain types ----------------------------------------------------------------------------------------------------------


def test_plain():
    now = datetime.datetime.now(datetime.UTC)
    value = {
        "i": np.int64(3),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "s": np.str_("x"),
        "t": (1, np.arange(2)),
        "n": now,
    }
    result = plain(value)
    assert result == {"i": 3, "f": 0.5, "b": True, "s": "x", "t": [1, [0, 1]], "n": now}
    assert [type(v) for v in result.values()] == [int, float, bool, str, list, datetime.datetime]
    assert type(result["t"][1][0]) is int


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"a": {"b": float("nan")}}, r"doc\.a\.b is nan"),
        ({"a": np.array([0.0, np.inf])}, r"doc\.a is inf"),
        ({"a": 2**63}, r"doc\.a: 9223372036854775808 does not fit"),
        ({"a": {1: 2}}, r"doc\.a: the key 1 is not text"),
        ({"a": {1, 2}}, r"doc\.a: a set cannot be stored"),
        ({"a": Path("x")}, r"doc\.a: a PosixPath cannot be stored"),
        ({"a": 1j}, r"doc\.a: a complex cannot be stored"),
    ],
)
def test_not_plain(value, sentence):
    with pytest.raises(StoreError, match=sentence):
        plain(value, "doc")


# one document, many documents -----------------------------------------------------------------------------------------


def test_written_once(store):
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    assert store.insert_once("models", {"_id": "m", "loss": np.float64(0.5)})
    assert not store.insert_once("models", {"_id": "m", "loss": 0.7})
    document = store.get("models", "m")
    assert document["loss"] == 0.5
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["code_version"] == kmde_fw.__version__
    assert document["created"] >= before
    assert document["created"].tzinfo is not None
    assert document["host"]
    assert store.get("models", "other") is None


def test_nothing_is_written_of_a_bad_document(store):
    with pytest.raises(StoreError, match=r"models m\.report\.loss is nan"):
        store.insert_once("models", {"_id": "m", "report": {"loss": np.nan}})
    good = {"_id": "a", "x": 1.0}
    with pytest.raises(StoreError, match=r"models b\.x is inf"):
        store.insert_many_once("models", [good, {"_id": "b", "x": np.inf}])
    assert store.find("models") == []


def test_keys_are_required(store):
    with pytest.raises(StoreError, match="needs text as its _id"):
        store.insert_once("models", {"_id": 3})
    with pytest.raises(StoreError, match="the field 'rank' is missing"):
        store.insert_once("motifs", {"_id": "c/0/1", "campaign": "c", "cycle": 0})
    with pytest.raises(StoreError, match="there is no collection 'model'"):
        store.get("model", "m")


def test_a_second_id_for_the_same_thing_is_an_error(store):
    analysis = {"campaign": "c", "cycle": 0}
    store.insert_once("analyses", {"_id": "a", **analysis})
    with pytest.raises(StoreError, match="analyses b: another document has the same campaign, cycle"):
        store.insert_once("analyses", {"_id": "b", **analysis})
    with pytest.raises(StoreError, match="analyses b: another document has the same campaign, cycle"):
        store.insert_many_once("analyses", [{"_id": "a", **analysis}, {"_id": "b", **analysis}])


def candidate(k, cycle=1):
    return {"_id": f"c/{cycle}/{k}", "campaign": "c", "cycle": cycle, "index": k, "score": 0.1 * k}


def test_many_written_once(store):
    assert store.insert_many_once("candidates", []) == 0
    assert store.insert_many_once("candidates", [candidate(k) for k in range(1500)]) == 1500
    changed = [{**candidate(k), "score": -1.0} for k in range(1505)]
    assert store.insert_many_once("candidates", changed) == 5
    scores = [d["score"] for d in store.find("candidates", fields=["score"], sort=["index"])]
    assert scores == [0.1 * k for k in range(1500)] + [-1.0] * 5


def test_find(store):
    store.insert_many_once("candidates", [candidate(k, cycle) for k in (3, 1, 2) for cycle in (1, 2)])
    found = store.find("candidates", {"cycle": 2}, fields=["index"], sort=["index"], limit=2)
    assert found == [{"_id": "c/2/1", "index": 1}, {"_id": "c/2/2", "index": 2}]
    assert store.count("candidates", {"cycle": 1}) == 3
    assert store.count("candidates", {"campaign": "c", "cycle": {"$in": [1, 3]}}) == 3
    for query in ({"cycle": {"$lte": 1}}, {"$or": [{"cycle": {"$gt": 1}}]}):
        with pytest.raises(StoreError, match=r"takes equality and \$in, not \$(lte|gt)"):
            store.find("candidates", query)
        with pytest.raises(StoreError, match="takes equality"):
            store.count("candidates", query)
    assert store.count("candidates") == 6


def test_written_once_by_many(store, database):
    """Eight threads write the same documents; each document is written by exactly one of them."""
    written = [0] * 8

    def write(n):
        own = Store(database)
        written[n] = sum(own.insert_once("models", {"_id": f"m{k}", "by": n}) for k in range(30))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(written) == 30
    assert store.count("models") == 30


# schema ---------------------------------------------------------------------------------------------------------------


def test_a_foreign_database_is_refused(database):
    database["labels"].insert_one({"mine": 1})
    with pytest.raises(StoreError, match=r"collections of another program \(labels\)"):
        Store(database)
    assert database.list_collection_names() == ["labels"]


def test_indexes(store, database):
    for collection, keys in COLLECTIONS.items():
        indexes = database[collection].index_information().values() if keys else []
        unique = [tuple(name for name, _ in index["key"]) for index in indexes if index.get("unique")]
        assert (keys in unique) is bool(keys)


def test_journalled_and_aware_of_time_zones(store):
    assert store.database.write_concern.document["j"] is True
    assert store.database.codec_options.tz_aware


def test_contents(store, connection):
    store.insert_once("models", {"_id": "m"})
    found = contents(connection)
    assert found["schema_version"] == SCHEMA_VERSION
    assert not found["needs_migration"]
    assert found["documents"]["models"] == 1
    assert found["documents"]["campaigns"] == 0


# campaigns ------------------------------------------------------------------------------------------------------------


def test_campaigns(store):
    assert store.insert_campaign({"_id": "c", "config_hash": "1", "state": "running", "reason": ""})
    assert not store.insert_campaign({"_id": "c", "config_hash": "1", "state": "running", "reason": ""})
    store.check_campaign_name("c", "1")
    store.check_campaign_name("new", "1")
    with pytest.raises(StoreError, match="the name 'c' is taken"):
        store.insert_campaign({"_id": "c", "config_hash": "2"})
    store.set_campaign_state("c", "finished", "no outliers are left")
    campaign = store.campaign("c")
    assert (campaign["state"], campaign["reason"]) == ("finished", "no outliers are left")
    assert campaign["config_hash"] == "1"
    assert [c["_id"] for c in store.campaigns()] == ["c"]
    with pytest.raises(StoreError, match=r"no campaign 'd'.*there are c"):
        store.campaign("d")
    with pytest.raises(StoreError, match="no campaign 'd'"):
        store.set_campaign_state("d", "finished", "")


def test_documents_of_cycles_in_order(store):
    for cycle in (2, 0, 1):
        store.insert_once("cycles", {"_id": f"c/{cycle}", "campaign": "c", "cycle": cycle})
        store.insert_once("selections", {"_id": f"c/{cycle}", "campaign": "c", "cycle": cycle, "slots": [cycle]})
        for k in (1, 0):
            key = {"_id": f"c/{cycle}/{k}", "campaign": "c", "cycle": cycle}
            store.insert_once("outcomes", {**key, "slot": k})
            store.insert_once("motifs", {**key, "rank": k})
    assert [d["cycle"] for d in store.cycles("c")] == [0, 1, 2]
    assert [(d["cycle"], d["slot"]) for d in store.outcomes("c", 1)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [d["rank"] for d in store.motifs("c", 2)] == [0, 1]
    assert store.selection("c", 2)["slots"] == [2]
    assert store.cycles("d") == []
    with pytest.raises(StoreError, match="no selection of cycle 3"):
        store.selection("c", 3)


# structures and labels ------------------------------------------------------------------------------------------------


def test_structures(store):
    one, two = structure(4.0), structure(4.1)
    assert store.put_structures([one, two, one], "train") == [one.id, two.id, one.id]
    assert store.put_structures([two], "target", [{"recipe": {"a": 4.1}}]) == [two.id]
    assert store.count("structures") == 2
    assert store.get("structures", two.id)["role"] == "train"
    back = store.get_structures([two.id, one.id, two.id])
    assert [s.id for s in back] == [two.id, one.id, two.id]
    assert back[1].species == one.species
    np.testing.assert_array_equal(back[1].positions, one.positions)
    three = structure(4.2)
    store.put_structures([three], "surrogate", [{"recipe": {"a": 4.2}}])
    assert store.get("structures", three.id)["recipe"] == {"a": 4.2}
    with pytest.raises(StoreError, match="1 of 2 structures are not in database"):
        store.get_structures([one.id, "nothing"])
    assert store.get_structures([]) == []


def test_computed_labels(store):
    one = structure()
    store.put_structures([one], "surrogate")
    key = store.label_id(one.id, "level")
    failed = label_result(state="failed", reason="it crashed", energy=np.nan, forces=np.full((2, 3), np.nan))
    stored = store.put_label(one.id, LEVEL, "level", failed)
    assert stored["_id"] == key
    assert (stored["state"], stored["reason"], stored["energy"], stored["forces"]) == (
        "failed",
        "it crashed",
        None,
        None,
    )
    with pytest.raises(StoreError, match=r"is failed \(it crashed\): it cannot be used"):
        store.get_labelled([key])

    accepted = store.put_label(
        one.id, LEVEL, "level", label_result(stress=np.arange(6.0), corrections=[{"error": "zbrent"}])
    )
    assert (accepted["state"], accepted["engine"], accepted["host"]) == ("accepted", "ase", "node7")
    assert accepted["corrections"] == [{"error": "zbrent"}]
    assert accepted["run_directory"] == "/scratch/run"
    again = store.put_label(one.id, LEVEL, "level", label_result(energy=99.0))
    assert again["energy"] == -7.5
    again = store.put_label(one.id, LEVEL, "level", failed)
    assert again["state"] == "accepted"
    assert store.count("labels") == 1

    (labelled,) = store.get_labelled([key])
    assert labelled.energy == -7.5
    np.testing.assert_array_equal(labelled.forces, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(labelled.stress, np.arange(6.0))
    assert labelled.structure.id == one.id


def test_an_accepted_label_has_numbers(store):
    with pytest.raises(StoreError, match="accepted without energy and forces"):
        store.put_label("s", LEVEL, "level", label_result(forces=None))
    with pytest.raises(StoreError, match=r"energy is nan"):
        store.put_label("s", LEVEL, "level", label_result(energy=np.nan))
    assert store.count("labels") == 0


def test_imported_labels(store):
    labelled = [Labelled(structure(a), -float(k), np.full((2, 3), 0.1 * k)) for k, a in enumerate((4.0, 4.1, 4.0))]
    store.put_structures([entry.structure for entry in labelled], "train")
    ids = store.put_imported_labels(labelled, LEVEL, "level")
    assert len(set(ids)) == 3  # the first and the last are one structure with two different labels
    assert store.put_imported_labels(labelled, LEVEL, "level") == ids
    others = store.put_imported_labels(labelled, LEVEL, "another level")
    assert not set(others) & set(ids)
    assert {store.get("labels", key)["level_key"] for key in others} == {"another level"}
    assert store.count("labels") == 6
    back = store.get_labelled(list(reversed(ids)))
    assert [entry.energy for entry in back] == [-2.0, -1.0, 0.0]
    assert back[0].stress is None
    with pytest.raises(StoreError, match="1 of 1 labels are not in database"):
        store.get_labelled(["nothing"])
    with pytest.raises(StoreError, match="energy is nan"):
        store.put_imported_labels([Labelled(structure(), np.nan, np.zeros((2, 3)))], LEVEL, "level")


# claims, progress, blobs ----------------------------------------------------------------------------------------------


def test_claims(store, database):
    assert store.claim("c/001/spawn", "firework 3")
    assert store.claim("c/001/spawn", "firework 3")
    assert not store.claim("c/001/spawn", "firework 4")
    claim = store.get("claims", "c/001/spawn")
    assert 0 <= store.claim_age(claim) < 10
    assert not store.takeover({**claim, "owner": "firework 4"}, "firework 5")
    assert store.takeover(claim, "firework 5")
    assert not store.takeover(claim, "firework 6"), "what was known of the claim is out of date"
    assert store.claim("c/001/spawn", "firework 5")
    assert not store.claim("c/001/spawn", "firework 3")

    owners = []
    threads = [
        threading.Thread(
            target=lambda n=n: owners.append(n) if Store(database).claim("race", f"firework {n}") else None
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owners) == 1


def test_progress(store):
    store.set_progress("c/001/Train/x", 0, 0, "Train")
    store.set_progress("c/001/Train/x", 3, np.int64(10), "loss 0.1")
    store.set_progress("c2/001/Train/x", 0, 0, "another campaign")
    (step,) = store.progress("c")
    assert (step["done"], step["total"], step["message"]) == (3, 10, "loss 0.1")
    assert step["started"] <= step["updated"]
    assert 0 <= step["seconds"] < 5
    store.clear_progress("c/001/Train/x")
    store.clear_progress("c/001/Train/x")
    assert store.progress("c") == []


def test_blobs(store, database):
    data = np.random.default_rng(0).bytes(600_000)
    entry = store.put_blob(data, "model")
    assert store.put_blob(data, "model") == entry
    assert entry["length"] == 600_000
    assert database["kmde_blobs.files"].count_documents({}) == 1
    assert store.get_blob(entry["sha256"]) == data
    with pytest.raises(StoreError, match="no blob 00"):
        store.get_blob("00")
    empty = store.put_blob(b"", "nothing")
    assert store.get_blob(empty["sha256"]) == b""


def test_damaged_blobs(store, database):
    data = np.random.default_rng(1).bytes(600_000)
    digest = store.put_blob(data, "model")["sha256"]
    chunk = database["kmde_blobs.chunks"].find_one({"n": 1})
    database["kmde_blobs.chunks"].update_one({"_id": chunk["_id"]}, {"$set": {"data": chunk["data"][::-1]}})
    with pytest.raises(StoreError, match=f"blob {digest} .* is damaged: its sha256 differs"):
        store.get_blob(digest)
    database["kmde_blobs.chunks"].delete_one({"n": 1})
    with pytest.raises(StoreError, match=f"blob {digest} .* is damaged"):
        store.get_blob(digest)


def test_a_blob_written_halfway_is_written_again(store, database):
    """A crash between the file and its entry leaves a file that nobody asks for."""
    data = b"weights"
    digest = store.put_blob(data, "model")["sha256"]
    database["blobs"].delete_one({"_id": digest})
    with pytest.raises(StoreError, match="no blob"):
        store.get_blob(digest)
    store.put_blob(data, "model")
    assert store.get_blob(digest) == data


def test_weights_of_a_worker_killed_while_writing_are_not_kept_twice(store: Store):
    """One left a part of the file, one the whole file, and none its entry."""
    other = store.put_blob(b"other", "model")["gridfs_id"]
    data = b"weights" * 100
    digest = hashlib.sha256(data).hexdigest()
    store.database["kmde_blobs.chunks"].insert_one({"files_id": f"{digest}/0", "n": 0, "data": b"wei"})
    store._blobs.put(data, _id=f"{digest}/1", filename=digest)
    assert store.put_blob(data, "model")["gridfs_id"] == f"{digest}/2"
    assert store.get_blob(digest) == data
    assert {f["_id"] for f in store.database["kmde_blobs.files"].find()} == {f"{digest}/2", other}
    assert {c["files_id"] for c in store.database["kmde_blobs.chunks"].find()} == {f"{digest}/2", other}
