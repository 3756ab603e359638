"""W9: outcomes behind a random network, as its text says."""

import numpy as np
import pytest

from eo_causal.simulate.network_trials import network_world


def weighted_contrast(sample, values):
    inverse = np.where(sample.treatment == 1, 1 / sample.propensity, -1 / (1 - sample.propensity))
    return float(np.mean(inverse * values))


def test_a_world_repeats_by_its_seed():
    world, again, other = (network_world(seed, 1.0, 200) for seed in (1, 1, 2))
    assert np.array_equal(world.test.features, again.test.features)
    assert np.array_equal(world.training.outcome, again.training.outcome)
    assert not np.array_equal(world.test.features, other.test.features)


def test_features_are_standardised_by_the_training_sample():
    world = network_world(1, 2.0, 1000)
    assert world.training.features.shape == (1000, 100)
    assert world.training.features.dtype == world.test.features.dtype == np.float32
    assert np.abs(world.training.features.mean(axis=0)).max() < 1e-5
    assert np.abs(world.training.features.std(axis=0) - 1).max() < 1e-5
    assert np.abs(world.test.features.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("effect", [-2.0, 0.0, 2.0])
def test_weighting_by_the_true_propensity_gives_the_effect(effect):
    sample = network_world(3, effect, 20_000).test
    assert weighted_contrast(sample, sample.outcome) == pytest.approx(effect, abs=0.1)
    treated = sample.treatment == 1
    plain = sample.outcome[treated].mean() - sample.outcome[~treated].mean()
    assert plain > effect + 0.5  # the confounder


def test_both_samples_share_a_network_and_no_unit():
    """A line from features to outcome that one sample teaches holds in the other."""
    world = network_world(1, 0.0, 3000)
    line = np.linalg.lstsq(world.training.features, world.training.outcome)[0]
    found = np.corrcoef(world.test.features @ line, world.test.outcome)[0, 1]
    assert found > 0.4
    other = network_world(2, 0.0, 3000).test
    assert abs(np.corrcoef(other.features @ line, other.outcome)[0, 1]) < found - 0.2
    assert not np.isin(world.test.outcome, world.training.outcome).any()


def test_features_know_treatment_only_through_the_outcome():
    """Regime R1: no feature depends on treatment once the outcome is held."""
    sample = network_world(4, 1.0, 20_000).test
    bins = np.digitize(sample.outcome, np.quantile(sample.outcome, np.linspace(0, 1, 41)[1:-1]))
    scores = []
    for group in np.unique(bins):
        rows = bins == group
        treated = sample.treatment[rows] == 1
        first, second = sample.features[rows][treated], sample.features[rows][~treated]
        error = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
        scores.append((first.mean(axis=0) - second.mean(axis=0)) / error)
    assert np.std(scores) == pytest.approx(1, abs=0.1)
