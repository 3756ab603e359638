"""Clipping, weights, calibration and histograms of propensities."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit
from sklearn import metrics

from eo_causal.estimate.propensity import (
    area_under_curve,
    calibration_bins,
    calibration_slope,
    clip,
    effective_size,
    log_loss,
    logit,
    overlap_histogram,
)


@pytest.fixture
def study():
    """Treatment drawn from known propensities, with folds and clusters of one."""
    random = np.random.default_rng(0)
    propensity = expit(random.normal(size=4000))
    treatment = (random.random(4000) < propensity).astype(float)
    return treatment, propensity, random.integers(0, 5, 4000), np.arange(4000)


def test_clipping_counts_what_was_outside():
    values, clipped = clip(np.array([0.0, 0.01, 0.5, 0.995]), 0.01)
    assert values.tolist() == [0.01, 0.01, 0.5, 0.99]
    assert clipped.tolist() == [True, False, False, True]


def test_effective_size_is_the_number_of_equal_weights():
    assert effective_size(np.array([3.0, 3, 0, 3])) == pytest.approx(3)
    assert effective_size(np.array([1.0, 3.0])) == pytest.approx(1.6)


def test_auc_and_log_loss_agree_with_scikit_learn(study):
    treatment, propensity = study[:2]
    rounded = np.round(propensity, 1)  # many ties
    assert area_under_curve(treatment, rounded) == pytest.approx(
        metrics.roc_auc_score(treatment, rounded), abs=1e-12
    )
    assert log_loss(treatment, propensity) == pytest.approx(
        metrics.log_loss(treatment, propensity), abs=1e-12
    )
    assert np.isfinite(log_loss(np.array([0.0, 1]), np.array([1.0, 0.0])))


def test_true_propensities_have_slope_one_and_bold_ones_less(study):
    treatment, propensity, fold, cluster = study
    right = calibration_slope(treatment, propensity, fold, cluster)
    assert right.estimate == pytest.approx(1, abs=3 * right.std_error)
    assert not right.is_outside(0.8, 1.25)
    bold = calibration_slope(treatment, expit(2 * logit(propensity)), fold, cluster)
    assert bold.estimate == pytest.approx(right.estimate / 2, rel=1e-6)
    assert bold.is_outside(0.8, 1.25)


def test_slope_agrees_with_statsmodels(study):
    treatment, propensity, _, cluster = study
    fold = np.zeros(len(treatment), dtype=int)
    found = calibration_slope(treatment, propensity, fold, cluster)
    design = sm.add_constant(logit(propensity))
    fit = sm.Logit(treatment, design).fit(disp=False, cov_type="HC0")
    assert found.estimate == pytest.approx(fit.params[1], rel=1e-6)
    assert found.std_error == pytest.approx(fit.bse[1], rel=1e-3)


def test_slope_is_within_folds():
    """Training means are low where test means are high; that is no miscalibration."""
    random = np.random.default_rng(3)
    fold = np.repeat(np.arange(5), 200)
    treatment = (random.random(1000) < 0.5).astype(float)
    means = np.array([treatment[fold != k].mean() for k in range(5)])
    pooled = np.corrcoef(treatment, means[fold])[0, 1]
    assert pooled < -0.02
    alone = calibration_slope(treatment, means[fold], fold, np.arange(1000))
    assert np.isnan(alone.estimate)
    assert not alone.is_outside(0.8, 1.25)


def test_propensities_that_hardly_vary_are_not_judged():
    random = np.random.default_rng(4)
    treatment = (random.random(2000) < 0.5).astype(float)
    nearly = 0.5 + random.normal(0, 0.01, 2000)
    slope = calibration_slope(treatment, nearly, np.zeros(2000, dtype=int), np.arange(2000))
    assert slope.spread == pytest.approx(0.04, abs=0.005)
    assert not slope.is_outside(0.8, 1.25)


def test_bins_hold_equal_numbers_and_observed_shares(study):
    treatment, propensity = study[:2]
    table = calibration_bins(treatment, propensity)
    assert table["n"].tolist() == [400] * 10
    assert np.abs(table["predicted"] - table["observed"]).max() < 0.08
    assert table["predicted"].is_monotonic_increasing


def test_ties_stay_in_one_bin():
    table = calibration_bins(np.array([0.0, 1, 0, 1]), np.full(4, 0.5))
    assert table[["predicted", "observed", "n"]].to_numpy().tolist() == [[0.5, 0.5, 4]]


def test_histogram_counts_every_unit_once(study):
    treatment, propensity = study[:2]
    table = overlap_histogram(treatment, propensity)
    counts = table.groupby("treated")["n"].sum()
    assert counts[True] == treatment.sum()
    assert counts.sum() == len(treatment)
