"""Study units: places with an id, and what else a table says about them."""

import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Bounds, Settings
from eo_causal.core.sources import InputFiles
from eo_causal.errors import CoverageError, EOCausalWarning, ReadError, TableError
from eo_causal.ingest.read import verify_sidecar
from eo_causal.ingest.tables import MISSING
from eo_causal.ingest.targets import project, utm_zones

MAX_BYTES = 2**31
MAX_GRID = 10_000_000
EARTH = "EPSG:4326"


class UnitGridSettings(Settings):
    """Places at even distances instead of a table."""

    bounds: Bounds = Field(description="area, degrees")
    spacing_m: float = Field(gt=0, description="distance between neighbours")


class UnitSettings(Settings):
    """Where the units are and which column is what."""

    dataset: str | None = Field(default=None, description="named data set the file belongs to")
    file: str | None = Field(
        default=None, description="CSV with coordinates, or GeoPackage, GeoJSON, GeoParquet"
    )
    grid: UnitGridSettings | None = Field(
        default=None, description="places on a grid; then there is no file"
    )
    unit_id: str | None = Field(
        default="unit_id", description="column of the ids; null numbers the rows"
    )
    longitude: str = Field(default="longitude", description="column of a CSV, degrees")
    latitude: str = Field(default="latitude", description="column of a CSV, degrees")
    image_key: str | None = Field(
        default=None, description="column that says which units share a place; the id by default"
    )
    numbers: tuple[str, ...] = Field(default=(), description="numeric columns to keep")
    labels: tuple[str, ...] = Field(default=(), description="text columns to keep")
    required: tuple[str, ...] = Field(
        default=(), description="kept columns that may have no missing value"
    )
    missing_values: tuple[str, ...] = Field(
        default=MISSING, description="texts that stand for a missing value; NA is a country"
    )
    exclude: tuple[str, ...] = Field(default=(), description="ids to leave out")


def grid_units(settings: UnitGridSettings) -> geopandas.GeoDataFrame:
    """Places on a grid of the local UTM zone, from the north-west, that lie in the bounds.

    Returns
    -------
    GeoDataFrame
        ``unit_id`` and ``image_key`` (``row-column``), geometry in EPSG:4326.

    Raises
    ------
    CoverageError
        The area is smaller than the spacing, or holds more places than ``MAX_GRID``.
    """
    west, south, east, north = settings.bounds
    middle = np.array([(west + east) / 2]), np.array([(south + north) / 2])
    crs = str(utm_zones(*middle)[0])
    corners = project(
        np.array([west, east, west, east]), np.array([north, north, south, south]), crs
    )
    (left, right), (bottom, top) = (
        (float(values.min()), float(values.max())) for values in corners
    )
    step = settings.spacing_m
    n_columns, n_rows = int((right - left) // step) + 1, int((top - bottom) // step) + 1
    if n_columns * n_rows > MAX_GRID:
        raise CoverageError(
            f"units.grid: {n_columns * n_rows:,} places are more than {MAX_GRID:,}. Widen spacing_m."
        )
    row, column = (part.ravel() for part in np.mgrid[:n_rows, :n_columns])
    points = geopandas.GeoSeries.from_xy(
        left + (column + 0.5) * step, top - (row + 0.5) * step, crs=crs
    ).to_crs(EARTH)
    inside = points.x.between(west, east) & points.y.between(south, north)
    if not inside.any():
        raise CoverageError(
            f"units.grid: no place lies in {list(settings.bounds)}. Lower spacing_m ({step:g})."
        )
    names = np.char.add(np.char.add(row.astype(str), "-"), column.astype(str))[inside]
    count(units=len(names))
    return geopandas.GeoDataFrame(
        {"unit_id": names.astype(object), "image_key": names.astype(object)},
        geometry=points[inside].to_numpy(), crs=EARTH,
    )  # fmt: skip


def read_units(files: InputFiles, settings: UnitSettings) -> geopandas.GeoDataFrame:
    """Read the table of study units.

    Parameters
    ----------
    files : InputFiles
        One file.

    Returns
    -------
    GeoDataFrame
        ``unit_id`` and ``image_key`` (text), the kept columns, geometry in EPSG:4326; one row a
        unit, in the order of the file. Missing values are NaN, counted by column.

    Raises
    ------
    TableError
        Not UTF-8, no such column, ids twice or missing, a cell that is no finite number, a missing
        value in a required column, units of one image key at different places.
    CoverageError
        Coordinates that are none on Earth; says so when they look swapped.
    """
    path = Path(files.paths[0])
    verify_sidecar(path)
    table = _read_table(path, settings)
    ids = _ids(path, table, settings)
    units = geopandas.GeoDataFrame(
        {"unit_id": ids}, geometry=_geometry(path, table, settings), crs=EARTH
    )
    key = settings.image_key
    units["image_key"] = ids if key is None else _text(path, table, key, settings).to_numpy()
    for name in settings.numbers:
        units[name] = _numbers(path, table, name, settings)
    for name in settings.labels:
        units[name] = _text(path, table, name, settings).to_numpy()
    _check_required(path, units, settings)
    units = _excluded(units, settings)
    _check_places(path, units)
    count(units=len(units), image_keys=int(units["image_key"].nunique()))
    return units


def _read_table(path: Path, settings: UnitSettings) -> pd.DataFrame:
    """All cells as text for CSV; typed for the formats that declare types."""
    if path.stat().st_size > MAX_BYTES:
        raise TableError(f"{path}: {path.stat().st_size:,} bytes are too many for a table.")
    with path.open("rb") as stream:
        head = stream.read(16)
    try:
        if head.startswith(b"PAR1"):
            return geopandas.read_parquet(path) if _is_geo(path) else pd.read_parquet(path)
        if head.startswith(b"SQLite format 3") or head.lstrip().startswith(b"{"):
            return geopandas.read_file(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path}: byte {error.start} is not UTF-8. Save the table as UTF-8.",
            path=str(path), offset=error.start,
        ) from error  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, RuntimeError) as error:
        raise ReadError(
            f"{path}: cannot be read as a table ({error}). Correct or replace it.", path=str(path)
        ) from error


def _is_geo(path: Path) -> bool:
    import pyarrow.parquet

    return b"geo" in (pyarrow.parquet.read_schema(path).metadata or {})


def _column(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table.columns:
        raise TableError(
            f"{path}: has no column {name!r}; it has {', '.join(map(str, table.columns))}.",
            path=str(path), column=name,
        )  # fmt: skip
    return table[name]


def _text(path: Path, table: pd.DataFrame, name: str, settings: UnitSettings) -> pd.Series:
    """A column as text, missing values as None."""
    column = _column(path, table, name)
    text = column.map(_as_text, na_action="ignore").astype(object)
    return text.where(column.notna() & ~text.isin(settings.missing_values), None)


def _as_text(value: Any) -> str:
    """Ids that a typed format holds as whole floats are written as integers."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).strip()


def _ids(path: Path, table: pd.DataFrame, settings: UnitSettings) -> Any:
    if len(table) == 0:
        raise TableError(f"{path}: holds no rows of data.", path=str(path))
    if settings.unit_id is None:
        return np.arange(len(table)).astype(str).astype(object)
    ids = _text(path, table, settings.unit_id, settings)
    if ids.isna().any():
        row = int(np.flatnonzero(ids.isna())[0])
        raise TableError(
            f"{path}: row {row + 2} has no {settings.unit_id}. Give every unit an id.",
            path=str(path), row=row + 2,
        )  # fmt: skip
    twice = ids[ids.duplicated()]
    if len(twice):
        raise TableError(
            f"{path}: {settings.unit_id} {twice.iloc[0]!r} occurs more than once ({len(twice)} such"
            " rows). Ids must be unique; units that share a place have an image_key.",
            path=str(path), ids=twice.tolist(),
        )  # fmt: skip
    return ids.to_numpy()


def _geometry(path: Path, table: pd.DataFrame, settings: UnitSettings) -> Any:
    if isinstance(table, geopandas.GeoDataFrame):
        return _own_geometry(path, table)
    longitude = _numbers(path, table, settings.longitude, settings)
    latitude = _numbers(path, table, settings.latitude, settings)
    wrong = ~((np.abs(longitude) <= 180) & (np.abs(latitude) <= 90))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        swapped = bool((np.abs(longitude) <= 90).all() and (np.abs(latitude) > 90).any())
        hint = " Are longitude and latitude swapped?" if swapped else " Correct them."
        raise CoverageError(
            f"{path}: row {row + 2}: longitude {longitude[row]:g}, latitude {latitude[row]:g} is no"
            f" place on Earth ({int(wrong.sum())} such rows).{hint}", path=str(path), row=row + 2,
        )  # fmt: skip
    return geopandas.points_from_xy(longitude, latitude)


def _own_geometry(path: Path, table: geopandas.GeoDataFrame) -> geopandas.GeoSeries:
    if table.crs is None:
        raise TableError(
            f"{path}: declares no reference system. Write it with one.", path=str(path)
        )
    shapes = table.geometry.to_crs(EARTH)
    known = shapes.geom_type.isin(["Point", "Polygon", "MultiPolygon"])
    wrong = shapes.isna() | shapes.is_empty | ~known
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TableError(
            f"{path}: row {row} is no point or polygon ({int(wrong.sum())} such rows). Remove it.",
            path=str(path), row=row,
        )  # fmt: skip
    return shapes


def _numbers(path: Path, table: pd.DataFrame, name: str, settings: UnitSettings) -> Any:
    """A column as float64, missing values as NaN."""
    text = _text(path, table, name, settings)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float)
    wrong = text.notna().to_numpy() & ~np.isfinite(values)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TableError(
            f"{path}: row {row + 2}, column {name}: {text.iloc[row]!r} is no finite number. Correct it,"
            " or leave the cell empty for a missing value.", path=str(path), row=row + 2, column=name,
        )  # fmt: skip
    return values


def _check_required(path: Path, units: geopandas.GeoDataFrame, settings: UnitSettings) -> None:
    for name in (*settings.numbers, *settings.labels):
        n_missing = int(units[name].isna().sum())
        if n_missing and name in settings.required:
            first = units.loc[units[name].isna(), "unit_id"].iloc[0]
            raise TableError(
                f"{path}: {name} is missing for {n_missing} of {len(units)} units (first: {first}). Fill"
                " them, or list them under units.exclude.", path=str(path), column=name, n=n_missing,
            )  # fmt: skip
        if n_missing:
            count(**{f"{name}_missing": n_missing})


def _excluded(units: geopandas.GeoDataFrame, settings: UnitSettings) -> geopandas.GeoDataFrame:
    unknown = set(settings.exclude) - set(units["unit_id"])
    if unknown:
        message = f"units.exclude names {', '.join(sorted(unknown))}, which is no unit."
        warnings.warn(EOCausalWarning(message, "ExcludeWarning"), stacklevel=3)
    drop = units["unit_id"].isin(settings.exclude)
    if drop.any():
        count(units_excluded=int(drop.sum()))
    return units[~drop].reset_index(drop=True)


def _check_places(path: Path, units: geopandas.GeoDataFrame) -> None:
    """One place an image key."""
    if units["image_key"].isna().any():
        raise TableError(f"{path}: some units have no image key. Give every unit one.")
    apart = units.geometry.to_wkb().groupby(units["image_key"]).nunique()
    several = apart[apart > 1]
    if len(several):
        raise TableError(
            f"{path}: units with image key {several.index[0]!r} lie at different places ({len(several)}"
            " such keys). A key stands for one place.", path=str(path), keys=list(several.index),
        )  # fmt: skip
