"""Published zone series of the Morowali study, read from its tables and made from its grid."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.ingest.tables import read_zone_table, read_zone_tables
from eo_causal.ingest.zonal import ZoneSettings, zone_frame, zone_means

TABLES = {
    "impact": "Impact_Zone_Kd490_Temp_Sal.csv",
    "control": "Control_Zone_Kd490_Temp_Sal.csv",
    "entire_area": "Entire_Area_Kd490_Temp_Sal.csv",
}
BOUNDS = {
    "impact": (122.08, -2.92, 122.28, -2.72),
    "control": (123.00, -2.75, 123.40, -2.45),
}
ENTIRE = (122.05, -2.95, 123.40, -2.45)
VALID = {"impact": 5, "control": 20}


@pytest.fixture(scope="module")
def folder(data_folder):
    path = data_folder / "ocean-color" / "morowali_imip"
    if not (path / "salinity_temp.nc").is_file():
        pytest.skip("the Morowali data set is absent")
    return path


@pytest.fixture(scope="module")
def grid(folder):
    """Temperature and salinity, latitude brought to descend; the axes keep their precision."""
    with xr.open_dataset(folder / "salinity_temp.nc", engine="netcdf4") as source:
        loaded = source.isel(depth=0, drop=True).sortby("latitude", ascending=False).load()
    renamed = loaded.rename_dims(latitude="y", longitude="x").reset_index(["latitude", "longitude"])
    return renamed.rename(thetao="temperature", so="salinity")


@pytest.fixture(scope="module")
def published(folder):
    paths = {zone: folder / name for zone, name in TABLES.items()}
    return read_zone_tables(paths, units="1e-2 m-1")


def test_tables_hold_27_years_without_a_gap(published):
    assert published["kd490"].shape == (3, 324)
    assert not np.isnan(published.to_dataarray()).any()
    assert str(published["time"].values[0])[:7] == "1998-01"
    assert str(published["time"].values[-1])[:7] == "2024-12"


def test_published_numbers_are_divided_by_a_hundred(folder, published):
    stored = pd.read_csv(folder / TABLES["impact"])
    np.testing.assert_allclose(
        published["kd490"].sel(zone="impact"), stored["Kd490"] / 100, rtol=1e-15
    )


def test_raw_difference_in_differences_of_the_tables(published):
    after = published["time"] >= np.datetime64("2019-05")
    kd490 = published["kd490"]
    change = kd490.where(after).mean("time") - kd490.where(~after).mean("time")
    both = float(change.sel(zone="impact") - change.sel(zone="control"))
    assert both * 100 == pytest.approx(1.0863, abs=1e-4)


def test_one_table_alone_is_the_same_series(folder, published):
    alone = read_zone_table(folder / TABLES["control"], units="1e-2 m-1")
    xr.testing.assert_equal(alone["salinity"], published["salinity"].sel(zone="control", drop=True))


@pytest.mark.parametrize("zone", list(BOUNDS))
def test_cells_with_their_centre_inside(grid, zone):
    frame = zone_frame({zone: BOUNDS[zone]})
    result = zone_means(grid["temperature"], frame, ZoneSettings(method="interpolate"))
    assert (result["n_valid"] == VALID[zone]).all()


@pytest.mark.parametrize("variable", ["temperature", "salinity"])
def test_published_path_in_single_precision_returns_the_tables(grid, published, variable):
    assert grid[variable].dtype == np.float32
    result = zone_means(grid[variable], zone_frame(BOUNDS), ZoneSettings(method="interpolate"))
    for zone in BOUNDS:
        ours, theirs = (each[variable].sel(zone=zone) for each in (result, published))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("variable", ["temperature", "salinity"])
def test_double_precision_differs_by_the_rounding_of_the_published_means(grid, published, variable):
    exact = grid[variable].astype(np.float64)
    result = zone_means(exact, zone_frame(BOUNDS), ZoneSettings(method="interpolate"))
    for zone in BOUNDS:
        ours, theirs = (each[variable].sel(zone=zone) for each in (result, published))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5)


def test_coverage_weights_answer_a_different_question(grid, published):
    result = zone_means(grid["temperature"], zone_frame(BOUNDS), ZoneSettings(method="mean"))
    for zone in BOUNDS:
        gap = np.abs(result["temperature"].sel(zone=zone) - published["temperature"].sel(zone=zone))
        assert 1e-4 < float(gap.max()) < 0.1
