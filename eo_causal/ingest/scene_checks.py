"""Whether a catalog may be used: how much of it failed, and what to say when nothing is left."""

import math
from collections import Counter

import pandas as pd

from eo_causal.core.settings import Bounds, Period, month_start
from eo_causal.errors import CoverageError
from eo_causal.ingest.scene_table import SceneRow, gap_degrees


def days_from_period(row: SceneRow, period: Period | None) -> float:
    """Days before (negative) or after the period; 0 inside, or without dates to compare."""
    if period is None or pd.isna(row.datetime):
        return 0.0
    start, last = (pd.Timestamp(month_start(month)) for month in period)
    end = last + pd.offsets.MonthBegin(1) - pd.Timedelta(1, "ns")
    off = min(row.middle - start, pd.Timedelta(0)) + max(row.middle - end, pd.Timedelta(0))
    return off / pd.Timedelta(days=1)


def check_failed(rows: list[SceneRow], max_failed: float) -> None:
    """Stop when more than a share of the wanted bands cannot be used.

    Raises
    ------
    EOCausalError
        Of the class of the first failure; names the first three.
    """
    failures = [row.failure for row in rows if row.failure is not None]
    n_wanted = len(failures) + sum(row.status == "ok" for row in rows)
    if not failures or len(failures) / n_wanted <= max_failed:
        return
    reasons = " | ".join(dict.fromkeys(error.message for error in failures[:3]))
    raise type(failures[0])(
        f"{len(failures)} of {n_wanted} wanted bands cannot be used, first: {reasons} (data.max_failed"
        " allows a share of them.)", n_failed=len(failures), n_wanted=n_wanted, **failures[0].facts,
    )  # fmt: skip


def nothing_usable(
    rows: list[SceneRow], period: Period | None, bounds: Bounds | None
) -> CoverageError:
    """The error of an empty catalog: how many rows for which reason, and what is nearest."""
    reasons = Counter((row.reason or row.status).rstrip(".") for row in rows).most_common(5)
    told = "; ".join(f"{number} {reason}" for reason, number in reasons) or "there is no file"
    message = f"no usable scene among {len(rows)} bands: {told}."
    dated = [row for row in rows if days_from_period(row, period)]
    if dated and len(dated) == sum(not pd.isna(row.datetime) for row in rows):
        nearest = min(dated, key=lambda row: abs(days_from_period(row, period)))
        days = math.ceil(abs(days_from_period(nearest, period)))
        message += f" The nearest date is {nearest.middle:%Y-%m-%d}, {days} days off the period."
    gaps = [gap_degrees(row.bounds, bounds) for row in rows if bounds and math.isfinite(row.west)]
    if gaps and min(gaps) > 0:
        message += f" The nearest scene lies {min(gaps):.3g} degrees off the bounds."
    return CoverageError(f"{message} Widen period, bounds or max_cloud.", reasons=dict(reasons))
