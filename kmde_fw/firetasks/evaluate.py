"""Evaluate: how the cycle's models do on the train set and, where it has labels, on the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.firetasks.base import CampaignView, CycleTask
from kmde_fw.firetasks.train import model_key
from kmde_fw.records import Labelled, Structure, cycle_key

if TYPE_CHECKING:
    from kmde_fw.hdnnp.model import Hdnnp


@explicit_serialize
class Evaluate(CycleTask):
    """Load the models, predict the target, store energies per structure and errors.

    The target's labels serve these errors alone; nothing that chooses a structure reads this document.
    """

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        label_ids, train = view.train_set()
        ids = [model_key(view, label_ids, seed) for seed in view.settings.training.seeds]
        models = [load_model(view, model_id) for model_id in ids]
        target, labels = view.target(), view.target_labels()
        rows: list[dict[str, Any]] = []
        for k, (model_id, model) in enumerate(zip(ids, models, strict=True)):
            energies, forces = _predict(model, target)
            row = {
                "model": model_id,
                "target_energies": [float(e) for e in energies],
                "train": _errors(*_predict(model, [d.structure for d in train]), train),
                "target": _errors(energies, forces, labels) if labels else None,
            }
            rows.append(row)
            view.progress(k + 1, len(ids), "models")
        view.store.insert_once(
            "evaluations",
            {
                "_id": cycle_key(view.name, view.cycle),
                "campaign": view.name,
                "cycle": view.cycle,
                "models": ids,
                "rows": rows,
                "metrics": _over_models(rows),
                "seconds": view.seconds,
            },
        )
        return None


def load_model(view: CampaignView, model_id: str) -> Hdnnp:
    """The model of that id, its weights checked against their sha256."""
    from kmde_fw.errors import StoreError
    from kmde_fw.hdnnp.model_file import from_bytes

    document = view.store.get("models", model_id)
    if document is None:
        raise StoreError(f"no model {model_id} in the database: its Train firework has not finished")
    return from_bytes(view.store.get_blob(document["weights"]["sha256"]))


def _predict(model: Hdnnp, structures: list[Structure]) -> tuple[np.ndarray, list[np.ndarray]]:
    energies, forces = [], []
    for structure in structures:
        prediction = model.predict(structure)  # not kept: its features are twenty times as many numbers as the forces
        energies.append(prediction.energy)
        forces.append(prediction.forces)
    return np.array(energies), forces


def _errors(energies: np.ndarray, forces: list[np.ndarray], labels: list[Labelled]) -> dict[str, float]:
    """Energy RMSE, bias and scatter in meV/atom, force RMSE in eV/Å, T(3.2)-(3.3)."""
    from kmde_fw.hdnnp.metrics import energy_errors, force_rmse

    reference = np.array([d.energy for d in labels])
    n_atoms = np.array([len(d.structure) for d in labels])
    errors = energy_errors(energies, reference, n_atoms)
    return {
        "energy_rmse": errors.rmse,
        "energy_bias": errors.bias,
        "energy_scatter": errors.scatter,
        "force_rmse": force_rmse(forces, [d.forces for d in labels]),
    }


def _over_models(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the models of each error, for the train set and for the target."""
    metrics: dict[str, Any] = {}
    for part in ("train", "target"):
        errors = [row[part] for row in rows if row[part] is not None]
        metrics[part] = {
            key: {"mean": float(np.mean([e[key] for e in errors])), "std": float(np.std([e[key] for e in errors]))}
            for key in (errors[0] if errors else {})
        }
    return metrics
