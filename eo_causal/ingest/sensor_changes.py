"""Steps and rival explanations where the set of sensors behind a record changes."""

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.settings import Month
from eo_causal.errors import EOCausalWarning

FEWEST_MONTHS = 12


def sensor_steps(
    series: pd.Series, boundaries: tuple[Month, ...], window: int = 36
) -> pd.DataFrame:
    """Step of a merged series at each change of sensors.

    Ordinary least squares of the ``window`` months on either side on a constant, a step, a line in
    time and one annual harmonic, with Newey-West (1987) standard errors, lag 4 (T/100)^(2/9).

    Parameters
    ----------
    series : Series
        Monthly, for example a zone's ln Kd490; NaN = missing.
    boundaries : tuple of str
        First month with the new set of sensors, ``YYYY-MM``.
    window : int
        Months on either side.

    Returns
    -------
    DataFrame
        Per boundary ``month``, ``step``, ``std_error``, ``t`` and ``n_months``; NaN where fewer
        than 12 months are observed on either side.
    """
    rows = []
    for month in boundaries:
        start = pd.Timestamp(month)
        first, end = start - pd.DateOffset(months=window), start + pd.DateOffset(months=window)
        near = series[(series.index >= first) & (series.index < end)].dropna()
        after = np.asarray(near.index >= start)
        step, error = np.nan, np.nan
        if min(after.sum(), (~after).sum()) >= FEWEST_MONTHS:
            step, error = _newey_west_step(near, after)
        t = step / error if error > 0 else np.nan
        rows.append([month, step, error, t, len(near)])
    return pd.DataFrame(rows, columns=["month", "step", "std_error", "t", "n_months"])


def warn_sensor_changes(
    sensor_changes: tuple[Month, ...], intervention: Month, n_months: int = 12
) -> None:
    """Warn of sensor changes of an already merged product close to the intervention.

    They cannot be corrected from the merged values, and are a rival explanation of any step there.
    """
    event = pd.Period(intervention, "M").ordinal
    near = [
        month for month in sensor_changes
        if abs(pd.Period(month, "M").ordinal - event) <= n_months
    ]  # fmt: skip
    if near:
        message = (
            f"the product changed sensors in {', '.join(near)}, within {n_months} months of the"
            f" intervention ({intervention}). A step there may be the sensors', not the water's."
        )
        warnings.warn(EOCausalWarning(message, "SensorChangeWarning"), stacklevel=2)


def _newey_west_step(near: pd.Series, after: NDArray[np.bool_]) -> tuple[float, float]:
    """Coefficient of the step and its standard error."""
    values = near.to_numpy(dtype=float)
    months = near.index.to_period("M").astype(np.int64).to_numpy()
    angle, time = 2 * np.pi * months / 12, (months - months.mean()) / 12
    design = np.column_stack([np.ones(len(time)), after, time, np.sin(angle), np.cos(angle)])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ values
    scores = design * (values - design @ coefficients)[:, None]
    n_lags = int(4 * (len(values) / 100) ** (2 / 9))
    middle = scores.T @ scores
    for lag in range(1, n_lags + 1):
        shifted = scores[lag:].T @ scores[:-lag]
        middle += (1 - lag / (n_lags + 1)) * (shifted + shifted.T)
    variance = (inverse @ middle @ inverse)[1, 1]
    return float(coefficients[1]), float(np.sqrt(variance))
