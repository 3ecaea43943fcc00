"""Label: one reference calculation, or the next-best candidate's where it fails."""

from pathlib import Path
from typing import Any, ClassVar

from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.firetasks.base import DFT, CampaignView, CycleTask, firework
from kmde_fw.records import cycle_key
from kmde_fw.reference import make_engine


@explicit_serialize
class Label(CycleTask):
    """Load a pick of the cycle's selection, label it, store the label, accepted or not.

    slot: which pick. attempt: 0 is the pick itself, k its k-th reserve. A label that is already known at this level of
    theory is not computed again. Where a label is refused, a detour tries the next reserve; when none is left the
    slot's outcome says so and the campaign goes on.
    """

    required_params: ClassVar = ["campaign", "cycle", "slot"]
    optional_params: ClassVar = ["attempt"]

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        slot, attempt = int(self["slot"]), int(self.get("attempt", 0))
        outcome_id = cycle_key(view.name, view.cycle, "label", slot)
        if view.store.get("outcomes", outcome_id) is not None:
            return None
        selection = view.required("selections", view.cycle)
        slots = selection["slots"]
        choices = slots[slot] if slot < len(slots) else []
        if not choices:
            self._close(view, outcome_id, None, [], selection["reason"])
            return None
        label = self._label(view, choices[attempt]["structure_id"])
        if label["state"] == "accepted":
            self._close(view, outcome_id, label["_id"], choices[:attempt], "")
        elif attempt + 1 < len(choices):
            reserve = Label(campaign=view.name, cycle=view.cycle, slot=slot, attempt=attempt + 1)
            return FWAction(detours=[firework(reserve, DFT)], stored_data={"refused": label["reason"]})
        else:
            self._close(view, outcome_id, None, choices, label["reason"])
        return None

    def _label(self, view: CampaignView, structure_id: str) -> dict[str, Any]:
        """The label document, computed now unless an accepted one exists."""
        engine = make_engine(view.settings.reference)
        label_id = view.store.label_id(structure_id, view.document["level_key"])
        known = view.store.get("labels", label_id)
        if known is not None and known["state"] == "accepted":
            return known
        (structure,) = view.store.get_structures([structure_id])
        result = engine.label(structure, Path.cwd())
        return view.store.put_label(structure_id, engine.level, engine.level_key, result)

    def _close(
        self, view: CampaignView, outcome_id: str, label_id: str | None, failed: list[dict[str, Any]], reason: str
    ) -> None:
        """Write the slot's outcome: which label it gave, or why none."""
        view.store.insert_once(
            "outcomes",
            {
                "_id": outcome_id,
                "campaign": view.name,
                "cycle": view.cycle,
                "slot": int(self["slot"]),
                "label_id": label_id,
                "failed": [choice["structure_id"] for choice in failed],
                "reason": reason,
            },
        )
