"""Footprints on a grid that is not the image's: resampled once, NaN-aware."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.ingest.cut import Cut
from eo_causal.ingest.image import Window, read_image
from eo_causal.ingest.image_files import ReadSettings, memory_image, safe_rasterio
from eo_causal.ingest.image_header import ImageHeader
from eo_causal.ingest.products import Product
from eo_causal.ingest.targets import Targets, is_geographic, outline, wrapped

KERNEL = 2
MARGIN = 2
NEARLY_WHOLE = 0.05


def warp_windows(
    header: ImageHeader,
    product: Product,
    bands: tuple[int, ...],
    targets: Targets,
    resampling: str,
    settings: ReadSettings,
) -> Cut:
    """Windows of an image on the grids of the targets; the same as warping each band of all of it.

    Parameters
    ----------
    resampling : {"nearest", "bilinear", "cubic"}
    """
    rasterio = safe_rasterio()
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    values = np.full((len(targets), len(bands), *targets.size), np.nan, dtype=np.float32)
    masked: dict[str, int] = {}
    n_reads = n_bytes = 0
    own = CRS.from_wkt(header.crs)
    systems = [CRS.from_user_input(crs) for crs in targets.crs]
    with rasterio.Env():
        for position, window, ratio in _source_windows(header, targets):
            image = read_image(header, product, bands=bands, window=window, settings=settings)
            across, _, west, _, down, north = header.transform
            corner = Affine(across, 0, west + window[2] * across, 0, down, north + window[0] * down)
            grid = (systems[targets.crs_index[position]], Affine(*targets.transform(position)))
            for part in _alike(image.values):
                shape = values[position, part].shape
                values[position, part] = _resampled(
                    image.values[part], (own, corner), shape, grid, resampling, ratio
                )
            n_reads += 1
            n_bytes += image.values.nbytes
            for cause, number in image.masked.items():
                masked[cause] = masked.get(cause, 0) + number
    return Cut(values, masked, n_reads, n_bytes)


def _resampled(
    source: NDArray[np.float32],
    source_grid: tuple[Any, Any],
    shape: tuple[int, ...],
    grid: tuple[Any, Any],
    resampling: str,
    ratio: tuple[float, float],
) -> NDArray[np.float32]:
    """Bands (band, y, x) on another grid (CRS and transform), without GDAL's approximation."""
    from rasterio import band
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    with memory_image(source.shape, *source_grid) as given, memory_image(shape, *grid) as result:
        given.write(source)
        reproject(
            band(given, given.indexes), band(result, result.indexes), src_nodata=np.nan,
            dst_nodata=np.nan, resampling=Resampling[resampling], tolerance=0,
            XSCALE=1 / ratio[0], YSCALE=1 / ratio[1],
        )  # fmt: skip
        resampled: NDArray[np.float32] = result.read()
    return resampled


def _alike(values: NDArray[np.float32]) -> list[slice]:
    """Bands to resample together: those of one call spoil what lies near the gaps of the others."""
    gaps = np.isnan(values)
    if (gaps == gaps[0]).all():
        return [slice(None)]
    return [slice(band, band + 1) for band in range(len(values))]


def _source_windows(
    header: ImageHeader, targets: Targets
) -> Iterator[tuple[int, Window, tuple[float, float]]]:
    """The part of the image each target needs, clipped to the image.

    Also how many source columns and rows make up a pixel of the target. Left to itself, GDAL takes
    them from the clipped part, so that a chip at an edge would be averaged over another kernel.
    """
    across, _, west, _, down, north = header.transform
    rows, columns = header.shape
    bounds: NDArray[np.float64] = outline(targets, header.crs, points=16)
    if is_geographic(header.crs):
        middle = bounds[:, [0, 2]].mean(axis=1, keepdims=True)
        bounds[:, [0, 2]] += wrapped(middle, west + across * columns / 2) - middle
    left, right = (bounds[:, 0] - west) / across, (bounds[:, 2] - west) / across
    top, bottom = (bounds[:, 3] - north) / down, (bounds[:, 1] - north) / down
    wide, high = _ratio(right - left, targets.size[1]), _ratio(bottom - top, targets.size[0])
    left, right = left - MARGIN - KERNEL * wide, right + MARGIN + KERNEL * wide
    top, bottom = top - MARGIN - KERNEL * high, bottom + MARGIN + KERNEL * high
    for position in range(len(targets)):
        window: Window = (
            int(max(top[position], 0)), int(min(bottom[position] + 1, rows)),
            int(max(left[position], 0)), int(min(right[position] + 1, columns)),
        )  # fmt: skip
        if window[0] < window[1] and window[2] < window[3]:
            yield position, window, (float(wide[position]), float(high[position]))


def _ratio(source: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Source pixels per target pixel, at least one; near whole numbers are whole, as in GDAL."""
    ratio = np.maximum(source / size, 1)
    whole = np.round(ratio)
    return np.where(np.abs(ratio - whole) < NEARLY_WHOLE, whole, ratio)
