"""Pooling over frames: hand values, date order, masks, irregular dates, refusals."""

import numpy as np
import pytest

from eo_causal.encode.base import embed, to_batch
from eo_causal.encode.frames import FrameEncoder, Preparation
from eo_causal.encode.sequence import FramePooling, SequenceSettings, in_date_order, irregular
from eo_causal.errors import DataError


class Levels(FrameEncoder):
    """Mean of every band of a frame; values are small so that poolings are hand values."""

    feature_names = ("level", "other")

    def __init__(self):
        super().__init__(Preparation("none"))

    def encode_frames(self, frames):
        return np.nanmean(frames, axis=(2, 3))

    def provenance(self):
        return {"name": "levels"}


def pooled(chips, pooling, per_year=None):
    settings = SequenceSettings(pooling=pooling, per_year=per_year)
    encoder = FramePooling(Levels(), settings).fit(chips)
    return embed(chips, encoder)


@pytest.fixture
def chips_of_levels(make_chips):
    """(unit, time, band) levels to chips of 2 x 2 px."""

    def make(levels, years=None):
        levels = np.asarray(levels, dtype=float)
        return make_chips(np.broadcast_to(levels[..., None, None], (*levels.shape, 2, 2)), years)

    return make


LEVELS = [[[1.0, 10.0], [4.0, 8.0], [10.0, 0.0]]]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [5, 6]),
        ("last", [10, 0]),
        ("concatenate", [1, 10, 4, 8, 10, 0]),
        ("difference", [5, 6, 4.5, -5]),
        ("variance", [5, 6, 14, 56 / 3]),
        ("mean_sd", [5, 6, 14**0.5, (56 / 3) ** 0.5]),
    ],
)
def test_poolings_equal_hand_values(chips_of_levels, pooling, expected):
    found = pooled(chips_of_levels(LEVELS), pooling)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-6)


def test_the_difference_of_two_frames_equals_its_hand_value(chips_of_levels):
    chips = chips_of_levels([[[2.0, 1.0], [5.0, 1.5]]], [[2010.0, 2014.0]])
    np.testing.assert_allclose(pooled(chips, "difference", False).values[0], [3.5, 1.25, 3, 0.5])
    np.testing.assert_allclose(
        pooled(chips, "difference", True).values[0], [3.5, 1.25, 0.75, 0.125]
    )


def test_names_say_what_became_of_a_feature(chips_of_levels):
    names = {
        pooling: pooled(chips_of_levels(LEVELS), pooling)["feature"].values.tolist()
        for pooling in ("mean", "difference", "concatenate")
    }
    assert names["mean"] == ["level", "other"]
    assert names["difference"] == ["level", "other", "level_difference", "other_difference"]
    assert names["concatenate"][:3] == ["level_frame_1", "other_frame_1", "level_frame_2"]


def test_frames_are_taken_by_date_whatever_their_place(chips_of_levels):
    mixed = chips_of_levels([[LEVELS[0][2], LEVELS[0][0], LEVELS[0][1]]], [[2003.0, 2001, 2002]])
    for pooling in ("last", "concatenate", "difference"):
        np.testing.assert_array_equal(
            pooled(mixed, pooling).values, pooled(chips_of_levels(LEVELS), pooling).values
        )


def test_empty_and_undated_frames_are_left_out(chips_of_levels):
    levels = np.array(LEVELS * 3)
    levels[1, 1] = np.nan
    years = np.array([[2001.0, 2002, 2003]] * 3)
    years[2, 2] = np.nan
    found = pooled(chips_of_levels(levels, years), "last")
    np.testing.assert_array_equal(found.values, [[10, 0], [10, 0], [4, 8]])
    found = pooled(chips_of_levels(levels, years), "difference", per_year=False)
    np.testing.assert_allclose(found.values[1:, 2:], [[9, -10], [3, -2]])


def test_differences_are_per_year_where_a_missing_frame_makes_dates_irregular(chips_of_levels):
    levels = np.array(LEVELS * 2)
    assert pooled(chips_of_levels(levels), "difference").values[0, 2] == pytest.approx(4.5)
    levels[1, 1] = np.nan
    found = pooled(chips_of_levels(levels), "difference")
    assert found.values[1, 2] == pytest.approx(9 / 2)
    assert '"per_year": true' in found.attrs["provenance"]


def test_calendar_months_are_regular():
    starts = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]) / 365 + 2019
    assert not irregular(starts[None])
    assert irregular(np.delete(starts, 5)[None])
    assert irregular(np.array([[2000.0, 2001, np.nan], [2000, 2003, np.nan]]))
    with pytest.raises(DataError, match="no unit has two valid frames"):
        irregular(np.array([[2000.0, np.nan]]))


@pytest.mark.parametrize(("pooling", "needed"), [("difference", 2), ("mean_sd", 2), ("mean", 1)])
def test_units_with_too_few_frames_are_listed(chips_of_levels, pooling, needed):
    levels = np.array(LEVELS * 3)
    levels[1, needed - 1 :] = np.nan
    message = rf"1 of 3 units have fewer than the {needed} valid .* \(first: unit-1\)"
    with pytest.raises(DataError, match=message) as caught:
        pooled(chips_of_levels(levels), pooling)
    assert caught.value.facts["unit_ids"] == ["unit-1"]


def test_concatenation_needs_every_frame_and_the_same_number(chips_of_levels):
    levels = np.array(LEVELS * 2)
    levels[0, 1] = np.nan
    with pytest.raises(DataError, match="fewer than the 3 valid"):
        pooled(chips_of_levels(levels), "concatenate")
    settings = SequenceSettings(pooling="concatenate")
    encoder = FramePooling(Levels(), settings).fit(chips_of_levels(LEVELS))
    with pytest.raises(DataError, match="chips have 2 frames, the encoder was fitted on 3"):
        encoder.encode(to_batch(chips_of_levels(np.array(LEVELS)[:, :2])))


def test_two_frames_of_one_date_have_no_difference_per_year(chips_of_levels):
    chips = chips_of_levels(LEVELS * 2, [[2001.0, 2002, 2003], [2001, 2001, 2003]])
    with pytest.raises(DataError, match=r"1 of 2 units have two frames of one date.*unit-1"):
        pooled(chips, "difference", per_year=True)


def test_order_and_mask_are_valid_frames_first_by_date(chips_of_levels):
    levels = np.array(LEVELS)
    levels[0, 1] = np.nan
    order, valid = in_date_order(to_batch(chips_of_levels(levels, [[2003.0, 2001, 2002]])))
    np.testing.assert_array_equal(order, [[2, 0, 1]])
    np.testing.assert_array_equal(valid, [[True, True, False]])
