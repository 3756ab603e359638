"""Known images written the way producers write theirs: integers, scales, fills and quality bits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SceneConvention = Literal["landsat_c2_l2", "sentinel2_l2a", "sentinel2_old", "float", "tagged"]
Transform = tuple[float, float, float, float, float, float]

CLEAR, CLOUD, FILL = 1 << 6, 1 << 3, 1
"""QA_PIXEL of Landsat Collection 2: the bits clear, cloud and fill."""


@dataclass(frozen=True)
class Packing:
    """How values become stored numbers: ``stored = (value - offset) / scale``, rounded."""

    dtype: str
    scale: float
    offset: float
    fill: float | None
    tagged: bool = False
    declares_fill: bool = False


PACKINGS: dict[str, Packing] = {
    "landsat_c2_l2": Packing("uint16", 2.75e-5, -0.2, 0),
    "sentinel2_l2a": Packing("uint16", 1e-4, -0.1, 0),
    "sentinel2_old": Packing("uint16", 1e-4, 0.0, 0),
    "float": Packing("float32", 1.0, 0.0, None),
    "tagged": Packing("int16", 1e-4, 0.0, -32768, tagged=True, declares_fill=True),
}


def write_scene(
    path: Path,
    values: NDArray[np.float32],
    transform: Transform,
    crs: str,
    convention: SceneConvention = "float",
    *,
    south_up: bool = False,
    internal_mask: bool = False,
    skip_blocks: bool = False,
    block: int = 128,
) -> None:
    """Write one GeoTIFF.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``.
    values : (band, y, x) array
        Reflectance, NaN = invalid.
    transform : 6 floats
        North up, in CRS units.
    convention : str
        How numbers are stored: Landsat Collection 2 or Sentinel-2 (after and before processing
        baseline 04.00) integers, 0 where invalid and nothing declared; plain float32 with NaN; or
        int16 with scale, offset and nodata tags.
    south_up : bool
        The file's first row is its southernmost.
    internal_mask : bool
        Invalid pixels are said by a mask in the file; their numbers are arbitrary.
    skip_blocks : bool
        Blocks without a valid pixel are never written.
    """
    import rasterio
    from rasterio.transform import Affine

    packing = PACKINGS[convention]
    stored = _pack(values, packing)
    across, _, west, _, down, north = transform
    if south_up:
        stored = stored[:, ::-1]
        north, down = north + down * values.shape[1], -down
    place = Affine(across, 0, west, 0, down, north)
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": packing.dtype, "count": len(values), "height": values.shape[1],
        "width": values.shape[2], "crs": crs, "transform": place, "tiled": True,
        "blockxsize": block, "blockysize": block, "compress": "deflate",
        "interleave": "pixel", "sparse_ok": skip_blocks,
    }  # fmt: skip
    if packing.declares_fill or convention == "float":
        profile["nodata"] = packing.fill if packing.declares_fill else float("nan")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(path, "w", **profile) as target:
        target.write(stored)
        if packing.tagged:
            target.scales = [packing.scale] * len(values)
            target.offsets = [packing.offset] * len(values)
        if internal_mask:
            valid = np.isfinite(values).all(axis=0)
            target.write_mask(valid[::-1] if south_up else valid)


def write_codes(path: Path, codes: NDArray[np.uint16], transform: Transform, crs: str) -> None:
    """Write a quality band (y, x): integers, nothing declared."""
    import rasterio
    from rasterio.transform import Affine

    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", count=1, height=codes.shape[0],
        width=codes.shape[1], crs=crs, transform=Affine(*transform), tiled=True, blockxsize=128,
        blockysize=128, compress="deflate",
    ) as target:  # fmt: skip
        target.write(codes, 1)


def _pack(values: NDArray[np.float32], packing: Packing) -> NDArray[Any]:
    dtype = np.dtype(packing.dtype)
    if dtype.kind == "f":
        return values.astype(dtype)
    invalid = np.isnan(values)
    stored = np.round((np.where(invalid, 0, values).astype(float) - packing.offset) / packing.scale)
    low = 1 if packing.fill == 0 else np.iinfo(dtype).min + 1
    stored = np.clip(stored, low, np.iinfo(dtype).max)
    stored[invalid] = packing.fill
    return stored.astype(dtype)
