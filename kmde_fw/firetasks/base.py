"""What every step of a campaign shares: checked parameters, the store, the campaign's documents, progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from fireworks import FiretaskBase, Firework, FWAction

from kmde_fw import __version__
from kmde_fw.config import Campaign, did_you_mean, parse_campaign
from kmde_fw.core.cost import relative_cost
from kmde_fw.errors import ConfigError, StoreError
from kmde_fw.firetasks import counters, locks, pings, upserts
from kmde_fw.records import Labelled, Structure, cycle_key
from kmde_fw.store import Store
from kmde_fw.versions import numbers
from kmde_fw.worker_env import SPEC_KEY

#: seconds between two progress documents of one step
PROGRESS_INTERVAL = 1.0

#: parameters that tell the parallel fireworks of one step apart
SIBLINGS = ("seed", "shard", "slot", "attempt")

#: which machines a step is made for: the `category` of their FWorker
CPU, TRAIN, DFT = "kmde_cpu", "kmde_train", "kmde_dft"

counters.use()
locks.use()
pings.use()
upserts.use()


class KmdeTask(FiretaskBase):
    """A Firetask that works on the database its rocket is connected to.

    FireWorks accepts any parameter of a task read from YAML; here an unknown or missing one is an error.
    """

    #: whether a task is at work in this process: only then may a signal interrupt it (see `kmde work`)
    at_work: ClassVar[bool] = False
    #: why this process is to end, where a signal came while no task was at work: none begins any more
    stopping: ClassVar[str] = ""
    #: what the worker says about itself: `env` of its my_fworker.yaml
    worker_env: Mapping[str, Any] = MappingProxyType({})

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction | None:
        """Check the parameters, open the store, do the step."""
        KmdeTask.at_work = True
        try:
            if KmdeTask.stopping:
                raise SystemExit(KmdeTask.stopping)
            return self._run_task(fw_spec)
        finally:
            KmdeTask.at_work = False

    def _run_task(self, fw_spec: dict[str, Any]) -> FWAction | None:
        known = [*self.required_params, *(self.optional_params or [])]
        given = sorted(key for key in self if not key.startswith("_"))
        for key in given:
            if key not in known:
                hint = did_you_mean(key, known)
                raise ConfigError(f"{type(self).__name__}: unknown parameter {key!r}{hint}; known: {', '.join(known)}")
        for key in self.required_params:
            if key not in self:
                raise ConfigError(f"{type(self).__name__}: parameter {key!r} is missing from the firework's spec")
        launchpad = getattr(self, "launchpad", None)
        if launchpad is None:
            raise ConfigError(
                f"{type(self).__name__} needs the database: put `_add_launchpad_and_fw_id: true` into the spec"
            )
        self.worker_env = fw_spec.get(SPEC_KEY) or {}
        return self.work(Store(launchpad.db), fw_spec)

    def work(self, store: Store, fw_spec: dict[str, Any]) -> FWAction | None:
        """The step itself."""
        raise NotImplementedError


class CycleTask(KmdeTask):
    """A step of one cycle of one campaign."""

    required_params: ClassVar = ["campaign", "cycle"]

    def work(self, store: Store, fw_spec: dict[str, Any]) -> FWAction | None:
        """Load the campaign, do the step."""
        with CampaignView(store, self["campaign"], int(self["cycle"]), self.title) as view:
            return self.step(view)

    @property
    def title(self) -> str:
        """The step's name with what tells it from its siblings: Train seed 1."""
        return " ".join([type(self).__name__, *(f"{key} {value}" for key, value in self.items() if key in SIBLINGS)])

    def step(self, view: CampaignView) -> FWAction | None:
        """The step itself."""
        raise NotImplementedError


class CampaignView:
    """One campaign at one cycle: its settings and the documents that its steps read.

    As a context it shows the step in the `progress` collection while it runs.
    """

    def __init__(self, store: Store, name: str, cycle: int, step: str) -> None:
        document = store.get("campaigns", name)
        if document is None:
            raise StoreError(
                f"no campaign {name!r} in the database; `kmde submit` or a StartCampaign firework puts it there"
            )
        if numbers(document["code_version"]) > numbers(__version__):
            raise StoreError(
                f"campaign {name} was submitted by kmde_fw {document['code_version']}, this worker has the older "
                f"{__version__}: update it there, then rerun this firework"
            )
        self.store = store
        self.document: dict[str, Any] = document
        self.name = name
        self.cycle = cycle
        self.step = step
        self.settings: Campaign = parse_campaign(document["config"], source=f"campaign {name}")
        self.elements: tuple[str, ...] = tuple(document["elements"])
        self._progress_key = cycle_key(name, cycle, step)
        self._last_progress = 0.0

    def __enter__(self) -> CampaignView:
        self.started = time.monotonic()
        # what a killed predecessor left
        self.store.clear_progress(self._progress_key)
        self.store.set_progress(self._progress_key, 0, 0, self.step)
        return self

    def __exit__(self, *_: object) -> None:
        self.store.clear_progress(self._progress_key)

    @property
    def seconds(self) -> float:
        """Wall time since the step began."""
        return time.monotonic() - self.started

    # what the steps read ------------------------------------------------------------------------------------------

    def train_set(self) -> tuple[list[str], list[Labelled]]:
        """Label ids and labelled structures of this cycle's train set: the initial ones, then the surrogates."""
        ids = [*self.document["train_labels"], *(s["label_id"] for s in self.surrogates() if s["label_id"])]
        return ids, self.store.get_labelled(ids)

    def surrogates(self, up_to: int | None = None) -> list[dict[str, Any]]:
        """Outcome documents of all picks up to and including a cycle (default: this one), in order of cycle and slot.

        Each is asked for by its own key: a list with one of them missing would be a train set with one of them missing.
        """
        outcomes: list[dict[str, Any]] = []
        for cycle in range(1, (self.cycle if up_to is None else up_to) + 1):
            accepted = sum(outcome["label_id"] is not None for outcome in outcomes)
            slots = range(self.settings.picks_after(accepted))
            outcomes += [self.required("outcomes", cycle, "label", slot) for slot in slots]
        return outcomes

    def train_cells(self) -> list[tuple[str, ...]]:
        """Symbols of each initial train structure: the unit of costs."""
        return [labelled.structure.species for labelled in self.store.get_labelled(self.document["train_labels"])]

    def spent(self, up_to: int | None = None) -> float:
        """Cost of all labels up to and including a cycle (default: this one), in train cells.

        Calculations that failed have cost as much as others; refused for the reference's domain, they were not made.
        """
        outcomes = self.surrogates(up_to)
        broken = [r["structure_id"] for o in outcomes for r in o["refused"] if r.get("state") != "outside"]
        cells = [d.structure for d in self.store.get_labelled([o["label_id"] for o in outcomes if o["label_id"]])]
        cells += self.store.get_structures(broken)
        return relative_cost([cell.species for cell in cells], self.train_cells())

    def cost_left(self, up_to: int) -> float | None:
        """What `stop.max_cost` leaves after a cycle, in train cells; None: there is no limit."""
        limit = self.settings.stop.max_cost
        return None if limit is None else max(0.0, limit - self.spent(up_to))

    def target(self) -> list[Structure]:
        """The target structures."""
        return self.store.get_structures(self.document["target_structures"])

    def target_labels(self) -> list[Labelled] | None:
        """The target with its labels, or None where it has none. For errors only: never to choose anything."""
        ids = self.document["target_labels"]
        return self.store.get_labelled(ids) if ids else None

    def evaluate_sets(self) -> dict[str, list[Labelled]]:
        """Further labelled sets, by name. For errors only: never to choose anything."""
        return {name: self.store.get_labelled(ids) for name, ids in self.document["evaluate_labels"].items()}

    def parents(self) -> dict[str, Structure]:
        """The parents, by structure id."""
        ids = self.document["parents"]
        return dict(zip(ids, self.store.get_structures(ids), strict=True))

    def required(self, collection: str, cycle: int, *parts: str | int) -> dict[str, Any]:
        """The document of an earlier step. Raises StoreError where that step has not run."""
        key = cycle_key(self.name, cycle, *parts)
        document = self.store.get(collection, key)
        if document is None:
            raise StoreError(f"no document {key!r} in {collection}: the step that writes it has not finished")
        return document

    # what they report ---------------------------------------------------------------------------------------------

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Show how far this step is; at most once per PROGRESS_INTERVAL is anything written."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_INTERVAL:
            self._last_progress = now
            self.store.set_progress(self._progress_key, done, total, f"{self.step} {message}".strip())


def firework(task: CycleTask, category: str, parents: list[Firework] | None = None) -> Firework:
    """One step as one Firework. Its spec holds ids and plain types only."""
    campaign, cycle = task["campaign"], task["cycle"]
    spec = {
        "_category": category,
        "_add_launchpad_and_fw_id": True,
        "kmde": {"campaign": campaign, "cycle": cycle, "step": type(task).__name__},
    }
    return Firework(task, spec=spec, name=f"{campaign} {cycle:03d} {task.title}", parents=parents)


def feature_list(structures: Sequence[Structure], view: CampaignView) -> list[Any]:
    """Symmetry functions of each structure, arrays (n_atoms, n_features)."""
    from kmde_fw.hdnnp.symmetry_functions import SymmetryFunctions

    functions = SymmetryFunctions(view.elements, view.settings.descriptor)
    return [functions.compute(structure).features for structure in structures]


def feature_names(view: CampaignView) -> list[str]:
    """The columns of `feature_list`, such as "G2 Al eta=0.01 rs=0 rc=4"."""
    from kmde_fw.hdnnp.symmetry_functions import SymmetryFunctions

    return list(SymmetryFunctions(view.elements, view.settings.descriptor).keys)
