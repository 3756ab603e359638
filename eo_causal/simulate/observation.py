"""The same water seen by two sensors, or through clouds, with what is true kept beside it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.simulate.series import autoregressive

Floats = NDArray[np.float64]

MEAN_LOG = -3.1
CELL = 1 / 24
STEP_FROM = 256
STEP_RADIUS = 1.5


@dataclass(frozen=True)
class SensorOverlap:
    """Two sensors over the same cells.

    Attributes
    ----------
    kd490 : DataArray (time, cell)
        The water itself, m-1.
    sensors : dict
        ``reference`` and ``old``, each (time, cell) in m-1, NaN where not seen.
    """

    kd490: xr.DataArray
    sensors: dict[str, xr.DataArray]


@dataclass(frozen=True)
class CloudyZone:
    """A small sea under clouds.

    Attributes
    ----------
    kd490 : DataArray (time, y, x)
        The water itself, m-1, without gaps.
    seen : DataArray (time, y, x)
        The same with NaN under clouds.
    """

    kd490: xr.DataArray
    seen: xr.DataArray


def sensor_overlap(
    seed: int,
    n: int = 324,
    n_cells: int = 16,
    offset: float = 0.10,
    slope: float = 1.0,
    overlap: tuple[int, int] = (120, 180),
    noise: float = 0.06,
    month_noise: float = 0.02,
    missing: float = 0.4,
    drift: float = 0.0,
) -> SensorOverlap:
    """A record that a reference sensor continues after some years of overlap.

    z = -3.1 + N(0, .25^2) per cell + .15 sin(2 pi t/12) + AR(.6, innovation sd .06) + N(0, .05^2).
    The old sensor sees (z - offset)/slope, the reference z itself, each with its own noise per
    cell-month and per month; so z = offset + slope * old is the correction to be found.

    Parameters
    ----------
    overlap : (int, int)
        First month of the reference, and the month the old sensor ends before.
    drift : float
        Change of the old sensor in ln Kd490 per decade, zero at the end of the overlap.
    """
    random = np.random.default_rng(seed)
    t = np.arange(n)
    level = autoregressive(random.normal(0.0, 0.06, n), 0.6)
    base = random.normal(0.0, 0.25, n_cells)
    season = 0.15 * np.sin(2 * np.pi * t / 12)
    z = MEAN_LOG + base + (season + level)[:, None] + random.normal(0.0, 0.05, (n, n_cells))
    drifted = drift * (t - overlap[1]) / 120
    sensors = {}
    for name, true, alive in (
        ("reference", z, t >= overlap[0]),
        ("old", (z - offset) / slope + drifted[:, None], t < overlap[1]),
    ):
        x = true + random.normal(0.0, noise, z.shape) + random.normal(0.0, month_noise, (n, 1))
        x[(random.random(z.shape) < missing) | ~alive[:, None]] = np.nan
        sensors[name] = _series_of_cells(x)
    return SensorOverlap(_series_of_cells(z), sensors)


def cloudy_zone(
    seed: int,
    n: int = 324,
    size: int = 7,
    gradient: float = 0.25,
    missing: float = 0.2,
    scale: float = 3.0,
    step: float = 0.0,
) -> CloudyZone:
    """A square zone with a lasting gradient, where clouds hide different parts each month.

    ln Kd490 = -3.1 + gradient F_3 + .15 sin(2 pi t/12) + AR(.6, innovation sd .06) + .05 G_1(t),
    with F_r, G_r noise smoothed over r cells and scaled to unit standard deviation.

    Parameters
    ----------
    missing : float
        Share of cell-months under clouds.
    scale : float
        Size of the clouds, in cells.
    step : float
        Added to ln Kd490 within 1.5 cells of the north-west corner from month 256 on.
    """
    random = np.random.default_rng(seed)
    pattern = _fields(random, 1, size, 3.0)[0]
    level = autoregressive(random.normal(0.0, 0.06, n), 0.6)
    season = 0.15 * np.sin(2 * np.pi * np.arange(n) / 12)
    z = MEAN_LOG + gradient * pattern + (season + level)[:, None, None]
    z = z + 0.05 * _fields(random, n, size, 1.0)
    clouds = _fields(random, n, size, scale)
    rows, columns = np.mgrid[:size, :size]
    z[STEP_FROM:, np.hypot(rows, columns) <= STEP_RADIUS] += step
    kd490 = _cube(np.exp(z))
    return CloudyZone(kd490, kd490.where(clouds >= np.quantile(clouds, missing)))


def _fields(random: np.random.Generator, n: int, size: int, width: float) -> Floats:
    """n smooth fields on a square of three times the size, each of unit sd, cropped."""
    from scipy.ndimage import gaussian_filter

    noise = random.standard_normal((n, 3 * size, 3 * size))
    smooth = gaussian_filter(noise, (0, width, width), mode="wrap")
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    return np.asarray(smooth[:, size : 2 * size, size : 2 * size])


def _series_of_cells(z: Floats) -> xr.DataArray:
    months = pd.date_range("1998-01", periods=len(z), freq="MS", unit="ns")
    return xr.DataArray(
        np.exp(z), dims=("time", "cell"), coords={"time": months}, name="kd490",
        attrs={"units": "m-1"},
    )  # fmt: skip


def _cube(values: Floats) -> xr.DataArray:
    months = pd.date_range("1998-01", periods=len(values), freq="MS", unit="ns")
    cells = np.arange(values.shape[1]) + 0.5
    return xr.DataArray(
        values, dims=("time", "y", "x"), name="kd490", attrs={"units": "m-1"},
        coords={
            "time": months,
            "latitude": ("y", -2.5 - CELL * cells),
            "longitude": ("x", 122.0 + CELL * cells),
        },
    )  # fmt: skip
