"""A small coast for demos: one cloudy ocean-colour cube, five zones, a known break and effect."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter

from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Bounds, Month, Settings
from eo_causal.simulate.rasters import Convention, write_convention
from eo_causal.simulate.series import stationary_autoregressive

Floats = NDArray[np.float64]

CELL = 1 / 24
WEST, NORTH = 122.0, -2.25
SHAPE = (24, 36)

ZONES: dict[str, Bounds] = {
    "impact": (122 + 6 / 24, -2.25 - 13 / 24, 122 + 11 / 24, -2.25 - 8 / 24),
    "control": (122 + 26 / 24, -2.25 - 12 / 24, 122 + 33 / 24, -2.25 - 5 / 24),
    "north_bay": (122 + 10 / 24, -2.25 - 5 / 24, 122 + 15 / 24, -2.25 - 1 / 24),
    "south_bay": (122 + 10 / 24, -2.25 - 23 / 24, 122 + 15 / 24, -2.25 - 19 / 24),
    "open_sea": (122 + 26 / 24, -2.25 - 22 / 24, 122 + 32 / 24, -2.25 - 16 / 24),
}
"""Bounds of the zones, along cell edges: west, south, east, north in degrees."""


class CoastSettings(Settings):
    """The world a demo simulates."""

    effect: float = Field(default=0.009, description="mean effect over the impact zone, m-1")
    start: Month = "1998-01"
    n_months: Annotated[int, Field(ge=60, le=1200)] = 324
    intervention: Month = "2019-05"
    missing: Annotated[float, Field(ge=0, lt=0.9)] = Field(
        default=0.2, description="share of cells hidden by clouds"
    )
    convention: Convention = Field(default="cmems", description="whose file format to imitate")
    plume_width: Annotated[float, Field(gt=0)] = Field(default=2.5, description="in cells")


@dataclass(frozen=True)
class Coast:
    """A simulated coast and what is true about it.

    Attributes
    ----------
    kd490 : DataArray (time, y, x)
        m-1, NaN on land and under clouds.
    delta : DataArray (y, x)
        True effect per cell from the intervention on, m-1.
    zone_effects : dict
        True mean effect per zone, m-1.
    """

    kd490: xr.DataArray
    delta: xr.DataArray
    zone_effects: dict[str, float]


def simulate_coast(settings: CoastSettings, seed: int) -> Coast:
    """Simulate the coast; same settings and seed, same numbers.

    Each water cell is a fixed offset, a share of one regional AR(0.6) driver, a seasonal cycle,
    slow drift and smooth noise. The plume is a Gaussian around the plant.
    """
    random = generator(seed, "coast")
    months = pd.date_range(settings.start, periods=settings.n_months, freq="MS", unit="ns")
    water = _water()
    z = stationary_autoregressive(random, settings.n_months, 0.6, 0.3)
    season = 0.3 * np.sin(2 * np.pi * (months.month.to_numpy() - 1) / 12)
    base = 4.2 + 0.3 * _field(random, 2)
    share = 0.8 + 0.2 * _field(random, 2)
    cube = base + share * z[:, None, None] + season[:, None, None]
    drift = np.zeros(SHAPE)
    for t in range(settings.n_months):
        drift = drift + 0.004 * _field(random, 2)
        cube[t] += drift + 0.4 * _field(random, 1)
        cube[t][_field(random, 1.5) < _quantile(settings.missing)] = np.nan
    delta = _plume(settings, water)
    after = np.asarray(months >= pd.Timestamp(settings.intervention))
    cube = cube / 100
    cube[after] += delta
    cube[:, ~water] = np.nan
    latitude = NORTH - (np.arange(SHAPE[0]) + 0.5) * CELL
    longitude = WEST + (np.arange(SHAPE[1]) + 0.5) * CELL
    coords = {"latitude": ("y", latitude), "longitude": ("x", longitude)}
    truth = xr.DataArray(np.where(water, delta, np.nan), dims=("y", "x"), coords=coords)
    kd490 = xr.DataArray(
        cube.astype(np.float32), dims=("time", "y", "x"), coords={"time": months, **coords},
        name="kd490", attrs={"units": "m-1", "long_name": "simulated diffuse attenuation"},
    )  # fmt: skip
    effects = {zone: _zone_mean(truth, bounds) for zone, bounds in ZONES.items()}
    return Coast(kd490, truth, effects)


def _water() -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    shore = 6.5 + 2.2 * np.sin(rows / 3.5) + 1.2 * np.cos(rows / 1.9)
    island = (rows - 15.5) ** 2 / 6 + (columns - 20) ** 2 / 9 < 1
    return (columns > shore) & ~island


def _plume(settings: CoastSettings, water: NDArray[np.bool_]) -> Floats:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(rows - 10.0, columns - 8.0)
    plume = np.exp(-(distance**2) / (2 * settings.plume_width**2))
    plume[(plume < 0.1) | ~water] = 0.0
    shape = xr.DataArray(np.where(water, plume, np.nan), dims=("y", "x"))
    latitude = NORTH - (np.arange(SHAPE[0]) + 0.5) * CELL
    longitude = WEST + (np.arange(SHAPE[1]) + 0.5) * CELL
    shape = shape.assign_coords(latitude=("y", latitude), longitude=("x", longitude))
    return plume * settings.effect / _zone_mean(shape, ZONES["impact"])


def _zone_mean(values: xr.DataArray, bounds: Bounds) -> float:
    """Mean over the water cells of a zone, weighted by cell area."""
    west, south, east, north = bounds
    inside = values.where(
        (values.longitude > west) & (values.longitude < east)
        & (values.latitude > south) & (values.latitude < north)
    )  # fmt: skip
    return float(inside.weighted(np.cos(np.deg2rad(values.latitude))).mean())


def _field(random: np.random.Generator, width: float) -> Floats:
    """White noise smoothed over ``width`` cells (wrapped), rescaled to unit variance."""
    field = gaussian_filter(random.standard_normal(SHAPE), width, mode="wrap")
    return np.asarray(field / field.std())


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share)) if share > 0 else -np.inf


def write_coast(settings: CoastSettings, *, seed: int, folder: Path) -> None:
    """Simulate the coast and write it as a producer would: rasters, and the truth beside them.

    ``folder/kd490`` holds the raster file, ``folder/truth.json`` the true effect of every zone
    (m-1) and the intervention month.
    """
    coast = simulate_coast(settings, seed)
    (folder / "kd490").mkdir()
    paths = write_convention(folder / "kd490", coast.kd490, settings.convention)
    truth = {
        "average": coast.zone_effects["impact"],
        "units": "m-1",
        "intervention": settings.intervention,
        "zones": coast.zone_effects,
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    count(files_written=len(paths), months=settings.n_months)
