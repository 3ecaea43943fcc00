"""Label: one reference calculation, or the next-best candidate's where it fails."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.core.scoring import count_motifs
from kmde_fw.errors import EngineError
from kmde_fw.firetasks.base import DFT, CampaignView, CycleTask, firework
from kmde_fw.firetasks.generate import key_motifs
from kmde_fw.records import Structure, content_hash, cycle_key
from kmde_fw.reference import Engine, level_differences, make_engine
from kmde_fw.reference.domain import DOMAIN_CHECKS

#: motifs named as open where no label could be had for them, the best ones
NAMED_OPEN = 5


@explicit_serialize
class Label(CycleTask):
    """Load a pick of the cycle's selection, label it, store the label, accepted or not.

    slot: which pick. attempt: 0 is the pick itself, k its k-th reserve. A label that is already known at this level of
    theory is not computed again. Where a label is refused, a detour tries the next reserve; when none is left the
    slot's outcome says so, names the motifs that stay open, and the campaign goes on.
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
        label_id, state, reason, reused = self._label(view, structure_id)
        if not reason:
            self._close(view, label_id, refused, "", reused)
            return None
        refused.append({"structure_id": structure_id, "label_id": label_id, "state": state, "reason": reason})
        if attempt + 1 == len(choices):
            self._close(
                view, None, refused, reason, reused=False, motifs=_open_motifs(view, choices[0]["structure_id"])
            )
            return None
        reserve = Label(campaign=view.name, cycle=view.cycle, slot=slot, attempt=attempt + 1, refused=refused)
        return FWAction(detours=[firework(reserve, DFT)], stored_data={"refused": reason})

    def _label(self, view: CampaignView, structure_id: str) -> tuple[str, str, str, bool]:
        """Id of the label, computed now unless an accepted one exists; its state; why it cannot be used (empty: it
        can); whether it was there already.

        State `outside`: of the reference's domain, which says nothing against the reference.
        """
        engine = self._engine(view)
        label_id = view.store.label_id(structure_id, engine.level_key)
        (structure,) = view.store.get_structures([structure_id])
        known = view.store.get("labels", label_id)
        if known is not None and known["state"] == "accepted":
            # another campaign may trust the same reference in a wider domain
            return label_id, "outside", engine.outside_domain(structure), True
        label = view.store.put_label(structure_id, engine.level, engine.level_key, engine.label(structure, Path.cwd()))
        if label["state"] == "accepted":
            return label_id, "accepted", "", False
        outside = any(label["checks"].get(name, "passed") != "passed" for name in DOMAIN_CHECKS)
        return label_id, "outside" if outside else label["state"], label["reason"], False

    def _engine(self, view: CampaignView) -> Engine:
        """The campaign's reference on this worker. EngineError if it is another level of theory here."""
        key = cycle_key(view.name, view.cycle, int(self["slot"]), int(self.get("attempt", 0)))
        # campaigns of one name in two databases may share a scratch folder
        run_name = "-".join([*key.split("/"), content_hash([view.store.address, view.store.name])[:8]])
        engine = make_engine(view.settings.reference, view.elements, self.worker_env, run_name)
        if engine.level_key != view.document["level_key"]:
            different = "; ".join(level_differences(engine.level, view.document["level"]))
            raise EngineError(
                f"this worker labels at another level of theory than campaign {view.name} was submitted with (here and "
                f"there: {different}); give it the same files and packages, then rerun this firework"
            )
        return engine

    def _close(
        self,
        view: CampaignView,
        label_id: str | None,
        refused: list[dict[str, str]],
        reason: str,
        reused: bool,
        motifs: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write the slot's outcome: which label it gave, or why none, and what was refused on the way.

        reused: the label was there already, this campaign did not compute it; motifs: those that stay open.
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
                "open_motifs": list(motifs),
            },
        )


def _open_motifs(view: CampaignView, structure_id: str) -> list[dict[str, Any]]:
    """The key motifs that a pick was to bring in, the most important first: what stays open without its label."""
    motifs = key_motifs(view)
    structures: list[Structure] = view.store.get_structures([structure_id])
    counts = count_motifs(structures, motifs, view.elements, view.settings.descriptor.cutoff)[0]
    wanted = sorted((-int(n) * m.score, m.rank) for n, m in zip(counts, motifs, strict=True) if n)[:NAMED_OPEN]
    by_rank = {m.rank: m for m in motifs}
    return [
        {key: by_rank[rank].to_document()[key] for key in ("channel", "kind", "low", "high", "rank")}
        for _, rank in wanted
    ]
