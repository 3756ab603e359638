"""The scenes table: types, GeoParquet there and back, boxes in degrees."""

import numpy as np
import pandas as pd
import pytest
from pyproj import CRS

from eo_causal.errors import GeorefError, IntegrityError
from eo_causal.ingest.scene_table import (
    COLUMNS,
    SceneRow,
    catalog_frame,
    degree_bounds,
    gap_degrees,
    read_scenes,
    scene_table,
    write_scenes,
)

ROWS = [
    SceneRow(
        "a", "a.tif", pd.Timestamp("2020-01-01"), transform=(1.0, 0, 5, 0, -1.0, 9), rows=3,
        columns=4, offset_applied=True, west=170, south=0, east=-170, north=5, sha256="ab",
    ),
    SceneRow("b", "b.tif").without("refused", "the name does not match the pattern"),
]  # fmt: skip


def test_the_table_survives_geoparquet(tmp_path):
    table = scene_table(ROWS)
    assert list(table.columns) == list(COLUMNS)
    write_scenes(table, tmp_path / "scenes.parquet")
    pd.testing.assert_frame_equal(read_scenes(tmp_path / "scenes.parquet"), table)
    empty = scene_table([])
    write_scenes(empty, tmp_path / "empty.parquet")
    pd.testing.assert_frame_equal(read_scenes(tmp_path / "empty.parquet"), empty)
    assert empty.dtypes.equals(table.dtypes)


def test_a_file_that_is_no_scenes_table(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(IntegrityError, match="no readable scenes table"):
        read_scenes(tmp_path / "x.parquet")


def test_footprints_are_split_at_180_degrees():
    frame = catalog_frame(scene_table(ROWS))
    assert frame.geometry.iloc[0].area == pytest.approx(20 * 5)
    assert frame.geometry.iloc[0].bounds == (-180, 0, 180, 5)
    assert frame.geometry.iloc[1] is None


@pytest.mark.parametrize(
    ("first", "second", "gap"),
    [
        ((0, 0, 10, 10), (3, 3, 4, 4), 0),
        ((0, 0, 1, 1), (4, 5, 6, 6), 5),
        ((170, 0, -170, 1), (-165, 0, -160, 1), 5),
        ((170, 0, -170, 1), (-175, 0, -160, 1), 0),
        ((-180, -90, 180, 90), (3, 3, 4, 4), 0),
        ((179, 0, 180, 1), (-180, 0, -179, 1), 0),
    ],
)
def test_distance_of_boxes_in_degrees(first, second, gap):
    assert gap_degrees(first, second) == pytest.approx(gap)
    assert gap_degrees(second, first) == pytest.approx(gap)


def test_bounds_in_degrees():
    polar = CRS.from_epsg(3031).to_wkt()
    west, south, east, north = degree_bounds(polar, (-1e6, -1e6, 1e6, 1e6), "pole")
    assert (west, south, east) == (-180, -90, 180)
    assert north == pytest.approx(-77.04, abs=0.01)
    degrees = CRS.from_epsg(4326).to_wkt()
    assert degree_bounds(degrees, (200, -10, 260, 10), "Pacific") == (-160, -10, -100, 10)
    assert degree_bounds(degrees, (0, -90, 360, 90), "globe") == (-180, -90, 180, 90)
    with pytest.raises(GeorefError, match=r"nowhere: bounds .* lie at no place on Earth"):
        degree_bounds(CRS.from_epsg(32636).to_wkt(), (1e30, 1e30, 2e30, 2e30), "nowhere")
    assert np.isnan(gap_degrees((np.nan,) * 4, (0, 0, 1, 1)))
