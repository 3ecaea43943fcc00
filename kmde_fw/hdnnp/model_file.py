"""Model files: safetensors, the arrays as tensors and everything else as JSON in the header. No pickles."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from kmde_fw.config import Descriptor
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.model import Hdnnp
from kmde_fw.hdnnp.network import n_parameters

#: version of the file's form
FILE_VERSION = 1
#: the one entry of the safetensors metadata, a JSON object (with several, safetensors would not keep their order)
METADATA_KEY = "kmde_fw_hdnnp"
UNITS = {"length": "Å", "energy": "eV", "force": "eV/Å", "stress": "eV/Å³"}
#: the arrays of Hdnnp that a file holds
ARRAYS = ("weights", "center", "scale", "offsets", "minimum", "maximum")


def to_bytes(model: Hdnnp) -> bytes:
    """The whole model; the same model gives the same bytes."""
    metadata = {
        "version": FILE_VERSION,
        "units": UNITS,
        "elements": list(model.elements),
        "descriptor": model.descriptor.model_dump(mode="json"),
        "columns": list(model.symmetry_functions.keys),
        "hidden": list(model.hidden),
        "activation": "tanh",
        "provenance": model.provenance,
    }
    tensors = {name: np.ascontiguousarray(getattr(model, name)) for name in ARRAYS}
    return save_tensors(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True, ensure_ascii=False)})


def from_bytes(data: bytes, source: str = "model") -> Hdnnp:
    """The inverse of `to_bytes`. Raises ModelError (a sentence about `source`) for damaged or foreign data."""
    try:
        tensors = load_tensors(data)
        metadata = _metadata(data)
    except (SafetensorError, ValueError, RecursionError, struct.error) as error:
        raise ModelError(
            f"{source} is damaged or no safetensors file ({error}); fetch or train the model again"
        ) from None
    if metadata is None:
        raise ModelError(f"{source} is a safetensors file, but not a model of kmde_fw; give the path of an HDNNP model")
    if not isinstance(metadata, dict):
        raise ModelError(f"{source} says nothing of the model in it; fetch or train the model again")
    if metadata.get("version") != FILE_VERSION:
        raise ModelError(
            f"{source} has version {metadata.get('version')} of the model file, this kmde_fw reads {FILE_VERSION}; "
            "use the kmde_fw that wrote it, or train again"
        )
    try:
        model = Hdnnp(
            elements=tuple(metadata["elements"]),
            descriptor=Descriptor.model_validate(metadata["descriptor"]),
            hidden=tuple(metadata["hidden"]),
            provenance=metadata["provenance"],
            **{name: tensors[name] for name in ARRAYS},
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise ModelError(f"{source} lacks a part of the model, or has a wrong one: {error}; train again") from None
    _check(model, metadata, source)
    return model


def save(model: Hdnnp, path: Path | str) -> None:
    """Write the model to a file."""
    Path(path).write_bytes(to_bytes(model))


def load(path: Path | str) -> Hdnnp:
    """Read a model from a file. Raises ModelError if that is not possible."""
    return from_bytes(read_bytes(Path(path)), str(path))


def read_bytes(path: Path) -> bytes:
    """What a model file holds. ModelError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from None


def _metadata(data: bytes) -> dict[str, Any] | None:
    """Our entry in the header (8 bytes of length, then JSON), None in a foreign file."""
    (length,) = struct.unpack("<Q", data[:8])
    text = json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(METADATA_KEY)
    return None if text is None else json.loads(text)


def _check(model: Hdnnp, metadata: dict[str, Any], source: str) -> None:
    """Every array has its shape and sense, and the columns mean today what they meant when the model was written."""
    keys = model.symmetry_functions.keys
    if list(keys) != metadata.get("columns"):
        raise ModelError(
            f"{source}: its symmetry functions are not those that this kmde_fw makes of the same settings; "
            "use the kmde_fw that wrote it, or train again"
        )
    table = (len(model.elements), len(keys))
    shapes: dict[str, tuple[int, ...]] = {name: table for name in ("center", "scale", "minimum", "maximum")}
    shapes["weights"] = (n_parameters(*table, model.hidden),)
    shapes["offsets"] = table[:1]
    for name, shape in shapes.items():
        array = getattr(model, name)
        if array.shape != shape or array.dtype != np.float64:
            raise ModelError(
                f"{source}: {name} has shape {array.shape} and type {array.dtype}, not {shape} and float64; train again"
            )
    for name in ("weights", "center", "scale", "offsets"):
        if not np.isfinite(getattr(model, name)).all():
            raise ModelError(f"{source}: {name} holds a value that is not a finite number; train again")
