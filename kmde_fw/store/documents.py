"""Documents in and out: plain records, written once, found by key.

A document's _id is a content hash or a key such as al_fe_pt/003/motif/001, so that a step which runs twice writes once.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gridfs
import numpy as np
from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import ASCENDING
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from kmde_fw import __version__
from kmde_fw.errors import StoreError
from kmde_fw.records import SCHEMA_VERSION, Labelled, LabelResult, Structure, content_hash
from kmde_fw.store.connect import Connection, Documents, address_of, connect, sentences
from kmde_fw.store.migrations import SHORT, check_version

#: every collection and, besides its _id, the fields that name one document of it, together unique
COLLECTIONS: dict[str, tuple[str, ...]] = {
    "campaigns": (),
    "structures": (),
    "labels": (),
    "models": (),
    "analyses": ("campaign", "cycle"),
    "evaluations": ("campaign", "cycle"),
    "motifs": ("campaign", "cycle", "rank"),
    "shards": ("campaign", "cycle", "shard"),
    "candidates": ("campaign", "cycle", "index"),
    "selections": ("campaign", "cycle"),
    "outcomes": ("campaign", "cycle", "slot"),
    "cycles": ("campaign", "cycle"),
    "claims": (),
    "progress": (),
    "blobs": (),
}
#: fields that are searched for, each group together, and not unique. Which labels has a structure, which models and
#: campaigns learned from a label, in which cycles is a model, the best candidates of a cycle; `short` is of an id
_SEARCHED: dict[str, tuple[tuple[str, ...], ...]] = {
    "campaigns": (("train_labels",), ("target_structures",), ("target_labels",)),
    "structures": (("short",), ("name",)),
    "labels": (("short",), ("structure_id",)),
    "models": (("short",), ("train_labels",)),
    "candidates": (("structure_id",), ("campaign", "cycle", "rank")),
    "cycles": (("models",),),
}
#: collections whose documents are named by a content hash, and so many of its characters are stored as `short`: the
#: embedded server scans a collection for "begins with", and looks an equal `short` up
HASHED = ("structures", "labels", "models")
#: documents asked for by _id in one query: the embedded server takes 20 ms for 100 and 1.4 s for 1000
_BATCH = 100
#: comparisons, which `find` does not take
_COMPARISONS = frozenset({"$lt", "$lte", "$gt", "$gte"})
_MAX_INTEGER = 2**63


def plain(value: Any, where: str = "document") -> Any:
    """`value` with numpy's types as Python's own, arrays and tuples as lists.

    Raises StoreError, naming the field, for NaN and infinity, for integers of more than 64 bits, for keys that are not
    text, and for types that BSON does not have.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StoreError(f"{where}: the key {key!r} is not text")
        return {str(key): plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, where) for entry in value]
    if value is None or isinstance(value, bool | bytes | datetime.datetime | ObjectId):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        if not -_MAX_INTEGER <= value < _MAX_INTEGER:
            raise StoreError(f"{where}: {value} does not fit into the database's 64 bits; store it as text")
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise StoreError(f"{where} is {value}, which is not a number that may be stored")
        return float(value)
    raise StoreError(f"{where}: a {type(value).__name__} cannot be stored; make it a number, text, list or dictionary")


class Store:
    """The documents of kmde_fw in one database, beside FireWorks' own collections.

    Every document gets schema_version, code_version, created (UTC) and host. Writes are acknowledged after the journal
    has them. Every method raises StoreError where the database does not answer or refuses.
    """

    def __init__(self, database: Documents) -> None:
        """Open on a database, such as a LaunchPad's `db`. StoreError if that was written by another schema version."""
        write_concern = WriteConcern(**{**database.write_concern.document, "j": True})
        self.database: Documents = database.with_options(
            codec_options=CodecOptions(tz_aware=True), write_concern=write_concern
        )
        self.name = database.name
        self.address = address_of(database)
        self._blobs = gridfs.GridFS(self.database, collection="kmde_blobs")
        with self._sentences():
            self._open_schema()

    @classmethod
    @contextmanager
    def open(cls, connection: Connection) -> Iterator[Store]:
        """A store with a connection of its own, closed at the end."""
        database = connect(connection)
        try:
            yield cls(database)
        finally:
            database.client.close()

    # one document, many documents ---------------------------------------------------------------------------------

    def insert_once(self, collection: str, document: Mapping[str, Any]) -> bool:
        """Write a document. False, and nothing is changed, if one with its _id is there already."""
        complete = self._complete(collection, document)
        with self._sentences():
            try:
                self._collection(collection).insert_one(complete)
            except DuplicateKeyError as error:
                self._check_duplicates(collection, [complete], [error.details or {}])
                return False
        return True

    def insert_many_once(self, collection: str, documents: Iterable[Mapping[str, Any]]) -> int:
        """Write documents, except those whose _id is there already. Returns how many were written."""
        complete = [self._complete(collection, document) for document in documents]
        if not complete:
            return 0
        with self._sentences():
            try:
                return len(self._collection(collection).insert_many(complete, ordered=False).inserted_ids)
            except BulkWriteError as error:
                failures = error.details["writeErrors"]
                other = [failure for failure in failures if failure["code"] != 11000]
                if other or error.details.get("writeConcernErrors"):
                    raise
                self._check_duplicates(collection, [complete[failure["index"]] for failure in failures], failures)
                return int(error.details["nInserted"])

    def get(self, collection: str, key: str) -> dict[str, Any] | None:
        """The document of that _id, or None."""
        with self._sentences():
            return self._collection(collection).find_one({"_id": key})

    def find(
        self,
        collection: str,
        query: Mapping[str, Any] | None = None,
        *,
        fields: Sequence[str] | None = None,
        sort: Sequence[str] = ("_id",),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """The documents that match, ascending in the fields of `sort`; only their `fields` (and _id) if given.

        query: equality and $in. StoreError for comparisons: with an index over (campaign, cycle, slot) the embedded
        server (0.7.0b3) forgets the documents of cycle 1 when asked for a campaign's with cycle ≤ 1.
        """
        _refuse_comparisons(query)
        with self._sentences():
            found = self._collection(collection).find(query or {}, list(fields) if fields is not None else None)
            return list(found.sort([(name, ASCENDING) for name in sort]).limit(limit))

    def many(
        self, collection: str, keys: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """The documents of these _ids, by _id; only their `fields` if given. StoreError if one is missing."""
        return self._by_id(collection, keys, fields)

    def count(self, collection: str, query: Mapping[str, Any] | None = None) -> int:
        """How many documents match; `query` as in `find`."""
        _refuse_comparisons(query)
        with self._sentences():
            return self._collection(collection).count_documents(query or {})

    # campaigns and their cycles -----------------------------------------------------------------------------------

    def check_campaign_name(self, name: str, config_hash: str) -> None:
        """StoreError if a campaign of that name has another configuration or other data."""
        known = self.get("campaigns", name)
        if known is not None and known["config_hash"] != config_hash:
            raise StoreError(
                f"the name {name!r} is taken in database {self.name} by a campaign with another configuration "
                f"or other data (submitted {known['created']:%Y-%m-%d %H:%M} UTC): give this one another `name`"
            )

    def insert_campaign(self, document: Mapping[str, Any]) -> bool:
        """Write a campaign (_id is its name; config_hash). False if that very campaign is there already.

        Raises StoreError if the name is taken by another configuration.
        """
        if self.insert_once("campaigns", document):
            return True
        self.check_campaign_name(document["_id"], document["config_hash"])
        return False

    def campaign(self, name: str) -> dict[str, Any]:
        """The campaign of that name. StoreError if there is none."""
        document = self.get("campaigns", name)
        if document is None:
            names = [campaign["_id"] for campaign in self.find("campaigns", fields=())]
            there = f"there are {', '.join(names)}" if names else "there is none yet"
            raise StoreError(f"no campaign {name!r} in database {self.name} at {self.address}; {there}")
        return document

    def campaigns(self) -> list[dict[str, Any]]:
        """All campaigns, in the order in which they were submitted."""
        return self.find("campaigns", sort=("created", "_id"))

    def set_campaign_state(self, name: str, state: str, reason: str) -> None:
        """The one change that a campaign's document ever sees. StoreError if there is no such campaign."""
        change = {"state": state, "reason": reason, "state_since": _now()}
        with self._sentences():
            if not self._collection("campaigns").update_one({"_id": name}, {"$set": change}).matched_count:
                raise StoreError(f"no campaign {name!r} in database {self.name}")

    def cycles(self, campaign: str) -> list[dict[str, Any]]:
        """The closed cycles of a campaign, in order."""
        return self.find("cycles", {"campaign": campaign}, sort=("cycle",))

    def motifs(self, campaign: str, cycle: int) -> list[dict[str, Any]]:
        """The key motifs of a cycle, best first."""
        return self.find("motifs", {"campaign": campaign, "cycle": cycle}, sort=("rank",))

    def selection(self, campaign: str, cycle: int) -> dict[str, Any]:
        """What a cycle picked. StoreError if it has not picked yet."""
        found = self.find("selections", {"campaign": campaign, "cycle": cycle})
        if not found:
            raise StoreError(f"campaign {campaign} has no selection of cycle {cycle}: its Select has not finished")
        return found[0]

    def outcomes(self, campaign: str, up_to_cycle: int) -> list[dict[str, Any]]:
        """What became of the picks, up to and including that cycle, in the order of cycles and slots."""
        found = self.find("outcomes", {"campaign": campaign}, sort=("cycle", "slot"))
        return [outcome for outcome in found if outcome["cycle"] <= up_to_cycle]

    # structures and labels ----------------------------------------------------------------------------------------

    def find_hash(self, prefix: str) -> list[tuple[str, str]]:
        """Collection and _id of each structure, label and model whose _id begins with `prefix` (SHORT characters at
        least: what is stored as `short` finds them by an index)."""
        return [
            (collection, document["_id"])
            for collection in HASHED
            for document in self.find(collection, {"short": prefix[:SHORT]}, fields=())
            if document["_id"].startswith(prefix)
        ]

    def put_structures(
        self, structures: Sequence[Structure], role: str, details: Sequence[Mapping[str, Any]] | None = None
    ) -> list[str]:
        """Write structures that are not there yet. Returns their ids, in order.

        role: what it was first stored for (train, target, parent, surrogate, evaluate); details: further fields, one
        mapping per structure, such as a recipe. A structure that is there keeps the role and details that it was first
        stored with.
        """
        documents: dict[str, dict[str, Any]] = {}
        for structure, more in zip(structures, details or [{}] * len(structures), strict=True):
            documents.setdefault(structure.id, {**more, **structure.to_document(), "role": role})
        self.insert_many_once("structures", documents.values())
        return [structure.id for structure in structures]

    def get_structures(self, ids: Sequence[str]) -> list[Structure]:
        """The structures of these ids, in that order. StoreError if one is missing."""
        found = self._by_id("structures", ids)
        return [Structure.from_document(found[key]) for key in ids]

    @staticmethod
    def label_id(structure_id: str, level_key: str) -> str:
        """_id of the label of a structure at a level of theory."""
        return content_hash([structure_id, level_key])

    def put_label(
        self, structure_id: str, level: Mapping[str, Any], level_key: str, result: LabelResult
    ) -> dict[str, Any]:
        """Write what a reference engine made of a structure. Returns the label as it is in the database now.

        An accepted label is never replaced, any other one is. Numbers of a label that is not accepted may be NaN (a
        failed calculation); they are stored as null.
        """
        accepted = result.state == "accepted"
        numbers = {key: getattr(result, key) for key in ("energy", "forces", "stress")}
        if not accepted:
            numbers = {key: value if _is_finite(value) else None for key, value in numbers.items()}
        elif numbers["energy"] is None or numbers["forces"] is None:
            raise StoreError(f"label of structure {structure_id}: accepted without energy and forces")
        document = self._complete(
            "labels",
            {
                "_id": self.label_id(structure_id, level_key),
                "structure_id": structure_id,
                "level_key": level_key,
                "level": level,
                "engine": level.get("engine"),
                "state": result.state,
                "reason": result.reason,
                **numbers,
                "checks": result.checks,
                "corrections": result.corrections,
                "notes": result.notes,
                "details": result.details,
                "run_directory": str(result.run_directory),
                "seconds": result.seconds,
                "versions": result.versions,
            },
        )
        document["host"] = result.host
        labels = self._collection("labels")
        with self._sentences():
            try:
                # an accepted one does not match, so the upsert tries to insert and meets its _id
                labels.replace_one({"_id": document["_id"], "state": {"$ne": "accepted"}}, document, upsert=True)
            except DuplicateKeyError as error:
                self._check_duplicates("labels", [document], [error.details or {}])
            stored = labels.find_one({"_id": document["_id"]})
        assert stored is not None
        return stored

    def put_imported_labels(self, labelled: Sequence[Labelled], level: Mapping[str, Any], level_key: str) -> list[str]:
        """Write labels that came with files, taken to be of that level of theory. Returns their ids, in order.

        The level is part of the id: campaigns of two levels may be given one file.
        """
        documents = {}
        ids = []
        for entry in labelled:
            energy, forces = plain(entry.energy, "energy"), plain(entry.forces, "forces")
            key = content_hash([entry.structure.id, "imported", energy, forces, level_key])
            ids.append(key)
            documents[key] = {
                "_id": key,
                "structure_id": entry.structure.id,
                "level_key": level_key,
                "level": level,
                "engine": "imported",
                "state": "accepted",
                "reason": "",
                "energy": energy,
                "forces": forces,
                "stress": entry.stress,
                "checks": {},
                "corrections": [],
                "notes": [],
                "details": {},
                "run_directory": None,
                "seconds": None,
                "versions": {},
            }
        self.insert_many_once("labels", documents.values())
        return ids

    def get_labelled(self, label_ids: Sequence[str]) -> list[Labelled]:
        """The structures of these labels with their energies and forces, in that order.

        StoreError if a label is missing or not accepted: nothing is ever trained on such a one.
        """
        labels = self._by_id("labels", label_ids)
        for key in label_ids:
            if labels[key]["state"] != "accepted":
                raise StoreError(f"label {key} is {labels[key]['state']} ({labels[key]['reason']}): it cannot be used")
        structures = self.get_structures([labels[key]["structure_id"] for key in label_ids])
        return [_labelled(structure, labels[key]) for key, structure in zip(label_ids, structures, strict=True)]

    # claims and progress ------------------------------------------------------------------------------------------

    def claim(self, key: str, owner: str) -> bool:
        """True if `owner` owns the claim: since now, or since it claimed it before. False if somebody else does."""
        if self.insert_once("claims", {"_id": key, "owner": owner, "since": self.server_time()}):
            return True
        claim = self.get("claims", key)
        return claim is not None and claim["owner"] == owner

    def claim_age(self, claim: Mapping[str, Any]) -> float:
        """Seconds since the owner of a claim's document has it. By the server's clock: workers' may be hours apart."""
        return float((self.server_time() - claim["since"]).total_seconds())

    def takeover(self, claim: Mapping[str, Any], new_owner: str) -> bool:
        """Hand a claim over. False if it has another owner by now than in this document of it."""
        now = {"_id": claim["_id"], "owner": claim["owner"], "since": claim["since"]}
        with self._sentences():
            change = {"owner": new_owner, "since": self.server_time()}
            return self._collection("claims").update_one(now, {"$set": change}).matched_count == 1

    def server_time(self) -> datetime.datetime:
        """The database server's clock, the same for all workers."""
        with self._sentences():
            now: datetime.datetime = self.database.client.admin.command("hello")["localTime"]
        return now if now.tzinfo else now.replace(tzinfo=datetime.UTC)

    def set_progress(self, key: str, done: int, total: int, message: str) -> None:
        """Say how far a step is; `started` is the time of the first call for that key. Callers throttle themselves."""
        now = _now()
        progress = plain({"done": done, "total": total, "message": message, "updated": now}, f"progress {key}")
        first = {"started": now, "host": socket.gethostname()}
        with self._sentences():
            self._collection("progress").update_one(
                {"_id": key}, {"$set": progress, "$setOnInsert": first}, upsert=True
            )

    def progress(self, campaign: str) -> list[dict[str, Any]]:
        """The steps of a campaign that run now; `seconds`: from their first word of progress to their latest."""
        steps = [step for step in self.find("progress") if step["_id"].startswith(f"{campaign}/")]
        for step in steps:
            step["seconds"] = (step["updated"] - step["started"]).total_seconds()
        return steps

    def clear_progress(self, key: str) -> None:
        """That step is over."""
        with self._sentences():
            self._collection("progress").delete_one({"_id": key})

    # blobs --------------------------------------------------------------------------------------------------------

    def put_blob(self, data: bytes, kind: str) -> dict[str, Any]:
        """Write bytes to GridFS, once however often they come. Returns sha256, length and gridfs_id."""
        digest = hashlib.sha256(data).hexdigest()
        known = self.get("blobs", digest)
        if known is None:
            # the file first, its entry last: after a crash in between there is a file that nobody asks for, and no
            # entry without a file
            files = self._put_file(data, digest, kind)
            entry = {"_id": digest, "length": len(data), "kind": kind, "gridfs_id": files[-1]}
            new = self.insert_once("blobs", entry)
            with self._sentences():
                for name in files[:-1] if new else files[-1:]:
                    self._blobs.delete(name)
            known = self.get("blobs", digest)
            assert known is not None
        return {"sha256": digest, "length": known["length"], "gridfs_id": str(known["gridfs_id"])}

    def _put_file(self, data: bytes, digest: str, kind: str) -> list[str]:
        """Write a file to GridFS. Returns the names that were taken, by whoever was killed in the act, and its own."""
        names: list[str] = []
        while True:
            names.append(f"{digest}/{len(names)}")
            try:
                with self._sentences():
                    self._blobs.put(data, _id=names[-1], filename=digest, kind=kind)
                return names
            except StoreError as error:
                if not isinstance(error.__cause__, gridfs.errors.FileExists):
                    raise

    def get_blob(self, sha256: str) -> bytes:
        """The bytes of that sha256. StoreError if they are missing or damaged."""
        entry = self.get("blobs", sha256)
        if entry is None:
            raise StoreError(f"no blob {sha256} in database {self.name}")
        try:
            with self._sentences():
                data = self._blobs.get(entry["gridfs_id"]).read()
        except StoreError as error:
            if isinstance(error.__cause__, gridfs.errors.GridFSError):
                raise StoreError(f"blob {sha256} in database {self.name} is damaged: {error.__cause__}") from error
            raise
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"blob {sha256} in database {self.name} is damaged: its sha256 differs")
        return bytes(data)

    def delete_blob(self, sha256: str) -> None:
        """Take away the bytes of that sha256; nothing happens if they are not there. The entry goes last."""
        entry = self.get("blobs", sha256)
        if entry is not None:
            with self._sentences():
                self._blobs.delete(entry["gridfs_id"])
            self.delete("blobs", [sha256])

    # removal ------------------------------------------------------------------------------------------------------

    def delete(self, collection: str, keys: Sequence[str]) -> None:
        """Take away the documents of these _ids; those that are not there do not matter."""
        with self._sentences():
            for begin in range(0, len(keys), _BATCH):
                self._collection(collection).delete_many({"_id": {"$in": list(keys[begin : begin + _BATCH])}})

    def delete_of_campaign(self, collection: str, campaign: str) -> None:
        """Take away all documents of a collection that name this campaign."""
        with self._sentences():
            self._collection(collection).delete_many({"campaign": campaign})

    # below --------------------------------------------------------------------------------------------------------

    def _sentences(self) -> Any:
        return sentences(self.database)

    def _collection(self, name: str) -> Any:
        if name not in COLLECTIONS:
            raise StoreError(f"there is no collection {name!r}; there are {', '.join(COLLECTIONS)}")
        return self.database[name]

    def _complete(self, collection: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document as it is stored: plain types, checked keys, where and when and by which code."""
        if not isinstance(document.get("_id"), str):
            raise StoreError(f"a document of {collection} needs text as its _id")
        complete: dict[str, Any] = plain(document, f"{collection} {document['_id']}")
        for key in COLLECTIONS[collection]:
            if key not in complete:
                raise StoreError(f"{collection} {document['_id']}: the field {key!r} is missing")
        if collection in HASHED:
            complete["short"] = complete["_id"][:SHORT]
        complete.update(
            schema_version=SCHEMA_VERSION, code_version=__version__, created=_now(), host=socket.gethostname()
        )
        return complete

    def _check_duplicates(
        self, collection: str, documents: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]
    ) -> None:
        """After duplicate keys: StoreError unless it was the _id that was there, of each of these documents."""
        unclear = [
            d["_id"] for d, e in zip(documents, errors, strict=True) if dict(e.get("keyPattern") or {}) != {"_id": 1}
        ]
        for begin in range(0, len(unclear), _BATCH):
            batch = unclear[begin : begin + _BATCH]
            there = {d["_id"] for d in self._collection(collection).find({"_id": {"$in": batch}}, {"_id": 1})}
            for key in batch:
                if key not in there:
                    raise StoreError(
                        f"{collection} {key}: another document has the same {', '.join(COLLECTIONS[collection])}"
                    )

    def _by_id(
        self, collection: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """The documents of these ids, all of them."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, dict[str, Any]] = {}
        with self._sentences():
            for begin in range(0, len(wanted), _BATCH):
                batch = wanted[begin : begin + _BATCH]
                cursor = self._collection(collection).find({"_id": {"$in": batch}}, list(fields) if fields else None)
                found.update((d["_id"], d) for d in cursor)
        missing = [key for key in wanted if key not in found]
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(wanted)} {collection} are not in database {self.name}, among them {missing[0]}"
            )
        return found

    def _open_schema(self) -> None:
        """Check the schema version, or write it into a fresh database; make the indexes once."""
        meta = self.database["kmde_meta"]
        schema = meta.find_one({"_id": "schema"})
        if schema is None:
            foreign = sorted(set(self.database.list_collection_names()) & set(COLLECTIONS))
            # another process may have opened the fresh database a moment ago
            schema = meta.find_one({"_id": "schema"})
            if schema is None and foreign:
                raise StoreError(
                    f"database {self.name} at {self.address} has collections of another program "
                    f"({', '.join(foreign)}): give kmde_fw another `name` in launchpad.yaml"
                )
        if schema is None:
            schema = {"_id": "schema", "version": SCHEMA_VERSION, "code_version": __version__, "created": _now()}
            try:
                meta.insert_one(schema)
            except DuplicateKeyError:
                schema = meta.find_one({"_id": "schema"}) or schema
        check_version(schema, self.name, self.address)
        indexes = content_hash([COLLECTIONS, _SEARCHED])
        if schema.get("indexes") != indexes:
            self.make_indexes()
            meta.update_one({"_id": "schema"}, {"$set": {"indexes": indexes}})

    def missing_indexes(self) -> list[str]:
        """Indexes that are not there, as `collection (fields)`: somebody dropped them, or copied documents only."""
        missing = []
        with self._sentences():
            for collection, fields, _ in _indexes():
                there = [[key for key, _ in i["key"]] for i in self.database[collection].index_information().values()]
                if list(fields) not in there:
                    missing.append(f"{collection} ({', '.join(fields)})")
        return missing

    def make_indexes(self) -> None:
        """Make those that are missing; the others stay."""
        with self._sentences():
            for collection, fields, unique in _indexes():
                self.database[collection].create_index([(name, ASCENDING) for name in fields], unique=unique)


def _indexes() -> list[tuple[str, tuple[str, ...], bool]]:
    """Collection, fields and whether they are unique together, of every index."""
    unique = [(collection, keys, True) for collection, keys in COLLECTIONS.items() if keys]
    return unique + [(collection, fields, False) for collection, groups in _SEARCHED.items() for fields in groups]


def contents(connection: Connection) -> dict[str, Any]:
    """What a database holds, without writing anything: schema_version (None if it is fresh), whether it has to be
    migrated, and document counts.

    Raises StoreError if it does not answer.
    """
    database = connect(connection)
    try:
        with sentences(database):
            schema = database["kmde_meta"].find_one({"_id": "schema"})
            counted = ("campaigns", "cycles", "structures", "labels", "models")
            return {
                "schema_version": schema["version"] if schema else None,
                "needs_migration": schema is not None
                and (schema["version"] < SCHEMA_VERSION or "migrating_from" in schema),
                "documents": {name: database[name].estimated_document_count() for name in (*counted, "fireworks")},
            }
    finally:
        database.client.close()


def _labelled(structure: Structure, label: Mapping[str, Any]) -> Labelled:
    stress = label["stress"]
    return Labelled(
        structure,
        float(label["energy"]),
        np.array(label["forces"], dtype=float).reshape(-1, 3),
        None if stress is None else np.array(stress, dtype=float),
    )


def _refuse_comparisons(query: Any) -> None:
    """See `Store.find`."""
    if isinstance(query, Mapping):
        refused = sorted(_COMPARISONS & set(query))
        if refused:
            raise StoreError(f"a query of the store takes equality and $in, not {refused[0]}: compare what comes back")
        for value in query.values():
            _refuse_comparisons(value)
    elif isinstance(query, list | tuple):
        for value in query:
            _refuse_comparisons(value)


def _is_finite(value: Any) -> bool:
    return value is not None and bool(np.all(np.isfinite(np.asarray(value, dtype=float))))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
