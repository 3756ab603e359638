"""Maps: the values and places that went in come out, and equal maps are equal files."""

import numpy as np
import pytest
import rasterio
import xarray as xr

from eo_causal.report.maps import write_cog


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
