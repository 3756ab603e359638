"""Ocean-colour files of every convention as one cube (time, y, x), lazily and in known units."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.progress import count, track
from eo_causal.core.settings import Bounds, Period, Settings
from eo_causal.errors import (
    CoverageError,
    EOCausalWarning,
    ReadError,
    TimeAxisError,
    UnitsError,
)
from eo_causal.ingest.axes import cut, decode_times, monthly, normalise_grid, snap_to
from eo_causal.ingest.binned import (
    GROUP,
    BinnedArray,
    binned_grid,
    binned_units,
    find_binned,
    read_bins,
)
from eo_causal.ingest.composite import composite
from eo_causal.ingest.decode import decode
from eo_causal.ingest.read import FileArray, Header, Variable, read_header, read_raw

Convention = Literal["obpg_l3m", "obpg_l3b", "oc_cci", "erddap", "cmems", "olci", "generic"]
KD490_NAMES = ("kd_490", "kd490", "k490", "kd489")
PURE_WATER = 0.0166
MEDIAN_LIMIT = 0.5
SAMPLE_CELLS = 128
TARGET_BYTES = 2**25
_AXIS_NAMES = {"lat": "y", "latitude": "y", "y": "y", "lon": "x", "longitude": "x", "x": "x"}


class OceanColorSettings(Settings):
    """How ocean-colour files are read."""

    convention: Convention | None = Field(
        default=None, description="force a convention; detected from the file when null"
    )
    time_from: Literal["name", "attributes"] = Field(
        default="name", description="which date to believe for files without a time axis"
    )
    units: Literal["m-1", "1e-2 m-1"] = Field(
        default="m-1", description="1e-2 m-1 when the file holds Kd490 times 100"
    )
    time_step: Literal["month", "as_is"] = Field(
        default="month", description="month puts every step on the first of its month"
    )
    composite: Literal["none", "geometric_mean", "mean", "median"] = Field(
        default="none", description="how several images of a month become one; none refuses them"
    )
    bounds: Bounds | None = None
    period: Period | None = None


def read_kd490(paths: Sequence[Path], settings: OceanColorSettings) -> xr.DataArray:
    """Diffuse attenuation at 490 nm from one cube or one file per period.

    Returns
    -------
    DataArray (time, y, x)
        float32, m-1, NaN = invalid, dask-backed.

    Raises
    ------
    ReadError, UnitsError, TimeAxisError, GeorefError, CoverageError
        See :func:`read_ocean_variable`.

    Warns
    -----
    EOCausalWarning
        ``UnitsWarning`` when values look a hundred times too large, or lie below pure water.
    """
    cube = read_ocean_variable(KD490_NAMES, paths, settings).rename("kd490")
    units = str(cube.attrs.get("units", ""))
    if units.replace(" ", "") not in ("m-1", "m^-1", "1/m", "m**-1"):
        raise UnitsError(
            f"{paths[0]}: Kd490 has units {units!r}, not m-1. Convert the file, or correct its units"
            " attribute.", units=units,
        )  # fmt: skip
    if settings.units == "1e-2 m-1":
        cube = (cube / np.float32(100)).assign_attrs(cube.attrs)
    factor = 0.01 if settings.units == "1e-2 m-1" else 1.0
    for side, places in ((SAMPLE_CELLS, (0.5,)), (None, (0.25, 0.5, 0.75))):
        seen = np.concatenate([_window(paths, share, side) for share in places]) * factor
        if len(seen):
            _warn_about_size(seen, str(paths[0]))
            break
    return cube.assign_attrs(units="m-1", long_name="diffuse attenuation coefficient at 490 nm")


def read_ocean_variable(
    names: str | Sequence[str], paths: Sequence[Path], settings: OceanColorSettings
) -> xr.DataArray:
    """One variable of ocean-colour or ocean-physics files as a cube.

    Parameters
    ----------
    names : str or sequence of str
        Accepted variable names, first match wins, case ignored.
    paths : sequence of Path
        One cube, or one file per period; taken in the order of their names.
    settings : OceanColorSettings
        Convention, units, area and period.

    Returns
    -------
    DataArray (time, y, x)
        float32, dask-backed; attrs units, source, convention, product.

    Raises
    ------
    ReadError
        A file cannot be read or lacks the variable.
    TimeAxisError, GeorefError, CoverageError
        Axes that cannot be used, grids that differ, or nothing inside the area or period.
    """
    if not paths:
        raise CoverageError("data.files matches no file. Check the pattern and the working folder.")
    wanted = [names] if isinstance(names, str) else list(names)
    cubes: list[xr.DataArray] = []
    for path in track(sorted(paths, key=lambda item: item.name), "reading headers"):
        cube = _open_one(Path(path), wanted, settings)
        cubes.append(snap_to(cube, cubes[0], str(path)) if cubes else cube)
    count(files_read=len(cubes))
    joined = cubes[0] if len(cubes) == 1 else xr.concat(
        cubes, dim="time", join="exact", coords="minimal", compat="override", combine_attrs="override"
    )  # fmt: skip
    source = str(paths[0]) if len(paths) == 1 else f"{Path(paths[0]).parent} ({len(paths)} files)"
    if settings.bounds is not None:
        joined = cut(joined, settings.bounds, source)
    if settings.composite != "none":
        made = composite(joined, "month", settings.composite)
        count(images_composited=joined.sizes["time"])
        joined = made[str(joined.name)]
    if settings.time_step == "month":
        joined = monthly(joined, settings.period, source)
    return joined


def detect_convention(header: Header) -> Convention:
    """Whose file this is, from its header."""
    names = {name.lower() for name in header.variables}
    attrs = {key.lower(): str(value) for key, value in header.attrs.items()}
    if GROUP in header.groups:
        return "obpg_l3b"
    if attrs.get("processing_level") == "L3 Mapped" or "palette" in names:
        return "obpg_l3m"
    if header.kind == "zarr" and "kd489" in names:
        return "olci"
    if "Ocean Colour" in attrs.get("title", "") and "project" in attrs:
        return "oc_cci"
    if "depth" in names or "cmems" in attrs.get("producer", "").lower():
        return "cmems"
    if "cdm_data_type" in attrs and "latitude" in names:
        return "erddap"
    return "generic"


def _open_one(path: Path, wanted: list[str], settings: OceanColorSettings) -> xr.DataArray:
    header = read_header(path)
    convention = settings.convention or detect_convention(header)
    if convention == "obpg_l3b":
        return _open_binned(header, wanted, settings)
    variable = find_variable(header, wanted)
    dims, fixed = _axes(variable, header)
    data = _lazy(FileArray(path, header.kind, variable))
    array = xr.DataArray(data, dims=variable.dims).isel(dict.fromkeys(fixed, 0))
    array = array.rename({old: new for new, old in dims.items()})
    stamps = _times(header, dims, settings)
    if "time" not in array.dims:
        array = array.expand_dims("time")
    array = array.transpose("time", "y", "x").assign_coords(
        time=stamps,
        latitude=("y", _coordinate(header, dims["y"])),
        longitude=("x", _coordinate(header, dims["x"])),
    )
    array.attrs = {
        "units": str(variable.attrs.get("units", "")),
        "long_name": str(variable.attrs.get("long_name", variable.name)),
        "source": path.name,
        "source_variable": variable.name,
        "convention": convention,
        "product": _product(header),
        **{f"fixed_{name}": value for name, value in fixed.items()},
    }
    return normalise_grid(array.rename(variable.name), str(path))


def _open_binned(header: Header, wanted: list[str], settings: OceanColorSettings) -> xr.DataArray:
    """A binned file on a regular grid as fine as its rows of bins."""
    name = find_binned(header, wanted)
    latitude, longitude = binned_grid(header, settings.bounds)
    array = BinnedArray(header.path, name, latitude, longitude)
    data = dask.array.from_array(
        array, chunks=array.shape, asarray=False, name=False, meta=np.empty((0, 0, 0), np.float32)
    )
    return xr.DataArray(
        data, dims=("time", "y", "x"), name=name,
        coords={
            "time": _times(header, {}, settings),
            "latitude": ("y", latitude),
            "longitude": ("x", longitude),
        },
        attrs={
            "units": binned_units(header, name),
            "long_name": name,
            "source": header.path.name,
            "source_variable": name,
            "convention": "obpg_l3b",
            "product": _product(header),
        },
    )  # fmt: skip


def find_variable(header: Header, wanted: list[str]) -> Variable:
    """The first of the wanted variables a file has.

    Raises
    ------
    ReadError
        None of them; lists those there are.
    """
    for name in wanted:
        for found, variable in header.variables.items():
            if found.lower() == name.lower() and len(variable.dims) >= 2:
                return variable
    have = ", ".join(name for name, item in header.variables.items() if len(item.dims) >= 2)
    raise ReadError(
        f"{header.path}: has no variable {' or '.join(wanted)} (it has {have or 'no array'})."
        " Give files that hold one of them.",
        path=str(header.path), wanted=wanted,
    )  # fmt: skip


def _axes(variable: Variable, header: Header) -> tuple[dict[str, str], dict[str, float]]:
    """Which dimension is time, y, x; singleton others are dropped and their value kept."""
    dims: dict[str, str] = {}
    fixed: dict[str, float] = {}
    for name, size in zip(variable.dims, variable.shape, strict=True):
        role = _AXIS_NAMES.get(name.lower(), "time" if name.lower() == "time" else None)
        if role:
            dims[role] = name
        elif size == 1:
            fixed[name] = float(_coordinate(header, name)[0]) if name in header.variables else 0.0
        else:
            raise ReadError(
                f"{header.path}: variable {variable.name!r} has the dimension {name!r} of length"
                f" {size}, which is neither time, latitude nor longitude. Select one first.",
                path=str(header.path), dimension=name,
            )  # fmt: skip
    missing = {"y", "x"} - set(dims)
    if missing:
        raise ReadError(
            f"{header.path}: variable {variable.name!r} has the dimensions {variable.dims}; latitude"
            " and longitude are not among them.", path=str(header.path),
        )  # fmt: skip
    return dims, fixed


def _coordinate(header: Header, name: str) -> Any:
    variable = header.variables.get(name)
    if variable is None:
        raise ReadError(
            f"{header.path}: the axis {name!r} has no coordinate variable.", path=str(header.path)
        )
    raw = read_raw(header.path, header.kind, name)
    attrs = {key: value for key, value in variable.attrs.items() if not key.startswith("valid_")}
    if raw.dtype == np.float64 and "scale_factor" not in attrs:
        return raw
    return decode(raw, attrs).astype(np.float64)


def _lazy(array: FileArray) -> Any:
    """Dask blocks of whole file chunks along time, about 32 MB each."""
    shape, chunks = array.shape, array.variable.chunks
    step = dict(zip(array.variable.dims, chunks, strict=True)).get("time", 1)
    per_step = int(np.prod(shape, dtype=float)) * 4 / max(shape[0], 1)
    n_steps = max(1, int(TARGET_BYTES / max(per_step * step, 1))) * step
    sizes = tuple(
        min(size, n_steps) if name.lower() == "time" else size
        for name, size in zip(array.variable.dims, shape, strict=True)
    )
    return dask.array.from_array(
        array, chunks=sizes, asarray=False, name=False, meta=np.empty((0,) * array.ndim, np.float32)
    )


def _times(header: Header, dims: dict[str, str], settings: OceanColorSettings) -> pd.DatetimeIndex:
    if "time" in dims:
        name = dims["time"]
        if name not in header.variables:
            raise TimeAxisError(
                f"{header.path}: the time axis has no values, only a length.", path=str(header.path)
            )
        raw = read_raw(header.path, header.kind, name)
        return decode_times(raw, header.variables[name].attrs, str(header.path))
    from_name, from_attributes = _date_in_name(header.path.name), _date_in_attributes(header)
    if from_name is None and from_attributes is None:
        raise TimeAxisError(
            f"{header.path}: has no time axis, and neither its name nor its attributes hold a date."
            " Name it like the producer does.", path=str(header.path),
        )  # fmt: skip
    first, second = from_name, from_attributes
    if settings.time_from == "attributes":
        first, second = second, first
    if first is not None and second is not None and first.date() != second.date():
        warnings.warn(
            EOCausalWarning(
                f"{header.path.name}: the name says {from_name:%Y-%m-%d}, the attributes say"
                f" {from_attributes:%Y-%m-%d} ({header.attrs.get('temporal_range', 'no range')});"
                f" data.time_from: {settings.time_from} was used.", "TimeConflictWarning",
            ),
            stacklevel=2,
        )  # fmt: skip
    chosen = first if first is not None else second
    return pd.DatetimeIndex([chosen])


def _date_in_name(name: str) -> pd.Timestamp | None:
    """OBPG ``SYYYYDDDYYYYDDD`` and ``YYYYMMDD_YYYYMMDD``, CCI ``-YYYYMM-``, plain dates."""
    if match := re.match(r"[A-Z](\d{4})(\d{3})(?=\D|\d{7})", name):
        return pd.to_datetime(f"{match[1]}{match[2]}", format="%Y%j")
    if match := re.search(r"(?<!\d)(\d{8})(?!\d)", name):
        return pd.to_datetime(match[1], format="%Y%m%d", errors="coerce")
    if match := re.search(r"(?<!\d)(\d{4})-?(\d{2})(?!\d)", name):
        return pd.to_datetime(f"{match[1]}{match[2]}", format="%Y%m", errors="coerce")
    return None


def _date_in_attributes(header: Header) -> pd.Timestamp | None:
    text = str(header.attrs.get("time_coverage_start", ""))
    stamp = pd.to_datetime(text, errors="coerce", utc=True) if text else pd.NaT
    return None if stamp is pd.NaT else stamp.tz_localize(None)


def _product(header: Header) -> str:
    for key in ("subset:productId", "product_name", "id", "title", "product_version"):
        if key in header.attrs:
            return str(header.attrs[key])
    return "unknown"


def _window(paths: Sequence[Path], share: float, side: int | None) -> np.ndarray:
    """Valid Kd490 of one time step in a square window (None: whole), read from the file itself.

    ``share`` says where: from 0 the first file, step, row and column, to 1 the last.
    """
    header = read_header(paths[int(share * len(paths))])
    if GROUP in header.groups:
        bins = read_bins(header.path, find_binned(header, list(KD490_NAMES)))[1]
        return bins[np.isfinite(bins)]
    variable = find_variable(header, list(KD490_NAMES))
    dims, _ = _axes(variable, header)
    place = []
    for name, size in zip(variable.dims, variable.shape, strict=True):
        length = (side or size) if name in (dims["y"], dims["x"]) else 1
        start = max(0, int(share * size) - length // 2)
        place.append(slice(start, start + length))
    values = FileArray(header.path, header.kind, variable)[tuple(place)].ravel()
    return values[np.isfinite(values)]


def _warn_about_size(seen: np.ndarray, source: str) -> None:
    """Say so when values are no Kd490 in m-1."""
    if np.median(seen) > MEDIAN_LIMIT or (seen < PURE_WATER).any():
        share = float((seen < PURE_WATER).mean())
        warnings.warn(
            EOCausalWarning(
                f"{source}: Kd490 has median {np.median(seen):.3g} m-1 and {share:.1%} of values"
                f" below pure water ({PURE_WATER}). Some published tables hold Kd490 times 100; then"
                " set data.units: 1e-2 m-1.", "UnitsWarning",
            ),
            stacklevel=3,
        )  # fmt: skip
