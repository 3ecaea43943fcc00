"""Compile the loops that a campaign needs, before several workers do so at once and in the middle of their steps."""

from kmde_fw.core.analysis import analyse
from kmde_fw.core.candidates import CandidatePool
from kmde_fw.core.scoring import score_candidates
from kmde_fw.hdnnp import train
from kmde_fw.workflows.prepare import Prepared


def compile_loops(prepared: Prepared) -> None:
    """One closure, one prediction, one analysis and two candidates, of the campaign's smallest structures.

    What is compiled is kept on disk by numba: all later processes find it there.
    """
    settings, elements = prepared.settings, prepared.elements
    cutoff = settings.descriptor.cutoff
    labelled = min(prepared.train, key=lambda labelled: len(labelled.structure))
    few = settings.training.model_copy(update={"max_closures": 1, "device": "cpu"})
    model, _ = train([labelled], elements, settings.descriptor, settings.network, few, seed=0)
    known, target = labelled.structure, min(prepared.target, key=len)
    before, after = ([model.predict(structure).features] for structure in (known, target))
    analysis = analyse([known], [target], before, after, elements, cutoff, settings.analysis, settings.design.strategy)
    by_id = {structure.id: structure for structure in prepared.parents}
    pool = CandidatePool(elements, settings.design, by_id, seed=settings.seed, cycle=1)
    score_candidates(pool, range(min(2, len(pool))), analysis.motifs, cutoff)
