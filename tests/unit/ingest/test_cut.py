"""Windows cut out of images of every layout: the pixels of brute force, each block read once."""

import numpy as np
import pytest
from rasterio.transform import Affine
from scene_files import padded_window, write_image

from eo_causal.errors import IntegrityError, ReadError
from eo_causal.ingest.cut import cut_windows, inside_image
from eo_causal.ingest.image_files import ReadSettings
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import Product, find_product

GENERIC = find_product("generic")
LAYOUTS = {
    "tiles": {},
    "band by band": {"interleave": "band", "compress": "deflate"},
    "pixel by pixel": {"interleave": "pixel", "compress": "lzw", "predictor": 2},
    "large tiles": {"blockxsize": 256, "blockysize": 256},
    "strips": {"tiled": False, "blockysize": 7},
    "one strip": {"tiled": False, "blockysize": 310},
    "lines": {"tiled": False, "blockysize": 1},
}


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(0).integers(0, 4000, (3, 310, 290)).astype(np.uint16)


def cut(path, corners, size=(20, 20), bands=(1, 2, 3), product=GENERIC):
    header = read_image_header(path)
    return cut_windows(header, product, bands, np.asarray(corners), size, ReadSettings())


def expected(values, corners, size=20):
    middle = np.asarray(corners) + size // 2
    return np.stack([padded_window(values, row, column, size) for row, column in middle])


def random_corners(number=80):
    corners = np.random.default_rng(1).integers(-25, 315, (number, 2))
    edges = [(0, 0), (-1, -1), (290, 270), (291, 271), (400, 5), (5, -20), (244, 246), (22, 22)]
    return np.concatenate([corners, edges])


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_windows_of_every_layout(tmp_path, raw, layout):
    path = write_image(tmp_path / "a.tif", raw, **LAYOUTS[layout])
    corners = random_corners()
    found = cut(path, corners)
    truth = expected(raw.astype(np.float32), corners)
    np.testing.assert_array_equal(found.values, truth)
    assert found.masked == {"off_image": int(np.isnan(truth).sum())}
    assert found.n_reads <= 4
    assert found.n_bytes <= raw.nbytes


def test_bands_in_the_order_asked_for(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw)
    corners = [(4, 5), (-3, 280)]
    found = cut(path, corners, bands=(3, 1))
    np.testing.assert_array_equal(found.values, expected(raw[[2, 0]].astype(np.float32), corners))


def test_files_with_the_south_up(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw, transform=Affine(10, 0, 500_000, 0, 10, 9_700_000))
    corners = random_corners()
    truth = expected(raw[:, ::-1].astype(np.float32), corners)
    np.testing.assert_array_equal(cut(path, corners).values, truth)


def test_nodata_internal_masks_and_a_scale(tmp_path, raw):
    random = np.random.default_rng(2)
    mask = (random.random(raw.shape[1:]) > 0.2).astype(np.uint8) * 255
    path = write_image(tmp_path / "masked.tif", raw, mask=mask)
    corners = random_corners()
    truth = expected(np.where(mask > 0, raw, np.nan).astype(np.float32), corners)
    found = cut(path, corners)
    np.testing.assert_array_equal(found.values, truth)
    assert sum(found.masked.values()) == int(np.isnan(truth).sum())

    holes = np.where(random.random(raw.shape) < 0.3, np.uint16(7), raw)
    path = write_image(tmp_path / "nodata.tif", holes, nodata=7)
    found = cut(path, corners, product=Product("x", scale=0.5, offset=3.0, valid_max=3000))
    usable = (holes != 7) & (holes <= 3000)
    truth = expected(np.where(usable, holes * np.float32(0.5) + 3, np.nan), corners)
    np.testing.assert_array_equal(found.values, truth)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_numbers_of_every_type(tmp_path, raw, dtype):
    values = (raw % 120).astype(dtype)
    if dtype.startswith("float"):
        values[:, 10:14] = np.nan
    path = write_image(tmp_path / "a.tif", values)
    corners = random_corners(20)
    np.testing.assert_array_equal(cut(path, corners).values, expected(values.astype("f4"), corners))


def test_many_windows_of_one_block_cost_one_read(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw, blockxsize=256, blockysize=256)
    found = cut(path, np.random.default_rng(3).integers(0, 200, (500, 2)), bands=(2,))
    assert (found.n_reads, found.n_bytes <= 256 * 256 * 2) == (1, True)


def test_no_window_and_no_window_on_the_image(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw)
    assert cut(path, np.empty((0, 2), int)).values.shape == (0, 3, 20, 20)
    found = cut(path, [(-20, 5), (310, 0), (1000, 1000)])
    assert np.isnan(found.values).all()
    assert (found.n_reads, found.masked) == (0, {"off_image": 3 * 3 * 400})


@pytest.mark.parametrize("layout", ["lines", "strips", "tiles", "large tiles"])
def test_a_read_stays_within_its_bound_or_is_one_row_of_blocks(tmp_path, raw, layout, monkeypatch):
    monkeypatch.setattr("eo_causal.ingest.cut.MAX_READ_BYTES", 20_000)
    path = write_image(tmp_path / "a.tif", raw, **LAYOUTS[layout])
    corners = random_corners()
    found = cut(path, corners)
    np.testing.assert_array_equal(found.values, expected(raw.astype(np.float32), corners))
    one_row = read_image_header(path).block[0] * raw.shape[2] * 6
    assert found.n_bytes / found.n_reads <= max(20_000, one_row)


def test_what_lies_on_an_image():
    inside = inside_image((10, 10), np.array([[-1, 0], [8, 8]]), (4, 4))
    np.testing.assert_array_equal(inside.sum(axis=(1, 2)), [12, 4])
    assert inside_image((10, 10), np.array([[0, 0], [6, 6]]), (4, 4)) is None


def test_damaged_files_are_refused_with_their_name(tmp_path, raw):
    path = write_image(tmp_path / "cut.tif", raw, compress="deflate")
    path.write_bytes(path.read_bytes()[:-60_000])
    with pytest.raises(ReadError, match=r"cut\.tif"):
        cut(path, random_corners())
    sparse = write_image(tmp_path / "sparse.tif", raw * 0, sparse_ok=True)
    with pytest.raises(IntegrityError, match="never written"):
        cut(sparse, [(0, 0)])
