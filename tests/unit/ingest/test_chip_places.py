"""Where chips lie, and in which named area."""

import geopandas
import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer

from eo_causal.errors import DataError
from eo_causal.ingest.chip_places import EVERYWHERE, chip_places

LONGITUDE, LATITUDE = np.array([32.1, 36.9, 33.0]), np.array([1.5, -1.0, 0.25])
ZONES = ["EPSG:32636", "EPSG:32737", "EPSG:4326"]


def chips():
    """Three chips: of two UTM zones, and of images in degrees."""
    at = [
        (x, y) if zone == "EPSG:4326"
        else Transformer.from_crs("EPSG:4326", zone, always_xy=True).transform(x, y)
        for x, y, zone in zip(LONGITUDE, LATITUDE, ZONES, strict=True)
    ]  # fmt: skip
    east, north = np.transpose(at)
    return xr.DataArray(
        np.zeros((3, 1, 1, 2, 2), np.float32), dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", ["c", "a", "b"]), "image_key": ("unit", ["C", "A", "B"]),
            "unit_crs": ("unit", ZONES), "centre_easting": ("unit", east),
            "centre_northing": ("unit", north),
        },
    )  # fmt: skip


def places(areas=("south", "north", "north"), ids=("a", "b", "c")):
    points = geopandas.points_from_xy([0.0] * 3, [0.0] * 3)
    return geopandas.GeoDataFrame(
        {"unit_id": list(ids), "area": list(areas)}, geometry=points, crs="EPSG:4326"
    )


def test_chips_of_any_grid_lie_where_they_were_cut():
    found = chip_places(chips(), None, None)
    assert list(found) == ["unit_id", "image_key", "longitude", "latitude", "area"]
    assert found["unit_id"].tolist() == ["c", "a", "b"]
    assert found["image_key"].tolist() == ["C", "A", "B"]
    np.testing.assert_allclose(found["longitude"], LONGITUDE, atol=1e-9)
    np.testing.assert_allclose(found["latitude"], LATITUDE, atol=1e-9)


def test_areas_follow_the_ids():
    found = chip_places(chips(), places(), "area")
    assert dict(zip(found["unit_id"], found["area"], strict=True)) == {
        "a": "south", "b": "north", "c": "north"
    }  # fmt: skip


@pytest.mark.parametrize(("units", "area"), [(None, None), (places(), None), (None, "area")])
def test_without_named_areas_all_places_are_one(units, area):
    assert chip_places(chips(), units, area)["area"].tolist() == [EVERYWHERE] * 3


def test_places_without_an_area_are_named():
    with pytest.raises(DataError, match=r"1 of 3 places have no area \(first: b\)"):
        chip_places(chips(), places(("south", None, "north")), "area")
    with pytest.raises(DataError, match=r"1 of 3 places have no area \(first: c\)"):
        chip_places(chips(), places(ids=("a", "b", "other")), "area")


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"no column region\. Add it to their `labels`"):
        chip_places(chips(), places(), "region")


def test_chips_that_do_not_know_their_place_are_refused():
    with pytest.raises(DataError, match="do not know where they lie"):
        chip_places(chips().drop_vars("unit_crs"), None, None)
