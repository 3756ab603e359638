"""Lines that bring single-sensor Kd490 records onto one scale, with the error that stays.

Everything happens in z = ln Kd490. Sensors are joined to the reference as a tree; each edge is an
errors-in-variables line fitted on the cell-months both sensors saw. Its uncertainty comes from
leaving out blocks of months, is shared by all cells and months of the sensor, and therefore never
averages out: :mod:`eo_causal.ingest.merge_sensors` carries it along.

A product that was merged already must not be harmonised again.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, CoverageError, EOCausalWarning, GeorefError

Floats = NDArray[np.float64]
MOMENTS = ["n", "x", "y", "xx", "xy", "yy"]
MONTHS_PER_DECADE = 120
SHORT_OVERLAP = 36
FEWEST_BLOCKS = 6
ROUNDING = 1e-12


class HarmoniseSettings(Settings):
    """Which sensor is the reference, how others are joined to it, and how cell-months merge."""

    reference: str = Field(description="sensor whose scale all others are brought to")
    method: Literal["deming", "offset"] = Field(
        default="deming", description="line with errors in both sensors, or a shift only"
    )
    noise_ratio: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="noise variance of the reference over that of the sensor"
    )
    min_months: Annotated[int, Field(ge=6)] = Field(
        default=24, description="fewest months two sensors must share"
    )
    block_months: Annotated[int, Field(ge=1)] = Field(
        default=6, description="length of the blocks of months the jackknife leaves out"
    )
    short_block_months: Annotated[int, Field(ge=1)] = Field(
        default=3, description="the same where fewer than 36 months are shared"
    )
    combine: Literal["weighted", "priority"] = Field(
        default="weighted",
        description="several sensors in a cell-month: by precision, or the first",
    )
    priority: tuple[str, ...] = Field(
        default=(), description="order for combine: priority; then the reference, then the tree"
    )


@dataclass(frozen=True)
class Harmonisation:
    """Fitted lines between sensors.

    Attributes
    ----------
    table : DataFrame
        One row per joined sensor, parents first: ``sensor``, ``reference`` (the sensor it was
        fitted to), ``intercept``, ``slope``, ``variance_intercept``, ``covariance``,
        ``variance_slope``, ``degrees_of_freedom``, ``n_months``, ``n_pairs``, ``residual_sd``,
        ``drift_per_decade`` and ``drift_t``, all in ln Kd490.
    settings : HarmoniseSettings
    text : str
        What was found, in sentences.
    """

    table: pd.DataFrame
    settings: HarmoniseSettings
    text: str


def fit_harmonisation(
    sensors: Mapping[str, xr.DataArray], settings: HarmoniseSettings
) -> Harmonisation:
    """Fit every sensor to the one it shares most months with.

    The line is Deming's: b = [S_yy - d S_xx + sqrt((S_yy - d S_xx)^2 + 4 d S_xy^2)] / (2 S_xy),
    a = mean y - b mean x, with x the sensor, y its reference and d the noise ratio. Ordinary least
    squares would shrink b and invent a trend between clear and turbid water. The covariance of
    (a, b) is the delete-one-block jackknife (Künsch 1989) over blocks of consecutive shared
    months; intervals use Student's t with one degree of freedom less than there are blocks.

    Parameters
    ----------
    sensors : mapping of str to DataArray (time, ...)
        m-1, on one grid and on month starts, each over its own months; NaN = missing.
    settings : HarmoniseSettings
        Reference, method and block lengths.

    Raises
    ------
    ConfigError
        Fewer than two sensors, or a name that is none of them.
    GeorefError
        Grids differ.
    CoverageError
        Two sensors share too few months or blocks, or do not vary together.
    """
    check_sensors(sensors, settings)
    rows = []
    for sensor, parent, moments in _join(sensors, settings.reference):
        blocks = _blocks(moments, sensor, parent, settings)
        edge = _fit_edge(moments, blocks, sensor, parent, settings)
        rows.append({"sensor": sensor, "reference": parent} | edge)
    table = pd.DataFrame(rows)
    _warn(table)
    return Harmonisation(table, settings, _describe(table, settings))


def logarithm(kd490: xr.DataArray) -> xr.DataArray:
    """ln Kd490 in float64; what is not positive and finite is missing."""
    usable = kd490.where((kd490 > 0) & (kd490 < np.inf)).astype(np.float64)
    return xr.apply_ufunc(np.log, usable, dask="allowed")


def observed(z: xr.DataArray) -> xr.DataArray:
    """True where a value is there."""
    return xr.apply_ufunc(np.isfinite, z, dask="allowed")


def compose(table: pd.DataFrame, reference: str) -> dict[str, tuple[float, float]]:
    """Intercept and slope from every sensor to the reference, along the tree."""
    lines = {reference: (0.0, 1.0)}
    columns = (table[name] for name in ("sensor", "reference", "intercept", "slope"))
    for sensor, parent, intercept, slope in zip(*columns, strict=True):
        a, b = lines[parent]
        lines[sensor] = (a + b * intercept, b * slope)
    return lines


def covariances(table: pd.DataFrame) -> Floats:
    """Covariance of (intercept, slope) of every edge, (edge, 2, 2)."""
    columns = ["variance_intercept", "covariance", "covariance", "variance_slope"]
    return np.asarray(table[columns].to_numpy(dtype=float).reshape(-1, 2, 2))


def check_sensors(sensors: Mapping[str, xr.DataArray], settings: HarmoniseSettings) -> None:
    """At least two sensors on one grid, and no name in the settings that is none of them.

    Raises
    ------
    ConfigError
        Fewer than two sensors, or an unknown name.
    GeorefError
        Grids differ.
    """
    unknown = [name for name in (settings.reference, *settings.priority) if name not in sensors]
    if len(sensors) < 2 or unknown:
        wrong = f"{', '.join(unknown)} is none of them" if unknown else "two are needed"
        raise ConfigError(
            f"harmonise: sensors are {', '.join(sensors) or 'none'}; {wrong}. Correct"
            " harmonise.reference or harmonise.priority, or add the sensor's files.",
            sensors=list(sensors), unknown=unknown,
        )  # fmt: skip
    first = sensors[settings.reference]
    places = [key for key, values in first.coords.items() if "time" not in values.dims]
    for name, cube in sensors.items():
        same = {**cube.sizes, "time": 0} == {**first.sizes, "time": 0} and all(
            key in cube.coords and cube.coords[key].equals(first.coords[key]) for key in places
        )
        if not same:
            raise GeorefError(
                f"sensor {name!r} is on another grid than {settings.reference!r}. Bring all sensors"
                " to one grid first.", sensor=name,
            )  # fmt: skip


def _join(
    sensors: Mapping[str, xr.DataArray], reference: str
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each sensor, the joined one it shares most months with, and their monthly moments."""
    joined, waiting = [reference], [name for name in sensors if name != reference]
    seen: dict[tuple[str, str], pd.DataFrame] = {}
    while waiting:
        pairs = [(sensor, parent) for sensor in waiting for parent in joined]
        for sensor, parent in pairs:
            if (sensor, parent) not in seen:
                seen[sensor, parent] = _moments(sensors[sensor], sensors[parent])
        best = max(pairs, key=lambda pair: len(seen[pair]))
        yield *best, seen[best]
        joined.append(best[0])
        waiting.remove(best[0])


def _moments(sensor: xr.DataArray, parent: xr.DataArray) -> pd.DataFrame:
    """Sums over the cells both sensors saw, one row per shared month."""
    x, y = xr.align(logarithm(sensor), logarithm(parent), join="inner")
    both = observed(x) & observed(y)
    x, y = x.where(both, 0.0), y.where(both, 0.0)
    cells = [dim for dim in x.dims if dim != "time"]
    parts = (both.astype(np.float64), x, y, x * x, x * y, y * y)
    sums = xr.Dataset({name: part.sum(cells) for name, part in zip(MOMENTS, parts, strict=True)})
    table = sums.compute().to_dataframe()[MOMENTS]
    return table[table["n"] > 0]


def _blocks(moments: pd.DataFrame, sensor: str, parent: str, settings: HarmoniseSettings) -> Floats:
    """Sums per block of consecutive shared months, (block, moment)."""
    n_months = len(moments)
    short = n_months < SHORT_OVERLAP
    length = settings.short_block_months if short else settings.block_months
    starts = np.arange(0, n_months, length)
    if n_months < settings.min_months or len(starts) < FEWEST_BLOCKS:
        raise CoverageError(
            f"sensors {sensor!r} and {parent!r} share {n_months} months ({len(starts)} blocks); at"
            f" least {settings.min_months} months and {FEWEST_BLOCKS} blocks are needed. Leave"
            f" {sensor!r} out, or bring data of both for more months.",
            sensor=sensor, reference=parent, n_months=n_months, n_blocks=len(starts),
        )  # fmt: skip
    count(harmonised_months_shared=n_months, harmonised_pairs=int(moments["n"].sum()))
    return np.asarray(np.add.reduceat(moments[MOMENTS].to_numpy(), starts, axis=0))


def _fit_edge(
    moments: pd.DataFrame, blocks: Floats, sensor: str, parent: str, settings: HarmoniseSettings
) -> dict[str, Any]:
    total = blocks.sum(axis=0)
    left_out = _lines(np.vstack([total, total - blocks]), settings)
    (intercept, slope), left_out = left_out[0], left_out[1:]
    if not (slope > 0 and np.isfinite(left_out).all()):
        raise CoverageError(
            f"sensors {sensor!r} and {parent!r} do not vary together (slope {slope:.3g}). Check that"
            " both hold Kd490 of the same cells.",
            sensor=sensor, reference=parent, slope=float(slope),
        )  # fmt: skip
    spread = left_out - left_out.mean(axis=0)
    covariance = (len(blocks) - 1) / len(blocks) * spread.T @ spread
    s_xx, s_xy, s_yy = _second_moments(total[None])
    residual = float((s_yy + slope**2 * s_xx - 2 * slope * s_xy)[0])
    drift, drift_t = _drift(moments, float(intercept), float(slope))
    return {
        "intercept": float(intercept), "slope": float(slope),
        "variance_intercept": float(covariance[0, 0]), "covariance": float(covariance[0, 1]),
        "variance_slope": float(covariance[1, 1]), "degrees_of_freedom": len(blocks) - 1,
        "n_months": len(moments), "n_pairs": int(total[0]),
        "residual_sd": float(np.sqrt(max(residual, 0.0))),
        "drift_per_decade": drift, "drift_t": drift_t,
    }  # fmt: skip


def _lines(sums: Floats, settings: HarmoniseSettings) -> Floats:
    """(a, b) from rows of moments."""
    n, x, y = sums.T[:3]
    if settings.method == "offset":
        return np.column_stack([(y - x) / n, np.ones(len(sums))])
    s_xx, s_xy, s_yy = _second_moments(sums)
    gap = s_yy - settings.noise_ratio * s_xx
    root = np.sqrt(gap**2 + 4 * settings.noise_ratio * s_xy**2)
    slope = np.divide(gap + root, 2 * s_xy, out=np.full_like(gap, np.nan), where=s_xy != 0)
    return np.column_stack([(y - slope * x) / n, slope])


def _second_moments(sums: Floats) -> tuple[Floats, Floats, Floats]:
    n, x, y, xx, xy, yy = sums.T
    return xx / n - (x / n) ** 2, xy / n - x * y / n**2, yy / n - (y / n) ** 2


def _drift(moments: pd.DataFrame, intercept: float, slope: float) -> tuple[float, float]:
    """Slope of the monthly mean residual in ln Kd490 per decade, and its t."""
    residual = ((moments["y"] - slope * moments["x"]) / moments["n"] - intercept).to_numpy()
    calendar = moments.index.to_period("M").astype(np.int64).to_numpy() / MONTHS_PER_DECADE
    time = calendar - calendar.mean()
    drift = float(time @ residual / (time @ time))
    unexplained = residual - residual.mean() - drift * time
    error = float(np.sqrt(unexplained @ unexplained / (len(time) - 2) / (time @ time)))
    return drift, drift / error if error > ROUNDING else 0.0


def _warn(table: pd.DataFrame) -> None:
    for row in table.to_dict("records"):
        pair = f"sensor {row['sensor']!r} against {row['reference']!r}"
        if not abs(row["drift_t"]) <= 2:
            message = (
                f"{pair}: the difference drifts by {np.expm1(row['drift_per_decade']):+.1%} per"
                f" decade (t = {row['drift_t']:.1f}) over the overlap. One line cannot correct it."
            )
            warnings.warn(EOCausalWarning(message, "SensorDriftWarning"), stacklevel=3)
        if not 0.8 <= row["slope"] <= 1.25:
            message = (
                f"{pair}: slope {row['slope']:.3f} lies outside 0.8 to 1.25. Check that both hold"
                " the same quantity in the same units."
            )
            warnings.warn(EOCausalWarning(message, "SensorSlopeWarning"), stacklevel=3)


def _describe(table: pd.DataFrame, settings: HarmoniseSettings) -> str:
    sentences = [
        f"{row['sensor']} was joined to {row['reference']} on {row['n_pairs']:,} cell-months of"
        f" {row['n_months']} months: ln Kd490 = {row['intercept']:+.4f} {row['slope']:+.4f} times"
        f" ln Kd490 of {row['sensor']}."
        for row in table.to_dict("records")
    ]
    sentences.append(
        f"Reference: {settings.reference}. A drift test that does not reject is no proof of"
        " stability: with 60 shared months it finds a drift of 6% per decade in about one case of"
        " three."
    )
    return " ".join(sentences)
