"""Trials on given images: the effect follows the image, the rest is as it was observed."""

import numpy as np
import pytest
import xarray as xr

from eo_causal.errors import DataError
from eo_causal.simulate.trial import (
    band_signal,
    semi_synthetic_trial,
    textured_chips,
    transport_world,
)

KEYS = np.array([f"k{i}" for i in range(300)])
UNITS = np.repeat(KEYS, np.arange(300) % 4 + 1)
SIGNAL = np.random.default_rng(0).standard_normal(300)
CONTROLS = np.array([-0.9, -0.9, 0.3, 2.0])


def trial(b=0.5, controls=CONTROLS, seed=1):
    return semi_synthetic_trial(SIGNAL, KEYS, UNITS, controls, b=b, seed=seed)


def test_a_signal_is_the_standardised_mean_of_one_band():
    values = np.zeros((3, 2, 2, 2))
    values[:, 1] = np.array([1.0, 2.0, 6.0])[:, None, None]
    values[2, 1, 0] = np.nan
    chips = xr.DataArray(values, dims=("unit", "band", "y", "x"))
    np.testing.assert_allclose(band_signal(chips, 1), np.array([-2, -1, 3]) / np.sqrt(14 / 3))


def test_the_effect_follows_the_image_of_each_unit():
    found = trial()
    position = {key: i for i, key in enumerate(KEYS)}
    wanted = 0.75 + 0.5 * SIGNAL[[position[key] for key in UNITS]]
    np.testing.assert_allclose(found.effect, wanted)
    np.testing.assert_allclose(trial(b=0).effect, 0.75)


def test_outcomes_without_treatment_are_those_of_observed_controls():
    found = trial()
    usual = found.units["outcome"] - found.units["treatment"] * found.effect
    distance = np.abs(usual.to_numpy()[:, None] - CONTROLS).min(axis=1)
    assert distance.max() < 1e-12
    assert np.mean(np.isclose(usual, -0.9)) == pytest.approx(0.5, abs=0.06)


def test_treatment_is_drawn_an_image():
    units = trial().units
    by_image = units.groupby("image_key")["treatment"]
    assert (by_image.nunique() == 1).all()
    assert by_image.first().mean() == pytest.approx(0.4, abs=0.06)
    assert list(units["cluster"]) == list(units["image_key"]) == list(UNITS)


def test_without_controls_most_units_sit_on_one_value():
    found = trial(controls=None)
    usual = (found.units["outcome"] - found.units["treatment"] * found.effect).to_numpy()
    floor = np.isclose(usual, usual.min())
    assert floor.mean() == pytest.approx(0.65, abs=0.05)
    assert usual.mean() == pytest.approx(0, abs=0.1)
    assert usual.std() == pytest.approx(1, abs=0.1)


def test_a_trial_depends_on_its_seed_only():
    assert trial(seed=1).units.equals(trial(seed=1).units)
    assert not trial(seed=1).units.equals(trial(seed=2).units)


def test_units_without_an_image_and_missing_controls_are_refused():
    with pytest.raises(DataError, match=r"2 units have an image without a signal \(first: no\)"):
        semi_synthetic_trial(SIGNAL, KEYS, np.array(["k0", "no", "no"]), None, b=1, seed=0)
    unseen = np.where(np.arange(300) == 0, np.nan, SIGNAL)
    with pytest.raises(DataError, match=r"1 units have an image without a signal \(first: k0\)"):
        semi_synthetic_trial(unseen, KEYS, KEYS, None, b=1, seed=0)
    with pytest.raises(DataError, match="image_keys repeat"):
        semi_synthetic_trial(SIGNAL[:2], np.array(["a", "a"]), np.array(["a"]), None, b=1, seed=0)
    with pytest.raises(DataError, match="controls hold 2 outcomes, 1 of them missing"):
        trial(controls=np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="controls hold 0 outcomes"):
        trial(controls=np.array([]))


@pytest.fixture(scope="module")
def world():
    return transport_world(textured_chips(3, 800), 3)


def shown(chips):
    return np.stack([chips[:, 0, 0].mean(["y", "x"]), chips[:, 0, -1].std(["y", "x"])], axis=1)


def test_every_region_follows_the_effect_of_the_trial(world):
    seen = shown(world.trial.chips)
    for region in (world.trial, world.same, world.shifted):
        s = (shown(region.chips) - seen.mean(axis=0)) / seen.std(axis=0)
        wanted = 0.75 + s @ [0.5, 0.25]
        np.testing.assert_allclose(region.units["effect"], wanted, rtol=0, atol=1e-4)


def test_a_regression_on_chip_statistics_carries_over_to_the_same_law(world):
    """C-18 (a): R2 above 0.3 on the held-out region."""
    design = np.column_stack([np.ones(len(world.trial.units)), shown(world.trial.chips)])
    units = world.trial.units
    both = np.column_stack([design, design * units["treatment"].to_numpy()[:, None]])
    found = np.linalg.lstsq(both, units["outcome"], rcond=None)[0][3:]
    said = np.column_stack([np.ones(len(world.same.units)), shown(world.same.chips)]) @ found
    truth = world.same.units["effect"]
    assert 1 - np.mean((said - truth) ** 2) / np.var(truth) > 0.3


def test_bands_of_the_shifted_region_are_five_deviations_brighter(world):
    scale = world.trial.chips.mean(["time", "y", "x"]).std("unit").to_numpy()
    gap = (world.shifted.chips - world.same.chips).mean(["unit", "time", "y", "x"]).to_numpy()
    np.testing.assert_allclose(gap, 5 * scale, rtol=1e-4)
    assert world.shifted.chips.dtype == np.float32


def test_regions_share_no_place(world):
    trial, same, shifted = (
        set(region.chips["unit_id"].to_numpy())
        for region in (world.trial, world.same, world.shifted)
    )
    assert not trial & same
    assert same == shifted == set(world.same.units.index)
    assert len(trial) + len(same) == 800


def test_the_trial_is_randomised(world):
    units = world.trial.units
    assert set(units["treatment"]) == {0, 1}
    treated = units["treatment"] == 1
    gap = units.loc[treated, "outcome"].mean() - units.loc[~treated, "outcome"].mean()
    assert gap == pytest.approx(0.75, abs=0.3)


def test_a_chip_without_a_valid_pixel_is_refused():
    chips = textured_chips(3, 20)
    chips[4, 0, 1] = np.nan
    with pytest.raises(DataError, match="band without a valid pixel"):
        transport_world(chips, 0)
