"""Images made at run time: windows, masks, blocks that are not there, places that cannot be."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from eo_causal.errors import (
    ConfigError,
    DataError,
    EOCausalWarning,
    GeorefError,
    IntegrityError,
    ReadError,
)
from eo_causal.ingest.image import read_image
from eo_causal.ingest.image_decode import undeclared_fill
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import PRODUCTS, find_product

GENERIC = find_product("generic")
UTM = {"crs": "EPSG:32736", "transform": from_origin(500_000, 9_800_000, 10, 10)}


@pytest.fixture
def write(tmp_path):
    """Write a GeoTIFF; returns its path and the raw numbers."""

    def make(raw=None, name="scene.tif", **profile):
        if raw is None:
            raw = np.random.default_rng(0).integers(1, 4000, (3, 70, 90)).astype(np.uint16)
        count, height, width = raw.shape
        settings = {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32} | UTM
        path = tmp_path / name
        with rasterio.open(
            path,
            "w",
            dtype=raw.dtype,
            count=count,
            height=height,
            width=width,
            **settings | profile,
        ) as target:
            target.write(raw)
        return path, raw

    return make


@pytest.mark.parametrize(
    "window", [(0, 70, 0, 90), (3, 40, 50, 90), (-5, 10, -7, 4), (60, 75, 80, 99), (31, 33, 31, 33)]
)
def test_windows_are_those_of_rasterio_with_nan_outside(write, window):
    path, raw = write()
    top, bottom, left, right = window
    found = read_image(read_image_header(path), GENERIC, window=window)
    padded = np.pad(raw.astype(float), ((0, 0), (20, 20), (20, 20)), constant_values=np.nan)
    expected = padded[:, top + 20 : bottom + 20, left + 20 : right + 20]
    np.testing.assert_array_equal(found.values, expected)
    assert found.masked.get("off_image", 0) == int(np.isnan(expected).sum())


def test_a_window_far_off_is_all_missing(write):
    found = read_image(read_image_header(write()[0]), GENERIC, window=(500, 510, 0, 10))
    assert found.values.shape == (3, 10, 10)
    assert found.masked == {"off_image": 300}


def test_south_up_files_are_turned_over(write):
    path, raw = write(transform=Affine(10, 0, 500_000, 0, 10, 9_799_300))
    header = read_image_header(path)
    assert header.bounds == (500_000, 9_799_300, 500_900, 9_800_000)
    found = read_image(header, GENERIC, window=(0, 20, 5, 30))
    np.testing.assert_array_equal(found.values, raw[:, ::-1][:, :20, 5:30])


def test_every_cause_is_counted_once(write):
    raw = np.full((1, 64, 64), 0.5, dtype=np.float32)
    raw[0, 0, :5] = -9999
    raw[0, 1, :4] = np.nan
    raw[0, 2, :3] = [np.inf, -np.inf, 2e30]
    path, _ = write(raw, nodata=-9999)
    found = read_image(read_image_header(path), GENERIC)
    assert found.masked == {"nodata": 5, "not_finite": 7}
    assert int(np.isfinite(found.values).sum()) == raw.size - 12


def test_integer_nodata_never_wraps(write):
    raw = np.full((1, 32, 32), 255, dtype=np.uint8)
    path, _ = write(raw, nodata=0)
    header = read_image_header(path)
    assert header.nodata == (0.0,)
    assert np.isfinite(read_image(header, GENERIC).values).all()


@pytest.mark.parametrize(
    ("baseline", "applied", "shift"),
    [("03.01", None, 0), ("04.00", None, -1000), ("N0510", None, -1000), ("05.10", True, 0)],
)
def test_sentinel_2_by_baseline_never_by_date(write, baseline, applied, shift):
    raw = np.array([[[0, 500, 1000, 12_000]]], dtype=np.uint16)
    path, _ = write(raw, tiled=False, blockxsize=None, blockysize=None)
    product = find_product("sentinel2_l2a", baseline=baseline, offset_applied=applied)
    found = read_image(read_image_header(path), product).values[0, 0]
    expected = (np.array([np.nan, 500, 1000, 12_000]) + shift) / 10_000
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_products_that_cannot_be_decided():
    with pytest.raises(DataError, match="processing baseline"):
        find_product("sentinel2_l2a")
    with pytest.raises(DataError, match="no number"):
        find_product("sentinel2_l1c", baseline="new")
    with pytest.raises(ConfigError, match="landsat_c2_l2"):
        find_product("landsat")
    assert all(name == product.name for name, product in PRODUCTS.items())


def test_blocks_that_were_never_written(write, tmp_path):
    profile = {"dtype": "uint16", "count": 1, "height": 64, "width": 64, "sparse_ok": True}
    blocks = {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32} | UTM
    for name, nodata in (("bare.tif", None), ("declared.tif", 0)):
        with rasterio.open(tmp_path / name, "w", **blocks, **profile, nodata=nodata) as target:
            part = np.ones((1, 32, 32), np.uint16)
            target.write(part, window=rasterio.windows.Window(0, 0, 32, 32))
    bare = read_image_header(tmp_path / "bare.tif")
    assert np.isfinite(read_image(bare, GENERIC, window=(0, 32, 0, 32)).values).all()
    with pytest.raises(IntegrityError, match="block 0, 1 of band 1 was never written"):
        read_image(bare, GENERIC, window=(0, 32, 0, 40))
    declared = read_image(read_image_header(tmp_path / "declared.tif"), GENERIC)
    assert declared.masked == {"nodata": 3 * 32 * 32}


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"crs": None}, "no CRS"),
        ({"transform": Affine(10, 1, 500_000, 1, -10, 9_800_000)}, "rotated"),
        ({"transform": from_origin(30, -2, 1e-4, 1e-4)}, "not likely"),
        ({"crs": "EPSG:4326", "transform": from_origin(500_000, 9_800_000, 10, 10)}, "not likely"),
        (
            {"transform": from_origin(5_000_000, 9_800_000, 10, 10)},
            "far from UTM zone 36S|no place",
        ),
    ],
)
def test_places_that_cannot_be(write, profile, words):
    path, _ = write(**profile)
    with pytest.raises(GeorefError, match=words):
        read_image_header(path)


def test_a_file_that_ends_early_names_file_and_window(write):
    path, _ = write(compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ReadError, match=r"scene\.tif: bands \[1, 2, 3\], rows 0 to 70"):
        read_image(read_image_header(path), GENERIC)


def test_what_is_no_image_is_refused_by_content(tmp_path):
    path = tmp_path / "scene.tif"
    path.write_text('<VRTDataset rasterXSize="1"/>')
    with pytest.raises(ReadError, match="neither NetCDF"):
        read_image_header(path)


def test_a_mask_beside_the_file_is_not_read_but_said(write):
    path, _ = write()
    path.with_name("scene.tif.msk").touch()
    with pytest.warns(EOCausalWarning, match=r"scene\.tif\.msk") as caught:
        read_image_header(path)
    assert caught[0].message.code == "SidecarWarning"


def test_fill_that_nobody_declared_is_suspected(write):
    raw = np.full((1, 64, 64), 7, dtype=np.uint16)
    raw[0, :4] = 65_535
    path, _ = write(raw)
    assert undeclared_fill(read_image_header(path), raw) == 65_535
    assert undeclared_fill(read_image_header(path), raw[:, 10:]) is None
    declared, _ = write(raw, name="declared.tif", nodata=65_535)
    assert undeclared_fill(read_image_header(declared), raw) is None


def test_a_band_that_was_never_written(tmp_path):
    profile = {"dtype": "uint16", "count": 2, "height": 32, "width": 32, "sparse_ok": True}
    blocks = {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32} | UTM
    with rasterio.open(
        tmp_path / "half.tif", "w", interleave="band", **blocks, **profile
    ) as target:
        target.write(np.ones((32, 32), np.uint16), 1)
    header = read_image_header(tmp_path / "half.tif")
    assert np.isfinite(read_image(header, GENERIC, bands=(1,)).values).all()
    with pytest.raises(IntegrityError, match="block 0, 0 of band 2 was never written"):
        read_image(header, GENERIC)
