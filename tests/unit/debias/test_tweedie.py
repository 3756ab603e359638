"""Tweedie's correction: hand cases, identities, libraries, speed."""

import inspect
import time

import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm

from eo_causal.debias.base import check_support
from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.tweedie import TweedieCorrection
from eo_causal.errors import DataError, EOCausalWarning

WEIGHT = np.array([0.64, 0.16, 0.16, 0.04])
MEAN = np.array([5, 7.2, 13, 14.2])
SD = np.array([1, 2, 4, 5.0])


def drawn(n=2000, seed=0, r2=0.5):
    random = np.random.default_rng(seed)
    truth = random.normal(size=n)
    return truth, r2 * (truth + np.sqrt(1 / r2 - 1) * random.normal(size=n))


def skewed(n=3000, seed=0, sigma=2.0):
    random = np.random.default_rng(seed)
    part = random.choice(4, n, p=WEIGHT)
    prediction = MEAN[part] + SD[part] * random.normal(size=n)
    return prediction + sigma * random.normal(size=n), prediction


@pytest.mark.parametrize("truth", [3.0, 10.0, 20.0])
def test_minus_the_score_of_predictions_gives_each_truth_back(truth):
    """T1 by quadrature, sigma 1, with the score that is known."""
    places = np.linspace(-60, 90, 300_001)
    parts = WEIGHT * norm.pdf(places[:, None], MEAN, SD)
    density = parts.sum(axis=1)
    score = (parts * -(places[:, None] - MEAN) / SD**2).sum(axis=1) / np.maximum(density, 1e-300)
    posterior = density * norm.pdf(truth - places)
    posterior /= posterior.sum()
    assert posterior @ (places - score) == pytest.approx(truth, abs=1e-8)
    if truth == 3:
        assert posterior @ score == pytest.approx(0.98233742, abs=1e-7)
        assert posterior @ places == pytest.approx(3.982337, abs=1e-6)


def test_the_score_is_that_of_scipys_density():
    """T13: ``scott``, within 1e-3 sd of the exact kernel density's score (central difference)."""
    truth, prediction = skewed()
    fit = TweedieCorrection("scott", recalibrate="never").fit(truth, prediction)
    lower, upper = fit.curve_.support
    places = np.linspace(lower, upper, 200)
    kernel = gaussian_kde(prediction)
    expected = (kernel.logpdf(places + 1e-4) - kernel.logpdf(places - 1e-4)) / 2e-4
    found = (places - fit.correct(places)) / fit.noise_variance_
    at_data = np.interp(np.clip(prediction, lower, upper), places, expected)
    assert np.abs(found - expected).max() < 1e-3 * at_data.std()


def test_unshrink_corrects_alike():
    """T13: the published package, where it is installed."""
    unshrink = pytest.importorskip("unshrink", reason="unshrink is not installed")
    truth, prediction = drawn()
    theirs = unshrink.TweedieDebiaser().fit(prediction, truth)
    ours = TweedieCorrection("scott", recalibrate="never").fit(truth, prediction)
    inside = (prediction > ours.curve_.support[0]) & (prediction < ours.curve_.support[1])
    gap = np.abs(ours.correct(prediction) - theirs.debiased_predictions(prediction))[inside]
    assert gap.max() < 1e-3 * prediction.std()


def test_a_gaussian_score_after_recalibration_is_linear_calibration():
    """T2: equal to 1e-10."""
    truth, prediction = drawn()
    weight = np.random.default_rng(1).random(2000)
    tweedie = TweedieCorrection("gaussian", "always").fit(truth, prediction, weight=weight)
    linear = LinearCalibration().fit(truth, prediction, weight=weight)
    new = np.linspace(-3, 3, 100)
    assert tweedie.correct(new) == pytest.approx(linear.correct(new), abs=1e-10)


def test_without_noise_nothing_is_corrected():
    """T12: sigma 0 is the identity, and flagged."""
    truth, prediction = drawn()
    fit = TweedieCorrection(sigma=0.0).fit(truth, prediction)
    assert fit.correct(prediction) == pytest.approx(prediction, abs=1e-12)
    assert "zero_sigma_identity" in fit.flags_
    assert fit.sigma_source_ == "given"


def test_moments_on_calibration_rows():
    """T12: E[T] = E[prediction]; Cov(T, prediction) = Var(prediction) + sigma^2; both laws."""
    random = np.random.default_rng(3)
    gaussian = random.normal(size=5000)
    for prediction, limit in ((gaussian, 0.01), (skewed(5000)[1], 0.05)):
        sigma = 0.7 * prediction.std()
        truth = prediction + sigma * random.normal(size=5000)
        fit = TweedieCorrection(sigma=float(sigma), recalibrate="never").fit(truth, prediction)
        corrected = fit.correct(prediction)
        assert abs(corrected.mean() - prediction.mean()) / prediction.std() < limit
        covariance = np.mean((corrected - corrected.mean()) * (prediction - prediction.mean()))
        assert 0.95 <= covariance / (prediction.var() + sigma**2) <= 1.0


def test_units_and_order_do_not_matter():
    """T12: Y -> a + cY on truth and prediction; permutation."""
    truth, prediction = skewed()
    plain = TweedieCorrection().fit(truth, prediction).correct(prediction)
    scaled = TweedieCorrection().fit(40 + 3 * truth, 40 + 3 * prediction)
    assert scaled.correct(40 + 3 * prediction) == pytest.approx(40 + 3 * plain, rel=1e-9)
    order = np.random.default_rng(0).permutation(len(truth))
    shuffled = TweedieCorrection().fit(truth[order], prediction[order])
    assert shuffled.correct(prediction) == pytest.approx(plain, rel=1e-9)


def test_beyond_the_support_the_score_is_that_of_a_gaussian():
    """T11: the tail rule, by hand."""
    truth, prediction = drawn()
    fit = TweedieCorrection(recalibrate="never").fit(truth, prediction)
    far = np.array([-9.0, 9.0])
    pull = fit.noise_variance_ / prediction.var()
    assert fit.correct(far) == pytest.approx(far + pull * (far - prediction.mean()), rel=1e-12)
    with pytest.warns(EOCausalWarning, match="outside"):
        check_support(far, fit.curve_.support)


def test_recalibrated_scores_are_of_recalibrated_predictions():
    """Correcting 2x by auto equals correcting its recalibration q by never."""
    truth, prediction = drawn()
    auto = TweedieCorrection().fit(truth, 2 * prediction)
    a, b = auto.recalibration_
    recalibrated = a + b * 2 * prediction
    plain = TweedieCorrection(recalibrate="never").fit(truth, recalibrated)
    assert auto.correct(2 * prediction) == pytest.approx(plain.correct(recalibrated), abs=1e-9)
    assert auto.noise_variance_ == pytest.approx(plain.noise_variance_)


def test_local_noise_adds_its_derivative():
    """sigma^2 grows by 1 a unit, and the score of a flat density is 0: T is smaller by 1."""
    random = np.random.default_rng(5)
    prediction = random.uniform(2, 4, size=40_000)
    truth = prediction + np.sqrt(prediction) * random.choice([-1, 1], 40_000)
    middle = np.linspace(2.6, 3.4, 50)
    local = TweedieCorrection("scott", "never", heteroskedastic=True).fit(truth, prediction)
    constant = TweedieCorrection("scott", "never").fit(truth, prediction)
    apart = local.correct(middle) - constant.correct(middle)
    assert apart.mean() == pytest.approx(-1, abs=0.05)


def test_there_is_no_local_noise_without_its_derivative():
    """T10."""
    names = set(inspect.signature(TweedieCorrection).parameters)
    assert names == {"bandwidth", "recalibrate", "sigma", "heteroskedastic", "min_calibration"}


def test_rasters_are_read_from_the_same_table():
    truth, prediction = drawn()
    fit = TweedieCorrection().fit(truth, prediction)
    tile = np.linspace(-4, 4, 1002, dtype=np.float32).reshape(2, -1)
    tile[0, 0] = np.nan
    found = fit.correct(tile)
    assert found.dtype == np.float32
    assert np.isnan(found[0, 0])
    assert np.isnan(found).sum() == 1
    assert found == pytest.approx(fit.correct(tile.astype(float)), abs=1e-6, nan_ok=True)


def test_a_fit_and_ten_thousand_corrections_are_quick():
    """T13: 10,000 points and 5,000 pairs in less than half a second."""
    truth, prediction = drawn(5000)
    new = np.linspace(-3, 3, 10_000)
    start = time.process_time()
    TweedieCorrection().fit(truth, prediction).correct(new)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("sigma", [-1.0, np.nan, np.inf])
def test_an_impossible_sigma_is_refused(sigma):
    with pytest.raises(DataError, match="sigma is"):
        TweedieCorrection(sigma=sigma).fit(*drawn(100))
