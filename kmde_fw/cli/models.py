"""A model that a person names: a file, or one in the database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kmde_fw.errors import ModelError, StoreError

if TYPE_CHECKING:
    from kmde_fw.core.certificate import Certificate
    from kmde_fw.hdnnp.model import Hdnnp


@dataclass(frozen=True, eq=False)
class Found:
    """A model that was named.

    model: ready to predict; data: its file's bytes; name: for people; key: its _id in the database, None for a file;
    certificate: None where nothing but the model is known.
    """

    model: Hdnnp
    data: bytes
    name: str
    key: str | None
    certificate: Certificate | None


def find_model(name: str, launchpad: Path | None = None, cycle: int | None = None, number: int | None = None) -> Found:
    """The model that `name` means.

    name: the path of a model file, or of a folder of `kmde export --format ase`; a campaign (its last closed cycle, or
    `cycle`; its first model, or `number`); CAMPAIGN/CYCLE[/NUMBER]; or the beginning of a model's id. ModelError or
    StoreError, a sentence, if there is none, or if a certificate beside a file belongs to another model.
    """
    from kmde_fw.core.certificate import read_certificate
    from kmde_fw.hdnnp.calculator import MODEL_NAME, certificate_beside, ranges_of
    from kmde_fw.hdnnp.model_file import from_bytes, read_bytes

    path = Path(name)
    if path.is_file() or path.suffix == ".safetensors" or (path / MODEL_NAME).is_file():
        if cycle is not None or number is not None:
            raise ModelError(f"{name} is a file: --cycle and --number choose among the models of a campaign")
        path, beside = certificate_beside(path)
        data = read_bytes(path)
        certificate = None if beside is None else read_certificate(beside)
        if certificate is not None:
            certificate.check(data, str(beside))
        return Found(from_bytes(data, name), data, name, None, certificate)

    from kmde_fw.report.certificate import certificate_of
    from kmde_fw.store import Store, queries, read_launchpad

    with Store.open(read_launchpad(launchpad)) as store:
        if store.get("campaigns", name) is not None:
            cycle = queries.last_cycle(store, name) if cycle is None else cycle
            name = f"{name}/{cycle}/{number or 1}"
        elif cycle is not None or number is not None:
            raise StoreError(f"{name!r} is no campaign of database {store.name}: --cycle and --number go with one")
        key = queries.resolve_model(store, name)
        document = store.get("models", key)
        if document is None:
            raise StoreError(f"model {key} is not in database {store.name} any more")
        data = store.get_blob(document["weights"]["sha256"])
        model = from_bytes(data, f"model {key[:12]}")
        certificate = certificate_of(store, key, ranges_of(model), list(model.symmetry_functions.keys))
    return Found(model, data, f"model {key[:12]}, seed {document['seed']}", key, certificate)
