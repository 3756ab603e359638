"""Land-cover rasters: integer classes with a table, every undeclared code counted."""

import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.sources import InputFiles
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.ingest.axes import decode_times, normalise_grid, sorted_unique_time
from eo_causal.ingest.read import read_header, read_raw

INVALID = -1
SEMI_MAJOR, FLATTENING = 6378137.0, 1 / 298.257223563


class LandCoverSource(Settings):
    """Where land-cover maps come from."""

    dataset: str | None = Field(default=None, description="named data set that holds the file")
    file: str = Field(
        description="NetCDF file with an integer variable (time, latitude, longitude)"
    )
    variable: str = "lulc"
    classes: dict[int, str] = Field(
        default={}, description="code -> name, for files without flag_values and flag_meanings"
    )
    invalid: tuple[str, ...] = Field(
        default=("Clouds",), description="classes that say nothing about the ground"
    )


def read_land_cover(files: InputFiles, settings: LandCoverSource) -> xr.DataArray:
    """Annual class maps.

    Parameters
    ----------
    files : InputFiles
        One NetCDF file.
    settings : LandCoverSource
        Variable and class table.

    Returns
    -------
    DataArray (time, y, x)
        int16 codes, -1 = invalid (fill, ``invalid`` classes, undeclared codes); attrs
        ``flag_values``, ``flag_meanings`` of the valid classes and ``undeclared``, a mapping of
        code to number of pixels. Coordinates ``latitude (y)``, ``longitude (x)``, ``cell_area (y)``
        in m2 on the WGS84 ellipsoid.

    Raises
    ------
    DataError
        No class table, or the variable is missing or not an integer.

    Warns
    -----
    EOCausalWarning
        ``UndeclaredClassWarning`` with each code and its count.
    """
    path = Path(files.paths[0])
    header = read_header(path)
    variable = header.variables.get(settings.variable)
    if variable is None or variable.dtype.kind not in "iu":
        raise DataError(
            f"{path}: has no integer variable {settings.variable!r}. Name it in land_cover.variable.",
            path=str(path), variable=settings.variable,
        )  # fmt: skip
    table = dict(settings.classes) or _class_table(path, variable.attrs)
    raw = read_raw(path, header.kind, settings.variable)
    fill = int(variable.attrs.get("_FillValue", INVALID))
    undeclared = _undeclared(raw, {*table, fill}, path)
    keep = {code: name for code, name in table.items() if name not in settings.invalid}
    codes = np.where(np.isin(raw, list(keep)), raw, INVALID).astype(np.int16)
    count(
        pixels=raw.size,
        pixels_fill=int((raw == fill).sum()),
        pixels_undeclared=sum(undeclared.values()),
        pixels_valid=int((codes != INVALID).sum()),
    )
    time_name, y_name, x_name = variable.dims
    times = decode_times(
        read_raw(path, header.kind, time_name), header.variables[time_name].attrs, str(path)
    )
    cube = xr.DataArray(
        codes, dims=("time", "y", "x"), name="land_cover",
        coords={
            "time": times.as_unit("ns"),
            "latitude": ("y", read_raw(path, header.kind, y_name)),
            "longitude": ("x", read_raw(path, header.kind, x_name)),
        },
    )  # fmt: skip
    cube = sorted_unique_time(normalise_grid(cube, str(path)), str(path))
    cube = cube.assign_coords(cell_area=("y", cell_areas(cube)))
    cube.attrs = {
        "units": "1",
        "flag_values": list(keep),
        "flag_meanings": list(keep.values()),
        "undeclared": {str(code): number for code, number in undeclared.items()},
        "source": path.name,
    }
    return cube


def cell_areas(cube: xr.DataArray) -> NDArray[np.float64]:
    """Area of one cell in every row, m2, on the WGS84 ellipsoid (closed form of the zone area)."""
    latitude, longitude = cube["latitude"].to_numpy(), cube["longitude"].to_numpy()
    half = abs(float(latitude[-1] - latitude[0])) / (len(latitude) - 1) / 2
    width = np.deg2rad(abs(float(longitude[-1] - longitude[0])) / (len(longitude) - 1))
    return width * (_zone_area(latitude + half) - _zone_area(latitude - half))


def _zone_area(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area from the equator to a latitude per radian of longitude, m2."""
    semi_minor = SEMI_MAJOR * (1 - FLATTENING)
    e = np.sqrt(1 - (semi_minor / SEMI_MAJOR) ** 2)
    sine = np.sin(np.deg2rad(latitude))
    return semi_minor**2 / 2 * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)


def _class_table(path: Path, attrs: dict[str, object]) -> dict[int, str]:
    values, meanings = attrs.get("flag_values"), attrs.get("flag_meanings")
    if values is None or meanings is None:
        raise DataError(
            f"{path}: declares no flag_values and flag_meanings. Give land_cover.classes.",
            path=str(path),
        )
    names = str(meanings).split()
    codes = [int(value) for value in np.atleast_1d(np.asarray(values))]
    if len(names) != len(codes):
        raise DataError(
            f"{path}: {len(codes)} flag_values but {len(names)} flag_meanings. Give"
            " land_cover.classes.", path=str(path),
        )  # fmt: skip
    return dict(zip(codes, names, strict=True))


def _undeclared(raw: NDArray[np.int_], known: set[int], path: Path) -> dict[int, int]:
    codes, numbers = np.unique(raw, return_counts=True)
    found = {
        int(code): int(number)
        for code, number in zip(codes, numbers, strict=True)
        if int(code) not in known
    }
    if found:
        listed = ", ".join(f"{code} in {number:,} pixels" for code, number in found.items())
        warnings.warn(
            EOCausalWarning(
                f"{path.name}: codes outside the class table are treated as missing: {listed}.",
                "UndeclaredClassWarning",
            ),
            stacklevel=3,
        )
    return found
