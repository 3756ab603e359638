"""Images made at run time, the scenes table that describes them, and places on them."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from eo_causal.ingest.image_header import read_image_header

UTM = "EPSG:32736"
WEST, NORTH, STEP = 500_000.0, 9_800_000.0, 10.0


def write_image(path, raw, *, crs=UTM, west=WEST, north=NORTH, step=STEP, mask=None, **profile):
    """Write (band, y, x) numbers as a GeoTIFF of small tiles; profile entries win."""
    count, height, width = raw.shape
    settings = {
        "driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32, "crs": crs,
        "transform": from_origin(west, north, step, step), "dtype": raw.dtype, "count": count,
        "height": height, "width": width,
    } | profile  # fmt: skip
    if not settings["tiled"]:
        del settings["blockxsize"]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **settings) as target:
        target.write(raw)
        if mask is not None:
            target.write_mask(mask)
    return Path(path)


def scene_rows(path, date, *, item_id=None, bands=None, quality=(), product="generic"):
    """Rows of the scenes table for one file; ``quality`` are the bands that say what is usable."""
    header = read_image_header(Path(path))
    names = bands or [f"b{number}" for number in header.bands]
    return [
        {
            "item_id": item_id or Path(path).stem, "href": str(path), "band": name,
            "datetime": pd.Timestamp(date), "datetime_end": pd.NaT, "product": product,
            "baseline": None, "offset_applied": None, "crs": header.crs,
            "transform": header.transform, "rows": header.shape[0], "columns": header.shape[1],
            "band_index": number, "role": "quality" if name in quality else "data",
            "status": "ok",
        }
        for name, number in zip(names, header.bands, strict=True)
    ]  # fmt: skip


def table(*rows):
    """The scenes table of lists of rows."""
    return pd.DataFrame([row for some in rows for row in some])


def places(easting, northing, crs=UTM, keys=None):
    """Units at places of a reference system."""
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform(np.asarray(easting), np.asarray(northing))
    ids = [f"u{number}" for number in range(len(longitude))]
    return geopandas.GeoDataFrame(
        {"unit_id": ids, "image_key": keys or ids},
        geometry=geopandas.points_from_xy(longitude, latitude), crs="EPSG:4326",
    )  # fmt: skip


def on_pixels(rows, columns, **where):
    """Units in the middle of pixels of an image of :func:`write_image`."""
    west, north, step = (
        where.get(name, default)
        for name, default in (("west", WEST), ("north", NORTH), ("step", STEP))
    )
    easting = west + (np.asarray(columns) + 0.5) * step
    northing = north - (np.asarray(rows) + 0.5) * step
    return places(easting, northing, where.get("crs", UTM), where.get("keys"))


def padded_window(values, row, column, size):
    """Pixels (band, size, size) around a pixel that stands at (size // 2, size // 2); NaN outside."""
    count, height, width = values.shape
    top, left = row - size // 2, column - size // 2
    window = np.full((count, size, size), np.nan, dtype=np.float32)
    for y in range(max(top, 0), min(top + size, height)):
        for x in range(max(left, 0), min(left + size, width)):
            window[:, y - top, x - left] = values[:, y, x]
    return window
