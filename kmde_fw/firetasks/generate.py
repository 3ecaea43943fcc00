"""Generate: one shard of a cycle's candidates, with their motif counts and distance penalties."""

from typing import ClassVar

from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.core.candidates import CandidatePool
from kmde_fw.core.motifs import Motif
from kmde_fw.core.scoring import score_candidates
from kmde_fw.firetasks.base import CampaignView, CycleTask
from kmde_fw.records import cycle_key


@explicit_serialize
class Generate(CycleTask):
    """Load the motifs of the cycle before, build and count the candidates of one shard, store the columns."""

    required_params: ClassVar = ["campaign", "cycle", "shard"]

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        shard = int(self["shard"])
        if view.store.get("selections", cycle_key(view.name, view.cycle)) is not None:
            return None  # chosen already, and what was generated may have been taken away
        pool = candidate_pool(view)
        columns = score_candidates(
            pool,
            pool.shard(shard, view.settings.design.shards),
            key_motifs(view),
            view.settings.descriptor.cutoff,
            progress=view.progress,
        )
        view.store.insert_once(
            "shards",
            {
                "_id": cycle_key(view.name, view.cycle, "shard", shard),
                "campaign": view.name,
                "cycle": view.cycle,
                "shard": shard,
                "columns": columns.to_document(),
                "seconds": view.seconds,
            },
        )
        return None


def candidate_pool(view: CampaignView) -> CandidatePool:
    """The cycle's pool: the same one on every machine."""
    return CandidatePool(view.elements, view.settings.design, view.parents(), seed=view.settings.seed, cycle=view.cycle)


def key_motifs(view: CampaignView) -> list[Motif]:
    """The motifs that this cycle's candidates are designed for: those found by the cycle before, best first."""
    return [Motif.from_document(document) for document in view.store.motifs(view.name, view.cycle - 1)]
