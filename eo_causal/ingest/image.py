"""Windows of imagery through the one loader: float32 with NaN, north up, every cause counted."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import IntegrityError
from eo_causal.ingest.image_decode import decode_image
from eo_causal.ingest.image_files import ReadSettings, named_damage, open_image
from eo_causal.ingest.image_header import ImageHeader
from eo_causal.ingest.products import Product

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Image:
    """Decoded pixels.

    Attributes
    ----------
    values : (band, y, x) float32 array
        NaN = no value.
    masked : dict
        Cause -> number of pixels: nodata, mask, not_finite, fill, out_of_range, off_image.
    """

    values: NDArray[np.float32]
    masked: dict[str, int]


def read_image(
    header: ImageHeader,
    product: Product,
    *,
    bands: tuple[int, ...] | None = None,
    window: Window | None = None,
    settings: ReadSettings | None = None,
) -> Image:
    """Pixels of a window, decoded by the rules of a product.

    Parameters
    ----------
    bands : tuple of int, optional
        Band numbers from 1; all that hold values by default.
    window : (first row, end row, first column, end column), optional
        North up; may reach over the edges or lie outside: there are NaN, counted.

    Raises
    ------
    ReadError
        A block cannot be decoded; names file, bands and window.
    IntegrityError
        A block was never written and no nodata is declared.
    """
    chosen = bands or header.bands
    rows, columns = header.shape
    top, bottom, left, right = window or (0, rows, 0, columns)
    values = np.full((len(chosen), bottom - top, right - left), np.nan, dtype=np.float32)
    masked = {"off_image": values.size}
    inner = (max(top, 0), min(bottom, rows), max(left, 0), min(right, columns))
    if inner[0] < inner[1] and inner[2] < inner[3]:
        place = np.s_[inner[0] - top : inner[1] - top, inner[2] - left : inner[3] - left]
        for part in bands_of_one_type(header, chosen):
            raw, mask = read_raw(header, part, inner, settings or ReadSettings())
            decoded, causes = decode_image(raw, mask, header, product, part)
            values[[chosen.index(band) for band in part], *place] = decoded
            masked["off_image"] -= decoded.size
            for cause, number in causes.items():
                masked[cause] = masked.get(cause, 0) + number
    return Image(values, {cause: n for cause, n in masked.items() if n})


def bands_of_one_type(header: ImageHeader, bands: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Bands in groups of one data type: read together, others are cast to that of the first."""
    groups: dict[str, list[int]] = {}
    for band in bands:
        groups.setdefault(header.dtypes[band - 1], []).append(band)
    return [tuple(group) for group in groups.values()]


def read_raw(
    header: ImageHeader, bands: tuple[int, ...], window: Window, settings: ReadSettings
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Raw pixels and the file's own mask of a window inside the image, north up."""
    source = open_image(header.path, settings)
    from rasterio.windows import Window as RasterWindow

    top, bottom, left, right = window
    first = header.shape[0] - bottom if header.south_up else top
    view = RasterWindow(left, first, right - left, bottom - top)
    what = (
        f"bands {list(bands)}, rows {top} to {bottom}, columns {left} to {right} cannot be decoded"
    )
    with named_damage(header.path, what):
        _check_written(header, source, bands, (first, first + bottom - top, left, right))
        raw = source.read(bands, window=view)
        mask = source.dataset_mask(window=view) > 0 if header.mask != "none" else None
    if header.south_up:
        raw, mask = raw[:, ::-1], None if mask is None else mask[::-1]
    return raw, mask


def _check_written(
    header: ImageHeader, source: Any, bands: tuple[int, ...], window: Window
) -> None:
    """Refuse blocks that were never written: they would be read as zeros, all valid."""
    bare = [band for band in bands if header.nodata[band - 1] is None]
    if header.driver != "GTiff" or not bare:
        return
    if header.pixel_interleaved:
        bare = bare[:1]
    height, width = header.block
    top, bottom, left, right = window
    rows, columns = (
        range(top // height, -(-bottom // height)),
        range(left // width, -(-right // width)),
    )
    for band, row, column in itertools.product(bare, rows, columns):
        if source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band) is None:
            raise IntegrityError(
                f"{header.path}: block {row}, {column} of band {band} was never written and no nodata is"
                " declared. Fetch the file again.", path=str(header.path), block=[row, column],
            )  # fmt: skip
