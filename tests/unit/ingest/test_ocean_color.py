"""Every producer's convention returns the same water; what is ambiguous or wrong is refused."""

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.progress import counting
from eo_causal.errors import (
    CoverageError,
    EOCausalWarning,
    GeorefError,
    ReadError,
    TimeAxisError,
    UnitsError,
)
from eo_causal.ingest.ocean_color import (
    OceanColorSettings,
    detect_convention,
    read_kd490,
    read_ocean_variable,
)
from eo_causal.ingest.read import read_header
from eo_causal.ingest.zonal import ZoneSettings, zone_frame, zone_means
from eo_causal.simulate.rasters import write_convention

CONVENTIONS = ("obpg_l3m", "oc_cci", "erddap", "cmems", "olci", "generic")
STEP = 1 / 24


@pytest.fixture(scope="module")
def water():
    """Six months of log-normal water with clouds, across the 180th meridian's safe side."""
    random = np.random.default_rng(8)
    values = np.exp(random.normal(-3, 0.3, (6, 9, 12))).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    cells = np.arange(12) + 0.5
    return xr.DataArray(
        values, dims=("time", "y", "x"), name="kd490", attrs={"units": "m-1"},
        coords={
            "time": pd.date_range("2008-01", periods=6, freq="MS", unit="ns"),
            "latitude": ("y", -2.0 - STEP * cells[:9]),
            "longitude": ("x", -0.25 + STEP * cells),
        },
    )  # fmt: skip


def read(paths, **settings):
    return read_kd490(paths, OceanColorSettings(**settings))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_reading_returns_the_truth(tmp_path, water, convention):
    paths = write_convention(tmp_path, water, convention)
    found = read(paths)
    assert found.attrs["convention"] == convention
    assert found.attrs["units"] == "m-1"
    assert found.dtype == np.float32
    np.testing.assert_allclose(found["latitude"], water["latitude"], atol=1e-9)
    np.testing.assert_allclose(found["longitude"], water["longitude"], atol=1e-9)
    assert found.indexes["time"].equals(water.indexes["time"])
    precision = 0.5e-5 + 1e-8 if convention == "cmems" else 0
    np.testing.assert_allclose(found, water, rtol=0, atol=precision)


def test_zone_means_do_not_depend_on_the_convention(tmp_path, water):
    zone = zone_frame({"sea": (-0.1, -2.3, 0.15, -2.05)})
    settings = ZoneSettings(method="mean", min_valid_fraction=0)
    means = []
    for convention in ("generic", "oc_cci", "erddap"):
        folder = tmp_path / convention
        folder.mkdir()
        cube = read(write_convention(folder, water, convention))
        means.append(zone_means(cube, zone, settings)["kd490"].to_numpy())
    np.testing.assert_array_equal(means[0], means[1])
    # longitudes stored as 0..360 keep two bits less, and the weights of cut cells with them
    np.testing.assert_allclose(means[0], means[2], rtol=1e-12)


def rewrite(path, change):
    with netCDF4.Dataset(path, "a") as dataset:
        dataset.set_auto_maskandscale(False)
        change(dataset)
    return [path]


@pytest.fixture
def generic(tmp_path, water):
    [path] = write_convention(tmp_path, water, "generic")
    return path


def test_valid_range_infinity_and_huge_values_are_missing(generic, water):
    def spoil(dataset):
        variable = dataset["kd490"]
        variable[0, 0, :4] = [np.inf, 2e30, 9.9, -1.0]
        variable.valid_min, variable.valid_max = np.float32(0.0), np.float32(5.0)

    found = read(rewrite(generic, spoil)).to_numpy()
    assert np.isnan(found[0, 0, :4]).all()
    np.testing.assert_array_equal(found[1:], water[1:])


@pytest.mark.parametrize("units", ["km-1", "1e-2 m-1", ""])
def test_other_units_are_refused(generic, units):
    def spoil(dataset):
        dataset["kd490"].units = units

    with pytest.raises(UnitsError, match="m-1") as caught:
        read(rewrite(generic, spoil))
    assert caught.value.facts["units"] == units


def test_values_times_a_hundred_warn_and_can_be_declared(tmp_path, water):
    [path] = write_convention(tmp_path, water * 100, "generic")
    with pytest.warns(EOCausalWarning, match="data.units: 1e-2 m-1") as caught:
        read([path])
    assert caught[0].message.code == "UnitsWarning"
    np.testing.assert_allclose(read([path], units="1e-2 m-1"), water, rtol=1e-6)


def test_a_month_twice_is_refused_unless_composited(tmp_path, water):
    twice = xr.concat([water, water[2:3] * 4], dim="time")
    stamps = water.indexes["time"].append(pd.DatetimeIndex(["2008-03-17"]))
    [path] = write_convention(tmp_path, twice.assign_coords(time=stamps), "generic")
    with pytest.raises(TimeAxisError, match="2008-03-01 occurs twice"):
        read([path])
    np.testing.assert_allclose(read([path], composite="geometric_mean")[2], water[2] * 2, rtol=1e-6)


def test_unsorted_time_is_sorted_and_said(tmp_path, water):
    [path] = write_convention(tmp_path, water.isel(time=[3, 1, 0, 2, 5, 4]), "generic")
    with pytest.warns(EOCausalWarning, match="not sorted"):
        found = read([path])
    np.testing.assert_array_equal(found, water)


def test_an_index_is_no_time_axis(generic):
    def spoil(dataset):
        dataset["time"].units = "seconds since 1970-01-01"
        dataset["time"][:] = np.arange(6)

    with pytest.raises(TimeAxisError, match="looks like an index"):
        read(rewrite(generic, spoil))


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [("calendar", "360_day", "not the standard"), ("units", "months", "since")],
)
def test_calendars_and_units_of_time_are_checked(generic, attribute, value, words):
    with pytest.raises(TimeAxisError, match=words):
        read(rewrite(generic, lambda dataset: dataset["time"].setncattr(attribute, value)))


def test_absent_months_are_slots_and_counted(tmp_path, water):
    [path] = write_convention(tmp_path, water.isel(time=[0, 1, 4, 5]), "generic")
    with counting() as counts:
        found = read([path])
    assert found.sizes["time"] == 6
    assert np.isnan(found[2:4]).all()
    assert (counts["months_read"], counts["months_absent"]) == (4, 2)


def test_a_period_outside_the_record(generic):
    with pytest.raises(CoverageError, match="2008-01 to 2008-06"):
        read([generic], period=("2015-01", "2015-12"))


def test_bounds_cut_whole_cells_and_never_to_nothing(generic, water):
    found = read([generic], bounds=(-0.1, -2.2, 0.1, -2.05))
    inside = water.where(
        (water.longitude >= -0.1) & (water.longitude <= 0.1) & (water.latitude >= -2.2)
        & (water.latitude <= -2.05), drop=True,
    )  # fmt: skip
    np.testing.assert_array_equal(found, inside)
    with pytest.raises(CoverageError, match="no cell inside"):
        read([generic], bounds=(30, 30, 31, 31))


def test_swapped_or_irregular_axes_are_refused(generic):
    def swap(dataset):
        dataset["latitude"][:] = 121 + STEP * np.arange(9)[::-1]

    with pytest.raises(GeorefError, match="swapped"):
        read(rewrite(generic, swap))

    def bend(dataset):
        dataset["latitude"][:] = -2 - STEP * np.arange(9) ** 1.3

    with pytest.raises(GeorefError, match="irregular"):
        read(rewrite(generic, bend))


def test_files_on_different_grids_are_refused_and_rounding_is_snapped(tmp_path, water):
    paths = write_convention(tmp_path, water, "obpg_l3m")

    def shift(step):
        def change(dataset):
            dataset["lat"][:] = dataset["lat"][:] + step

        return change

    rewrite(paths[1], shift(1e-6))
    np.testing.assert_array_equal(read(paths)[1], water[1])
    rewrite(paths[1], shift(0.01))
    with pytest.raises(GeorefError, match="one grid") as caught:
        read(paths)
    assert paths[1].name in caught.value.message


def test_date_in_the_name_wins_over_attributes_and_says_so(tmp_path, water):
    paths = write_convention(tmp_path, water[:1], "obpg_l3m")

    def contradict(dataset):
        dataset.time_coverage_start = "2007-12-31T18:00:00Z"

    rewrite(paths[0], contradict)
    with pytest.warns(EOCausalWarning, match="2007-12-31") as caught:
        found = read(paths)
    assert caught[0].message.code == "TimeConflictWarning"
    assert str(found["time"].values[0])[:10] == "2008-01-01"
    with pytest.warns(EOCausalWarning):
        other = read(paths, time_from="attributes")
    assert str(other["time"].values[0])[:7] == "2007-12"


def test_a_file_without_any_date_is_refused(tmp_path, water):
    [path] = write_convention(tmp_path, water[:1], "obpg_l3m")
    plain = path.rename(tmp_path / "water.nc")
    rewrite(plain, lambda dataset: dataset.delncattr("time_coverage_start"))
    with pytest.raises(TimeAxisError, match="neither its name nor its attributes"):
        read([plain])


def test_an_absent_variable_lists_those_there_are(generic):
    with pytest.raises(ReadError, match="kd490") as caught:
        read_ocean_variable("chlor_a", [generic], OceanColorSettings())
    assert "chlor_a" in caught.value.message


def test_an_extra_dimension_is_refused(tmp_path, water):
    deep = water.expand_dims(level=[1.0, 2.0]).transpose("time", "level", "y", "x")
    grid = deep.swap_dims(y="latitude", x="longitude")
    grid.to_dataset(name="kd490").to_netcdf(tmp_path / "deep.nc")
    with pytest.raises(ReadError, match="'level' of length 2"):
        read([tmp_path / "deep.nc"])


def test_no_file_at_all():
    with pytest.raises(CoverageError, match="matches no file"):
        read([])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_conventions_are_recognised(tmp_path, water, convention):
    path = write_convention(tmp_path, water[:1], convention)[0]
    assert detect_convention(read_header(path)) == convention
