"""Maps in cells: what a function of chips says of every square of ground, without keeping a pixel.

Cells lie on the lattice of the images. They are read in strips, so that memory grows with a strip and not
with the map, and in parts, each of which is a stage of its own: a stopped map goes on with the next part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count, track
from eo_causal.core.settings import Settings
from eo_causal.core.tasks import compute_tasks
from eo_causal.errors import ConfigError, CoverageError, ReadError
from eo_causal.ingest.chip_batch import Batch, BatchRecord, read_batch
from eo_causal.ingest.chip_plan import plan_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import batches_of, check_rules, fractional_years
from eo_causal.ingest.scene import Scene, scenes_of
from eo_causal.ingest.targets import is_geographic, short_crs

CELLS_AT_ONCE = 8192
WAVE = 64
NUDGE = 0.25  # pixels: the middle of an even number of pixels is an edge, which rounding may miss


class CellReader(Protocol):
    """What turns chips into layers of a map; travels to workers."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""

    def __call__(self, chips: xr.DataArray) -> NDArray[np.floating]:
        """(unit, layer) values of (unit, time, band, y, x) chips, each with a usable date or more."""


class CellSettings(Settings):
    """Size and number of cells, and how the work is divided."""

    cell_pixels: int = Field(default=16, ge=1, description="side of a cell, pixels of the images")
    least_dates: int = Field(default=1, ge=1, description="usable dates a cell needs")
    n_parts: int = Field(
        default=4, ge=1, le=1000, description="stages the map is made in; changes no value"
    )


@dataclass(frozen=True)
class Lattice:
    """Cells over the extent of all images.

    Attributes
    ----------
    crs : str
    west, north : float
        Outer corner, units of the reference system.
    step : (float, float)
        Width and height of a cell, both positive.
    shape : (int, int)
        Rows and columns of cells.
    """

    crs: str
    west: float
    north: float
    step: tuple[float, float]
    shape: tuple[int, int]

    @classmethod
    def of(cls, scenes: list[Scene], cell_pixels: int) -> "Lattice":
        """Cells from the north-western corner of all scenes; the last ones may reach beyond them."""
        across, _, _, _, down, _ = scenes[0].transform
        corners = [_bounds(scene) for scene in scenes]
        west, north = min(c[0] for c in corners), max(c[3] for c in corners)
        east, south = max(c[2] for c in corners), min(c[1] for c in corners)
        step = (across * cell_pixels, -down * cell_pixels)
        rows, columns = (north - south) / step[1], (east - west) / step[0]
        shape = (int(np.ceil(rows - 1e-6)), int(np.ceil(columns - 1e-6)))
        return cls(scenes[0].crs, west, north, step, shape)

    def centres(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[Any, Any]:
        """Easting and northing of the middles of cells."""
        return (
            self.west + (columns + 0.5) * self.step[0],
            self.north - (rows + 0.5) * self.step[1],
        )


def map_cells(
    catalog: pd.DataFrame,
    part: int,
    settings: CellSettings,
    chips: ChipSettings,
    reader: CellReader,
) -> xr.DataArray:
    """One part of a map: layers that ``reader`` makes of the chips around all its cells.

    Parameters
    ----------
    catalog : DataFrame
        Scenes, see :func:`eo_causal.ingest.catalog.read_catalog`.
    part : int
        0 ... ``settings.n_parts`` - 1, from the north.
    settings : CellSettings
    chips : ChipSettings
        Footprint around each cell's middle, dates, quality; ``grid: native``.
    reader : CellReader

    Returns
    -------
    DataArray (y, x, layer) float32
        NaN where no image has enough usable dates. ``northing (y)`` and ``easting (x)`` of the middles
        of cells in ``attrs["crs"]``.

    Raises
    ------
    ConfigError
        Chips on another grid than the images'.
    CoverageError
        More parts than rows of cells.
    """
    if chips.grid != "native":
        raise ConfigError("maps need chips.grid: native, so that cells lie on the images' lattice.")
    scenes, bands = scenes_of(catalog, chips.bands)
    check_rules(scenes, chips)
    lattice = Lattice.of(scenes, settings.cell_pixels)
    if settings.n_parts > lattice.shape[0]:
        raise CoverageError(
            f"map.n_parts is {settings.n_parts}, but the map has {lattice.shape[0]} rows of cells. Ask"
            " for fewer parts, or smaller cells.", n_parts=settings.n_parts,
        )  # fmt: skip
    first, last = (lattice.shape[0] * (part + k) // settings.n_parts for k in (0, 1))
    values = np.full((last - first, lattice.shape[1], len(reader.layers)), np.nan, dtype=np.float32)
    strips = list(_strips(first, last, lattice.shape[1]))
    for rows in track(strips, f"map, part {part + 1} of {settings.n_parts}"):
        values[rows.start - first : rows.stop - first] = _strip(
            rows, lattice, scenes, bands, settings, chips, reader
        )
    mapped = int(np.isfinite(values).all(axis=2).sum())
    count(cells=values.shape[0] * values.shape[1], cells_mapped=mapped)
    return _array(values, lattice, first, reader.layers)


def cells_at(parts: list[xr.DataArray], places: geopandas.GeoDataFrame) -> pd.DataFrame:
    """Layers of the cells that places lie in.

    Parameters
    ----------
    parts : list of DataArray (y, x, layer)
        All parts of a map, from the north.
    places : GeoDataFrame
        ``unit_id``, points in EPSG:4326.

    Returns
    -------
    DataFrame
        ``unit_id`` and a column a layer, in the order of ``places``.

    Raises
    ------
    CoverageError
        Places beyond the map, or in cells that are empty.
    """
    crs = parts[0].attrs["crs"]
    across, down = parts[0].attrs["step"]
    vertical, horizontal = _axes(crs)
    west = float(parts[0][horizontal][0]) - across / 2
    north = float(parts[0][vertical][0]) + down / 2
    points = places.geometry.to_crs(crs)
    column = np.floor((points.x.to_numpy() - west) / across).astype(np.intp)
    row = np.floor((north - points.y.to_numpy()) / down).astype(np.intp)
    values = np.full((len(places), parts[0].sizes["layer"]), np.nan)
    start = 0
    for part in parts:
        own = (row >= start) & (row < start + part.sizes["y"])
        own &= (column >= 0) & (column < part.sizes["x"])
        values[own] = part.to_numpy()[row[own] - start, column[own]]
        start += part.sizes["y"]
    empty = ~np.isfinite(values).all(axis=1)
    if empty.any():
        first = places["unit_id"].to_numpy()[empty][0]
        raise CoverageError(
            f"{int(empty.sum())} of {len(places)} places lie beyond the map or where it is empty (first:"
            f" {first}). Leave them out, or map a larger area.", n=int(empty.sum()),
        )  # fmt: skip
    table = pd.DataFrame(values, columns=parts[0]["layer"].to_numpy())
    table.insert(0, "unit_id", places["unit_id"].to_numpy())
    return table


def read_cells(
    batch: Batch,
    bands: tuple[str, ...],
    settings: ChipSettings,
    least_dates: int,
    reader: CellReader,
) -> tuple[NDArray[np.float32], BatchRecord]:
    """Layers of a batch of cells, NaN where dates are too few; the task that runs on a worker."""
    values, record = read_batch(batch, settings)
    found = np.full((len(values), len(reader.layers)), np.nan, dtype=np.float32)
    usable = (~np.isnat(record.times)).sum(axis=1) >= least_dates
    if usable.any():
        ids = np.arange(len(values))[usable].astype(str)
        times = record.times[usable]
        height, width = values.shape[-2:]
        across, down = batch.targets.step
        found[usable] = reader(
            xr.DataArray(
                values[usable], dims=("unit", "time", "band", "y", "x"), name="chips",
                coords={
                    "unit_id": ("unit", ids), "image_key": ("unit", ids), "band": list(bands),
                    "y": (height / 2 - 0.5 - np.arange(height)) * down,
                    "x": (np.arange(width) + 0.5 - width / 2) * across,
                    "datetime": (("unit", "time"), times),
                    "fractional_year": (("unit", "time"), fractional_years(times)),
                },
            )
        )  # fmt: skip
    return found, record


def _strips(first: int, last: int, columns: int) -> Iterator[range]:
    step = max(1, CELLS_AT_ONCE // columns)
    return (range(start, min(start + step, last)) for start in range(first, last, step))


def _strip(
    rows: range,
    lattice: Lattice,
    scenes: list[Scene],
    bands: list[str],
    settings: CellSettings,
    chips: ChipSettings,
    reader: CellReader,
) -> NDArray[np.float32]:
    """(row, column, layer) of some rows."""
    from dask.delayed import delayed

    shape = (len(rows), lattice.shape[1], len(reader.layers))
    values = np.full((shape[0] * shape[1], shape[2]), np.nan, dtype=np.float32)
    places, cell = _places(rows, lattice, scenes)
    if not len(cell):
        return values.reshape(shape)
    plan = plan_chips(places, scenes, len(bands), chips)
    task, common = delayed(read_cells, pure=False), delayed(reader, traverse=False)
    jobs = [
        task(batch, tuple(bands), chips, settings.least_dates, common)
        for batch in batches_of(plan, places, scenes, bands)
    ]
    failed: list[str] = []
    for start in range(0, len(jobs), WAVE):
        for found, record in compute_tasks(jobs[start : start + WAVE]):
            own = plan.positions[record.start : record.start + len(found)]
            values[cell[own]] = found
            failed += [row["reason"] for row in record.notes.failures]
    if len(failed) > chips.max_failed * max(len(plan.pair_chip), 1):
        raise ReadError(
            f"{len(failed)} reads failed in rows {rows.start} to {rows.stop} of the map, more than"
            f" max_failed ({chips.max_failed:g}) allows. First: {failed[0]}", n_failed=len(failed),
        )  # fmt: skip
    count(cell_reads_failed=len(failed))
    return values.reshape(shape)


def _places(
    rows: range, lattice: Lattice, scenes: list[Scene]
) -> tuple[geopandas.GeoDataFrame, NDArray[np.intp]]:
    """Cells of a strip whose middle lies on a scene, and their places in the strip."""
    row, column = (part.ravel() for part in np.mgrid[rows.start : rows.stop, : lattice.shape[1]])
    east, north = lattice.centres(row, column)
    on = np.zeros(len(row), dtype=bool)
    for west, south, right, top in map(_bounds, scenes):
        on |= (east > west) & (east < right) & (north > south) & (north < top)
    cell = np.flatnonzero(on)
    ids = cell.astype(str).astype(object)
    across, _, _, _, down, _ = scenes[0].transform
    inside = east[on] + NUDGE * across, north[on] + NUDGE * down
    points = geopandas.points_from_xy(*inside, crs=lattice.crs)
    frame = geopandas.GeoDataFrame({"unit_id": ids, "image_key": ids}, geometry=points)
    return frame.to_crs("EPSG:4326"), cell


def _bounds(scene: Scene) -> tuple[float, float, float, float]:
    """West, south, east, north."""
    across, _, west, _, down, north = scene.transform
    return west, north + down * scene.shape[0], west + across * scene.shape[1], north


def _array(
    values: NDArray[np.float32], lattice: Lattice, first: int, layers: tuple[str, ...]
) -> xr.DataArray:
    rows = first + np.arange(values.shape[0])
    east = lattice.centres(rows[:1], np.arange(values.shape[1]))[0]
    down = lattice.centres(rows, np.zeros(1, dtype=np.intp))[1]
    names = _axes(lattice.crs)
    return xr.DataArray(
        values, dims=("y", "x", "layer"), name="map",
        coords={names[0]: ("y", down), names[1]: ("x", east), "layer": list(layers)},
        attrs={"crs": short_crs(lattice.crs), "step": list(lattice.step)},
    )  # fmt: skip


def _axes(crs: str) -> tuple[str, str]:
    return ("latitude", "longitude") if is_geographic(crs) else ("northing", "easting")
