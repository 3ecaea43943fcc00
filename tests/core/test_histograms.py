import time

import numpy as np
import pytest
from adaptivekde.sshist import sshist

from kmde_fw.core.histograms import optimal_width, width_cost, width_costs


def test_cost_by_hand():
    samples = np.array([0.0, 1.0, 1.0, 4.0])  # two bins: Δ = 2
    # one origin, -1: counts 1 and 2, mean 1.5, biased variance 0.25
    assert width_cost(samples, 2, 1) == pytest.approx((2 * 1.5 - 0.25) / 4)
    # origins -1, 0, 1: counts (1, 2), (3, 1), (2, 1)
    assert width_cost(samples, 2, 3) == pytest.approx((2.75 + 3 + 2.75) / 3 / 4)


def test_cost_is_that_of_sshist():
    samples = np.sort(np.random.default_rng(0).normal(2.7, 0.2, 400))
    _, _, _, costs, numbers = sshist(samples, N=range(2, 61), SN=30)
    ours = [width_cost(samples, n, 30) for n in numbers]
    np.testing.assert_allclose(ours, costs, rtol=1e-9)


def normal():
    return np.random.default_rng(1).normal(2.7, 0.2, 3000)


@pytest.mark.parametrize(
    "samples",
    [
        normal(),
        np.round(normal(), 6),
        np.round(normal(), 2),
        np.repeat([2.5, 2.9, 3.7], 1000),
        np.array([1.0, 1.0, 2.0]),
    ],
    ids=["normal", "rounded", "ties", "crystal", "three"],
)
@pytest.mark.parametrize("n_shifts", [1, 2, 30])
def test_compiled_costs_are_those_of_the_readable_form(samples, n_shifts):
    samples = np.sort(samples)
    numbers = np.array([1, 2, 3, 7, 50, 51, 400])
    expected = [width_cost(samples, n, n_shifts) for n in numbers]
    np.testing.assert_allclose(width_costs(samples, numbers, n_shifts), expected, rtol=1e-12)
    values, counts = np.unique(samples, return_counts=True)
    np.testing.assert_allclose(width_costs(values, numbers, n_shifts, counts), expected, rtol=1e-12)


def test_counted_samples_have_the_width_of_the_samples():
    samples = np.round(normal(), 2)
    values, counts = np.unique(samples, return_counts=True)
    turned = np.random.default_rng(2).permutation(len(values))
    width = optimal_width(samples, 0.01, 0.2)
    assert optimal_width(values[turned], 0.01, 0.2, counts=counts[turned]) == width
    assert optimal_width(values, 0.01, 0.2) != width


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_that_of_sshist(seed):
    samples = np.sort(np.random.default_rng(seed).normal(2.7, 0.2, 500))
    best, _, _, _, numbers = sshist(samples, N=range(2, 201), SN=30)
    assert numbers[int(np.argmin(width_costs(samples, np.array(numbers), 30)))] == best


@pytest.mark.parametrize("seed", range(4))
def test_width_is_that_of_sshist(seed):
    rng = np.random.default_rng(seed)
    samples = np.sort(np.concatenate([rng.normal(2.5, 0.05, 300), rng.normal(3.4, 0.2, 700)]))
    _, expected, _, costs, _ = sshist(samples, N=range(2, 201), SN=30)
    width = optimal_width(samples, 0.01, 0.2)
    assert width == pytest.approx(expected, rel=0.15)
    assert width_cost(samples, round((samples[-1] - samples[0]) / width), 30) <= 0.999 * min(costs)  # costs are < 0


def test_width_is_of_the_order_of_stones_rule():
    samples = np.random.default_rng(5).normal(0, 1, 2000)
    edges = np.histogram_bin_edges(samples, "stone")
    assert optimal_width(samples, 0.01, 2.0) == pytest.approx(edges[1] - edges[0], rel=0.6)


def test_more_samples_give_narrower_bins():
    rng = np.random.default_rng(6)
    widths = [optimal_width(rng.normal(0, 1, n), 0.01, 2.0) for n in (50, 500, 50_000)]
    assert widths[0] > widths[1] > widths[2]


def test_the_number_of_origins_matters():
    samples = np.sort(np.random.default_rng(7).normal(0, 1, 100))
    assert width_cost(samples, 7, 1) != pytest.approx(width_cost(samples, 7, 30), rel=1e-6)
    assert len({optimal_width(samples, 0.05, 2.0, n_shifts) for n_shifts in (1, 2, 5, 30)}) > 1


def test_delta_peaks_take_the_lower_bound():
    crystal = np.repeat([2.5, 2.9, 3.7], 1000)
    assert optimal_width(crystal, 0.01, 0.2) == pytest.approx(0.01, rel=0.01)
    assert optimal_width(np.full(1000, 2.5), 0.01, 0.2) == 0.01


def test_a_flat_distribution_takes_the_upper_bound():
    flat = np.random.default_rng(8).uniform(0, 180, 60)
    assert optimal_width(flat, 0.5, 2.0) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("span", [0.0, 0.005, 0.011, 0.15, 0.27, 3.0])
def test_the_width_stays_between_the_bounds(span):
    samples = 2.5 + span * np.linspace(0, 1, 60)
    assert 0.01 <= optimal_width(samples, 0.01, 0.2) <= 0.2
    assert 0.19 <= optimal_width(samples, 0.19, 0.2) <= 0.2


def test_no_samples():
    with pytest.raises(ValueError, match="no samples"):
        optimal_width(np.zeros(0), 0.01, 0.2)


def test_order_does_not_matter_and_it_is_fast():
    samples = np.random.default_rng(9).normal(90, 30, 58_438)
    began = time.process_time()
    width = optimal_width(samples, 0.1, 10.0)
    assert time.process_time() - began < 1.5
    assert width == optimal_width(samples[::-1], 0.1, 10.0)
