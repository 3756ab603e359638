"""Zone series that come as CSV tables, one file per zone."""

import csv
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.progress import count
from eo_causal.errors import (
    ConfigError,
    EOCausalWarning,
    ReadError,
    ResourceLimitError,
    TableError,
    TimeAxisError,
    UnitsError,
)
from eo_causal.ingest.axes import monthly
from eo_causal.ingest.read import verify_sidecar

COLUMNS = {
    "Kd490": ("kd490", "m-1", "diffuse attenuation coefficient at 490 nm"),
    "Temperature": ("temperature", "degC", "sea water temperature"),
    "Salinity": ("salinity", "1e-3", "sea water salinity"),
}
"""Column of a table -> variable, units and long name of the data set."""

DIVISORS = {"m-1": 1.0, "m^-1": 1.0, "1/m": 1.0, "1e-2 m-1": 100.0}
"""Units a Kd490 column may have -> what it is divided by to be in m-1."""

MISSING = ("", "NaN", "nan")
PURE_WATER = 0.0166
TURBID_MEDIAN = 0.5
YEARS = (1700, 2200)
MAX_BYTES = 2**26


def read_zone_table(
    path: Path, *, units: str, period: tuple[str, str] | None = None, date_format: str = "%Y-%m-%d"
) -> xr.Dataset:
    """Read one zone's monthly series.

    Parameters
    ----------
    path : Path
        A UTF-8 CSV file that the caller has checked against the source policy; columns ``Time``
        and ``Kd490``, optionally ``Temperature`` (degC) and ``Salinity`` (1e-3), one row a month.
        An empty cell or ``NaN`` is a missing value.
    units : str
        Units of the Kd490 column: ``m-1`` (also written ``m^-1``, ``1/m``) or ``1e-2 m-1``, the
        convention of some published tables (arXiv 2603.07331), which is divided by 100.
    period : (str, str), optional
        First and last month; months the table lacks become NaN slots and are counted.
    date_format : str
        Format of every date.

    Returns
    -------
    Dataset (time)
        ``kd490`` in m-1 and, where the table has them, ``temperature`` and ``salinity``; month
        starts in ``datetime64[ns]``.

    Raises
    ------
    ReadError
        The file cannot be opened.
    TableError
        Not UTF-8, a wrong header, a row of another length, a cell that is no finite number, or a
        Kd490 that is not positive; names file, row and column.
    TimeAxisError
        A date in another format, or a month that occurs twice; names the row.
    UnitsError
        Unknown units, or values that cannot be in the stated ones.
    CoverageError
        No month of ``period`` is there.
    """
    if units not in DIVISORS:
        raise UnitsError(
            f"{path}: {units!r} are not units of Kd490 this package knows. Write one of:"
            f" {', '.join(DIVISORS)}.", path=str(path), units=units,
        )  # fmt: skip
    verify_sidecar(path)
    (_, names), *rows = _read_rows(path)
    _check_header(path, names)
    months = _parse_months(path, rows, names.index("Time"), date_format)
    values = np.array([_parse_row(path, line, cells, names) for line, cells in rows])
    measured = [name for name in names if name != "Time"]
    kd490 = measured.index("Kd490")
    _check_positive(path, values[:, kd490], [line for line, _ in rows])
    values[:, kd490] /= DIVISORS[units]
    _check_units(path, values[:, kd490], units)
    table = xr.DataArray(
        values, dims=("time", "variable"),
        coords={"time": months, "variable": [COLUMNS[name][0] for name in measured]},
    )  # fmt: skip
    result = monthly(table, period, str(path)).to_dataset("variable")
    for name in measured:
        variable, stored_units, long_name = COLUMNS[name]
        result[variable].attrs = {"units": stored_units, "long_name": long_name}
        count(**{f"{variable}_months_missing": int(np.isnan(result[variable]).sum())})
    return result.assign_attrs(source=path.name)


def read_zone_tables(
    paths: Mapping[str, Path],
    *,
    units: str,
    period: tuple[str, str] | None = None,
    date_format: str = "%Y-%m-%d",
) -> xr.Dataset:
    """Read one table per zone into the zone series every later step takes.

    Parameters
    ----------
    paths : mapping of str to Path
        Zone name -> its table.
    units, period, date_format
        As in :func:`read_zone_table`; the same for all tables.

    Returns
    -------
    Dataset (zone, time)
        Months of all zones; where a zone lacks one, or a variable, the value is NaN.

    Raises
    ------
    ConfigError
        No table is named.
    """
    if not paths:
        raise ConfigError("data.tables: there is none. Name a table for each zone.")
    series = {
        zone: read_zone_table(path, units=units, period=period, date_format=date_format)
        for zone, path in paths.items()
    }
    attrs = {str(name): one[name].attrs for one in series.values() for name in one.data_vars}
    zones = pd.Index(list(series), name="zone")
    result = xr.concat(
        [one.drop_attrs() for one in series.values()], dim=zones, join="outer", data_vars="all"
    )
    for name, attributes in attrs.items():
        result[name].attrs = attributes
    sources = ", ".join(path.name for path in paths.values())
    return result.transpose("zone", "time").assign_attrs(zone_method="table", source=sources)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of every row that is not empty."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ResourceLimitError(
                f"{path}: {path.stat().st_size:,} bytes are too many for a table of monthly series"
                f" (limit {MAX_BYTES:,}).", path=str(path),
            )  # fmt: skip
        raw = path.read_bytes()
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}. Check the path.", path=str(path)) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path}: byte {error.start} is not UTF-8. Save the table as UTF-8.",
            path=str(path), offset=error.start,
        ) from error  # fmt: skip
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise TableError(
            f"{path}: row {reader.line_num} is no CSV ({error}). Correct it.",
            path=str(path), row=reader.line_num,
        ) from error  # fmt: skip
    if len(rows) < 2:
        raise TableError(f"{path}: holds no rows of data.", path=str(path))
    return rows


def _check_header(path: Path, names: list[str]) -> None:
    known = ["Time", *COLUMNS]
    wrong = [name for name in names if name not in known]
    absent = [name for name in ("Time", "Kd490") if name not in names]
    if wrong or absent or len(set(names)) < len(names):
        raise TableError(
            f"{path}: its columns are {', '.join(names)}; expected Time and Kd490, optionally"
            " Temperature and Salinity, each once. Rename or remove columns.",
            path=str(path), columns=names,
        )  # fmt: skip


def _parse_months(
    path: Path, rows: list[tuple[int, list[str]]], position: int, date_format: str
) -> pd.DatetimeIndex:
    seen: dict[str, int] = {}
    for line, cells in rows:
        text = cells[position] if position < len(cells) else ""
        stamp = pd.to_datetime(text, format=date_format, errors="coerce")
        if stamp is pd.NaT or not YEARS[0] <= stamp.year <= YEARS[1]:
            raise TimeAxisError(
                f"{path}: row {line}: {text!r} is not a date of the form {date_format}. Correct the"
                " table.", path=str(path), row=line, value=text,
            )  # fmt: skip
        month = f"{stamp:%Y-%m}"
        if month in seen:
            raise TimeAxisError(
                f"{path}: {month} occurs in rows {seen[month]} and {line}. Keep one.",
                path=str(path), row=line, month=month,
            )  # fmt: skip
        seen[month] = line
    return pd.DatetimeIndex(list(seen)).as_unit("ns")


def _parse_row(path: Path, line: int, cells: list[str], names: list[str]) -> list[float]:
    if len(cells) != len(names):
        raise TableError(
            f"{path}: row {line} has {len(cells)} cells, the header {len(names)}. Correct the row.",
            path=str(path), row=line,
        )  # fmt: skip
    pairs = zip(names, cells, strict=True)
    return [_parse_number(path, line, name, cell) for name, cell in pairs if name != "Time"]


def _parse_number(path: Path, line: int, column: str, cell: str) -> float:
    if cell.strip() in MISSING:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if "_" in cell or not math.isfinite(value):
        raise TableError(
            f"{path}: row {line}, column {column}: {cell!r} is no finite number. Correct it, or"
            " leave the cell empty for a missing value.",
            path=str(path), row=line, column=column, value=cell,
        )  # fmt: skip
    return value


def _check_positive(path: Path, values: NDArray[np.float64], lines: list[int]) -> None:
    wrong = np.flatnonzero(values <= 0)
    if len(wrong):
        raise TableError(
            f"{path}: row {lines[wrong[0]]}: Kd490 is {values[wrong[0]]:g}, which no water has"
            f" ({len(wrong)} such rows). Correct it, or leave the cell empty.",
            path=str(path), row=lines[wrong[0]], column="Kd490", n_rows=len(wrong),
        )  # fmt: skip


def _check_units(path: Path, kd490: NDArray[np.float64], units: str) -> None:
    """Refuse values that fit only the other convention; warn where they merely look odd."""
    seen = kd490[np.isfinite(kd490)]
    if not len(seen):
        return
    median = float(np.median(seen))
    advice = (
        "Some published tables hold Kd490 times 100: data.units must be '1e-2 m-1' for them and"
        " 'm-1' for all others."
    )
    if median < PURE_WATER or seen.min() >= 100 * PURE_WATER:
        raise UnitsError(
            f"{path}: with units {units!r} Kd490 has median {median:.4g} and minimum"
            f" {seen.min():.4g} m-1 (pure water: {PURE_WATER}). {advice}",
            path=str(path), units=units, median=median,
        )  # fmt: skip
    n_below = int((seen < PURE_WATER).sum())
    if median > TURBID_MEDIAN or n_below:
        message = (
            f"{path.name}: Kd490 has median {median:.4g} m-1 and {n_below} months below pure water"
            f" ({PURE_WATER}). {advice}"
        )
        warnings.warn(EOCausalWarning(message, "UnitsWarning"), stacklevel=3)
