"""Read a campaign file and everything that it names, and check all of it before anything is written anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kmde_fw.config import AseReference, Campaign, campaign_path, load_campaign
from kmde_fw.core.candidates import CandidatePool
from kmde_fw.core.cost import relative_cost
from kmde_fw.core.motifs import find_strategy
from kmde_fw.core.parents import derive_parents, same_crystal
from kmde_fw.errors import InputError, KmdeError
from kmde_fw.inputs import find_elements, read_labelled, read_structures, read_target
from kmde_fw.records import Labelled, Structure, content_hash
from kmde_fw.reference import Engine, describe_level, make_engine
from kmde_fw.units import figures


@dataclass(frozen=True)
class Prepared:
    """A campaign that can be submitted: every file read, every structure checked.

    target_labels is None unless every target structure has energy and forces. parents: those of the files, then
    n_derived that were derived from target and train structures. remarks: sentences that a user should
    read before going on, none of them an error.
    """

    settings: Campaign
    elements: tuple[str, ...]
    train: list[Labelled]
    target: list[Structure]
    target_labels: list[Labelled] | None
    parents: list[Structure]
    n_derived: int
    evaluate: dict[str, list[Labelled]]
    level: dict[str, Any]
    level_key: str
    remarks: list[str]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, every option with its value, as plain types."""
        return self.settings.model_dump(mode="json")

    @property
    def config_hash(self) -> str:
        """Identity of the campaign: its options and the content of its files, not the files' names or places."""
        config = {
            k: v
            for k, v in self.config.items()
            if k not in ("name", "description", "train", "target", "parents", "evaluate")
        }
        return content_hash(
            {
                "config": config,
                "elements": self.elements,
                "train": [(d.structure.id, repr(float(d.energy))) for d in self.train],
                "target": [s.id for s in self.target],
                # what is derived follows from the rest, up to the last digits of one machine and another
                "parents": [s.id for s in self.parents[: len(self.parents) - self.n_derived]],
                "evaluate": {
                    name: [(d.structure.id, repr(float(d.energy))) for d in data]
                    for name, data in self.evaluate.items()
                },
                "level": self.level_key,
            }
        )


def prepare(path: Path) -> Prepared:
    """Read the campaign file at `path` (or the one that a workflow file there names) and the structures it names.

    Paths in the campaign file are relative to its folder. Raises ConfigError or InputError, one line per mistake.
    """
    return prepare_settings(load_campaign(path), campaign_path(path).resolve().parent, str(path))


def prepare_settings(settings: Campaign, folder: Path, path: str) -> Prepared:
    """Read the structures that a campaign names, in `folder`. `path` begins the errors that are the file's own."""
    _named(path, lambda: _check_what_is_named(settings))

    allowed = settings.elements
    mistakes: list[str] = []

    def read(reader: Callable[..., list[Any]], names: tuple[str, ...]) -> list[Any]:
        """All mistakes of all files are worth knowing at once."""
        try:
            return reader([folder / name for name in names], elements=allowed)
        except InputError as error:
            mistakes.append(str(error))
            return []

    train: list[Labelled] = read(read_labelled, settings.train)
    pairs: list[tuple[Structure, Labelled | None]] = read(read_target, settings.target)
    parents: list[Structure] = read(read_structures, settings.parents)
    further: dict[str, list[Labelled]] = {name: read(read_labelled, files) for name, files in settings.evaluate.items()}
    if mistakes:
        raise InputError("\n".join(mistakes))
    target = [structure for structure, _ in pairs]
    labels = [label for _, label in pairs if label is not None]
    found = find_elements([*(d.structure for d in train), *target, *parents])
    elements = tuple(sorted(allowed)) if allowed else found
    _check_evaluate(path, further, elements)
    _check_near(path, settings, elements)
    engine = _named(path, lambda: make_engine(settings.reference, elements))
    level, level_key = _named(path, lambda: (engine.level, engine.level_key))
    train = _at_level(path, "train", train, engine)
    labels = _at_level(path, "target", labels, engine)
    further = {name: _at_level(path, f"evaluate.{name}", data, engine) for name, data in further.items()}

    derived, derived_remarks = _derive(settings, target, [d.structure for d in train], parents)
    parents = [*parents, *derived]
    by_id = {structure.id: structure for structure in parents}
    _named(path, lambda: CandidatePool(elements, settings.design, by_id, seed=settings.seed))
    remarks = [*_remarks(elements, train, target, labels), *derived_remarks]
    remarks += _cost_remarks(settings, parents, train)
    return Prepared(
        settings=settings,
        elements=elements,
        train=train,
        target=target,
        target_labels=labels if len(labels) == len(target) else None,
        parents=parents,
        n_derived=len(derived),
        evaluate=further,
        level=level,
        level_key=level_key,
        remarks=remarks,
    )


def read_settings(path: Path) -> tuple[Campaign, tuple[str, ...]]:
    """A campaign file and the campaign's elements, those of its files where it does not name them."""
    settings = load_campaign(path)
    if settings.elements is not None:
        return settings, tuple(sorted(settings.elements))
    folder = campaign_path(path).resolve().parent
    files = [folder / name for name in (*settings.train, *settings.target, *settings.parents)]
    return settings, find_elements(read_structures(files))


def _derive(
    settings: Campaign, target: list[Structure], train: list[Structure], parents: list[Structure]
) -> tuple[list[Structure], list[str]]:
    """Parents that target and train structures are made of and no file gives, and what to say of it."""
    design = settings.design
    if not design.derive_parents:
        return [], []
    from_target = derive_parents(target, design.max_atoms, "target")
    new: list[Structure] = [s for s in from_target if not any(same_crystal(s, known) for known in parents)]
    for structure in derive_parents(train, design.max_atoms, "train set"):
        if not any(same_crystal(structure, known) for known in [*parents, *from_target]):
            new.append(structure)
    if from_target:
        return new, []
    others = " and the other parents" if parents or new else ""
    return new, [
        "no parent could be derived from the target (its structures are no doped, displaced supercells of a crystal of "
        f"at most design.max_atoms = {design.max_atoms} atoms): candidates come from prototypes{others}"
    ]


def _at_level(path: str, where: str, data: list[Labelled], engine: Engine) -> list[Labelled]:
    """The labels, those of VASP runs with the reference's level_key. InputError where one says that it is of another.

    Levels never mix. A label that says nothing is trusted.
    """
    level_key = engine.level_key
    found: list[Labelled] = []
    #: a file of VASP has one level for all its ionic steps
    files: dict[str, list[str]] = {}
    wrong: list[str] = []
    for label in data:
        name = label.vasp.get("file") or label.structure.name
        if not label.vasp or label.level_key == level_key:
            found.append(label)
            continue
        if str(engine.level.get("calculator")).startswith("ase.calculators.vasp"):
            # its arguments are no INCAR to compare with
            found.append(replace(label, level_key=""))
            continue
        if name not in files or "file" not in label.vasp:
            files[name] = _vasp_differences(label, engine)
            wrong += [f"{name}: {reason}" for reason in files[name]]
        found.append(label if files[name] else replace(label, level_key=level_key))
    if wrong:
        instead = "or name POSCARs or CONTCARs: a target needs no labels"
        if where != "target":
            instead = "or label their structures with the reference"
            if engine.level["engine"] == "vasp":
                command = f"kmde import RUNDIR... --for {path} --allow TAGS -o FILE.extxyz"
                instead = f"or, where the difference is meant, put in the file that `{command}` writes"
        raise InputError(
            f"{path}: labels of {where} have another level of theory than the reference, and two levels never mix; "
            f"take them out, {instead}:\n" + "\n".join(_some(wrong))
        )
    _check_keys(path, where, found, level_key)
    return found


def _vasp_differences(label: Labelled, engine: Engine) -> list[str]:
    """Why a label of a VASP run is of another level than the reference, in sentences; empty where it is not."""
    if engine.level["engine"] != "vasp":
        return [f"it is a VASP run, the reference is {describe_level(engine.level)}"]
    from kmde_fw.reference.vasp import VaspEngine
    from kmde_fw.reference.vasp.imports import differences_of

    assert isinstance(engine, VaspEngine)
    return differences_of(label, engine)


def _some(lines: list[str], most: int = 10) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more"]


def _check_keys(path: str, where: str, data: list[Labelled], level_key: str) -> None:
    """Labels that carry the key of a level of theory must carry the reference's."""
    other = [d for d in data if d.level_key not in ("", level_key)]
    if other:
        raise InputError(
            f"{path}: {len(other)} of {len(data)} labels of {where} ({other[0].structure.name}, ...) have another "
            f"level of theory (key {other[0].level_key[:12]}) than the reference (key {level_key[:12]}), and "
            f"two levels never mix; `kmde import --for {path}` of their run directories says what differs, "
            "and with --allow TAGS accepts what is meant"
        )


def _check_what_is_named(settings: Campaign) -> None:
    """The strategy and the calculator exist, and the calculator takes its arguments; ASE's own are cheap to try."""
    find_strategy(settings.design.strategy)
    if isinstance(settings.reference, AseReference):
        engine = make_engine(settings.reference)
        if engine.calculator_path.startswith("ase."):
            _ = engine.calculator


def _check_evaluate(path: str, sets: dict[str, list[Labelled]], elements: tuple[str, ...]) -> None:
    """Sets that only serve errors do not decide which elements a model knows."""
    for name, data in sets.items():
        foreign = sorted({e for d in data for e in d.structure.species} - set(elements))
        if foreign:
            raise InputError(
                f"{path}: evaluate.{name} contains {', '.join(foreign)}, but train, target and parents have only "
                f"{', '.join(elements)}; name it in `elements` or take those structures out"
            )


def _check_near(path: str, settings: Campaign, elements: tuple[str, ...]) -> None:
    """An element that is nowhere would weight nothing."""
    near = settings.training.force_weight_near
    if near is not None and near.element not in elements:
        raise InputError(
            f"{path}: training.force_weight_near.element is {near.element}, but train, target and parents have only "
            f"{', '.join(elements)}; name one of these, or take force_weight_near out"
        )


def _named(path: str, check: Callable[[], Any]) -> Any:
    """What `check` returns; its errors begin with the campaign file's name."""
    try:
        return check()
    except KmdeError as error:
        raise type(error)(f"{path}: {error}") from None


def _cost_remarks(settings: Campaign, parents: list[Structure], train: list[Labelled]) -> list[str]:
    """That the budget pays for none of the parents, which are worth more than all other candidates."""
    limit = settings.stop.max_cost
    if limit is None or not parents:
        return []
    unit = [labelled.structure.species for labelled in train]
    cheapest = min(relative_cost([parent.species], unit) for parent in parents)
    if cheapest <= limit:
        return []
    return [
        f"stop.max_cost ({limit:g} train cells) pays for none of the parents, of which the smallest costs "
        f"{figures(cheapest, 2)}: candidates come from prototypes"
    ]


def _remarks(
    elements: tuple[str, ...],
    train: list[Labelled],
    target: list[Structure],
    labels: list[Labelled],
) -> list[str]:
    remarks = []
    untold = sum(not labelled.level_key for labelled in train)
    if untold:
        remarks.append(
            f"{untold} of {len(train)} labels of train do not say of what level of theory they are: they are taken to "
            "be of the reference's"
        )
    trained = {element for labelled in train for element in labelled.structure.species}
    for element in sorted({e for s in target for e in s.species} - trained):
        remarks.append(
            f"the target contains {element} and the train set does not: all its {element} atoms count as outliers "
            "until a surrogate brings that element in"
        )
    for element in sorted(set(elements) - trained - {e for s in target for e in s.species}):
        remarks.append(f"no structure contains {element}; surrogates may, because `elements` names it")
    if labels and len(labels) < len(target):
        remarks.append(
            f"{len(labels)} of {len(target)} target structures have energy and forces: errors on the target are shown "
            "only if all have"
        )
    return remarks
