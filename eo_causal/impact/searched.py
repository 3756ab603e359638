"""A date found in the outcome itself: how large an effect does searching alone produce?"""

from dataclasses import replace

import numpy as np
import pandas as pd

from eo_causal.core.display import show_p
from eo_causal.core.progress import track
from eo_causal.core.random import generator
from eo_causal.errors import DataError, FitError
from eo_causal.impact.breakpoints import sup_f
from eo_causal.impact.check import ALPHA, CheckInput, CheckResult
from eo_causal.impact.exact import sample_parameters
from eo_causal.impact.fit import exact_effect
from eo_causal.impact.model import ImpactModel, build_model

N_SEARCHED = 199


def simulate_without_effect(
    model: ImpactModel, n_series: int, random: np.random.Generator
) -> pd.DataFrame:
    """Whole series (period, series) from the pre-period posterior, in the outcome's units.

    Periods that were not observed stay missing.
    """
    level_sd, noise_sd, coefficient = sample_parameters(model, n_series, random)
    shape = (n_series, len(model.index))
    steps = np.diff(model.offsets, prepend=0.0)
    level = np.cumsum(random.standard_normal(shape) * level_sd[:, None] * np.sqrt(steps), axis=1)
    noise = random.standard_normal(shape) * noise_sd[:, None]
    series = model.unscale(level + coefficient @ model.design.T + noise)
    series[:, ~np.isfinite(model.observed)] = np.nan
    return pd.DataFrame(series.T, index=model.index)


def searched_effects(
    model: ImpactModel, controls: pd.DataFrame, n_series: int, random: np.random.Generator
) -> pd.DataFrame:
    """In every simulated series: the best date by sup F, and the effect there.

    Returns
    -------
    DataFrame
        month, mean, sd, ...; a fit that is not possible has ``failed`` in place of numbers.
    """
    settings = model.settings.model_copy(update={"allow_event_gap": True})
    quiet = replace(model, settings=settings)
    rows = []
    for _, series in track(
        list(simulate_without_effect(quiet, n_series, random).items()), "searched dates"
    ):
        seen = series.dropna()
        plain = seen - seen.groupby(seen.index.month).transform("mean")
        _, place = sup_f(plain.to_numpy()[None, :])
        start = seen.index[int(place[0])]
        row: dict[str, object] = {"month": f"{start:%Y-%m}"}
        try:
            row |= exact_effect(build_model(series, controls, settings, start))
        except (DataError, FitError) as error:
            row["failed"] = error.message
        rows.append(row)
    return pd.DataFrame(rows)


def search_adjusted(given: CheckInput) -> CheckResult:
    """Is the effect larger than what searching a series without an effect for a date gives?"""
    model = build_model(given.outcome, given.controls, given.settings)
    table = searched_effects(
        model, given.controls, N_SEARCHED, generator(given.seed, "search_adjusted")
    )
    fitted = table[table["mean"].notna()] if "mean" in table else table.iloc[:0]
    n = len(fitted)
    if n < N_SEARCHED // 2:
        text = f"Not possible: {n} of {len(table)} simulated series could be fitted."
        return CheckResult("search_adjusted", None, text, table, {"n": n, "p_value": None})
    own = abs(given.headline["mean"]) / given.headline["sd"]
    larger = int((~(fitted["mean"].abs() / fitted["sd"] < own)).sum())  # NaN counts as larger
    p_value = (larger + 1) / (n + 1)
    text = (
        f"In {n} series simulated without an effect the best date gives an effect as large, relative"
        f" to its uncertainty, in {larger} (p {show_p(p_value)} after allowing for the search)."
    )
    summary = {"n": n, "n_larger": larger, "p_value": p_value, "n_failed": len(table) - n}
    return CheckResult("search_adjusted", p_value <= ALPHA, text, table, summary)
