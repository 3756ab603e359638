"""From a cube to one series per zone, with coverage weights and honest gaps."""

import dataclasses
import functools
import warnings
from typing import Annotated, Literal, cast

import geopandas
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from eo_causal.core.progress import count
from eo_causal.core.settings import Bounds, Settings
from eo_causal.errors import ConfigError, CoverageError, EOCausalWarning
from eo_causal.ingest.zone_sums import (
    BlockSums,
    Reduction,
    ZonePlan,
    over_blocks,
    share,
    sum_cells,
    sum_zones,
)

Floats = NDArray[np.float64]
FULLY_INSIDE = 0.99
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
        The cube's variable, ``n_valid`` cells, the ``lowest`` of them, ``valid_fraction`` of the
        ever-valid weight, and ``water_fraction (zone)``, the ever-valid share of the zone.

    Raises
    ------
    CoverageError
        A zone outside the grid, without any valid cell, or smaller than one cell.
    """
    paper = settings.method == "interpolate"
    weights = (centre_weights if paper else zone_weights)(cube, zones)
    names = [str(name) for name in zones["zone"]]
    _check_coverage(weights, names, settings, cube)
    _check_extent(cube, zones, names, settings)
    used = np.flatnonzero(np.asarray(weights.sum(axis=0)).ravel() > 0)
    weights = sparse.csr_array(weights[:, used])
    read = _interpolated if paper else functools.partial(_reduce, settings=settings)
    sums = read(cube, used, weights)
    values, ever_weight = sums.reduced, weights @ sums.ever.astype(float)
    _check_water(ever_weight, names)
    fraction = sums.weight / ever_weight
    if not paper:
        few = fraction < settings.min_valid_fraction
        count(zone_months_missing=int(few.sum()), zone_months=int(few.size))
        values = np.where(few, np.nan, values)
    name = str(cube.name or "kd490")
    result = xr.Dataset(
        {
            name: (("zone", "time"), values.T, dict(cube.attrs)),
            "n_valid": (("zone", "time"), sums.n_valid.T),
            "lowest": (("zone", "time"), np.where(sums.n_valid, sums.lowest, np.nan).T),
            "valid_fraction": (("zone", "time"), fraction.T),
            "water_fraction": ("zone", ever_weight / np.asarray(weights.sum(axis=1)).ravel()),
        },
        coords={"zone": names, "time": cube["time"].to_numpy()},
    )
    return result.assign_attrs(zone_method=settings.method)


def _reduce(
    cube: xr.DataArray, used: NDArray[np.intp], weights: sparse.csr_array, settings: ZoneSettings
) -> BlockSums:
    """All months; ``ever`` runs over the ``used`` cells."""
    box, places = _whole_in_space(cube, used)
    plan = ZonePlan(
        cast(Reduction, settings.method), places.astype(np.uint32),
        weights.indices.astype(np.uint32), weights.indptr.astype(np.uint32), weights.data,
        np.full(len(used), np.nan),
    )  # fmt: skip
    long_term = np.ones(weights.shape[0])
    if settings.method == "ratio":
        known, n_left_out = _usual_values(box, plan, settings.min_valid_months)
        count(cells_left_out=n_left_out)
        plan = dataclasses.replace(plan, usual=known)
        steady_weight = weights @ np.isfinite(known).astype(float)
        long_term = share(weights @ np.nan_to_num(known), steady_weight)
    sums = list(over_blocks(box, sum_zones, plan))
    return BlockSums(
        np.concatenate([block.reduced for block in sums]) * long_term,
        np.concatenate([block.weight for block in sums]),
        np.concatenate([block.n_valid for block in sums]),
        np.concatenate([block.lowest for block in sums]),
        np.any([block.ever for block in sums], axis=0),
    )


def _usual_values(box: xr.DataArray, plan: ZonePlan, min_valid_months: int) -> tuple[Floats, int]:
    """Long-term mean of every used cell, NaN where it is too rarely valid; how many those are."""
    parts = list(over_blocks(box, sum_cells, plan))
    total = np.sum([part.total for part in parts], axis=0)
    n_valid = np.sum([part.n_valid for part in parts], axis=0)
    steady = n_valid >= min_valid_months
    known = share(np.where(steady, total, np.nan), n_valid.astype(float))
    return known, int(((n_valid > 0) & ~steady).sum())


def _whole_in_space(
    cube: xr.DataArray, used: NDArray[np.intp]
) -> tuple[xr.DataArray, NDArray[np.intp]]:
    """The cube with blocks that are whole in space, and the used cells' places in a month of it.

    Where the cube lies in several blocks of space, or in memory, it is cut to the bounding box of
    the used cells first.
    """
    cube = cube.transpose("time", "y", "x")
    if cube.chunks and max(len(sizes) for sizes in cube.chunks[1:]) == 1:
        return cube, used
    rows, columns = np.unravel_index(used, (cube.sizes["y"], cube.sizes["x"]))
    box = _bounding_box(cube, rows, columns)
    places = (rows - rows.min()) * box.sizes["x"] + columns - columns.min()
    return (box.chunk({"y": -1, "x": -1}) if box.chunks else box), places


def _interpolated(
    cube: xr.DataArray, used: NDArray[np.intp], weights: sparse.csr_array
) -> BlockSums:
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
    n_valid = valid.astype(np.int64) @ (weights > 0).astype(np.int64).T
    seen = np.where(valid, block.to_numpy().astype(float), np.inf)
    lowest = np.column_stack([seen[:, row > 0].min(axis=1) for row in weights.toarray()])
    reduced = np.array(values, dtype=float).T
    return BlockSums(reduced, valid.astype(float) @ weights.T, n_valid, lowest, valid.any(axis=0))


def _bounding_box(
    cube: xr.DataArray, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> xr.DataArray:
    return cube.isel(
        y=slice(int(rows.min()), int(rows.max()) + 1),
        x=slice(int(columns.min()), int(columns.max()) + 1),
    ).transpose("time", "y", "x")


def _flat(cube: xr.DataArray, used: NDArray[np.intp]) -> xr.DataArray:
    """Cells along one dimension, only the used ones."""
    rows, columns = np.unravel_index(used, (cube.sizes["y"], cube.sizes["x"]))
    return (
        _bounding_box(cube, rows, columns)
        .load()
        .isel(
            y=xr.DataArray(rows - rows.min(), dims="cell"),
            x=xr.DataArray(columns - columns.min(), dims="cell"),
        )
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


def _check_extent(
    cube: xr.DataArray, zones: geopandas.GeoDataFrame, names: list[str], settings: ZoneSettings
) -> None:
    """Refuse or warn of zones that reach beyond the data: their mean is that of another zone."""
    import shapely

    latitude, longitude = cube["latitude"].to_numpy(), cube["longitude"].to_numpy()
    half_y, half_x = _step(latitude) / 2, _step(longitude) / 2
    grid = shapely.box(
        longitude[0] - half_x, latitude[-1] - half_y, longitude[-1] + half_x, latitude[0] + half_y
    )
    polygons = zones.to_crs(4326).geometry.to_numpy()
    shares = shapely.area(shapely.intersection(polygons, grid)) / shapely.area(polygons)
    for name, inside in zip(names, shares, strict=True):
        text = f"zone {name!r}: only {inside:.0%} of it lies on the data. Correct zones, or widen the data."
        if not inside >= settings.min_valid_fraction:
            raise CoverageError(text, zone=name, inside=float(inside))
        if inside < FULLY_INSIDE:
            warnings.warn(EOCausalWarning(text, "CoverageWarning"), stacklevel=3)


def _check_water(ever_weight: Floats, names: list[str]) -> None:
    for name, weight in zip(names, ever_weight, strict=True):
        if not weight > 0:
            raise CoverageError(
                f"zone {name!r} has no cell that is ever valid (land, or always cloudy). Move it"
                " onto water.", zone=name,
            )  # fmt: skip


def _step(values: Floats) -> float:
    if len(values) < 2:
        raise CoverageError("a grid of a single row or column has no cell size; widen the data.")
    return float(abs(values[-1] - values[0]) / (len(values) - 1))
