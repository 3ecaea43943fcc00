"""Train: one HDNNP from scratch on the cycle's train set."""

from typing import Any, ClassVar

from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.firetasks.base import CampaignView, CycleTask
from kmde_fw.records import content_hash
from kmde_fw.versions import versions

#: to be raised with every change after which the same data, settings and seed give another model
TRAINER_VERSION = 1


@explicit_serialize
class Train(CycleTask):
    """Load the train set, train with one seed, store model and weights.

    A model's id is a hash of all that it is made from, so the same model is never trained twice.
    """

    required_params: ClassVar = ["campaign", "cycle", "seed"]

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        from kmde_fw.hdnnp.model_file import to_bytes
        from kmde_fw.hdnnp.training import train

        seed = int(self["seed"])
        label_ids, data = view.train_set()
        # surrogates are never held out for validation: each is the only one of its kind
        always_train = [d.structure.id for d in data[len(view.document["train_labels"]) :]]
        model_id = model_key(view, label_ids, seed)
        if view.store.get("models", model_id) is not None:
            return FWAction(stored_data={"model": model_id, "note": "this model had been trained before"})
        model, report = train(
            data,
            view.elements,
            view.settings.descriptor,
            view.settings.network,
            view.settings.training,
            seed,
            always_train=always_train,
            progress=lambda done, total, loss: view.progress(done, total, f"loss {loss:.3g}"),
        )
        blob = view.store.put_blob(to_bytes(model), kind="model")
        view.store.insert_once(
            "models",
            {
                "_id": model_id,
                "made_for": {"campaign": view.name, "cycle": view.cycle},
                "train_labels": label_ids,
                "always_train": always_train,
                "elements": list(view.elements),
                "seed": seed,
                **hyperparameters(view),
                "report": report.to_document(),
                "weights": blob,
                "versions": versions(),
                "seconds": view.seconds,
            },
        )
        return FWAction(stored_data={"model": model_id})


def hyperparameters(view: CampaignView) -> dict[str, Any]:
    """The settings that decide what a training gives."""
    return {
        "descriptor": view.settings.descriptor.model_dump(mode="json"),
        "network": view.settings.network.model_dump(mode="json"),
        "training": view.settings.training.record(),
    }


def model_key(view: CampaignView, label_ids: list[str], seed: int) -> str:
    """Id of the model that these labels, these settings and this seed give: campaigns of one database share it."""
    return content_hash(
        {
            "trainer": TRAINER_VERSION,
            "labels": label_ids,
            # the others are surrogates, which are never held out for validation
            "initial": len(view.document["train_labels"]),
            "elements": view.elements,
            "seed": seed,
            **hyperparameters(view),
        }
    )
