"""Label: one reference calculation, or the next-best candidate's where it fails."""

from pathlib import Path
from typing import ClassVar

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
    optional_params: ClassVar = ["attempt", "refused"]

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        slot, attempt, refused = int(self["slot"]), int(self.get("attempt", 0)), list(self.get("refused", []))
        if view.store.get("outcomes", cycle_key(view.name, view.cycle, "label", slot)) is not None:
            return None
        selection = view.required("selections", view.cycle)
        choices = selection["slots"][slot] if slot < len(selection["slots"]) else []
        if not choices:
            self._close(view, None, [], selection["reason"], reused=False)
            return None
        structure_id = choices[attempt]["structure_id"]
        label_id, reason, reused = self._label(view, structure_id)
        if not reason:
            self._close(view, label_id, refused, "", reused)
            return None
        refused.append({"structure_id": structure_id, "reason": reason})
        if attempt + 1 == len(choices):
            self._close(view, None, refused, reason, reused=False)
            return None
        reserve = Label(campaign=view.name, cycle=view.cycle, slot=slot, attempt=attempt + 1, refused=refused)
        return FWAction(detours=[firework(reserve, DFT)], stored_data={"refused": reason})

    def _label(self, view: CampaignView, structure_id: str) -> tuple[str, str, bool]:
        """Id of the label, computed now unless an accepted one exists; why it cannot be used (empty: it can); whether
        it was there already."""
        engine = make_engine(view.settings.reference)
        label_id = view.store.label_id(structure_id, view.document["level_key"])
        (structure,) = view.store.get_structures([structure_id])
        known = view.store.get("labels", label_id)
        if known is not None and known["state"] == "accepted":
            # another campaign may trust the same reference in a wider domain
            return label_id, engine.outside_domain(structure), True
        label = view.store.put_label(structure_id, engine.level, engine.level_key, engine.label(structure, Path.cwd()))
        return label_id, "" if label["state"] == "accepted" else label["reason"], False

    def _close(
        self, view: CampaignView, label_id: str | None, refused: list[dict[str, str]], reason: str, reused: bool
    ) -> None:
        """Write the slot's outcome: which label it gave, or why none, and what was refused on the way.

        reused: the label was there already, this campaign did not compute it.
        """
        slot = int(self["slot"])
        view.store.insert_once(
            "outcomes",
            {
                "_id": cycle_key(view.name, view.cycle, "label", slot),
                "campaign": view.name,
                "cycle": view.cycle,
                "slot": slot,
                "label_id": label_id,
                "refused": refused,
                "reason": reason,
                "reused": reused,
            },
        )
