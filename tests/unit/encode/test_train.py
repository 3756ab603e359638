"""Training: it learns, from its own units only, the same way twice, and refuses what misleads."""

import pickle

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from scipy.special import expit

from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.ivl import InstrumentSettings
from eo_causal.encode.loop import _rate, _varied
from eo_causal.encode.train import ImageNetwork, TrainSettings
from eo_causal.errors import (
    ConfigError,
    ConvergenceError,
    DataError,
    EOCausalWarning,
    LeakageError,
)

QUICK = TrainSettings(epochs=4, learning_rate=5e-3, batch_size=16)


def make_chips(n=80, frames=1, bands=2, size=9, seed=0):
    """Chips of noise on a level, which is their target."""
    random = np.random.default_rng(seed)
    level = random.normal(size=n)
    values = level[:, None, None, None, None] + random.normal(size=(n, frames, bands, size, size))
    years = np.broadcast_to(2015.5 + np.arange(frames), (n, frames)).copy()
    chips = xr.DataArray(
        values.astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", [f"u{i}" for i in range(n)]),
            "band": [f"b{i}" for i in range(bands)],
            "fractional_year": (("unit", "time"), years),
        },
    )
    return chips, level


@pytest.fixture(scope="module")
def data():
    return make_chips()


@pytest.fixture(scope="module")
def fitted(data):
    return ImageNetwork(QUICK).fit(data[0], 10 + 100 * data[1])


def settings(**changes):
    return TrainSettings(**{**QUICK.model_dump(), **changes})


def test_a_level_is_learned_and_predicted_in_its_own_units(fitted):
    chips, level = make_chips(seed=1)
    predicted = fitted.predict(chips)
    assert np.corrcoef(predicted, level)[0, 1] > 0.9
    assert np.abs(predicted - (10 + 100 * level)).mean() < 50


@pytest.mark.parametrize("network", ["small_vit", "single_filter", "attention"])
def test_every_network_learns_a_level(network):
    frames = 3 if network == "attention" else 1
    chips, level = make_chips(n=100, frames=frames)
    quick = settings(network=network, epochs=6, filter_width=4)
    assert np.corrcoef(ImageNetwork(quick).fit(chips, level).predict(chips), level)[0, 1] > 0.7


@pytest.mark.parametrize("network", ["small_cnn", "small_vit", "attention"])
def test_a_second_run_gives_the_same_bytes(network, data):
    torch.manual_seed(0)
    quick = settings(network=network, epochs=2, invariant_to=("flips", "rotations"))
    first = ImageNetwork(quick).fit(*data)
    torch.manual_seed(1)
    second = ImageNetwork(quick).fit(*data)
    assert first.provenance() == second.provenance()
    for name, weight in first.state_.items():
        assert weight.tobytes() == second.state_[name].tobytes()
    assert first.predict(data[0]).tobytes() == second.predict(data[0]).tobytes()


def test_another_seed_gives_another_network(data, fitted):
    other = ImageNetwork(settings(seed=1)).fit(data[0], 10 + 100 * data[1])
    assert other.provenance()["weights_sha256"] != fitted.provenance()["weights_sha256"]


def test_probabilities_follow_the_treatment():
    chips, level = make_chips(n=200)
    treatment = np.random.default_rng(2).random(200) < expit(3 * level)
    network = ImageNetwork(settings(loss="log_loss", epochs=6)).fit(chips, treatment)
    probability = network.predict_proba(chips)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert np.corrcoef(probability[:, 1], expit(3 * level))[0, 1] > 0.8
    np.testing.assert_array_equal(network.predict(chips), probability[:, 1] > 0.5)


def test_a_number_has_no_probability(fitted, data):
    with pytest.raises(ConfigError, match="mean_squared has no probabilities"):
        fitted.predict_proba(data[0])


def test_other_units_change_nothing(data):
    chips, level = data
    units = np.arange(40)
    spoiled = chips.copy(deep=True)
    spoiled[40:] = 1e6
    first = ImageNetwork(QUICK).fit(chips, level[:40], units)
    second = ImageNetwork(QUICK).fit(spoiled, level[:40], units)
    assert first.provenance() == second.provenance()


def test_normalisation_comes_from_the_training_part_only(data):
    chips, level = data
    groups = np.arange(80) // 8
    network = ImageNetwork(QUICK).fit(chips, level, groups=groups)
    means = chips.mean(("time", "y", "x")).to_numpy().reshape(10, 8, 2).mean(axis=1)
    held_out = [
        pair
        for pair in np.argwhere(np.ones((10, 10)))
        if pair[0] < pair[1]
        and np.allclose(np.delete(means, pair, axis=0).mean(axis=0), network.normalisation_.mean)
    ]
    assert len(held_out) == 1


def test_the_validation_part_is_made_of_whole_groups(data):
    chips, level = data
    groups = np.repeat([f"village {i}" for i in range(8)], 10)
    metrics = ImageNetwork(settings(validation_share=0.25)).fit(chips, level, None, groups).metrics_
    assert (metrics["n_training"], metrics["n_validation"], metrics["n_groups"]) == (60, 20, 8)


def test_rows_that_share_an_image_stay_together(data):
    chips, level = data
    units = np.repeat(np.arange(4), 10)
    metrics = ImageNetwork(settings(validation_share=0.25)).fit(chips, level[:40], units).metrics_
    assert (metrics["n_training"], metrics["n_validation"], metrics["n_groups"]) == (30, 10, 4)


def test_an_image_in_two_groups_is_leakage(data):
    with pytest.raises(LeakageError, match=r"1 image\(s\) lie in more than one group"):
        ImageNetwork(QUICK).fit(data[0], [0.0, 1.0, 2.0], np.array([5, 5, 6]), ["a", "b", "b"])


def test_the_weights_of_the_best_epoch_stay():
    chips, _ = make_chips(n=60)
    noise = np.random.default_rng(3).normal(size=60)
    network = ImageNetwork(settings(epochs=40, patience=3)).fit(chips, noise)
    losses = network.history_["validation_loss"].to_numpy()
    best = network.metrics_["best_epoch"]
    assert best == losses.argmin()
    assert len(losses) == best + 3 + 1 < 40
    assert losses[best] == network.metrics_["validation_loss"]


def test_prediction_runs_in_evaluation_mode(data):
    chips, level = data
    network = ImageNetwork(settings(network="small_vit", epochs=1)).fit(chips, level)
    np.testing.assert_array_equal(network.predict(chips), network.predict(chips))
    alone = [network.predict(chips.isel(unit=[i]))[0] for i in range(5)]
    np.testing.assert_allclose(alone, network.predict(chips)[:5], rtol=1e-5)
    assert not network.module().training


def test_features_are_the_last_hidden_layer(fitted, data):
    features = fitted.encode(to_batch(data[0]))
    head, bias = fitted.state_["head.weight"][0], fitted.state_["head.bias"][0]
    assert features.dtype == np.float32
    assert len(fitted.feature_names) == features.shape[1] == 64
    expected = (features @ head + bias) * fitted.scale_ + fitted.centre_
    np.testing.assert_allclose(fitted.predict(data[0]), expected, rtol=1e-4)


def test_embedding_from_dask_blocks_is_the_embedding(fitted, data):
    whole = embed(data[0], fitted)
    blocks = embed(data[0].chunk(unit=32), fitted).compute(scheduler="threads")
    np.testing.assert_allclose(whole, blocks, rtol=1e-6, atol=1e-6)


def test_a_fitted_network_can_be_pickled(fitted, data):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(data[0]), fitted.predict(data[0]))


def test_provenance_is_complete(fitted):
    found = fitted.provenance()
    assert found["name"] == "image_network"
    assert found["settings"]["network"] == "small_cnn"
    assert len(found["weights_sha256"]) == 64
    assert len(found["normalisation"]["mean"]) == 2
    assert found["seed"] == 0


def test_an_invalid_pixel_counts_as_the_mean_of_its_band(fitted, data):
    chips = data[0].isel(unit=slice(0, 4)).copy(deep=True)
    filled = chips.copy(deep=True)
    chips[:, :, 1, 2, 3] = np.nan
    filled[:, :, 1, 2, 3] = np.float32(fitted.normalisation_.mean[1])
    np.testing.assert_allclose(fitted.predict(chips), fitted.predict(filled), rtol=1e-5)


def test_invalid_frames_are_passed_over():
    chips, level = make_chips(frames=3)
    network = ImageNetwork(settings(network="attention", epochs=2)).fit(chips, level)
    hidden = chips.copy(deep=True)
    hidden[:, 1] = np.nan
    undated = chips.copy(deep=True)
    undated["fractional_year"][:, 1] = np.nan
    np.testing.assert_array_equal(network.predict(hidden), network.predict(undated))


@pytest.mark.parametrize("loss", ["quintile_bias", "mean_squared"])
def test_a_loss_in_units_of_the_target_does_not_depend_on_them(loss, data):
    chips, level = data
    first = ImageNetwork(settings(loss=loss, epochs=2)).fit(chips, level)
    second = ImageNetwork(settings(loss=loss, epochs=2)).fit(chips, 1024 * level)
    np.testing.assert_allclose(
        second.predict(chips), 1024 * first.predict(chips), rtol=1e-3, atol=1
    )


def test_ivl_trains_with_a_given_alpha_and_with_a_chosen_one():
    chips, level = make_chips(n=60)
    instruments = {"haze": 0.3, "flips": True}
    for alpha, epochs in ((0.1, 2), (None, 1)):
        quick = settings(loss="ivl", instruments=instruments, alpha=alpha, epochs=epochs)
        network = ImageNetwork(quick).fit(chips, level)
        assert np.corrcoef(network.predict(chips), level)[0, 1] > 0.5
        assert network.metrics_["alpha"] == alpha or 1e-4 <= network.metrics_["alpha"] <= 1


def test_ivl_refuses_more_parameters_than_a_batch_can_carry(data):
    quick = settings(loss="ivl", batch_size=2, alpha=0.1, instruments={"gain": 0.1, "offset": 0.1})
    with pytest.raises(ConfigError, match="batch_size"):
        ImageNetwork(quick).fit(*data)


def test_a_label_model_tells_which_augmentations_move_the_label(fitted, data):
    found = fitted.check_invariance(data[0], InstrumentSettings(flips=True), tolerance=0.5)
    assert found < 0.5
    with pytest.raises(ConfigError, match="move the label"):
        fitted.check_invariance(data[0], InstrumentSettings(offset=2.0), tolerance=0.5)


def test_brightness_as_augmentation_warns(data):
    with pytest.warns(EOCausalWarning, match="every augmentation is an identification") as caught:
        ImageNetwork(settings(epochs=1, invariant_to=("brightness", "contrast"))).fit(*data)
    assert caught[0].message.code == "AugmentationWarning"
    assert caught[0].filename == __file__


def test_label_smoothing_warns_and_pulls_to_one_half(data):
    chips, level = data
    treatment = level > 0
    sharp = ImageNetwork(settings(loss="log_loss", epochs=6)).fit(chips, treatment)
    smooth = ImageNetwork(settings(loss="log_loss", epochs=6, label_smoothing=0.4))
    with pytest.warns(EOCausalWarning, match="pulls propensities") as caught:
        smooth.fit(chips, treatment)
    assert caught[0].message.code == "LabelSmoothingWarning"
    away = [np.abs(found.predict_proba(chips)[:, 1] - 0.5).mean() for found in (sharp, smooth)]
    assert away[1] < away[0]


def test_flips_and_rotations_keep_the_pixels():
    values = np.random.default_rng(0).normal(size=(9, 1, 2, 5, 5)).astype(np.float32)
    varied = _varied(
        values, settings(invariant_to=("flips", "rotations")), np.random.default_rng(1)
    )
    assert not np.array_equal(varied, values)
    np.testing.assert_array_equal(
        np.sort(varied.reshape(9, 2, 25)), np.sort(values.reshape(9, 2, 25))
    )
    assert _varied(values, settings(), np.random.default_rng(1)) is values


def test_contrast_keeps_the_mean_and_brightness_the_spread():
    values = np.random.default_rng(0).normal(size=(9, 1, 2, 5, 5)).astype(np.float32)
    contrast = _varied(values, settings(invariant_to=("contrast",)), np.random.default_rng(1))
    brightness = _varied(values, settings(invariant_to=("brightness",)), np.random.default_rng(1))
    np.testing.assert_allclose(contrast.mean(axis=(3, 4)), values.mean(axis=(3, 4)), atol=1e-6)
    np.testing.assert_allclose(brightness.std(axis=(3, 4)), values.std(axis=(3, 4)), rtol=1e-5)
    assert np.abs(contrast - values).max() > 0.01 < np.abs(brightness - values).max() <= 0.1001
    far = settings(invariant_to=("brightness",), brightness=2.0)
    assert np.abs(_varied(values, far, np.random.default_rng(1)) - values).max() > 1


def test_the_learning_rate_falls_by_a_cosine_or_stays():
    falling = [_rate(epoch, settings(epochs=4)) for epoch in range(4)]
    np.testing.assert_allclose(falling, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert _rate(3, settings(epochs=4, schedule="constant")) == 1


def test_half_precision_arithmetic_learns_too(data):
    chips, level = data
    network = ImageNetwork(settings(precision="bfloat16", epochs=2)).fit(chips, level)
    assert np.corrcoef(network.predict(chips), level)[0, 1] > 0.7
    assert network.state_["head.weight"].dtype == np.float32


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.ones(80), "the target is constant over 80 unit"),
        (
            np.r_[np.nan, np.inf, np.arange(78)],
            r"2 unit\(s\) is missing or infinite \(first: u0, u1\)",
        ),
        (np.arange(79), r"shape \(79,\), not one value for each of 80 units"),
        (np.ones((80, 1)), r"shape \(80, 1\)"),
    ],
)
def test_bad_targets_are_named(target, message, data):
    with pytest.raises(DataError, match=message):
        ImageNetwork(QUICK).fit(data[0], target)


def test_missing_targets_are_listed(data):
    with pytest.raises(DataError) as caught:
        ImageNetwork(QUICK).fit(data[0], [np.nan, 1.0, np.nan], np.array([7, 8, 9]))
    assert caught.value.facts["units"] == ["u7", "u9"]


@pytest.mark.parametrize("units", [[0, 80], [-1, 0], [0.0, 1.0], [True, False]])
def test_units_are_positions(units, data):
    with pytest.raises(DataError, match="positions from 0 to 79"):
        ImageNetwork(QUICK).fit(data[0], [0.0, 1.0], units)


def test_chips_that_do_not_fit_are_read_in_every_epoch(data, monkeypatch):
    chips, level = data
    units = np.arange(10, 50)
    whole = ImageNetwork(QUICK).fit(chips.chunk(unit=16), level[:40], units)
    monkeypatch.setattr("eo_causal.encode.train.IN_MEMORY", 0)
    parts = ImageNetwork(QUICK).fit(chips.chunk(unit=16), level[:40], units)
    np.testing.assert_allclose(whole.predict(chips), parts.predict(chips), rtol=1e-4, atol=1e-5)


def test_log_loss_needs_a_binary_target(data):
    with pytest.raises(DataError, match="0 and 1, not 2"):
        ImageNetwork(settings(loss="log_loss")).fit(data[0], np.arange(80) % 3)


def test_a_training_part_without_both_arms_is_refused(data):
    treatment, units = np.r_[np.ones(1), np.zeros(9)], np.arange(10)
    refused = 0
    for seed in range(8):
        quick = settings(loss="log_loss", epochs=1, seed=seed)
        try:
            ImageNetwork(quick).fit(data[0], treatment, units)
        except DataError as error:
            refused += "the training part of the target is constant" in error.message
    assert 1 <= refused <= 4


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(80), "single group"),
        (np.zeros(79), r"groups have shape \(79,\)"),
        (np.r_[np.nan, np.arange(79)], r"1 unit\(s\) have no group"),
    ],
)
def test_bad_groups_are_named(groups, message, data):
    with pytest.raises(DataError, match=message):
        ImageNetwork(QUICK).fit(*data, groups=groups)


def test_bad_chips_are_named(data, fitted):
    chips, level = data
    sequence, _ = make_chips(frames=3)
    with pytest.raises(DataError, match="dimensions"):
        ImageNetwork(QUICK).fit(chips.isel(time=0), level)
    with pytest.raises(DataError, match=r"small_cnn reads one frame, but chips have 3.*attention"):
        ImageNetwork(QUICK).fit(sequence, level)
    with pytest.raises(DataError, match="bands"):
        fitted.predict(chips.isel(band=[1, 0]))
    empty = chips.copy(deep=True)
    empty[3] = np.nan
    with pytest.raises(DataError, match="u3"):
        fitted.predict(empty)


def test_chips_smaller_than_the_filter_are_refused():
    chips, level = make_chips(size=5)
    with pytest.raises(DataError, match=r"5 x 5 .* 8"):
        ImageNetwork(settings(network="single_filter")).fit(chips, level)


def test_a_loss_that_is_no_number_ends_the_training(data):
    with pytest.raises(ConvergenceError, match="learning_rate"):
        ImageNetwork(settings(learning_rate=1e30, epochs=20)).fit(*data)


def test_a_gpu_that_is_not_there_is_refused(data):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="no GPU"):
        ImageNetwork(settings(device="cuda")).fit(*data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "ivl"}, "belong together"),
        ({"instruments": {"flips": True}}, "belong together"),
        (
            {"loss": "ivl", "instruments": {"flips": True}, "invariant_to": ("flips",)},
            "instruments",
        ),
        ({"label_smoothing": 0.1}, "log_loss"),
        ({"alpha": 0.0}, "greater than 0"),
        ({"alpha": 0.1}, "alpha belongs to loss: ivl"),
        ({"invariant_to": ("zoom",)}, "zoom"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        TrainSettings(**changes)


def test_a_network_without_training_says_so(data):
    with pytest.raises(DataError, match="fit it first"):
        ImageNetwork(QUICK).predict(data[0])
    with pytest.raises(DataError, match="fit it first"):
        embed(data[0], ImageNetwork(QUICK))


def test_no_units_give_no_predictions(fitted, data):
    assert fitted.predict(data[0].isel(unit=slice(0, 0))).shape == (0,)
