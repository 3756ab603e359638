"""Maps as cloud-optimised GeoTIFFs with units, descriptions and provenance."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.errors import ConfigError

MAX_CELLS = 100_000_000


def write_cog(path: Path, layers: xr.Dataset, *, run_id: str, note: str) -> Path:
    """Write the layers of a dataset as bands of one float32 COG.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``; its folder is made.
    layers : Dataset (y, x)
        Variables with ``units`` and ``long_name``. Either 1-D ``latitude (y)`` decreasing and
        ``longitude (x)`` increasing, EPSG:4326; or ``northing (y)`` and ``easting (x)`` in metres
        and ``attrs["crs"]``. NaN = no data.
    run_id, note : str
        Stored as tags; no clock, so that maps stay bit-identical.
    """
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    projected = "northing" in layers.coords
    names_of_axes = ("northing", "easting") if projected else ("latitude", "longitude")
    down, across = (layers[name].to_numpy() for name in names_of_axes)
    step_y = abs(float(down[-1] - down[0])) / (len(down) - 1)
    step_x = float(across[-1] - across[0]) / (len(across) - 1)
    west, north = float(across[0]) - step_x / 2, float(down[0]) + step_y / 2
    names = [str(name) for name in layers.data_vars]
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": len(names),
        "crs": layers.attrs["crs"] if projected else "EPSG:4326",
        "height": len(down), "width": len(across), "nodata": float("nan"),
        "transform": from_origin(west, north, step_x, step_y),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.update_tags(run_id=run_id, note=note, software="eo_causal")
            for band, name in enumerate(names, start=1):
                target.write(layers[name].to_numpy().astype(np.float32), band)
                target.set_band_description(band, name)
                units = str(layers[name].attrs.get("units", "1"))
                target.update_tags(
                    band, units=units, long_name=layers[name].attrs.get("long_name", name)
                )
                target.set_band_unit(band, units)
        with memory.open(driver="GTiff") as source:
            copy(
                source, path, driver="COG", compress="DEFLATE", predictor="YES", num_threads="1",
                overview_resampling="AVERAGE",
            )  # fmt: skip
    return path


def rasterised(
    table: pd.DataFrame, columns: dict[str, tuple[str, str]], cell_m: float
) -> xr.Dataset:
    """Places as cells of a raster in the UTM zone of their middle; empty cells are NaN.

    Parameters
    ----------
    table : DataFrame
        ``longitude``, ``latitude`` (degrees) and the columns; places that share a cell are averaged.
    columns : dict
        Column -> (units, long name).
    cell_m : float
        Side of a cell, metres.

    Returns
    -------
    Dataset (y, x)
        One variable a column, and ``n_places``; ``northing (y)`` decreasing, ``easting (x)``;
        ``attrs["crs"]``. At least two rows and columns.

    Raises
    ------
    ConfigError
        More than ``MAX_CELLS`` cells.
    """
    from geopandas import GeoSeries

    points = GeoSeries.from_xy(table["longitude"], table["latitude"], crs="EPSG:4326")
    crs = points.estimate_utm_crs()
    metres = points.to_crs(crs)
    west, north = float(metres.x.min()) - cell_m / 2, float(metres.y.max()) + cell_m / 2
    column = np.floor((metres.x.to_numpy() - west) / cell_m).astype(np.intp)
    row = np.floor((north - metres.y.to_numpy()) / cell_m).astype(np.intp)
    shape = (max(int(row.max()) + 1, 2), max(int(column.max()) + 1, 2))
    if shape[0] * shape[1] > MAX_CELLS:
        raise ConfigError(
            f"a map of {shape[0]:,} x {shape[1]:,} cells of {cell_m:g} m is too large (at most"
            f" {MAX_CELLS:,}). Set a larger transport.cell_m.", cell_m=cell_m,
        )  # fmt: skip
    cell = row * shape[1] + column
    number = np.bincount(cell, minlength=shape[0] * shape[1]).astype(float)
    layers = {"n_places": (("y", "x"), number.reshape(shape), {"long_name": "places in the cell"})}
    for name, (units, long_name) in columns.items():
        total = np.bincount(cell, table[name].to_numpy(dtype=float), len(number))
        values = np.divide(total, number, out=np.full(len(number), np.nan), where=number > 0)
        attrs = {"units": units, "long_name": long_name}
        layers[name] = (("y", "x"), values.reshape(shape), attrs)
    return xr.Dataset(
        layers,
        coords={
            "northing": ("y", north - (np.arange(shape[0]) + 0.5) * cell_m),
            "easting": ("x", west + (np.arange(shape[1]) + 0.5) * cell_m),
        },
        attrs={"crs": crs.to_string()},
    )
