"""Bounds on effects under hidden confounding, against closed forms and each other."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from eo_causal.audit.bounds import (
    Sample,
    breakdown_strength,
    implied_strength,
    manski_bounds,
    matched_pairs,
    proxy_curve,
    rosenbaum_gamma,
    rosenbaum_p,
    sensitivity_bounds,
    upper_terms,
)
from eo_causal.errors import ConfigError
from eo_causal.simulate.hidden import bernoulli, bernoulli_quantile, bernoulli_upper

SHARP = {1.5: 0.6771, 2.0: 0.8000, 3.0: 0.9661}


@pytest.fixture(scope="module")
def world():
    """A million units; bounds of E[Y(1)] have a closed form."""
    return bernoulli(3, 1_000_000)


def upper(world, quantile, odds):
    terms = upper_terms(world.treatment, world.outcome, world.propensity, quantile, odds)
    return terms.mean()


@pytest.mark.parametrize("odds", [1.5, 2.0, 3.0])
def test_the_dual_form_is_sharp_at_the_true_quantile(world, odds):
    assert bernoulli_upper(odds) == pytest.approx(SHARP[odds], abs=1e-4)
    found = upper(world, bernoulli_quantile(world, odds), odds)
    assert found == pytest.approx(SHARP[odds], abs=0.005)


@pytest.mark.parametrize(("odds", "shifted"), [(1.5, 0.717), (3.0, 1.06)])
def test_a_wrong_quantile_only_widens(world, odds, shifted):
    e, w, y = world.propensity, world.treatment, world.outcome
    right = bernoulli_quantile(world, odds)
    sharp = upper(world, right, odds)
    for shift in (-0.7, -0.2, 0.2, 0.7):
        found = upper(world, right + shift, odds)
        assert found > sharp
    assert found == pytest.approx(shifted, abs=0.01)
    simple = (w * y * (1 + (1 - e) / e * odds ** np.sign(y - right - shift))).mean()
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


def test_arm_scores_are_those_of_aipw():
    s = sample()
    untreated, treated = s.arm_scores
    w, y, e = s.treatment, s.outcome, s.propensity
    np.testing.assert_allclose(treated, s.mu1 + w * (y - s.mu1) / e)
    np.testing.assert_allclose(untreated, s.mu0 + (1 - w) * (y - s.mu0) / (1 - e))


def test_dependent_units_widen_the_intervals():
    s = sample()
    pairs = Sample(
        *(np.repeat(values, 2) for values in (s.treatment, s.outcome, s.propensity, s.mu0, s.mu1)),
        np.repeat(s.fold, 2), np.repeat(s.cluster, 2),
    )  # fmt: skip
    once, twice = (sensitivity_bounds(one, (1.5,)).iloc[0] for one in (s, pairs))
    for name in ("lower", "upper"):
        apart = [row[f"interval_{name}"] - row[name] for row in (once, twice)]
        assert apart[1] == pytest.approx(apart[0], rel=0.02)


def test_the_proxy_curve_by_hand():
    adjusted, without = np.array([1.0, 3.0, 2.0, 2.0]), np.array([3.0, 3.0, 3.0, 3.0])
    found = proxy_curve(adjusted, without, np.arange(4), (1.0, np.sqrt(0.5)))
    assert found["estimate"].tolist() == pytest.approx([2.0, 1.0])
    assert found["left"].tolist() == pytest.approx([0.0, 0.5])
    half = found["upper"] - found["estimate"]
    assert half[1] == pytest.approx(2 * half[0])
    with pytest.raises(ConfigError, match="correlation 0 "):
        proxy_curve(adjusted, without, np.arange(4), (0.0,))


def test_without_hidden_differences_rosenbaum_is_the_signed_rank_test():
    differences = np.random.default_rng(1).normal(0.3, 1, 60)
    expected = wilcoxon(
        differences, alternative="greater", correction=False, method="asymptotic"
    ).pvalue
    assert rosenbaum_p(differences) == pytest.approx(expected, abs=1e-10)
    gamma = rosenbaum_gamma(differences)
    assert rosenbaum_p(differences, gamma) == pytest.approx(0.05, abs=1e-6)
    assert gamma > 1
    assert rosenbaum_gamma(-differences) == 1.0
    assert rosenbaum_gamma(np.arange(1.0, 200.0)) == np.inf


def test_pairs_are_near_on_the_propensity_and_nobody_is_used_twice():
    treatment = np.array([1.0, 1, 0, 0, 0])
    propensity = np.array([0.6, 0.3, 0.59, 0.31, 0.95])
    assert matched_pairs(treatment, propensity).tolist() == [[0, 2], [1, 3]]
    far = np.array([0.9, 0.3, 0.1, 0.31, 0.05])
    assert matched_pairs(treatment, far).tolist() == [[1, 3]]
    assert matched_pairs(np.ones(3), np.full(3, 0.5)).shape == (0, 2)
