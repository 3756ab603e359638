"""Rasters whose zone means are known series: the way back from a table to pixels."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from eo_causal.core.settings import Bounds
from eo_causal.simulate.observation import CELL

Floats = NDArray[np.float64]


def zones_cube(
    series: pd.DataFrame,
    bounds: dict[str, Bounds],
    seed: int = 0,
    *,
    land: dict[str, int] | None = None,
    missing: float = 0.0,
    cell: float = CELL,
) -> xr.DataArray:
    """A raster cube in which the cos(latitude) mean of every zone is a given series.

    Each cell of a zone is the zone's series plus a lasting offset plus smooth noise, shifted month
    by month so that the mean over the cells whose centre lies in the zone is right to rounding.

    Parameters
    ----------
    series : DataFrame (time, zone)
        Complete, m-1.
    bounds : dict
        Zone -> (west, south, east, north), degrees; boxes must not overlap.
    land : dict, optional
        Zone -> number of cells that are never valid.
    missing : float
        Share of cell-months removed afterwards; the means then hold only for filled cubes.
    cell : float
        Degrees.

    Returns
    -------
    DataArray (time, y, x)
        float64, m-1, NaN outside the zones.
    """
    random = np.random.default_rng(seed)
    west, south = (min(box[k] for box in bounds.values()) for k in (0, 1))
    east, north = (max(box[k] for box in bounds.values()) for k in (2, 3))
    latitude = np.arange(north + cell / 2, south - cell, -cell)
    longitude = np.arange(west - cell / 2, east + cell, cell)
    values = np.full((len(series), len(latitude), len(longitude)), np.nan)
    for zone, box in bounds.items():
        rows = np.flatnonzero((latitude >= box[1]) & (latitude <= box[3]))
        columns = np.flatnonzero((longitude >= box[0]) & (longitude <= box[2]))
        shape = (len(rows), len(columns))
        valid = np.ones(shape, dtype=bool)
        valid.ravel()[: (land or {}).get(zone, 0)] = False
        weight = np.where(valid, np.cos(np.deg2rad(latitude[rows]))[:, None], 0.0)
        block = _cells(series[zone].to_numpy(dtype=float), weight, random)
        values[:, rows[:, None], columns] = np.where(valid, block, np.nan)
    values[random.random(values.shape) < missing] = np.nan
    return xr.DataArray(
        values, dims=("time", "y", "x"), name="kd490", attrs={"units": "m-1"},
        coords={
            "time": series.index.to_numpy(),
            "latitude": ("y", latitude),
            "longitude": ("x", longitude),
        },
    )  # fmt: skip


def _cells(series: Floats, weight: Floats, random: np.random.Generator) -> Floats:
    """Offsets of 10 % and monthly fields of 5 % of the series' mean around the series."""
    scale = series.mean()
    offset = random.normal(0, 0.10 * scale, weight.shape)
    field = gaussian_filter(random.standard_normal((len(series), *weight.shape)), (0, 1, 1))
    block = offset + 0.05 * scale * field / field.std()
    error = (block * weight).sum(axis=(1, 2)) / weight.sum()
    return np.asarray(block + (series - error)[:, None, None])
