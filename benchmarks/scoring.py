"""Scoring candidates: motif counts, distance penalty and shortest bond of the crystals of an Al-Fe-Pt cycle.

Peers: the neighbour lists of ASE and of matscipy, each with the same counting in numpy. They are given ready-made
`Atoms`; our time includes making the crystals from their recipes. To reach: 100 × ASE, 15 × matscipy, equal counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ase
import ase.neighborlist
import matscipy.neighbours
import numpy as np
from common import arguments, finish, median_seconds, versions
from rich.table import Table

from kmde_fw.core.analysis import analyse
from kmde_fw.core.candidates import CandidatePool
from kmde_fw.core.distributions import DECIMALS
from kmde_fw.core.motifs import Motif
from kmde_fw.core.scoring import MIN_DISTANCE, PENALTY, Columns, score_candidates
from kmde_fw.hdnnp.symmetry_functions import SymmetryFunctions
from kmde_fw.units import radius_sums
from kmde_fw.workflows.prepare import Prepared, prepare

CAMPAIGN = Path(__file__).parents[1] / "fw_specs" / "al_fe_pt" / "campaign.yaml"
SAMPLE = 200
#: in the row; larger cells, where a neighbour list pays and ours is none, are shown apart
MAX_ATOMS = 30
TARGETS = {"ase": 100.0, "matscipy": 15.0}

#: (structure, cutoff) -> atom i, atom j, distance, vector of each neighbour
NeighbourList = Callable[[ase.Atoms, float], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
PEERS: dict[str, NeighbourList] = {
    "ase": partial(ase.neighborlist.neighbor_list, "ijdD"),
    "matscipy": partial(matscipy.neighbours.neighbour_list, "ijdD"),
}


def main() -> None:
    """For the key motifs by density (distances alone) and by probability (half of them angles)."""
    options = arguments(__doc__)
    prepared = prepare(CAMPAIGN)
    pool = CandidatePool(prepared.elements, prepared.settings.design, {s.id: s for s in prepared.parents}, cycle=1)
    cutoff = prepared.settings.descriptor.cutoff
    sizes = pool.crystals(range(len(pool))).n_atoms
    samples = {
        kind: np.sort(np.random.default_rng(0).choice(np.flatnonzero(mask), SAMPLE, replace=False)).tolist()
        for kind, mask in (("small", sizes <= MAX_ATOMS), ("large", sizes > MAX_ATOMS))
    }
    found = key_motifs(prepared)
    rows, larger = (
        [measure(pool, sample, motifs, cutoff, kind) for kind, motifs in found.items()] for sample in samples.values()
    )
    slowest = max(rows, key=lambda row: row["seconds"]["ours"])
    ratios = {name: min(row["ratio"][name] for row in rows) for name in PEERS}
    result = {
        "row": f"scores of {SAMPLE} candidates of at most {MAX_ATOMS} atoms",
        "ours_seconds": slowest["seconds"]["ours"],
        "peers": {f"{name} + numpy": slowest["seconds"][name] for name in PEERS},
        "ratios": {f"{name} + numpy": ratios[name] for name in PEERS},
        "goal": ", ".join(f"≥ {goal:.0f} times {name} + numpy" for name, goal in TARGETS.items()) + ", equal scores",
        "reached": all(ratios[name] >= goal for name, goal in TARGETS.items()),
        "counted": {f"atoms_of_{kind}": int(sizes[sample].sum()) for kind, sample in samples.items()},
        "motifs": rows,
        "larger_candidates": larger,
        "versions": versions("ase", "matscipy", "numpy", "numba"),
    }
    finish(result, options.json, table_of(result))


def key_motifs(prepared: Prepared) -> dict[str, list[Motif]]:
    """The 20 key motifs of cycle 0, by both measures."""
    settings, functions = prepared.settings, SymmetryFunctions(prepared.elements, prepared.settings.descriptor)
    train = [labelled.structure for labelled in prepared.train]
    features = [[functions.compute(s).features for s in structures] for structures in (train, prepared.target)]
    found = {}
    for measure in ("density", "probability"):
        analysis = settings.analysis.model_copy(update={"motif_measure": measure})
        found[measure] = analyse(
            train,
            prepared.target,
            *features,
            prepared.elements,
            settings.descriptor.cutoff,
            analysis,
            settings.design.strategy,
        ).motifs
    return found


def measure(pool: CandidatePool, sample: list[int], motifs: list[Motif], cutoff: float, kind: str) -> dict[str, Any]:
    """Candidates per second of ours and of the peers, after all have given the same numbers."""
    atoms = [pool.structure(index).to_atoms() for index in sample]
    ours = score_candidates(pool, sample, motifs, cutoff)
    seconds = {"ours": median_seconds(lambda: score_candidates(pool, sample, motifs, cutoff), repeats=25)}
    for name, neighbours in PEERS.items():
        check(ours, [score(a, motifs, pool.elements, cutoff, neighbours) for a in atoms], name)
        seconds[name] = median_seconds(
            lambda find=neighbours: [score(a, motifs, pool.elements, cutoff, find) for a in atoms]
        )
    return {
        "motifs": kind,
        "distances": sum(m.kind == "distance" for m in motifs),
        "angles": sum(m.kind == "angle" for m in motifs),
        "counted": int(ours.counts.sum()),
        "seconds": seconds,
        "per_second": {name: len(sample) / t for name, t in seconds.items()},
        "ratio": {name: seconds[name] / seconds["ours"] for name in PEERS},
    }


def check(ours: Columns, theirs: Sequence[tuple[np.ndarray, float, float]], name: str) -> None:
    """Counts must be equal, penalty and shortest bond up to rounding."""
    counts, penalties, bonds = (np.array(column) for column in zip(*theirs, strict=True))
    assert (ours.counts == counts).all(), f"{name} counts differently"
    np.testing.assert_allclose(ours.distance_penalty, penalties, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.bond, bonds, rtol=1e-12)


def score(
    atoms: ase.Atoms, motifs: Sequence[Motif], elements: tuple[str, ...], cutoff: float, neighbours: NeighbourList
) -> tuple[np.ndarray, float, float]:
    """Motif counts, distance penalty, shortest bond over its radius sum, in numpy from a neighbour list."""
    sums = radius_sums(elements)
    i, j, distances, vectors = neighbours(atoms, max(cutoff, sums.max()))
    kinds = np.array([elements.index(symbol) for symbol in atoms.get_chemical_symbols()])
    touching = sums[kinds[i], kinds[j]]
    penalty = 0.5 * PENALTY * (np.maximum(MIN_DISTANCE * touching - distances, 0.0) ** 2).sum()
    bond = (distances / touching).min(initial=np.inf)

    near = distances < cutoff
    i, j, distances, vectors = i[near], j[near], distances[near], vectors[near]
    rounded = np.round(distances, DECIMALS)
    counts = np.zeros(len(motifs), dtype=int)
    for m, motif in enumerate(motifs):
        species = [elements.index(element) for element in motif.channel.split("-")]
        if motif.kind == "distance":
            a, b = species
            inside = (rounded >= motif.low) & (rounded < motif.high)
            inside &= ((kinds[i] == a) & (kinds[j] == b)) | ((kinds[i] == b) & (kinds[j] == a))
            counts[m] = inside.sum() // 2
    if any(motif.kind == "angle" for motif in motifs):
        vertex, one, other, degrees = angles(i, vectors)
        channel = kinds[vertex], kinds[j[one]], kinds[j[other]]
        for m, motif in enumerate(motifs):
            if motif.kind == "angle":
                a, v, b = (elements.index(element) for element in motif.channel.split("-"))
                inside = (degrees >= motif.low) & (degrees < motif.high) & (channel[0] == v)
                inside &= ((channel[1] == a) & (channel[2] == b)) | ((channel[1] == b) & (channel[2] == a))
                counts[m] = inside.sum()
    return counts, float(penalty), float(bond)


def angles(i: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertex, both neighbours as numbers of pairs, and angle, of each unordered pair of neighbours of each atom."""
    vertices, starts, sizes = np.unique(i, return_index=True, return_counts=True)  # both lists are sorted by i
    found = []
    for vertex, start, size in zip(vertices, starts, sizes, strict=True):
        one, other = np.triu_indices(size, 1)
        found.append((np.full(len(one), vertex), start + one, start + other))
    vertex, one, other = (np.concatenate(column) for column in zip(*found, strict=True))
    crosses = np.linalg.norm(np.cross(vectors[one], vectors[other]), axis=1)
    degrees = np.degrees(np.arctan2(crosses, np.einsum("ij,ij->i", vectors[one], vectors[other])))
    return vertex, one, other, np.round(degrees, DECIMALS)


def table_of(result: dict[str, Any]) -> Table:
    """A row per set of motifs."""
    table = Table(title=f"{result['row']}, candidates per second")
    for heading in ("20 motifs by", "atoms", "ours", "matscipy", "ASE", "× matscipy", "× ASE", "to reach"):
        table.add_column(heading, justify="right")
    goal = f"{TARGETS['matscipy']:.0f}, {TARGETS['ase']:.0f}"
    for atoms, rows, wanted in (
        (f"≤ {MAX_ATOMS}", result["motifs"], goal),
        (f"> {MAX_ATOMS}", result["larger_candidates"], "–"),
    ):
        for row in rows:
            rate = row["per_second"]
            table.add_row(
                f"{row['motifs']}: {row['distances']} distances, {row['angles']} angles",
                atoms,
                *(f"{rate[name]:.0f}" for name in ("ours", "matscipy", "ase")),
                *(f"{row['ratio'][name]:.0f}" for name in ("matscipy", "ase")),
                wanted,
            )
    return table


if __name__ == "__main__":
    main()
