"""Bin widths by the rule of Shimazaki and Shinomoto, Neural Comput. 19, 1503 (2007)."""

from __future__ import annotations

import numpy as np

from kmde_fw.core.distributions import DECIMALS

#: widths tried, in geometric progression between the bounds
N_WIDTHS = 60


def width_cost(samples: np.ndarray, n_bins: int, n_shifts: int) -> float:
    """C(Δ) = (2 k̄ - v) / Δ² for Δ = (max - min) / n_bins, averaged over bin origins.

    samples: (n,), sorted, not all equal. k̄ and v are the mean and the biased variance (divided by n_bins) of the counts
    in n_bins bins; the origins are n_shifts, evenly from Δ/2 below the smallest sample to Δ/2 above it.
    """
    width = (samples[-1] - samples[0]) / n_bins
    origins = samples[0] + np.linspace(-width / 2, width / 2, n_shifts)
    edges = origins[:, None] + width * np.arange(n_bins + 1)
    below = np.searchsorted(samples, edges)
    below[:, -1] = np.searchsorted(samples, edges[:, -1], side="right")  # the last bin contains its upper edge
    counts = np.diff(below, axis=1)
    return float(np.mean((2 * counts.mean(axis=1) - counts.var(axis=1)) / width**2))


def optimal_width(samples: np.ndarray, lower: float, upper: float, n_shifts: int = 30) -> float:
    """The bin width with the least `width_cost`, searched between two bounds; METHOD section 1.

    samples: (n,), any order. The widths tried divide the range of the samples into whole numbers of bins, those nearest
    to a geometric grid of 60 widths between the bounds; of equal costs the wider bins win. The samples of a perfect
    crystal are delta peaks, for which the cost falls without end as Δ -> 0: there the lower bound is what is returned.
    So it is when the samples span less than the lower bound. Raises ValueError without samples.
    """
    if not len(samples):
        raise ValueError("no samples to find a bin width for")
    ordered = np.sort(samples)
    span = ordered[-1] - ordered[0]
    if span < lower:
        return lower
    widths = np.geomspace(upper, lower, N_WIDTHS)
    numbers = np.unique(np.maximum(np.rint(span / widths), 1).astype(int))
    costs = [width_cost(ordered, int(n), n_shifts) for n in numbers]
    best = span / int(numbers[int(np.argmin(costs))])
    return float(np.clip(round(best, DECIMALS), lower, upper))
