"""Resampled windows: the same as warping the whole image, gaps and antimeridian included."""

import numpy as np
import pytest
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject
from scene_files import write_image

from eo_causal.ingest.image_files import ReadSettings
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import find_product
from eo_causal.ingest.targets import Targets, local_targets
from eo_causal.ingest.warp import warp_windows

GENERIC = find_product("generic")
DEGREES = {"crs": "EPSG:4326", "west": 32.9, "north": -1.95, "step": 1e-4}
SIZE = 24


@pytest.fixture(scope="module")
def raw():
    """Smooth bands with gaps: the same in all bands, and other ones in the second."""
    y, x = np.mgrid[0:420, 0:440]
    bands = np.stack([np.sin(x / 9) + np.cos(y / 7), x / 40 + y / 90, np.sin(x * y / 3000)])
    bands = bands.astype(np.float32)
    bands[:, 100:140, 90:120] = np.nan
    bands[1, 200:330, 250:260] = np.nan
    return bands


def whole(raw, header, targets, how, tolerance, **scale):
    """Each band of the whole image warped to the box around all targets, then cut."""
    step = targets.step[0]
    west, north = targets.west.min(), targets.north.max()
    width = int(np.rint((targets.west.max() - west) / step)) + SIZE
    height = int(np.rint((north - targets.north.min()) / step)) + SIZE
    bands = [
        reproject(
            band, np.full((height, width), np.nan, np.float32), src_transform=Affine(*header.transform),
            src_crs=header.crs, src_nodata=np.nan, dst_transform=Affine(step, 0, west, 0, -step, north),
            dst_crs=targets.crs[0], dst_nodata=np.nan, resampling=Resampling[how], tolerance=tolerance,
            **scale,
        )[0]
        for band in raw
    ]  # fmt: skip
    rows = np.rint((north - targets.north) / step).astype(int)
    columns = np.rint((targets.west - west) / step).astype(int)
    return np.stack(
        [
            np.stack([band[row : row + SIZE, column : column + SIZE] for band in bands])
            for row, column in zip(rows, columns, strict=True)
        ]
    )


def targets_on(resolution, number=40):
    random = np.random.default_rng(5)
    longitude = random.uniform(32.899, 32.945, number)
    return local_targets(
        longitude, random.uniform(-1.993, -1.949, number), resolution, (SIZE, SIZE)
    )


def warped(path, targets, how):
    return warp_windows(
        read_image_header(path), GENERIC, (1, 2, 3), targets, how, ReadSettings()
    ).values


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic"])
def test_windows_are_those_of_the_whole_image(tmp_path, raw, how):
    path = write_image(tmp_path / "a.tif", raw, **DEGREES)
    targets = targets_on(10.0)
    found = warped(path, targets, how)
    exact = whole(raw, read_image_header(path), targets, how, 0)
    assert np.isfinite(found).mean() > 0.5
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6)
    if how == "nearest":
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic"])
def test_coarse_windows_are_those_of_the_whole_image(tmp_path, raw, how):
    """33.4 m are three pixels, by GDAL's rounding; a kernel of that width is asked for in both."""
    path = write_image(tmp_path / "a.tif", raw, **DEGREES)
    targets = targets_on(33.4)
    found = warped(path, targets, how)
    exact = whole(raw, read_image_header(path), targets, how, 0, XSCALE=1 / 3, YSCALE=1 / 3)
    assert np.isfinite(found).mean() > 0.5
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6)


def test_a_gap_of_one_band_spoils_no_other(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw, **DEGREES)
    targets = targets_on(10.0)
    header = read_image_header(path)
    found = warped(path, targets, "bilinear")
    alone = warp_windows(header, GENERIC, (3,), targets, "bilinear", ReadSettings()).values
    np.testing.assert_array_equal(found[:, 2], alone[:, 0])
    nearest = warped(path, targets, "nearest")
    np.testing.assert_array_equal(np.isnan(found), np.isnan(nearest))


@pytest.mark.parametrize("longitude", [179.999, -179.999, -179.5, 179.5])
def test_one_image_across_the_antimeridian(tmp_path, longitude):
    """From 179 to 181 degrees; every pixel holds its own longitude and latitude."""
    step, size = 0.002, 1000
    y, x = np.mgrid[0:size, 0:size]
    raw = np.stack([179 + (x + 0.5) * step, -16 - (y + 0.5) * step, 0 * x]).astype(np.float64)
    path = write_image(tmp_path / "a.tif", raw, crs="EPSG:4326", west=179.0, north=-16.0, step=step)
    targets = local_targets(np.array([longitude]), np.array([-17.0]), 150.0, (SIZE, SIZE))
    found = warped(path, targets, "bilinear")[0]
    across, _, west, _, down, north = targets.transform(0)
    row, column = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    to_degrees = Transformer.from_crs(targets.crs[0], "EPSG:4326", always_xy=True)
    east, up = to_degrees.transform(west + across * column, north + down * row)
    np.testing.assert_allclose(found[0], east % 360, atol=3e-5)
    np.testing.assert_allclose(found[1], up, atol=3e-5)


def test_a_coarse_grid_averages_and_reads_enough_beside_the_target(tmp_path):
    """One target of four pixels in the middle of a random image, cubic, ten to one."""
    raw = np.random.default_rng(6).normal(size=(1, 200, 200)).astype(np.float32)
    path = write_image(tmp_path / "a.tif", raw)
    targets = Targets(
        ("EPSG:32736",), np.zeros(1, int), np.array([500_905.0]), np.array([9_799_095.0]),
        (100.0, 100.0), (SIZE // 8, SIZE // 8),
    )  # fmt: skip
    header = read_image_header(path)
    found = warp_windows(header, GENERIC, (1,), targets, "cubic", ReadSettings()).values
    expected = np.full((3, 3), np.nan, np.float32)
    reproject(
        raw[0], expected, src_transform=Affine(*header.transform), src_crs=header.crs,
        src_nodata=np.nan, dst_transform=Affine(*targets.transform(0)), dst_crs="EPSG:32736",
        dst_nodata=np.nan, resampling=Resampling.cubic, tolerance=0,
    )  # fmt: skip
    np.testing.assert_array_equal(found[0, 0], expected)


def test_what_lies_off_the_image_is_missing_and_costs_no_read(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw, **DEGREES)
    targets = local_targets(np.array([34.0, 32.9]), np.array([-1.0, -1.95]), 10.0, (SIZE, SIZE))
    cut = warp_windows(read_image_header(path), GENERIC, (1,), targets, "bilinear", ReadSettings())
    assert np.isnan(cut.values[0]).all()
    assert 0 < np.isfinite(cut.values[1]).mean() < 0.5
    assert cut.n_reads == 1
