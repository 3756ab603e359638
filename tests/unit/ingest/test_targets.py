"""Footprints: the pixel that holds a place, lattices, zones, and both sides of the antimeridian."""

import numpy as np
import pytest
import rasterio.crs
from pyproj import CRS, Transformer

from eo_causal.errors import CoverageError
from eo_causal.ingest.targets import (
    Targets,
    lattice_offset,
    local_targets,
    native_targets,
    outline,
    project,
    same_crs,
    short_crs,
    utm_zones,
    wrapped,
)

UTM = "EPSG:32736"
GRID = (10.0, 0.0, 500_000.0, 0.0, -10.0, 9_800_000.0)


def degrees(easting, northing, crs=UTM):
    there = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return there.transform(np.asarray(easting, float), np.asarray(northing, float))


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_the_pixel_that_holds_the_place_stands_in_the_middle(size):
    random = np.random.default_rng(0)
    column, row = random.uniform(-50, 150, (2, 200))
    longitude, latitude = degrees(500_000 + 10 * column, 9_800_000 - 10 * row)
    targets = native_targets(longitude, latitude, UTM, GRID, (100, 100), (size, size))
    corners, shift = lattice_offset(targets, GRID, (100, 100), UTM)
    np.testing.assert_array_equal(corners[:, 0] + size // 2, np.floor(row))
    np.testing.assert_array_equal(corners[:, 1] + size // 2, np.floor(column))
    assert np.abs(shift).max() < 1e-6


def test_a_place_beyond_the_antimeridian_keeps_its_pixel_though_a_turn_is_no_whole_pixel_number():
    across = 0.0007
    grid, shape = (across, 0.0, 170.0, 0.0, -across, 10.0), (1000, 30_000)
    longitude = np.array([179.99, -179.99, -170.5, 171.0])
    targets = native_targets(longitude, np.full(4, 9.9), "EPSG:4326", grid, shape, (5, 5))
    corners, shift = lattice_offset(targets, grid, shape, "EPSG:4326")
    expected = np.floor((longitude % 360 - 170) / across)
    np.testing.assert_array_equal(corners[:, 1] + 2, expected)
    assert np.abs(shift).max() < 1e-4


def test_a_local_grid_has_its_corners_at_multiples_of_the_resolution():
    random = np.random.default_rng(1)
    longitude, latitude = random.uniform(-180, 180, 300), random.uniform(-79, 83, 300)
    targets = local_targets(longitude, latitude, 30.0, (9, 6))
    assert len(targets.crs) > 50
    for number in range(0, 300, 7):
        crs = targets.crs[targets.crs_index[number]]
        easting, northing = project(longitude[[number]], latitude[[number]], crs)
        column = (easting[0] - targets.west[number]) / 30
        row = (targets.north[number] - northing[0]) / 30
        assert (int(row), int(column)) == (4, 3)
    assert not (targets.west % 30).any()
    assert not (targets.north % 30).any()


def test_a_place_on_a_line_of_the_local_lattice_belongs_to_the_pixel_below_as_in_an_image():
    longitude, latitude = np.array([33.0]), np.array([0.0])
    local = local_targets(longitude, latitude, 10.0, (4, 4))
    image = native_targets(
        longitude,
        latitude,
        "EPSG:32636",
        (10.0, 0.0, 400_000.0, 0.0, -10.0, 1000.0),
        (9, 9),
        (4, 4),
    )
    assert (local.west[0], local.north[0]) == (image.west[0], image.north[0])


def test_utm_zones():
    longitude = np.array([-180.0, -174.1, 0.0, 33.0, 179.9, 180.0])
    latitude = np.array([-10.0, 10.0, 0.0, -1.0, 83.0, 5.0])
    expected = [f"EPSG:{code}" for code in (32701, 32601, 32631, 32736, 32660, 32601)]
    assert list(utm_zones(longitude, latitude)) == expected


@pytest.mark.parametrize("latitude", [84.5, -81.0, np.nan])
def test_there_is_no_zone_at_the_poles(latitude):
    with pytest.raises(CoverageError, match="grid: native"):
        utm_zones(np.array([10.0]), np.array([latitude]))


def test_halves_of_a_pixel_all_go_the_same_way():
    west = 500_000.0 + 10 * np.arange(40) + 5 + np.random.default_rng(2).uniform(-1e-7, 1e-7, 40)
    targets = Targets(
        (UTM,), np.zeros(40, int), west, np.full(40, 9_799_995.0), (10.0, 10.0), (4, 4)
    )
    corners, shift = lattice_offset(targets, GRID, (100, 100), UTM)
    assert (np.diff(corners[:, 1]) == 1).all()
    assert np.abs(shift).max() == pytest.approx(0.5)


def test_the_other_side_of_the_antimeridian_is_near():
    grid = (0.01, 0.0, -180.0, 0.0, -0.01, 10.0)
    targets = Targets(
        ("EPSG:4326",), np.zeros(2, int), np.array([179.95, 180.05]), np.full(2, 10.0),
        (0.01, 0.01), (10, 10),
    )  # fmt: skip
    corners, _ = lattice_offset(targets, grid, (100, 1000), "EPSG:4326")
    assert corners[:, 1].tolist() == [-5, 5]
    assert wrapped(np.array([-179.0, 10.0]), 175.0).tolist() == [181.0, 10.0]


def test_bounds_in_another_system_hold_every_pixel():
    longitude, latitude = np.array([33.0, 35.9, 30.1]), np.array([-1.0, -60.0, 50.0])
    targets = local_targets(longitude, latitude, 100.0, (64, 64))
    box = outline(targets, "EPSG:4326", points=16)
    for number in range(3):
        across, _, west, _, down, north = targets.transform(number)
        y, x = np.mgrid[0:65, 0:65]
        crs = targets.crs[targets.crs_index[number]]
        there = degrees(west + across * x, north + down * y, crs)
        exact = [there[0].min(), there[1].min(), there[0].max(), there[1].max()]
        np.testing.assert_allclose(box[number], exact, atol=1e-5)


def test_bounds_go_on_beyond_the_antimeridian():
    targets = local_targets(np.array([179.999, -179.999]), np.array([-17.0, 5.0]), 100.0, (50, 50))
    box = outline(targets, "EPSG:4326")
    assert (box[:, 2] - box[:, 0] < 0.06).all()
    assert (np.abs(box[:, [0, 2]].mean(axis=1)) > 179.9).all()


def test_a_margin_and_a_choice_keep_the_place():
    targets = local_targets(np.array([33.0, 34.0]), np.array([1.0, 2.0]), 10.0, (4, 6))
    wide = targets.grown(3)
    assert wide.size == (10, 12)
    np.testing.assert_allclose(wide.centre, targets.centre)
    assert targets.take(np.array([1])).west[0] == targets.west[1]


def test_one_system_in_several_texts():
    wkt = rasterio.crs.CRS.from_epsg(32736).to_wkt()
    assert same_crs(UTM, wkt)
    assert same_crs(UTM, CRS.from_wkt(wkt).to_wkt())
    assert not same_crs(UTM, "EPSG:32636")
    assert short_crs(CRS.from_wkt(wkt).to_wkt()) == UTM
    sinusoidal = CRS.from_proj4("+proj=sinu +R=6371007.181 +units=m").to_wkt()
    assert short_crs(sinusoidal) == sinusoidal
