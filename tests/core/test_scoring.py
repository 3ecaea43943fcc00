import math

import bson
import numpy as np
import pytest

from kmde_fw.config import Design
from kmde_fw.core.candidates import CandidatePool, Recipe, build
from kmde_fw.core.distributions import RESOLUTION, sample_geometry
from kmde_fw.core.motifs import Motif
from kmde_fw.core.prototypes import Family
from kmde_fw.core.scoring import Columns, Scorer, _scan, count_motifs, score_candidates
from kmde_fw.errors import InputError
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure
from kmde_fw.units import covalent_radius

ELEMENTS = ("Al", "Fe", "Pt")
CUTOFF = 4.0


def motif(channel, low, high, score=1.0):
    kind = "distance" if channel.count("-") == 1 else "angle"
    return Motif(channel, kind, low, high, score, gap=1.0, count=1, rank=0)


def random_motifs(rng, n, wide):
    """Distances and angles, half of them with edges on round numbers, where crystals have their bonds."""
    motifs = []
    for k in range(n):
        ends = sorted(rng.choice(ELEMENTS, 2))
        if k % 2:
            low = round(float(rng.uniform(2.0, 3.8)), 6 if k % 4 == 1 else 1)
            motifs.append(motif("-".join(ends), low, round(low + wide / 30, 6)))
        else:
            low = round(float(rng.uniform(0, 178)), 6 if k % 4 == 0 else -1)
            high = 180.0 + RESOLUTION if low + wide > 180 else round(low + wide, 6)
            motifs.append(motif(f"{ends[0]}-{rng.choice(ELEMENTS)}-{ends[1]}", low, high))
    return motifs


def slow_counts(structure, motifs):
    """The counts as METHOD defines them, from the same distances and angles that the target's distributions have."""
    geometry = sample_geometry([structure], ELEMENTS, CUTOFF)
    counts = []
    for m in motifs:
        samples = (geometry.distances if m.kind == "distance" else geometry.angles)[m.channel]
        counts.append(int(((samples >= m.low) & (samples < m.high)).sum()))
    return counts


def slow_penalty_and_bond(structure):
    found = find_neighbours(structure, 5.0)
    radii = np.array([covalent_radius(s) for s in structure.species])
    sums = radii[found.centre] + radii[found.neighbour]
    too_close = np.maximum(0, 0.85 * sums - found.distances)
    return (50 * too_close**2).sum() / 2, (found.distances / sums).min(initial=np.inf)


@pytest.mark.parametrize(("scan", "wide"), [("bonds", 2.0), ("constants", 20.0)])
def test_against_the_slow_way(scan, wide):
    """Perfect, strained and displaced crystals of 1 to 30 atoms; with `constants` also fused and exploded ones."""
    from pathlib import Path

    import ase.io

    host = Path(__file__).parents[2] / "fw_specs" / "al_fe_pt" / "host.extxyz"
    parent = Structure.from_atoms(ase.io.read(host), "host")
    rng = np.random.default_rng(1)
    parents = {parent.id: parent} if scan == "bonds" else {}
    limits = {} if scan == "bonds" else {"max_atoms": 12, "constant_range": (2.2, 6.5)}
    pool = CandidatePool(ELEMENTS, Design(candidates=300, lattice_scan=scan, **limits), parents, seed=3)
    total = np.zeros(40, dtype=int)
    for i in range(len(pool)):
        structure = pool.structure(i)
        motifs = random_motifs(rng, 40, wide)
        counts, penalty, bond = Scorer.of(motifs, ELEMENTS, CUTOFF)(structure)
        assert counts.tolist() == slow_counts(structure, motifs), pool.recipe(i)
        slow_penalty, slow_bond = slow_penalty_and_bond(structure)
        assert penalty == pytest.approx(slow_penalty, rel=1e-12)
        assert bond == pytest.approx(slow_bond, rel=1e-12) or min(bond, slow_bond) > 1
        total += counts
    assert (total > 0).all()  # the comparison was not of zeros


def test_atoms_outside_the_cell_count_the_same():
    rng = np.random.default_rng(2)
    cell = build(Recipe(0, Family("C14", ("Al", "Fe", "Pt")), 5.0, displacement=0.1, seed=1), {})
    moved = Structure(cell.species, cell.cell, cell.positions + rng.integers(-3, 4, (len(cell), 3)) @ cell.cell)
    motifs = random_motifs(rng, 20, 10.0)
    assert count_motifs([cell], motifs, ELEMENTS, CUTOFF).tolist() == (
        count_motifs([moved], motifs, ELEMENTS, CUTOFF).tolist()
    )


def test_counts_by_hand_fcc():
    """12 neighbours, so per atom 6 pairs and 66 angles: 24 of 60°, 12 of 90°, 24 of 120°, 6 of 180°."""
    cell = build(Recipe(0, Family("fcc", ("Al",)), 4.0), {})
    motifs = [
        motif("Al-Al", 2.8, 2.9),
        motif("Al-Al", 2.0, 2.8),
        motif("Al-Al-Al", 0.0, 60.0),
        motif("Al-Al-Al", 60.0, 90.0),  # an angle on an edge belongs to the bin above it
        motif("Al-Al-Al", 90.0, 90.5),
        motif("Al-Al-Al", 119.9, 120.1),
        motif("Al-Al-Al", 120.0, 178.0),
        motif("Al-Al-Al", 178.0, 180.0),  # 180° is not in a bin that ends there
        motif("Al-Al-Al", 178.0, 180.0 + RESOLUTION),  # but in the last bin of a channel
        motif("Al-Al-Al", 0.0, 180.0 + RESOLUTION),
    ]
    assert count_motifs([cell], motifs, ("Al",), 3.9).tolist() == [[6, 0, 0, 24, 12, 24, 24, 0, 6, 66]]


def test_counts_by_hand_cscl():
    """Ends and vertex of a triplet are not the same: 8 unlike neighbours at 2.598 Å, 28 angles at each vertex."""
    cell = build(Recipe(0, Family("cscl", ("Al", "Fe")), 3.0), {})
    motifs = [
        motif("Al-Fe", 2.5, 2.7),
        motif("Al-Al", 2.5, 2.7),
        motif("Al-Fe-Al", 70.0, 71.0),
        motif("Al-Fe-Al", 109.0, 110.0),
        motif("Fe-Al-Fe", 179.0, 180.0 + RESOLUTION),
        motif("Fe-Fe-Fe", 0.0, 180.0 + RESOLUTION),
        motif("Al-Al-Fe", 0.0, 180.0 + RESOLUTION),
    ]
    assert count_motifs([cell], motifs, ("Al", "Fe"), 2.9).tolist() == [[8, 0, 12, 12, 4, 0, 0]]
    # with the 6 like neighbours at 3 Å: C(6, 2) angles Fe-Fe-Fe, and 6 × 8 angles Al-Al-Fe
    assert count_motifs([cell], motifs, ("Al", "Fe"), 3.1).tolist() == [[8, 0, 12, 12, 4, 15, 48]]


@pytest.mark.parametrize("degrees", [1e-5, 0.001, 30.0, 60.0, 179.999, 179.99999])
def test_edges_of_angles_are_exact(degrees):
    """Angles near 0° and 180°, where cosines say little, on both sides of an edge."""
    apart = math.radians(degrees)
    positions = np.array([[0, 0, 0], [2.0, 0, 0], [2.2 * math.cos(apart), 2.2 * math.sin(apart), 0]])
    cluster = Structure(("Pt", "Al", "Al"), 30.0 * np.eye(3), positions)
    edge = round(degrees, 6)
    motifs = [motif("Al-Pt-Al", 0.0, edge), motif("Al-Pt-Al", edge, edge + 1), motif("Al-Pt-Al", edge, edge + 2e-6)]
    motifs.append(motif("Al-Pt-Al", edge + 1e-6, 181.0))
    assert count_motifs([cluster], motifs, ELEMENTS, 2.5).tolist() == [[0, 1, 1, 0]]


def test_distance_penalty_by_hand():
    """T(2.5): an Al-Fe pair 0.1 Å and its next image pair not too close: 50 · 0.1² = 0.5."""
    closest = 0.85 * (covalent_radius("Al") + covalent_radius("Fe"))
    positions = np.array([[0, 0, 0], [closest - 0.1, 0, 0]])
    pair = Structure(("Al", "Fe"), 20.0 * np.eye(3), positions)
    counts, penalty, bond = Scorer.of([], ELEMENTS, CUTOFF)(pair)
    assert len(counts) == 0
    assert penalty == pytest.approx(0.5)
    assert bond == pytest.approx(0.85 - 0.1 / (covalent_radius("Al") + covalent_radius("Fe")))
    # an atom and its own images: 3 pairs per atom
    closest = 0.85 * 2 * covalent_radius("Al")
    cube = Structure(("Al",), (closest - 0.1) * np.eye(3), np.zeros((1, 3)))
    assert Scorer.of([], ELEMENTS, CUTOFF)(cube)[1] == pytest.approx(1.5)
    apart = Structure(("Al",), 9.0 * np.eye(3), np.zeros((1, 3)))
    assert Scorer.of([], ELEMENTS, CUTOFF)(apart)[1:] == (0.0, math.inf)


def test_large_atoms_are_too_close_beyond_the_cutoff():
    """Cs-Cs: d_min = 4.148 Å is more than r_c = 4 Å."""
    pair = Structure(("Cs", "Cs"), 30.0 * np.eye(3), np.array([[0, 0, 0], [4.048, 0, 0]]))
    _, penalty, bond = Scorer.of([], ("Cs",), 4.0)(pair)
    assert penalty == pytest.approx(50 * (0.85 * 4.88 - 4.048) ** 2)
    assert bond == pytest.approx(4.048 / 4.88)


def test_atoms_on_top_of_each_other():
    fused = Structure(("Al", "Al"), 9.0 * np.eye(3), np.zeros((2, 3)))
    counts, penalty, bond = Scorer.of([motif("Al-Al-Al", 0.0, 181.0)], ("Al",), 4.0)(fused)
    assert counts.tolist() == [0]
    assert penalty == pytest.approx(50 * (0.85 * 2 * covalent_radius("Al")) ** 2)
    assert bond == 0.0


def test_foreign_element():
    with pytest.raises(InputError, match="not among Al, Fe"):
        count_motifs([Structure(("Ni",), 3 * np.eye(3), np.zeros((1, 3)), "nickel")], [], ("Al", "Fe"), 4.0)


# shards -----------------------------------------------------------------------------------------------------------


def shards(n, motifs):
    pool = CandidatePool(ELEMENTS, Design(candidates=101), {}, seed=0, cycle=1)
    return pool, [score_candidates(pool, pool.shard(k, n), motifs, CUTOFF) for k in range(n)]


def test_columns():
    motifs = random_motifs(np.random.default_rng(0), 6, 20.0)
    pool, (columns,) = shards(1, motifs)
    for row, index in enumerate(columns.index):
        structure = pool.structure(int(index))
        assert columns.n_atoms[row] == len(structure)
        assert (columns.composition[row] == structure.counts(pool.elements)).all()
        assert columns.counts[row].tolist() == slow_counts(structure, motifs)


def test_any_number_of_shards_makes_the_same_columns():
    motifs = random_motifs(np.random.default_rng(0), 6, 20.0)
    _, (whole,) = shards(1, motifs)
    _, parts = shards(4, motifs)
    # through the database and back, in another order
    stored = [Columns.from_document(bson.decode(bson.encode(part.to_document()))) for part in parts[::-1]]
    joined = Columns.concatenate(stored)
    for name in ("index", "n_atoms", "composition", "distance_penalty", "bond", "counts"):
        assert (getattr(joined, name) == getattr(whole, name)).all()
        assert getattr(joined, name).dtype == getattr(whole, name).dtype


def test_more_shards_than_candidates():
    pool = CandidatePool(ELEMENTS, Design(candidates=2), {}, seed=0, cycle=1)
    motifs = random_motifs(np.random.default_rng(0), 3, 20.0)
    parts = [score_candidates(pool, pool.shard(k, 4), motifs, CUTOFF) for k in range(4)]
    joined = Columns.concatenate([Columns.from_document(part.to_document()) for part in parts])
    assert (len(joined), joined.counts.shape) == (2, (2, 3))


def test_progress_is_told():
    pool = CandidatePool(ELEMENTS, Design(candidates=2500), {}, seed=0, cycle=1)
    told = []
    score_candidates(pool, range(2500), [], CUTOFF, lambda *args: told.append(args))
    assert told == [(done, 2500, "candidates") for done in (1000, 2000, 2500)]


def test_the_loop_is_compiled_once():
    """Whatever it is given, also nothing: each further memory layout or type would take seconds more."""
    pool = CandidatePool(ELEMENTS, Design(candidates=30), {}, seed=0, cycle=1)
    motifs = random_motifs(np.random.default_rng(0), 3, 20.0)
    assert count_motifs([], motifs, ELEMENTS, CUTOFF).shape == (0, 3)
    count_motifs([pool.structure(0)], [], ELEMENTS, CUTOFF)
    turned = pool.structure(1)
    count_motifs([Structure(turned.species, turned.cell.T, turned.positions)], motifs, list(ELEMENTS), 4)
    score_candidates(pool, range(1), motifs, CUTOFF)
    score_candidates(pool, range(30), motifs, CUTOFF)
    assert len(_scan.signatures) == 1
