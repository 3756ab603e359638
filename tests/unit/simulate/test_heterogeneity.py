"""Chip worlds: their recipe, their coordinates, their reproducibility."""

import numpy as np
import pytest

from eo_causal.encode.base import to_batch
from eo_causal.errors import ConfigError
from eo_causal.simulate.heterogeneity import (
    BLOB_VALUE,
    PERTURBATIONS,
    changing_brightness,
    perturbed_scenes,
)


def scenes(seed=0, n=40, perturbations=PERTURBATIONS, size=64):
    return perturbed_scenes(seed, n, perturbations, size=size, inner=16)


@pytest.mark.parametrize("world", [changing_brightness(1, n=6, size=8), scenes(n=6)])
def test_chips_keep_their_contract(world):
    batch = to_batch(world.chips)
    assert batch.frames.all()
    assert list(batch.unit_ids) == list(world.units.index)
    assert (world.chips["image_key"] == world.chips["unit_id"]).all()
    january = world.chips["datetime"].dt
    np.testing.assert_array_equal(january.year, world.chips["fractional_year"])
    assert (january.dayofyear == 1).all()


def test_brightness_goes_from_start_to_start_plus_change():
    world = changing_brightness(2, n=3000, size=4)
    mean = world.chips.mean(("band", "y", "x")).to_numpy()
    start, change = (world.units[name].to_numpy() for name in ("start", "change"))
    noise = mean - (start[:, None] + change[:, None] * np.array([0, 1 / 3, 2 / 3, 1]))
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(noise.mean(axis=0)).max() < 0.01
    assert start.std() == pytest.approx(2, rel=0.05)
    assert change.std() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("effect", ["change", "last", "constant"])
def test_outcomes_are_what_the_recipe_says(effect):
    units = changing_brightness(3, n=4000, effect=effect, size=4).units
    end = (units["start"] + units["change"]) / np.sqrt(5)
    followed = {"change": units["change"], "last": end, "constant": 0.0}[effect]
    np.testing.assert_allclose(units["effect"], 0.75 + 0.5 * followed)
    left = units["outcome"] - 0.3 * units["start"] - units["treatment"] * units["effect"]
    assert left.std() == pytest.approx(1, rel=0.04)
    assert abs(left.mean()) < 0.05
    assert units["treatment"].mean() == pytest.approx(0.5, abs=0.03)


def test_the_last_frame_says_less_than_half_of_the_change():
    world = changing_brightness(4, n=4000, size=4)
    mean = world.chips.mean(("band", "y", "x")).to_numpy()
    change = world.units["change"]
    assert np.corrcoef(mean[:, -1], change)[0, 1] == pytest.approx(0.44, abs=0.04)
    assert np.corrcoef(mean[:, -1] - mean[:, 0], change)[0, 1] > 0.97


def test_texture_stays_while_brightness_changes():
    chips = changing_brightness(5, n=3, size=16).chips
    away = chips - chips.mean(("y", "x"))
    np.testing.assert_allclose(away[:, 0], away[:, 3], atol=1e-5)
    np.testing.assert_allclose(away.std(("y", "x")), 1, rtol=1e-4)


def test_every_perturbation_has_its_own_half():
    units = scenes(n=400).units
    assert (units[list(PERTURBATIONS)].sum() == 200).all()
    overlap = units[list(PERTURBATIONS)].corr().to_numpy()[np.triu_indices(4, 1)]
    assert np.abs(overlap).max() < 0.2


def test_outcome_is_the_sum_of_what_was_done():
    units = scenes(n=2000, size=17).units
    done = units[list(PERTURBATIONS)].to_numpy()
    coefficient, rest, *_ = np.linalg.lstsq(done, units["outcome"], rcond=None)
    np.testing.assert_allclose(coefficient, [100, 100, 100, -100], atol=1.5)
    assert np.sqrt(rest[0] / 2000) == pytest.approx(10 * np.sqrt(1.5), rel=0.06)


def test_only_the_named_perturbations_are_applied():
    units = scenes(perturbations=("edge",)).units
    assert units[["blob", "contrast", "rotation"]].to_numpy().sum() == 0
    assert set(units["outcome"]) == {0.0, 100.0}


def one_of(name):
    """Scenes with and without one perturbation, otherwise the same."""
    world = scenes(perturbations=(name,))
    changed = world.units[name].to_numpy() == 1
    return world.chips.to_numpy()[:, 0, 0], changed


def test_a_blob_is_dark_and_central():
    images, changed = one_of("blob")
    assert (images[changed][:, 30:34, 30:34] == np.float32(BLOB_VALUE)).all()
    assert not (images[~changed][:, 30:34, 30:34] == np.float32(BLOB_VALUE)).any()
    assert not (images[:, :20] == np.float32(BLOB_VALUE)).any()


def test_contrast_is_raised_at_both_scales():
    images, changed = one_of("contrast")
    for part in (images[:, 24:40, 24:40], images[:, :24]):
        spread = np.log(part.std(axis=(1, 2)))
        gap = spread[changed].mean() - spread[~changed].mean()
        assert gap == pytest.approx(np.log(1.8), abs=0.45)


def test_a_fade_leaves_the_centre_alone_and_ends_dark():
    images, changed = one_of("edge")
    edge = np.abs(images[:, 0]).mean(axis=1)
    assert edge[changed].max() < 0.1 < edge[~changed].min()
    centre = images[:, 24:40, 24:40].std(axis=(1, 2))
    assert 0.5 < centre[changed].mean() / centre[~changed].mean() < 2


def test_a_rotation_turns_the_streaks():
    images, changed = one_of("rotation")
    part = images[:, 24:40, 24:40]
    rough = np.abs(np.diff(part, axis=1)).mean(axis=(1, 2))
    rough = rough / np.abs(np.diff(part, axis=2)).mean(axis=(1, 2))
    assert rough[changed].max() < 1 < rough[~changed].min()


@pytest.mark.parametrize(
    "make", [lambda seed: changing_brightness(seed, n=5, size=4), lambda seed: scenes(seed, n=5)]
)
def test_same_seed_same_world(make):
    first, second, other = make(11), make(11), make(12)
    np.testing.assert_array_equal(first.chips, second.chips)
    assert first.units.equals(second.units)
    assert not np.array_equal(first.chips, other.chips)


def test_unknown_perturbations_and_centres_are_refused():
    with pytest.raises(ConfigError, match="zoom"):
        perturbed_scenes(0, 4, ("zoom",))
    with pytest.raises(ConfigError, match="smaller than the scene"):
        perturbed_scenes(0, 4, size=32, inner=32)
