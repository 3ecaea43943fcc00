"""Shall the campaign go on? A function of what the cycles left on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kmde_fw.config import Stop

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
    new_labels: surrogates that this cycle added to the train set; None in a cycle that designs none.
    vicinity: mean distance of the target's vicinity from the train set, as in `environments`.
    """

    cycle: int
    n_surrogates: int
    n_outliers: int
    gap: float
    failed_labels: int = 0
    broken_labels: int = 0
    new_labels: int | None = None
    vicinity: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Whether to stop, and why, in words.

    early: why `stop.rule: converged` stops here or would have stopped, before the budget is spent; empty: it would not.
    """

    stop: bool
    reason: str
    early: str = ""


def decide(history: Sequence[CycleSummary], stop: Stop, max_failed_fraction: float = 1.0) -> Decision:
    """Stop or go on after the last cycle of a campaign's history (in order of cycles).

    Stops for the first of these that holds: no target atom is an outlier, and the last cycle brought the target's
    vicinity nearer by `vicinity_gain` at most; N surrogates are spent; the last cycle found
    no candidate to pick; all labels of three cycles in a row failed; more than `max_failed_fraction` of at least
    ENOUGH_TRIED calculations failed; for `plateau_cycles` cycles neither the outliers nor the gap have become less than
    at their best before. With `rule: budget` the first and the last do not stop, but are recorded. Failed labels do not
    count towards N, and a cycle of failures alone does not stop a campaign. Raises ValueError without any cycle.
    """
    if not history:
        raise ValueError("no cycle to decide about")
    now = history[-1]
    covered = _covered(history, stop)
    early = covered or _plateau(history, stop)
    over = _over(history, stop, max_failed_fraction)
    if stop.rule == "converged":
        over = covered or over or early
    if over:
        return Decision(True, over, early)
    return Decision(
        False,
        f"{_outliers(now.n_outliers)} left, {now.n_surrogates} of {_surrogates(stop.max_surrogates)} spent",
        early,
    )


def _covered(history: Sequence[CycleSummary], stop: Stop) -> str:
    """That no target atom is an outlier, and labels bring what is near the target hardly nearer; or nothing."""
    now = history[-1]
    if not stop.zero_outliers or now.n_outliers:
        return ""
    text = f"no target atom is an outlier any more, with {_surrogates(now.n_surrogates)} learned"
    if stop.vicinity_gain is None or len(history) == 1:
        return text
    before = history[-2].vicinity
    gain = 1 - now.vicinity / before if before else 0.0
    if gain > stop.vicinity_gain:
        return ""
    return f"{text}, and the last cycle brought the target's vicinity only {100 * gain:.1f} % nearer"


def _over(history: Sequence[CycleSummary], stop: Stop, max_failed_fraction: float) -> str:
    """Why nothing more can be done, or nothing."""
    now = history[-1]
    if now.n_surrogates >= stop.max_surrogates:
        return f"the budget of {_surrogates(stop.max_surrogates)} is spent, with {_outliers(now.n_outliers)} left"
    if now.new_labels == 0 and now.failed_labels == 0:
        return f"no candidate could be picked in cycle {now.cycle}, with {_outliers(now.n_outliers)} left"
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
