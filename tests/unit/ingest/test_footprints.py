"""Which chips share ground, against brute force, and how much of a pixel a polygon covers."""

import geopandas
import numpy as np
import pytest
import shapely
from pyproj import Transformer

from eo_causal.ingest.footprints import covered_fraction, overlap_table
from eo_causal.ingest.targets import Targets, local_targets, native_targets

UTM = "EPSG:32736"


def ids(number):
    return np.array([f"u{at}" for at in range(number)], dtype=object)


def as_dict(table):
    pairs = zip(table["unit_a"], table["unit_b"], table["share"], strict=True)
    return {(a, b): share for a, b, share in pairs}


def test_pairs_and_shares_are_those_of_brute_force():
    random = np.random.default_rng(0)
    column, row = random.integers(0, 300, (2, 150))
    targets = Targets(
        (UTM,), np.zeros(150, int), 500_000 + 10.0 * column, 9_800_000 - 10.0 * row,
        (10.0, 10.0), (24, 16),
    )  # fmt: skip
    expected = {}
    for a in range(150):
        for b in range(a + 1, 150):
            across = 16 - abs(int(column[a] - column[b]))
            down = 24 - abs(int(row[a] - row[b]))
            if across > 0 and down > 0:
                expected[f"u{a}", f"u{b}"] = across * down / (16 * 24)
    found = as_dict(overlap_table(targets, ids(150)))
    assert found.keys() == expected.keys()
    assert max(abs(found[pair] - share) for pair, share in expected.items()) < 1e-9


def test_chips_of_two_zones_that_meet_are_found_once():
    random = np.random.default_rng(1)
    longitude, latitude = random.uniform(35.96, 36.04, 120), random.uniform(-2.04, -1.96, 120)
    targets = local_targets(longitude, latitude, 30.0, (32, 32))
    assert len(targets.crs) == 2
    table = overlap_table(targets, ids(120))
    assert not table.duplicated(["unit_a", "unit_b"]).any()
    corners = []
    for number in range(120):
        across, _, west, _, down, north = targets.transform(number)
        crs = targets.crs[targets.crs_index[number]]
        x, y = west + across * np.array([0, 32, 32, 0]), north + down * np.array([0, 0, 32, 32])
        corners.append(
            shapely.Polygon(zip(*Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y), strict=True))
        )  # fmt: skip
    expected = {}
    for a in range(120):
        for b in range(a + 1, 120):
            share = corners[a].intersection(corners[b]).area / corners[a].area
            if share > 0:
                expected[f"u{a}", f"u{b}"] = share
    found = as_dict(table)
    clear = {pair for pair, share in expected.items() if share > 0.05}
    assert clear <= found.keys()
    assert all(share < 0.05 for pair, share in found.items() if pair not in expected)
    assert max(abs(found[pair] - expected[pair]) for pair in clear) < 0.06


def test_chips_on_both_sides_of_the_antimeridian():
    grid = (0.01, 0.0, 170.0, 0.0, -0.01, 10.0)
    longitude = np.array([179.985, -179.985, -179.0])
    targets = native_targets(longitude, np.full(3, 5.0), "EPSG:4326", grid, (1000, 1000), (10, 10))
    found = as_dict(overlap_table(targets, ids(3)))
    assert list(found) == [("u0", "u1")]
    assert found["u0", "u1"] == pytest.approx(0.7)


def test_far_apart_there_is_no_pair():
    longitude, latitude = np.array([-122.0, 33.0, 100.0]), np.array([10.0, -1.0, -40.0])
    table = overlap_table(local_targets(longitude, latitude, 10.0, (64, 64)), ids(3))
    assert table.empty
    assert list(table.columns) == ["unit_a", "unit_b", "share"]


def test_the_covered_share_of_each_pixel():
    targets = Targets(
        (UTM,), np.zeros(2, int), np.array([500_000.0, 500_200.0]), np.array([9_800_000.0] * 2),
        (10.0, 10.0), (4, 6),
    )  # fmt: skip
    boxes = [shapely.box(500_005, 9_799_975, 500_025, 9_799_990), shapely.box(0, 0, 10, 10)]
    shapes = geopandas.GeoDataFrame(geometry=boxes, crs=UTM)
    inside = covered_fraction(shapes, targets)
    expected = np.zeros((4, 6))
    expected[1:3, :3] = np.outer([1, 0.5], [0.5, 1, 0.5])
    np.testing.assert_allclose(inside[0], expected, atol=1e-6)
    assert not inside[1].any()


def test_points_cover_nothing():
    targets = local_targets(np.array([33.0]), np.array([1.0]), 10.0, (4, 4))
    shapes = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([33.0], [1.0]), crs=4326)
    assert covered_fraction(shapes, targets) is None


def test_points_beside_polygons_cover_nothing():
    targets = local_targets(np.array([33.0, 33.0]), np.array([1.0, 1.0]), 10.0, (4, 4))
    shapes = [shapely.Point(33, 1), shapely.Point(33, 1).buffer(0.01)]
    inside = covered_fraction(geopandas.GeoDataFrame(geometry=shapes, crs=4326), targets)
    assert inside.sum(axis=(1, 2)).tolist() == [0, 16]


def test_a_polygon_in_two_parts_across_the_antimeridian():
    grid = (0.1, 0.0, 175.0, 0.0, -0.1, 10.0)
    targets = native_targets(
        np.array([180.0, -179.9]), np.full(2, 5.0), "EPSG:4326", grid, (100, 100), (10, 10)
    )
    parts = [shapely.box(179.75, 4, 180, 6), shapely.box(-180, 4, -179.75, 6)]
    shapes = geopandas.GeoDataFrame(geometry=[shapely.MultiPolygon(parts)] * 2, crs=4326)
    inside = covered_fraction(shapes, targets)
    np.testing.assert_allclose(inside.sum(axis=(1, 2)), 5 * 10, atol=0.01)
