"""Awkward files of real producers: the documented numbers, or a named refusal."""

import numpy as np
import pytest

from eo_causal.errors import GeorefError
from eo_causal.ingest.image import read_image
from eo_causal.ingest.image_files import ReadSettings
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import find_product

CASES = "imagery/geotiff_edge_cases"
GENERIC = find_product("generic")


@pytest.fixture
def file(data_folder):
    def find(name, folder=CASES):
        path = data_folder / folder / name
        if not path.exists():
            pytest.skip(f"{path.name} is absent")
        return path

    return find


def first_band(path, product=GENERIC, **settings):
    chosen = ReadSettings(**settings)
    return read_image(read_image_header(path, chosen), product, bands=(1,), settings=chosen)


@pytest.mark.parametrize(
    ("name", "n_valid", "mean"),
    [
        ("cog_nodata_nan.tif", 147_316, pytest.approx(0.181176, abs=1e-6)),
        ("cog_scale.tif", 65_530, pytest.approx(1000.49, abs=0.01)),
        ("cog_rgb_mask.tif", 86_117, pytest.approx(99.6702, abs=1e-3)),
    ],
)
def test_valid_pixels_and_their_mean(file, name, n_valid, mean):
    image = first_band(file(name))
    seen = image.values[np.isfinite(image.values)].astype(float)
    assert len(seen) == n_valid
    assert seen.mean() == mean
    assert sum(image.masked.values()) == image.values.size - n_valid


@pytest.mark.parametrize(
    ("name", "words"),
    [("cog_gcps.tif", "georef: gcps"), ("float_nan.tif", "no CRS"), ("rotated.tif", "rotated")],
)
def test_files_without_a_place_are_refused_with_the_option_that_helps(file, name, words):
    path = file(name)
    with pytest.raises(GeorefError, match=words) as caught:
        read_image_header(path, ReadSettings(crs="EPSG:32618" if name == "rotated.tif" else None))
    assert name in caught.value.message


def test_ground_control_points_and_rotated_grids_on_request(file):
    header = read_image_header(file("cog_gcps.tif"), ReadSettings(georef="gcps"))
    west, south, east, north = header.bounds
    assert (70 < west < east < 90, 0 < south < north < 20) == (True, True)
    assert np.isfinite(first_band(file("cog_gcps.tif"), georef="gcps").values).any()


def test_south_up_and_empty_files(file):
    header = read_image_header(file("inverted_lat.tif"))
    assert header.south_up
    assert header.bounds == (-180, -90, 180, 90)
    assert header.locate(0.1, 89.75)[0] == 0
    empty = first_band(file("all-nodata.tif"))
    assert not np.isfinite(empty.values).any()
    assert empty.masked == {"nodata": empty.values.size}


@pytest.mark.parametrize(
    ("longitude", "latitude", "place", "value"),
    [(-179.5, 51.8, (1030, 1707), 22_280), (179.5, 51.8, (1058, 1017), 23_888)],
)
def test_both_sides_of_the_date_line(file, longitude, latitude, place, value):
    header = read_image_header(file("cog_dateline.tif"))
    row, column = header.locate(longitude, latitude)
    assert (row, column) == place
    window = (row, row + 1, column, column + 1)
    assert read_image(header, GENERIC, window=window).values.item() == value


def test_southern_scene_in_a_northern_zone(file):
    header = read_image_header(file("LC08_L1TP_224077_20200518_20200518_01_RT_B2_60m.TIF"))
    rows, columns = header.shape
    row, column = header.locate(-54.78, -25.20)
    assert abs(row - rows / 2) < 20
    assert abs(column - columns / 2) < 20
    assert header.bounds[1] < 0


def test_negative_radiance_is_a_value(file):
    path = file("NL_STP_VIIRS.M_201401_VCMCFG_GADM-2.8-SHPZIP.tif", "imagery/nightlights_saotome")
    values = first_band(path, find_product("viirs_nightlights")).values
    seen = values[np.isfinite(values)]
    assert (len(seen), int((seen < 0).sum())) == (4681, 985)
    assert seen.min() == pytest.approx(-0.15, abs=1e-6)


def test_jpeg_2000_with_the_rules_of_its_product(data_folder):
    paths = sorted((data_folder / "imagery/mod13q1_sinop_2013_2014").glob("*.jp2"))
    if not paths:
        pytest.skip("mod13q1-sinop is absent")
    images = [first_band(path, find_product("mod13q1")) for path in paths]
    assert len(images) == 12
    assert float(np.nanmean(images[0].values.astype(float))) == pytest.approx(0.5870, abs=1e-4)
    highest = max(float(np.nanmax(image.values)) for image in images)
    assert highest <= 1.0
    assert sum(image.masked.get("out_of_range", 0) for image in images) > 0
