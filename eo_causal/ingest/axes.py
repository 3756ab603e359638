"""Axes as every cube has them: time sorted and unique, y down, x up, longitudes -180..180."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.progress import count
from eo_causal.errors import CoverageError, EOCausalWarning, GeorefError, TimeAxisError

SNAP = 1e-3


def decode_times(values: NDArray[Any], attrs: dict[str, Any], source: str) -> pd.DatetimeIndex:
    """Numbers with CF units to timestamps.

    Raises
    ------
    TimeAxisError
        Units or numbers that are no time, a 360-day or other non-standard calendar, or an index.
    """
    units, calendar = str(attrs.get("units", "")), str(attrs.get("calendar", "standard"))
    if " since " not in units:
        raise TimeAxisError(
            f"{source}: the time axis has units {units!r}, not '... since ...'. Correct the file.",
            source=source, units=units,
        )  # fmt: skip
    if calendar.lower() not in ("standard", "gregorian", "proleptic_gregorian"):
        raise TimeAxisError(
            f"{source}: calendar {calendar!r} is not the standard one. Convert the file first.",
            source=source, calendar=calendar,
        )  # fmt: skip
    raw = xr.Dataset({"time": ("time", values, {"units": units, "calendar": calendar})})
    try:
        decoded = pd.DatetimeIndex(xr.decode_cf(raw)["time"].to_numpy())
    except (ValueError, TypeError, OverflowError) as error:
        raise TimeAxisError(
            f"{source}: its times cannot be decoded with units {units!r}. Correct the file.",
            source=source, units=units,
        ) from error  # fmt: skip
    if decoded.hasnans:
        raise TimeAxisError(
            f"{source}: {int(decoded.isna().sum())} of {len(decoded)} times are missing. Correct the"
            " file.", source=source, n_missing=int(decoded.isna().sum()),
        )  # fmt: skip
    looks_like_index = len(decoded) > 1 and (decoded.max() - decoded.min()) < pd.Timedelta(days=2)
    if looks_like_index and decoded.year.max() == 1970:
        raise TimeAxisError(
            f"{source}: its times lie within {decoded.max() - decoded.min()} after 1970, which looks"
            " like an index, not dates. Give it a real time axis.", source=source,
        )  # fmt: skip
    return decoded


def sorted_unique_time(cube: xr.DataArray, source: str) -> xr.DataArray:
    """Sort by time, saying so, and refuse a stamp that occurs twice."""
    index = cube.indexes["time"]
    if index.has_duplicates:
        first = index[index.duplicated()][0]
        raise TimeAxisError(
            f"{source}: {first:%Y-%m-%d} occurs twice. Keep one file or time step for it.",
            source=source, date=str(first.date()),
        )  # fmt: skip
    if not index.is_monotonic_increasing:
        warnings.warn(
            EOCausalWarning(f"{source}: time was not sorted; it is now.", "TimeAxisWarning"),
            stacklevel=3,
        )
        return cube.sortby("time")
    return cube


def monthly(cube: xr.DataArray, period: tuple[str, str] | None, source: str) -> xr.DataArray:
    """Put every time step on its month and fill absent months with NaN slots, counted.

    Raises
    ------
    TimeAxisError
        Two time steps fall into one month.
    CoverageError
        No month of the period is there.
    """
    months = cube.indexes["time"].to_period("M").to_timestamp().as_unit("ns")
    cube = sorted_unique_time(cube.assign_coords(time=months), source)
    first, last = period or (f"{months.min():%Y-%m}", f"{months.max():%Y-%m}")
    wanted = pd.date_range(first, last, freq="MS", unit="ns")
    present = cube.indexes["time"].intersection(wanted)
    if len(present) == 0:
        raise CoverageError(
            f"{source}: holds {months.min():%Y-%m} to {months.max():%Y-%m}, nothing of the period"
            f" {first} to {last}. Change data.period.", source=source,
        )  # fmt: skip
    count(months_read=len(present), months_absent=len(wanted) - len(present))
    if len(present) == len(wanted):
        return cube.sel(time=wanted)
    return cube.reindex(time=wanted)


def normalise_grid(cube: xr.DataArray, source: str) -> xr.DataArray:
    """y decreasing, x increasing, longitudes in -180..180; refuses irregular or swapped grids.

    Raises
    ------
    GeorefError
        Latitudes outside -90..90, NaN or irregular coordinates.
    """
    latitude = cube["latitude"].to_numpy().astype(float)
    longitude = cube["longitude"].to_numpy().astype(float)
    if not (np.isfinite(latitude).all() and np.isfinite(longitude).all()):
        raise GeorefError(f"{source}: latitude or longitude holds missing values.", source=source)
    if np.abs(latitude).max() > 90 + 1e-6:
        raise GeorefError(
            f"{source}: latitude reaches {latitude[np.abs(latitude).argmax()]:g}. Are latitude and"
            " longitude swapped?", source=source,
        )  # fmt: skip
    wrapped = np.where(longitude >= 180, longitude - 360, longitude)
    cube = cube.assign_coords(longitude=("x", wrapped), latitude=("y", latitude))
    order_x, order_y = np.argsort(wrapped), np.argsort(-latitude)
    if not (np.diff(order_x) == 1).all():
        cube = cube.isel(x=order_x)
    if not (np.diff(order_y) == 1).all():
        cube = cube.isel(y=order_y)
    for name in ("latitude", "longitude"):
        _check_regular(cube[name].to_numpy(), name, source)
    return cube


def cut(cube: xr.DataArray, bounds: tuple[float, float, float, float], source: str) -> xr.DataArray:
    """Cells whose centre lies in the bounds.

    Raises
    ------
    CoverageError
        There is none; says what the file covers.
    """
    west, south, east, north = bounds
    columns = np.flatnonzero((cube["longitude"] >= west) & (cube["longitude"] <= east))
    rows = np.flatnonzero((cube["latitude"] >= south) & (cube["latitude"] <= north))
    if not (len(columns) and len(rows)):
        longitude, latitude = cube["longitude"].to_numpy(), cube["latitude"].to_numpy()
        raise CoverageError(
            f"{source}: no cell inside {list(bounds)}; it covers longitude {longitude.min():.2f} to"
            f" {longitude.max():.2f}, latitude {latitude.min():.2f} to {latitude.max():.2f}."
            " Correct data.bounds.", source=source,
        )  # fmt: skip
    return cube.isel(
        x=slice(int(columns[0]), int(columns[-1]) + 1), y=slice(int(rows[0]), int(rows[-1]) + 1)
    )


def snap_to(cube: xr.DataArray, reference: xr.DataArray, source: str) -> xr.DataArray:
    """Give a cube the reference's coordinates when both are one grid up to rounding.

    Raises
    ------
    GeorefError
        Coordinates differ by more than a thousandth of a cell.
    """
    for name in ("latitude", "longitude"):
        mine, theirs = cube[name].to_numpy(), reference[name].to_numpy()
        step = abs(theirs[-1] - theirs[0]) / max(len(theirs) - 1, 1) or 1.0
        if mine.shape != theirs.shape or not np.abs(mine - theirs).max() <= SNAP * step:
            raise GeorefError(
                f"{source}: its {name} axis ({len(mine)} cells) is not that of the first file"
                f" ({len(theirs)} cells). Bring all files to one grid.", source=source,
            )  # fmt: skip
    return cube.assign_coords(latitude=reference["latitude"], longitude=reference["longitude"])


def _check_regular(values: NDArray[np.float64], name: str, source: str) -> None:
    if len(values) < 3:
        return
    steps = np.diff(values)
    usual = float(np.median(steps))
    wrong = np.flatnonzero(~(np.abs(steps - usual) <= 0.05 * abs(usual)))
    if len(wrong) and not (name == "longitude" and len(wrong) == 1):
        raise GeorefError(
            f"{source}: {name} is irregular near {values[wrong[0]]:g}. Bring it to a regular grid.",
            source=source,
        )
