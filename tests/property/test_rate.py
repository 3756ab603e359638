"""Does the test of a ranking keep its level where there is nothing to rank? (EO_CAUSAL_SIZE=full for all)

Row C-14, size, on world C10: ridge T-learner, penalty 10, five folds, 100 half-samples, e = 1/2.
"""

import dataclasses

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom
from sklearn.linear_model import Ridge

from eo_causal.core.random import generator
from eo_causal.estimate.ate import aipw_scores
from eo_causal.estimate.learners import deal_groups
from eo_causal.estimate.rate import (
    SequentialFold,
    half_sample_draws,
    half_samples,
    pooled_rate,
    rate,
    sequential_rate,
)
from eo_causal.simulate.clustered_trial import clustered_trial

pytestmark = pytest.mark.statistics
N_FOLDS, N_DRAWS = 5, 100
SMALLEST, LARGEST = 0.02, 0.09


def evaluated(world, training, test):
    """Test units ranked by a ridge T-learner of the training units, with its scores."""
    means = []
    for arm in (0, 1):
        rows = training & (world.treatment == arm)
        model = Ridge(alpha=10).fit(world.features[rows], world.outcome[rows])
        means.append(model.predict(world.features[test]))
    half = np.full(test.sum(), 0.5)
    score = aipw_scores(world.treatment[test], world.outcome[test], half, *means)
    return SequentialFold(score, means[1] - means[0], world.cluster[test])


def folds_of(world, random):
    """(unit,) numbers 0..4 in random order, clusters kept whole."""
    even = np.zeros(len(world.cluster))
    return deal_groups(world.cluster, even, N_FOLDS, random)


def sequential_parts(world, fold):
    return [evaluated(world, fold < k, fold == k) for k in range(1, N_FOLDS)]


def cross_fitted_parts(world, fold):
    """What sequential evaluation is not: each fold ranked by all others, later ones included."""
    return [evaluated(world, fold != k, fold == k) for k in range(N_FOLDS)]


def joined(parts):
    names = ("score", "priority", "cluster")
    return (np.concatenate([getattr(part, name) for part in parts]) for name in names)


def rejections(p_values):
    return (np.array(p_values) < 0.05).mean(axis=0)


def test_the_sequential_test_keeps_its_level(full_size, measured):
    """C-14: one-sided 5 % rejects .02 to .09 of null trials, and T is standard normal.

    In CI 40 trials: no more rejections than a rate of .09 gives in all but one of a thousand cases.
    """
    n = 400 if full_size else 40
    found = []
    for seed in range(n):
        world = clustered_trial(seed)
        random = generator(seed, "test_rate")
        parts = sequential_parts(world, folds_of(world, random))
        found.append(sequential_rate(parts, N_DRAWS, random))
    rejected = rejections([table["p_value"] for table in found])
    ratios = np.array([table["ratio"] for table in found])
    for k, metric in enumerate(("autoc", "qini")):
        measured(f"rejected_{metric}", rejected[k])
        measured(f"mean_ratio_{metric}", ratios[:, k].mean())
        measured(f"sd_ratio_{metric}", ratios[:, k].std(ddof=1))
    assert (rejected * n <= binom.ppf(0.999, n, LARGEST)).all()
    if full_size:
        assert ((rejected >= SMALLEST) & (rejected <= LARGEST)).all()
        assert ratios.mean(axis=0) == pytest.approx(0, abs=0.165)  # 3.3 / sqrt(400)
        assert ratios.std(axis=0, ddof=1) == pytest.approx(1, abs=0.12)


def test_the_sequential_test_finds_an_effect_that_varies(full_size, measured):
    """Effects 0.3 + 0.5 Z_1 instead of 0.3: almost every trial shows it."""
    found = []
    for seed in range(100 if full_size else 20):
        null = clustered_trial(seed)
        outcome = null.outcome + 0.5 * null.treatment * null.features[:, 0]
        world = dataclasses.replace(null, outcome=outcome)
        random = generator(seed, "test_rate", "power")
        parts = sequential_parts(world, folds_of(world, random))
        found.append(sequential_rate(parts, N_DRAWS, random))
    rejected = rejections([table["p_value"] for table in found])
    measured("power_autoc", rejected[0])
    measured("power_qini", rejected[1])
    measured("mean_ratio_autoc", np.mean([table["ratio"][0] for table in found]))
    assert (rejected > 0.8).all()


def test_tests_that_reuse_outcomes_across_folds_do_not_keep_theirs(full_size, measured):
    """Means of cross-fitted fold rates, and pooled rates: why neither is offered as a test."""
    if not full_size:
        pytest.skip("documents what is not offered; EO_CAUSAL_SIZE=full runs it")
    mean_of_folds, pooled = [], []
    for seed in range(400):
        world = clustered_trial(seed)
        random = generator(seed, "test_rate")
        parts = cross_fitted_parts(world, folds_of(world, random))
        # the arithmetic of the sequential test on folds that are not sequential
        mean_of_folds.append(sequential_rate(parts, N_DRAWS, random))
        pooled.append(pooled_rate(*joined(parts), N_DRAWS, random))
    folds = rejections([ndtr(-table["estimate"] / table["std_error"]) for table in mean_of_folds])
    ratios = np.array([table["ratio"] for table in pooled])
    together = rejections(ndtr(-ratios))
    for k, metric in enumerate(("autoc", "qini")):
        measured(f"rejected_mean_of_folds_{metric}", folds[k])
        measured(f"rejected_pooled_{metric}", together[k])
        measured(f"mean_ratio_pooled_{metric}", ratios[:, k].mean())
    assert (folds > LARGEST).all()
    assert (ratios.mean(axis=0) < -0.2).all()


def test_half_samples_of_clusters_give_the_spread_of_repeated_trials(full_size, measured):
    """The ranking and the treatment are shared within clusters: single units vary too little."""
    n = 400 if full_size else 100
    rates, errors, alone = [], [], []
    for seed in range(n):
        world = clustered_trial(seed, n_clusters=100, n_each=12)
        random = generator(seed, "test_rate", "spread")
        half = np.full(len(world.cluster), 0.5)
        score = aipw_scores(world.treatment, world.outcome, half, 0 * half, 0 * half)
        priority = random.standard_normal(100)[world.cluster]
        found = rate(score, priority)
        rates.append([found.autoc, found.qini])
        for cluster, into in ((world.cluster, errors), (np.arange(len(score)), alone)):
            draws = half_sample_draws(cluster, N_DRAWS, random)
            into.append(half_samples(score, priority, draws).std(axis=0, ddof=1))
    spread = np.std(rates, axis=0, ddof=1)
    clustered, single = np.mean(errors, axis=0) / spread, np.mean(alone, axis=0) / spread
    for k, metric in enumerate(("autoc", "qini")):
        measured(f"error_over_spread_{metric}", clustered[k])
        measured(f"error_of_units_over_spread_{metric}", single[k])
    assert clustered == pytest.approx(1, abs=0.1 if full_size else 0.2)
    assert (single < 0.8).all()
