import json
import math

import numpy as np
import pytest

from kmde_fw.config import PROTOTYPES, Design
from kmde_fw.core.candidates import CandidatePool, Recipe, build
from kmde_fw.core.duplicates import is_duplicate
from kmde_fw.core.motifs import Motif
from kmde_fw.core.prototypes import Family
from kmde_fw.core.scoring import Columns, Scorer, score_candidates
from kmde_fw.core.selection import Draw, select
from kmde_fw.records import Structure
from kmde_fw.units import covalent_radius


def motif(channel, low, high, score):
    kind = "distance" if channel.count("-") == 1 else "angle"
    return Motif(channel, kind, low, high, score, gap=1.0, count=1, rank=0)


def columns_of(counts, n_atoms=None, penalty=None, bond=None):
    counts = np.array(counts, dtype=np.uint32)
    n = len(counts)
    return Columns(
        index=np.arange(n),
        n_atoms=np.ones(n, dtype=np.int32) if n_atoms is None else np.array(n_atoms),
        composition=np.ones((n, 1), dtype=np.int32),
        distance_penalty=np.zeros(n) if penalty is None else np.array(penalty, dtype=float),
        bond=np.ones(n) if bond is None else np.array(bond, dtype=float),
        counts=counts,
    )


def fcc(a, element="Al", **options):
    return build(Recipe(0, Family("fcc", (element,)), a, **options), {})


def different(index):
    """A crystal that is no other candidate's."""
    return fcc(3.0 + 0.1 * index)


def choose(columns, scores, n_picks=1, *, energies=None, structures=different, existing=(), min_bond=0.85, **options):
    """`select` with what most tests do not care about."""
    asked = []

    def energy(index):
        asked.append(index)
        return 0.0 if energies is None else energies[index]

    design = {k: v for k, v in options.items() if k in Design.model_fields}
    others = {k: v for k, v in options.items() if k not in design}
    motifs = [motif("Al-Al", 2.0 + k, 2.5 + k, score) for k, score in enumerate(scores)]
    selection = select(
        columns,
        motifs,
        Design(**design),
        n_picks,
        energy_per_atom=energy,
        structure_of=structures,
        existing=existing,
        min_bond=min_bond,
        **{"seed": 0, **others},
    )
    return selection, asked


def picked(selection):
    return [pick.index for pick in selection.picks]


# the score --------------------------------------------------------------------------------------------------------


def test_the_three_terms_by_hand():
    """An L1_0-like pair of atoms, T(2.4)-(2.6) on paper.

    CsCl Al-Fe with a = 2.6 Å: 8 Al-Fe pairs at a·√3/2 = 2.2517 Å (d_min = 0.85·(1.21 + 1.32) = 2.1505 Å: no penalty);
    3 Al-Al pairs at 2.6 Å, and 3 Fe-Fe (d_min 2.057 and 2.244 Å: none either). Motifs Al-Fe 2.2-2.3 Å of score 3 and
    Fe-Fe 2.5-2.7 Å of score 2: Score_motif = 8·3 + 3·2 = 30, over 2 atoms 15. With E = 0.1 eV/atom: P_energy = 5.
    Final: 15 − 0 − 5 = 10. Squeezed to a = 2.4 Å: Al-Fe at 2.0785 Å, P_dist = 8·50·(2.1505 − 2.0785)².
    """
    assert (covalent_radius("Al"), covalent_radius("Fe")) == (1.21, 1.32)
    motifs = [motif("Al-Fe", 2.2, 2.3, 3.0), motif("Fe-Fe", 2.5, 2.7, 2.0)]
    crystals = [build(Recipe(0, Family("cscl", ("Al", "Fe")), a), {}) for a in (2.6, 2.4)]
    measured = [Scorer.of(motifs, ("Al", "Fe"), 4.0)(crystal) for crystal in crystals]
    columns = columns_of([m[0] for m in measured], n_atoms=[2, 2], penalty=[m[1] for m in measured])
    selection = select(
        columns, motifs, Design(), 1, energy_per_atom=lambda i: 0.1, structure_of=crystals.__getitem__, existing=[],
        min_bond=0.0, seed=0,
    )  # fmt: skip
    (best,) = selection.picks
    assert (best.index, best.motif_score, best.distance_penalty) == (0, 15.0, 0.0)
    assert best.energy_penalty == pytest.approx(5.0)
    assert best.score == pytest.approx(10.0)
    squeezed = 8 * 50 * (0.85 * 2.53 - 2.4 * 3**0.5 / 2) ** 2
    assert measured[1][1] == pytest.approx(squeezed + 0.0)  # Fe-Fe at 2.4 Å is beyond 2.244 Å
    assert measured[1][0].tolist() == [0, 0]


def test_energy_below_zero_is_no_bonus():
    selection, _ = choose(columns_of([[1], [2]]), [1.0], energies=[-9.0, 0.0])
    assert picked(selection) == [1]
    assert selection.picks[0].energy_penalty == 0.0


def test_each_term_decides():
    assert picked(choose(columns_of([[1], [2]]), [1.0])[0]) == [1]
    assert picked(choose(columns_of([[1], [2]], n_atoms=[1, 3]), [1.0])[0]) == [0]
    assert picked(choose(columns_of([[1], [2]], penalty=[0, 1.5]), [1.0])[0]) == [0]
    assert picked(choose(columns_of([[1], [2]]), [1.0], energies=[0, 0.03])[0]) == [0]


def test_equal_scores_take_the_lower_index():
    selection, _ = choose(columns_of([[1], [2], [2], [2]]), [1.0], n_picks=2, selection="top")
    assert picked(selection) == [1, 2]
    # an energy that was asked for earlier does not help against a lower index
    selection, _ = choose(columns_of([[2], [3], [2]]), [1.0], energies=[0, 0.02, 0])
    assert picked(selection) == [0]


# greedy and top ---------------------------------------------------------------------------------------------------


def test_greedy_by_hand():
    """Motifs of score 6, 4, 1. Scores are Σ N·S, then those of what is left after each pick.

    candidate   counts    start            after A          after A, B
    A           2 0 0     12     picked
    B           1 1 0     6+4 = 10         3+4 = 7          (not after A: C is better)
    C           0 2 0     8                8     picked
    D           0 0 5     5                5                5
    """
    columns = columns_of([[2, 0, 0], [1, 1, 0], [0, 2, 0], [0, 0, 5]])
    scores = [6.0, 4.0, 1.0]
    # after A and C both big motifs count half: B is worth 3 + 2 = 5 and ties with D, the lower index is taken
    assert picked(choose(columns, scores, 4)[0]) == [0, 2, 1, 3]
    assert picked(choose(columns, scores, 4, selection="top")[0]) == [0, 1, 2, 3]
    # a surrogate labelled before that has the first motif: A is worth 6, B 7, C 8
    assert picked(choose(columns, scores, 1, covered=np.array([1, 0, 0]))[0]) == [2]
    assert picked(choose(columns, scores, 1, covered=np.array([1, 0, 0]), selection="top")[0]) == [0]


def test_a_motif_held_k_times_counts_one_over_one_plus_k():
    selection, _ = choose(columns_of([[1, 0], [0, 1]]), [8.0, 2.1], covered=np.array([3, 0]))
    assert picked(selection) == [1]
    assert {r.index: r.motif_score for r in selection.ranking} == {0: 2.0, 1: 2.1}


# the energy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["greedy", "top"])
def test_lazy_energies_give_what_all_energies_give(rule):
    rng = np.random.default_rng(4)
    for _ in range(20):
        n, scores = 60, rng.uniform(0.5, 3, 3)
        counts = rng.integers(0, 4, (n, 3))
        columns = columns_of(counts, n_atoms=rng.integers(1, 4, n), penalty=rng.exponential(0.5, n))
        energies = rng.normal(-0.02, 0.05, n)
        held, expected = np.zeros(3), []
        for _slot in range(4):  # all of it, without laziness
            motif_score = counts @ (scores / (1 + held)) / columns.n_atoms
            final = motif_score - columns.distance_penalty - 50 * np.maximum(0, energies)
            final[expected] = -np.inf
            final[counts.sum(axis=1) == 0] = -np.inf
            expected.append(int(final.argmax()))
            held += (counts[expected[-1]] > 0) if rule == "greedy" else 0
        selection, asked = choose(
            columns,
            scores,
            4,
            energies=energies,
            selection=rule,
            replacements=0,
            structures=lambda i: fcc(3 + 0.05 * i),
        )
        assert picked(selection) == expected
        assert len(asked) == len(set(asked)) < n  # each at most once, and not all of them


def test_energies_are_asked_for_only_where_they_can_decide():
    columns = columns_of([[5], [9], [1]])
    selection, asked = choose(columns, [1.0], energies=[0, 0.05, 0], replacements=0)
    assert (picked(selection), asked) == ([1], [1])  # 9 - 2.5 is more than 5 can be
    selection, asked = choose(columns, [1.0], energies=[0, 0.1, 0], replacements=0)
    assert (picked(selection), asked) == ([0], [1, 0])  # 9 - 5 is not; 1 is out of the question
    upper = next(r for r in selection.ranking if r.index == 2)
    assert (upper.score, upper.energy_penalty) == (1.0, None)


def test_no_finite_energy_is_no_pick():
    selection, _ = choose(columns_of([[5], [9], [1]]), [1.0], energies=[0, math.nan, 0])
    assert picked(selection) == [0]
    (lost,) = [r for r in selection.ranking if r.index == 1]
    assert (lost.outcome, lost.energy_penalty) == ("no_energy", None)


# what is never picked ---------------------------------------------------------------------------------------------


def test_outside_the_domain():
    columns = columns_of([[9], [1]], bond=[0.849, 0.851])
    selection, asked = choose(columns, [1.0])
    assert picked(selection) == [1]
    assert asked == [1]
    assert selection.ranking[0].index == 0
    assert selection.ranking[0].outcome == "outside"
    assert selection.ranking[0].reason == "shortest bond 0.849 of its radius sum, less than 0.85"
    assert picked(choose(columns, [1.0], min_bond=0.8)[0]) == [0]


def test_duplicates_are_skipped_with_the_reason():
    crystals = [fcc(4.0), fcc(4.0, repeat=(2, 1, 1)), fcc(4.1), fcc(4.2)]
    columns = columns_of([[4], [3], [2], [1]])
    labelled = Structure(("Al",), fcc(4.1).cell[::-1], np.ones((1, 3)), "train 7")
    selection, _ = choose(
        columns, [1.0], 3, structures=crystals.__getitem__, existing=[labelled], selection="top", replacements=0
    )
    assert picked(selection) == [0, 3]
    reasons = {r.index: r.reason for r in selection.ranking if r.outcome == "duplicate"}
    assert reasons == {1: "the same crystal as candidate 0", 2: "the same crystal as train 7"}
    assert selection.reason == "2 of 3 picks: of 4 candidates, 2 crystals that are labelled already"


def test_is_duplicate():
    cell = fcc(4.0, repeat=(2, 2, 1), displacement=0.05, seed=1)
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(4)
    same = Structure(cell.species, cell.cell @ rotation, (cell.positions[order] + [0.3, 0, 1]) @ rotation)
    assert is_duplicate(cell, same)
    assert is_duplicate(fcc(4.0), fcc(4.0, repeat=(2, 1, 1)))
    # not the scan, the strain, the displacement, or another element
    assert not is_duplicate(fcc(4.0), fcc(4.01))
    assert not is_duplicate(fcc(4.0), fcc(4.0, strain_axes="z", strain=0.005))
    assert not is_duplicate(fcc(4.0), fcc(4.0, strain_axes="xy", strain=0.01))
    assert not is_duplicate(fcc(4.0, repeat=(2, 2, 1)), cell)
    assert not is_duplicate(fcc(4.0, repeat=(2, 2, 1)), fcc(4.0, repeat=(2, 2, 1), displacement=0.01, seed=1))
    assert not is_duplicate(fcc(4.0), fcc(4.0, "Pt"))


def test_no_motifs_no_picks():
    selection, _ = choose(columns_of(np.zeros((3, 0))), [])
    assert (selection.picks, selection.reserves) == ((), ())
    assert "no key motifs" in selection.reason


def test_candidates_without_a_motif_are_not_picked():
    selection, _ = choose(columns_of([[0], [1], [0]]), [1.0], 2)
    assert picked(selection) == [1]
    assert selection.reason == "1 of 2 picks: of 3 candidates, 2 contains none of the key motifs"


def test_a_score_below_zero_is_still_the_best():
    selection, _ = choose(columns_of([[1], [1]], penalty=[3, 2]), [1.0])
    assert picked(selection) == [1]


# composition ------------------------------------------------------------------------------------------------------


def test_closing_the_composition_gap():
    columns, closures = columns_of([[4], [3]]), np.array([0.0, 0.5])
    selection, _ = choose(columns, [1.0], closures=closures)
    assert picked(selection) == [1]
    assert selection.picks[0].motif_score == 4.5
    assert picked(choose(columns, [1.0], closures=closures, composition="ignore")[0]) == [0]
    assert picked(choose(columns, [1.0], closures=None)[0]) == [0]


# reserves and ranking ---------------------------------------------------------------------------------------------


def test_reserves_are_the_runners_up_in_turns():
    columns = columns_of([[9], [8], [7], [6], [5], [4], [3]])
    selection, _ = choose(columns, [1.0], 2, selection="top", replacements=2)
    assert picked(selection) == [0, 1]
    assert [[r.index for r in reserves] for reserves in selection.reserves] == [[2, 4], [3, 5]]
    assert [r.slot for r in selection.reserves[1]] == [1, 1]
    assert choose(columns, [1.0], 2, selection="top", replacements=0)[0].reserves == ((), ())


def test_reserves_are_as_many_as_there_are():
    selection, _ = choose(columns_of([[9], [8], [7]]), [1.0], 2, selection="top", replacements=3)
    assert [[r.index for r in reserves] for reserves in selection.reserves] == [[2], []]


def test_a_reserve_would_not_be_refused_together_with_its_pick():
    columns = columns_of([[9], [8], [7], [6], [5], [4]])
    kinds = np.array([0, 0, 0, 1, 1, 2])
    selection, _ = choose(columns, [1.0], 1, selection="top", replacements=4, alike=lambda row: kinds == kinds[row])
    assert picked(selection) == [0]
    assert [r.index for r in selection.reserves[0]] == [3, 5, 1, 2], "another kind while there is one"


def test_what_is_like_a_refused_crystal_is_not_picked():
    refused = np.array([True, True, False])
    selection, _ = choose(columns_of([[9], [8], [7]]), [1.0], 1, refused=refused, keep=3)
    assert picked(selection) == [2]
    assert [r.outcome for r in selection.ranking] == ["outside", "outside", "picked"]
    assert "refused such a crystal" in selection.ranking[0].reason


def test_reserve_replaces_the_motifs_of_its_pick():
    """Not those that are worth most when the pick has been labelled, since then it has not."""
    selection, _ = choose(columns_of([[9, 0], [8, 0], [0, 5]]), [1.0, 1.0], 1, replacements=1)
    assert [r.index for r in selection.reserves[0]] == [1]


def test_ranking():
    columns = columns_of([[1], [5], [3], [4], [2]])
    selection, _ = choose(columns, [1.0], 1, keep=2, replacements=2)
    assert [(r.index, r.rank, r.outcome) for r in selection.ranking] == [
        (1, 0, "picked"), (3, 1, "reserve"), (2, 2, "reserve"),
    ]  # fmt: skip
    selection, _ = choose(columns, [1.0], 1, keep=4, replacements=0)
    assert [(r.index, r.rank, r.outcome) for r in selection.ranking] == [
        (1, 0, "picked"), (3, 1, "not_best"), (2, 2, "not_best"), (4, 3, "not_best"),
    ]  # fmt: skip
    assert [r.energy_penalty for r in selection.ranking] == [0.0, None, None, None]
    documents = json.loads(json.dumps([r.to_document() for r in selection.ranking]))
    assert documents[0]["index"] == 1
    assert documents[0]["score"] == 5.0


# random -----------------------------------------------------------------------------------------------------------


def test_random_draws_inside_the_domain():
    columns = columns_of(np.zeros((40, 0)), bond=[0.8 if i % 2 else 1.0 for i in range(40)])
    draws = [choose(columns, [], 3, strategy="random", seed=[0, cycle])[0] for cycle in range(60)]
    again, asked = choose(columns, [], 3, strategy="random", seed=[0, 0])
    assert picked(again) == picked(draws[0])
    assert asked == []
    found = np.bincount([i for draw in draws for i in picked(draw)], minlength=40)
    assert (found[1::2] == 0).all()
    assert (found[::2] > 0).all()
    assert found.max() < 25  # 180 draws of 20: 9 each
    assert all(len(set(picked(draw))) == 3 for draw in draws)
    reserves = {r.index for slot in again.reserves for r in slot}
    assert len(reserves) == 9
    assert not reserves & set(picked(again))


# all together -----------------------------------------------------------------------------------------------------

MOTIFS = [
    motif("Al-Fe", 2.4, 2.45, 10.0),
    motif("Fe-Fe", 2.9, 3.0, 4.0),
    motif("Al-Fe-Al", 58.0, 61.0, 2.0),
    motif("Fe-Al-Fe", 100.0, 105.0, 1.0),
]


def test_an_order_given_from_outside_is_followed_inside_the_domain():
    columns = columns_of(np.zeros((5, 0)), bond=[1.0, 1.0, 0.5, 1.0, 1.0])
    draw = np.array([0.1, 3.0, 9.0, 2.0, 0.2])
    selection, asked = choose(columns, [], 3, preference=Draw(draw, "direct"))
    assert picked(selection) == [1, 3, 4]
    assert selection.picks[0].reason == "the next one that direct draws"
    assert not asked


def choose_from_pool(n_shards=1, n_picks=3, strategy_motifs=MOTIFS, seed=0, closures=True, min_bond=0.85, **options):
    design = Design(**{"candidates": 400, "keep": 20, **options})
    pool = CandidatePool(("Al", "Fe"), design, {}, seed=0, cycle=1)
    parts = [score_candidates(pool, pool.shard(k, n_shards), strategy_motifs, 4.0) for k in range(n_shards)]
    columns = Columns.concatenate(parts)
    return select(
        columns,
        strategy_motifs,
        design,
        n_picks,
        energy_per_atom=lambda i: 0.01 * (i % 3 - 1),
        structure_of=pool.structure,
        existing=[],
        min_bond=min_bond,
        seed=seed,
        closures=columns.composition[:, 1] / columns.n_atoms if closures else None,
        covered=np.array([0, 1, 0, 0]),
    )


def test_shards_do_not_matter():
    assert choose_from_pool(n_shards=4) == choose_from_pool(n_shards=1)


@pytest.mark.parametrize(
    "options",
    [
        {"selection": "top"},
        {"composition": "ignore"},
        {"replacements": 1},
        {"keep": 30},
        {"strategy": "random"},
        {"prototypes": PROTOTYPES[:3]},
        {"max_strain": 0.1},
    ],
)
def test_every_option_changes_the_result(options):
    assert choose_from_pool(**options) != choose_from_pool()


def test_every_argument_changes_the_result():
    base = choose_from_pool()
    assert len(base.picks) == 3
    assert len(base.ranking) >= 20
    assert len(choose_from_pool(n_picks=2).picks) == 2
    assert choose_from_pool(min_bond=1.0) != base
    assert choose_from_pool(closures=False) != base
    assert choose_from_pool(seed=1) == base  # nothing is drawn
    assert choose_from_pool(seed=1, strategy="random") != choose_from_pool(strategy="random")


# the cost ---------------------------------------------------------------------------------------------------------


def test_a_candidate_that_costs_more_than_is_left_is_not_chosen():
    columns = columns_of([[5], [4], [3], [2]])
    cost = np.array([2.0, 0.9, 0.5, 0.1])
    selection, _ = choose(columns, [1.0], cost=cost, max_cost=1.0, replacements=1)
    assert picked(selection) == [1]
    dear = next(r for r in selection.ranking if r.index == 0)
    assert dear.outcome == "too_dear"
    assert dear.reason == "costs 2 train cells, more than the 1 left by max_cost"
    free, _ = choose(columns, [1.0], cost=cost)
    assert picked(free) == [0]


def test_picks_of_one_cycle_share_what_is_left_and_reserves_cost_no_more():
    columns = columns_of([[9], [8], [7], [6], [5], [4]])
    cost = np.array([0.6, 0.5, 0.3, 0.65, 0.35, 0.1])
    selection, _ = choose(columns, [1.0], 2, cost=cost, max_cost=1.0, selection="top", replacements=1)
    assert picked(selection) == [0, 2], "0.6 and 0.3: 0.5 would be too much"
    assert [[r.index for r in reserves] for reserves in selection.reserves] == [[1], [4]], "0.1 is left, half for each"
    dearest = [
        max(cost[r.index] for r in (pick, *reserves))
        for pick, reserves in zip(selection.picks, selection.reserves, strict=True)
    ]
    assert sum(dearest) <= 1.0


def test_with_a_preference_the_cost_counts_too_and_nothing_affordable_is_said():
    columns = columns_of([[1], [1], [1]])
    preference = Draw(np.array([3.0, 2.0, 1.0]), "direct")
    cost = np.array([0.3, 0.2, 0.1])
    selection, _ = choose(columns, [1.0], cost=cost, max_cost=0.2, preference=preference)
    assert picked(selection) == [1]
    nothing, _ = choose(columns, [1.0], cost=cost, max_cost=0.0, preference=preference)
    assert picked(nothing) == []
    assert nothing.reason == "0 of 1 picks: of 3 candidates, 3 that cost more than max_cost leaves"
