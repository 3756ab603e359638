"""Raw pixels to values: one mask rule, every cause counted, float32 before any arithmetic."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.ingest.decode import HUGE
from eo_causal.ingest.image_header import ImageHeader
from eo_causal.ingest.products import Product


def decode_image(
    raw: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    header: ImageHeader,
    product: Product,
    bands: tuple[int, ...],
    inside: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Values of raw numbers, NaN where they stand for nothing.

    Parameters
    ----------
    raw : (..., band, y, x) array
    mask : (..., y, x) array or None
        True = valid, from an internal or alpha mask.
    bands : tuple of int
        Band numbers, from 1, of the band axis.
    inside : (..., y, x) array, optional
        False = off the image.

    Returns
    -------
    values : (..., band, y, x) float32 array
    masked : dict
        Cause -> number of pixels: off_image, nodata, mask, not_finite, fill, out_of_range. A pixel
        counts for the first cause that holds.
    """
    invalid = np.zeros(raw.shape, dtype=bool)
    masked: dict[str, int] = {}

    def drop(cause: str, bad: NDArray[np.bool_], where: Any = ...) -> None:
        region = invalid[where]
        bad = bad & ~region
        masked[cause] = masked.get(cause, 0) + int(np.count_nonzero(bad))
        region |= bad

    if inside is not None:
        drop("off_image", np.broadcast_to(~inside[..., None, :, :], raw.shape))
    for position, band in enumerate(bands):
        nodata = header.nodata[band - 1]
        if nodata is not None and np.isfinite(nodata):
            place = np.s_[..., position, :, :]
            drop("nodata", raw[place] == _as_type(nodata, raw.dtype), place)
    if mask is not None:
        drop("mask", np.broadcast_to(~mask[..., None, :, :], raw.shape))
    if raw.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            drop("not_finite", ~(np.abs(raw) <= HUGE))
    for fill in product.fill:
        drop("fill", raw == fill)
    if product.valid_min is not None:
        drop("out_of_range", raw < product.valid_min)
    if product.valid_max is not None:
        drop("out_of_range", raw > product.valid_max)
    return _scaled(raw, invalid, header, product, bands), masked


def _scaled(
    raw: NDArray[Any],
    invalid: NDArray[np.bool_],
    header: ImageHeader,
    product: Product,
    bands: tuple[int, ...],
) -> NDArray[np.float32]:
    index = [band - 1 for band in bands]
    scale = np.array(header.scales)[index] if product.scale is None else product.scale
    offset = np.array(header.offsets)[index] if product.offset is None else product.offset
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw.astype(np.float32)
    if np.any(scale != 1):
        values *= np.asarray(scale, dtype=np.float32).reshape(-1, 1, 1)
    if np.any(offset != 0):
        values += np.asarray(offset, dtype=np.float32).reshape(-1, 1, 1)
    if invalid.any():
        values[invalid] = np.nan
    return values


def undeclared_fill(header: ImageHeader, raw: NDArray[Any], share: float = 0.01) -> float | None:
    """A raw number that looks like fill although the file declares none, or None.

    It is 0 or the smallest or largest number of the type, in more than ``share`` of the pixels.
    """
    if any(value is not None for value in header.nodata) or header.mask != "none":
        return None
    ends = [0.0]
    if raw.dtype.kind in "iu":
        ends += [float(np.iinfo(raw.dtype).min), float(np.iinfo(raw.dtype).max)]
    for value in ends:
        if (raw == value).mean() > share:
            return value
    return None


def _as_type(value: float, dtype: np.dtype[Any]) -> Any:
    """A nodata value as float data hold it; for integers as it is, so that it never wraps."""
    with np.errstate(over="ignore"):
        return dtype.type(value) if dtype.kind == "f" else value
