"""Analyse: the coverage gap, the outlier atoms, the key motifs."""

from dataclasses import asdict

from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.core.analysis import analyse
from kmde_fw.core.environments import Known, opinion
from kmde_fw.core.outliers import environments
from kmde_fw.core.scoring import count_motifs
from kmde_fw.firetasks.base import CampaignView, CycleTask, feature_list, feature_names
from kmde_fw.records import cycle_key

#: outlier atoms written out with all that they exceed; more would not fit into one document (16 MB) of a large target
LISTED_OUTLIERS = 1000


@explicit_serialize
class Analyse(CycleTask):
    """Load train set and target, compare them, store the analysis and one document per motif. Needs no network.

    `n_outliers` counts all outlier atoms; `outliers` describes the first LISTED_OUTLIERS of them; `columns` are the
    names of the symmetry functions that these exceed.
    """

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        _, data = view.train_set()
        train = [labelled.structure for labelled in data]
        target = view.target()
        result = analyse(
            train,
            target,
            feature_list(train, view),
            feature_list(target, view),
            view.elements,
            view.settings.descriptor.cutoff,
            view.settings.analysis,
            view.settings.design.strategy,
        )
        initial = len(view.document["train_labels"])
        known = Known(
            initial=train[:initial],
            surrogates=train[initial:],
            target=target,
            outliers=result.outliers,
            elements=view.elements,
            features=lambda structures: feature_list(structures, view),
        )
        left_open = opinion(known, view.settings.vicinity, view.settings.seed)
        # compiles the search's loop where it has not been yet, while another worker trains: nobody waits for it now
        count_motifs([], result.motifs, view.elements, view.settings.descriptor.cutoff)
        cutoff = view.settings.descriptor.cutoff
        listed = result.outliers[:LISTED_OUTLIERS]
        around = environments(target, listed, cutoff)
        key = cycle_key(view.name, view.cycle)
        common = {"campaign": view.name, "cycle": view.cycle}
        view.store.insert_many_once(
            "motifs",
            [
                {"_id": cycle_key(view.name, view.cycle, motif.rank), **common, **motif.to_document()}
                for motif in result.motifs
            ],
        )
        view.store.insert_once(
            "analyses",
            {
                "_id": key,
                **common,
                "n_train": len(train),
                "n_target_atoms": sum(len(s) for s in target),
                "gap": result.coverage.total,
                "coverage": result.coverage.to_document(),
                "composition_gap": result.coverage.composition.describe(view.elements),
                "n_outliers": len(result.outliers),
                "outliers": [
                    {**outlier.to_document(), "neighbours": near} for outlier, near in zip(listed, around, strict=True)
                ],
                "opinion": asdict(left_open),
                "columns": feature_names(view),
                "seconds": view.seconds,
            },
        )
        return None
