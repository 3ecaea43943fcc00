"""Evaluate: how the cycle's models do on the train set, on further labelled sets and, if it has labels, the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.core.categories import force_errors_by_category, places, pool_categories, rarest_element
from kmde_fw.core.cost import relative_cost
from kmde_fw.firetasks.base import CampaignView, CycleTask
from kmde_fw.firetasks.train import model_key
from kmde_fw.records import Labelled, Structure, cycle_key

if TYPE_CHECKING:
    from kmde_fw.hdnnp.model import Hdnnp

#: force components that are stored with an evaluation, for a parity plot
FORCE_SAMPLE = 800


@explicit_serialize
class Evaluate(CycleTask):
    """Load the models, predict the target, store energies per structure, errors, and the cost of the labels so far.

    The labels of the target and of the sets in `evaluate` serve these errors alone; nothing that chooses a structure
    reads them. reused: models that another campaign had trained. changes: how far the predictions for the target moved
    since the cycle before, which needs no label. categories: force errors on the target by distance
    to the dopant (null where there is none), of all models together. force_parity: a sample of force components of the
    first model. cost: of the surrogates, in train cells.
    """

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        label_ids, train = view.train_set()
        ids = [model_key(view, label_ids, seed) for seed in view.settings.training.seeds]
        models = [load_model(view, model_id) for model_id in ids]
        n_initial = len(view.document["train_labels"])
        target, labels = view.target(), view.target_labels()
        further = view.evaluate_sets()
        dopant = view.settings.dopant or rarest_element(target)
        place = [places(s, dopant) for s in target] if dopant and labels else None
        rows: list[dict[str, Any]] = []
        parity = None
        predicted: list[tuple[np.ndarray, list[np.ndarray]]] = []
        for k, (model_id, model) in enumerate(zip(ids, models, strict=True)):
            energies, forces, outlier = _predict(model, target, view.settings.analysis.outlier_tolerance)
            predicted.append((energies, forces))
            row: dict[str, Any] = {
                "model": model_id,
                "target_energies": [float(e) for e in energies],
                "train": _errors_on(model, train),
                "target": _errors(energies, forces, labels) if labels else None,
                "evaluate": {name: _errors_on(model, data) for name, data in further.items()},
                "categories": None,
            }
            if labels and k == 0:
                parity = _sample(forces, [d.forces for d in labels])
            if labels and place:
                row["categories"] = force_errors_by_category(forces, [d.forces for d in labels], place, outlier)
            rows.append(row)
            view.progress(k + 1, len(ids), "models")
        view.store.insert_once(
            "evaluations",
            {
                "_id": cycle_key(view.name, view.cycle),
                "campaign": view.name,
                "cycle": view.cycle,
                "models": ids,
                "reused": _reused(view, ids),
                "rows": rows,
                "metrics": _over_models(rows),
                "changes": _changes(view, ids, predicted, target),
                "force_parity": parity,
                "dopant": dopant,
                "categories": pool_categories([row["categories"] for row in rows]) if place else None,
                "cost": relative_cost(
                    [d.structure.species for d in train[n_initial:]], [d.structure.species for d in train[:n_initial]]
                ),
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


def _changes(
    view: CampaignView, ids: list[str], now: list[tuple[np.ndarray, list[np.ndarray]]], target: list[Structure]
) -> dict[str, float] | None:
    """Root mean square change of what this cycle's models predict for the target, against those of the cycle before.

    energy: meV/atom; forces: eV/Å; over structures and models, seed by seed. None in the first cycle, and where no
    label was added: the models are the same.
    """
    from kmde_fw.hdnnp.metrics import energy_errors, force_rmse

    before = view.required("evaluations", view.cycle - 1)["models"] if view.cycle else ids
    if before == ids:
        return None
    n_atoms = np.array([len(structure) for structure in target])
    energy, forces = [], []
    for model_id, (energies_now, forces_now) in zip(before, now, strict=True):
        energies_then, forces_then, _ = _predict(load_model(view, model_id), target, 0.0)
        energy.append(energy_errors(energies_now, energies_then, n_atoms).rmse)
        forces.append(force_rmse(forces_now, forces_then))
    return {"energy": float(np.sqrt(np.mean(np.square(energy)))), "forces": float(np.sqrt(np.mean(np.square(forces))))}


def _sample(predicted: list[np.ndarray], reference: list[np.ndarray]) -> dict[str, list[float]]:
    """Force components in eV/Å, predicted and reference, FORCE_SAMPLE of them at most, evenly over all: for a plot."""
    pair = [np.concatenate([f.ravel() for f in forces]) for forces in (predicted, reference)]
    chosen = np.unique(np.linspace(0, len(pair[0]) - 1, FORCE_SAMPLE).astype(int))
    return {"predicted": pair[0][chosen].tolist(), "reference": pair[1][chosen].tolist()}


def _reused(view: CampaignView, ids: list[str]) -> list[str]:
    """Those models that were trained for another campaign."""
    documents = view.store.find("models", {"_id": {"$in": ids}}, fields=["made_for"])
    foreign = {document["_id"] for document in documents if document["made_for"]["campaign"] != view.name}
    return [model_id for model_id in ids if model_id in foreign]


def _predict(
    model: Hdnnp, structures: list[Structure], tolerance: float
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Energies (n_structures,), forces and whether an atom leaves the model's range, of each structure."""
    energies, forces, outside = [], [], []
    for structure in structures:
        prediction = model.predict(structure)  # not kept: its features are twenty times as many numbers as the forces
        energies.append(prediction.energy)
        forces.append(prediction.forces)
        outside.append(model.extrapolating(prediction.features, prediction.species, tolerance))
    return np.array(energies), forces, outside


def _errors_on(model: Hdnnp, data: list[Labelled]) -> dict[str, float]:
    energies, forces, _ = _predict(model, [d.structure for d in data], 0.0)
    return _errors(energies, forces, data)


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
    """Mean and standard deviation over the models of each error, for each set."""
    metrics: dict[str, Any] = {part: _mean_and_std([row[part] for row in rows]) for part in ("train", "target")}
    names = rows[0]["evaluate"]
    return {**metrics, "evaluate": {name: _mean_and_std([row["evaluate"][name] for row in rows]) for name in names}}


def _mean_and_std(errors: list[dict[str, float] | None]) -> dict[str, dict[str, float]]:
    known = [error for error in errors if error is not None]
    return {
        key: {"mean": float(np.mean([e[key] for e in known])), "std": float(np.std([e[key] for e in known]))}
        for key in (known[0] if known else {})
    }
