"""Maps: the values and places that went in come out, and equal maps are equal files."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from pyproj import Transformer

from eo_causal.report.maps import rasterised, write_cog

ZONE, EAST, NORTH = "EPSG:32636", 500_000, 100_000
CATE = {"cate": ("units", "an effect")}


@pytest.fixture
def layers():
    values = np.random.default_rng(0).normal(size=(40, 70)).astype(np.float32)
    values[3, 5] = np.nan
    place = {
        "latitude": ("y", -2 - (np.arange(40) + 0.5) / 24),
        "longitude": ("x", 122 + (np.arange(70) + 0.5) / 24),
    }
    attrs = {"units": "m-1", "long_name": "mean before"}
    return xr.Dataset({"before": (("y", "x"), values, attrs), "n": (("y", "x"), values * 0)}, place)


def test_values_and_places_come_back(tmp_path, layers):
    path = write_cog(tmp_path / "maps" / "m.tif", layers, run_id="abc", note="a note")
    with rasterio.open(path) as source:
        assert source.descriptions == ("before", "n")
        assert source.units == ("m-1", "1")
        assert source.tags()["run_id"] == "abc"
        assert source.tags(1)["long_name"] == "mean before"
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.crs.to_epsg() == 4326
        np.testing.assert_array_equal(source.read(1), layers["before"])
        at = [source.xy(row, column) for row, column in ((0, 0), (39, 69))]
    expected = [(122 + 0.5 / 24, -2 - 0.5 / 24), (122 + 69.5 / 24, -2 - 39.5 / 24)]
    np.testing.assert_allclose(at, expected, atol=1e-9)


def test_equal_maps_are_equal_files(tmp_path, layers):
    files = [
        write_cog(tmp_path / name, layers, run_id="abc", note="") for name in ("a.tif", "b.tif")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def points(east, north, **columns):
    """A table of places at metres east and north of a corner in a UTM zone."""
    to_earth = Transformer.from_crs(ZONE, "EPSG:4326", always_xy=True)
    longitude, latitude = to_earth.transform(EAST + np.asarray(east), NORTH + np.asarray(north))
    return pd.DataFrame({"longitude": longitude, "latitude": latitude, **columns})


def test_a_grid_of_places_fills_a_cell_each():
    row, column = (part.ravel() for part in np.mgrid[:5, :7])
    table = points(300 * column, -300 * row, cate=np.arange(35.0))
    found = rasterised(table, CATE, 300)
    assert found.attrs["crs"] == ZONE
    assert (found["n_places"] == 1).all()
    np.testing.assert_array_equal(found["cate"], np.arange(35.0).reshape(5, 7))
    np.testing.assert_allclose(found["easting"], EAST + 300 * np.arange(7), atol=0.01)
    np.testing.assert_allclose(found["northing"], NORTH - 300 * np.arange(5), atol=0.01)
    assert found["cate"].attrs == {"units": "units", "long_name": "an effect"}


def test_places_of_one_cell_are_averaged_and_empty_cells_have_no_value():
    table = points([0, 40, 900], [0, 0, -620], cate=[1.0, 4.0, 7.0])
    found = rasterised(table, CATE, 300)
    assert found["cate"].shape == (3, 4)
    assert found["n_places"].to_numpy().sum() == 3
    assert found["n_places"].to_numpy()[0, 0] == 2
    assert found["cate"].to_numpy()[0, 0] == 2.5
    assert found["cate"].to_numpy()[2, 3] == 7
    assert np.isnan(found["cate"].to_numpy()).sum() == 10


def test_a_cell_with_a_masked_place_has_no_value():
    table = points([0, 40, 900], [0, 0, 0], cate=[1.0, np.nan, 7.0])
    found = rasterised(table, CATE, 300)["cate"].to_numpy()
    assert np.isnan(found[0, 0])
    assert found[0, 3] == 7


@pytest.mark.parametrize("n", [1, 2])
def test_one_place_is_a_map_too(n, tmp_path):
    table = points([0] * n, [0] * n, cate=[3.0] * n)
    layers = rasterised(table, CATE, 250)
    assert layers["cate"].shape == (2, 2)
    with rasterio.open(write_cog(tmp_path / "m.tif", layers, run_id="a", note="")) as source:
        assert source.read(2)[0, 0] == 3
        assert np.isnan(source.read(2)).sum() == 3
        assert source.res == (250, 250)


def test_a_projected_map_keeps_places_units_and_tags(tmp_path):
    table = points([0, 600], [0, -300], cate=[1.5, np.nan])
    layers = rasterised(table, CATE, 300)
    path = write_cog(tmp_path / "m.tif", layers, run_id="abc", note="a note")
    with rasterio.open(path) as source:
        assert source.crs.to_epsg() == 32636
        assert source.descriptions == ("n_places", "cate")
        assert source.units == ("1", "units")
        assert (source.tags()["run_id"], source.tags()["note"]) == ("abc", "a note")
        assert source.tags(2)["long_name"] == "an effect"
        values = source.read(2)
        np.testing.assert_allclose(source.xy(0, 0), (EAST, NORTH), atol=0.01)
        np.testing.assert_allclose(source.xy(1, 2), (EAST + 600, NORTH - 300), atol=0.01)
    expected = np.full((2, 3), np.nan)
    expected[0, 0] = 1.5
    np.testing.assert_array_equal(values, expected)
    again = write_cog(tmp_path / "again.tif", layers, run_id="abc", note="a note")
    assert again.read_bytes() == path.read_bytes()
