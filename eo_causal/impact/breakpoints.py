"""When did a series change? Three searches, their consensus, and a test that admits the search.

A breakpoint is the first month of a new regime. The searches and the consensus rule follow arXiv
2603.07331 and are what ``paper`` mode reports. They always find something, so the default reports
the best single date only where it passes a test that allows for the search and for autocorrelation,
on series without their seasonal cycle; the consensus stands beside it, both ways.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.display import show_p
from eo_causal.core.effect import Effect
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, DataError
from eo_causal.impact.nonparametric import (
    before_after,
    block_bootstrap_step,
    fit_autoregression,
    newey_west_step,
    sieve_samples,
)

Floats = NDArray[np.float64]
MIN_SIZE = 3
TRIM = 0.15
MAX_P = 0.05
BLOCK = 12


class BreakSettings(Settings):
    """Searches, consensus and the search-adjusted test."""

    deseasonalise: bool = Field(default=True, description="remove month-of-year means first")
    tolerance: Annotated[int, Field(ge=0)] = Field(
        default=5, description="months within which two methods agree"
    )
    penalty: Annotated[float, Field(gt=0)] = Field(default=10.0, description="PELT penalty")
    max_breaks: Annotated[int, Field(ge=0, le=20)] = 8
    n_bootstrap: Annotated[int, Field(ge=99)] = Field(default=999, description="sieve samples")


@dataclass(frozen=True)
class BreakpointResult:
    """Breakpoints of every zone.

    Attributes
    ----------
    breaks : dict
        Zone -> months ("YYYY-MM"). Paper mode: on which at least two of three methods agree.
        Default: the date of the largest F statistic where its adjusted p-value is at most 0.05.
    candidates : DataFrame
        zone, treatment (raw or deseasonalised), method (consensus among them), index, month.
    statistics : DataFrame
        Per zone and break: before/after differences, not adjusted for searching.
    search : DataFrame
        Per zone: sup F, its p-value adjusted for searching and autocorrelation, month, interval.
    raw_difference_in_differences : tuple of Effect
        (impact after - before) - (control after - before), units of the series; with a Newey-West
        interval, then with one of a moving-block bootstrap where the series is long enough.
    text : str
        What was found, in one sentence a zone.
    """

    breaks: dict[str, list[str]]
    candidates: pd.DataFrame
    statistics: pd.DataFrame
    search: pd.DataFrame
    raw_difference_in_differences: tuple[Effect, ...]
    text: str


def find_breakpoints(
    zones: xr.Dataset,
    impact: str,
    controls: tuple[str, ...],
    intervention: str,
    settings: BreakSettings,
    mode: Literal["default", "paper"],
    *,
    seed: int,
) -> BreakpointResult:
    """Search every impact and control zone for breaks.

    Parameters
    ----------
    zones : Dataset
        ``kd490 (zone, time)``, m-1; missing months are left out and counted.
    impact, controls
        Zone names.
    intervention : str
        Month of the raw difference in differences.
    mode : {"default", "paper"}
        ``paper`` searches the raw series only.
    """
    months = zones["time"].to_index()
    if not months[0] < pd.Timestamp(intervention) <= months[-1]:
        raise ConfigError(
            f"impact.intervention: {intervention} does not lie within the data, {months[0]:%Y-%m} to"
            f" {months[-1]:%Y-%m}.", intervention=intervention,
        )  # fmt: skip
    breaks: dict[str, list[str]] = {}
    candidates, statistics, search = [], [], []
    headline = "raw" if mode == "paper" or not settings.deseasonalise else "deseasonalised"
    for zone in (impact, *controls):
        series = zones["kd490"].sel(zone=zone).to_series()
        count(months_missing=int(series.isna().sum()), zones_searched=1)
        series = series.dropna()
        if len(series) < 5 * MIN_SIZE:
            raise DataError(
                f"zone {zone!r}: {len(series)} months are too few to search for breaks."
            )
        for treatment in ("raw",) if mode == "paper" else ("raw", "deseasonalised"):
            values = series.to_numpy(dtype=float)
            if treatment == "deseasonalised":
                values = values - series.groupby(series.index.month).transform("mean").to_numpy()
            found = search_breaks(values, settings)
            agreed = consensus_of(found, settings.tolerance)
            found["consensus"] = agreed
            candidates += _rows(zone, treatment, found, series.index)
            if treatment == headline:
                random = generator(seed, "breaks", zone)
                test = sup_f_test(values, settings.n_bootstrap, random)
                search.append(_search_row(zone, test, series.index))
                supported = [test["index"]] if test["p_value"] <= MAX_P else []
                chosen = agreed if mode == "paper" else supported
                breaks[zone] = [f"{series.index[k]:%Y-%m}" for k in chosen]
                statistics += _statistics(zone, values, chosen, series.index)
    table = pd.DataFrame(search)
    return BreakpointResult(
        breaks=breaks,
        candidates=pd.DataFrame(
            candidates, columns=["zone", "treatment", "method", "index", "month"]
        ),
        statistics=pd.DataFrame(statistics, columns=_STATISTICS),
        search=table,
        raw_difference_in_differences=_difference(zones, impact, controls, intervention, seed),
        text=" ".join(_sentence(zone, breaks[zone], table, mode) for zone in breaks),
    )


def search_breaks(values: Floats, settings: BreakSettings) -> dict[str, list[int]]:
    """Break indices by PELT, binary segmentation and sliding window, radial-basis cost.

    Optimal segmentations and PELT are those of ``KernelCPD``, the compiled form of ``Dynp`` and
    ``Pelt`` with this cost. The number of breaks of the other two is chosen by BIC over optimal
    segmentations, at least 1.
    """
    import ruptures

    n = len(values)
    optimal = ruptures.KernelCPD(kernel="rbf", min_size=MIN_SIZE).fit(values)
    best, n_breaks = np.inf, 0
    for k in range(settings.max_breaks + 1):
        ends = optimal.predict(n_bkps=k) if k else [n]
        parts = np.split(values, ends[:-1])
        rss = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
        bic = n * np.log(rss / n) + 2 * (k + 1) * np.log(n)
        if bic < best:
            best, n_breaks = bic, k
    asked = max(n_breaks, 1)
    options: dict[str, Any] = {"model": "rbf", "min_size": MIN_SIZE, "jump": 1}
    window = ruptures.Window(width=max(10, n // 20), **options).fit(values)
    found = {
        "pelt": optimal.predict(pen=settings.penalty),
        "binary_segmentation": ruptures.Binseg(**options).fit(values).predict(n_bkps=asked),
        "window": window.predict(n_bkps=asked),
    }
    return {method: [int(end) for end in ends[:-1]] for method, ends in found.items()}


def consensus_of(found: dict[str, list[int]], tolerance: int) -> list[int]:
    """Indices at which at least two methods agree.

    Distinct indices at most ``tolerance`` apart chain into clusters; a cluster counts when two
    methods have an index within ``tolerance`` of a member; its place is the median index.
    """
    indices = sorted({index for method in found.values() for index in method})
    clusters: list[list[int]] = []
    for index in indices:
        if clusters and index - clusters[-1][-1] <= tolerance:
            clusters[-1].append(index)
        else:
            clusters.append([index])
    agreed = []
    for cluster in clusters:
        near = [
            any(abs(index - member) <= tolerance for index in method for member in cluster)
            for method in found.values()
        ]
        if sum(near) >= 2:
            agreed.append(int(np.median(cluster)))
    return agreed


def sup_f(samples: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Largest F statistic of one mean shift, and where it lies, by row.

    Parameters
    ----------
    samples : (m, n) array

    Returns
    -------
    (m,) statistics, (m,) indices
        The shift is searched over the middle 70 % of the series.
    """
    n = samples.shape[1]
    first, last = int(np.ceil(TRIM * n)), int(np.floor((1 - TRIM) * n))
    tau = np.arange(first, last + 1)
    centred = samples - samples.mean(axis=1, keepdims=True)
    partial = np.cumsum(centred, axis=1)[:, tau - 1]
    gain = partial**2 * n / (tau * (n - tau))
    total = (centred**2).sum(axis=1, keepdims=True)
    statistic = gain / ((total - gain) / (n - 2))
    best = statistic.argmax(axis=1)
    return statistic.max(axis=1), tau[best]


def sup_f_test(values: Floats, n_bootstrap: int, random: np.random.Generator) -> dict[str, Any]:
    """Is the best date a break, given that it was searched for and the series is autocorrelated?

    The null are series of an AR sieve fitted to the whole series.

    Returns
    -------
    dict
        sup_f, index, p_value = (k + 1) / (B + 1), index_lower, index_upper (90 % date interval).
    """
    statistic, index = sup_f(values[None, :])
    fit = fit_autoregression(values)
    null, _ = sup_f(sieve_samples(fit, len(values), n_bootstrap, random))
    p_value = (int((null >= statistic[0]).sum()) + 1) / (n_bootstrap + 1)
    tau = int(index[0])
    step = np.where(np.arange(len(values)) >= tau, values[tau:].mean(), values[:tau].mean())
    rest = fit_autoregression(values - step)
    _, dates = sup_f(step + sieve_samples(rest, len(values), n_bootstrap, random))
    low, high = np.quantile(dates, [0.05, 0.95], method="nearest")
    return {
        "sup_f": float(statistic[0]),
        "index": tau,
        "p_value": p_value,
        "index_lower": int(low),
        "index_upper": int(high),
    }


_STATISTICS = [
    "zone", "month", "delta_mean", "cliffs_delta", "n_effective_before", "n_effective_after",
    "welch_p", "mann_whitney_p", "levene_p", "kolmogorov_smirnov_p",
]  # fmt: skip


def _rows(
    zone: str, treatment: str, found: dict[str, list[int]], index: pd.DatetimeIndex
) -> list[tuple[str, str, str, int, str]]:
    return [
        (zone, treatment, method, int(k), f"{index[k]:%Y-%m}")
        for method, breaks in found.items()
        for k in breaks
    ]


def _statistics(
    zone: str, values: Floats, breaks: list[int], index: pd.DatetimeIndex
) -> list[dict[str, Any]]:
    """Each break against the segments on its two sides."""
    edges = [0, *breaks, len(values)]
    return [
        {"zone": zone, "month": f"{index[k]:%Y-%m}"}
        | before_after(values[edges[position] : k], values[k : edges[position + 2]])
        for position, k in enumerate(breaks)
    ]


def _search_row(zone: str, test: dict[str, Any], index: pd.DatetimeIndex) -> dict[str, Any]:
    return {
        "zone": zone,
        "sup_f": test["sup_f"],
        "p_value": test["p_value"],
        "month": f"{index[test['index']]:%Y-%m}",
        "month_lower": f"{index[test['index_lower']]:%Y-%m}",
        "month_upper": f"{index[test['index_upper']]:%Y-%m}",
    }


def _difference(
    zones: xr.Dataset, impact: str, controls: tuple[str, ...], intervention: str, seed: int
) -> tuple[Effect, ...]:
    treated = zones["kd490"].sel(zone=impact).to_series()
    control = zones["kd490"].sel(zone=list(controls)).mean("zone", skipna=False).to_series()
    gap = (treated - control).dropna()
    after = np.asarray(gap.index >= pd.Timestamp(intervention))
    values = gap.to_numpy(dtype=float)
    units = str(zones["kd490"].attrs.get("units", "m-1"))
    step, error, lag = newey_west_step(values, after)
    interval = (step - 1.96 * error, step + 1.96 * error)
    method = f"difference in differences, Newey-West lag {lag}"
    found = Effect(step, error, interval, 0.95, method, len(values), None, units)
    low, high = block_bootstrap_step(values, after, generator(seed, "difference"), BLOCK)
    if not np.isfinite([low, high]).all():
        return (found,)
    method = f"difference in differences, moving-block bootstrap of {BLOCK} months"
    return found, Effect(step, None, (low, high), 0.95, method, len(values), None, units)


def _sentence(zone: str, months: list[str], search: pd.DataFrame, mode: str) -> str:
    row = search.set_index("zone").loc[zone]
    found = ", ".join(months) if months else "none"
    return (
        f"Zone {zone}: {'consensus ' if mode == 'paper' else ''}breaks {found}; best single date"
        f" {row['month']} (90% {row['month_lower']} to {row['month_upper']}), p"
        f" {show_p(row['p_value'])} after allowing for the search and for autocorrelation."
    )
