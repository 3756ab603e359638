"""The reading stages of water studies: files or tables to cubes, zone series and map layers."""

import glob
import json
from pathlib import Path
from typing import Any, Literal

import geopandas
import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from eo_causal.core.progress import count
from eo_causal.core.settings import Bounds, Period, Settings
from eo_causal.core.sources import InputFiles
from eo_causal.errors import ConfigError
from eo_causal.ingest.datasets import dataset_path
from eo_causal.ingest.ocean_color import OceanColorSettings, read_kd490
from eo_causal.ingest.tables import read_zone_tables
from eo_causal.ingest.zonal import ZoneSettings, zone_frame, zone_means

CUBE_FOLDER = "kd490"


class WaterSourceSettings(Settings):
    """Where attenuation comes from: raster files, or tables of zone series."""

    dataset: str | None = Field(default=None, description="named data set; files are taken from it")
    files: tuple[str, ...] = Field(default=(), description="paths or patterns of raster files")
    tables: dict[str, str] = Field(
        default={}, description="zone -> CSV with columns Time, Kd490, ..."
    )
    units: Literal["m-1", "1e-2 m-1"] = "m-1"
    period: Period | None = None
    bounds: Bounds | None = Field(default=None, description="area to read")
    convention: str | None = Field(default=None, description="force a file convention")
    time_from: Literal["name", "attributes"] = "name"

    @model_validator(mode="after")
    def _one_kind(self) -> "WaterSourceSettings":
        if self.files and self.tables:
            raise ValueError("give either `files` (rasters) or `tables` (zone series), not both")
        return self

    def ocean_color(self) -> OceanColorSettings:
        """The part that concerns raster files."""
        shared = self.model_dump(include={"units", "period", "bounds", "convention", "time_from"})
        return OceanColorSettings.model_validate(shared)


def source_paths(settings: WaterSourceSettings) -> list[Path]:
    """The input files of a study, rasters sorted by name, tables in the order of their zones.

    Raises
    ------
    ConfigError
        No file is named, or a pattern matches nothing.
    DataError
        The data set is not on this computer.
    """
    names = list(settings.files) or list(settings.tables.values())
    if not names:
        raise ConfigError("data: names neither files, tables nor simulate. Name one of them.")
    if settings.dataset is not None:
        return [dataset_path(settings.dataset, name) for name in names]
    found: list[Path] = []
    for name in names:
        matches = sorted(glob.glob(name), key=lambda text: Path(text).name)
        if not matches:
            raise ConfigError(
                f"data: {name!r} matches no file below {Path.cwd()}. Correct the path.",
                pattern=name,
            )
        found += [Path(text) for text in matches]
    return found


def read_cube(files: InputFiles | Path, settings: WaterSourceSettings) -> xr.DataArray:
    """Kd490 rasters as one cube (time, y, x) in m-1; a folder is one that ``simulate`` wrote."""
    if isinstance(files, Path):
        paths = sorted((files / CUBE_FOLDER).iterdir())
    else:
        paths = [Path(name) for name in files.paths]
    cube = read_kd490(paths, settings.ocean_color())
    count(cells=int(cube.sizes["y"] * cube.sizes["x"]), months=int(cube.sizes["time"]))
    return cube


def read_tables(files: InputFiles, settings: WaterSourceSettings) -> xr.Dataset:
    """Zone tables as zone series; files come in the order of ``settings.tables``."""
    paths = dict(zip(settings.tables, map(Path, files.paths), strict=True))
    zones = read_zone_tables(paths, units=settings.units, period=settings.period)
    count(zones=zones.sizes["zone"], months=zones.sizes["time"])
    return zones


def cube_zones(cube: xr.DataArray, bounds: dict[str, Bounds], settings: ZoneSettings) -> xr.Dataset:
    """Zone means of a cube for the boxes of a config."""
    return zone_means(cube, zone_frame(bounds), settings)


def before_after_layers(cube: xr.DataArray, intervention: str) -> xr.Dataset:
    """Mean before, mean after, their difference and the number of valid months, per cell.

    Descriptive: what a reader would see in the images, without controls.
    """
    start = np.datetime64(intervention)
    before = cube.sel(time=cube["time"] < start)
    after = cube.sel(time=cube["time"] >= start)
    layers = xr.Dataset(
        {
            "mean_before": before.mean("time", dtype=np.float64),
            "mean_after": after.mean("time", dtype=np.float64),
            "n_valid": cube.notnull().sum("time").astype(np.float32),
        }
    )
    layers["difference"] = layers["mean_after"] - layers["mean_before"]
    for name in ("mean_before", "mean_after", "difference"):
        layers[name].attrs = {"units": "m-1", "long_name": f"Kd490 {name.replace('_', ' ')}"}
    layers["n_valid"].attrs = {"units": "1", "long_name": "valid months"}
    return layers.compute()


def read_truth(folder: Path) -> dict[str, Any]:
    """What a simulation says is true."""
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def read_coastline(files: InputFiles) -> geopandas.GeoDataFrame:
    """Coastlines for maps."""
    return geopandas.read_file(files.paths[0])[["geometry"]]
