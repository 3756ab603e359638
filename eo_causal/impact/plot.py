"""The three-panel figure of an impact result."""

from typing import Any

import numpy as np
import pandas as pd

OBSERVED = "#1b2a41"
MODEL = "#2a7ab0"
EFFECT = "#b5442e"


def plot_impact(series: pd.DataFrame, units: str, intervention: str) -> Any:
    """Observed and counterfactual, pointwise effect, cumulative effect.

    Parameters
    ----------
    series : DataFrame
        As ``ImpactResult.series``, in ``units``.
    units : str
        Shown on the axes.
    intervention : str
        First post period; drawn as a dashed line.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 7.6), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    time = series.index.to_numpy()
    start = np.datetime64(intervention)
    post = time >= start
    top.fill_between(
        time, series["point_pred_lower"], series["point_pred_upper"], color=MODEL, alpha=0.22, lw=0
    )
    top.plot(time, series["point_pred"], color=MODEL, lw=1.2, ls="--", label="expected without")
    top.plot(time, series["response"], color=OBSERVED, lw=1.2, label="observed")
    top.set_ylabel(f"outcome ({units})")
    top.legend(loc="upper left", frameon=False, ncols=2)
    middle.fill_between(
        time,
        series["point_effect_lower"],
        series["point_effect_upper"],
        color=EFFECT,
        alpha=0.2,
        lw=0,
    )
    middle.plot(time, series["point_effect"], color=EFFECT, lw=1.0)
    middle.set_ylabel(f"difference ({units})")
    bottom.fill_between(
        time[post], series["cum_effect_lower"][post], series["cum_effect_upper"][post],
        color=EFFECT, alpha=0.2, lw=0,
    )  # fmt: skip
    bottom.plot(time, series["cum_effect"], color=EFFECT, lw=1.4)
    bottom.set_ylabel(f"cumulative ({units})")
    for axis in (top, middle, bottom):
        axis.axvline(start, color="0.35", ls=(0, (4, 3)), lw=1)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
    for axis in (middle, bottom):
        axis.axhline(0, color="0.6", lw=0.8)
    return figure
