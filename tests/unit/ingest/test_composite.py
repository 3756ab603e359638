"""Composites against NumPy, with counts that never turn a cloud into a zero."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import gmean

from eo_causal.errors import CoverageError, DataError
from eo_causal.ingest.composite import composite, composite_images, periods_between

DAYS = ["2017-01-03", "2017-01-09", "2017-01-20", "2017-03-02", "2017-03-30", "2017-12-15"]


@pytest.fixture
def cube():
    random = np.random.default_rng(0)
    values = random.lognormal(-2, 0.5, (6, 4, 5))
    values[random.random(values.shape) < 0.4] = np.nan
    values[3:5, 0, 0] = np.nan
    return xr.DataArray(
        values, dims=("time", "y", "x"), name="kd490", attrs={"units": "m-1"},
        coords={"time": pd.DatetimeIndex(DAYS).as_unit("ns")},
    )  # fmt: skip


REDUCERS = {
    "median": lambda values: np.median(values),
    "mean": lambda values: np.mean(values),
    "geometric_mean": gmean,
    "first": lambda values: values[0],
}


@pytest.mark.parametrize("blocks", [None, 1, 4])
@pytest.mark.parametrize("method", list(REDUCERS))
def test_each_cell_is_reduced_over_its_valid_values(cube, method, blocks):
    given = cube if blocks is None else cube.chunk(time=blocks, x=2)
    found = composite(given, "month", method)
    january = cube.to_numpy()[:3]
    for row, column in np.ndindex(4, 5):
        seen = january[np.isfinite(january[:, row, column]), row, column]
        value = float(found["kd490"][0, row, column])
        assert int(found["n_valid"][0, row, column]) == len(seen)
        if len(seen):
            assert value == pytest.approx(REDUCERS[method](seen), rel=1e-12)
        else:
            assert np.isnan(value)


def test_empty_periods_are_kept_as_gaps(cube):
    found = composite(cube, "month", "mean")
    assert found.sizes["time"] == 12
    assert str(found["time"].values[1])[:10] == "2017-02-01"
    assert np.isnan(found["kd490"][1]).all()
    assert (found["n_valid"][1] == 0).all()
    assert np.isnan(found["kd490"][2, 0, 0])


def test_day_offset_is_the_mean_day_of_what_was_used(cube):
    found = composite(cube, "month", "mean")
    cell = cube[:3, 1, 1].to_numpy()
    days = np.array([2.0, 8.0, 19.0])[np.isfinite(cell)]
    assert float(found["day_offset"][0, 1, 1]) == pytest.approx(days.mean())


@pytest.mark.parametrize(
    ("period", "starts"),
    [
        ("quarter", ["2017-01-01", "2017-04-01", "2017-07-01", "2017-10-01"]),
        ("season", ["2016-12-01", "2017-03-01", "2017-06-01", "2017-09-01", "2017-12-01"]),
        ("year", ["2017-01-01"]),
    ],
)
def test_periods_of_the_calendar(cube, period, starts):
    found = composite(cube, period, "median")
    assert [str(stamp)[:10] for stamp in found["time"].values] == starts


def test_fewer_values_than_asked_are_missing(cube):
    found = composite(cube, "month", "mean", min_count=3)
    assert (np.isfinite(found["kd490"][0]) == (found["n_valid"][0] >= 3)).all()


def test_no_image_and_no_logarithm(cube):
    with pytest.raises(CoverageError):
        composite(cube[:0], "month", "mean")
    with pytest.raises(DataError, match="positive"):
        composite(cube - 1, "month", "geometric_mean")


@pytest.fixture
def images():
    """Seven images of two bands, 40 % of each hidden; one pixel is seen in no image."""
    random = np.random.default_rng(1)
    values = random.lognormal(-2, 0.5, (7, 2, 12, 9)).astype(np.float32)
    values[random.random(values.shape) < 0.4] = np.nan
    values[:, :, 3, 4] = np.nan
    return values


@pytest.mark.parametrize("min_count", [1, 4])
@pytest.mark.parametrize("method", list(REDUCERS))
def test_each_pixel_of_images_is_reduced_over_its_valid_values(images, method, min_count):
    image, n_valid = composite_images(images, method, min_count)
    assert (image.dtype, image.shape) == (np.float32, (2, 12, 9))
    np.testing.assert_array_equal(n_valid, np.isfinite(images).sum(axis=0))
    for place in np.ndindex(2, 12, 9):
        seen = images[:, *place][np.isfinite(images[:, *place])].astype(float)
        if len(seen) < min_count:
            assert np.isnan(image[place])
        else:
            assert image[place] == pytest.approx(REDUCERS[method](seen), rel=1e-6)


def test_the_median_of_images_is_exactly_that_of_numpy(images):
    image, _ = composite_images(images, "median")
    for place in np.ndindex(2, 12, 9):
        seen = images[:, *place][np.isfinite(images[:, *place])].astype(float)
        if len(seen):
            assert image[place] == np.float32(np.median(seen))


def test_a_medoid_is_an_observed_pixel_with_the_smallest_sum_of_distances(images):
    image, n_valid = composite_images(images, "medoid")
    for row, column in np.ndindex(12, 9):
        pixels = images[:, :, row, column].astype(float)
        whole = pixels[np.isfinite(pixels).all(axis=1)]
        assert (n_valid[:, row, column] == len(whole)).all()
        if len(whole) == 0:
            assert np.isnan(image[:, row, column]).all()
            continue
        sums = np.linalg.norm(whole[:, None] - whole[None], axis=2).sum(axis=1)
        expected = whole[sums.argmin()].astype(np.float32)
        np.testing.assert_array_equal(image[:, row, column], expected)


def test_a_geometric_mean_of_images_needs_positive_values(images):
    images[2, 0, 0, 0] = 0
    with pytest.raises(DataError, match="positive values; the smallest is 0"):
        composite_images(images, "geometric_mean")


@pytest.mark.parametrize(
    ("period", "starts"),
    [
        ("month", ["2019-12-01", "2020-01-01", "2020-02-01"]),
        ("quarter", ["2019-10-01", "2020-01-01"]),
        ("season", ["2019-12-01"]),
        ("year", ["2019-01-01", "2020-01-01"]),
    ],
)
def test_periods_between_two_times(period, starts):
    first, last = np.datetime64("2019-12-31T23:59", "ns"), np.datetime64("2020-02-29", "ns")
    found = periods_between(first, last, period)
    assert [str(start)[:10] for start in found.values] == starts
    assert found.dtype == np.dtype("datetime64[ns]")
