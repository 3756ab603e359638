"""Many windows of one image, each storage block read once.

Decoding is what costs. Windows that share a block therefore share its reading, and only what is cut
out is turned into values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_causal.ingest.image import Window, bands_of_one_type, read_raw
from eo_causal.ingest.image_decode import decode_image
from eo_causal.ingest.image_files import ReadSettings
from eo_causal.ingest.image_header import ImageHeader
from eo_causal.ingest.products import Product

READ_ROWS = READ_COLUMNS = 256
MAX_READ_BYTES = 2**26


@dataclass(frozen=True)
class Cut:
    """Windows cut out of an image.

    Attributes
    ----------
    values : (window, band, y, x) float32 array
        NaN = no value.
    masked : dict
        Cause -> number of pixels (see :func:`decode_image`).
    n_reads, n_bytes : int
        Reads made, and the decoded bytes they brought.
    """

    values: NDArray[np.float32]
    masked: dict[str, int]
    n_reads: int
    n_bytes: int


def cut_windows(
    header: ImageHeader,
    product: Product,
    bands: tuple[int, ...],
    corners: NDArray[np.intp],
    size: tuple[int, int],
    settings: ReadSettings,
) -> Cut:
    """Windows of one size; what lies off the image is NaN.

    Parameters
    ----------
    corners : (window, 2) int array
        First row and first column of each, north up; may lie outside the image.
    size : (int, int)
        Rows and columns of every window.

    Raises
    ------
    ReadError, IntegrityError
        See :func:`eo_causal.ingest.image.read_image`.
    """
    values = np.empty((len(corners), len(bands), *size), dtype=np.float32)
    masked: dict[str, int] = {}
    n_reads = n_bytes = 0
    inside = inside_image(header.shape, corners, size)
    for part in bands_of_one_type(header, bands):
        raw = np.zeros((len(corners), len(part), *size), dtype=header.dtypes[part[0] - 1])
        mask = None if header.mask == "none" else np.zeros((len(corners), *size), dtype=bool)
        for window, members in _shared_reads(header, len(part) * raw.itemsize, corners, size):
            block, block_mask = read_raw(header, part, window, settings)
            n_reads += 1
            n_bytes += block.nbytes
            for member in members:
                here, there = _overlap(window, corners[member], size)
                raw[member][:, *there] = block[:, *here]
                if mask is not None and block_mask is not None:
                    mask[member][there] = block_mask[here]
        decoded, causes = decode_image(raw, mask, header, product, part, inside)
        if part == bands:
            values = decoded
        else:
            values[:, [bands.index(band) for band in part]] = decoded
        for cause, number in causes.items():
            masked[cause] = masked.get(cause, 0) + number
    return Cut(values, {cause: n for cause, n in masked.items() if n}, n_reads, n_bytes)


def inside_image(
    shape: tuple[int, int], corners: NDArray[np.intp], size: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """(window, y, x): True on the image; None when all windows lie inside."""
    if ((corners >= 0) & (corners + size <= shape)).all():
        return None
    rows = corners[:, :1] + np.arange(size[0])
    columns = corners[:, 1:] + np.arange(size[1])
    row_inside = (rows >= 0) & (rows < shape[0])
    column_inside = (columns >= 0) & (columns < shape[1])
    return row_inside[:, :, None] & column_inside[:, None, :]


def _shared_reads(
    header: ImageHeader, pixel_bytes: int, corners: NDArray[np.intp], size: tuple[int, int]
) -> Iterator[tuple[Window, NDArray[np.intp]]]:
    """Windows to read, in the order of the file, and which of the asked windows need each."""
    height, width = _read_shape(header, pixel_bytes)
    low = np.maximum(corners, 0)
    high = np.minimum(corners + size, header.shape)
    first = low // (height, width)
    last = (high - 1) // (height, width)
    span = np.where((high > low).all(axis=1)[:, None], last - first + 1, 0)
    member = np.repeat(np.arange(len(corners)), span.prod(axis=1))
    step = np.arange(len(member)) - np.repeat(
        np.cumsum(span.prod(axis=1)) - span.prod(axis=1), span.prod(axis=1)
    )
    row = first[member, 0] + step // np.maximum(span[member, 1], 1)
    column = first[member, 1] + step % np.maximum(span[member, 1], 1)
    order = np.lexsort((member, column, row))
    if len(order) == 0:
        return
    who = member[order]
    corner = np.stack([row[order] * height, column[order] * width], axis=1)
    starts = np.flatnonzero((np.diff(corner, axis=0, prepend=-1) != 0).any(axis=1))
    first_pixel = np.maximum(np.minimum.reduceat(low[who], starts), corner[starts])
    end = corner[starts] + np.array([height, width])
    last_pixel = np.minimum(np.maximum.reduceat(high[who], starts), end)
    windows = np.stack([first_pixel, last_pixel], axis=2).reshape(-1, 4).tolist()
    for window, members in zip(windows, np.split(who, starts[1:]), strict=True):
        yield tuple(window), members


def _read_shape(header: ImageHeader, pixel_bytes: int) -> tuple[int, int]:
    """Rows and columns read at once: whole blocks, small ones together, within a memory bound.

    A south-up file counts its blocks from the other end; a shift that costs reads, not values.
    """
    height, width = header.block
    columns = width * max(1, READ_COLUMNS // width)
    fitting = MAX_READ_BYTES // max(columns * pixel_bytes, 1)
    rows = height * max(1, min(READ_ROWS, fitting) // height)
    return rows, columns


def _overlap(
    window: Window, corner: NDArray[np.intp], size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a read window and an asked window meet: in the one, in the other."""
    here, there = [], []
    for axis, (start, end) in enumerate((window[:2], window[2:])):
        first = max(start, int(corner[axis]))
        last = min(end, int(corner[axis]) + size[axis])
        here.append(slice(first - start, last - start))
        there.append(slice(first - int(corner[axis]), last - int(corner[axis])))
    return (here[0], here[1]), (there[0], there[1])
