"""Linear calibration and recalibration."""

import numpy as np
import pytest
import statsmodels.api as sm

from eo_causal.debias.linear import BLOCK, LinearCalibration, Recalibration, affine


def drawn(n=500, slope=0.5):
    random = np.random.default_rng(2)
    truth = random.normal(10, 2, size=n)
    return truth, 3 + slope * truth + random.normal(size=n)


def test_linear_calibration_inverts_the_least_squares_line():
    """T13."""
    truth, prediction = drawn()
    found = LinearCalibration().fit(truth, prediction)
    intercept, slope = sm.OLS(prediction, sm.add_constant(truth)).fit().params
    new = np.linspace(0, 20, 50)
    assert found.correct(new) == pytest.approx((new - intercept) / slope, rel=1e-12)
    weight = np.arange(1.0, 501)
    weighted = LinearCalibration().fit(truth, prediction, weight=weight)
    expected = sm.WLS(prediction, sm.add_constant(truth), weight).fit().params
    assert [weighted.intercept_, weighted.slope_] == pytest.approx(expected, rel=1e-11)


def test_an_exact_line_gives_the_truth_back():
    truth = np.arange(40.0)
    corrected = LinearCalibration().fit(truth, 3 + truth / 2).correct([3.0, 8.0, np.nan])
    assert corrected[:2] == pytest.approx([0, 10], abs=1e-12)
    assert np.isnan(corrected[2])


def test_affine_changes_of_predictions_cancel():
    """T12."""
    truth, prediction = drawn()
    plain = LinearCalibration().fit(truth, prediction).correct(prediction)
    changed = LinearCalibration().fit(truth, 7 - 0.2 + 30 * prediction)
    assert changed.correct(7 - 0.2 + 30 * prediction) == pytest.approx(plain, rel=1e-10)


def test_recalibration_follows_its_setting():
    truth, prediction = drawn()  # b = 1: .5 * 4 / (.25 * 4 + 1)
    flat = Recalibration().fit(truth, prediction)
    assert not flat.applied_
    assert (flat.intercept_, flat.slope_) == (0, 1)
    always = Recalibration("always").fit(truth, prediction)
    assert always.slope_ == pytest.approx(flat.facts_.inverse_slope)
    doubled = Recalibration().fit(truth, 2 * prediction)
    assert doubled.applied_
    assert doubled.slope_ == pytest.approx(always.slope_ / 2)
    assert doubled.correct(2 * prediction).mean() == pytest.approx(truth.mean())
    assert not Recalibration("never").fit(truth, 2 * prediction).applied_


def test_blocks_join_and_types_and_shapes_stay():
    values = np.arange(2 * BLOCK + 7, dtype=np.float32).reshape(3, -1)
    found = affine(values, 2.0, 1.0)
    assert found.dtype == np.float32
    assert found.shape == values.shape
    assert np.array_equal(found, 2 * values + 1)
    assert affine([1, 2], 2.0, 1.0).dtype == np.float64


def test_unshrink_corrects_alike():
    """T13: the published package, where it is installed."""
    unshrink = pytest.importorskip("unshrink", reason="unshrink is not installed")
    truth, prediction = drawn()
    theirs = unshrink.LccDebiaser().fit(prediction, truth).debiased_predictions(prediction)
    ours = LinearCalibration().fit(truth, prediction).correct(prediction)
    assert ours == pytest.approx(theirs, rel=1e-12)
