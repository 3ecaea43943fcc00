"""Shall the campaign go on? A function of what the cycles left on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kmde_fw.config import Stop
from kmde_fw.core.environments import HALF
from kmde_fw.units import MEV_PER_EV, figures

#: after so many cycles in a row without one accepted label, the reference is at fault and not the choice of candidates
FRUITLESS_CYCLES = 3

#: calculations that must have been tried before the part of them that failed means anything
ENOUGH_TRIED = 6


@dataclass(frozen=True)
class CycleSummary:
    """What one cycle says to the decision.

    cycle: from 0; n_surrogates: surrogates in the train set that its models learned from; n_outliers: target atoms
    outside that train set's range; gap: `Coverage.total`; failed_labels: labels that failed in this cycle;
    broken_labels: of these, calculations that failed or were refused for anything but the reference's domain;
    new_labels: surrogates that this cycle added to the train set; None in a cycle that designs none;
    shortage: why the cycle picked less than it was to pick, else empty.
    zero, vicinity, far_inside: of `environments.Opinion`. energy_change, force_change: how much the predictions for the
    target moved since the cycle before, root mean square, meV/atom and eV/Å; None: not known. remaining: part by which
    the best candidate that was not picked would make the vicinity known better; None: the strategy does not say. cost:
    of all labels so far, in train cells; asked of the last cycle only.
    """

    cycle: int
    n_surrogates: int
    n_outliers: int
    gap: float
    failed_labels: int = 0
    broken_labels: int = 0
    new_labels: int | None = None
    shortage: str = ""
    zero: float = 0.0
    vicinity: float = 0.0
    far_inside: int = 0
    energy_change: float | None = None
    force_change: float | None = None
    remaining: float | None = None
    cost: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Whether to stop, and why, in words.

    early: why `stop.rule: converged` stops here or would have stopped, before the budget is spent; empty: it would not.
    """

    stop: bool
    reason: str
    early: str = ""


def vicinity_gain(promise: Mapping[str, Any] | None) -> float | None:
    """By which part a promise (`environments.Promise` as a document) makes the vicinity known better; or None."""
    if promise is None:
        return None
    before, after = promise["vicinity"]
    return 1.0 - after / before if before else 0.0


def decide(history: Sequence[CycleSummary], stop: Stop, max_failed_fraction: float = 1.0) -> Decision:
    """Stop or go on after the last cycle of a campaign's history (in order of cycles).

    Stops for the first of these that holds: the target is covered and settled (`unsettled` finds nothing); N
    surrogates or `max_cost` are spent; the last cycle found no candidate to pick, or none that is affordable; all
    labels of three cycles in a row failed; more than `max_failed_fraction` of at least ENOUGH_TRIED calculations
    failed; for `plateau_cycles` cycles neither the outliers nor the gap have become less than at their best before.
    With `rule: budget` the first and the last do not stop, but are recorded. Failed labels do not count towards N, and
    a cycle of failures alone does not stop a campaign. Raises ValueError without any cycle.
    """
    if not history:
        raise ValueError("no cycle to decide about")
    now = history[-1]
    waits = unsettled(history, stop)
    covered = _covered(history) if stop.zero_outliers and not waits else ""
    early = covered or _plateau(history, stop)
    over = _over(history, stop, max_failed_fraction)
    if stop.rule == "converged":
        over = covered or over or early
    if over:
        return Decision(True, over, early)
    reason = f"{_outliers(now.n_outliers)} left, {now.n_surrogates} of {_surrogates(stop.max_surrogates)} spent"
    if stop.zero_outliers and not now.n_outliers:
        reason = "; ".join([reason, *waits])
    return Decision(False, reason, early)


def unsettled(history: Sequence[CycleSummary], stop: Stop) -> list[str]:
    """What speaks against stopping for `zero_outliers`, in words; nothing needs a label of the target.

    Outlier atoms; atoms far from the train set though inside its range (the second opinion); a change of the target's
    predicted energies or forces above `energy_change` and `force_change`; an energy zero that is known no better than
    `energy_change`, while the last labels could still halve what is open of it, or none has been tried; a candidate
    that would make the vicinity known better by more than `vicinity_gain`. Where the strategy does not say what the
    best remaining candidate would bring, what the last one brought counts. What is not known does not count.
    """
    history = _learned(history)
    now, before = history[-1], history[-2] if len(history) > 1 else None
    found = []
    if now.n_outliers:
        found.append(_outliers(now.n_outliers))
    if now.far_inside:
        found.append(f"{now.far_inside} target atoms are inside the train range, but far from every train atom")
    if stop.energy_change is not None:
        zero = MEV_PER_EV * now.zero
        if zero > stop.energy_change and (before is None or now.zero <= HALF * before.zero):
            found.append(f"the target's energy zero is known to {figures(zero, 2)} meV/atom only")
        if now.energy_change is not None and now.energy_change > stop.energy_change:
            moved = figures(now.energy_change, 2)
            found.append(f"the energies predicted for the target still moved by {moved} meV/atom")
    if stop.force_change is not None and now.force_change is not None and now.force_change > stop.force_change:
        found.append(f"the forces predicted for the target still moved by {now.force_change:.2g} eV/Å")
    if stop.vicinity_gain is not None and before is not None:
        gain, text = _gain(now, before)
        if gain > stop.vicinity_gain:
            found.append(f"{text} {100 * gain:.1f} % better")
    return found


def _learned(history: Sequence[CycleSummary]) -> Sequence[CycleSummary]:
    """The cycles that learned something: where all labels failed, models and ranges are those of the cycle before."""
    return [summary for summary in history if summary.new_labels != 0] or history


def _gain(now: CycleSummary, before: CycleSummary) -> tuple[float, str]:
    """By which part labels make the target's vicinity known better, and which labels."""
    if now.remaining is not None:
        return now.remaining, "the best remaining candidate would make the target's vicinity known"
    gain = 1 - now.vicinity / before.vicinity if before.vicinity else 0.0
    return gain, "the last cycle made the target's vicinity known"


def _covered(history: Sequence[CycleSummary]) -> str:
    """That the target is covered and settled, in words, with what was measured."""
    history = _learned(history)
    now = history[-1]
    words = [f"no target atom is an outlier any more, with {_surrogates(now.n_surrogates)} learned"]
    moved = []
    if now.energy_change is not None:
        moved.append(f"energies by {figures(now.energy_change, 2)} meV/atom")
    if now.force_change is not None:
        moved.append(f"forces by {now.force_change:.2g} eV/Å")
    if moved:
        words.append(f"what is predicted for the target moved little ({', '.join(moved)})")
    if len(history) > 1:
        gain, text = _gain(now, history[-2])
        words.append(f"{text} {100 * gain:.1f} % better")
    return "; ".join(words)


def _over(history: Sequence[CycleSummary], stop: Stop, max_failed_fraction: float) -> str:
    """Why nothing more can be done, or nothing."""
    now = history[-1]
    if now.n_surrogates >= stop.max_surrogates:
        return f"the budget of {_surrogates(stop.max_surrogates)} is spent, with {_outliers(now.n_outliers)} left"
    if stop.max_cost is not None and now.cost >= stop.max_cost:
        return (
            f"the labels have cost {figures(now.cost, 3)} train cells, all that max_cost ({stop.max_cost:g}) allows, "
            f"with {_outliers(now.n_outliers)} left"
        )
    if now.new_labels == 0 and now.failed_labels == 0:
        why = f" ({now.shortage})" if now.shortage else ""
        return f"no candidate could be picked in cycle {now.cycle}{why}, with {_outliers(now.n_outliers)} left"
    fruitless = history[-FRUITLESS_CYCLES:]
    if len(fruitless) == FRUITLESS_CYCLES and all(summary.new_labels == 0 for summary in fruitless):
        failed = sum(summary.failed_labels for summary in fruitless)
        return (
            f"all {failed} labels of the last {FRUITLESS_CYCLES} cycles failed, with {_outliers(now.n_outliers)} left; "
            "look at the reference"
        )
    broken = sum(summary.broken_labels for summary in history)
    tried = broken + sum(summary.new_labels or 0 for summary in history)
    if tried >= ENOUGH_TRIED and broken > max_failed_fraction * tried:
        return (
            f"{broken} of {tried} reference calculations failed, more than max_failed_fraction "
            f"({max_failed_fraction:g}) allows, with {_outliers(now.n_outliers)} left; look at the reference"
        )
    return ""


def _plateau(history: Sequence[CycleSummary], stop: Stop) -> str:
    """Why the campaign has flattened, or nothing."""
    if stop.plateau_cycles is None or len(history) <= stop.plateau_cycles:
        return ""
    before, recent = history[: -stop.plateau_cycles], history[-stop.plateau_cycles :]
    outliers, outliers_before = min(s.n_outliers for s in recent), min(s.n_outliers for s in before)
    gap, gap_before = min(s.gap for s in recent), min(s.gap for s in before)
    if outliers < outliers_before or gap < (1 - stop.plateau_gain) * gap_before:
        return ""
    cycles = "in the last cycle" if len(recent) == 1 else f"in the last {len(recent)} cycles"
    return (
        f"a plateau: {cycles} at best {_outliers(outliers)} ({outliers_before} before) and a gap of {gap:.4g} "
        f"({gap_before:.4g} before; a decrease of {100 * stop.plateau_gain:g} % would count)"
    )


def _surrogates(n: int) -> str:
    return f"{n} surrogate{'' if n == 1 else 's'}"


def _outliers(n: int) -> str:
    return f"{n} outlier atom{'' if n == 1 else 's'}"
