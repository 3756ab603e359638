"""Estimators on six units worked by hand, and against weighted least squares."""

import numpy as np
import pytest
import statsmodels.api as sm

from eo_causal.errors import OverlapError
from eo_causal.estimate.ate import (
    aipw,
    aipw_scores,
    difference_in_means,
    estimate,
    hajek,
    horvitz_thompson,
    overlap_weighted,
    trimmed_aipw,
)

W = np.array([1.0, 1, 1, 0, 0, 0])
Y = np.array([4.0, 6, 8, 1, 2, 6])
E = np.array([0.5, 0.25, 0.8, 0.5, 0.2, 0.75])
MU0 = np.array([1.0, 2, 3, 1, 2, 3])
MU1 = np.array([4.0, 4, 6, 3, 4, 5])


def test_difference_in_means_by_hand():
    found = difference_in_means(W, Y)
    assert found.estimate == pytest.approx(6 - 3)
    np.testing.assert_allclose(found.influence, [-4, 0, 4, 4, 2, -6])
    variance = (np.var([4, 6, 8], ddof=1) + np.var([1, 2, 6], ddof=1)) / 3
    # sums of squares over n^2 with the factor 6/5 instead of 3/2 in each arm
    assert found.effect().std_error == pytest.approx(np.sqrt(variance * (2 / 3) * (6 / 5)))
    assert found.n_effective == 6


def test_horvitz_thompson_by_hand():
    """Treated 4/.5 + 6/.25 + 8/.8 = 42, controls 1/.5 + 2/.8 + 6/.25 = 28.5."""
    found = horvitz_thompson(W, Y, E)
    assert found.estimate == pytest.approx((42 - 28.5) / 6)
    np.testing.assert_allclose(
        found.influence, np.array([8, 24, 10, -2, -2.5, -24]) - (42 - 28.5) / 6
    )


def test_hajek_by_hand():
    """Weights 2, 4, 1.25 sum to 7.25; 2, 1.25, 4 to 7.25."""
    found = hajek(W, Y, E)
    mean1, mean0 = 42 / 7.25, 28.5 / 7.25
    assert found.estimate == pytest.approx(mean1 - mean0)
    scale = 6 / 7.25
    wanted = scale * np.array([
        2 * (4 - mean1), 4 * (6 - mean1), 1.25 * (8 - mean1),
        -2 * (1 - mean0), -1.25 * (2 - mean0), -4 * (6 - mean0),
    ])  # fmt: skip
    np.testing.assert_allclose(found.influence, wanted)
    sizes = 7.25**2 / (4 + 16 + 1.25**2)
    assert found.n_effective == pytest.approx(2 * sizes)


def test_overlap_weights_by_hand():
    """Treated weights .5, .75, .2; control weights .5, .2, .75."""
    found = overlap_weighted(W, Y, E)
    mean1 = (0.5 * 4 + 0.75 * 6 + 0.2 * 8) / 1.45
    mean0 = (0.5 * 1 + 0.2 * 2 + 0.75 * 6) / 1.45
    assert found.estimate == pytest.approx(mean1 - mean0)
    assert found.estimand == "overlap population"


def test_aipw_by_hand():
    score = aipw_scores(W, Y, E, MU0, MU1)
    wanted = [3 + 0, 2 + 8, 3 + 2.5, 2 - 0, 2 - 0, 2 - 3 / 0.25]
    np.testing.assert_allclose(score, wanted)
    found = aipw(W, Y, E, MU0, MU1)
    assert found.estimate == pytest.approx(np.mean(wanted))
    assert found.effect().std_error == pytest.approx(np.std(wanted, ddof=1) / np.sqrt(6))


def test_trimmed_aipw_keeps_units_in_range():
    kept = [0, 1, 3, 5]
    found = trimmed_aipw(W, Y, E, MU0, MU1, keep=(0.25, 0.75))
    score = aipw_scores(W, Y, E, MU0, MU1)[kept]
    assert found.estimate == pytest.approx(score.mean())
    assert found.n == 4
    assert found.estimand == "e in [0.25, 0.75]"
    assert found.influence[[2, 4]].tolist() == [0, 0]
    error = np.sqrt(((score - score.mean()) ** 2).sum()) / 4
    assert found.effect().std_error == pytest.approx(error * np.sqrt(6 / 5))


def test_trimming_all_treated_away_is_refused():
    with pytest.raises(OverlapError, match="0 treated and 3 untreated units"):
        trimmed_aipw(W, Y, np.where(W == 1, 0.95, 0.5), MU0, MU1)


@pytest.mark.parametrize("name", ["aipw", "hajek", "horvitz_thompson", "overlap", "trimmed_aipw"])
def test_influence_values_have_mean_zero(name):
    found = estimate(name, W, Y, np.clip(E, 0.2, 0.8), MU0, MU1)
    assert found.influence.mean() == pytest.approx(0, abs=1e-12)
    assert found.n == 6


def test_clusters_and_few_of_them_widen_the_interval():
    random = np.random.default_rng(0)
    cluster = np.repeat(np.arange(12), 20)
    treatment = (cluster % 2).astype(float)
    outcome = random.normal(size=12)[cluster] + random.normal(size=240)
    found = difference_in_means(treatment, outcome)
    alone, together = found.effect(), found.effect(cluster)
    assert together.std_error > 2 * alone.std_error
    low, high = together.interval
    assert (high - low) / 2 / together.std_error == pytest.approx(2.201, abs=1e-3)  # t, 11 d.f.


def test_hajek_equals_weighted_least_squares():
    """The slope on treatment, and its HC0 error but for the factor n/(n - 1)."""
    random = np.random.default_rng(1)
    n = 300
    propensity = random.uniform(0.1, 0.9, n)
    treatment = (random.random(n) < propensity).astype(float)
    outcome = treatment + random.normal(size=n)
    weights = treatment / propensity + (1 - treatment) / (1 - propensity)
    fit = sm.WLS(outcome, sm.add_constant(treatment), weights=weights).fit(cov_type="HC0")
    found = hajek(treatment, outcome, propensity)
    assert found.estimate == pytest.approx(fit.params[1], rel=1e-10)
    error = found.effect().std_error * np.sqrt((n - 1) / n)
    assert error == pytest.approx(fit.bse[1], rel=1e-10)
