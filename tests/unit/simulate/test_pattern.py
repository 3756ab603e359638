"""The pattern world: filters, windows, pooling and units against their definitions."""

import numpy as np
import pytest
from scipy.special import logit

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError, DataError
from eo_causal.simulate.pattern import (
    average_pool,
    central,
    draw_units,
    generated_images,
    image_score,
    pattern_kernel,
    pattern_response,
    pattern_world,
    random_crops,
    standardised,
    study_images,
)


def random_images(n=3, size=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, size, size)).astype(np.float32)


def test_kernels_of_two_and_three_pixels_by_hand():
    two = np.array([[-0.5, 0.5], [0.5, -0.5]]) / np.sqrt(0.001 + 0.25 * 4)
    np.testing.assert_allclose(pattern_kernel(2), two)
    third = 1 / 3
    three = np.full((3, 3), -third) + np.fliplr(np.eye(3))
    np.testing.assert_allclose(pattern_kernel(3), three / np.sqrt(0.001 + 2 / 9 * 9))


def test_a_pattern_of_one_pixel_is_the_pixel():
    images = random_images()
    expected = (images - images.mean()) / images.std()
    np.testing.assert_allclose(pattern_response(images, 1), expected, atol=1e-5)


@pytest.mark.parametrize("width", [2, 3, 8])
def test_the_response_is_the_filter_with_same_padding(width):
    images = random_images(2, 20)
    kernel = pattern_kernel(width)
    before, after = (width - 1) // 2, width - 1 - (width - 1) // 2
    padded = np.pad(images, ((0, 0), (before, after), (before, after)))
    expected = np.empty(images.shape)
    for row in range(20):
        for column in range(20):
            window = padded[:, row : row + width, column : column + width]
            expected[:, row, column] = (window * kernel).sum(axis=(1, 2))
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(pattern_response(images, width), expected, atol=1e-5)


def test_strokes_the_other_way_do_not_count():
    images = 0.01 * random_images(2, 128)
    along = np.arange(60, 68)
    images[0, along, along[::-1]] += 1
    images[1, along, along] += 1
    response = central(pattern_response(images, 8))
    assert response[0].max() > 5 * response[1].max()


def test_pooling_by_hand():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    np.testing.assert_array_equal(average_pool(image, 2), [[[2.5, 4.5], [10.5, 12.5]]])
    np.testing.assert_array_equal(average_pool(image, 4), [[[7.5]]])
    np.testing.assert_array_equal(average_pool(image, 1), image)


@pytest.mark.parametrize(("factor", "inner"), [(1, 96), (2, 48), (4, 24), (8, 12), (16, 6)])
def test_the_margin_is_sixteen_full_pixels_at_every_resolution(factor, inner):
    full = np.zeros((1, 128, 128), dtype=np.float32)
    full[:, 16:-16, 16:-16] = 1
    window = central(average_pool(full, factor), factor)
    assert window.shape == (1, inner, inner)
    assert (window == 1).all()


def test_what_lies_in_the_margin_does_not_count():
    response = np.zeros((3, 128, 128), dtype=np.float32)
    response[0, 15, 60] = response[0, 112, 60] = response[0, 60, 15] = 9
    response[1, 16, 111] = 3
    response[2, 60, 60] = 6
    score = image_score(response)
    np.testing.assert_allclose(score, (np.array([0, 3, 6]) - 3) / np.std([0, 3, 6]))
    mean = image_score(response, pool="mean")
    np.testing.assert_allclose(mean, score)


def test_generated_images_have_the_texture_of_their_recipe():
    images = generated_images(6000, np.random.default_rng(1), size=32).astype(float)
    square = 3 * np.exp(0.5) * np.exp(0.18) + 1  # three parts, contrast, and the level
    assert (images**2).mean() == pytest.approx(square, rel=0.1)
    assert images.mean() == pytest.approx(0, abs=0.1)
    steps = np.diff(images, axis=2)
    spread = steps.std(axis=(1, 2)) / images.std(axis=(1, 2))
    assert np.quantile(spread, 0.9) > 2 * np.quantile(spread, 0.1)  # rough and smooth ones


def test_windows_are_cut_anywhere_in_any_image():
    image, row, column = np.meshgrid(range(4), range(20), range(24), indexing="ij")
    crops = random_crops(image * 10_000 + row * 100 + column, 400, np.random.default_rng(2), 16)
    assert crops.shape == (400, 16, 16)
    corner = crops[:, 0, 0].astype(int)
    rows, columns = np.indices((16, 16))
    np.testing.assert_array_equal(crops, corner[:, None, None] + rows * 100 + columns)
    assert set(corner // 10_000) == set(range(4))
    assert set(corner % 10_000 // 100) == set(range(5))
    assert set(corner % 100) == set(range(9))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 128, 127)), "128 x 127 pixels hold no window of 128 x 128"),
        (np.full((2, 128, 128), np.nan), "missing pixels"),
    ],
)
def test_images_that_cannot_be_cut_are_refused(images, words):
    with pytest.raises(DataError, match=words):
        pattern_world(0, 10, images=images)


@pytest.mark.parametrize("images", [np.zeros((2, 130, 130)), random_images(1, 128)])
def test_images_that_do_not_differ_are_refused(images):
    with pytest.raises(DataError, match="equally strong everywhere"):
        pattern_world(0, 10, images=images)


def test_units_follow_their_equations():
    confounder = np.random.default_rng(3).normal(size=200_000)
    units = draw_units(confounder, np.random.default_rng(4), effect=2.5)
    noise = logit(units.propensity) - confounder
    assert (noise.mean(), noise.std()) == pytest.approx((0, 0.1), abs=0.001)
    assert (units.treatment - units.propensity).mean() == pytest.approx(0, abs=0.004)
    error = units.outcome - confounder - 2.5 * units.treatment
    assert (error.mean(), error.std()) == pytest.approx((0, 0.1), abs=0.001)
    assert abs(np.corrcoef(noise, error)[0, 1]) < 0.01


def test_a_world_holds_its_images_and_its_truth():
    world = pattern_world(5, 60)
    assert world.chips.shape == (60, 1, 1, 128, 128)
    assert world.chips.dtype == np.float32
    images = world.chips.to_numpy()[:, 0, 0]
    expected = image_score(pattern_response(images, 8))
    np.testing.assert_array_equal(world.units["confounder"], expected)
    assert (expected.mean(), expected.std()) == pytest.approx((0, 1))
    assert world.study_units("confounder").covariates.shape == (60, 1)
    assert world.effect == 1
    assert list(world.chips["image_key"].to_numpy()) == list(world.units["image_key"])


def test_images_are_standardised_over_all_of_them():
    images = study_images(6, 0, 40)
    assert (images.mean(), images.std()) == pytest.approx((0, 1), abs=0.02)
    by_hand = np.array([[[0.0, 2.0]]], dtype=np.float32)
    np.testing.assert_allclose(standardised(by_hand), [[[-1 / 1.01, 1 / 1.01]]], rtol=1e-6)


def test_the_seed_and_the_repetition_decide_and_nothing_else():
    one, same = study_images(7, 3, 4), study_images(7, 3, 4)
    np.testing.assert_array_equal(one, same)
    for other in (study_images(8, 3, 4), study_images(7, 4, 4)):
        assert not np.allclose(one, other)
    draws = [draw_units(np.zeros(5), generator(7, "x"), 1).outcome for _ in range(2)]
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize("width", [0, 33])
def test_a_pattern_larger_than_the_margins_is_refused(width):
    with pytest.raises(ConfigError, match=f"width {width}.*1 to 32"):
        pattern_world(0, 10, width)
