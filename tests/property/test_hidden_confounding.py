"""Bounds under hidden confounding hold the truth (arXiv 2601.17160, simulation; seeds fixed)."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import t as student

from eo_causal.audit.bounds import Sample, sensitivity_bounds
from eo_causal.audit.divergence_bounds import divergence_bounds
from eo_causal.core.random import generator

SUPPORT = (-6.0, 8.0)


def hidden(seed, n):
    """World A2: five covariates, one hidden confounder, outcomes cut to their support."""
    random = generator(seed, "hidden")
    x, u = random.uniform(-2, 2, (n, 5)), random.standard_normal(n)
    logit = x @ random.normal(0, 0.6, 5) + 0.8 * u + 0.5 * np.sin(x[:, 0]) - 0.25 * x[:, 0] ** 2
    p = 0.05 + 0.9 * expit(logit)
    w = (random.random(n) < p).astype(float)
    effect = 0.7 + 0.2 * np.sin(x[:, 0]) + 0.1 * x[:, 0] + 0.8 * (p - 0.5)
    base = 0.5 + 0.8 * np.tanh(x[:, 0]) + 0.25 * x[:, 1] ** 2 - 0.15 * np.sin(x[:, 2])
    base = base + 0.7 * u + student(3).rvs(n, random_state=random)
    treated, untreated = (np.clip(base + effect * arm, *SUPPORT) for arm in (1, 0))
    return w, np.where(w == 1, treated, untreated), treated.mean(), (treated - untreated).mean(), p


@pytest.mark.statistics
def test_information_bounds_hold_the_mean_potential_outcome(full_size, measured):
    n_draws = 200 if full_size else 25
    inside = 0
    for seed in range(n_draws):
        w, y, mean, _, _ = hidden(seed, 2000)
        own = np.sort(y[w == 1])
        found = divergence_bounds(own, np.full(len(own), 1 / len(own)), float(w.mean()), SUPPORT)
        inside += bool(((found["lower"] <= mean) & (mean <= found["upper"])).all())
    measured("share of draws whose bounds hold E[Y(1)]", inside / n_draws)
    assert inside / n_draws >= 0.95


@pytest.mark.statistics
def test_sensitivity_bounds_of_the_true_strength_hold_the_effect(full_size, measured):
    """Nothing is adjusted for; the strength is the largest that treatment odds really have."""
    n_draws = 200 if full_size else 25
    inside = 0
    for seed in range(n_draws):
        w, y, _, effect, p = hidden(seed, 2000)
        share = w.mean()
        odds = p / (1 - p) * (1 - share) / share
        strength = float(np.max(np.maximum(odds, 1 / odds)))
        n = len(w)
        zeros, flat = np.zeros(n), np.full(n, share)
        sample = Sample(w, y, flat, zeros, zeros, np.arange(n) % 5, np.arange(n))
        row = sensitivity_bounds(sample, (strength,)).iloc[0]
        inside += bool(row["interval_lower"] <= effect <= row["interval_upper"])
    measured("share of draws whose bounds hold the effect", inside / n_draws)
    assert inside / n_draws >= 0.95
