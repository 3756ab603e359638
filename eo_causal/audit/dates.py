"""The date guard: an image that stands for confounders must be older than the treatment."""

import datetime
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.audit.report import AuditReport
from eo_causal.errors import ConfigError, DataError, LeakageError, TableError

Date = str | float | datetime.date | np.datetime64
Precision = Literal["day", "month", "year"]
YEARS = (1900, 2100)
N_SHOWN = 3
_PERIOD: dict[Precision, str] = {"day": "D", "month": "M", "year": "Y"}
_DAY, _MOMENT = pd.Timedelta(1, "D"), pd.Timedelta(1, "ns")


def date_guard(
    scenes: pd.DataFrame,
    treatment_start: "Date | pd.Series | Mapping[str, Date] | pd.DataFrame",
    lag_days: float = 0,
    announcement_date: "Date | pd.Series | Mapping[str, Date] | None" = None,
    allow_leakage: bool = False,
) -> AuditReport:
    """Refuse confounder images that may already show the treatment.

    Each scene must satisfy ``datetime_end < min(treatment_start, announcement_date) - lag_days``,
    strictly. Dates are UTC. A date without a time (year, month, day, or a time of exactly 00:00) is
    read against the user: scenes end with its last moment, treatments start with its first.

    Parameters
    ----------
    scenes : DataFrame
        One row per place and scene that serves it: ``image_key``, ``item_id``, ``datetime`` and,
        for composites, ``datetime_end`` of the last scene in them; timestamps, or ISO 8601 texts
        (``YYYY``, ``YYYY-MM``, ``YYYY-MM-DD``, or with time and zone). See :func:`scenes_of_chips`.
    treatment_start : date, Series, mapping or DataFrame
        One date for the study; or one per image key; or a table of units with ``image_key``,
        ``treatment_start`` and, where they exist, ``announcement_date`` and ``matched_group``.
        The earliest unit of an image key counts. Places without a start are controls: they take the
        earliest start of their matched group, else of the study.
    lag_days : float
        Days before the start from which images may show preparations.
    announcement_date : date, Series or mapping, optional
        When the treatment became known; one date, or one per image key.
    allow_leakage : bool
        Report late scenes with status ``fail`` and the flag ``post_treatment_imagery`` instead of
        refusing them.

    Returns
    -------
    AuditReport
        One row per distinct date that images must precede: ``must_precede``, ``n_image_keys``,
        ``n_scenes``, ``n_late``, ``n_undated``, ``last_scene``.

    Raises
    ------
    LeakageError
        Scenes that are too late or have no date; all are in its fact ``scenes``.
    TableError
        A value that is no date, a scene that ends before it begins.
    DataError
        No scene, no start, or a column that is missing.
    ConfigError
        A negative lag.
    """
    if not lag_days >= 0:
        raise ConfigError(f"lag_days is {lag_days}; it must be 0 or more.", lag_days=lag_days)
    found = _with_ends(scenes)
    keys = found["image_key"].unique()
    starts = _starts(keys, treatment_start, announcement_date)
    found["treatment_start"] = found["image_key"].map(starts)
    found["must_precede"] = found["treatment_start"] - pd.Timedelta(days=lag_days)
    # NaT is before nothing, so that undated scenes are refused too
    late = found[~(found["datetime_end"] < found["must_precede"])]
    if len(late) == 0:
        return AuditReport("date_guard", "pass", _all_before(found), _by_limit(found))
    text = _late_text(late, len(found), lag_days)
    if not allow_leakage:
        raise LeakageError(
            f"{text} Leave these scenes out of data.period, or set allow_leakage: true, which marks"
            " every table.",
            n_late=len(late),
            scenes=late.drop(columns="must_precede").to_dict("records"),
        )
    flags = ("post_treatment_imagery",)
    return AuditReport("date_guard", "fail", text, _by_limit(found), flags)


def scenes_of_chips(chips: xr.DataArray, precision: Precision = "day") -> pd.DataFrame:
    """Scene table of chips that stand for confounders, for :func:`date_guard`.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
        With ``image_key (unit)``, ``datetime (unit, time)`` (NaT = empty slot) and, where slots may
        be composites, ``datetime_end (unit, time)``.
    precision : str
        To what the dates were known when they were written: images dated by year or month end with
        its last day (see :func:`precision_of`).

    Returns
    -------
    DataFrame
        image_key, item_id (``slot 0``, ...), datetime, datetime_end; one row a filled slot.
    """
    times = chips["datetime"].to_numpy()
    ends = chips["datetime_end"].to_numpy() if "datetime_end" in chips.coords else times
    unit, slot = np.nonzero(~np.isnat(times))
    end = pd.Series(pd.DatetimeIndex(ends[unit, slot]).as_unit("ns"))
    if precision != "day":
        end = end.dt.to_period(_PERIOD[precision]).dt.end_time
    return pd.DataFrame(
        {
            "image_key": chips["image_key"].to_numpy().astype(str)[unit],
            "item_id": np.char.add("slot ", slot.astype(str)),
            "datetime": pd.DatetimeIndex(times[unit, slot]).as_unit("ns"),
            "datetime_end": end,
        }
    )


def precision_of(date_format: str) -> Precision:
    """To what a date of this form is known: ``2000``, ``2000-07``, or codes of ``strptime``.

    >>> precision_of("2000"), precision_of("%Y%m"), precision_of("%Y%j")
    ('year', 'month', 'day')
    """
    if "%" not in date_format:
        return "year" if len(date_format) == 4 else "month" if len(date_format) == 7 else "day"
    codes = set(re.findall(r"%(\w)", date_format))
    if codes & set("djxc"):
        return "day"
    return "month" if codes & set("mbB") else "year"


def _with_ends(scenes: pd.DataFrame) -> pd.DataFrame:
    """Text keys, item_id, datetime (first moment) and datetime_end (last moment); UTC."""
    missing = {"image_key", "item_id", "datetime"} - set(scenes.columns)
    if missing or len(scenes) == 0:
        raise DataError(
            f"The scene table has {len(scenes)} rows and the columns {', '.join(scenes.columns)}. It"
            " needs one row per place and scene with image_key, item_id and datetime.",
            missing=sorted(missing),
        )
    scenes = scenes.reset_index(drop=True)
    ends = own = _moments(scenes["datetime"], "datetime", last=True)
    if "datetime_end" in scenes:
        ends = _moments(scenes["datetime_end"], "datetime_end", last=True).fillna(own)
    found = pd.DataFrame(
        {
            "image_key": scenes["image_key"].astype(str),
            "item_id": scenes["item_id"].astype(str),
            "datetime": _moments(scenes["datetime"], "datetime", last=False),
            "datetime_end": ends,
        }
    )
    backwards = found[found["datetime_end"] < found["datetime"]]
    if len(backwards):
        row = backwards.iloc[0]
        raise TableError(
            f"Scene {row['item_id']} of {row['image_key']} ends ({row['datetime_end']:%Y-%m-%d}) before"
            f" it begins ({row['datetime']:%Y-%m-%d}); {len(backwards)} such rows. Correct its dates.",
            n=len(backwards),
        )
    return found


def _starts(keys: Any, treatment_start: Any, announcement_date: Any) -> pd.Series:
    """When the treatment began or became known, by image key."""
    units = _unit_table(keys, treatment_start)
    start = _moments(units["treatment_start"], "treatment_start", last=False)
    if start.isna().all():
        raise DataError(
            "No unit has a treatment_start. Give one date, or one for each treated unit."
        )
    known = _moments(units["announcement_date"], "announcement_date", last=False)
    if announcement_date is not None:
        announced = _by_key(keys, announcement_date, "announcement_date")
        known = units["image_key"].map(announced.groupby(level=0).min())
    first = start.where(~(known < start), known)
    earliest = first.min()
    of_group = first.groupby(units["matched_group"]).transform("min")
    first = first.fillna(of_group).fillna(earliest)
    first = first.where(~(known < first), known)
    return first.groupby(units["image_key"]).min().reindex(keys).fillna(earliest)


def _unit_table(keys: Any, treatment_start: Any) -> pd.DataFrame:
    """One row a unit: image_key (text), treatment_start, announcement_date, matched_group."""
    if isinstance(treatment_start, pd.DataFrame):
        units = treatment_start
    else:
        starts = _by_key(keys, treatment_start, "treatment_start")
        units = pd.DataFrame({"image_key": starts.index, "treatment_start": starts.to_numpy()})
    missing = {"image_key", "treatment_start"} - set(units.columns)
    if missing or not units["image_key"].astype(str).isin(keys).any():
        raise DataError(
            "Treatment starts need the columns image_key and treatment_start and the image keys of the"
            f" scenes (for example {keys[0]}); they have {len(units)} rows of {', '.join(units.columns)}."
            " Correct them, or give one date.", columns=list(units.columns),
        )  # fmt: skip
    columns = ["image_key", "treatment_start", "announcement_date", "matched_group"]
    units = pd.DataFrame(units).reindex(columns=columns).reset_index(drop=True)
    return units.assign(image_key=units["image_key"].astype(str))


def _by_key(keys: Any, dates: Any, name: str) -> pd.Series:
    """First moments by image key, of one date for all or of several."""
    several = isinstance(dates, pd.Series | Mapping)
    series = pd.Series(dates if several else dict.fromkeys(keys, dates))
    return _moments(series.set_axis(series.index.astype(str)), name, last=False)


def _moments(values: pd.Series, name: str, *, last: bool) -> pd.Series:
    """First or last moment of each date, UTC without zone; NaT where there is none."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        values = values.map({date: _stamp(date, name, last) for date in values.dropna().unique()})
    stamps = pd.to_datetime(values, utc=True).dt.tz_localize(None).astype("datetime64[ns]")
    if not last:
        return stamps
    return stamps.where(stamps != stamps.dt.normalize(), stamps + _DAY - _MOMENT)


def _stamp(value: Any, name: str, last: bool) -> pd.Timestamp:
    """A date as UTC; of a year or month its first or last day."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    text = text.strip()
    if not text:
        return pd.NaT
    try:
        if re.fullmatch(r"\d{4}-\d\d|\d{4}", text):
            period = pd.Period(text, "Y" if len(text) == 4 else "M")
            stamp = period.end_time.normalize() if last else period.start_time
        else:
            stamp = pd.Timestamp(datetime.datetime.fromisoformat(text))
    except ValueError:
        raise _no_date(value, name) from None
    if not YEARS[0] <= stamp.year <= YEARS[1]:
        raise _no_date(value, name)
    return stamp.tz_convert("UTC") if stamp.tz else stamp.tz_localize("UTC")


def _no_date(value: Any, name: str) -> TableError:
    return TableError(
        f"{name}: {value!r} is no date between {YEARS[0]} and {YEARS[1]}. Write YYYY, YYYY-MM,"
        " YYYY-MM-DD or a full ISO 8601 time; leave it empty where there is none.",
        column=name, value=str(value),
    )  # fmt: skip


def _by_limit(found: pd.DataFrame) -> pd.DataFrame:
    groups = found.assign(
        late=found["datetime_end"] >= found["must_precede"], undated=found["datetime_end"].isna()
    ).groupby("must_precede")
    return groups.agg(
        n_image_keys=("image_key", "nunique"), n_scenes=("item_id", "size"), n_late=("late", "sum"),
        n_undated=("undated", "sum"), last_scene=("datetime_end", "max"),
    ).reset_index()  # fmt: skip


def _all_before(found: pd.DataFrame) -> str:
    gap = found["must_precede"] - found["datetime_end"]
    row = found.loc[gap.idxmin()]
    return (
        f"All {len(found):,} confounder images of {found['image_key'].nunique():,} places are older than"
        f" the treatment; the closest ({row['image_key']}) ends {row['datetime_end']:%Y-%m-%d}, before"
        f" {row['must_precede']:%Y-%m-%d}."
    )


def _late_text(late: pd.DataFrame, n_scenes: int, lag_days: float) -> str:
    shown = [
        f"{row.image_key}, {row.item_id}: "
        + ("no date" if row.datetime_end is pd.NaT else f"ends {row.datetime_end:%Y-%m-%d}")
        + f", treatment begins or is announced {row.treatment_start:%Y-%m-%d}"
        for row in late.head(N_SHOWN).itertuples()
    ]
    lag = f" (less {lag_days:g} days)" if lag_days else ""
    return (
        f"{len(late):,} of {n_scenes:,} confounder images are not known to be older than the"
        f" treatment{lag}; first: {'; '.join(shown)}."
    )
