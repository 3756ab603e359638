"""Zone means on small grids where every number can be worked out by hand."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from shapely.geometry import Polygon, box

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, CoverageError, DataError, EOCausalWarning
from eo_causal.ingest.zonal import (
    ZoneSettings,
    centre_weights,
    zone_frame,
    zone_means,
    zone_weights,
)

WHOLE = {"all": (100.0, -2.0, 103.0, 0.0)}
METHODS = ["ratio", "mean", "median", "geometric_mean", "interpolate"]


def cube_of(values, name="kd490", dtype=np.float64):
    """Cells of one degree, west edge 100 E, north edge at the equator."""
    values = np.asarray(values, dtype=dtype)
    n, n_y, n_x = values.shape
    return xr.DataArray(
        values, dims=("time", "y", "x"), name=name, attrs={"units": "m-1"},
        coords={
            "time": pd.date_range("2000-01", periods=n, freq="MS", unit="ns"),
            "latitude": ("y", -0.5 - np.arange(n_y)),
            "longitude": ("x", 100.5 + np.arange(n_x)),
        },
    )  # fmt: skip


def zones_of(**polygons):
    return geopandas.GeoDataFrame(
        {"zone": list(polygons)}, geometry=list(polygons.values()), crs=4326
    )


def band_area(south, north):
    return np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))


@pytest.fixture
def cloudy():
    random = np.random.default_rng(1)
    values = random.lognormal(-3, 0.3, (48, 2, 3))
    values[random.random(values.shape) < 0.15] = np.nan
    return cube_of(values)


def test_boxes_become_polygons_in_degrees():
    frame = zone_frame({"a": (100.0, -2.0, 101.0, 0.0), "b": (102.0, -1.0, 103.0, 0.0)})
    assert frame["zone"].tolist() == ["a", "b"]
    assert frame.crs.to_epsg() == 4326
    assert frame.geometry[1].bounds == (102.0, -1.0, 103.0, 0.0)


def test_no_zone_is_a_config_error():
    with pytest.raises(ConfigError, match="zones"):
        zone_frame({})


def test_weights_are_coverage_times_area_on_the_sphere():
    zones = zones_of(part=box(100.25, -1.5, 102.0, 0.0))
    weights = zone_weights(cube_of(np.ones((1, 2, 3))), zones).toarray().reshape(2, 3)
    rows = np.array([band_area(-1, 0), band_area(-2, -1)])
    coverage = np.array([[0.75, 1.0, 0.0], [0.375, 0.5, 0.0]])
    np.testing.assert_allclose(weights, coverage * rows[:, None] * np.deg2rad(1), rtol=1e-6)


def test_weights_of_all_cells_add_up_to_the_area_of_the_zone():
    weights = zone_weights(cube_of(np.ones((1, 2, 3))), zone_frame(WHOLE))
    assert weights.sum() == pytest.approx(band_area(-2, 0) * np.deg2rad(3), rel=1e-12)


def test_centres_on_the_edge_of_a_box_belong_to_it():
    zones = zone_frame({"a": (100.5, -1.5, 101.5, -0.5), "b": (100.6, -2.0, 103.0, -0.6)})
    weights = centre_weights(cube_of(np.ones((1, 2, 3))), zones).toarray().reshape(2, 2, 3)
    cosine = np.cos(np.deg2rad([-0.5, -1.5]))
    np.testing.assert_allclose(weights[0], cosine[:, None] * [[1, 1, 0], [1, 1, 0]])
    np.testing.assert_allclose(weights[1], cosine[:, None] * [[0, 0, 0], [0, 1, 1]])


def test_mean_by_hand():
    values = np.arange(6.0).reshape(1, 2, 3) + 1
    values[0, 0, 0] = np.nan
    result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="mean"))
    north, south = band_area(-1, 0), band_area(-2, -1)
    expected = (north * (2 + 3) + south * (4 + 5 + 6)) / (2 * north + 3 * south)
    # the cell that is never valid is land: it leaves the valid fraction, not the water fraction
    assert result["kd490"].item() == pytest.approx(expected, rel=1e-12)
    assert result["n_valid"].item() == 5
    assert result["valid_fraction"].item() == pytest.approx(1.0)
    whole = 3 * (north + south)
    assert result["water_fraction"].item() == pytest.approx((whole - north) / whole, rel=1e-9)


def test_ratio_by_hand():
    usual = np.array([2.0, 4.0, 6.0])
    values = np.broadcast_to(usual, (30, 1, 3)).copy()
    values = np.concatenate([values, values[:, :, :]], axis=1)
    values[29] *= 1.1
    values[29, :, 2] = np.nan
    result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="ratio"))
    climate = np.nanmean(values[:, 0], axis=0)
    expected = 1.1 * (2 + 4) / (climate[0] + climate[1]) * climate.mean()
    assert result["kd490"][0, 29].item() == pytest.approx(expected, rel=1e-9)
    plain = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="mean"))
    assert plain["kd490"][0, 29].item() == pytest.approx(1.1 * 3, rel=1e-9)


def test_ratio_leaves_out_cells_with_a_short_record():
    values = np.ones((30, 2, 3))
    values[:, 0, 0] = np.nan
    values[3:8, 0, 0] = 50.0
    with counting() as counts:
        result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="ratio"))
    np.testing.assert_allclose(result["kd490"], 1.0, rtol=1e-12)
    assert counts["cells_left_out"] == 1


def test_lower_median_by_hand():
    values = np.array([5.0, 1.0, 3.0, 2.0, 4.0, 6.0]).reshape(1, 2, 3)
    # weights are almost equal; the northern row weighs a little more
    result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="median"))
    assert result["kd490"].item() == 3.0
    values[0, 0, 2] = np.nan
    result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="median"))
    assert result["kd490"].item() == 4.0


def test_geometric_mean_by_hand():
    values = np.full((1, 2, 3), 0.04)
    values[0, 0, 0] = 0.16
    result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="geometric_mean"))
    share = band_area(-1, 0) / (3 * band_area(-2, 0))
    assert result["kd490"].item() == pytest.approx(0.04 * 4**share, rel=1e-9)


def test_interpolation_fills_in_time_and_never_beyond_the_ends():
    values = np.ones((5, 2, 3))
    values[:, 0, 0] = [2.0, np.nan, np.nan, 8.0, np.nan]
    with counting() as counts:
        result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="interpolate"))
    # months are not equally long: position within January to April is by day
    days = np.array([31, 60]) / 91
    north, south = np.cos(np.deg2rad([-0.5, -1.5]))
    expected = (north * (2 + 2 + 6 * days) + 3 * south) / (3 * north + 3 * south)
    np.testing.assert_allclose(result["kd490"][0, 1:3], expected, rtol=1e-9)
    assert result["kd490"][0, 4].item() == pytest.approx(1.0)
    assert counts["cell_months_interpolated"] == 2


@pytest.mark.parametrize("method", METHODS)
def test_constant_water_has_that_mean_by_every_method(method):
    cube = cube_of(np.full((30, 2, 3), 0.05))
    result = zone_means(cube, zone_frame(WHOLE), ZoneSettings(method=method))
    np.testing.assert_allclose(result["kd490"], 0.05, rtol=1e-12)
    assert result.attrs["zone_method"] == method
    assert result["kd490"].attrs["units"] == "m-1"
    assert result["kd490"].dims == ("zone", "time")


def test_months_below_the_smallest_valid_share_are_missing_and_counted():
    values = np.ones((30, 2, 3))
    values[4, :, :2] = np.nan
    values[5, :, 0] = np.nan
    with counting() as counts:
        result = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings())
    assert np.isnan(result["kd490"][0, 4])
    assert np.isfinite(result["kd490"][0, 5])
    np.testing.assert_allclose(result["valid_fraction"][0, 4:6], [1 / 3, 2 / 3], rtol=1e-9)
    assert result["n_valid"][0, 4:6].to_numpy().tolist() == [2, 4]
    assert (counts["zone_months_missing"], counts["zone_months"]) == (1, 30)
    kept = zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(min_valid_fraction=0.3))
    assert np.isfinite(kept["kd490"][0, 4])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_months", [1, 7, 48])
def test_time_blocks_do_not_change_a_bit(cloudy, method, n_months):
    settings = ZoneSettings(method=method)
    whole = zone_means(cloudy, zone_frame(WHOLE), settings)
    chunked = zone_means(cloudy.chunk(time=n_months, x=2), zone_frame(WHOLE), settings)
    for name in whole.data_vars:
        assert whole[name].to_numpy().tobytes() == chunked[name].to_numpy().tobytes(), name


@pytest.mark.parametrize("method", METHODS)
def test_order_of_zones_and_neighbours_do_not_matter(cloudy, method):
    boxes = {"a": (100.0, -2.0, 102.0, 0.0), "b": (101.0, -2.0, 103.0, -0.5)}
    settings = ZoneSettings(method=method)
    together = zone_means(cloudy, zone_frame(boxes), settings)
    for name, bounds in reversed(boxes.items()):
        alone = zone_means(cloudy, zone_frame({name: bounds}), settings)
        np.testing.assert_allclose(
            together["kd490"].sel(zone=name), alone["kd490"].sel(zone=name), rtol=1e-13
        )


def test_zones_in_another_projection_are_brought_to_the_grid(cloudy):
    zones = zone_frame({"a": (100.0, -2.0, 102.0, 0.0)})
    projected = zones.to_crs(3857)
    first, second = (zone_means(cloudy, each, ZoneSettings()) for each in (zones, projected))
    np.testing.assert_allclose(first["kd490"], second["kd490"], rtol=1e-9)


def test_triangles_weigh_cells_by_what_they_cover():
    zones = zones_of(triangle=Polygon([(100, 0), (102, 0), (100, -2)]))
    weights = zone_weights(cube_of(np.ones((1, 2, 3))), zones).toarray().reshape(2, 3)
    areas = np.array([band_area(-1, 0), band_area(-2, -1)])[:, None] * np.deg2rad(1)
    np.testing.assert_allclose(weights / areas, [[1, 0.5, 0], [0.5, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_zones_off_the_grid_are_refused_by_name(cloudy, method):
    zones = zone_frame({"here": (100.0, -2.0, 103.0, 0.0), "far": (10.0, 40.0, 12.0, 42.0)})
    with pytest.raises(CoverageError, match="'far'") as caught:
        zone_means(cloudy, zones, ZoneSettings(method=method))
    assert caught.value.facts["zone"] == "far"


def test_zones_on_land_are_refused_by_name():
    values = np.ones((30, 2, 3))
    values[:, :, 2] = np.nan
    zones = zone_frame({"sea": (100.0, -2.0, 102.0, 0.0), "hill": (102.0, -2.0, 103.0, 0.0)})
    with pytest.raises(CoverageError, match="'hill'") as caught:
        zone_means(cube_of(values), zones, ZoneSettings())
    assert caught.value.facts["zone"] == "hill"


def test_zones_smaller_than_a_cell_need_to_be_allowed(cloudy):
    zones = zone_frame({"spot": (100.1, -0.9, 100.4, -0.6)})
    with pytest.raises(CoverageError, match="'spot'"):
        zone_means(cloudy, zones, ZoneSettings())
    result = zone_means(cloudy, zones, ZoneSettings(allow_subpixel=True))
    cell = cloudy[:, 0, 0].to_numpy()
    np.testing.assert_allclose(result["kd490"][0], cell, rtol=1e-12)


def test_cube_without_any_valid_cell_is_refused():
    with pytest.raises(CoverageError, match="'all'"):
        zone_means(cube_of(np.full((3, 2, 3), np.nan)), zone_frame(WHOLE), ZoneSettings())


def test_single_row_has_no_cell_size():
    with pytest.raises(CoverageError, match="cell size"):
        zone_means(cube_of(np.ones((3, 1, 3))), zone_frame(WHOLE), ZoneSettings())


def test_other_variables_keep_their_name(cloudy):
    result = zone_means(cloudy.rename("temperature"), zone_frame(WHOLE), ZoneSettings())
    assert "temperature" in result
    assert "kd490" not in result


def test_a_zone_that_reaches_beyond_the_data_is_said_or_refused(cloudy):
    third = zones_of(east=box(102.0, -2.0, 105.0, 0.0))
    with pytest.raises(CoverageError, match="'east': only 33% of it lies on the data"):
        zone_means(cloudy, third, ZoneSettings())
    most = zones_of(east=box(101.0, -2.0, 103.2, 0.0))
    with pytest.warns(EOCausalWarning, match="only 91%") as caught:
        zone_means(cloudy, most, ZoneSettings())
    assert caught[0].message.code == "CoverageWarning"


@pytest.mark.parametrize("method", METHODS)
def test_the_lowest_cell_of_every_month_is_known(method):
    values = np.arange(1.0, 49.0).reshape(4, 2, 6)[:, :, :3]
    if method != "interpolate":
        values[2] = np.nan
    settings = ZoneSettings(method=method, min_valid_fraction=0, min_valid_months=1)
    found = zone_means(cube_of(values), zone_frame(WHOLE), settings)["lowest"].to_numpy()
    expected = [[1, 13, 25 if method == "interpolate" else np.nan, 37]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_geometric_mean_of_zero_is_refused():
    values = np.ones((30, 2, 3))
    values[4, 0, 0] = 0.0
    with pytest.raises(DataError, match="positive"):
        zone_means(cube_of(values), zone_frame(WHOLE), ZoneSettings(method="geometric_mean"))
