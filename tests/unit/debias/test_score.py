"""Scores on a grid against the exact kernel density."""

import numpy as np
import pytest
from scipy.stats import gaussian_kde

from eo_causal.debias.score import (
    Grid,
    bandwidth_of,
    bin_linearly,
    grid_score,
    make_grid,
    over_density,
    smooth,
)
from eo_causal.errors import DegenerateError


def exact_score(places, values, weight, bandwidth):
    """Score of the kernel density, point by point."""
    apart = places[:, None] - values
    kernel = np.exp(-0.5 * (apart / bandwidth) ** 2) * weight
    return -(kernel * apart).sum(axis=1) / kernel.sum(axis=1) / bandwidth**2


def equal(n):
    return np.full(n, 1 / n)


@pytest.mark.parametrize("weighted", [False, True])
def test_scott_is_the_bandwidth_of_scipy(weighted):
    random = np.random.default_rng(0)
    values = random.gamma(2, size=500)
    weight = random.random(500) if weighted else np.ones(500)
    kernel = gaussian_kde(values, weights=weight)
    expected = float(np.sqrt(kernel.covariance[0, 0]))
    assert bandwidth_of(values, weight / weight.sum(), "scott") == pytest.approx(
        expected, rel=1e-12
    )


def test_the_robust_rule_is_narrower_for_skew_but_not_below_half_of_scott():
    random = np.random.default_rng(0)
    for values, ratio in (
        (random.normal(size=4000), 0.9),
        (np.exp(1.5 * random.normal(size=4000)), 0.5),
    ):
        found = bandwidth_of(values, equal(4000), "robust_silverman")
        scott = bandwidth_of(values, equal(4000), "scott")
        assert found / scott == pytest.approx(ratio, abs=0.02)
    mixed = random.exponential(size=4000)
    low, high = np.quantile(mixed, [0.25, 0.75])
    by_hand = 0.9 * (high - low) / 1.349 * 4000**-0.2
    assert bandwidth_of(mixed, equal(4000), "robust_silverman") == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("rule", ["robust_silverman", "scott"])
def test_grid_scores_are_those_of_the_exact_density(rule):
    """M2: within 1e-4 sd of the score."""
    random = np.random.default_rng(1)
    values = random.normal(30, 12, size=1500)
    weight = random.random(1500)
    weight /= weight.sum()
    bandwidth = bandwidth_of(values, weight, rule)
    grid = make_grid(values, bandwidth)
    inside = np.sort(values)[2:-2]
    expected = exact_score(inside, values, weight, bandwidth)
    found = np.interp(inside, grid.nodes, grid_score(values, weight, bandwidth, grid))
    assert np.abs(found - expected).max() < 1e-4 * expected.std()


def test_binning_keeps_mass_and_mean():
    grid = Grid(0.0, 0.5, 16)
    values, mass = np.array([0.1, 1.0, 3.9]), np.array([0.2, 0.3, 0.5])
    binned = bin_linearly(values, mass, grid)
    assert binned.sum() == pytest.approx(1)
    assert binned @ grid.nodes == pytest.approx(mass @ values)
    assert binned[:3] == pytest.approx([0.16, 0.04, 0.3])


def test_a_smoothed_point_is_the_kernel():
    grid = Grid(-8.0, 16 / 4095)
    level, derivative = smooth(bin_linearly(grid.nodes[[2000]], np.ones(1), grid), grid, 1.0)
    apart = grid.nodes - grid.nodes[2000]
    kernel = np.exp(-0.5 * apart**2) / np.sqrt(2 * np.pi)
    assert level == pytest.approx(kernel, abs=1e-5)
    assert derivative == pytest.approx(-apart * kernel, abs=1e-5)


def test_between_far_groups_the_score_is_that_of_a_gaussian():
    random = np.random.default_rng(2)
    values = np.concatenate([random.normal(size=300), random.normal(60, size=300)])
    grid = make_grid(values, 0.3)
    score = grid_score(values, equal(600), 0.3, grid)
    middle = np.abs(grid.nodes - 30) < 10
    expected = -(grid.nodes - values.mean()) / values.var()
    assert score[middle] == pytest.approx(expected[middle], rel=1e-9)


def test_a_value_very_far_from_all_others_is_refused():
    values = np.r_[np.linspace(0, 1, 200), 1e5]
    with pytest.raises(DegenerateError, match="very far from all others"):
        make_grid(values, 0.1)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(DegenerateError, match="not finite at 1 of 3 nodes"):
        over_density(np.array([1.0, np.inf, 1]), np.ones(3), np.zeros(3))
