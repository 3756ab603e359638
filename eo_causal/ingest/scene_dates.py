"""Dates in file names: read exactly as they are written, never guessed."""

import re
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from eo_causal.errors import EOCausalWarning, TimeAxisError

YEARS = (1900, 2100)
SPANS = {
    "SYYYYDDDYYYYDDD": (r"S?(\d{7})(\d{7})", "%Y%j"),
    "YYYYMMDD_YYYYMMDD": (r"(\d{8})_(\d{8})", "%Y%m%d"),
}


def parse_dates(
    path: Path, first: str, last: str | None, date_format: str
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Start and end of a scene from its name; the end is NaT where the name holds one date.

    Parameters
    ----------
    path : Path
        For messages.
    first, last : str
        What stands for the start, and for the end where it is apart.
    date_format : str
        Codes of ``strptime``, or a key of ``SPANS``, where ``first`` holds both.

    Raises
    ------
    TimeAxisError
        No such dates, or the end is before the start.
    """
    if date_format in SPANS:
        form, date_format = SPANS[date_format]
        match = re.fullmatch(form, first)
        if match is None:
            raise TimeAxisError(f"{path}: {first!r} is no pair of dates. Correct the pattern.")
        first, last = match.groups()
    start = parse_date(path, first, date_format)
    end = parse_date(path, last, date_format) if last else pd.NaT
    if end < start:
        raise TimeAxisError(
            f"{path}: ends ({end:%F}) before it begins ({start:%F}).", path=str(path)
        )
    return start, end


def parse_date(path: Path, text: str, date_format: str) -> pd.Timestamp:
    """A date that reads back as it was written, so that digits are never guessed.

    Warns
    -----
    EOCausalWarning
        ``DateWarning``: day 366 of a year of 365 days, read as 1 January (such names exist).
    """
    try:
        stamp = datetime.strptime(text, date_format)
    except ValueError:
        raise _no_date(path, text, date_format) from None
    if not YEARS[0] <= stamp.year <= YEARS[1]:
        raise _no_date(path, text, date_format)
    exact = stamp.strftime(date_format) == text
    day_before = (stamp - timedelta(days=1)).strftime(date_format.replace("%j", "366"))
    rolled = "%j" in date_format and day_before == text
    if not (exact or rolled):
        raise _no_date(path, text, date_format)
    if rolled and not exact:
        message = f"{path.name}: {text} is day 366 of a year of 365 days, read as {stamp:%Y-%m-%d}."
        warnings.warn(EOCausalWarning(message, "DateWarning"), stacklevel=2)
    return pd.Timestamp(stamp).as_unit("ns")


def _no_date(path: Path, text: str, date_format: str) -> TimeAxisError:
    return TimeAxisError(
        f"{path}: {text!r} is no date of the form {date_format}. Correct the pattern or the name.",
        path=str(path), value=text,
    )  # fmt: skip
