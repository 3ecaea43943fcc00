"""A model's lineage as files, and training again from them alone: no database, no reference calculation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError, model_validator

from kmde_fw.config import Descriptor, Network, PlainLoader, Training
from kmde_fw.errors import InputError
from kmde_fw.files import extxyz_frame
from kmde_fw.records import Labelled, Structure
from kmde_fw.store.migrations import models_3
from kmde_fw.versions import versions

if TYPE_CHECKING:
    from kmde_fw.hdnnp.model import Hdnnp

#: the files of a lineage
RECORD, DATA, MODEL = "lineage.yaml", "train.extxyz", "model.safetensors"


class _Row(BaseModel):
    structure_id: str


class _Weights(BaseModel):
    sha256: str


class _Model(BaseModel):
    elements: tuple[str, ...]
    descriptor: Descriptor
    network: Network
    training: Training
    seed: int
    always_train: list[str] | None
    versions: dict[str, Any]
    weights: _Weights

    @model_validator(mode="before")
    @classmethod
    def _as_it_was(cls, model: Any) -> Any:
        """Lineages of schema version 2 do not say how first layers were trained."""
        return models_3(model) if isinstance(model, dict) and isinstance(model.get("training"), dict) else model


class _Record(BaseModel):
    """Of RECORD, what training again needs."""

    model: _Model
    train: list[_Row]


def export(record: Mapping[str, Any], data: Sequence[Labelled], weights: bytes, folder: Path) -> None:
    """Write a lineage (of `queries.lineage`) with its train set and its model. InputError if that is not possible."""
    head = (
        "# Where a model comes from: every structure of its train set and why it is there, settings, seed, versions.\n"
        f"# {DATA}: structures with energy (eV), forces (eV/Å), in the order of training, to the last bit.\n"
        f"# {MODEL}: the model. `kmde retrain FOLDER` trains it again from these files and compares.\n"
    )
    text = head + yaml.safe_dump(_plain(record), sort_keys=False, allow_unicode=True, width=120)
    rows = zip(record["train"], data, strict=True)
    frames = "".join(_frame(row, labelled) for row, labelled in rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_text(text, encoding="utf-8")
        (folder / DATA).write_text(frames, encoding="utf-8")
        (folder / MODEL).write_bytes(weights)
    except OSError as error:
        raise InputError(f"cannot write the lineage into {folder}: {error.strerror}; give another folder") from None


def _frame(row: Mapping[str, Any], labelled: Labelled) -> str:
    """One structure of the train set, with where it comes from."""
    info = {"structure_id": labelled.structure.id, "label_id": row["label_id"], "origin": row["origin"]["kind"]}
    return extxyz_frame(labelled, info)


@dataclass(frozen=True)
class Comparison:
    """A model trained again beside the one of the lineage.

    identical: every byte is the same; weights: largest difference of a weight; energy: of an energy per atom of the
    train set, meV/atom; force: of a force component, eV/Å; versions: what differs from the time of training, as
    name -> [then, now]; sha256: of the model of the lineage, and of the one trained now; seconds: of the training.
    """

    identical: bool
    weights: float
    energy: float
    force: float
    versions: dict[str, list[Any]]
    sha256: list[str]
    seconds: float


def retrain(folder: Path, progress: Any = None) -> tuple[Comparison, bytes]:
    """Train the model of an exported lineage again, and compare. Also returns the new model's bytes.

    Raises InputError if a file is missing or was changed.
    """
    from kmde_fw.hdnnp.model_file import from_bytes, to_bytes
    from kmde_fw.hdnnp.training import train

    record, data, weights = _read(folder)
    model = record.model
    if model.always_train is None:
        raise InputError(
            f"{folder}: the model is of an older kmde_fw, which did not note what it could hold out for validation: it "
            "cannot be trained again as it was"
        )
    begin = time.monotonic()
    again, _ = train(
        data,
        model.elements,
        model.descriptor,
        model.network,
        model.training,
        model.seed,
        always_train=model.always_train,
        progress=progress,
    )
    seconds = time.monotonic() - begin
    new = to_bytes(again)
    energy, force = _differences(from_bytes(weights, str(folder / MODEL)), again, data)
    then, now = model.versions, versions()
    return (
        Comparison(
            identical=new == weights,
            weights=float(np.abs(from_bytes(weights).weights - again.weights).max()),
            energy=energy,
            force=force,
            versions={n: [then.get(n), now.get(n)] for n in sorted({*then, *now}) if then.get(n) != now.get(n)},
            sha256=[hashlib.sha256(weights).hexdigest(), hashlib.sha256(new).hexdigest()],
            seconds=seconds,
        ),
        new,
    )


def _differences(old: Hdnnp, new: Hdnnp, data: Sequence[Labelled]) -> tuple[float, float]:
    """Largest difference of an energy (meV/atom) and of a force component (eV/Å) on the train set."""
    energy = force = 0.0
    for labelled in data:
        before, after = old.predict(labelled.structure), new.predict(labelled.structure)
        energy = max(energy, 1000 * abs(before.energy - after.energy) / len(labelled.structure))
        force = max(force, float(np.abs(before.forces - after.forces).max()))
    return energy, force


def _read(folder: Path) -> tuple[_Record, list[Labelled], bytes]:
    """Record, train set and model of an exported lineage, checked against the ids and the hash in the record."""
    import ase.io

    try:
        record = _Record.model_validate(yaml.load((folder / RECORD).read_text(encoding="utf-8"), PlainLoader))
        weights = (folder / MODEL).read_bytes()
        frames = ase.io.read(folder / DATA, index=":", format="extxyz")
    except OSError as error:
        raise InputError(
            f"cannot read {error.filename}: {error.strerror}; `kmde lineage MODEL --export {folder}` writes a lineage"
        ) from None
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"])) or "all of it"
        raise InputError(
            f"{folder / RECORD} is no lineage of kmde_fw: {where}: {wrong['msg']}; export it again"
        ) from None
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{folder} is no lineage of kmde_fw: {error}; export it again") from None
    rows = record.train
    if len(rows) != len(frames):
        raise InputError(f"{folder / DATA} has {len(frames)} structures, the lineage {len(rows)}; export it again")
    data = []
    for number, (row, atoms) in enumerate(zip(rows, frames, strict=True)):
        try:
            labelled = Labelled(Structure.from_atoms(atoms), float(atoms.get_potential_energy()), atoms.get_forces())
        except (RuntimeError, NotImplementedError):
            raise InputError(
                f"{folder / DATA}: structure {number} has no energy or no forces; export it again"
            ) from None
        if labelled.structure.id != row.structure_id:
            raise InputError(f"{folder / DATA}: structure {number} is not the one of the lineage; export it again")
        data.append(labelled)
    if hashlib.sha256(weights).hexdigest() != record.model.weights.sha256:
        raise InputError(f"{folder / MODEL} is not the model of the lineage: its sha256 differs; export it again")
    return record, data, weights


def _plain(value: Any) -> Any:
    """Without what YAML's safe form does not know: GridFS ids as text."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
