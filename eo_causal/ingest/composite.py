"""Several images of a period as one: medians, means and geometric means with honest counts."""

import functools
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.errors import CoverageError, DataError

Period = Literal["month", "quarter", "season", "year"]
CompositeMethod = Literal["median", "mean", "geometric_mean", "first"]
_FREQUENCY = {"month": "M", "quarter": "Q", "season": "Q-NOV", "year": "Y"}


def composite(
    cube: xr.DataArray, period: Period, method: CompositeMethod, min_count: int = 1
) -> xr.Dataset:
    """One image per period of the calendar, from the first to the last that holds an image.

    Parameters
    ----------
    cube : DataArray (time, y, x)
        NaN = invalid; times UTC. numpy or dask.
    period : str
        Images belong to the month, quarter, season (Dec-Feb, ...) or year of their time.
    method : str
        ``geometric_mean`` suits attenuation and chlorophyll, which are near log-normal; ``median``
        suits reflectance; ``first`` takes the earliest valid value.
    min_count : int
        Cells with fewer valid values are missing.

    Returns
    -------
    Dataset (time, y, x)
        The cube's variable (its dtype and units; time = first day of the period), ``n_valid``, and
        ``day_offset``, the mean day of the valid values counted from the start of the period. A
        period without any valid value is NaN with ``n_valid`` 0, never left out.

    Raises
    ------
    CoverageError
        The cube holds no image.
    DataError
        A geometric mean of values that are not positive.
    """
    if cube.sizes["time"] == 0:
        raise CoverageError("the cube holds no image to make composites of.")
    times = cube.indexes["time"]
    label = times.to_period(_FREQUENCY[period])
    slots = pd.period_range(label.min(), label.max(), freq=label.freq)
    images, counts, offsets = [], [], []
    for slot in slots:
        inside = np.flatnonzero(label == slot)
        image, n_valid, offset = _one(cube, inside, slot.start_time, method)
        images.append(image.where(n_valid >= max(min_count, 1)))
        counts.append(n_valid)
        offsets.append(offset)
    starts = pd.DatetimeIndex([slot.start_time for slot in slots]).as_unit("ns")
    name = str(cube.name or "value")
    result = xr.Dataset(
        {
            name: _stack(images, starts).astype(cube.dtype).assign_attrs(cube.attrs),
            "n_valid": _stack(counts, starts).assign_attrs(units="1"),
            "day_offset": _stack(offsets, starts).assign_attrs(units="days"),
        }
    )
    return result.assign_attrs(composite=f"{method} by {period}")


def periods_between(first: np.datetime64, last: np.datetime64, period: Period) -> pd.DatetimeIndex:
    """First days of the periods of the calendar from one time to another, both included."""
    ends = pd.DatetimeIndex([first, last]).to_period(_FREQUENCY[period])
    slots = pd.period_range(ends[0], ends[1], freq=ends.freq)
    return pd.DatetimeIndex(slots.start_time).as_unit("ns")


def composite_images(
    images: NDArray[np.float32], method: CompositeMethod | Literal["medoid"], min_count: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """One image out of several, pixel by pixel.

    Parameters
    ----------
    images : (image, band, y, x) array
        NaN = invalid; at least one image; in order of time.
    method : str
        As in :func:`composite`; ``medoid`` takes all bands from that image, valid in every band,
        whose bands lie nearest to those of the others (smallest sum of Euclidean distances;
        the earliest of equals).
    min_count : int
        Pixels with fewer valid values are NaN.

    Returns
    -------
    image : (band, y, x) float32 array
    n_valid : (band, y, x) int16 array

    Raises
    ------
    DataError
        A geometric mean of values that are not positive.
    """
    valid = np.isfinite(images)
    if method == "medoid":
        valid &= valid.all(axis=1, keepdims=True)
    n_valid = valid.sum(axis=0).astype(np.int16)
    if method == "median":
        image = _middle(images, n_valid)
    elif method == "medoid":
        image = np.take_along_axis(images, _medoid(images, valid)[None], axis=0)[0]
    elif method == "first":
        image = np.take_along_axis(images, valid.argmax(axis=0)[None], axis=0)[0]
    else:
        image = _mean(images, valid, n_valid, method)
    enough = n_valid >= max(min_count, 1)
    return np.where(enough, image, np.nan).astype(np.float32), n_valid


def _middle(images: NDArray[np.float32], n_valid: NDArray[np.int16]) -> NDArray[np.float64]:
    """Median of the valid values; NaN sorts last, so the middle is known from their number."""
    ordered = np.sort(images, axis=0)
    low, high = np.maximum(n_valid - 1, 0) // 2, n_valid // 2
    pair = [np.take_along_axis(ordered, at[None].astype(np.intp), axis=0)[0] for at in (low, high)]
    return (pair[0].astype(np.float64) + pair[1]) / 2


def _mean(
    images: NDArray[np.float32], valid: NDArray[np.bool_], n_valid: NDArray[np.int16], method: str
) -> NDArray[np.float64]:
    values = np.where(valid, images, 1).astype(np.float64)
    if method == "geometric_mean":
        if (values <= 0).any():
            raise DataError(
                f"a geometric mean needs positive values; the smallest is {values.min():g}. Use mean or"
                " median."
            )
        values = np.log(values)
    total = np.where(valid, values, 0).sum(axis=0) / np.maximum(n_valid, 1)
    return np.exp(total) if method == "geometric_mean" else total


def _medoid(images: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(1, y, x): number of the image nearest to all others, in each pixel."""
    seen = valid[:, 0]
    filled = np.where(valid, images, 0).astype(np.float64)
    distance = np.full(seen.shape, np.inf)
    for number, image in enumerate(filled):
        apart = np.sqrt(((filled - image) ** 2).sum(axis=1))
        distance[number] = np.where(seen[number], (apart * seen).sum(axis=0), np.inf)
    return distance.argmin(axis=0)[None]


def _one(
    cube: xr.DataArray, inside: np.ndarray, start: pd.Timestamp, method: CompositeMethod
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Image, number of valid values and mean day of one period, in float64."""
    part = cube.isel(time=inside).astype(np.float64)
    valid = part.notnull()
    n_valid = valid.sum("time").astype(np.int16)
    days = xr.DataArray(
        (part["time"].to_numpy() - start.to_datetime64()) / np.timedelta64(1, "D"), dims="time"
    )
    offset = (valid * days).sum("time") / n_valid.where(n_valid > 0)
    if method == "median":
        image = part.chunk(time=-1).median("time") if part.chunks else part.median("time")
    elif method == "mean":
        image = part.mean("time")
    elif method == "first":
        image = functools.reduce(
            lambda earlier, later: earlier.where(earlier.notnull(), later),
            [part.isel(time=step, drop=True) for step in range(len(inside))],
            part.mean("time") * np.nan,
        )
    else:
        if bool((part <= 0).any()):
            raise DataError(
                f"{cube.name}: a geometric mean needs positive values; the smallest is"
                f" {float(part.min()):g}. Use mean or median."
            )
        image = xr.apply_ufunc(np.exp, xr.apply_ufunc(np.log, part, dask="allowed").mean("time"),
                               dask="allowed")  # fmt: skip
    return image.drop_vars("time", errors="ignore"), n_valid, offset


def _stack(images: list[xr.DataArray], starts: pd.DatetimeIndex) -> xr.DataArray:
    return xr.concat(images, dim=pd.Index(starts, name="time"), coords="minimal", compat="override")
