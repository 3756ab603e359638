"""Images written in producers' conventions come back as the truth, to the precision they store."""

import numpy as np
import pytest

from eo_causal.errors import IntegrityError
from eo_causal.ingest.image import read_image
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import find_product
from eo_causal.simulate.scene_files import PACKINGS, write_codes, write_scene

CRS = "EPSG:32736"
GRID = (10.0, 0.0, 500_000.0, 0.0, -10.0, 9_800_000.0)
PRODUCTS = {
    "landsat_c2_l2": find_product("landsat_c2_l2"),
    "sentinel2_l2a": find_product("sentinel2_l2a", baseline="05.10"),
    "sentinel2_old": find_product("sentinel2_l2a", baseline="03.01"),
    "float": find_product("generic"),
    "tagged": find_product("generic"),
}


@pytest.fixture
def truth():
    """(band, y, x) reflectance with a cloud and a block of nothing."""
    values = np.random.default_rng(0).uniform(0.01, 0.9, (3, 300, 200)).astype(np.float32)
    values[:, 40:60, 30:90] = np.nan
    values[:, :128, :128] = np.nan
    return values


def same(found, truth, convention):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    step = PACKINGS[convention].scale if convention != "float" else 0
    np.testing.assert_allclose(found, truth, atol=0.51 * step + 1e-6, equal_nan=True)


@pytest.mark.parametrize("south_up", [False, True])
@pytest.mark.parametrize("convention", PACKINGS)
def test_every_convention_returns_the_truth(tmp_path, truth, convention, south_up):
    path = tmp_path / "scene.tif"
    write_scene(path, truth, GRID, CRS, convention, south_up=south_up)
    header = read_image_header(path)
    assert header.south_up == south_up
    assert header.transform == GRID
    same(read_image(header, PRODUCTS[convention]).values, truth, convention)


def test_an_internal_mask_says_what_is_valid(tmp_path, truth):
    path = tmp_path / "masked.tif"
    write_scene(path, truth, GRID, CRS, "float", internal_mask=True)
    header = read_image_header(path)
    assert header.mask == "mask"
    same(read_image(header, PRODUCTS["float"]).values, truth, "float")


def test_blocks_without_a_valid_pixel_need_not_be_there(tmp_path, truth):
    """Where fill is declared they are missing; where none is, nobody knows what they were."""
    for convention in ("tagged", "landsat_c2_l2"):
        path = tmp_path / f"{convention}.tif"
        write_scene(path, truth, GRID, CRS, convention, skip_blocks=True)
        header = read_image_header(path)
        if convention == "tagged":
            same(read_image(header, PRODUCTS[convention]).values, truth, convention)
        else:
            with pytest.raises(IntegrityError, match="never written"):
                read_image(header, PRODUCTS[convention])


def test_sentinel_2_is_the_same_before_after_and_after_with_the_offset_applied(tmp_path):
    values = np.linspace(-0.09, 1.1, 40_000, dtype=np.float32).reshape(1, 200, 200).round(4)
    found = []
    for name, convention, product in (
        ("after", "sentinel2_l2a", find_product("sentinel2_l2a", baseline="04.00")),
        ("before", "sentinel2_old", find_product("sentinel2_l2a", baseline="02.14")),
        ("applied", "sentinel2_old",
         find_product("sentinel2_l2a", baseline="05.10", offset_applied=True)),
    ):  # fmt: skip
        write_scene(tmp_path / f"{name}.tif", values, GRID, CRS, convention)
        header = read_image_header(tmp_path / f"{name}.tif")
        found.append(read_image(header, product).values)
    positive = values > 1e-4
    for other in found[1:]:
        np.testing.assert_allclose(other[positive], found[0][positive], atol=1e-6)
    below = values < -1e-3
    np.testing.assert_allclose(found[0][below], values[below], atol=5.1e-5)


def test_codes_stay_what_they_are(tmp_path):
    codes = np.arange(60_000, dtype=np.uint16).reshape(200, 300)
    write_codes(tmp_path / "qa.tif", codes, GRID, CRS)
    found = read_image(read_image_header(tmp_path / "qa.tif"), find_product("land_cover"))
    np.testing.assert_array_equal(found.values[0], codes)
