"""Bounds under hidden confounding in worlds whose truth is known (audits.md, AU-S4 to AU-S6).

Run with EO_CAUSAL_SIZE=full for the numbers of draws of the specification.
"""

import numpy as np
import pytest

from eo_causal.audit.bounds import (
    Sample,
    manski_bounds,
    matched_pairs,
    proxy_curve,
    rosenbaum_gamma,
    sensitivity_bounds,
)
from eo_causal.audit.divergence_bounds import divergence_bounds
from eo_causal.core.random import generator
from eo_causal.simulate.confounding import EFFECT, tutorial
from eo_causal.simulate.hidden import SUPPORT, bernoulli, bernoulli_effect, clipped

pytestmark = pytest.mark.statistics


def adjusted_for_x(seed, odds, n=4000):
    """The Bernoulli world as a study sees it that adjusts for X rightly and for U not at all."""
    world = bernoulli(seed, n, odds)
    x, number = world.covariates[:, 0], np.arange(n)
    return Sample(world.treatment, world.outcome, world.propensity, x, x, number % 5, number)


def unadjusted(world):
    n = len(world.outcome)
    share, zeros, number = np.full(n, world.treatment.mean()), np.zeros(n), np.arange(n)
    return Sample(world.treatment, world.outcome, share, zeros, zeros, number % 5, number)


def arm_bounds(world):
    own = np.sort(world.outcome[world.treatment == 1])
    share = float(world.treatment.mean())
    return divergence_bounds(own, np.full(len(own), 1 / len(own)), share, SUPPORT)


def test_bounds_attain_the_effect_of_the_worst_confounder(full_size, measured):
    """Sharp: the right strength just reaches the effect, its interval holds it, a weaker misses it.

    97.5 % of intervals hold it one-sidedly; 60 draws (400 at full size) allow two standard errors.
    """
    n_draws, odds = (400 if full_size else 60), 2.0
    effect = bernoulli_effect(odds)
    ends, held, weaker = [], 0, 0
    for seed in range(n_draws):
        found = sensitivity_bounds(adjusted_for_x(seed, odds), (1.5, odds)).set_index("lambda")
        ends.append(found["upper"][odds])
        held += bool(found["interval_upper"][odds] >= effect)
        weaker += bool(found["interval_upper"][1.5] >= effect)
    measured("mean upper end less effect", np.mean(ends) - effect)
    measured("share of intervals that hold the effect", held / n_draws)
    measured("share that hold it with a weaker strength", weaker / n_draws)
    assert np.mean(ends) == pytest.approx(effect, abs=0.02)
    assert held / n_draws >= 0.975 - 2 * np.sqrt(0.975 * 0.025 / n_draws)
    assert weaker / n_draws <= 0.05


def test_information_bounds_hold_the_mean_potential_outcome(full_size, measured):
    """AU-S6, world A2: at least 95 % of 200 draws; in CI 20 draws of 500 units, all of which do."""
    n_draws, n = (200, 2000) if full_size else (20, 500)
    held = 0
    for seed in range(n_draws):
        world = clipped(seed, n)
        found, mean = arm_bounds(world), world.treated.mean()
        held += bool(((found["lower"] <= mean) & (mean <= found["upper"])).all())
    measured("share of draws whose bounds hold E[Y(1)]", held / n_draws)
    assert held / n_draws >= 0.95


def test_sensitivity_bounds_of_the_true_strength_hold_the_effect(full_size, measured):
    """Nothing is adjusted for; the strength is the largest that the odds of treatment really have."""
    n_draws = 200 if full_size else 25
    held = 0
    for seed in range(n_draws):
        world = clipped(seed)
        share, p = world.treatment.mean(), world.propensity
        odds = p / (1 - p) * (1 - share) / share
        row = sensitivity_bounds(unadjusted(world), (np.maximum(odds, 1 / odds).max(),)).iloc[0]
        held += bool(row["interval_lower"] <= world.effect <= row["interval_upper"])
    measured("share of draws whose bounds hold the effect", held / n_draws)
    assert held / n_draws >= 0.95


def test_each_family_of_bounds_lies_within_the_next():
    """AU-S5: weaker within stronger within Manski's within each divergence's, in world A2."""
    grid = (1.0, 1.25, 1.5, 2.0, 3.0, 10.0, 100.0)
    for seed in range(5):
        world = clipped(seed, 500)
        sample = unadjusted(world)
        found, worst = sensitivity_bounds(sample, grid, SUPPORT), manski_bounds(sample, SUPPORT)
        assert (np.diff(found["lower"]) <= 1e-12).all()
        assert (np.diff(found["upper"]) >= -1e-12).all()
        assert worst["lower"] <= found["lower"].min() + 1e-12
        assert worst["upper"] >= found["upper"].max() - 1e-12
        arm = arm_bounds(world).set_index("bound")
        assert (arm["lower"] <= arm["lower"]["manski"] + 1e-6).all()
        assert (arm["upper"] >= arm["upper"]["manski"] - 1e-6).all()


def test_matched_pairs_find_no_effect_where_there_is_none(full_size, measured):
    """Gamma above 1 in at most alpha of null studies, in whichever direction the data point."""
    n_draws, n, alpha, found = (2000 if full_size else 300), 200, 0.05, 0
    for seed in range(n_draws):
        random = generator(seed, "null_pairs")
        propensity = random.uniform(0.3, 0.7, n)
        treatment = (random.random(n) < propensity).astype(float)
        outcome = random.standard_normal(n)
        pairs = matched_pairs(treatment, propensity)
        differences = outcome[pairs[:, 0]] - outcome[pairs[:, 1]]
        signed = differences if differences.mean() >= 0 else -differences
        found += rosenbaum_gamma(signed, alpha / 2) > 1
    measured("share of null studies with a Gamma above 1", found / n_draws)
    assert found / n_draws <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / n_draws)


def test_the_proxy_curve_finds_the_effect_at_the_true_correlation(full_size, measured):
    """World C3 with a proxy of correlation .8: about 1 - .64 of what only it could remove is left.

    "About" is .10 of the confounding, as for the law itself (C-3 of the other specification).
    """
    n_seeds, correlation = (100 if full_size else 12), 0.8
    at_face, corrected, confounding = [], [], []
    for seed in range(n_seeds):
        world = tutorial(seed, n=4000, size=1, correlation=correlation)
        blind, proxied = (
            scores(world.units, ["x1", "x2"]),
            scores(world.units, ["x1", "x2", "proxy"]),
        )
        curve = proxy_curve(proxied, blind, np.arange(len(blind)), (1.0, correlation))
        at_face.append(curve["estimate"][0])
        corrected.append(curve["estimate"][1])
        confounding.append(blind.mean() - EFFECT)
    measured("bias without the proxy", np.mean(confounding))
    measured("bias with the proxy at face value", np.mean(at_face) - EFFECT)
    measured("bias of the curve at the true correlation", np.mean(corrected) - EFFECT)
    assert abs(np.mean(corrected) - EFFECT) <= 0.1 * np.mean(confounding)
    assert np.mean(at_face) - EFFECT > 0.2 * np.mean(confounding)


def scores(units, names):
    """AIPW scores from a logistic propensity and linear outcomes, in two folds."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    x = units[names].to_numpy()
    w, y = units["treatment"].to_numpy(), units["outcome"].to_numpy()
    found, half = np.empty(len(y)), np.arange(len(y)) % 2 == 0
    for test in (half, ~half):
        e = LogisticRegression(C=1e3).fit(x[~test], w[~test]).predict_proba(x[test])[:, 1]
        e = np.clip(e, 0.01, 0.99)
        mu0, mu1 = (
            LinearRegression().fit(x[~test & (w == arm)], y[~test & (w == arm)]).predict(x[test])
            for arm in (0, 1)
        )
        treated, untreated = (
            w[test] * (y[test] - mu1) / e,
            (1 - w[test]) * (y[test] - mu0) / (1 - e),
        )
        found[test] = mu1 - mu0 + treated - untreated
    return found
