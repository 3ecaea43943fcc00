"""Is all well with the campaigns of a database? Named checks, each saying what it found and which command mends it.

Where all is well a check says so. `kmde_fw.doctor` asks whether a machine can label. A new check is an entry here.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fireworks import FWorker, LaunchPad, fw_config

from kmde_fw import __version__
from kmde_fw.config import VaspReference, parse_campaign
from kmde_fw.errors import KmdeError
from kmde_fw.findings import Checks, Finding
from kmde_fw.processes import working_in
from kmde_fw.records import content_hash
from kmde_fw.store import Store
from kmde_fw.store.connect import says_outage
from kmde_fw.versions import numbers
from kmde_fw.worker_env import resolve
from kmde_fw.workflows.compatible import TO_COME, mismatches
from kmde_fw.workflows.lost import Lost, age, find_lost, find_silent, is_interruption, last_heard, release_lost
from kmde_fw.workflows.queues import Queue
from kmde_fw.workflows.rockets import fizzled, halfway, tidy

#: a launch of the last day says that there is such a worker
RECENT = 24 * 3600.0
#: launches that are looked at for that, and READY fireworks that are named one by one
LAUNCHES, NAMED = 500, 5
#: a worker of `kmde run` may have nothing RUNNING for so long, from one step to the next
BETWEEN = 10.0
#: how long a firework may be READY before that is worth a line
WAITS = 3600.0

Document = dict[str, Any]


@dataclass(frozen=True)
class Patient:
    """What the checks look at. campaigns: their documents; workers: of my_fworker.yaml files, by file.

    option: ` -l FILE` for the commands that mend, empty where the launchpad file is found by itself.
    """

    launchpad: LaunchPad
    store: Store
    campaigns: Sequence[Document]
    workers: Mapping[str, FWorker] = field(default_factory=dict)
    queue: Queue | None = None
    all_hosts: bool = False
    option: str = ""

    @property
    def query(self) -> Document:
        """Of the fireworks of these campaigns."""
        return {"spec.kmde.campaign": {"$in": [campaign["_id"] for campaign in self.campaigns]}}

    @property
    def unfinished(self) -> list[str]:
        """Names of the campaigns that are not finished."""
        return [campaign["_id"] for campaign in self.campaigns if campaign["state"] == "running"]


#: of the campaigns of a database
CHECKS: Checks[Patient] = Checks()


@CHECKS.enter("version")
def _version(patient: Patient) -> Iterator[Finding]:
    """This kmde_fw may touch the fireworks: it has their steps and is not older than who submitted them."""
    unfit = mismatches(patient.launchpad, patient.query)
    for sentence in unfit:
        yield Finding("problem", sentence, "pip install --upgrade kmde_fw")
    for campaign in patient.campaigns:
        if campaign["state"] == "running" and numbers(campaign["code_version"]) < numbers(__version__):
            yield Finding("note", f"campaign {campaign['_id']} was submitted by kmde_fw {campaign['code_version']}")
    if not unfit:
        yield Finding("ok", f"kmde_fw {__version__}, {len(patient.campaigns)} campaigns")


@CHECKS.enter("FW_config")
def _config(patient: Patient) -> Iterator[Finding]:
    """A live run is not taken for a lost one."""
    ping, expiry = fw_config.PING_TIME_SECS, fw_config.RUN_EXPIRATION_SECS
    if expiry < 2 * ping:
        yield Finding(
            "problem",
            f"RUN_EXPIRATION_SECS ({expiry}) is less than twice PING_TIME_SECS ({ping}): lpad detect_lostruns would "
            "end live runs",
            "write RUN_EXPIRATION_SECS: 14400 into FW_config.yaml",
        )
    else:
        yield Finding("ok", f"a rocket speaks every {ping} s, one silent for {expiry} s is lost")


@CHECKS.enter("indexes")
def _indexes(patient: Patient) -> Iterator[Finding]:
    """Documents are found without going through their collections."""
    missing = patient.store.missing_indexes()
    wanted = {"fireworks": "fw_id", "launches": "launch_id", "workflows": "nodes"}
    for collection, name in wanted.items():
        indexes = patient.launchpad.db[collection].index_information().values()
        if not any(index["key"][0][0] == name for index in indexes):
            missing.append(f"{collection} ({name})")
    if missing:
        yield Finding(
            "problem",
            f"missing on {', '.join(missing)}",
            f"kmde doctor --fix{patient.option}",
            partial(_reindex, patient),
        )
    else:
        yield Finding("ok", "all there")


def _reindex(patient: Patient) -> str:
    patient.store.make_indexes()
    patient.launchpad.tuneup()
    return "indexes made"


@CHECKS.enter("categories")
def _categories(patient: Patient) -> Iterator[Finding]:
    """For every category of steps to come there is a worker."""
    query = {**patient.query, "state": {"$in": list(TO_COME)}}
    wanted: dict[str, Counter[str]] = {}
    for document in patient.launchpad.fireworks.find(query, {"spec._category": 1, "spec.kmde.campaign": 1}):
        spec = document["spec"]
        wanted.setdefault(spec.get("_category", ""), Counter())[spec["kmde"]["campaign"]] += 1
    workers = _workers(patient)
    for category, steps in sorted(wanted.items()):
        serving = {
            campaign: {name for name, worker in workers.items() if _serves(worker, category, campaign)}
            for campaign in steps
        }
        number = sum(steps[campaign] for campaign, names in serving.items() if not names)
        if not number:
            yield Finding("ok", f"{category}: {', '.join(sorted(set().union(*serving.values()))[:NAMED])}")
        else:
            yield Finding(
                "problem",
                f"{category}: no worker takes its {number} steps, by no my_fworker.yaml here and not in the last day",
                f"kmde launch rapidfire{patient.option} -w FWORKER.yaml, with `category: {category}` in that file "
                "(kmde init --cluster writes them)",
            )


@CHECKS.enter("ready")
def _ready(patient: Patient) -> Iterator[Finding]:
    """READY fireworks are taken."""
    fields = {"fw_id": 1, "name": 1, "updated_on": 1, "spec._category": 1, "spec._fworker": 1}
    ready = list(patient.launchpad.fireworks.find({**patient.query, "state": "READY"}, fields).sort("fw_id"))
    taken: set[int] = set()
    for worker in _workers(patient).values():
        mine = {**worker.query, "state": "READY"}
        taken.update(d["fw_id"] for d in patient.launchpad.fireworks.find(mine, {"fw_id": 1}))
    nobody = [document for document in ready if document["fw_id"] not in taken]
    for document in nobody[:NAMED]:
        spec = document["spec"]
        asks = " and ".join(f"{key} {spec[key]!r}" for key in ("_category", "_fworker") if spec.get(key))
        yield Finding(
            "problem",
            f"firework {document['fw_id']} ({document['name']}) asks for {asks}, and no known worker takes it",
            f"start a worker that takes it, or: kmde launch singleshot{patient.option} --fw_id {document['fw_id']}",
        )
    if len(nobody) > NAMED:
        yield Finding("note", f"the same holds for {len(nobody) - NAMED} more")
    slow = [document for document in ready if document["fw_id"] in taken and age(document["updated_on"]) > WAITS]
    if slow:
        yield Finding(
            "note",
            f"{len(slow)} fireworks have been READY for more than an hour, the first is {slow[0]['name']}: "
            "are their workers running?",
            f"kmde launch rapidfire{patient.option}",
        )
    if not nobody and not slow:
        yield Finding("ok", f"{len(ready)} are READY" if ready else "none waits for a worker")


@CHECKS.enter("lost runs")
def _lost(patient: Patient) -> Iterator[Finding]:
    """What is RUNNING runs."""
    yield from _released(patient, "RUNNING", "all that is RUNNING runs, as far as this host and its queue know")
    for silent in find_silent(patient.launchpad, fw_config.RUN_EXPIRATION_SECS):
        if silent.campaign in patient.unfinished:
            yield Finding(
                "problem",
                f"firework {silent.fw_id} ({silent.name}): {silent.reason}",
                f"kmde fw lpad{patient.option} detect_lostruns --time {fw_config.RUN_EXPIRATION_SECS} --rerun",
            )


@CHECKS.enter("reservations")
def _reservations(patient: Patient) -> Iterator[Finding]:
    """What is RESERVED has a job in the queue."""
    yield from _released(patient, "RESERVED", "every reservation has its job, as far as this host and its queue know")


def _released(patient: Patient, state: str, well: str) -> Iterator[Finding]:
    lost = [one for one in find_lost(patient.launchpad, patient.queue, patient.all_hosts) if one.state == state]
    lost = [one for one in lost if one.campaign in {campaign["_id"] for campaign in patient.campaigns}]
    for one in lost:
        text = f"firework {one.fw_id} ({one.name}): {one.reason}"
        yield Finding("problem", text, f"kmde reconcile{patient.option}", partial(_release, patient, one))
    if not lost:
        yield Finding("ok", well)


def _release(patient: Patient, lost: Lost) -> str:
    return f"firework {lost.fw_id} is {release_lost(patient.launchpad, lost)}"


@CHECKS.enter("fizzled")
def _fizzled(patient: Patient) -> Iterator[Finding]:
    """What failed, and why."""
    number = 0
    for campaign in patient.campaigns:
        for failure in fizzled(patient.launchpad, campaign["_id"]):
            number += 1
            fw_id, reason = failure["fw_id"], failure["reason"]
            again = f"kmde fw lpad{patient.option} rerun_fws -i {fw_id}"
            text = f"firework {fw_id} ({failure['name']}): {reason}"
            if _is_not_its_own(reason):
                yield Finding("problem", text, again, partial(_rerun, patient, fw_id))
            else:
                yield Finding("problem", text, f"mend the cause, then {again}")
    if not number:
        yield Finding("ok", "nothing")


def _is_not_its_own(reason: str) -> bool:
    """Whether a step failed through no fault of its own: its worker was ended, or the database was away."""
    return is_interruption(reason) or reason == "its worker died or was killed" or says_outage(reason)


def _rerun(patient: Patient, fw_id: int) -> str:
    patient.launchpad.rerun_fw(fw_id)
    return f"firework {fw_id} is READY"


@CHECKS.enter("workflows")
def _workflows(patient: Patient) -> Iterator[Finding]:
    """No workflow is half written: a lock of nobody, fireworks outside of every workflow, children not told."""
    found = False
    for name in patient.unfinished:
        for text in halfway(patient.launchpad, name):
            found = True
            yield Finding(
                "problem",
                f"campaign {name}: {text}",
                f"kmde doctor --fix{patient.option}",
                partial(_tidy, patient, name),
            )
    if not found:
        yield Finding("ok", "whole")


def _tidy(patient: Patient, campaign: str) -> str:
    tidy(patient.launchpad, campaign)
    return f"campaign {campaign}: tidied"


@CHECKS.enter("run directories")
def _directories(patient: Patient) -> Iterator[Finding]:
    """Run directories and documents belong together; no POTCAR is left."""
    known, gone = _run_directories(patient)
    for label in gone[:NAMED]:
        yield Finding(
            "note",
            f"label {label['_id'][:12]} says {label['run_directory']}, which is not there any more: the label is "
            "whole, its files are not",
            "nothing, or a copy from your archive",
        )
    left = 0
    for directory in _left_behind(patient, known):
        left += 1
        potcars = [path for path in directory.rglob("POTCAR*") if path.is_file()]
        if potcars:
            yield Finding(
                "problem",
                f"{directory}: a killed run left its POTCAR",
                f"kmde doctor --fix{patient.option}",
                partial(_clean, directory),
            )
        else:
            yield Finding("note", f"{directory}: of a run without a label", f"rm -r {directory}")
    if not left and not gone:
        yield Finding("ok", f"{len(known)} of labels, none without one")


def _clean(directory: Path) -> str:
    from kmde_fw.reference.vasp.directories import remove_potcars

    return f"deleted {', '.join(str(path) for path in remove_potcars(directory))}"


def _run_directories(patient: Patient) -> tuple[set[Path], list[Document]]:
    """Those that labels name, and labels made on this host whose directory is gone."""
    labels = patient.store.find("labels", fields=("run_directory", "host"))
    named = [label for label in labels if label.get("run_directory")]
    here = [label for label in named if label["host"] == socket.gethostname()]
    return {Path(d["run_directory"]) for d in named}, [d for d in here if not Path(d["run_directory"]).exists()]


def _left_behind(patient: Patient, known: set[Path]) -> Iterator[Path]:
    """Run directories of this database that no label names, and in which nobody works."""
    mark = content_hash([patient.store.address, patient.store.name])[:8]
    for root in _roots(patient):
        for directory in sorted(root.glob(f"*-{mark}.run-*")):
            at_work = directory in known or working_in(directory) or _is_running(patient, directory.name)
            if directory.is_dir() and not at_work:
                yield directory


def _roots(patient: Patient) -> list[Path]:
    """Folders of run directories: the scratch of each campaign for each worker here, and where labels were launched."""
    roots: set[Path] = set()
    for campaign in patient.campaigns:
        reference = parse_campaign(campaign["config"], source=f"campaign {campaign['_id']}").reference
        if not isinstance(reference, VaspReference):
            continue
        for worker in patient.workers.values():
            try:
                roots.add(Path(resolve(reference.scratch or "", worker.env, "reference.scratch")).expanduser())
            except KmdeError:
                continue  # a worker that takes no labels
        query = {"spec.kmde.campaign": campaign["_id"], "spec.kmde.step": "Label"}
        ids = [d["fw_id"] for d in patient.launchpad.fireworks.find(query, {"fw_id": 1})]
        launches = patient.launchpad.launches.find({"fw_id": {"$in": ids}}, {"launch_dir": 1})
        roots.update(Path(launch["launch_dir"]) for launch in launches)
    return sorted(root for root in roots if root != Path() and root.is_dir())


def _is_running(patient: Patient, name: str) -> bool:
    """Whether the label of a run directory, CAMPAIGN-CYCLE-SLOT-ATTEMPT-..., is being made, perhaps on another host."""
    query = {**patient.query, "state": "RUNNING", "spec.kmde.step": "Label"}
    for document in patient.launchpad.fireworks.find(query, {"spec.kmde": 1}):
        kmde = document["spec"]["kmde"]
        if name.startswith(f"{kmde['campaign']}-{kmde['cycle']:03d}-"):
            return True
    return False


def _workers(patient: Patient) -> dict[str, FWorker]:
    """Known workers by name: of files here, of launches of the last day, and those of `kmde run` that are at work."""
    found = dict(patient.workers)
    fields = {"fworker": 1, "state": 1, "state_history": 1}
    recent = patient.launchpad.launches.find({}, fields).sort("launch_id", -1)
    for launch in recent.limit(LAUNCHES):
        fworker = launch.get("fworker")
        if not fworker or age(last_heard(launch)) > RECENT:
            continue
        key = fworker["name"]
        of_run = key.split()[:1] == ["kmde"] and len(key.split()) == 3
        if of_run and launch["state"] != "RUNNING" and age(last_heard(launch)) > BETWEEN:
            continue  # it ended with its `kmde run`
        found.setdefault(key, FWorker(fworker["name"], fworker["category"], json.loads(fworker["query"])))
    return found


def _serves(worker: FWorker, category: str, campaign: str) -> bool:
    """Whether a worker takes steps of this category and campaign; one of `kmde run` only takes its campaign."""
    only = worker.query.get("spec.kmde.campaign")
    return _takes(worker.category, category) and (not isinstance(only, str) or only == campaign)


def _takes(worker: Any, category: str) -> bool:
    """Whether a worker of this `category` (text, several, or '' for all) takes steps of that one."""
    if isinstance(worker, list | tuple):
        return category in worker
    return worker in ("", None, category) or (worker == "__none__" and not category)
