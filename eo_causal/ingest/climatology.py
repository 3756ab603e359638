"""What a month usually looks like, and how far each one departs from it."""

from typing import Annotated

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.settings import Period, Settings, month_start
from eo_causal.errors import CoverageError, GeorefError

MONTHS = range(1, 13)


class ClimatologySettings(Settings):
    """The base period, and how many years a calendar month needs."""

    period: Period | None = Field(
        default=None, description="first and last month of the base period; none: the whole record"
    )
    min_years: Annotated[int, Field(ge=1)] = Field(
        default=3, description="calendar months with fewer valid years in a cell are missing"
    )


def monthly_climatology(cube: xr.DataArray, settings: ClimatologySettings) -> xr.Dataset:
    """Mean of each calendar month over a base period.

    For an impact study the base period should end before the intervention; otherwise part of the
    effect is taken for usual.

    Parameters
    ----------
    cube : DataArray (time, ...)
        Monthly values, NaN = missing; numpy or dask.
    settings : ClimatologySettings
        Base period and smallest number of years.

    Returns
    -------
    Dataset (month, ...)
        The cube's variable (float64, the cube's units) for months 1 to 12, NaN where fewer than
        ``min_years`` years are valid, and ``n_years``. Lazy when the cube is; store it before
        computing anomalies of a large cube, so that no graph holds the cube twice.

    Raises
    ------
    CoverageError
        No month of the base period is in the cube.
    """
    base = cube
    if settings.period is not None:
        first, last = (month_start(month) for month in settings.period)
        base = cube.sel(time=slice(first, last))
    if base.sizes["time"] == 0:
        raise CoverageError(
            f"climatology.period {settings.period} holds none of the cube's"
            f" {cube.sizes['time']} months. Choose a period inside the record.",
            period=settings.period,
        )
    name = str(cube.name or "value")
    calendar_month = base["time"].dt.month.to_numpy()
    # plain slices, not groupby: the answer must not depend on whether flox is installed
    years = [base.isel(time=np.flatnonzero(calendar_month == month)) for month in MONTHS]
    months = pd.Index(MONTHS, name="month")
    n_years = xr.concat([year.count("time") for year in years], dim=months)
    total = xr.concat([year.sum("time", dtype=np.float64) for year in years], dim=months)
    enough = n_years >= settings.min_years
    mean = (total / n_years.where(enough)).assign_attrs(cube.attrs)
    first_month, last_month = (f"{base.indexes['time'][i]:%Y-%m}" for i in (0, -1))
    return xr.Dataset({name: mean, "n_years": n_years}).assign_attrs(
        base_period=f"{first_month} to {last_month}", min_years=settings.min_years
    )


def anomaly(cube: xr.DataArray, climatology: xr.Dataset) -> xr.DataArray:
    """Each month minus the climatology of its calendar month.

    Parameters
    ----------
    cube : DataArray (time, ...)
        On the grid the climatology was computed on.
    climatology : Dataset (month, ...)
        From :func:`monthly_climatology`.

    Returns
    -------
    DataArray (time, ...)
        In the cube's units and precision; NaN where either is missing.

    Raises
    ------
    GeorefError
        Dimensions or coordinates of the two differ.
    """
    usual = climatology[str(cube.name or "value")]
    _check_same_grid(cube, usual)
    calendar_month = cube["time"].dt.month
    departures = cube - usual.sel(month=calendar_month).drop_vars("month")
    return departures.astype(cube.dtype).transpose(*cube.dims).rename(cube.name).assign_attrs(
        {**cube.attrs, "cell_methods": "time: anomaly from monthly mean"}
    )  # fmt: skip


def _check_same_grid(cube: xr.DataArray, usual: xr.DataArray) -> None:
    mine = {dim: size for dim, size in cube.sizes.items() if dim != "time"}
    theirs = {dim: size for dim, size in usual.sizes.items() if dim != "month"}
    shared = [name for name in cube.coords if name in usual.coords and name != "time"]
    differ = [str(name) for name in shared if not cube.coords[name].equals(usual.coords[name])]
    if mine != theirs or differ:
        raise GeorefError(
            f"the climatology is on another grid: {theirs} against {mine}"
            + (f", coordinates {', '.join(differ)} differ" if differ else "")
            + ". Compute it from the same cube.",
            coordinates=differ,
        )
