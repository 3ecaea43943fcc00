"""Select: rank a cycle's candidates and pick the surrogates to label."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from fireworks import FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.core.candidates import CandidatePool, Recipe
from kmde_fw.core.composition import CompositionGap
from kmde_fw.core.cost import costs
from kmde_fw.core.environments import EnvironmentPreference, Known
from kmde_fw.core.motifs import Motif
from kmde_fw.core.outliers import OutlierAtom, feature_ranges, find_outliers
from kmde_fw.core.preferences import preference_of
from kmde_fw.core.scoring import Columns, count_motifs
from kmde_fw.core.selection import Preference, Ranked, select
from kmde_fw.firetasks.base import CampaignView, CycleTask, feature_list
from kmde_fw.firetasks.evaluate import load_model
from kmde_fw.firetasks.generate import candidate_pool, key_motifs
from kmde_fw.records import Structure, cycle_key


@explicit_serialize
class Select(CycleTask):
    """Load the shards, choose, store the picks with their reserves and the best candidates as documents.

    The energies are those of the first model of the cycle before.
    """

    def step(self, view: CampaignView) -> FWAction | None:
        """See the class."""
        settings, store = view.settings, view.store
        if store.get("selections", cycle_key(view.name, view.cycle)) is not None:
            _tidy(view)
            return None
        shards = [view.required("shards", view.cycle, "shard", k) for k in range(settings.design.shards)]
        columns = Columns.concatenate([Columns.from_document(shard["columns"]) for shard in shards])
        pool, motifs = candidate_pool(view), key_motifs(view)
        model = load_model(view, view.required("evaluations", view.cycle - 1)["models"][0])
        gap = CompositionGap.from_document(view.required("analyses", view.cycle - 1)["coverage"]["composition"])
        surrogates, train, refused = _labelled_before(view)

        def energy_per_atom(index: int) -> float:
            structure = pool.structure(index)
            return model.energy(structure) / len(structure)

        preference = _preference(view, columns, pool, surrogates, train)
        selection = select(
            columns,
            motifs,
            settings.design,
            settings.picks_after(len(surrogates)),
            energy_per_atom=energy_per_atom,
            structure_of=pool.structure,
            existing=[*train, *refused],
            min_bond=settings.reference.domain.min_bond,
            seed=[settings.seed, view.cycle],
            closures=gap.closures(columns.composition),
            covered=_covered(surrogates, motifs, view),
            preference=preference,
            cost=costs(columns.composition, view.elements, [s.species for s in train[: len(train) - len(surrogates)]]),
            max_cost=view.cost_left(view.cycle - 1),
            alike=lambda row: pool.alike(pool.recipe(int(columns.index[row])))[columns.index],
            refused=_refused_before(view, pool)[columns.index],
        )
        structures = pool.structures([ranked.index for ranked in selection.ranking])
        kept = list(zip(selection.ranking, structures, strict=True))
        row_of = {index: row for row, index in enumerate(columns.index.tolist())}
        candidates = {
            ranked.index: _candidate(ranked, pool, structure, columns.counts[row_of[ranked.index]])
            | _promise(preference, row_of[ranked.index])
            for ranked, structure in kept
        }
        store.put_structures([structure for ranked, structure in kept if ranked.slot is not None], role="surrogate")
        store.insert_many_once(
            "candidates",
            [
                {
                    "_id": cycle_key(view.name, view.cycle, "candidate") + f"/{index:06d}",
                    "campaign": view.name,
                    "cycle": view.cycle,
                    **candidate,
                }
                for index, candidate in candidates.items()
            ],
        )
        slots = [
            [candidates[ranked.index] for ranked in (pick, *reserves)]
            for pick, reserves in zip(selection.picks, selection.reserves, strict=True)
        ]
        store.insert_once(
            "selections",
            {
                "_id": cycle_key(view.name, view.cycle),
                "campaign": view.name,
                "cycle": view.cycle,
                "n_candidates": len(columns),
                "skipped": list(pool.skipped),
                "summary": _summary(columns, pool, motifs, settings.reference.domain.min_bond),
                "generate_seconds": sum(shard["seconds"] for shard in shards),
                "slots": slots,
                "remaining": _remaining(preference),
                "reason": selection.reason,
                "seconds": view.seconds,
            },
        )
        _tidy(view)
        return None


def _tidy(view: CampaignView) -> None:
    """Take the columns of all candidates away, where the campaign does not want to keep them."""
    if not view.settings.design.keep_columns:
        shards = range(view.settings.design.shards)
        view.store.delete("shards", [cycle_key(view.name, view.cycle, "shard", k) for k in shards])


def _summary(columns: Columns, pool: CandidatePool, motifs: list[Motif], min_bond: float) -> list[dict[str, Any]]:
    """All candidates of the cycle by the crystal that they are made from, the best first.

    crystal; n: candidates; in_domain: with no bond shorter than `min_bond`; with_motifs: with a key motif, of these;
    best: the highest Score_motif per atom less the distance penalty among them, None without any.
    """
    scores = np.array([motif.score for motif in motifs])
    score = columns.counts @ scores / columns.n_atoms - columns.distance_penalty
    inside = columns.bond >= min_bond
    wanted = inside & (columns.counts.sum(axis=1) > 0)
    names = np.array(pool.crystal_names(columns.index))
    rows = []
    for crystal in sorted(set(names.tolist())):
        own = names == crystal
        best = float(score[own & wanted].max()) if (own & wanted).any() else None
        n, n_inside, n_wanted = (int(mask.sum()) for mask in (own, own & inside, own & wanted))
        rows.append({"crystal": crystal, "n": n, "in_domain": n_inside, "with_motifs": n_wanted, "best": best})
    return sorted(rows, key=lambda row: float("inf") if row["best"] is None else -row["best"])


def _promise(preference: Preference | None, row: int) -> dict[str, Any]:
    """What a candidate of strategy `environment` would bring; nothing for others."""
    promise = preference.promised(row) if isinstance(preference, EnvironmentPreference) else None
    return {"promise": promise.to_document()} if promise else {}


def _remaining(preference: Preference | None) -> dict[str, Any] | None:
    """What the best candidate would promise that was not picked, once the picks are labelled; None: it is not known."""
    promise = preference.remaining() if isinstance(preference, EnvironmentPreference) else None
    return promise.to_document() if promise else None


def _candidate(ranked: Ranked, pool: CandidatePool, structure: Structure, counts: np.ndarray) -> dict[str, Any]:
    """A candidate as a document: how it is made, its score in three terms, picked or why not, the motifs it contains.

    motifs: how many of each, by the motif's rank; those that it lacks are left out.
    """
    recipe = pool.recipe(ranked.index)
    return {
        **ranked.to_document(),
        "structure_id": structure.id,
        "recipe": recipe.to_document(),
        "description": recipe.describe(),
        "formula": structure.formula,
        "n_atoms": len(structure),
        "motifs": {str(rank): int(counts[rank]) for rank in np.flatnonzero(counts).tolist()},
    }


def _labelled_before(view: CampaignView) -> tuple[list[Structure], list[Structure], list[Structure]]:
    """Surrogates of earlier cycles, the whole train set that they belong to, and structures whose label was refused."""
    outcomes = view.surrogates(view.cycle - 1)
    surrogates = view.store.get_labelled([o["label_id"] for o in outcomes if o["label_id"]])
    initial = view.store.get_labelled(view.document["train_labels"])
    refused = view.store.get_structures([r["structure_id"] for o in outcomes for r in o["refused"]])
    return [d.structure for d in surrogates], [d.structure for d in (*initial, *surrogates)], refused


def _refused_before(view: CampaignView, pool: CandidatePool) -> np.ndarray:
    """Which of the pool are like a crystal that earlier cycles found outside of the reference's domain, (n,)."""
    result = np.zeros(len(pool), dtype=bool)
    refused = {
        r["structure_id"] for o in view.surrogates(view.cycle - 1) for r in o["refused"] if r["state"] == "outside"
    }
    if refused:
        for cycle in range(1, view.cycle):
            for choice in chain.from_iterable(view.required("selections", cycle)["slots"]):
                if choice["structure_id"] in refused:
                    result |= pool.alike(Recipe.from_document(choice["recipe"]))
    return result


def _preference(
    view: CampaignView, columns: Columns, pool: CandidatePool, surrogates: list[Structure], train: list[Structure]
) -> Preference | None:
    """What the campaign's strategy chooses by, None: by scores of motifs."""
    target = view.target()
    known = Known(
        initial=train[: len(train) - len(surrogates)],
        surrogates=surrogates,
        target=target,
        outliers=outlier_atoms(view.required("analyses", view.cycle - 1), train, target, view),
        elements=view.elements,
        features=lambda structures: feature_list(structures, view),
    )
    return preference_of(view.settings, columns, pool, known, view.cycle)


def outlier_atoms(
    analysis: dict[str, Any], train: list[Structure], target: list[Structure], view: CampaignView
) -> list[OutlierAtom]:
    """All outlier atoms of the target; found again where the analysis lists only the first of very many."""
    if len(analysis["outliers"]) == analysis["n_outliers"]:
        return [OutlierAtom.from_document(document) for document in analysis["outliers"]]
    ranges = feature_ranges([s.species for s in train], feature_list(train, view))
    tolerance = view.settings.analysis.outlier_tolerance
    return find_outliers(ranges, [s.species for s in target], feature_list(target, view), tolerance)


def _covered(surrogates: list[Structure], motifs: list[Motif], view: CampaignView) -> np.ndarray:
    """How many surrogates contain each motif already, (n_motifs,)."""
    counts = count_motifs(surrogates, motifs, view.elements, view.settings.descriptor.cutoff)
    return (counts > 0).sum(axis=0)
