"""The scenes table: one row per file and band, every row with a status and a reason."""

import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import geopandas
import numpy as np
import pandas as pd

from eo_causal.core.artefacts import write_atomic
from eo_causal.errors import EOCausalError, GeorefError, IntegrityError

Degrees = tuple[float, float, float, float]
Status = Literal["ok", "missing", "refused", "duplicate", "outside"]
NOWHERE: Degrees = (math.nan, math.nan, math.nan, math.nan)
UNSTORED = ("source", "footprint", "processed", "checksum", "failure")
TYPES = {
    "datetime": "datetime64[ns]", "datetime_end": "datetime64[ns]", "offset_applied": "boolean",
    "rows": "Int64", "columns": "Int64", "band_index": "Int64", "bytes": "Int64",
}  # fmt: skip
NUMBERS = ("west", "south", "east", "north", "cloud_cover", "nodata", "scale", "offset")


@dataclass(frozen=True)
class SceneRow:
    """One band of one file, or why there is none.

    Attributes
    ----------
    item_id : str
        The scene; several rows may belong to it.
    href : str
        Path or URL, the latter without its query.
    datetime, datetime_end : Timestamp
        UTC; the end is NaT unless the scene covers a period.
    product, platform, baseline : str or None
    offset_applied : bool or None
        What the item says of the Sentinel-2 offset.
    crs : str or None
        WKT.
    transform : tuple of 6 floats or None
        North up: column step, 0, west edge, 0, row step, north edge, in CRS units.
    rows, columns : int or None
    west, south, east, north : float
        Degrees; west > east where the scene crosses 180 degrees.
    band : str or None
    band_index : int or None
        Its number in the file, from 1.
    role : {"data", "quality"}
    cloud_cover : float
        Percent; NaN = not known.
    nodata, scale, offset : float
        Raw number that is no value (NaN = none), and what turns raw numbers into values.
    bytes : int or None
    sha256 : str or None
    status : {"ok", "missing", "refused", "duplicate", "outside"}
    reason : str
        Why the status is not ok, or what is not known of a row that is.
    source : str
        Item file and position in it; rows of one source are one item. Not stored.
    footprint : 4 floats
        The item's own bounds in degrees. Not stored.
    processed : str
        When the producer made it, ISO 8601. Not stored.
    checksum : str
        The item's ``file:checksum``. Not stored.
    failure : EOCausalError or None
        What kept a wanted band from being used. Not stored.
    """

    item_id: str
    href: str
    datetime: pd.Timestamp = pd.NaT
    datetime_end: pd.Timestamp = pd.NaT
    product: str | None = None
    platform: str | None = None
    baseline: str | None = None
    offset_applied: bool | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    rows: int | None = None
    columns: int | None = None
    west: float = math.nan
    south: float = math.nan
    east: float = math.nan
    north: float = math.nan
    band: str | None = None
    band_index: int | None = None
    role: Literal["data", "quality"] = "data"
    cloud_cover: float = math.nan
    nodata: float = math.nan
    scale: float = math.nan
    offset: float = math.nan
    bytes: int | None = None
    sha256: str | None = None
    status: Status = "ok"
    reason: str = ""
    source: str = ""
    footprint: Degrees = NOWHERE
    processed: str = ""
    checksum: str = ""
    failure: EOCausalError | None = None

    @property
    def bounds(self) -> Degrees:
        """West, south, east, north in degrees."""
        return self.west, self.south, self.east, self.north

    @property
    def middle(self) -> pd.Timestamp:
        """Middle of the scene's time, UTC."""
        if pd.isna(self.datetime_end):
            return self.datetime
        return self.datetime + (self.datetime_end - self.datetime) / 2

    def placed(self, bounds: Degrees) -> "SceneRow":
        """The row with its bounds in degrees."""
        west, south, east, north = bounds
        return replace(self, west=west, south=south, east=east, north=north)

    def without(self, status: Status, reason: str) -> "SceneRow":
        """The row as one that is not used."""
        return replace(self, status=status, reason=reason)

    def failed(self, error: EOCausalError, status: Status = "refused") -> "SceneRow":
        """The row as one that was wanted and cannot be used."""
        return replace(self, status=status, reason=error.message, failure=error)


COLUMNS = tuple(item.name for item in fields(SceneRow) if item.name not in UNSTORED)


def scene_table(rows: Sequence[SceneRow]) -> pd.DataFrame:
    """Rows as a table with one type per column."""
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return _typed(pd.DataFrame(columns, columns=list(COLUMNS), dtype=object))


def catalog_frame(scenes: pd.DataFrame) -> geopandas.GeoDataFrame:
    """The scenes table with a box in degrees per row, in two parts where it crosses 180 degrees."""
    corners = scenes[["west", "south", "east", "north"]].to_numpy(dtype=float)
    boxes = [_box(*row) if np.isfinite(row).all() else None for row in corners]
    return geopandas.GeoDataFrame(scenes, geometry=boxes, crs="EPSG:4326")


def write_scenes(scenes: pd.DataFrame, path: Path) -> None:
    """Write the scenes table as GeoParquet, in a single step."""
    stream = io.BytesIO()
    catalog_frame(scenes).to_parquet(stream)
    write_atomic(path, stream.getvalue())


def read_scenes(path: Path) -> pd.DataFrame:
    """Read what :func:`write_scenes` wrote.

    Raises
    ------
    IntegrityError
        No readable scenes table.
    """
    try:
        return _typed(pd.DataFrame(geopandas.read_parquet(path))[list(COLUMNS)])
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(
            f"{path}: no readable scenes table ({error}). Make the catalog again.", path=str(path)
        ) from error


def degree_bounds(crs: str, bounds: Sequence[float], name: str) -> Degrees:
    """Bounds of a grid in degrees; west > east where it crosses 180 degrees.

    Parameters
    ----------
    crs : str
        WKT.
    bounds : (west, south, east, north)
        In units of ``crs``.
    name : str
        What an error calls the grid.

    Raises
    ------
    GeorefError
        The bounds lie at no place on Earth.
    """
    from pyproj.exceptions import ProjError

    try:
        west, south, east, north = _to_degrees(crs).transform_bounds(*bounds, densify_pts=21)
        centre = _to_degrees(crs).transform(*np.reshape(bounds, (2, 2)).mean(axis=0))
    except ProjError:
        west = south = east = north = math.nan
        centre = (math.nan, math.nan)
    if not np.isfinite([west, south, east, north, *centre]).all():
        raise GeorefError(
            f"{name}: bounds {[round(edge, 3) for edge in bounds]} lie at no place on Earth. Do"
            " transform and CRS belong together?", name=name, bounds=list(bounds),
        )  # fmt: skip
    if east - west >= 360:
        return -180.0, south, 180.0, north
    return _wrapped(west), south, _wrapped(east) if east > 180 else east, north


def grid_bounds(transform: Sequence[float], rows: int, columns: int) -> Degrees:
    """West, south, east, north edge of a grid in its own units."""
    step_x, _, west, _, step_y, north = transform
    return west, north + step_y * rows, west + step_x * columns, north


def gap_degrees(first: Degrees, second: Degrees) -> float:
    """Distance in degrees between two boxes, either of which may cross 180 degrees; 0 = they meet."""
    forward, backward = (second[0] - first[0]) % 360, (first[0] - second[0]) % 360
    across = min(forward - _width(first), backward - _width(second))
    upwards = max(second[1] - first[3], first[1] - second[3])
    return math.hypot(max(across, 0.0), max(upwards, 0.0))


def _width(bounds: Degrees) -> float:
    west, _, east, _ = bounds
    return east - west if east >= west else east - west + 360


def _wrapped(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


@functools.lru_cache(maxsize=64)
def _to_degrees(crs: str) -> Any:
    from pyproj import CRS, Transformer

    return Transformer.from_crs(CRS.from_wkt(crs), "EPSG:4326", always_xy=True)


def _box(west: float, south: float, east: float, north: float) -> Any:
    import shapely

    if west <= east:
        return shapely.box(west, south, east, north)
    parts = [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
    return shapely.MultiPolygon(parts)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """One type per column, whatever file or list the values come from."""
    table = table.astype(TYPES | dict.fromkeys(NUMBERS, "float64"))
    texts = [name for name in COLUMNS if name not in (*TYPES, *NUMBERS, "transform")]
    table = table.astype(dict.fromkeys(texts, "str"))
    grids = [None if value is None else tuple(map(float, value)) for value in table["transform"]]
    return table.assign(transform=pd.Series(grids, index=table.index, dtype=object))
