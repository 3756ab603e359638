"""Tables of places: ids stay text, nothing is dropped, mistakes are named by row."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from eo_causal.core.progress import counting
from eo_causal.core.sources import InputFiles
from eo_causal.errors import CoverageError, EOCausalWarning, ReadError, TableError
from eo_causal.ingest.units import UnitSettings, read_units

HEAD = "unit_id,longitude,latitude,wealth,country\n"
GOOD = HEAD + "007,32.5,1.25,0.5,NA\n012,32.6,1.5,,UG\n"


@pytest.fixture
def read(tmp_path):
    """Read a table given as text or bytes."""

    def run(content, name="units.csv", **settings):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_units(InputFiles((str(path),), ("0",)), UnitSettings(**settings))

    return run


def test_ids_and_country_codes_stay_as_they_are_written(read):
    with counting() as counts:
        units = read(GOOD, numbers=("wealth",), labels=("country",))
    assert units["unit_id"].tolist() == ["007", "012"]
    assert units["image_key"].tolist() == ["007", "012"]
    assert units["country"].tolist() == ["NA", "UG"]
    np.testing.assert_array_equal(units["wealth"], [0.5, np.nan])
    assert counts == {"wealth_missing": 1, "units": 2, "image_keys": 2}
    assert units.crs.to_epsg() == 4326
    assert (units.geometry.x[1], units.geometry.y[1]) == (32.6, 1.5)


def test_a_required_value_may_not_be_missing(read):
    with pytest.raises(TableError, match="wealth is missing for 1 of 2 units \\(first: 012\\)"):
        read(GOOD, numbers=("wealth",), required=("wealth",))


def test_excluded_units_are_left_out_and_unknown_ones_named(read):
    with pytest.warns(EOCausalWarning, match="names 999"):
        units = read(GOOD, exclude=("012", "999"))
    assert units["unit_id"].tolist() == ["007"]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (HEAD + "a,1,2,3,UG\na,1,2,3,UG\n", TableError, "'a' occurs more than once"),
        (HEAD + ",1,2,3,UG\n", TableError, "row 2 has no unit_id"),
        (HEAD + "a,1,95,3,UG\n", CoverageError, "Are longitude and latitude swapped"),
        (HEAD + "a,400,5,3,UG\n", CoverageError, "no place on Earth"),
        (HEAD + "a,,5,3,UG\n", CoverageError, "longitude nan"),
        (HEAD + "a,1,2,high,UG\n", TableError, "column wealth: 'high' is no finite number"),
        (HEAD + "a,1,2,inf,UG\n", TableError, "'inf' is no finite number"),
        (HEAD, TableError, "holds no rows"),
        ("", ReadError, "cannot be read as a table"),
        ("unit_id,lon,lat\na,1,2\n", TableError, "no column 'longitude'; it has unit_id, lon, lat"),
        ("unit_id,longitude,latitude\nä,1,2\n".encode("latin-1"), TableError, "not UTF-8"),
        (b"PAR1 and nothing more", ReadError, "cannot be read"),
        ('{"type": "FeatureCollection", "features": [{]', TableError, "no rows"),
    ],
)
def test_bad_tables_are_named_with_row_and_column(read, content, error, words):
    with pytest.raises(error, match=words):
        read(content, numbers=("wealth",))


def test_units_of_one_key_share_a_place(read):
    shared = "unit_id,longitude,latitude,key\na,1,2,k\nb,1,2,k\nc,5,5,m\n"
    assert read(shared, image_key="key")["image_key"].tolist() == ["k", "k", "m"]
    with pytest.raises(TableError, match="image key 'k' lie at different places"):
        read(shared.replace("b,1,2", "b,1,3"), image_key="key")


@pytest.mark.parametrize("name", ["units.gpkg", "units.geojson", "units.parquet"])
def test_geometries_of_any_system_become_degrees(tmp_path, name):
    shapes = [
        shapely.box(500_000, 9_990_000, 501_000, 9_991_000),
        shapely.Point(500_000, 9_900_000),
    ]
    frame = geopandas.GeoDataFrame({"unit_id": [1, 2]}, geometry=shapes, crs="EPSG:32736")
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.endswith("geojson"):
        frame.to_crs(4326).to_file(path, driver="GeoJSON")
    else:
        frame.to_file(path, driver="GPKG")
    units = read_units(InputFiles((str(path),), ("0",)), UnitSettings())
    assert units["unit_id"].tolist() == ["1", "2"]
    assert units.geometry.geom_type.tolist() == ["Polygon", "Point"]
    assert units.geometry.iloc[1].x == pytest.approx(33.0, abs=1e-6)


def test_lines_are_no_units(tmp_path):
    path = tmp_path / "roads.parquet"
    line = geopandas.GeoDataFrame(
        {"unit_id": ["a"]}, geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326
    )
    line.to_parquet(path)
    with pytest.raises(TableError, match="row 0 is no point or polygon"):
        read_units(InputFiles((str(path),), ("0",)), UnitSettings())


def test_a_parquet_table_without_geometry_has_coordinates_in_columns(tmp_path):
    path = tmp_path / "units.parquet"
    pd.DataFrame({"id": [3.0, 4.0], "x": [30.0, 31.0], "y": [1.0, 2.0]}).to_parquet(path)
    settings = UnitSettings(unit_id="id", longitude="x", latitude="y")
    units = read_units(InputFiles((str(path),), ("0",)), settings)
    assert units["unit_id"].tolist() == ["3", "4"]
