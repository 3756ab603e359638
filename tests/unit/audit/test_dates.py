"""The date guard: which images are refused, to the day and to the moment."""

import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.audit.dates import date_guard, precision_of, scenes_of_chips
from eo_causal.errors import ConfigError, DataError, LeakageError, TableError


def scenes(*dates, ends=None, keys=None):
    table = pd.DataFrame(
        {
            "image_key": keys or ["a"] * len(dates),
            "item_id": [f"scene-{number}" for number in range(len(dates))],
            "datetime": list(dates),
        }
    )
    return table if ends is None else table.assign(datetime_end=list(ends))


def refused(*args, **kwargs):
    """Number of scenes the guard refuses."""
    try:
        return 0 if date_guard(*args, **kwargs).status == "pass" else -1
    except LeakageError as error:
        return error.facts["n_late"]


@pytest.mark.parametrize(
    ("scene", "start", "clean"),
    [
        # the boundary day, and the boundary moment
        ("2011-12-31", "2012-01-01", True),
        ("2012-01-01", "2012-01-01", False),
        ("2012-01-01", "2012-01-01T12:00:00Z", False),
        ("2012-01-01T08:00:00Z", "2012-01-01T08:00:00Z", False),
        ("2012-01-01T07:59:59Z", "2012-01-01T08:00:00Z", True),
        ("2012-01-01T10:00:00Z", "2012-01-01", False),
        # years and months are read against the user
        ("2011", "2012", True),
        ("2011", "2011-12-31", False),
        ("2012", "2012", False),
        ("2011-06", "2011-07", True),
        ("2011-06", "2011-06", False),
        ("2011-06", "2011-06-30", False),
        ("2011-06", "2011", False),
        ("2011-12", "2012", True),
        # time zones
        ("2012-01-01T01:00:00+03:00", "2012-01-01", True),
        ("2011-12-31T23:00:00-03:00", "2012-01-01", False),
        # other types
        (pd.Timestamp("2011-12-31"), datetime.date(2012, 1, 1), True),
        (np.datetime64("2012-01-01"), np.datetime64("2012-01-01"), False),
        (pd.Timestamp("2012-01-01", tz="Africa/Kampala"), 2012, True),
        (2011, 2012.0, True),
        (2012, 2012.0, False),
    ],
)
def test_a_scene_must_end_strictly_before_the_treatment(scene, start, clean):
    assert refused(scenes(scene), start) == (0 if clean else 1)


def test_every_late_scene_is_refused_and_no_clean_one():
    random = np.random.default_rng(0)
    days = pd.Timestamp("2012-01-01") + pd.to_timedelta(random.integers(-900, 900, 500), "D")
    table = scenes(*days, keys=[f"place-{i}" for i in random.integers(0, 40, 500)])
    table["item_id"] = np.arange(500).astype(str)
    late = set(table.loc[table["datetime"] >= "2012-01-01", "item_id"])
    with pytest.raises(LeakageError) as caught:
        date_guard(table, "2012-01-01")
    assert {row["item_id"] for row in caught.value.facts["scenes"]} == late
    assert date_guard(table[~table["item_id"].isin(late)], "2012-01-01").status == "pass"


def test_a_composite_counts_by_its_last_scene():
    assert refused(scenes("2011-06-30", ends=["2011-12-30"]), "2011-12-31") == 0
    assert refused(scenes("2011-06-30", ends=["2012-01-01"]), "2012-01-01") == 1
    assert refused(scenes("2011-06-30", ends=["2011-12"]), "2011-12-31") == 1
    # where there is no end, the date itself counts
    assert refused(scenes("2011-06-30", "2012-03-01", ends=["2011-07-01", None]), "2012") == 1


def test_undated_scenes_are_refused():
    assert refused(scenes("2010-01-01", None, pd.NaT, ""), "2012") == 3
    with pytest.raises(LeakageError, match="a, scene-0: no date"):
        date_guard(scenes(None), "2012")


def test_an_announcement_counts_when_it_is_earlier():
    table = scenes("2011-06-15")
    assert refused(table, "2012", announcement_date="2011-06") == 1
    assert refused(table, "2012", announcement_date="2011-06-16") == 0
    assert refused(table, "2011", announcement_date="2012") == 1
    assert refused(table, {"a": "2012"}, announcement_date={"a": "2011-06"}) == 1
    assert refused(table, {"a": "2012"}, announcement_date={"b": "2011-06"}) == 0


def test_the_lag_is_taken_off_the_start():
    table = scenes("2011-12-01")
    assert refused(table, "2012-01-01", lag_days=30) == 0
    assert refused(table, "2012-01-01", lag_days=31) == 1
    with pytest.raises(LeakageError, match=r"\(less 31 days\)"):
        date_guard(table, "2012-01-01", lag_days=31)


def test_controls_take_the_earliest_start_of_their_group_or_of_the_study():
    table = scenes(*["2012-06-01"] * 4, keys=["early", "late", "control", "matched"])
    units = pd.DataFrame(
        {
            "image_key": ["early", "late", "control", "matched"],
            "treatment_start": ["2012", "2014", None, None],
            "matched_group": ["g", "h", None, "h"],
        }
    )
    with pytest.raises(LeakageError) as caught:
        date_guard(table, units)
    assert {row["image_key"] for row in caught.value.facts["scenes"]} == {"early", "control"}
    with pytest.raises(LeakageError) as caught:
        date_guard(table, units.set_index("image_key")["treatment_start"])
    late = {row["image_key"] for row in caught.value.facts["scenes"]}
    assert late == {"early", "control", "matched"}
    assert refused(table, {"early": "2013", "late": "2014"}) == 0


def test_an_announcement_of_the_group_binds_its_controls():
    table = scenes("2012-06-01", keys=["matched"])
    units = pd.DataFrame(
        {
            "image_key": ["late", "matched"], "treatment_start": ["2014", None],
            "announcement_date": ["2012-05", None], "matched_group": ["h", "h"],
        }
    )  # fmt: skip
    assert refused(table, units) == 1
    assert refused(table, units.assign(announcement_date=["2013", None])) == 0
    assert refused(table, units.assign(announcement_date=["2013", "2012-05"])) == 1


def test_units_that_share_an_image_are_bound_by_the_earliest():
    units = pd.DataFrame({"image_key": ["a", "a"], "treatment_start": ["2014", "2012"]})
    assert refused(scenes("2013-01-01"), units) == 1


def test_the_index_of_the_scene_table_does_not_matter():
    table = scenes("2011", "2010").set_axis([7, 7])
    assert "closest (a) ends 2011-12-31" in date_guard(table, "2012").text
    assert refused(table, "2011") == 1


def test_allowed_leakage_stays_as_a_flag():
    report = date_guard(scenes("2011", "2013"), "2012", allow_leakage=True)
    assert (report.status, report.flags) == ("fail", ("post_treatment_imagery",))
    assert "1 of 2" in report.text
    assert report.table[["n_scenes", "n_late", "n_undated"]].to_numpy().tolist() == [[2, 1, 0]]


def test_a_clean_report_names_the_closest_image():
    table = scenes("2010-01-01", "2011-11-30", "2009", keys=["a", "b", "c"])
    report = date_guard(table, {"a": "2012", "b": "2014"})
    assert report.status == "pass"
    assert not report.flags
    assert "3 confounder images of 3 places" in report.text
    assert "closest (a) ends 2010-01-01, before 2012-01-01" in report.text
    assert report.table["must_precede"].dt.year.tolist() == [2012, 2014]
    assert report.table["n_image_keys"].tolist() == [2, 1]


def test_the_error_names_place_scene_both_dates_and_the_remedy():
    with pytest.raises(LeakageError) as caught:
        date_guard(scenes("2013-05-06", *["2014"] * 9), "2012-07")
    message = caught.value.message
    assert "10 of 10" in message
    assert "a, scene-0: ends 2013-05-06, treatment begins or is announced 2012-07-01" in message
    assert "scene-3" not in message
    assert "allow_leakage" in message
    assert len(caught.value.facts["scenes"]) == 10


@pytest.mark.parametrize(
    ("args", "kind", "match"),
    [
        ((scenes("2011"), "05/06/2012"), TableError, "treatment_start: '05/06/2012' is no date"),
        ((scenes("June 2011"), "2012"), TableError, "datetime: 'June 2011'.*YYYY-MM"),
        ((scenes("2011"), "9999-12-31"), TableError, "between 1900 and 2100"),
        ((scenes("2011-13"), "2012"), TableError, "2011-13"),
        ((scenes("2011", ends=["2010"]), "2012"), TableError, "before it begins"),
        ((scenes("2011"), None), DataError, "No unit has a treatment_start"),
        ((scenes("2011"), {"b": "2012"}), DataError, r"image keys of the scenes \(for example a\)"),
        ((scenes("2011"), pd.DataFrame({"image_key": ["a"]})), DataError, "treatment_start"),
        ((scenes(), "2012"), DataError, "0 rows"),
        ((scenes("2011").drop(columns="item_id"), "2012"), DataError, "item_id"),
        ((scenes("2011"), "2012", -1), ConfigError, "lag_days is -1"),
        ((scenes("2011"), "2012", np.nan), ConfigError, "lag_days is nan"),
    ],
)
def test_bad_input_is_named(args, kind, match):
    with pytest.raises(kind, match=match):
        date_guard(*args)


def chips(times, ends=None):
    times = np.array(times, dtype="datetime64[ns]")
    coords = {
        "image_key": ("unit", [f"key-{n}" for n in range(len(times))]),
        "datetime": (("unit", "time"), times),
    }
    if ends is not None:
        coords["datetime_end"] = ("unit", "time"), np.array(ends, dtype="datetime64[ns]")
    return xr.DataArray(np.zeros((*times.shape, 1)), dims=("unit", "time", "band"), coords=coords)


def test_filled_slots_of_chips_are_scenes():
    table = scenes_of_chips(chips([["2010-01-01", "2011-02-03"], ["2012-05-05", "NaT"]]))
    assert table["image_key"].tolist() == ["key-0", "key-0", "key-1"]
    assert table["item_id"].tolist() == ["slot 0", "slot 1", "slot 0"]
    assert (table["datetime_end"] == table["datetime"]).all()


def test_composites_among_chips_count_by_their_end():
    array = chips([["2011-07-01"]], ends=[["2011-12-20"]])
    assert refused(scenes_of_chips(array), "2011-12-21") == 0
    assert refused(scenes_of_chips(array), "2011-12-20") == 1


@pytest.mark.parametrize(("precision", "clean_from"), [("month", "2000-02-01"), ("year", "2001")])
def test_chips_dated_by_month_or_year_end_with_it(precision, clean_from):
    table = scenes_of_chips(chips([["2000-01-01"]]), precision)
    assert refused(table, clean_from) == 0
    day_before = pd.Timestamp(clean_from) - pd.Timedelta(1, "D")
    assert refused(table, day_before) == 1


@pytest.mark.parametrize(
    ("date_format", "precision"),
    [
        ("2000", "year"), ("2000-07", "month"), ("2000-07-01", "day"), ("%Y", "year"),
        ("%Y-%m", "month"), ("%b %Y", "month"), ("%Y%m%d", "day"), ("%Y%j", "day"),
        ("SYYYYDDDYYYYDDD", "day"),
    ],
)  # fmt: skip
def test_forms_of_dates_tell_their_precision(date_format, precision):
    assert precision_of(date_format) == precision
