"""Chips that come ready made: a NetCDF file with one image a key."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.sources import InputFiles
from eo_causal.errors import DataError
from eo_causal.ingest.chips import ChipSet, fractional_years
from eo_causal.ingest.footprints import overlap_table
from eo_causal.ingest.read import FileArray, Header, Variable, read_header, read_raw
from eo_causal.ingest.targets import local_targets, project, utm_zones

BLOCK_BYTES = 2**23


class ChipFileSettings(Settings):
    """Which file holds chips, and what it does not say itself."""

    dataset: str | None = Field(default=None, description="named data set the file belongs to")
    file: str = Field(description="NetCDF or Zarr with an image variable (key, band, y, x)")
    variable: str | None = Field(default=None, description="name of the images; the largest array")
    key: str = Field(default="key", description="coordinate that identifies a chip")
    date: str = Field(
        pattern=r"^\d{4}(-\d\d){0,2}$", description="when the images were taken, YYYY[-MM[-DD]]"
    )
    resolution_m: float = Field(gt=0, description="side of a pixel on the ground")
    bands: tuple[str, ...] = Field(default=(), description="names of the bands, in their order")
    size_pixels: int | None = Field(default=None, ge=1, description="cut to this centre")


def read_chip_file(files: InputFiles, settings: ChipFileSettings) -> ChipSet:
    """Read ready-made chips as if they had been cut here.

    Returns
    -------
    ChipSet
        ``unit_id`` and ``image_key`` are the keys as text; one slot of time. Where the file has
        ``longitude`` and ``latitude``, chips know their place and which of them share ground.

    Raises
    ------
    DataError
        No such variable, other dimensions, keys that occur twice, a size the chips do not have.
    """
    path = Path(files.paths[0])
    header = read_header(path)
    variable = _image_variable(header, settings)
    keys = _keys(header, settings, variable)
    chips = _lazy(header, variable, settings)
    longitude, latitude = _places(header)
    count(chips=len(keys), bands=chips.sizes["band"])
    valid = chips.notnull().all("band").mean(("y", "x"))
    times = np.full((len(keys), 1), np.datetime64(settings.date), dtype="datetime64[ns]")
    by_slot = ("unit", "time")
    chips = chips.assign_coords(
        unit_id=("unit", keys), image_key=("unit", keys), datetime=(by_slot, times),
        datetime_end=(by_slot, times),
        fractional_year=(by_slot, fractional_years(times)),
        valid_fraction=(by_slot, valid.to_numpy().astype(np.float32)),
        n_images=(by_slot, np.ones((len(keys), 1), dtype=np.int16)),
    )  # fmt: skip
    overlap = pd.DataFrame(columns=["unit_a", "unit_b", "share"])
    if longitude is not None and latitude is not None:
        size = (chips.sizes["y"], chips.sizes["x"])
        zones = utm_zones(longitude, latitude)
        middle = np.array(
            [project(longitude[[at]], latitude[[at]], str(crs)) for at, crs in enumerate(zones)]
        )[:, :, 0]
        chips = chips.assign_coords(
            unit_crs=("unit", zones), centre_easting=("unit", middle[:, 0]),
            centre_northing=("unit", middle[:, 1]),
        )  # fmt: skip
        targets = local_targets(longitude, latitude, settings.resolution_m, size)
        overlap = overlap_table(targets, keys.astype(object))
    table = pd.DataFrame({"file": [path.name], "windows": [len(keys)], "reads": [1]})
    failures = pd.DataFrame(columns=["item_id", "path", "n_chips", "reason"])
    return ChipSet(chips, table, failures.astype({"n_chips": "int64"}), overlap)


def _image_variable(header: Header, settings: ChipFileSettings) -> Variable:
    images = {
        name: item
        for name, item in header.variables.items()
        if len(item.dims) == 4 and item.dims[0] == settings.key
    }
    name = settings.variable or max(images, key=lambda key: images[key].n_bytes, default="")
    if name not in images:
        raise DataError(
            f"{header.path}: has no image variable {name!r} with dimensions ({settings.key}, band, y,"
            f" x); such are: {', '.join(images) or 'none'}.", path=str(header.path), variable=name,
        )  # fmt: skip
    return images[name]


def _keys(header: Header, settings: ChipFileSettings, variable: Variable) -> NDArray[np.str_]:
    if settings.key not in header.variables:
        raise DataError(f"{header.path}: its dimension {settings.key} has no values.")
    keys = read_raw(header.path, header.kind, settings.key).astype(str)
    values, times = np.unique(keys, return_counts=True)
    if len(values) < len(keys):
        raise DataError(
            f"{header.path}: key {values[times > 1][0]} occurs more than once.",
            path=str(header.path), variable=variable.name,
        )  # fmt: skip
    return np.asarray(keys)


def _lazy(header: Header, variable: Variable, settings: ChipFileSettings) -> xr.DataArray:
    import dask.array as da

    _, n_bands, height, width = variable.shape
    size = settings.size_pixels or max(height, width)
    if settings.size_pixels and size > min(height, width):
        raise DataError(
            f"{header.path}: its chips have {height} x {width} pixels, fewer than size_pixels {size}."
        )
    names = settings.bands or tuple(f"band_{number + 1}" for number in range(n_bands))
    if len(names) != n_bands:
        raise DataError(
            f"{header.path}: has {n_bands} bands, but bands names {len(names)}. Name each once."
        )
    rows = max(1, BLOCK_BYTES // (4 * n_bands * height * width))
    images = da.from_array(
        FileArray(header.path, header.kind, variable), chunks=(rows, -1, -1, -1), asarray=False,
        meta=np.empty((0, 0, 0, 0), dtype=np.float32),
    )  # fmt: skip
    if settings.size_pixels:
        top, left = (height - size) // 2, (width - size) // 2
        images = images[:, :, top : top + size, left : left + size]
    _, _, height, width = images.shape
    step = settings.resolution_m
    coords: dict[str, Any] = {
        "band": list(names),
        "y": (height / 2 - 0.5 - np.arange(height)) * step,
        "x": (np.arange(width) + 0.5 - width / 2) * step,
    }
    return xr.DataArray(
        images[:, None], dims=("unit", "time", "band", "y", "x"), coords=coords, name="chips",
        attrs={"units": "1", "resolution_m": step, "source": header.path.name},
    )  # fmt: skip


def _places(header: Header) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    if not {"longitude", "latitude"} <= set(header.variables):
        return None, None
    longitude, latitude = (
        read_raw(header.path, header.kind, name).astype(float) for name in ("longitude", "latitude")
    )
    return longitude, latitude
