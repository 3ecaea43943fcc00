"""Which candidates to label: T(2.4)-(2.6), and ours where the thesis picks the N best at once.

final = Score_motif / N_atoms − P_dist − P_energy, with Score_motif = (1 + closure) Σ_m N_m w_m. `selection: top` takes
w_m = S(m) and closure = 0 is `composition: ignore`: the thesis's score. With `greedy`, w_m = S(m) / (1 + k_m) where k_m
surrogates, labelled before or picked in this cycle, already contain motif m.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from kmde_fw.config import Design
from kmde_fw.core.duplicates import is_duplicate
from kmde_fw.core.motifs import Motif
from kmde_fw.core.scoring import Columns
from kmde_fw.records import Structure
from kmde_fw.units import figures

#: P_energy of T(2.6) per eV of E_atom above 0
ENERGY_PENALTY = 50.0
#: the strategy that has no motifs: candidates are drawn, not scored
RANDOM = "random"


@dataclass(frozen=True)
class Ranked:
    """One candidate of the ranking, with the terms of its score.

    index: in the pool; rank: by the score at the beginning of the cycle, 0 is the best; score: T(2.4), or the random
    draw; motif_score: Score_motif / N_atoms; energy_penalty: None where the energy was never asked for, because the
    score without it was already too low (then `score` is an upper bound), or because nothing was scored;
    outcome: "picked", "reserve", "duplicate", "outside" (of the reference's domain), "too_dear" (for what max_cost
    leaves), "no_energy", "not_best";
    slot: of a pick, and of the pick that a reserve stands in for; reason: picked or why not, in words.
    """

    index: int
    rank: int
    score: float
    motif_score: float
    distance_penalty: float
    energy_penalty: float | None
    outcome: str
    slot: int | None
    reason: str

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self)


@dataclass(frozen=True)
class Selection:
    """What a cycle labels.

    picks: the chosen candidates, slot 0 first; reserves: for each slot, what is labelled instead if its pick fails,
    in this order; ranking: the best `design.keep` by the score at the beginning of the cycle, and all picks and
    reserves, best first; reason: why there are fewer picks than were asked for, else empty.
    """

    picks: tuple[Ranked, ...]
    reserves: tuple[tuple[Ranked, ...], ...]
    ranking: tuple[Ranked, ...]
    reason: str = ""


class Preference(Protocol):
    """What to choose by instead of scores of motifs; rows are those of the columns."""

    def scores(self) -> np.ndarray:
        """What each candidate is worth now, (n_candidates,); -inf: it is not to be picked."""

    def reason(self, row: int) -> str:
        """Why this candidate is picked now, in words."""

    def take(self, row: int) -> None:
        """Count this candidate as picked."""


@dataclass(frozen=True, eq=False)
class Draw:
    """An order that was decided before: values (n_candidates,), the highest is picked first."""

    values: np.ndarray
    strategy: str

    def scores(self) -> np.ndarray:
        """See `Preference`."""
        return self.values

    def reason(self, row: int) -> str:
        """See `Preference`."""
        return f"the next one that {self.strategy} draws"

    def take(self, row: int) -> None:
        """Nothing: the order stays."""


def select(
    columns: Columns,
    motifs: Sequence[Motif],
    design: Design,
    n_picks: int,
    *,
    energy_per_atom: Callable[[int], float],
    structure_of: Callable[[int], Structure],
    existing: Sequence[Structure],
    min_bond: float,
    seed: int | Sequence[int],
    closures: np.ndarray | None = None,
    covered: np.ndarray | None = None,
    preference: Preference | None = None,
    cost: np.ndarray | None = None,
    max_cost: float | None = None,
    alike: Callable[[int], np.ndarray] | None = None,
    refused: np.ndarray | None = None,
) -> Selection:
    """Choose up to `n_picks` candidates and the reserves of each.

    columns: all candidates of the cycle; motifs: those that the columns count, in the same order.
    energy_per_atom: pool index -> E_atom in eV of the current model (0.0 while there is none); asked only where it can
    decide. structure_of: pool index -> crystal, asked for picks and reserves. existing: structures that are labelled
    already (train set, earlier picks), never picked again. min_bond: candidates with a shorter shortest bond (over its
    radius sum) are outside the reference's domain and never picked. seed: of the draw of strategy `random`, for example
    [campaign seed, cycle]. closures: (n_candidates,) in [0, 1], how much of an open composition gap each candidate
    would close; None or zeros when closed. covered: (n_motifs,) number of surrogates labelled before that contain each
    motif. preference: what to choose by instead of scores of motifs; strategy `random` has one of its own. cost:
    (n_candidates,) of each label, in train cells; max_cost: of all picks together, None: no limit. A reserve costs at
    most what its pick does and an equal share of what the picks leave over. alike: row -> which candidates the
    reference would refuse together with it, (n_candidates,): a reserve is unlike its pick and the reserves before it,
    while there are such. refused: (n_candidates,) which ones are like a crystal that the reference refused before as
    outside of its domain; they are not picked.
    """
    if preference is None and design.strategy == RANDOM:
        preference = Draw(np.random.default_rng(seed).random(len(columns)), RANDOM)
    n, n_motifs = len(columns), len(motifs)
    scores = np.array([motif.score for motif in motifs])
    held = np.zeros(n_motifs) if covered is None or design.selection == "top" else np.array(covered, dtype=float)
    bonus = np.ones(n)
    if closures is not None and design.composition == "close":
        bonus += closures

    def motif_score() -> np.ndarray:
        return bonus * (columns.counts @ (scores / (1 + held))) / columns.n_atoms

    def score() -> np.ndarray:
        return motif_score() - columns.distance_penalty if preference is None else preference.scores()

    first_motif_score, first_score = motif_score(), score()
    board = _Board(columns.index, energy_per_atom, lookup=preference is None)
    for k in np.flatnonzero(columns.bond < min_bond).tolist():
        board.settle(k, "outside", f"shortest bond {columns.bond[k]:.3f} of its radius sum, less than {min_bond:g}")
    if refused is not None:
        for k in np.flatnonzero(board.free & refused).tolist():
            board.settle(k, "outside", "the reference refused such a crystal of nearly this size")
    if preference is None:
        for k in np.flatnonzero(board.free & (first_motif_score <= 0)).tolist():
            board.settle(k, "not_best", "contains none of the key motifs")

    prices = np.zeros(n) if cost is None or max_cost is None else cost
    left = np.inf if max_cost is None else max_cost
    board.too_dear(prices, left)

    taken = [(structure, structure.name or structure.formula) for structure in existing]

    def next_best(scores_now: np.ndarray) -> int | None:
        """Row of the best free candidate that is a new crystal; None when there is none left."""
        while (row := board.best(scores_now)) is not None:
            structure = structure_of(int(columns.index[row]))
            twin = next((name for other, name in taken if is_duplicate(structure, other)), None)
            if twin is None:
                taken.append((structure, f"candidate {columns.index[row]}"))
                return row
            board.settle(row, "duplicate", f"the same crystal as {twin}")
        return None

    rows: list[int] = []
    scores_then: list[np.ndarray] = []  # those by which each slot was decided: its reserves are its runners-up
    for slot in range(n_picks):
        now = np.where(prices <= left, score(), -np.inf)
        row = next_best(now)
        if row is None:
            break
        final = board.final(row, now)
        if preference is not None:
            reason = preference.reason(row)
            preference.take(row)
        else:
            reason = f"the best score for slot {slot}, {final:.4g}"
            if design.selection == "greedy" and slot:
                reason += ", when motifs of earlier picks count less"
        board.settle(row, "picked", reason, slot)
        rows.append(row)
        left -= prices[row]
        scores_then.append(now)
        if design.selection == "greedy":
            held = held + (columns.counts[row] > 0)

    reserve_rows: list[list[int]] = [[] for _ in rows]
    like_those_before = [np.zeros(n, dtype=bool) if alike is None else alike(row) for row in rows]
    for turn in range(design.replacements):
        for slot, then in enumerate(scores_then):  # in turns: no slot has all the good ones
            affordable = np.where(prices <= prices[rows[slot]] + left / len(rows), then, -np.inf)
            row = next_best(np.where(like_those_before[slot], -np.inf, affordable))
            if row is None:
                row = next_best(affordable)
            if row is None:
                break
            board.settle(row, "reserve", f"number {turn + 1} to replace the pick of slot {slot}, should it fail", slot)
            reserve_rows[slot].append(row)
            if alike is not None:
                like_those_before[slot] |= alike(row)

    board.too_dear(prices, left)

    first_bound = board.bound(first_score)
    order = np.lexsort((columns.index, -first_bound))
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)

    def ranked(row: int) -> Ranked:
        outcome, slot, reason = board.outcomes.get(row, ("not_best", None, "other candidates score higher"))
        penalty = board.penalty[row]
        return Ranked(
            index=int(columns.index[row]),
            rank=int(rank[row]),
            score=float(first_bound[row]),
            motif_score=float(first_motif_score[row]),
            distance_penalty=float(columns.distance_penalty[row]),
            energy_penalty=float(penalty) if np.isfinite(penalty) else None,
            outcome=outcome,
            slot=slot,
            reason=reason,
        )

    chosen = {*rows, *(row for reserves in reserve_rows for row in reserves)}
    best = order[: design.keep]
    kept = sorted(chosen | set(best[first_bound[best] > -np.inf].tolist()), key=lambda row: rank[row])
    return Selection(
        picks=tuple(ranked(row) for row in rows),
        reserves=tuple(tuple(ranked(row) for row in reserves) for reserves in reserve_rows),
        ranking=tuple(ranked(row) for row in kept),
        reason=_shortage(len(rows), n_picks, motifs, preference is not None, board),
    )


class _Board:
    """Who is still in the race, and the energies that have been asked for.

    P_energy can only lower a score, so the candidate with the highest score without it is the best as soon as its
    energy is known and it is still the highest. Energies of the others need not be known: the result is the same.
    """

    def __init__(self, index: np.ndarray, energy_per_atom: Callable[[int], float], lookup: bool) -> None:
        self.index = index
        self.energy_per_atom = energy_per_atom
        self.lookup = lookup
        self.free = np.ones(len(index), dtype=bool)
        self.penalty = np.full(len(index), np.nan)  # nan: not asked for
        self.outcomes: dict[int, tuple[str, int | None, str]] = {}

    def settle(self, row: int, outcome: str, reason: str, slot: int | None = None) -> None:
        """Take a candidate out of the race, as chosen or with what speaks against it."""
        self.free[row] = False
        self.outcomes[row] = (outcome, slot, reason)

    def too_dear(self, prices: np.ndarray, left: float) -> None:
        """Take candidates out of the race that cost more than is left."""
        for k in np.flatnonzero(self.free & (prices > left)).tolist():
            price, rest = figures(prices[k], 3), figures(left, 3)
            self.settle(k, "too_dear", f"costs {price} train cells, more than the {rest} left by max_cost")

    def bound(self, scores: np.ndarray) -> np.ndarray:
        """Scores less the energy penalties known so far: upper bounds of the final scores, (n,)."""
        return scores - np.nan_to_num(self.penalty, nan=0.0, posinf=0.0)

    def final(self, row: int, scores: np.ndarray) -> float:
        """The final score of a candidate whose energy is known."""
        return float(self.bound(scores)[row])

    def best(self, scores: np.ndarray) -> int | None:
        """Row of the free candidate with the highest final score, the lowest index among equals."""
        bound = np.where(self.free, self.bound(scores), -np.inf)
        while len(bound):
            row = int(bound.argmax())
            if bound[row] == -np.inf:
                return None
            if not self.lookup or not np.isnan(self.penalty[row]):
                return row
            energy = self.energy_per_atom(int(self.index[row]))
            if np.isfinite(energy):
                self.penalty[row] = ENERGY_PENALTY * max(0.0, energy)
                bound[row] -= self.penalty[row]
            else:
                self.penalty[row] = np.inf
                self.settle(row, "no_energy", "the current model gives no finite energy for it")
                bound[row] = -np.inf
        return None


def _shortage(n_found: int, n_picks: int, motifs: Sequence[Motif], drawn: bool, board: _Board) -> str:
    """A sentence when there are fewer picks than asked for."""
    if n_found == n_picks:
        return ""
    if not motifs and not drawn:
        return "there are no key motifs: nothing that the target has and train lacks scores, so no candidate does"
    counts: dict[str, int] = {}
    for outcome, _, reason in board.outcomes.values():
        label = {
            "outside": "outside the reference's domain",
            "too_dear": "that cost more than max_cost leaves",
            "duplicate": "crystals that are labelled already",
            "no_energy": "without a finite energy",
            "not_best": reason,
        }.get(outcome)
        if label:
            counts[label] = counts.get(label, 0) + 1
    listed = ", ".join(f"{n} {label}" for label, n in sorted(counts.items()))
    return f"{n_found} of {n_picks} picks: of {len(board.index)} candidates, {listed or 'all are picked'}"
