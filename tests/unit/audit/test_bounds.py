"""Bounds on effects under hidden confounding, against closed forms and each other."""

import numpy as np
import pytest
from scipy.stats import norm

from eo_causal.audit.bounds import (
    Sample,
    breakdown_strength,
    implied_strength,
    manski_bounds,
    sensitivity_bounds,
    upper_terms,
)
from eo_causal.errors import ConfigError

SHARP = {1.5: 0.6771, 2.0: 0.8000, 3.0: 0.9661}


def closed_form(odds):
    """E[X] + E[1 - e] (L - 1/L) phi(Phi^-1(L / (1 + L))) of the world below."""
    return 0.5 + 0.55 * (odds - 1 / odds) * norm.pdf(norm.ppf(odds / (1 + odds)))


@pytest.fixture(scope="module")
def world():
    """X ~ Bernoulli(1/2), e = .6 or .3, Y | W = 1, X ~ N(X, 1); a million units."""
    random = np.random.default_rng(3)
    x = random.integers(0, 2, 1_000_000)
    e = np.where(x == 1, 0.6, 0.3)
    return x, e, (random.random(len(x)) < e).astype(float), x + random.standard_normal(len(x))


@pytest.mark.parametrize("odds", [1.5, 2.0, 3.0])
def test_the_dual_form_is_sharp_at_the_true_quantile(world, odds):
    x, e, w, y = world
    assert closed_form(odds) == pytest.approx(SHARP[odds], abs=1e-4)
    quantile = x + norm.ppf(odds / (1 + odds))
    found = upper_terms(w, y, e, quantile, odds).mean()
    assert found == pytest.approx(SHARP[odds], abs=0.005)


@pytest.mark.parametrize(("odds", "shifted"), [(1.5, 0.717), (3.0, 1.06)])
def test_a_wrong_quantile_only_widens(world, odds, shifted):
    x, e, w, y = world
    for shift in (-0.7, -0.2, 0.2, 0.7):
        wrong = x + norm.ppf(odds / (1 + odds)) + shift
        found = upper_terms(w, y, e, wrong, odds).mean()
        assert found > SHARP[odds] - 0.003
    assert found == pytest.approx(shifted, abs=0.01)
    simple = (w * y * (1 + (1 - e) / e * odds ** np.sign(y - wrong))).mean()
    assert simple < SHARP[odds] - 0.02  # why the simple form is not shipped


def sample(n=400, seed=0, effect=1.0, limit=4.0):
    random = np.random.default_rng(seed)
    x = random.standard_normal(n)
    e = 1 / (1 + np.exp(-x))
    w = (random.random(n) < e).astype(float)
    y = np.clip(0.5 * x + effect * w + 0.5 * random.standard_normal(n), -limit, limit)
    return Sample(w, y, e, 0.5 * x, 0.5 * x + effect, np.arange(n) % 5, np.arange(n))


def test_strength_one_is_weighting_and_with_predictions_aipw():
    s = sample()
    w, y, e = s.treatment, s.outcome, s.propensity
    plain = Sample(w, y, e, np.zeros(len(w)), np.zeros(len(w)), s.fold, s.cluster)
    row = sensitivity_bounds(plain, (1.0,)).iloc[0]
    weighting = (w * y / e - (1 - w) * y / (1 - e)).mean()
    assert row["lower"] == pytest.approx(weighting, abs=1e-10)
    assert row["upper"] == pytest.approx(weighting, abs=1e-10)
    aipw = s.mu1 - s.mu0 + w * (y - s.mu1) / e - (1 - w) * (y - s.mu0) / (1 - e)
    assert sensitivity_bounds(s, (1.0,))["lower"].iloc[0] == pytest.approx(aipw.mean(), abs=1e-10)


def test_bounds_are_nested_and_manski_holds_them():
    for seed in range(5):
        s = sample(seed=seed, limit=0.8)
        found = sensitivity_bounds(s, (1.0, 1.25, 1.5, 2.0, 3.0, 300.0), support=(-0.8, 0.8))
        assert (np.diff(found["lower"]) <= 1e-12).all()
        assert (np.diff(found["upper"]) >= -1e-12).all()
        worst = manski_bounds(s, (-0.8, 0.8))
        assert (found["lower"] >= worst["lower"] - 1e-12).all()
        assert (found["upper"] <= worst["upper"] + 1e-12).all()
        assert (found["interval_lower"] < found["lower"]).all()
        assert (found["interval_upper"] > found["upper"]).all()
    assert found["binding"].iloc[-1] == "Manski"
    assert found["binding"].iloc[0] == "marginal sensitivity"


def test_manski_by_hand():
    s = Sample(
        np.array([1.0, 1, 0, 0]), np.array([1.0, 0.5, 0.25, 0.75]), *np.full((3, 4), 0.5),
        np.arange(4), np.arange(4),
    )  # fmt: skip
    found = manski_bounds(s, (0.0, 1.0))
    assert found["lower"] == pytest.approx((1.5 + 0) / 4 - (1.0 + 2) / 4)
    assert found["upper"] == pytest.approx((1.5 + 2) / 4 - (1.0 + 0) / 4)


def test_the_strength_that_reaches_zero_lies_between_bounds_that_do_and_do_not():
    s = sample()
    strength = breakdown_strength(s)
    around = sensitivity_bounds(s, (strength * 0.999, strength * 1.001))
    assert around["interval_lower"].iloc[0] > 0 > around["interval_lower"].iloc[1]
    assert breakdown_strength(sample(effect=0.0)) == 1.0


def test_strength_of_what_was_left_out():
    full, without = np.array([0.5, 0.8, 0.2]), np.array([0.5, 0.5, 0.5])
    assert implied_strength(full, without, share=1.0) == pytest.approx(4.0)
    assert implied_strength(full, full) == 1.0


@pytest.mark.parametrize(
    ("odds", "support", "words"),
    [((0.5,), None, "Lambda is 0.5"), ((1.0,), (0.0, 1.0), "does not hold the outcomes")],
)
def test_settings_that_cannot_be(odds, support, words):
    with pytest.raises(ConfigError, match=words):
        sensitivity_bounds(sample(), odds, support)
