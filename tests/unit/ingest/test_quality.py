"""Quality rules: bit by bit, the wrong collection refused, every pixel counted once."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from eo_causal.errors import ConfigError, DataError
from eo_causal.ingest.quality import RULES, find_quality, quality_mask

C1, C2 = RULES["landsat_c1_bqa"], RULES["landsat_c2_qa_pixel"]
SCL, FMASK = RULES["sentinel2_scl"], RULES["fmask"]


@pytest.mark.parametrize(
    ("rule", "code", "cause"),
    [
        (C1, 2720, "clear"), (C1, 1, "fill"), (C1, 2720 | 1 << 4, "cloud"),
        (C1, 2 << 7, "clear"), (C1, 3 << 7, "shadow"), (C1, 3 << 9, "snow"),
        (C1, 2 << 11, "clear"), (C1, 3 << 11, "cirrus"), (C1, 1 << 3, "clear"),
        (C2, 21824, "clear"), (C2, 1, "fill"), (C2, 1 << 1, "dilated_cloud"),
        (C2, 1 << 2, "cirrus"), (C2, 1 << 3, "cloud"), (C2, 1 << 4, "shadow"),
        (C2, 1 << 5, "snow"), (C2, 1 << 6 | 1 << 7, "clear"),
        (SCL, 0, "fill"), (SCL, 1, "defective"), (SCL, 3, "shadow"), (SCL, 8, "cloud"),
        (SCL, 9, "cloud"), (SCL, 10, "cirrus"), (SCL, 11, "snow"), (SCL, 4, "clear"),
        (SCL, 5, "clear"), (SCL, 6, "clear"), (SCL, 2, "dark"), (SCL, 7, "unclassified"),
        (SCL, 12, "fill"),
        (FMASK, 0, "clear"), (FMASK, 1, "clear"), (FMASK, 2, "shadow"), (FMASK, 3, "snow"),
        (FMASK, 4, "cloud"), (FMASK, 5, "unknown"), (FMASK, 255, "fill"), (FMASK, -9999, "fill"),
    ],
)  # fmt: skip
def test_what_a_code_means(rule, code, cause):
    mask = quality_mask(np.array([[code]], np.int32), rule)
    assert {name for name, number in mask.counts.items() if number} == {cause}
    assert mask.valid.item() == (cause in ("clear", "dark", "unclassified"))


def test_what_is_no_code_is_fill():
    codes = np.array([[np.nan, -1, 0.5, 65_536, np.inf, 2720]], np.float32)
    mask = quality_mask(codes, C1)
    assert mask.valid.tolist() == [[False] * 5 + [True]]
    assert mask.counts["fill"] == 5


def test_each_pixel_is_counted_once():
    codes = np.random.default_rng(0).integers(0, 2**16, (3, 40, 50)).astype(np.uint16)
    for rule in RULES.values():
        mask = quality_mask(codes, rule, dilate_pixels=1)
        assert sum(mask.counts.values()) == codes.size
        assert mask.valid.shape == codes.shape


def test_bad_areas_grow_by_rows_and_columns_within_each_image():
    rng = np.random.default_rng(1)
    codes = np.where(rng.random((2, 30, 30)) < 0.02, 4, 0)
    mask = quality_mask(codes, FMASK, dilate_pixels=2)
    for found, bad in zip(mask.valid, codes == 4, strict=True):
        np.testing.assert_array_equal(found, ~binary_dilation(bad, np.ones((5, 5))))
    assert mask.counts["grown"] == int((~mask.valid).sum() - (codes == 4).sum())


def test_the_band_decides_the_rule():
    assert find_quality(None, "BQA", "landsat_c1_l1") is C1
    assert find_quality(None, "LC08_L2SP_QA_PIXEL", "generic") is C2
    assert find_quality(None, "qa_pixel", "landsat_c2_l2") is C2
    assert find_quality(None, "QA_PIXEL.TIF", "landsat_c2_l2_temperature") is C2
    assert find_quality(None, "SCL", "sentinel2_l2a") is SCL
    assert find_quality("fmask", "8", "landsat_c2_l2") is FMASK
    assert find_quality("sentinel2_scl", "band 3", "generic") is SCL


@pytest.mark.parametrize(
    ("rule", "band", "product", "other"),
    [
        ("landsat_c1_bqa", "QA_PIXEL", "landsat_c1_l1", "landsat_c2_qa_pixel"),
        ("landsat_c2_qa_pixel", "BQA", "landsat_c2_l2", "landsat_c1_bqa"),
        ("landsat_c1_bqa", "quality", "landsat_c2_l2", "landsat_c2_qa_pixel"),
        (None, "BQA", "landsat_c2_l2", "landsat_c2_qa_pixel"),
        (None, "QA_PIXEL", "landsat_c1_l1", "landsat_c1_bqa"),
        ("fmask", "SCL", "sentinel2_l2a", "sentinel2_scl"),
    ],
)
def test_the_table_of_another_collection_is_refused(rule, band, product, other):
    with pytest.raises(DataError, match=f"is one of rule {other}, whose codes mean other things"):
        find_quality(rule, band, product)


def test_unknown_rules_and_bands():
    with pytest.raises(ConfigError, match="'qa60' is not known; known: landsat_c1_bqa"):
        find_quality("qa60", "QA60", "sentinel2_l2a")
    with pytest.raises(DataError, match=r"'QA60' goes by no name .* Give quality\.rule"):
        find_quality(None, "QA60", "sentinel2_l2a")
