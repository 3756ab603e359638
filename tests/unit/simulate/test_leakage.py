"""World A1: its recipe, its reproducibility."""

import numpy as np
import pytest

from eo_causal.errors import ConfigError
from eo_causal.simulate.leakage import leaking_images


def test_the_world_is_what_its_recipe_says():
    world = leaking_images(1, n=40_000)
    a, b, w, u = (
        world.confounder_direction, world.leak_direction, world.treatment, world.confounder,
    )  # fmt: skip
    assert np.linalg.norm([a, b], axis=1) == pytest.approx([1, 1])
    before = world.z_pre - 2 * u[:, None] * a
    assert before.std(axis=0) == pytest.approx(np.full(20, 0.3), rel=0.05)
    after = world.z_post - 2 * u[:, None] * a
    change = after[w == 1].mean(axis=0) - after[w == 0].mean(axis=0)
    np.testing.assert_allclose(change, 3 * b, atol=0.03)
    drift = after[w == 0].mean(axis=0)
    assert 0.3 < drift.std() < 0.8
    spread = (after[w == 1] @ b).std()
    assert spread == pytest.approx(np.sqrt(9 / 12 + 0.09), rel=0.02)
    slope, level = np.polyfit(u, world.outcome - w, 1)
    assert (slope, level) == pytest.approx((1.5, 0), abs=0.02)
    assert np.corrcoef(w, u)[0, 1] == pytest.approx(0.413, abs=0.02)


def test_without_leak_and_noise_only_the_drift_is_new():
    world = leaking_images(2, leak=0, noise=0, n=50)
    np.testing.assert_allclose((world.z_post - world.z_pre).std(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("cosine", [-1.0, 0.0, 0.5, 0.8])
def test_stress_sets_the_cosine_between_leak_and_confounder(cosine):
    world = leaking_images(3, n=10, cosine=cosine)
    assert world.leak_direction @ world.confounder_direction == pytest.approx(cosine, abs=1e-12)
    assert np.linalg.norm(world.leak_direction) == pytest.approx(1)


def test_a_share_of_units_has_pairs():
    world = leaking_images(4, n=1000, share_of_pairs=0.25)
    assert world.paired.sum() == 250
    known = np.isfinite(world.known_pre)
    np.testing.assert_array_equal(known.all(axis=1), world.paired)
    np.testing.assert_array_equal(known.any(axis=1), world.paired)


def test_the_seed_decides():
    one, two, other = (leaking_images(seed, n=20).z_post for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("wrong", [{"cosine": 1.1}, {"share_of_pairs": -0.1}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        leaking_images(0, **wrong)
