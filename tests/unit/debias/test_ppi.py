"""Prediction-powered inference against its formulas, written again, and cases by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from eo_causal.debias.ppi import ppi_effect, ppi_mean
from eo_causal.errors import DataError


def reference_mean(y, labelled, unlabelled, weight, alpha):
    """Estimate and interval of the published software (ppi_mean_ci): lambda 1 or None."""
    n, n_bare = len(y), len(unlabelled)
    if weight is None:
        centred = (y - y.mean()) @ (labelled - labelled.mean()) / n
        pooled = np.cov(np.concatenate([labelled, unlabelled]))
        weight = np.clip(centred / ((1 + n / n_bare) * pooled), 0, 1)
    estimate = weight * unlabelled.mean() + (y - weight * labelled).mean()
    imputed = (weight * unlabelled).std() / np.sqrt(n_bare)
    rectifier = (y - weight * labelled).std() / np.sqrt(n)
    half = norm.ppf(1 - alpha / 2) * np.hypot(imputed, rectifier)
    return estimate, (estimate - half, estimate + half)


def drawn(n=1000, n_labelled=100, seed=0, noise=1.0):
    random = np.random.default_rng(seed)
    y = random.normal(2, 1, size=n)
    x = 0.5 + 0.7 * y + noise * random.normal(size=n)
    return np.where(np.arange(n) < n_labelled, y, np.nan), x, y


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("noise", [0.5, 5.0])
def test_means_and_intervals_are_the_published_ones(tuned, noise):
    """T14: 1e-10; the published default of alpha, 0.1, is passed as the level 0.9."""
    outcome, prediction, _ = drawn(noise=noise)
    found = ppi_mean(outcome, prediction, tuned=tuned, level=0.9)
    known = np.isfinite(outcome)
    estimate, interval = reference_mean(
        outcome[known], prediction[known], prediction[~known], None if tuned else 1, 0.1
    )
    assert found.estimate == pytest.approx(estimate, abs=1e-10)
    assert found.interval == pytest.approx(interval, abs=1e-10)
    assert found.method == ("PPI++" if tuned else "PPI")


def test_a_mean_by_hand():
    """Labels 1, 3 with predictions 0, 2; elsewhere 1, 5: 3 + 1 = 4, variance 4/2 + 0."""
    found = ppi_mean([1, 3, np.nan, np.nan], [0, 2, 1, 5], tuned=False)
    assert found.estimate == pytest.approx(4)
    assert found.std_error == pytest.approx(np.sqrt(2))
    # lambda = 1 / (2 * 14/3) = 3/28
    tuned = ppi_mean([1, 3, np.nan, np.nan], [0, 2, 1, 5])
    assert tuned.estimate == pytest.approx(2 + 3 / 28 * 2)
    assert tuned.std_error == pytest.approx(np.sqrt((3 / 28) ** 2 * 2 + (25 / 28) ** 2 / 2))


def test_useless_predictions_are_given_no_weight():
    outcome, _, _ = drawn()
    constant = ppi_mean(outcome, np.ones(1000))
    assert constant.estimate == pytest.approx(np.nanmean(outcome))
    assert constant.std_error == pytest.approx(np.nanstd(outcome) / 10)
    against = ppi_mean(outcome, -np.nan_to_num(outcome, nan=2.0))
    assert against.estimate == pytest.approx(np.nanmean(outcome))


def test_an_effect_is_the_difference_of_its_arms():
    outcome, prediction, _ = drawn()
    treatment = np.arange(1000) % 2
    found = ppi_effect(outcome, prediction, treatment, units="IWI")
    arms = [ppi_mean(outcome[treatment == a], prediction[treatment == a]) for a in (0, 1)]
    assert found.estimate == pytest.approx(arms[1].estimate - arms[0].estimate)
    assert found.std_error == pytest.approx(np.hypot(arms[0].std_error, arms[1].std_error))
    assert found.units == "IWI"
    assert found.n == 1000


def test_clusters_of_one_unit_change_the_factor_only_and_copies_are_no_news():
    outcome, prediction, _ = drawn()
    treatment = np.arange(1000) % 2
    plain = ppi_effect(outcome, prediction, treatment)
    alone = ppi_effect(outcome, prediction, treatment, cluster=np.arange(1000))
    assert alone.std_error == pytest.approx(plain.std_error * np.sqrt(1000 / 999))
    again = [np.repeat(values, 3) for values in (outcome, prediction, treatment)]
    copies = ppi_effect(*again, tuned=False, cluster=np.repeat(np.arange(1000), 3))
    once = ppi_effect(outcome, prediction, treatment, tuned=False, cluster=np.arange(1000))
    assert copies.std_error == pytest.approx(once.std_error)
    assert copies.estimate == pytest.approx(once.estimate)


def test_few_clusters_take_the_t_distribution():
    outcome, prediction, _ = drawn()
    found = ppi_mean(outcome, prediction, cluster=np.arange(1000) % 10)
    half = (found.interval[1] - found.interval[0]) / 2
    assert half / found.std_error == pytest.approx(2.262, abs=1e-3)


@pytest.mark.parametrize(
    ("outcome", "prediction", "treatment", "words"),
    [
        ([1, 2, np.nan], [1, 2, 3], None, "2 labelled and 1 unlabelled units in the sample"),
        ([1, 2, np.nan, np.nan], [1, np.nan, 3, 4], None, "1 predictions are missing"),
        ([1, np.inf, np.nan, np.nan], [1, 2, 3, 4], None, "1 outcomes infinite"),
        ([1, 2], [1, 2, 3], None, "columns of one length"),
        ([1, 2, np.nan, np.nan], [1, 2, 3, 4], [1, 1, 1, 1], "needs both arms"),
        ([1, 2, np.nan, np.nan], [1, 2, 3, 4], [1, 2, 0, 1], "must be 0 or 1"),
        ([1, 2, np.nan, np.nan], [1, 2, 3, 4], [1, 1, 0, 0], "2 labelled and 0 unlabelled"),
    ],
)
def test_bad_input_is_refused(outcome, prediction, treatment, words):
    """T22."""
    more = () if treatment is None else (treatment,)
    function = ppi_effect if more else ppi_mean
    with pytest.raises(DataError, match=words):
        function(outcome, prediction, *more)


def test_one_cluster_is_refused():
    with pytest.raises(DataError, match="in one cluster"):
        ppi_mean([1, 2, np.nan, np.nan], [1, 2, 3, 4], cluster=[0, 0, 0, 0])
