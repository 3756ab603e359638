"""Shares of land-cover classes in footprints, from chips of codes."""

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from eo_causal.core.progress import counting
from eo_causal.errors import DataError
from eo_causal.ingest.class_shares import LandCoverClasses, class_shares


def settings(classes=None):
    return LandCoverClasses(
        product="a map", year=2011, chips={"size_pixels": 2}, classes=classes or {1: "forest", 4: "water"},
        scenes={"files": ["map.tif"], "date": "2011-12-31", "bands": ["class"], "product": "generic"},
    )  # fmt: skip


def chips(codes, keys=("b", "a", "c"), bands=("class",), n_times=1):
    values = np.asarray(codes, dtype=np.float32).reshape(len(keys), 1, 1, 2, 2)
    return xr.DataArray(
        np.tile(values, (1, n_times, len(bands), 1, 1)), dims=("unit", "time", "band", "y", "x"),
        coords={"image_key": ("unit", list(keys)), "band": list(bands)},
    )  # fmt: skip


CODES = [[1, 1, 1, 4], [4, np.nan, 4, 4], [1, 4, 9, np.nan]]


def test_shares_are_of_pixels_with_a_declared_class():
    with counting() as counts:
        found = class_shares(chips(CODES), settings())
    assert list(found) == ["image_key", "n_valid", "forest", "water"]
    assert found["image_key"].tolist() == ["b", "a", "c"]
    assert found["n_valid"].tolist() == [4, 3, 2]
    np.testing.assert_allclose(found["forest"], [0.75, 0, 0.5])
    np.testing.assert_allclose(found["forest"] + found["water"], 1)
    assert counts == {
        "footprints": 3, "footprints_without_class": 0, "pixels_classified": 9,
        "pixels_of_other_codes": 1,
    }  # fmt: skip


def test_a_footprint_without_any_class_has_no_shares():
    codes = [CODES[0], [np.nan] * 4, [9, 9, np.nan, 9]]
    with counting() as counts:
        found = class_shares(chips(codes), settings())
    assert found["n_valid"].tolist() == [4, 0, 0]
    assert found.loc[1:, ["forest", "water"]].isna().all(axis=None)
    assert counts["footprints_without_class"] == 2
    assert counts["pixels_of_other_codes"] == 3


def test_a_class_that_does_not_occur_has_share_zero():
    found = class_shares(chips(CODES), settings({1: "forest", 4: "water", 7: "ice"}))
    assert found["ice"].eq(0).all()


def test_only_the_first_date_is_read():
    both = chips(CODES, n_times=2)
    both[:, 1] = 4
    np.testing.assert_array_equal(
        class_shares(both, settings()).iloc[:, 1:],
        class_shares(chips(CODES), settings()).iloc[:, 1:],
    )


def test_codes_that_nobody_declared_are_listed():
    with pytest.raises(
        DataError, match=r"none of 10 pixels of a map .* \(2, 3\); found are \[1.0, 4.0, 9.0\]"
    ):
        class_shares(chips(CODES), settings({2: "fields", 3: "town"}))


def test_more_than_one_band_is_no_map_of_classes():
    with pytest.raises(DataError, match=r"one band, not 2. Name it in scenes.bands") as caught:
        class_shares(chips(CODES, bands=("class", "quality")), settings())
    assert caught.value.facts["bands"] == ["class", "quality"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [({1: "forest", 2: "forest"}, "two codes of one name"), ({1: "forest"}, "at least 2")],
)
def test_classes_that_cannot_be_told_apart_are_refused(classes, message):
    with pytest.raises(ValidationError, match=message):
        settings(classes)
