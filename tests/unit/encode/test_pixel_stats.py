"""Pixel statistics against numpy, hand values over irregular dates, and refusals."""

import numpy as np
import pytest

from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.pixel_stats import PixelStats, PixelStatsSettings
from eo_causal.errors import ConfigError, DataError


def statistics(chips, **settings):
    """Name of the feature to values over units."""
    encoder = PixelStats(PixelStatsSettings(**settings)).fit(chips)
    found = embed(chips, encoder)
    return {str(name): found[:, place].values for place, name in enumerate(encoder.feature_names)}


def test_three_bands_give_24_features_equal_to_numpy(random_chips):
    chips = random_chips(n_units=5, size=11)
    chips.values[np.random.default_rng(1).random(chips.shape) < 0.3] = np.nan
    found = statistics(chips)
    assert len(found) == 24
    for place, band in enumerate(("red", "green", "blue")):
        pixels = chips.values[:, 0, place].astype(float)
        flat = pixels.reshape(5, -1)
        expected = {
            "mean": np.nanmean(flat, axis=1),
            "sd": np.nanstd(flat, axis=1),
            "gradient": np.nanmean(np.abs(np.diff(pixels, axis=2)).reshape(5, -1), axis=1),
        } | {
            f"q{percent}": np.nanpercentile(flat, percent, axis=1) for percent in (5, 25, 50, 75, 95)
        }  # fmt: skip
        for name, values in expected.items():
            np.testing.assert_allclose(found[f"{band}_{name}"], values, rtol=1e-5)


def test_batches_change_no_bit(random_chips):
    chips = random_chips(n_units=7, n_frames=3, n_bands=4, size=9)
    encoder = PixelStats().fit(chips)
    whole = encoder.encode(to_batch(chips))
    for size in (1, 3, 7):
        parts = [
            encoder.encode(to_batch(chips[start : start + size])) for start in range(0, 7, size)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_ndvi_is_added_where_red_and_nir_are_named(make_chips):
    values = np.empty((1, 1, 2, 2, 2))
    values[:, :, 0], values[:, :, 1] = 0.1, 0.3
    values[0, 0, :, 0, 0] = [0.2, -0.2]  # no ratio of a sum of 0
    found = statistics(make_chips(values, bands=("red", "nir")))
    assert len(found) == 24
    assert found["ndvi_mean"] == pytest.approx(0.5)
    assert found["ndvi_sd"] == pytest.approx(0, abs=1e-7)
    assert "ndvi_mean" not in statistics(make_chips(values, bands=("red", "green")))


def test_an_index_without_its_bands_is_refused(random_chips):
    with pytest.raises(ConfigError, match="nbr needs the bands nir and swir2; the chips have red"):
        statistics(random_chips(n_bands=4), indices=("nbr",))
    assert "mndwi_mean" in statistics(random_chips(n_bands=5), indices=("mndwi", "ndbi"))


def test_slopes_are_per_year_over_irregular_unordered_dates(make_chips):
    years = [[2010.25, 2004.0, 2007.5, np.nan]]
    values = np.zeros((1, 4, 1, 2, 2))
    values[0, :, 0] = (5.0 + 0.4 * (np.array(years[0]) - 2000))[:, None, None]
    values[0, 3] = 1e6
    found = statistics(make_chips(values, years))
    assert found["red_mean_slope"] == pytest.approx(0.4, rel=1e-5)
    assert found["red_mean_last"] == pytest.approx(9.1)
    assert found["red_mean"] == pytest.approx(5 + 0.4 * np.mean([10.25, 4, 7.5]))
    assert found["red_mean_sd"] == pytest.approx(0.4 * np.std([10.25, 4, 7.5]), rel=1e-5)
    assert found["red_gradient_slope"] == 0


def test_a_frame_that_lacks_one_band_counts_for_the_others(make_chips):
    values = np.ones((1, 3, 2, 2, 2))
    values[0, :, 0] = np.array([1.0, 2.0, 6.0])[:, None, None]
    values[0, 1, 0] = np.nan
    found = statistics(make_chips(values))
    assert found["red_mean_slope"] == pytest.approx(2.5)
    assert found["red_mean"] == pytest.approx(3.5)
    assert found["green_mean_sd"] == 0


def test_the_latest_valid_frame_alone_is_a_single_image(random_chips):
    chips = random_chips(n_units=3, n_frames=4, size=6)
    chips["fractional_year"].values[1] = [2004.0, 2001.0, 2002.0, 2003.0]
    chips.values[2, 3] = np.nan
    latest = [(0, 3), (1, 0), (2, 2)]
    found = PixelStats(PixelStatsSettings(frames="latest")).fit(chips).encode(to_batch(chips))
    one = PixelStats()
    for unit, frame in latest:
        single = chips[[unit]].isel(time=[frame])
        np.testing.assert_array_equal(found[[unit]], one.fit(single).encode(to_batch(single)))


def test_units_with_too_little_are_listed(make_chips):
    values = np.ones((3, 2, 1, 2, 2))
    values[1, 0] = np.nan
    chips = make_chips(values)
    with pytest.raises(DataError, match=r"1 of 3 units have fewer than the 2 valid .*unit-1"):
        statistics(chips)
    values = np.ones((3, 1, 1, 2, 2))
    values[2, 0, 0, :, 1] = np.nan
    with pytest.raises(DataError, match=r"no finite feature red_gradient.*unit-2"):
        statistics(make_chips(values))


def test_chips_of_one_column_are_refused(make_chips):
    with pytest.raises(DataError, match="one column"):
        statistics(make_chips(np.ones((1, 1, 1, 4, 1))))


def test_other_bands_than_fitted_are_refused(random_chips):
    encoder = PixelStats().fit(random_chips(n_bands=3))
    with pytest.raises(DataError, match="fitted on bands"):
        encoder.encode(to_batch(random_chips(n_bands=2)))


def test_provenance_names_bands_and_indices(random_chips):
    encoder = PixelStats().fit(random_chips(n_bands=4))
    assert encoder.provenance() == {
        "name": "pixel_stats",
        "bands": ["red", "green", "blue", "nir"],
        "indices": ["ndvi"],
        "over_frames": False,
        "frames": "all",
    }
