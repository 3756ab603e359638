"""The reading stages of water studies: files or tables to cubes, zone series and map layers."""

import glob
import json
import warnings
from pathlib import Path
from typing import Any, Literal

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field, model_validator

from eo_causal.core.progress import count
from eo_causal.core.settings import Bounds, Month, Period, Settings
from eo_causal.core.sources import InputFiles
from eo_causal.errors import ConfigError, DataError, EOCausalWarning
from eo_causal.ingest.datasets import dataset_path
from eo_causal.ingest.harmonise import Harmonisation, HarmoniseSettings
from eo_causal.ingest.merge_sensors import harmonise
from eo_causal.ingest.ocean_color import (
    OceanColorSettings,
    read_kd490,
    read_ocean_variable,
)
from eo_causal.ingest.sensor_changes import sensor_steps, warn_sensor_changes
from eo_causal.ingest.tables import read_zone_tables
from eo_causal.ingest.zonal import ZoneSettings, zone_frame, zone_means

CUBE_FOLDER = "kd490"


class RasterCheckSettings(Settings):
    """A raster whose zone means should be columns of the tables."""

    file: str = Field(description="raster file, of data.dataset when that is given")
    variables: dict[str, str] = Field(
        min_length=1, description="column of the tables -> variable of the file"
    )


class WaterSourceSettings(Settings):
    """Where attenuation comes from: raster files, sensors to harmonise, or zone tables."""

    dataset: str | None = Field(default=None, description="named data set; files are taken from it")
    files: tuple[str, ...] = Field(default=(), description="paths or patterns of raster files")
    tables: dict[str, str] = Field(
        default={}, description="zone -> CSV with columns Time, Kd490, ..."
    )
    sensors: dict[str, tuple[str, ...]] = Field(
        default={}, description="sensor -> paths or patterns of its own files, to be harmonised"
    )
    harmonise: HarmoniseSettings | None = Field(
        default=None, description="how sensors are brought onto one scale"
    )
    sensor_changes: tuple[Month, ...] = Field(
        default=(), description="months in which a merged product changed its set of sensors"
    )
    raster_check: RasterCheckSettings | None = Field(
        default=None, description="a raster to hold against the tables"
    )
    units: Literal["m-1", "1e-2 m-1"] = "m-1"
    period: Period | None = None
    bounds: Bounds | None = Field(default=None, description="area to read")
    convention: str | None = Field(default=None, description="force a file convention")
    time_from: Literal["name", "attributes"] = "name"
    composite: Literal["none", "geometric_mean", "mean", "median"] = Field(
        default="none", description="how several images of a month become one; none refuses them"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "WaterSourceSettings":
        if sum(map(bool, (self.files, self.tables, self.sensors))) > 1:
            raise ValueError("give one of `files` (rasters), `sensors` or `tables` (zone series)")
        if bool(self.sensors) != (self.harmonise is not None):
            raise ValueError("`sensors` and `harmonise` go together: name the reference sensor")
        if self.raster_check is not None and not self.tables:
            raise ValueError("`raster_check` holds a raster against `tables`; there are none")
        return self

    def ocean_color(self) -> OceanColorSettings:
        """The part that concerns raster files."""
        shared = self.model_dump(
            include={"units", "period", "bounds", "convention", "time_from", "composite"}
        )
        return OceanColorSettings.model_validate(shared)


def source_paths(settings: WaterSourceSettings, sensor: str | None = None) -> list[Path]:
    """The input files of a study, rasters sorted by name, tables in the order of their zones.

    Raises
    ------
    ConfigError
        No file is named, or a pattern matches nothing.
    DataError
        The data set is not on this computer.
    """
    if sensor is not None:
        return find_files(settings.sensors[sensor], settings.dataset)
    names = settings.files or tuple(settings.tables.values())
    if not names:
        raise ConfigError(
            "data: names neither files, sensors, tables nor simulate. Name one of them."
        )
    return find_files(names, settings.dataset)


def find_files(names: tuple[str, ...], dataset: str | None) -> list[Path]:
    """Files of a data set, or what paths and patterns match, each pattern sorted by name."""
    if dataset is not None:
        return [dataset_path(dataset, name) for name in names]
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
    """Zone means of a cube for the boxes of a config.

    Raises
    ------
    DataError
        A cell of a zone with Kd490 of 0 or below: fill that was not declared, or no Kd490.
    """
    zones = zone_means(cube, zone_frame(bounds), settings)
    wrong = np.argwhere((zones["lowest"] <= 0).transpose("time", "zone").to_numpy())
    if len(wrong):
        month, zone = (
            zones["time"].to_index()[wrong[0][0]],
            str(zones["zone"].to_numpy()[wrong[0][1]]),
        )
        raise DataError(
            f"zone {zone!r}: Kd490 of 0 or below in {len(wrong)} zone months (first: {month:%Y-%m})."
            " That is undeclared fill, or another variable; correct the files.", zone=zone,
            n_months=len(wrong),
        )  # fmt: skip
    return zones


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


def merge_sensors(cubes: dict[str, xr.DataArray], lines: Harmonisation) -> xr.DataArray:
    """The harmonised record; attribute ``shared_sd`` is the median error all cells share, m-1."""
    merged = harmonise(cubes, lines)
    shared = merged["shared_sd"].to_numpy()
    cube = merged["kd490"].astype(np.float32)
    count(cell_months=int(np.isfinite(shared).sum()))
    return cube.assign_attrs(
        units="m-1",
        product=f"harmonised to {lines.settings.reference}",
        shared_sd=float(np.nanmedian(shared)),
    )


def sensor_record(
    zones: xr.Dataset, changes: tuple[Month, ...], intervention: Month
) -> pd.DataFrame:
    """Step of ln Kd490 at each change of sensors, by zone; warns of one near the intervention."""
    warn_sensor_changes(changes, intervention)
    tables = []
    for zone in zones["zone"].to_numpy():
        series = np.log(zones["kd490"].sel(zone=zone).to_series())
        tables.append(sensor_steps(series, changes).assign(zone=str(zone)))
    return pd.concat(tables, ignore_index=True)


def compare_with_raster(
    files: InputFiles,
    zones: xr.Dataset,
    bounds: dict[str, Bounds],
    settings: RasterCheckSettings,
) -> pd.DataFrame:
    """Zone means of a raster beside the columns of the tables.

    Returns
    -------
    DataFrame
        One row per variable and zone: number of cells whose centre lies inside, largest absolute
        difference along the published path (centre cells, float32), and with exact coverage.
    """
    absent = [name for name in settings.variables if name not in zones]
    if absent:
        have = ", ".join(str(name) for name in zones.data_vars)
        raise ConfigError(
            f"data.raster_check.variables: {', '.join(absent)} not among the columns of the tables"
            f" ({have}).", absent=absent,
        )  # fmt: skip
    boxes = {zone: box for zone, box in bounds.items() if zone in zones["zone"]}
    rows = []
    for name, stored in settings.variables.items():
        cube = read_ocean_variable(
            stored, [Path(path) for path in files.paths], OceanColorSettings()
        )
        published, exact = (
            zone_means(cube, zone_frame(boxes), ZoneSettings(method=method))
            for method in ("interpolate", "mean")
        )
        for zone in boxes:
            table = zones[name].sel(zone=zone)
            shared = table.indexes["time"].intersection(published.indexes["time"])
            gaps = [
                float(
                    np.abs(means[stored].sel(zone=zone, time=shared) - table.sel(time=shared)).max()
                )
                for means in (published, exact)
            ]
            n_cells = int(published["n_valid"].sel(zone=zone).max())
            rows.append((name, zone, n_cells, *gaps, str(cube.attrs.get("units", ""))))
    columns = ["variable", "zone", "n_cells", "published_path", "exact_coverage", "units"]
    return pd.DataFrame(rows, columns=columns)


def read_truth(folder: Path) -> dict[str, Any]:
    """What a simulation says is true."""
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def coastline_path(file: str) -> Path | None:
    """A file of data set natural-earth; None with a warning where it is not on this computer.

    Warns
    -----
    EOCausalWarning
        ``MapWarning``: no study fails for want of a map background.
    """
    try:
        return dataset_path("natural-earth", file)
    except DataError as error:
        message = f"{error.message} Maps are drawn without it."
        warnings.warn(EOCausalWarning(message, "MapWarning"), stacklevel=2)
        return None


def read_coastline(files: InputFiles) -> geopandas.GeoDataFrame:
    """Coastlines or land for maps."""
    return geopandas.read_file(files.paths[0])[["geometry"]]
