"""Bin widths by the rule of Shimazaki and Shinomoto, Neural Comput. 19, 1503 (2007)."""

from __future__ import annotations

import numpy as np
from numba import njit

from kmde_fw.core.distributions import DECIMALS

#: widths tried, in geometric progression between the bounds
N_WIDTHS = 60


def width_cost(samples: np.ndarray, n_bins: int, n_shifts: int) -> float:
    """C(Δ) = (2 k̄ - v) / Δ² for Δ = (max - min) / n_bins, averaged over bin origins.

    samples: (n,), sorted, not all equal. k̄ and v are the mean and the biased variance (divided by n_bins) of the counts
    in n_bins bins; the origins are n_shifts, evenly from Δ/2 below the smallest sample to Δ/2 above it.
    The readable form of `width_costs`, for one number of bins.
    """
    width = (samples[-1] - samples[0]) / n_bins
    origins = samples[0] + np.linspace(-width / 2, width / 2, n_shifts)
    edges = origins[:, None] + width * np.arange(n_bins + 1)
    below = np.searchsorted(samples, edges)
    below[:, -1] = np.searchsorted(samples, edges[:, -1], side="right")  # the last bin contains its upper edge
    counts = np.diff(below, axis=1)
    return float(np.mean((2 * counts.mean(axis=1) - counts.var(axis=1)) / width**2))


def width_costs(
    values: np.ndarray, numbers: np.ndarray, n_shifts: int = 30, counts: np.ndarray | None = None
) -> np.ndarray:
    """`width_cost` for many numbers of bins at once, (n_numbers,), in time O(samples + edges).

    values: (m,), sorted, not all equal; counts: (m,) how many samples have each value, 1 where not given; numbers:
    (n_numbers,) of bins, at least 1 each.
    """
    values = np.ascontiguousarray(values, dtype=float)
    each = np.ones(len(values), dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64)
    below = np.concatenate([[0], np.cumsum(each)])
    return _width_costs(values, below, np.asarray(numbers, dtype=np.int64), n_shifts)


def optimal_width(
    samples: np.ndarray, lower: float, upper: float, n_shifts: int = 30, counts: np.ndarray | None = None
) -> float:
    """The bin width with the least `width_cost`, searched between two bounds; METHOD section 1.

    samples: (n,), any order; counts: (n,) how often each of them occurs, once where not given. The widths tried divide
    the range of the samples into whole numbers of bins, those nearest to a geometric grid of 60 widths between the
    bounds; of equal costs the wider bins win. The samples of a perfect crystal are delta peaks, for which the cost
    falls without end as Δ -> 0: there the lower bound is what is returned. So it is when the samples span less than the
    lower bound. Raises ValueError without samples.
    """
    if not len(samples):
        raise ValueError("no samples to find a bin width for")
    order = np.argsort(samples) if counts is not None else None
    ordered = np.sort(samples) if order is None else samples[order]
    span = ordered[-1] - ordered[0]
    if span < lower:
        return lower
    widths = np.geomspace(upper, lower, N_WIDTHS)
    numbers = np.unique(np.maximum(np.rint(span / widths), 1).astype(int))
    costs = width_costs(ordered, numbers, n_shifts, None if counts is None else counts[order])
    best = span / int(numbers[int(np.argmin(costs))])
    return float(np.clip(round(best, DECIMALS), lower, upper))


@njit(cache=True, nogil=True)
def _width_costs(values: np.ndarray, below: np.ndarray, numbers: np.ndarray, n_shifts: int) -> np.ndarray:
    """See `width_costs`; below: (m + 1,) how many samples come before each value.

    A table over equal cells of the range says where the values of each cell begin, so that an edge is compared with the
    few values of its own cell. Cells come from the same expression for values and edges, which never falls as its
    argument rises: the counts are exact.
    """
    m = len(values)
    low, span = values[0], values[-1] - values[0]
    n_cells = min(8 * m, 1 << 21)
    per_unit = n_cells / span
    first = np.zeros(n_cells + 2, dtype=np.int32)  # values before each cell
    for i in range(m):
        first[int((values[i] - low) * per_unit) + 1] += 1
    for c in range(n_cells + 1):
        first[c + 1] += first[c]

    costs = np.empty(len(numbers))
    for k in range(len(numbers)):
        n_bins = numbers[k]
        width = span / n_bins
        total = 0.0
        for s in range(n_shifts):
            step = s / (n_shifts - 1) if n_shifts > 1 else 0.0
            origin = low + (step - 0.5) * width
            before, begin = 0, 0
            squares = 0.0
            for b in range(n_bins + 1):
                edge = origin + width * b
                if edge <= low:
                    i = 0
                elif edge > values[-1]:
                    i = m
                else:
                    cell = int((edge - low) * per_unit)
                    i, end = first[cell], first[cell + 1]
                    while i < end:  # the first value of the cell that is not below the edge
                        middle = (i + end) // 2
                        if values[middle] < edge:
                            i = middle + 1
                        else:
                            end = middle
                while b == n_bins and i < m and values[i] == edge:
                    i += 1  # the last bin contains its upper edge
                if b:
                    count = below[i] - before
                    squares += float(count) * count
                else:
                    begin = below[i]
                before = below[i]
            mean = (before - begin) / n_bins
            total += (2.0 * mean - (squares / n_bins - mean * mean)) / (width * width)
        costs[k] = total / n_shifts
    return costs
