"""Small statistics: by hand, and against SciPy and statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa.stattools import kpss

from eo_causal.impact.nonparametric import (
    before_after,
    block_bootstrap_step,
    cliffs_delta,
    effective_n,
    fit_autoregression,
    kpss_statistic,
    newey_west_step,
    sieve_samples,
    trend,
)
from eo_causal.simulate.series import ar_break


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([1, 2], [3, 4], 1.0), ([3, 4], [1, 2], -1.0), ([1, 2], [1, 2], 0.0), ([1, 5], [2], 0.0)],
)
def test_cliffs_delta_by_hand(first, second, expected):
    assert cliffs_delta(np.array(first), np.array(second)) == expected


def test_effective_n_of_alternating_and_sticky_series():
    noise = np.random.default_rng(0).normal(size=4000)
    assert effective_n(noise) == pytest.approx(4000, rel=0.1)
    assert effective_n(ar_break(1, n=4000, phi=0.6)) == pytest.approx(1000, rel=0.15)
    assert effective_n(np.arange(50.0)) == pytest.approx(2.0, abs=1.0)


def test_autoregression_finds_order_and_coefficients():
    values = ar_break(3, n=4000, phi=0.6)
    fit = fit_autoregression(values)
    assert fit.order == 1
    assert fit.coefficients == pytest.approx([0.6], abs=0.04)
    assert fit.residuals.mean() == pytest.approx(0, abs=1e-12)
    assert fit_autoregression(np.random.default_rng(1).normal(size=4000)).order == 0


def test_sieve_series_have_the_mean_and_memory_of_the_original():
    values = ar_break(3, n=2000, phi=0.6) + 7
    samples = sieve_samples(fit_autoregression(values), 500, 200, np.random.default_rng(0))
    assert samples.shape == (200, 500)
    assert samples.mean() == pytest.approx(values.mean(), abs=0.05)
    memory = np.mean([np.corrcoef(row[1:], row[:-1])[0, 1] for row in samples])
    assert memory == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_newey_west_step_is_that_of_statsmodels(seed):
    values = ar_break(seed, step=0.5)
    after = np.arange(len(values)) >= 256
    step, error, lag = newey_west_step(values, after)
    assert lag == 5
    reference = sm.OLS(values, sm.add_constant(after.astype(float))).fit(
        cov_type="HAC", cov_kwds={"maxlags": lag}
    )
    assert step == pytest.approx(reference.params[1], rel=1e-10)
    assert error == pytest.approx(reference.bse[1], rel=1e-10)


def test_block_bootstrap_is_wider_than_one_of_single_months():
    values = ar_break(5, phi=0.8)
    after = np.arange(len(values)) >= 256
    widths = [
        np.diff(block_bootstrap_step(values, after, np.random.default_rng(0), block))[0]
        for block in (1, 12)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_trend_is_that_of_scipy_and_its_p_allows_for_memory():
    random = np.random.default_rng(0)
    values = 0.01 * np.arange(120) + random.normal(0, 0.3, 120)
    found = trend(values, np.arange(len(values)), random)
    assert found["sen_slope"] == pytest.approx(stats.theilslopes(values)[0], rel=1e-12)
    tau = stats.kendalltau(np.arange(120), values)
    assert found["mann_kendall"] == pytest.approx(tau.statistic * 120 * 119 / 2)
    assert found["p_value"] < 0.01
    sticky = ar_break(2, n=240, phi=0.9)
    naive = stats.kendalltau(np.arange(240), sticky).pvalue
    assert trend(sticky, np.arange(len(sticky)), random)["p_value"] > naive


@pytest.mark.parametrize("seed", range(3))
def test_kpss_statistic_is_that_of_statsmodels(seed):
    values = np.random.default_rng(seed).normal(size=240) + 0.01 * np.arange(240)
    with pytest.warns(InterpolationWarning, match="smaller"):
        reference = kpss(values, regression="c", nlags="legacy", result_object=False)[0]
    assert kpss_statistic(values) == pytest.approx(reference, rel=1e-10)


def test_before_after_calls_the_tests_it_names():
    random = np.random.default_rng(4)
    before, after = random.normal(0, 1, 80), random.normal(0.5, 2, 60)
    found = before_after(before, after)
    assert found["delta_mean"] == pytest.approx(after.mean() - before.mean())
    assert found["welch_p"] == stats.ttest_ind(before, after, equal_var=False).pvalue
    assert found["kolmogorov_smirnov_p"] == stats.ks_2samp(before, after).pvalue


def test_gaps_do_not_change_a_slope():
    random = np.random.default_rng(0)
    times = np.arange(240)
    values = 0.01 * times + random.normal(0, 0.1, 240)
    seen = random.random(240) < 0.5
    whole, half = (
        trend(values[rows], times[rows], np.random.default_rng(1))["sen_slope"]
        for rows in (np.ones(240, dtype=bool), seen)
    )
    assert whole == pytest.approx(0.01, abs=5e-4)
    assert half == pytest.approx(0.01, abs=1e-3)
