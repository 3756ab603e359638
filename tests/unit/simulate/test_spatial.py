"""Field worlds: their covariance, their independence, their reproducibility."""

import numpy as np
import pytest

from eo_causal.simulate.spatial import independent_fields, noise_fields


def correlation_at(world_of, name, apart, reps=60):
    """Mean product of standardised values of pairs about so far apart."""
    products = []
    for seed in range(reps):
        world = world_of(seed)
        values = getattr(world, name)
        distance = np.hypot(*(world.places[:, None] - world.places[None]).transpose(2, 0, 1))
        i, j = np.nonzero(np.triu(np.abs(distance - apart) < 0.01, 1))
        products.append((values[i] * values[j]).mean())
    return np.mean(products)


@pytest.mark.parametrize("name", ["treatment", "outcome"])
def test_fields_have_the_range_they_are_told(name):
    found = correlation_at(lambda seed: independent_fields(seed, 200, 0.3), name, 0.2)
    assert found == pytest.approx(np.exp(-0.2 / 0.3), abs=0.1)


def test_noise_takes_its_share_of_the_variance():
    found = correlation_at(lambda s: independent_fields(s, 200, 0.3, noise=0.5), "treatment", 0.05)
    assert found == pytest.approx(0.5 * np.exp(-0.05 / 0.3), abs=0.1)
    spread = [independent_fields(s, 200, 0.02, noise=0.5).treatment.var() for s in range(20)]
    assert np.mean(spread) == pytest.approx(1, abs=0.1)


def test_treatment_and_outcome_are_independent_but_do_not_look_it():
    worlds = [independent_fields(seed, 80, 0.12) for seed in range(200)]
    found = np.array([np.corrcoef(w.treatment, w.outcome)[0, 1] for w in worlds])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(200)
    assert found.std() > 1.5 / np.sqrt(80)


def test_a_binary_treatment_is_the_field_above_its_median():
    field, cut = (independent_fields(3, 100, binary=binary) for binary in (False, True))
    np.testing.assert_array_equal(cut.treatment, field.treatment > np.median(field.treatment))
    np.testing.assert_array_equal(cut.outcome, field.outcome)


def test_clumped_places_lie_close_to_one_another():
    even, clumped = (independent_fields(4, 200, clumps=clumps).places for clumps in (None, 8))
    spacing = []
    for places in (even, clumped):
        distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
        spacing.append(np.sort(distance, axis=1)[:, 1:6].mean())
    assert spacing[1] < 0.6 * spacing[0]


def test_noise_features_are_fields_or_white_noise():
    assert correlation_at(lambda s: noise_fields(s, 100), "outcome", 0.1, 30) > 0.3
    for smooth, low, high in ((True, 0.3, 1), (False, -0.1, 0.1)):
        found = []
        for seed in range(15):
            world = noise_fields(seed, 100, 2, smooth=smooth)
            distance = np.hypot(*(world.places[:, None] - world.places[None]).transpose(2, 0, 1))
            i, j = np.nonzero(np.triu(distance < 0.1, 1))
            found.append((world.features[i, 0] * world.features[j, 0]).mean())
        assert low < np.mean(found) < high
    assert world.features.shape == (100, 2)
    assert set(world.treatment) == {0.0, 1.0}


@pytest.mark.parametrize("make", [independent_fields, noise_fields])
def test_same_seed_same_world(make):
    first, second, other = make(5, 50), make(5, 50), make(6, 50)
    for name in ("places", "treatment", "outcome", "features"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.outcome, other.outcome)
