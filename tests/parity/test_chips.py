"""Chips against plain rasterio window reads, bit for bit, and against a warp of the whole image."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject
from rasterio.windows import Window
from scene_files import STEP, UTM, on_pixels, scene_rows, table, write_image

from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import cut_chips, in_order

SIZE, SHAPE = 32, (700, 640)
LAYOUTS = {
    "2018-01-01": {},
    "2019-01-01": {"tiled": False, "blockysize": 11, "interleave": "pixel", "compress": "lzw"},
    "2020-01-01": {"blockxsize": 256, "blockysize": 128, "interleave": "band", "compress": "zstd"},
    "2021-01-01": {"interleave": "pixel", "compress": "deflate", "predictor": 2, "nodata": 77},
}


def plain_read(source, row, column):
    """One open file, one window: what a user would write by hand."""
    top, left = row - SIZE // 2, column - SIZE // 2
    chip = np.full((source.count, SIZE, SIZE), np.nan, np.float32)
    bottom, right = min(top + SIZE, SHAPE[0]), min(left + SIZE, SHAPE[1])
    first, start = max(top, 0), max(left, 0)
    pixels = source.read(window=Window(start, first, right - start, bottom - first)).astype("f4")
    pixels[pixels == source.nodata] = np.nan
    chip[:, first - top : bottom - top, start - left : right - left] = pixels
    return chip


def test_2000_random_chips_are_bit_identical_to_window_reads(tmp_path):
    """500 places on four dates in four layouts; a fifth of the places lie at the edges."""
    random = np.random.default_rng(21)
    rows, columns = random.integers(0, SHAPE, (500, 2)).T
    rows[:50], columns[50:100] = (
        random.integers(-10, 5, 50),
        random.integers(SHAPE[1] - 9, SHAPE[1], 50),
    )
    raw = random.integers(1, 60_000, (4, 3, *SHAPE)).astype(np.uint16)
    paths = [
        write_image(tmp_path / f"{date}.tif", raw[number], **layout)
        for number, (date, layout) in enumerate(LAYOUTS.items())
    ]
    units = on_pixels(rows, columns)
    catalog = table(*(scene_rows(path, path.stem) for path in paths))
    settings = ChipSettings(size_pixels=SIZE, min_valid_fraction=0)
    (tmp_path / "out").mkdir()
    result = cut_chips(catalog, units, settings, folder=tmp_path / "out")
    found = in_order(result.chips, units["image_key"]).to_numpy()
    for slot, path in enumerate(paths):
        with rasterio.open(path) as source:
            expected = np.stack(
                [plain_read(source, *place) for place in zip(rows, columns, strict=True)]
            )
        np.testing.assert_array_equal(found[:, slot].view(np.uint32), expected.view(np.uint32))
    assert result.files["windows"].sum() == 2000
    assert result.files["reads"].sum() < 200


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic"])
def test_chips_on_a_local_grid_equal_a_warp_of_the_whole_image(tmp_path, how, measured):
    """To 1e-6 of the values' range where GDAL is exact; its usual approximation moves them more."""
    y, x = np.mgrid[0:500, 0:520]
    raw = np.stack([np.sin(x / 11) * np.cos(y / 8), x / 90 - y / 70]).astype(np.float32)
    raw[:, 200:260, 100:180] = np.nan
    degrees = {"crs": "EPSG:4326", "west": 33.0, "north": -2.0, "step": 1e-4}
    path = write_image(tmp_path / "a.tif", raw, **degrees)
    rows, columns = np.random.default_rng(22).integers(0, 500, (2, 60))
    units = on_pixels(rows, columns, **degrees)
    settings = ChipSettings(
        size_pixels=SIZE, grid="local", resolution_m=STEP, resampling=how, min_valid_fraction=0,
        empty_unit="drop",
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    catalog = table(scene_rows(path, "2020-01-01"))
    chips = cut_chips(catalog, units, settings, folder=tmp_path / "out").chips.load()
    west = float(chips["centre_easting"].min()) - SIZE / 2 * STEP
    north = float(chips["centre_northing"].max()) + SIZE / 2 * STEP
    for tolerance in (0, 0.125):
        whole = np.stack([
            reproject(
                band, np.full((900, 900), np.nan, np.float32), src_transform=Affine(1e-4, 0, 33, 0, -1e-4, -2),
                src_crs="EPSG:4326", src_nodata=np.nan, dst_transform=Affine(STEP, 0, west, 0, -STEP, north),
                dst_crs=UTM, dst_nodata=np.nan, resampling=Resampling[how], tolerance=tolerance,
            )[0]
            for band in raw
        ])  # fmt: skip
        apart = []
        for chip in chips:
            row = round((north - float(chip["centre_northing"])) / STEP) - SIZE // 2
            column = round((float(chip["centre_easting"]) - west) / STEP) - SIZE // 2
            expected = whole[:, row : row + SIZE, column : column + SIZE]
            np.testing.assert_array_equal(np.isnan(chip[0]), np.isnan(expected))
            apart.append(np.nanmax(np.abs(chip[0].values - expected), initial=0))
        measured(f"largest difference, approximation of {tolerance} pixels", max(apart))
        if tolerance == 0:
            assert max(apart) < 1e-6
