"""Repeated pattern worlds: their cases, their common draws, their examples."""

from types import SimpleNamespace

import dask
import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, DataError
from eo_causal.simulate.pattern_study import (
    Case,
    MisspecificationSettings,
    ResolutionSettings,
    complete_images,
    pattern_examples,
    simulate_pattern_study,
)

SMALL = {"n_images": 100, "n_repetitions": 2}


@pytest.fixture(scope="module")
def coarse():
    return simulate_pattern_study(None, ResolutionSettings(kind="resolution", **SMALL), seed=1)


def strokes():
    """Two images with a stroke of eight pixels, strong at (60, 50), weak at (80, 90)."""
    images = 0.001 * np.random.default_rng(0).normal(size=(2, 128, 128))
    for image, row, column, strength in ((0, 60, 50, 2), (1, 80, 90, 1)):
        along = np.arange(-4, 4)
        images[image, row + along, column - along - 1] += strength
    return xr.DataArray(images.astype(np.float32), dims=("image", "y", "x"))


def test_cases_of_a_coarser_image():
    cases = ResolutionSettings(kind="resolution", **SMALL).cases()
    assert cases[0] == Case(1, width=8, factor=1, score_width=8)
    assert cases[1] == Case(2, width=8, factor=2, score_width=4)
    assert [case.score_width for case in cases] == [8, 4, 2, 1, 1]


def test_cases_of_another_filter():
    cases = MisspecificationSettings(kind="misspecification", widths=(2, 32)).cases()
    assert cases == [Case(2, 2, 1, 8), Case(32, 32, 1, 8)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"factors": (1, 3)}, "3 does not divide the margin of 16"),
        ({"factors": (4, 2)}, "must ascend"),
        ({"factors": (2, 2)}, "must ascend"),
        ({"factors": ()}, "at least 1"),
        ({"n_images": 99}, "greater than or equal to 100"),
        ({"width": 33}, "less than or equal to 32"),
    ],
)
def test_settings_that_make_no_study_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        ResolutionSettings(kind="resolution", **settings)


def test_cases_differ_by_what_is_measured_alone(coarse):
    assert dict(coarse.sizes) == {"value": 5, "repetition": 2, "unit": 100}
    for name in ("confounder", "propensity", "treatment", "outcome"):
        same = coarse[name].to_numpy()
        np.testing.assert_array_equal(same, np.broadcast_to(same[:1], same.shape))
    np.testing.assert_array_equal(coarse["score"][0], coarse["confounder"][0])
    rho = [np.corrcoef(coarse["score"][at, 0], coarse["confounder"][0, 0])[0, 1] for at in range(5)]
    assert (np.diff(rho) < 0).all()
    assert not np.allclose(coarse["confounder"][0, 0], coarse["confounder"][0, 1])


def test_wherever_and_however_often_it_runs_a_repetition_is_the_same(coarse):
    more = ResolutionSettings(kind="resolution", n_images=100, n_repetitions=3, factors=(1, 4))
    with dask.config.set(scheduler="synchronous"):
        again = simulate_pattern_study(None, more, seed=1)
    shared = again.isel(repetition=slice(2))
    xr.testing.assert_identical(shared, coarse.sel(value=[1, 4]))


def test_chips_are_used_when_given():
    settings = MisspecificationSettings(kind="misspecification", widths=(8,), **SMALL)
    units = simulate_pattern_study(strokes(), settings, seed=2)
    confounder = units["confounder"].to_numpy().ravel()
    assert len(np.unique(confounder.round(6))) <= 4  # two images, two repetitions
    assert units.attrs["effect"] == 1


def test_examples_mark_the_stroke_in_full_and_in_pooled_pixels():
    settings = ResolutionSettings(kind="resolution", n_images=100, factors=(1, 2, 16))
    found = pattern_examples(strokes(), settings, seed=3)
    assert found["seen"].shape == found["response"].shape == (3, 2, 128, 128)
    expected = np.array([[79.5, 89.5], [59.5, 49.5]])  # little, then much
    np.testing.assert_array_equal(found["true_place"], np.broadcast_to(expected, (3, 2, 2)))
    np.testing.assert_array_equal(found["measured_place"][0], expected)
    assert np.abs(found["measured_place"][1] - expected).max() <= 1
    assert np.abs(found["measured_place"][2] - expected).max() <= 16
    response = found["response"].to_numpy()
    assert np.isnan(response[:, :, :16]).all()
    assert np.isfinite(response[:, :, 16:-16, 16:-16]).all()


def test_examples_of_another_filter_show_the_true_response():
    settings = MisspecificationSettings(kind="misspecification", widths=(2, 8), n_images=100)
    found = pattern_examples(strokes(), settings, seed=3)
    np.testing.assert_array_equal(found["measured_place"][1], found["true_place"][1])
    assert np.nanmax(found["response"][1, 1]) > np.nanmax(found["response"][1, 0])


def chip_set(gaps):
    values = np.arange(3 * 2 * 4 * 4, dtype=np.float32).reshape(3, 1, 2, 4, 4)
    chips = xr.DataArray(
        values, dims=("unit", "time", "band", "y", "x"),
        coords={
            "band": ["red", "nir"], "unit_id": ("unit", ["a", "b", "c"]),
            "valid_fraction": (("unit", "time"), np.where(gaps, 0.5, 1)[:, None]),
        },
    )  # fmt: skip
    return SimpleNamespace(chips=chips)


def test_only_chips_without_gaps_are_cut_from_and_the_others_counted():
    with counting() as counts:
        images = complete_images(chip_set([False, True, False]), "nir")
    assert counts == {"chips": 2, "chips_with_gaps": 1}
    assert images.dims == ("image", "y", "x")
    np.testing.assert_array_equal(images[:, 0, 0], [16, 80])


def test_chips_that_cannot_be_used_are_named():
    with pytest.raises(ConfigError, match="blue is not a band of the chips: red, nir"):
        complete_images(chip_set([False] * 3), "blue")
    with pytest.raises(DataError, match="all 3 chips have missing pixels"):
        complete_images(chip_set([True] * 3), "red")
