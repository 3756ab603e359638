"""Which dates of a place are kept, and what a period's composite is made of."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chip_slots import Frame, observed_slots, period_slots, solar_days

ANYTHING = {"min_valid_fraction": 0.0}


def frame(day, value=1.0, valid=1.0, bands=1):
    """Ten pixels, the first ``valid`` share of them with a value."""
    values = np.full((bands, 1, 10), np.nan, np.float32)
    values[:, 0, : round(valid * 10)] = value
    return Frame(np.datetime64(day, "ns"), np.datetime64(day, "ns"), values)


def days_of(filled):
    return [str(item.time)[:10] for _, item in filled.slots]


def kept(frames, longitude=0.0, **settings):
    return observed_slots(frames, longitude, ChipSettings(**settings))


def test_solar_days_begin_at_the_place_s_own_midnight():
    times = np.array(["2020-01-01T23:30"] * 3 + ["1969-12-31T12:00"], "datetime64[ns]")
    days = solar_days(times, np.array([0.0, 15.0, -179.0, 0.0]))
    assert days.tolist() == [18262, 18263, 18262, -1]


def test_slots_are_in_order_of_time_and_poor_dates_are_emptied():
    frames = [frame("2020-05-01"), frame("2019-05-01"), frame("2018-05-01", valid=0.4)]
    filled = kept(frames)
    assert days_of(filled) == ["2019-05-01", "2020-05-01"]
    assert [slot for slot, _ in filled.slots] == [0, 1]
    assert (filled.n_emptied, filled.n_dropped) == (1, 0)


def test_a_date_without_any_pixel_is_never_a_slot():
    filled = kept([frame("2020-01-01", valid=0)], **ANYTHING)
    assert (filled.slots, filled.n_emptied) == ([], 1)
    assert kept([]).slots == []


def test_images_of_one_solar_day_are_one_slot_the_clearest_first():
    poor, clear = frame("2020-01-01T20:00", 1.0, 0.9), frame("2020-01-02T02:00", 2.0, 0.5)
    clear.values[:] = clear.values[..., ::-1]
    (_, merged), *others = kept([clear, poor], longitude=-120.0).slots
    assert not others
    np.testing.assert_array_equal(merged.values[0, 0], [1] * 9 + [2])
    assert (merged.n_images, merged.valid_fraction) == (2, 1.0)
    assert merged.time == np.datetime64("2020-01-01T20:00")
    assert len(kept([clear, poor], longitude=0.0).slots) == 2


def test_merged_pixels_have_all_bands_from_one_image():
    first, second = (
        frame("2020-01-01T10:00", 1.0, 0.9, bands=2),
        frame("2020-01-01T11:00", 2.0, bands=2),
    )
    first.values[1, 0, 0] = np.nan
    second.values[:, 0, 5:] = np.nan
    (_, merged), *_ = kept([second, first]).slots
    assert merged.values[:, 0, 0].tolist() == [2, 2]
    assert merged.values[:, 0, 1].tolist() == [1, 1]


def test_few_slots_are_spread_evenly_or_are_the_clearest_or_the_latest():
    frames = [frame(f"20{year}-01-01", valid=valid) for year, valid in
              zip(range(10, 20), [0.6, 1, 0.7, 0.7, 0.9, 0.7, 0.7, 1, 0.7, 0.8], strict=True)]  # fmt: skip
    years = {
        select: [day[2:4] for day in days_of(kept(frames, max_slots=4, select=select))]
        for select in ("evenly", "clearest", "latest")
    }
    assert years["evenly"] == ["10", "13", "16", "19"]
    assert years["clearest"] == ["11", "14", "17", "19"]
    assert years["latest"] == ["16", "17", "18", "19"]
    assert kept(frames, max_slots=4).n_dropped == 6


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("evenly", ["2020-01-01", "2020-01-11"]),
        ("latest", ["2020-01-06", "2020-01-16"]),
        ("clearest", ["2020-01-06", "2020-01-16"]),
    ],
)
def test_slots_are_as_many_days_apart_as_asked(select, expected):
    valid = {1: 0.6, 6: 1.0, 11: 0.8, 16: 0.7}
    frames = [frame(f"2020-01-{day:02}", valid=share) for day, share in valid.items()]
    filled = kept(frames, select=select, min_separation_days=10)
    assert days_of(filled) == expected
    assert len(kept(frames, min_separation_days=5).slots) == 4


def periods(*months):
    return pd.DatetimeIndex([f"2020-{month:02}-01" for month in months]).as_unit("ns")


def test_composites_by_period_and_the_mean_time_of_what_was_used():
    frames = [frame("2020-03-21", 5.0), frame("2020-01-05", 1.0), frame("2020-01-15", 3.0, 0.8),
              frame("2020-01-20", 9.0, 0.0)]  # fmt: skip
    filled = period_slots(frames, periods(1, 2, 3), ChipSettings(time="periods", method="mean"))
    assert [slot for slot, _ in filled.slots] == [0, 2]
    january = filled.slots[0][1]
    np.testing.assert_array_equal(january.values[0, 0], [2] * 8 + [1] * 2)
    assert (january.time, january.n_images) == (np.datetime64("2020-01-10"), 2)
    assert january.end == np.datetime64("2020-01-15")


def test_the_first_of_a_period_is_the_earliest_whatever_the_order_of_the_scenes():
    frames = [frame("2020-01-25", 3.0), frame("2020-01-05", 1.0, 0.5), frame("2020-01-15", 2.0)]
    settings = ChipSettings(time="periods", method="first")
    image = period_slots(frames, periods(1), settings).slots[0][1]
    np.testing.assert_array_equal(image.values[0, 0], [1] * 5 + [2] * 5)
    medoid = period_slots(
        frames[:1] + frames[2:], periods(1), settings.model_copy(update={"method": "medoid"})
    )
    assert medoid.slots[0][1].values[0, 0, 0] == 2


def test_a_period_of_clouds_has_no_slot():
    filled = period_slots([frame("2020-01-05", valid=0)], periods(1), ChipSettings(time="periods"))
    assert filled.slots == []
    poor = period_slots([frame("2020-01-05", valid=0.3)], periods(1), ChipSettings(time="periods"))
    assert (poor.slots, poor.n_emptied) == ([], 1)
