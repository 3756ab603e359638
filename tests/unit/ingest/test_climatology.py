"""Climatology and anomaly against values worked out by hand."""

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.errors import CoverageError, GeorefError
from eo_causal.ingest.climatology import ClimatologySettings, anomaly, monthly_climatology


def cube_of(values, start="2000-01", name="kd490"):
    values = np.asarray(values, dtype=np.float32)
    months = pd.date_range(start, periods=len(values), freq="MS", unit="ns")
    return xr.DataArray(
        values, dims=("time", "y", "x"), name=name, attrs={"units": "m-1"},
        coords={
            "time": months,
            "latitude": ("y", np.arange(values.shape[1])[::-1].astype(float)),
            "longitude": ("x", np.arange(values.shape[2]).astype(float)),
        },
    )  # fmt: skip


@pytest.fixture
def cube():
    random = np.random.default_rng(3)
    values = random.lognormal(-3, 0.3, (60, 2, 3))
    values[random.random(values.shape) < 0.2] = np.nan
    return cube_of(values)


def test_mean_of_each_calendar_month_over_valid_years(cube):
    result = monthly_climatology(cube, ClimatologySettings(min_years=1))
    values = cube.to_numpy().astype(float)
    for month in range(12):
        np.testing.assert_allclose(
            result["kd490"].sel(month=month + 1), np.nanmean(values[month::12], axis=0), rtol=1e-14
        )
        expected = np.isfinite(values[month::12]).sum(axis=0)
        np.testing.assert_array_equal(result["n_years"].sel(month=month + 1), expected)
    assert result["kd490"].attrs["units"] == "m-1"


def test_base_period_is_inclusive_and_recorded(cube):
    settings = ClimatologySettings(period=("2001-03", "2003-03"), min_years=1)
    result = monthly_climatology(cube, settings)
    march = cube.to_numpy()[[14, 26, 38]].astype(float)
    np.testing.assert_allclose(result["kd490"].sel(month=3), np.nanmean(march, axis=0), rtol=1e-14)
    assert result.attrs["base_period"] == "2001-03 to 2003-03"


def test_months_with_too_few_years_are_missing():
    values = np.full((36, 1, 1), 0.05)
    values[[1, 13]] = np.nan
    result = monthly_climatology(cube_of(values), ClimatologySettings(min_years=2))
    assert np.isnan(result["kd490"].sel(month=2)).all()
    assert result["n_years"].sel(month=2).item() == 1
    assert np.isfinite(result["kd490"].drop_sel(month=2)).all()


def test_calendar_months_absent_from_the_record_are_missing():
    result = monthly_climatology(
        cube_of(np.full((5, 1, 1), 0.05)), ClimatologySettings(min_years=1)
    )
    assert np.isfinite(result["kd490"].squeeze()).values.tolist() == [True] * 5 + [False] * 7


def test_anomalies_of_a_pure_season_are_zero():
    season = 0.05 + 0.01 * np.sin(2 * np.pi * np.arange(48) / 12)
    cube = cube_of(np.broadcast_to(season[:, None, None], (48, 2, 2)))
    departures = anomaly(cube, monthly_climatology(cube, ClimatologySettings()))
    assert np.abs(departures).max() < 1e-8
    assert departures.dims == cube.dims
    assert departures.dtype == np.float32
    assert departures.attrs["units"] == "m-1"


def test_step_after_the_base_period_survives_in_the_anomaly():
    values = np.full((60, 1, 1), 0.05)
    values[48:] += 0.02
    cube = cube_of(values)
    base = ClimatologySettings(period=("2000-01", "2003-12"))
    departures = anomaly(cube, monthly_climatology(cube, base))
    np.testing.assert_allclose(departures[48:], 0.02, atol=1e-8)


def test_chunks_do_not_change_the_answer(cube):
    settings = ClimatologySettings(min_years=1)
    whole = monthly_climatology(cube, settings)
    chunked = cube.chunk(time=7)
    lazy = monthly_climatology(chunked, settings)
    assert isinstance(lazy["kd490"].data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-14)
    departures = anomaly(chunked, whole)
    assert isinstance(departures.data, dask.array.Array)
    xr.testing.assert_allclose(departures.compute(), anomaly(cube, whole))


def test_base_period_outside_the_record_is_refused(cube):
    with pytest.raises(CoverageError, match="none of the cube's 60 months"):
        monthly_climatology(cube, ClimatologySettings(period=("1990-01", "1995-12")))


def test_climatology_of_another_grid_is_refused(cube):
    climatology = monthly_climatology(cube, ClimatologySettings(min_years=1))
    with pytest.raises(GeorefError, match="another grid"):
        anomaly(cube.isel(x=slice(0, 2)), climatology)
    shifted = cube.assign_coords(latitude=cube["latitude"] + 0.5)
    with pytest.raises(GeorefError, match="latitude") as caught:
        anomaly(shifted, climatology)
    assert caught.value.facts["coordinates"] == ["latitude"]
