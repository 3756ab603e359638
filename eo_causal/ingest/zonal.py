"""From a cube to one series per zone, with coverage weights and honest gaps."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from eo_causal.core.progress import count, track
from eo_causal.core.settings import Bounds, Settings
from eo_causal.errors import ConfigError, CoverageError

Floats = NDArray[np.float64]
Method = Literal["ratio", "mean", "interpolate", "median", "geometric_mean"]


class ZoneSettings(Settings):
    """How cells become zone means.

    ``ratio`` divides each month by what its own valid cells usually hold, so that clouds over one
    part of a zone do not move its mean. ``interpolate`` is the published path: linear in time per
    cell, then a cos(latitude) mean of the cells whose centre lies in the zone.
    """

    method: Method = "ratio"
    min_valid_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="months below this share of valid weight are missing"
    )
    min_valid_months: Annotated[int, Field(ge=1)] = Field(
        default=24, description="cells with fewer valid months are left out by ratio"
    )
    allow_subpixel: bool = Field(default=False, description="allow zones smaller than one cell")


def zone_frame(zones: dict[str, Bounds]) -> geopandas.GeoDataFrame:
    """Boxes of a config as a GeoDataFrame with columns ``zone`` and ``geometry`` (EPSG:4326).

    Raises
    ------
    ConfigError
        There is no zone.
    """
    from shapely.geometry import box

    if not zones:
        raise ConfigError("zones: there is none. Name at least an impact and a control zone.")
    boxes = [box(*bounds) for bounds in zones.values()]
    return geopandas.GeoDataFrame({"zone": list(zones)}, geometry=boxes, crs=4326)


def zone_weights(cube: xr.DataArray, zones: geopandas.GeoDataFrame) -> sparse.csr_array:
    """Covered area of every cell in every zone.

    Parameters
    ----------
    cube : DataArray (..., y, x)
        On a regular grid of decreasing ``latitude (y)`` and increasing ``longitude (x)``, degrees.
    zones : GeoDataFrame
        Columns ``zone``, ``geometry``.

    Returns
    -------
    csr_array (zone, cell), float64
        Coverage times cell area on the unit sphere (sin north - sin south); cells row by row.
    """
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    latitude = cube["latitude"].to_numpy().astype(float)
    longitude = cube["longitude"].to_numpy().astype(float)
    n_y, n_x = len(latitude), len(longitude)
    step_y, step_x = _step(latitude), _step(longitude)
    west, north = longitude[0] - step_x / 2, latitude[0] + step_y / 2
    geometry = zones.to_crs(4326)
    source = NumPyRasterSource(
        np.zeros((n_y, n_x)), xmin=west, xmax=west + n_x * step_x,
        ymin=north - n_y * step_y, ymax=north, srs_wkt=geometry.crs.to_wkt(),
    )  # fmt: skip
    found = exact_extract(source, geometry, ["cell_id", "coverage"])
    edges = np.sin(np.deg2rad(latitude + step_y / 2)) - np.sin(np.deg2rad(latitude - step_y / 2))
    rows, cells, values = [], [], []
    for position, feature in enumerate(found):
        ids = np.asarray(feature["properties"]["cell_id"], dtype=np.int64)
        coverage = np.asarray(feature["properties"]["coverage"], dtype=float)
        rows.append(np.full(len(ids), position))
        cells.append(ids)
        values.append(coverage * edges[ids // n_x] * np.deg2rad(step_x))
    shape = (len(zones), n_y * n_x)
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(cells)))
    return sparse.csr_array(parts, shape=shape)


def centre_weights(cube: xr.DataArray, zones: geopandas.GeoDataFrame) -> sparse.csr_array:
    """cos(latitude) of the cells whose centre lies in the zone's bounds, edges included."""
    latitude, longitude = cube["latitude"].to_numpy(), cube["longitude"].to_numpy()
    rows = []
    for west, south, east, north in zones.geometry.bounds.to_numpy():
        inside = ((latitude >= south) & (latitude <= north))[:, None] & (
            (longitude >= west) & (longitude <= east)
        )
        cosine = np.cos(np.deg2rad(latitude.astype(float)))[:, None]
        rows.append(np.where(inside, cosine, 0.0).ravel())
    return sparse.csr_array(np.array(rows))


def zone_means(
    cube: xr.DataArray, zones: geopandas.GeoDataFrame, settings: ZoneSettings
) -> xr.Dataset:
    """One series per zone.

    Parameters
    ----------
    cube : DataArray (time, y, x)
        NaN = invalid; read block by block in time, never whole.
    zones : GeoDataFrame
        Columns ``zone`` and ``geometry``.
    settings : ZoneSettings
        Method and gap rules.

    Returns
    -------
    Dataset (zone, time)
        The cube's variable, ``n_valid`` cells, ``valid_fraction`` of the ever-valid weight, and
        ``water_fraction (zone)``, the ever-valid share of the zone.

    Raises
    ------
    CoverageError
        A zone outside the grid, without any valid cell, or smaller than one cell.
    """
    paper = settings.method == "interpolate"
    weights = (centre_weights if paper else zone_weights)(cube, zones)
    names = [str(name) for name in zones["zone"]]
    _check_coverage(weights, names, settings, cube)
    used = np.flatnonzero(np.asarray(weights.sum(axis=0)).ravel() > 0)
    weights = sparse.csr_array(weights[:, used])
    climate = _cell_statistics(cube, used)
    _check_water(weights, climate, names)
    if paper:
        values, n_valid, fraction = _interpolated(cube, used, weights)
    else:
        values, n_valid, fraction = _reduce(cube, used, weights, climate, settings)
        few = fraction < settings.min_valid_fraction
        count(zone_months_missing=int(few.sum()), zone_months=int(few.size))
        values = np.where(few, np.nan, values)
    ever = weights @ (climate["n_valid"] > 0).astype(float)
    name = str(cube.name or "kd490")
    result = xr.Dataset(
        {
            name: (("zone", "time"), values.T, dict(cube.attrs)),
            "n_valid": (("zone", "time"), n_valid.T),
            "valid_fraction": (("zone", "time"), fraction.T),
            "water_fraction": ("zone", ever / np.asarray(weights.sum(axis=1)).ravel()),
        },
        coords={"zone": names, "time": cube["time"].to_numpy()},
    )
    return result.assign_attrs(zone_method=settings.method)


def _reduce(
    cube: xr.DataArray,
    used: NDArray[np.intp],
    weights: sparse.csr_array,
    climate: pd.DataFrame,
    settings: ZoneSettings,
) -> tuple[Floats, NDArray[np.int64], Floats]:
    ever = (climate["n_valid"] > 0).to_numpy()
    ever_weight = weights @ ever.astype(float)
    steady = (climate["n_valid"] >= settings.min_valid_months).to_numpy()
    if settings.method == "ratio":
        count(cells_left_out=int((ever & ~steady).sum()))
    usual = climate["mean"].to_numpy()
    values, counts, fractions = [], [], []
    for block in _blocks(cube, used):
        valid = np.isfinite(block)
        fractions.append((valid @ weights.T) / ever_weight)
        counts.append(valid.astype(np.int64) @ (weights > 0).astype(np.int64).T)
        if settings.method == "ratio":
            values.append(_ratio(block, valid & steady, weights, usual, steady))
        elif settings.method == "median":
            values.append(_median(block, weights))
        else:
            logged = settings.method == "geometric_mean"
            mean = _mean(np.log(block) if logged else block, valid, weights)
            values.append(np.exp(mean) if logged else mean)
    return np.concatenate(values), np.concatenate(counts), np.concatenate(fractions)


def _mean(block: Floats, valid: NDArray[np.bool_], weights: sparse.csr_array) -> Floats:
    total = np.where(valid, block, 0.0) @ weights.T
    weight = valid.astype(float) @ weights.T
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def _ratio(
    block: Floats,
    valid: NDArray[np.bool_],
    weights: sparse.csr_array,
    usual: Floats,
    steady: NDArray[np.bool_],
) -> Floats:
    """[sum w x / sum w c over valid cells] times the zone's long-term mean of c."""
    known = np.where(steady, usual, 0.0)
    total = np.where(valid, block, 0.0) @ weights.T
    expected = np.where(valid, known, 0.0) @ weights.T
    long_term = (weights @ known) / (weights @ steady.astype(float))
    share = np.divide(total, expected, out=np.full_like(total, np.nan), where=expected != 0)
    return share * long_term


def _median(block: Floats, weights: sparse.csr_array) -> Floats:
    from eo_causal.ingest.weighted_median import weighted_lower_median

    return weighted_lower_median(block, weights.indptr, weights.indices, weights.data)


def _interpolated(
    cube: xr.DataArray, used: NDArray[np.intp], weights: sparse.csr_array
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Linear in time per cell, then the weighted mean, all in the cube's own precision.

    Cells are added from south to north as in the published code: in float32 the order shows.
    """
    block = _flat(cube, used).load()
    filled = block.interpolate_na("time")
    n_filled = int((block.isnull() & filled.notnull()).sum())
    count(cell_months_interpolated=n_filled)
    latitude = np.broadcast_to(cube["latitude"], (cube.sizes["x"], cube.sizes["y"])).T.ravel()[used]
    values = []
    for row in weights.toarray():
        inside = np.flatnonzero(row)
        mine = inside[np.argsort(latitude[inside], kind="stable")]
        weight = xr.DataArray(row[mine].astype(block.dtype), dims="cell")
        values.append(filled.isel(cell=mine).weighted(weight).mean("cell").to_numpy())
    valid = np.isfinite(block.to_numpy())
    ever = weights @ valid.any(axis=0).astype(float)
    n_valid = valid.astype(np.int64) @ (weights > 0).astype(np.int64).T
    return np.array(values, dtype=float).T, n_valid, (valid.astype(float) @ weights.T) / ever


def _cell_statistics(cube: xr.DataArray, used: NDArray[np.intp]) -> pd.DataFrame:
    """Number of valid months and long-term mean of every used cell."""
    total, n_valid = np.zeros(len(used)), np.zeros(len(used), dtype=np.int64)
    for block in _blocks(cube, used):
        valid = np.isfinite(block)
        for month in np.where(valid, block, 0.0):  # in turn, so that blocks do not change a bit
            total += month
        n_valid += valid.sum(axis=0)
    mean = np.divide(total, n_valid, out=np.full(len(used), np.nan), where=n_valid > 0)
    return pd.DataFrame({"n_valid": n_valid, "mean": mean})


def _blocks(cube: xr.DataArray, used: NDArray[np.intp]) -> Iterator[Floats]:
    """The used cells in float64, one time block after the other."""
    sizes = cube.chunks[0] if cube.chunks else (cube.sizes["time"],)
    ends = np.cumsum(sizes)
    starts = ends - np.asarray(sizes)
    for start, end in track(list(zip(starts, ends, strict=True)), "zone means"):
        block = _flat(cube.isel(time=slice(int(start), int(end))), used)
        yield block.to_numpy().astype(float)


def _flat(cube: xr.DataArray, used: NDArray[np.intp]) -> Any:
    """Cells along one dimension, only the used ones, cut to their bounding box first."""
    rows, columns = np.unravel_index(used, (cube.sizes["y"], cube.sizes["x"]))
    box = cube.isel(
        y=slice(int(rows.min()), int(rows.max()) + 1),
        x=slice(int(columns.min()), int(columns.max()) + 1),
    )
    loaded = box.load() if cube.chunks else box
    return loaded.isel(
        y=xr.DataArray(rows - rows.min(), dims="cell"),
        x=xr.DataArray(columns - columns.min(), dims="cell"),
    )


def _check_coverage(
    weights: sparse.csr_array, names: list[str], settings: ZoneSettings, cube: xr.DataArray
) -> None:
    extent = (
        f"longitude {float(cube['longitude'].min()):.2f} to {float(cube['longitude'].max()):.2f},"
        f" latitude {float(cube['latitude'].min()):.2f} to {float(cube['latitude'].max()):.2f}"
    )
    for row, name in enumerate(names):
        mine = weights.data[weights.indptr[row] : weights.indptr[row + 1]]
        if not mine.sum() > 0:
            raise CoverageError(
                f"zone {name!r} covers no cell of the data ({extent}). Are longitude and latitude"
                " swapped? Correct zones, or widen the data.", zone=name,
            )  # fmt: skip
        if not settings.allow_subpixel and len(mine) == 1:
            raise CoverageError(
                f"zone {name!r} lies within a single cell. Enlarge it, or set"
                " zone_means.allow_subpixel: true.", zone=name,
            )  # fmt: skip


def _check_water(weights: sparse.csr_array, climate: pd.DataFrame, names: list[str]) -> None:
    ever = weights @ (climate["n_valid"] > 0).to_numpy().astype(float)
    for name, weight in zip(names, ever, strict=True):
        if not weight > 0:
            raise CoverageError(
                f"zone {name!r} has no cell that is ever valid (land, or always cloudy). Move it"
                " onto water.", zone=name,
            )  # fmt: skip


def _step(values: Floats) -> float:
    if len(values) < 2:
        raise CoverageError("a grid of a single row or column has no cell size; widen the data.")
    return float(abs(values[-1] - values[0]) / (len(values) - 1))
