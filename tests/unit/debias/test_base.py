"""Calibration facts, and every refusal and flag of calibration pairs."""

import numpy as np
import pytest
import statsmodels.api as sm

from eo_causal.debias.base import (
    calibration_facts,
    check_support,
    check_training,
    check_units,
    outside_share,
    warn_of,
)
from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.tweedie import TweedieCorrection
from eo_causal.errors import (
    DataError,
    DegenerateError,
    EOCausalWarning,
    FitError,
    LeakageError,
    UnitsError,
)

TRUTH = np.array([0.0, 2, 4, 6])
PREDICTION = np.array([1.0, 2, 2, 5])


def drawn(n=400, seed=0):
    random = np.random.default_rng(seed)
    truth = random.normal(size=n)
    return truth, 0.5 * (truth + random.normal(size=n))


def test_facts_of_four_pairs_are_those_computed_by_hand():
    """Var(Y) = 5, Cov = 3, Var(prediction) = 2.25, Var(prediction - truth) = 1.25, bias -.5."""
    facts = calibration_facts(TRUTH, PREDICTION, min_calibration=4)
    assert facts.slope == pytest.approx(0.6)
    assert facts.intercept == pytest.approx(0.7)
    assert facts.inverse_slope == pytest.approx(3 / 2.25)
    assert facts.r2 == pytest.approx(9 / (5 * 2.25))
    assert facts.noise_variance == pytest.approx(1.25)
    assert facts.rmse == pytest.approx(np.sqrt(1.25 + 0.25))
    assert facts.tie_share == 0.5
    assert facts.bound_share == 0
    assert facts.support == (1, 5)


@pytest.mark.parametrize("clustered", [False, True])
def test_slopes_and_errors_are_those_of_statsmodels(clustered):
    truth, prediction = drawn()
    cluster = np.arange(400) // 10 if clustered else None
    facts = calibration_facts(truth, prediction, cluster=cluster)
    kind = {"cov_type": "HC0"}
    if clustered:
        kind = {"cov_type": "cluster", "cov_kwds": {"groups": cluster}}
    forward = sm.OLS(prediction, sm.add_constant(truth)).fit(**kind)
    reverse = sm.OLS(truth, sm.add_constant(prediction)).fit(**kind)
    assert [facts.intercept, facts.slope] == pytest.approx(forward.params, rel=1e-12)
    assert np.array(facts.slope_covariance) == pytest.approx(forward.cov_params(), rel=1e-9)
    assert facts.inverse_slope_error == pytest.approx(reverse.bse[1], rel=1e-9)
    assert facts.n_clusters == (40 if clustered else None)


def test_weights_count_like_repeated_rows():
    truth, prediction = drawn(60)
    weight = np.arange(60) % 3 + 1
    weighted = calibration_facts(truth, prediction, weight)
    repeated = calibration_facts(np.repeat(truth, weight), np.repeat(prediction, weight))
    for name in ("slope", "inverse_slope", "noise_variance", "prediction_variance", "support"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-12)


BAD = {
    "not one-dimensional": ((np.ones((40, 2)), np.ones(40)), "has shape"),
    "empty": (([], []), "is empty"),
    "missing": ((np.r_[np.nan, np.arange(39)], np.arange(40)), "missing or infinite"),
    "infinite": ((np.arange(40), np.r_[np.inf, np.arange(39)]), "missing or infinite"),
    "unequal": ((np.arange(40), np.arange(41)), "different lengths"),
    "constant truth": ((np.ones(40), np.arange(40)), "truth of all 40"),
    "constant predictions": ((np.arange(40), np.ones(40)), "prediction of all 40"),
    "falling": ((np.arange(40), -np.arange(40)), "does not rise"),
    "too few": ((np.arange(29), np.arange(29)), "29 calibration pairs"),
    "negative weights": (
        (np.arange(40), np.arange(40), np.r_[-1, np.ones(39)]),
        "1 weights are neg",
    ),
    "all-zero weights": ((np.arange(40), np.arange(40), np.zeros(40)), "sum is 0"),
    "weights on one value": ((np.arange(40), np.arange(40), np.r_[1, np.zeros(39)]), "with weight"),
    "one cluster": ((np.arange(40), np.arange(40), None, np.zeros(40)), "in one cluster"),
    "short clusters": ((np.arange(40), np.arange(40), None, np.zeros(4)), "different lengths"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pairs_are_refused_by_all(name):
    """T22."""
    (truth, prediction, *rest), words = BAD[name]
    weight, cluster = [*rest, None, None][:2]
    with pytest.raises(DataError, match=words):
        calibration_facts(truth, prediction, weight, cluster)
    for corrector in (LinearCalibration(), TweedieCorrection()):
        with pytest.raises(DataError, match=words):
            corrector.fit(truth, prediction, weight=weight, cluster=cluster)


def test_an_all_but_constant_map_is_degenerate():
    truth, prediction = drawn()
    with pytest.raises(DegenerateError, match="all but constant") as caught:
        calibration_facts(truth, 0.04 * prediction)
    assert isinstance(caught.value, FitError)


def test_units_must_agree():
    check_units("IWI", "IWI")
    with pytest.raises(UnitsError, match="'IWI' and the measured values are in 'sd'"):
        check_units("IWI", "sd")
    assert issubclass(UnitsError, DataError)


def test_calibration_on_training_rows_is_leakage():
    check_training(["a", "b"], ["c"])
    with pytest.raises(LeakageError, match="1 calibration units were used in training \\(b\\)"):
        check_training(["a", "b"], ["b", "c"])


FLAGGED = {
    "weak_slope": (lambda y, p: (y, p - 0.4 * y), "slope of prediction on truth is 0.1"),
    "small_calibration_sample": (lambda y, p: (y[:50], p[:50]), "50 calibration pairs"),
    "ties": (lambda y, p: (y, np.round(p, 1)), "share their value"),
    "bounds_pileup": (lambda y, p: (y, np.minimum(p, 1)), "smallest or largest"),
    "berkson_violated": (lambda y, p: (y, 2 * p), "from 1"),
    "zero_sigma_identity": (lambda y, p: (y, y + 3), "noise variance 0"),
}


@pytest.mark.parametrize("flag", FLAGGED)
def test_each_flag_is_raised_and_warned_of(flag):
    change, words = FLAGGED[flag]
    facts = calibration_facts(*change(*drawn()))
    assert flag in facts.flags
    with pytest.warns(EOCausalWarning) as caught:
        warn_of(facts)
    texts = {str(one.message.code): str(one.message) for one in caught}
    assert set(texts) == set(facts.flags)
    assert words in texts[flag]


def test_few_clusters_are_flagged_and_good_pairs_are_not():
    truth, prediction = drawn()
    assert calibration_facts(truth, prediction).flags == ()
    facts = calibration_facts(truth, prediction, cluster=np.arange(400) % 29)
    assert facts.flags == ("few_clusters",)
    with pytest.warns(EOCausalWarning, match="29 calibration clusters"):
        warn_of(facts)


def test_predictions_outside_the_support_are_counted_and_warned_of():
    assert outside_share([0.0, 1, 2, np.nan], (0, 1)) == pytest.approx(1 / 3)
    assert outside_share([np.nan], (0, 1)) == 0
    assert check_support(np.linspace(0, 1, 50), (0, 1)) == ()
    with pytest.warns(EOCausalWarning, match="33.3% of the predictions lie outside"):
        assert check_support([0.0, 1, 2], (0, 1)) == ("out_of_support",)
