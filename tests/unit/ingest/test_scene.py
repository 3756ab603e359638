"""Scenes out of the rows of a catalog, and rows that make no scene."""

import numpy as np
import pandas as pd
import pytest
from scene_files import scene_rows, table, write_image

from eo_causal.errors import CoverageError, DataError, GeorefError
from eo_causal.ingest.scene import scenes_of

RAW = np.ones((2, 40, 40), np.uint16)


@pytest.fixture
def rows(tmp_path):
    """Two scenes: a has b1, b2 in one file; b has b2 in one file, b1 and qa in another."""
    first = write_image(tmp_path / "a.tif", RAW)
    second = write_image(tmp_path / "b_x.tif", RAW[:1])
    third = write_image(tmp_path / "b_y.tif", RAW)
    return [
        *scene_rows(second, "2020-03-01", item_id="b", bands=["b2"]),
        *scene_rows(third, "2020-03-01", item_id="b", bands=["qa", "b1"], quality=("qa",)),
        *scene_rows(first, "2019-01-01", item_id="a", bands=["b1", "b2"]),
    ]


def test_scenes_in_order_of_their_ids_with_bands_where_they_are(rows):
    scenes, bands = scenes_of(table(rows))
    assert bands == ["b1", "b2"]
    assert [scene.item_id for scene in scenes] == ["a", "b"]
    assert [(file.bands, file.positions) for file in scenes[0].files] == [((1, 2), (0, 1))]
    assert [(file.bands, file.positions) for file in scenes[1].files] == [
        ((2,), (0,)),
        ((1,), (1,)),
    ]
    assert scenes[0].quality is None
    assert (scenes[1].quality.bands, scenes[1].quality_band) == ((1,), "qa")


def test_bands_are_those_asked_for_in_that_order(rows):
    scenes, bands = scenes_of(table(rows), ("b2", "b1"))
    assert bands == ["b2", "b1"]
    assert scenes[0].files[0].bands == (2, 1)


def test_the_time_of_a_period_is_its_middle(rows):
    given = table(rows)
    given.loc[given["item_id"] == "a", "datetime_end"] = pd.Timestamp("2019-01-17")
    scenes, _ = scenes_of(given)
    assert scenes[0].time == np.datetime64("2019-01-09")
    assert scenes[0].end == np.datetime64("2019-01-17")
    assert scenes[1].end == scenes[1].time


def test_rows_that_are_not_ok_are_left_out(rows):
    given = table(rows)
    given.loc[given["item_id"] == "b", "status"] = "outside"
    assert [scene.item_id for scene in scenes_of(given)[0]] == ["a"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.assign(status="refused"), CoverageError, "none of the 5 rows"),
        (lambda t: t.drop(index=0), DataError, "b: lacks band b2; it has b1"),
        (lambda t: t.assign(datetime=pd.NaT), DataError, "has no date"),
        (lambda t: t.assign(item_id="a"), DataError, "one and the same"),
        (lambda t: t.assign(href="x.tif", band_index=1), DataError, "one and the same"),
        (lambda t: t.assign(transform=None), DataError, "no file on this computer"),
        (lambda t: t.assign(rows=[41, 40, 40, 40, 40]), GeorefError, "b2 lie on different grids"),
    ],
)
def test_rows_that_make_no_scene(rows, change, error, words):
    with pytest.raises(error, match=words):
        scenes_of(change(table(rows)))
