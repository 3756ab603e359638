"""IVL: its algebra, its limits, its augmentations and their refusal."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from eo_causal.encode.ivl import (
    AIRLIGHT,
    InstrumentSettings,
    alpha_draws,
    augment,
    check_invariance,
    choose_linear_alpha,
    fit_linear_ivl,
    instrument_basis,
    ivl_loss,
    turn_and_flip,
    weighted,
)
from eo_causal.errors import ConfigError


def world(n=300, d=5, seed=0):
    """A confounded label, and augmentations along directions the label does not read."""
    random = np.random.default_rng(seed)
    label = random.normal(size=d)
    free = np.linalg.svd(label[None])[2][1:]
    hidden = random.normal(size=(n, d))
    images = hidden @ random.normal(size=(d, d)) + 0.1 * random.normal(size=(n, d))
    target = images @ label + hidden @ random.normal(size=d)
    instruments = random.normal(size=(n, d - 1))
    return images + instruments @ free, target, instruments


def images_of(n=6, size=8, bands=2, frames=1, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, frames, bands, size, size)).astype(np.float32)


def test_basis_spans_the_centred_instruments():
    instruments = np.random.default_rng(0).normal(3.0, 1.0, (40, 3))
    basis = instrument_basis(instruments)
    centred = instruments - instruments.mean(axis=0)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(basis @ (basis.T @ centred), centred, atol=1e-12)
    np.testing.assert_allclose(basis.T @ np.ones(40), 0, atol=1e-12)


def test_dependent_and_constant_instruments_add_no_direction():
    one = np.random.default_rng(0).normal(size=20)
    basis = instrument_basis(np.column_stack([one, 2 * one + 1, np.full(20, 7.0)]))
    assert basis.shape == (20, 1)
    assert instrument_basis(np.full((20, 2), 7.0)).shape == (20, 0)


def test_too_few_images_for_the_parameters_name_the_remedy():
    with pytest.raises(ConfigError, match=r"5 images .* 3 augmentation.*batch_size to 6"):
        instrument_basis(np.random.default_rng(0).normal(size=(5, 3)))


def test_k_squared_is_alpha_plus_the_projection():
    basis = instrument_basis(np.random.default_rng(1).normal(size=(30, 4)))
    k = weighted(np.eye(30), basis, 0.3)
    np.testing.assert_allclose(k @ k, 0.3 * np.eye(30) + basis @ basis.T, atol=1e-12)


def test_batch_loss_is_the_quadratic_form():
    random = np.random.default_rng(2)
    residual, instruments = random.normal(size=30), random.normal(size=(30, 4))
    basis = instrument_basis(instruments)
    form = residual @ (basis @ basis.T) @ residual / 30 + 0.2 * residual @ residual / 30
    assert ivl_loss(residual, basis, 0.2) == pytest.approx(form, rel=1e-12)
    found = ivl_loss(torch.tensor(residual), torch.tensor(basis), 0.2)
    assert float(found) == pytest.approx(form, rel=1e-12)


def test_closed_form_has_the_smallest_loss():
    images, target, instruments = world()
    basis = instrument_basis(instruments)
    best = fit_linear_ivl(images, target, instruments, 0.05)
    coefficient = torch.tensor(best, requires_grad=True)
    residual = torch.tensor(target) - torch.tensor(images) @ coefficient
    loss = ivl_loss(residual, torch.tensor(basis), 0.05)
    gradient = torch.autograd.grad(loss, coefficient)[0]
    np.testing.assert_allclose(gradient.numpy(), 0, atol=1e-10)


def test_large_alpha_is_least_squares_on_augmented_images():
    images, target, instruments = world()
    plain = np.linalg.lstsq(images, target, rcond=None)[0]
    np.testing.assert_allclose(fit_linear_ivl(images, target, instruments, 1e9), plain, rtol=1e-6)


def test_small_alpha_satisfies_the_moment_of_two_stage_least_squares():
    images, target, instruments = world()
    basis = instrument_basis(instruments)
    residual = target - images @ fit_linear_ivl(images, target, instruments, 1e-9)
    assert np.abs(images.T @ basis @ (basis.T @ residual)).max() / len(target) < 1e-6


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ConfigError, match="above 0"):
        fit_linear_ivl(*world(), alpha)


def test_alpha_draws_are_log_uniform():
    draws = np.log10(alpha_draws(np.random.default_rng(0), 4000))
    assert -4 <= draws.min() < -3.99 < -0.01 < draws.max() <= 0
    assert np.mean(draws) == pytest.approx(-2, abs=0.05)


def test_chosen_alpha_is_one_of_the_draws_and_reproducible():
    chosen = [choose_linear_alpha(*world(), np.random.default_rng(4)) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert 1e-4 <= chosen[0] <= 1


def test_without_augmentations_images_stay_and_have_no_parameters():
    values = images_of()
    changed, rows = augment(values, InstrumentSettings(), np.random.default_rng(0))
    np.testing.assert_array_equal(changed, values)
    assert rows.shape == (6, 0)


def test_every_augmentation_gives_its_columns():
    settings = InstrumentSettings(
        rotations=True, flips=True, shift=2, gain=0.1, offset=0.1, haze=0.2, blur=0.5
    )
    changed, rows = augment(images_of(frames=3), settings, np.random.default_rng(0))
    assert changed.shape == (6, 3, 2, 8, 8)
    assert changed.dtype == np.float32
    assert rows.shape == (6, 3 + 1 + 2 + 2 + 2 + 1 + 1)


@pytest.mark.parametrize(
    ("change", "rebuilt"),
    [
        ({"gain": 0.3}, lambda image, row: image * (1 + row[None, :, None, None])),
        ({"offset": 0.3}, lambda image, row: image + row[None, :, None, None]),
        ({"haze": 0.3}, lambda image, row: (1 - row[0]) * image + row[0] * AIRLIGHT),
    ],
)
def test_parameters_rebuild_the_image(change, rebuilt):
    values = images_of()
    changed, rows = augment(values, InstrumentSettings(**change), np.random.default_rng(0))
    assert np.abs(rows).max() <= 0.3
    for image, before, row in zip(changed, values, rows, strict=True):
        np.testing.assert_allclose(image, rebuilt(before, row), atol=1e-6)


def test_shift_moves_by_its_parameters_and_mirrors_the_edge():
    values = images_of(n=20)
    changed, rows = augment(values, InstrumentSettings(shift=2), np.random.default_rng(0))
    assert set(np.unique(rows)) == {-2, -1, 0, 1, 2}
    for image, before, (down, right) in zip(changed, values, rows.astype(int), strict=True):
        moved = np.roll(before, (down, right), axis=(-2, -1))
        np.testing.assert_array_equal(image[..., 2:-2, 2:-2], moved[..., 2:-2, 2:-2])
        if down > 0:
            columns = slice(max(right, 0), 8 + min(right, 0))
            source = slice(max(-right, 0), 8 - max(right, 0))
            np.testing.assert_array_equal(image[..., down - 1, columns], before[..., 0, source])


def test_blur_is_a_share_of_the_mean_of_nine_pixels():
    values = images_of()
    changed, rows = augment(values, InstrumentSettings(blur=1.0), np.random.default_rng(0))
    nine = values[0, 0, 0, 2:5, 3:6].mean()
    middle = values[0, 0, 0, 3, 4]
    assert changed[0, 0, 0, 3, 4] == pytest.approx(middle + rows[0, 0] * (nine - middle), abs=1e-6)


def test_turns_and_flips_are_what_their_columns_say():
    values = images_of(n=40)
    changed, rows = turn_and_flip(values, True, True, np.random.default_rng(0))
    turns = (rows[:, :3] @ [1, 2, 3]).astype(int)
    assert set(turns) == {0, 1, 2, 3}
    for image, before, turn, flipped in zip(changed, values, turns, rows[:, 3], strict=True):
        expected = np.rot90(before, turn, axes=(-2, -1))
        np.testing.assert_array_equal(image, expected[..., ::-1] if flipped else expected)


def test_oblong_chips_turn_by_half():
    values = np.random.default_rng(0).normal(size=(30, 1, 1, 4, 6)).astype(np.float32)
    changed, rows = turn_and_flip(values, True, False, np.random.default_rng(0))
    assert changed.shape == values.shape
    assert rows[:, [0, 2]].sum() == 0
    assert 0 < rows[:, 1].sum() < 30


def test_same_generator_same_augmentation():
    settings = InstrumentSettings(rotations=True, shift=1, haze=0.2)
    first, second = [augment(images_of(), settings, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def mean_of_first_band(values):
    return values[:, :, 0].mean(axis=(1, 2, 3)).astype(float)


def test_turning_leaves_a_mean_alone():
    settings = InstrumentSettings(rotations=True, flips=True)
    found = check_invariance(mean_of_first_band, images_of(30), settings, np.random.default_rng(0))
    assert found < 1e-6


def test_an_augmentation_that_moves_the_label_is_refused():
    settings = InstrumentSettings(offset=1.0)
    with pytest.raises(ConfigError, match=r"move the label.*more than 0\.1") as caught:
        check_invariance(mean_of_first_band, images_of(30), settings, np.random.default_rng(0))
    assert caught.value.facts["change"] > 1


def test_a_constant_label_model_proves_nothing():
    settings = InstrumentSettings(offset=1.0)
    with pytest.raises(ConfigError, match="change by inf"):
        check_invariance(
            lambda values: np.zeros(len(values)), images_of(), settings, np.random.default_rng(0)
        )


def test_unknown_augmentations_are_refused():
    with pytest.raises(ValidationError, match="zoom"):
        InstrumentSettings(zoom=0.5)
