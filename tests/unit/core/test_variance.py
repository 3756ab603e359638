"""Standard errors: hand-computed, equal to statsmodels, and never a negative variance made zero."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from eo_causal.core import variance
from eo_causal.core.variance import (
    bartlett_sum,
    conley_std_error,
    interval,
    mean_std_error,
    ols_covariance,
    p_value,
    two_way_std_error,
)
from eo_causal.errors import DataError, DegenerateError


def regression(n=80, seed=0):
    random = np.random.default_rng(seed)
    design = np.column_stack([np.ones(n), random.normal(size=(n, 3))])
    outcome = design @ [1, 2, 0, -1] + random.normal(size=n) * (1 + design[:, 1] ** 2)
    cluster = random.integers(0, 12, n)
    return design, outcome, cluster, random.uniform(0, 10_000, (n, 2))


def residual_of(design, outcome):
    return outcome - design @ np.linalg.lstsq(design, outcome, rcond=None)[0]


def double_loop(values, places, cutoff):
    """The sum of AU section 5, pair by pair."""
    total = np.zeros((values.shape[1],) * 2)
    for i in range(len(values)):
        for j in range(len(values)):
            kernel = max(0.0, 1 - np.hypot(*(places[i] - places[j])) / cutoff)
            total += kernel * np.outer(values[i], values[j])
    return total


def test_independent_values_give_sd_over_root_n():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    assert mean_std_error(values) == pytest.approx(values.std(ddof=1) / 2, abs=1e-15)
    assert mean_std_error(values + 100) == pytest.approx(mean_std_error(values), abs=1e-12)


def test_clusters_by_hand():
    values = np.array([1.0, 3.0, -2.0, -2.0])
    # sums 4 and -4, G/(G-1) = 2, n^2 = 16: V = 2 * 32 / 16 = 4
    assert mean_std_error(values, np.array([5, 5, 9, 9])) == pytest.approx(2.0)
    assert mean_std_error(values, np.arange(4)) == pytest.approx(mean_std_error(values))


def test_clusters_of_equal_units_count_once():
    random = np.random.default_rng(1)
    means, cluster = random.normal(size=200), np.repeat(np.arange(200), 5)
    repeated = mean_std_error(means[cluster], cluster)
    assert repeated == pytest.approx(mean_std_error(means), rel=1e-12)


def test_two_way_is_the_sum_less_the_intersection():
    random = np.random.default_rng(2)
    place, year = random.integers(0, 30, 300), random.integers(0, 25, 300)
    values = random.normal(size=30)[place] + random.normal(size=25)[year]
    both = mean_std_error(values, place * 25 + year)
    expected = mean_std_error(values, place) ** 2 + mean_std_error(values, year) ** 2 - both**2
    assert two_way_std_error(values, place, year) == pytest.approx(np.sqrt(expected), rel=1e-12)
    assert two_way_std_error(values, place, place) == pytest.approx(mean_std_error(values, place))


def test_a_negative_two_way_variance_is_an_error():
    # sums over rows and over columns are all zero, the cells are not
    values, rows, columns = np.array([1.0, -1, -1, 1]), np.array([0, 0, 1, 1]), np.array([0, 1] * 2)
    with pytest.raises(DegenerateError, match=r"two-way variance is -0\.333.*coarser grouping"):
        two_way_std_error(values, rows, columns)


@pytest.mark.parametrize("cutoff", [300.0, 2000.0, 40_000.0])
def test_conley_equals_the_double_loop(cutoff, monkeypatch):
    _, outcome, _, places = regression()
    places[7] = places[3]
    centred = (outcome - outcome.mean())[:, None]
    expected = np.sqrt(double_loop(centred, places, cutoff)[0, 0]) / len(outcome)
    assert conley_std_error(outcome, places, cutoff) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(variance, "PAIRS_AT_ONCE", 7 * len(outcome))
    assert conley_std_error(outcome, places, cutoff) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("cutoff", [300.0, 2000.0])
def test_conley_of_least_squares_equals_the_double_loop(cutoff):
    design, outcome, _, places = regression()
    residual = residual_of(design, outcome)
    bread = np.linalg.inv(design.T @ design)
    expected = bread @ double_loop(design * residual[:, None], places, cutoff) @ bread
    found = ols_covariance(design, residual, "conley", coordinates_m=places, cutoff_m=cutoff)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_conley_without_reach_is_hc0():
    design, outcome, _, places = regression()
    residual = residual_of(design, outcome)
    near = ols_covariance(design, residual, "conley", coordinates_m=places, cutoff_m=1e-6)
    np.testing.assert_allclose(near, ols_covariance(design, residual, "HC0"), rtol=1e-12)
    alone = conley_std_error(outcome, places, 1e-6)
    assert alone == pytest.approx(outcome.std() / np.sqrt(len(outcome)), rel=1e-12)


def test_a_negative_conley_variance_is_an_error_not_zero():
    # The Bartlett kernel is no covariance in the plane: look for signs that show it.
    places = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2)
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    kernel = np.maximum(0, 1 - apart / 3)
    centring = np.eye(144) - 1 / 144
    values = np.linalg.eigh(centring @ kernel @ centring)[1][:, 0]
    assert bartlett_sum(values[:, None], places, 3.0) < 0
    with pytest.raises(DegenerateError, match=r"Conley variance is -.*another cutoff"):
        conley_std_error(values, places, 3.0)
    with pytest.raises(DegenerateError, match="conley variance is -"):
        ols_covariance(np.ones((144, 1)), values, "conley", coordinates_m=places, cutoff_m=3.0)


@pytest.mark.parametrize("kind", ["HC0", "HC1", "HC2"])
def test_sandwiches_equal_statsmodels(kind):
    design, outcome, _, _ = regression()
    expected = sm.OLS(outcome, design).fit(cov_type=kind).cov_params()
    found = ols_covariance(design, residual_of(design, outcome), kind)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_clustered_sandwich_equals_statsmodels():
    design, outcome, cluster, _ = regression()
    fit = sm.OLS(outcome, design).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    found = ols_covariance(design, residual_of(design, outcome), "cluster", cluster=cluster)
    np.testing.assert_allclose(found, fit.cov_params(), rtol=1e-10, atol=1e-14)


def test_hc2_of_two_arms_is_the_unequal_variance_error():
    random = np.random.default_rng(3)
    treated, control = random.normal(0, 3, 40), random.normal(1, 1, 90)
    design = np.column_stack([np.ones(130), np.repeat([1.0, 0.0], [40, 90])])
    residual = np.concatenate([treated - treated.mean(), control - control.mean()])
    expected = treated.var(ddof=1) / 40 + control.var(ddof=1) / 90
    assert ols_covariance(design, residual)[1, 1] == pytest.approx(expected, rel=1e-12)


def test_bad_regressions_are_refused():
    design, outcome, _, places = regression(20)
    residual = residual_of(design, outcome)
    with pytest.raises(DegenerateError, match="5 columns of a regression on 20 units depend"):
        ols_covariance(np.column_stack([design, design[:, 1]]), residual, "HC0")
    lonely = np.column_stack([design, np.eye(20)[:, 4]])
    with pytest.raises(DegenerateError, match=r"1 of 20 units .* HC1"):
        ols_covariance(lonely, residual_of(lonely, outcome), "HC2")
    with pytest.raises(DataError, match="Clustered errors need clusters"):
        ols_covariance(design, residual, "cluster")
    with pytest.raises(DataError, match="need places and a cutoff"):
        ols_covariance(design, residual, "conley", coordinates_m=places)


@pytest.mark.parametrize("cutoff", [0.0, -5.0, float("nan")])
def test_a_cutoff_that_is_none_is_refused(cutoff):
    with pytest.raises(DataError, match="cutoff above 0"):
        conley_std_error(np.arange(5.0), np.zeros((5, 2)), cutoff)


def test_missing_places_are_refused():
    with pytest.raises(DataError, match="a place for each unit"):
        conley_std_error(np.arange(5.0), np.full((5, 2), np.nan), 10.0)


def test_one_cluster_is_refused():
    with pytest.raises(DataError, match=r"5 units in 1 cluster.*finer cluster"):
        mean_std_error(np.arange(5.0), np.zeros(5, dtype=int))


def test_intervals_are_wider_with_few_clusters():
    normal = stats.norm.ppf(0.975)
    assert interval(1.0, 2.0) == pytest.approx((1 - 2 * normal, 1 + 2 * normal))
    assert interval(1.0, 2.0, n_clusters=50) == interval(1.0, 2.0)
    low, high = interval(1.0, 2.0, 0.9, n_clusters=11)
    assert (high - low) / 4 == pytest.approx(stats.t.ppf(0.95, 10))


def test_p_values_agree_with_intervals():
    for clusters in (None, 12):
        low, _ = interval(1.0, 0.4, 1 - p_value(1.0, 0.4, clusters), clusters)
        assert low == pytest.approx(0, abs=1e-12)
    assert p_value(0.0, 0.0) == 1
    assert p_value(0.1, 0.0) == 0
