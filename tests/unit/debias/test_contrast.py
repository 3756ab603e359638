"""Estimators of a contrast: hand cases, parity with statsmodels, weights as counts."""

import numpy as np
import pytest
import statsmodels.api as sm

from eo_causal.debias.contrast import DifferenceInMeans, RegressionCoefficient


def test_a_difference_in_means_is_that_of_hand():
    estimator, weight = DifferenceInMeans(), np.array([1.0, 3, 1, 1])
    outcome, treatment = np.array([1.0, 5, 2, 4]), np.array([1.0, 1, 0, 0])
    assert estimator(outcome, treatment, np.ones(4)) == 0
    assert estimator(outcome, treatment, weight) == 1  # (1 + 15) / 4 - 3
    influence = estimator.influence(outcome, treatment, weight)
    # 4 w A (y - mean) / sum w A: 4 (1 - 4) / 4, 4 3 (5 - 4) / 4; -4 (2 - 3) / 2, ...
    np.testing.assert_allclose(influence, [-3, 3, 2, -2])


@pytest.mark.parametrize("weighted", [False, True])
def test_a_regression_coefficient_is_that_of_statsmodels(weighted):
    random = np.random.default_rng(0)
    covariates = random.normal(size=(300, 2))
    treatment = (random.random(300) < 0.3 + 0.4 * (covariates[:, 0] > 0)).astype(float)
    outcome = covariates @ [1, -1] + treatment + random.normal(size=300)
    weight = random.uniform(0.5, 2, 300) if weighted else np.ones(300)
    estimator = RegressionCoefficient(covariates)
    design = np.column_stack([np.ones(300), treatment, covariates])
    fit = sm.WLS(outcome, design, weights=weight).fit(cov_type="HC0")
    assert estimator(outcome, treatment, weight) == pytest.approx(fit.params[1])
    influence = estimator.influence(outcome, treatment, weight)
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    assert np.sqrt((influence**2).sum()) / 300 == pytest.approx(fit.bse[1])


@pytest.mark.parametrize(
    "estimator", [DifferenceInMeans(), RegressionCoefficient(np.arange(6) % 4)]
)
def test_a_weight_of_two_counts_a_unit_twice(estimator):
    outcome, treatment = np.array([1.0, 5, 2, 4, 0, 7]), np.array([1.0, 1, 0, 0, 1, 0])
    once = estimator(outcome, treatment, np.array([2.0, 1, 1, 0, 1, 1]))
    rows = [0, 0, 1, 2, 4, 5]
    if isinstance(estimator, RegressionCoefficient):
        estimator = RegressionCoefficient((np.arange(6) % 4)[rows])
    assert once == pytest.approx(estimator(outcome[rows], treatment[rows], np.ones(6)))
