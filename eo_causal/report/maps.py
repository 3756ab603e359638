"""Maps as cloud-optimised GeoTIFFs with units, descriptions and provenance."""

from pathlib import Path

import numpy as np
import xarray as xr


def write_cog(path: Path, layers: xr.Dataset, *, run_id: str, note: str) -> Path:
    """Write the layers of a dataset as bands of one float32 COG.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``; its folder is made.
    layers : Dataset (y, x)
        Variables with ``units`` and ``long_name``; 1-D ``latitude (y)`` decreasing and
        ``longitude (x)`` increasing, EPSG:4326. NaN = no data.
    run_id, note : str
        Stored as tags; no clock, so that maps stay bit-identical.
    """
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    latitude, longitude = layers["latitude"].to_numpy(), layers["longitude"].to_numpy()
    step_y = abs(float(latitude[-1] - latitude[0])) / (len(latitude) - 1)
    step_x = float(longitude[-1] - longitude[0]) / (len(longitude) - 1)
    west, north = float(longitude[0]) - step_x / 2, float(latitude[0]) + step_y / 2
    names = [str(name) for name in layers.data_vars]
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": len(names), "crs": "EPSG:4326",
        "height": len(latitude), "width": len(longitude), "nodata": float("nan"),
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
