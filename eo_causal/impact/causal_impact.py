"""The entry point users of CausalImpact know: a table, two periods, an answer."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.errors import ConfigError, DataError
from eo_causal.impact.counterfactual import ImpactResult
from eo_causal.impact.fit import fit_impact
from eo_causal.impact.model import ImpactSettings

Period = tuple[Any, Any] | list[Any]
FIRST_DATE = "2000-01-01"  # dates that stand for the rows of a table without dates


def causal_impact(
    data: pd.DataFrame,
    pre_period: Period,
    post_period: Period,
    alpha: float = 0.05,
    *,
    seed: int = 0,
    units: str = "1",
    **settings: Any,
) -> ImpactResult:
    """Effect of an intervention on the first column, given the others as controls.

    Parameters
    ----------
    data : DataFrame (time, 1 + controls)
        Outcome first. The index holds regular dates, or anything else when periods are given as
        integers.
    pre_period, post_period : pair
        First and last index label, both included: dates, or integer row labels. Rows between the
        two periods are left out of both.
    alpha : float
        Tail probability; intervals hold 1 - alpha.
    seed : int
        Seed of the draws.
    units : str
        Units of the outcome.
    **settings
        Fields of :class:`~eo_causal.impact.model.ImpactSettings`. ``season`` is "none" unless
        given; ``prior="r_like"`` takes the priors of the R package (Brodersen et al. 2015).

    Returns
    -------
    ImpactResult
        With ``summary()``, ``report()``, ``plot()``; ``series`` carries the index of ``data``.

    Raises
    ------
    ConfigError
        Periods outside the table, empty or overlapping; unknown settings.
    DataError
        See :func:`eo_causal.impact.model.build_model`.
    """
    table = _from(data, pre_period, post_period)
    labels = table.index
    pre_end, start = _end_and_start(labels, pre_period, post_period)
    dated = table.set_axis(_dates(labels, len(table)))
    outcome = dated.iloc[:, 0].astype(float)
    outcome.iloc[pre_end:start] = np.nan
    chosen = ImpactSettings.model_validate(
        {"season": "none", "allow_event_gap": True, "covariates": ()}
        | settings
        | {"intervention": f"{dated.index[start]:%Y-%m}", "interval_level": 1 - alpha}
    )
    result = fit_impact(
        outcome, dated.iloc[:, 1:], chosen, seed=seed, intervention=dated.index[start], units=units
    )
    return dataclasses.replace(
        result,
        series=result.series.set_axis(labels.rename(labels.name or "time")),
        diagnostics=result.diagnostics | {"intervention": _shown(labels[start])},
    )


def _from(data: pd.DataFrame, pre_period: Period, post_period: Period) -> pd.DataFrame:
    """The rows from the start of the pre to the end of the post period."""
    if not isinstance(data, pd.DataFrame) or data.shape[1] == 0:
        raise DataError("causal_impact needs a DataFrame with the outcome in its first column.")
    if len(pre_period) != 2 or len(post_period) != 2:
        raise ConfigError(
            f"pre_period {pre_period!r} and post_period {post_period!r} must be pairs (first, last)."
        )
    if not data.index.is_monotonic_increasing:
        data = data.sort_index()
    found = data.loc[_label(data, pre_period[0]) : _label(data, post_period[1])]
    if not len(found):
        raise ConfigError(
            f"pre_period, post_period: no row lies from {pre_period[0]!r} to {post_period[1]!r}; the"
            f" table runs from {data.index[0]} to {data.index[-1]}."
        )
    return found


def _end_and_start(labels: pd.Index, pre: Period, post: Period) -> tuple[int, int]:
    """Position after the last pre row, and of the first post row."""
    frame = pd.DataFrame(index=labels)
    end = int(labels.searchsorted(_label(frame, pre[1]), side="right"))
    start = int(labels.searchsorted(_label(frame, post[0]), side="left"))
    if not 0 < end <= start < len(labels):
        raise ConfigError(
            f"pre_period {pre[0]} to {pre[1]} and post_period {post[0]} to {post[1]} must not be"
            " empty, overlap, or lie outside the table. The post period starts after the pre ends."
        )
    return end, start


def _label(data: pd.DataFrame, value: Any) -> Any:
    return pd.Timestamp(value) if isinstance(data.index, pd.DatetimeIndex) else value


def _dates(labels: pd.Index, n: int) -> pd.DatetimeIndex:
    if isinstance(labels, pd.DatetimeIndex):
        return labels
    return pd.date_range(FIRST_DATE, periods=n, freq="D")


def _shown(label: Any) -> str:
    return f"{label:%Y-%m-%d}" if isinstance(label, pd.Timestamp) else str(label)
