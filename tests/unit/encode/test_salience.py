"""Salience: gradients against differences, occlusion by hand, and maps that say nothing."""

import copy

import numpy as np
import pytest
import xarray as xr

from eo_causal.encode.base import to_batch
from eo_causal.encode.salience import (
    FLOOR,
    check_salience,
    drawn,
    gradient_salience,
    occlusion_salience,
    pixel_gradient,
)
from eo_causal.encode.train import ImageNetwork, TrainSettings
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

SQUARE = (slice(2, 6), slice(8, 12))


@pytest.fixture(scope="module")
def data():
    """Chips of noise whose target is the brightness of one square."""
    random = np.random.default_rng(0)
    target = random.normal(size=90)
    values = random.normal(size=(90, 1, 2, 15, 15))
    values[:, :, :, SQUARE[0], SQUARE[1]] += 3 * target[:, None, None, None, None]
    values[:, :, 1] *= 10
    chips = xr.DataArray(
        values.astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", [f"u{i}" for i in range(90)]),
            "band": ["red", "nir"],
            "fractional_year": (("unit", "time"), np.full((90, 1), 2015.5)),
        },
    )
    return chips, target


@pytest.fixture(scope="module")
def network(data):
    settings = TrainSettings(epochs=6, learning_rate=5e-3, batch_size=16)
    return ImageNetwork(settings).fit(data[0], 5 * data[1])


def first(chips, n=6):
    return chips.isel(unit=slice(0, n))


def everyone(chips):
    return np.arange(chips.sizes["unit"])


def test_gradients_are_differences_of_predictions(network, data):
    chips = first(data[0], 3)
    gradient = pixel_gradient(network, to_batch(chips))
    for place in [(0, 0, 3, 9), (0, 1, 4, 10), (0, 1, 10, 2)]:
        step = 0.05 if place[1] == 0 else 0.5
        up, down = chips.copy(deep=True), chips.copy(deep=True)
        up[(slice(None), *place)] += step
        down[(slice(None), *place)] -= step
        slope = (network.predict(up) - network.predict(down)) / (2 * step)
        np.testing.assert_allclose(gradient[(slice(None), *place)], slope, rtol=0.1, atol=2e-3)


def test_maps_are_the_length_and_the_mean_over_bands(network, data):
    chips = first(data[0])
    maps = gradient_salience([(network, everyone(chips))], chips)
    gradient = pixel_gradient(network, to_batch(chips))
    assert maps["magnitude"].dims == ("unit", "time", "y", "x")
    np.testing.assert_allclose(maps["magnitude"], np.linalg.norm(gradient, axis=2) + FLOOR)
    np.testing.assert_allclose(maps["direction"], gradient.mean(axis=2))
    assert list(maps["unit_id"].to_numpy()) == [f"u{i}" for i in range(6)]
    assert "band" not in maps.coords


def test_gradients_are_largest_where_the_signal_is(network, data):
    chips = first(data[0], 40)
    magnitude = gradient_salience([(network, everyone(chips))], chips)["magnitude"]
    inside = magnitude[:, :, SQUARE[0], SQUARE[1]].mean()
    assert inside > 2 * magnitude.mean()


def test_units_are_explained_by_the_models_that_did_not_see_them(network, data):
    chips = first(data[0], 4)
    other = copy.copy(network)
    other.scale_ = 3 * network.scale_
    maps = gradient_salience([(network, np.array([0, 1, 2])), (other, np.array([2, 3]))], chips)[
        "direction"
    ]
    single = gradient_salience([(network, everyone(chips))], chips)["direction"]
    ratio = (maps / single).median(("time", "y", "x"))
    np.testing.assert_allclose(ratio, [1, 1, 2, 3], rtol=1e-6)


def test_a_unit_that_every_model_saw_is_refused(network, data):
    with pytest.raises(DataError, match=r"1 unit\(s\) were seen by every model \(first: u2\)"):
        gradient_salience([(network, np.array([0, 1]))], first(data[0], 3))


def test_an_invalid_pixel_moves_nothing(network, data):
    chips = first(data[0], 2).copy(deep=True)
    chips[:, :, :, 3, 9] = np.nan
    maps = gradient_salience([(network, everyone(chips))], chips)
    assert (maps["direction"][:, :, 3, 9] == 0).all()
    np.testing.assert_allclose(maps["magnitude"][:, :, 3, 9], FLOOR)


def test_sequences_have_a_map_a_frame(data):
    chips = xr.concat([data[0], data[0]], "time", join="override")
    chips["fractional_year"][:, 1] += 1
    chips[0, 1] = np.nan
    settings = TrainSettings(network="attention", epochs=2)
    network = ImageNetwork(settings).fit(chips, data[1])
    maps = gradient_salience([(network, everyone(chips))], chips)
    assert maps["magnitude"].shape == (90, 2, 15, 15)
    assert (maps["direction"][0, 1] == 0).all()


def chip_sum(chips):
    """A predictor that weighs pixels by their column."""
    weights = xr.DataArray(np.arange(chips.sizes["x"], dtype=float), dims="x")
    return (chips.fillna(0) * weights).sum(("time", "band", "y", "x")).to_numpy()


def test_occlusion_by_hand():
    values = np.array([[[[[1.0, 2.0], [3.0, 6.0]]]]], dtype=np.float32)
    chips = xr.DataArray(
        values,
        dims=("unit", "time", "band", "y", "x"),
        coords={"unit_id": ("unit", ["a"]), "band": ["b"], "fractional_year": (("unit", "time"), [[2015.5]])},
    )  # fmt: skip
    found = occlusion_salience(chip_sum, chips, window=1)
    np.testing.assert_allclose(found[0], [[0, 2 - 3], [0, 6 - 3]])
    both = occlusion_salience(chip_sum, chips, window=2)
    np.testing.assert_allclose(both[0], np.full((2, 2), 8 - 6.0))


def test_occlusion_covers_every_pixel_and_finds_the_signal(network, data):
    chips = first(data[0], 12)
    found = occlusion_salience(network.predict, chips, window=4, stride=3)
    assert found.shape == (12, 15, 15)
    assert np.isfinite(found).all()
    size = np.abs(found)
    assert size[:, SQUARE[0], SQUARE[1]].mean() > 2 * size.mean()


def test_occlusion_leaves_invalid_pixels_invalid(data):
    chips = first(data[0], 2).copy(deep=True)
    chips[0, 0, 0, 0, 0] = np.nan
    seen = []

    def predict(given):
        seen.append(int(given.isnull().sum()))
        return np.zeros(2)

    occlusion_salience(predict, chips, window=15)
    assert seen == [1, 1]


@pytest.mark.parametrize("stride", [0, 5])
def test_a_stride_that_leaves_pixels_out_is_refused(stride, data):
    with pytest.raises(ConfigError, match="from 1 to 4"):
        occlusion_salience(chip_sum, first(data[0]), window=4, stride=stride)


def test_maps_of_a_trained_network_differ_from_those_of_random_weights(network, data):
    assert check_salience(network, first(data[0], 20)) < 0.5


def test_maps_that_any_weights_would_give_warn(network, data):
    with pytest.warns(EOCausalWarning, match="more than the network") as caught:
        check_salience(network, first(data[0], 3), largest=-1.0)
    assert caught[0].message.code == "SalienceWarning"
    assert caught[0].filename == __file__


def test_a_map_without_contrast_warns(network, data):
    dead = copy.copy(network)
    dead.state_ = {**network.state_, "head.weight": 0 * network.state_["head.weight"]}
    with pytest.warns(EOCausalWarning, match="correlate nan"):
        check_salience(dead, first(data[0], 3))


def test_drawn_directions_by_hand():
    found = drawn(np.array([-2.0, 0.0, 1.0, 3.0]))
    np.testing.assert_allclose(found, [-np.log(3), 0, np.log(2), np.log(4)])
    np.testing.assert_allclose(drawn(np.array([-1.0, 0.0])), [-np.log(2), 0])
