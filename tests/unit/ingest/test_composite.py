"""Composites against NumPy, with counts that never turn a cloud into a zero."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import gmean

from eo_causal.errors import CoverageError, DataError
from eo_causal.ingest.composite import composite

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
