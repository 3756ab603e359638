"""The world without heterogeneity (C10): what its text promises."""

import numpy as np
import pytest

from eo_causal.simulate.clustered_trial import clustered_trial


def test_the_trial_follows_its_equation():
    world = clustered_trial(0, n_clusters=40_000)
    design = np.column_stack([np.ones(120_000), world.treatment, world.features])
    found, residual = np.linalg.lstsq(design, world.outcome, rcond=None)[:2]
    np.testing.assert_allclose(found, [0, 0.3, 0, 1, *[0] * 8], atol=0.03)
    assert residual[0] / 120_000 == pytest.approx(1 + 0.5**2, abs=0.02)
    assert world.effect == 0.3


def test_the_effect_is_the_same_wherever_features_differ():
    world = clustered_trial(1, n_clusters=10_000)
    rest = world.outcome - world.features[:, 1] - world.effect * world.treatment
    products = world.features * (2 * world.treatment - 1)[:, None]
    assert np.abs(products.T @ rest / len(rest)).max() < 0.03


def test_treatment_and_errors_are_shared_within_clusters():
    world = clustered_trial(2, n_clusters=10_000)
    treatment = world.treatment.reshape(10_000, 3)
    assert (treatment == treatment[:, :1]).all()
    assert treatment.mean() == pytest.approx(0.5, abs=0.02)
    rest = (world.outcome - world.features[:, 1]).reshape(10_000, 3) - 0.3 * treatment
    assert np.cov(rest.T)[0, 1] == pytest.approx(0.25, abs=0.03)


def test_the_trial_has_the_asked_size_and_repeats_by_seed():
    world, again = clustered_trial(3, 20, 4, 5), clustered_trial(3, 20, 4, 5)
    assert world.features.shape == (80, 5)
    assert np.bincount(world.cluster).tolist() == [4] * 20
    assert (world.outcome == again.outcome).all()
    assert (world.outcome != clustered_trial(4, 20, 4, 5).outcome).all()
