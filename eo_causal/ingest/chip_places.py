"""Where chips lie on Earth."""

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.errors import DataError
from eo_causal.ingest.targets import is_geographic

EVERYWHERE = "elsewhere"


def chip_places(
    chips: xr.DataArray, units: geopandas.GeoDataFrame | None, area: str | None
) -> pd.DataFrame:
    """Where chips lie, and in which named area.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
    units : GeoDataFrame or None
        Places that the chips were cut around, with their columns; None for ready-made chips.
    area : str or None
        Column of ``units`` that names areas; without it all places are one area, ``elsewhere``.

    Returns
    -------
    DataFrame
        ``unit_id``, ``image_key``, ``longitude``, ``latitude`` (degrees, of the chips' middles),
        ``area``; in the order of the chips.

    Raises
    ------
    DataError
        Chips that do not know their place; places without an area.
    """
    if "unit_crs" not in chips.coords:
        raise DataError(
            "these chips do not know where they lie. Give their file longitude and latitude."
        )
    crs = chips["unit_crs"].to_numpy().astype(str)
    east, north = (chips[f"centre_{name}"].to_numpy() for name in ("easting", "northing"))
    longitude, latitude = np.empty(len(crs)), np.empty(len(crs))
    for name in np.unique(crs):
        own = crs == name
        longitude[own], latitude[own] = _to_earth(east[own], north[own], str(name))
    ids = {name: chips[name].to_numpy().astype(str) for name in ("unit_id", "image_key")}
    table = pd.DataFrame({**ids, "longitude": longitude, "latitude": latitude})
    return table.assign(area=_areas(table, units, area))


def _areas(
    table: pd.DataFrame, units: geopandas.GeoDataFrame | None, area: str | None
) -> NDArray[np.object_]:
    if units is None or area is None:
        return np.full(len(table), EVERYWHERE, dtype=object)
    if area not in units.columns:
        raise DataError(f"the places have no column {area}. Add it to their `labels`.", column=area)
    found = units.set_index("unit_id")[area].reindex(table["unit_id"])
    if found.isna().any():
        first = found.index[found.isna()][0]
        raise DataError(
            f"{int(found.isna().sum())} of {len(table)} places have no {area} (first: {first}). Name"
            " one for each.", column=area,
        )  # fmt: skip
    return found.to_numpy(dtype=object)


def _to_earth(
    east: NDArray[np.float64], north: NDArray[np.float64], crs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from pyproj import Transformer

    if is_geographic(crs):
        return east, north
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(
        east, north
    )
    return np.asarray(longitude), np.asarray(latitude)
