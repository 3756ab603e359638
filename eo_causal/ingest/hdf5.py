"""What the HDF5 library takes on trust, looked at before it opens a file."""

import mmap
import struct
from pathlib import Path

from eo_causal.errors import IntegrityError

_HEAP = b"GCOL\x01\0\0\0"
_HEAP_HEADER = 16
_OBJECT_HEADER = 16


def check_heaps(path: Path) -> None:
    """Refuse global heaps whose objects lead nowhere: the library would read one for ever.

    A free object of no size makes HDF5 1.14 and 2.0 loop in ``H5HG__cache_heap_deserialize``.
    Layout: HDF5 File Format Specification 3.0, section III.E.

    Raises
    ------
    IntegrityError
        A heap is damaged; names the file and the byte.
    """
    if path.stat().st_size == 0:
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_HEAP)
        while start >= 0:
            _check_heap(path, data, start)
            start = data.find(_HEAP, start + 1)


def _check_heap(path: Path, data: mmap.mmap, start: int) -> None:
    (size,) = struct.unpack_from("<Q", data, start + 8) if start + 16 <= len(data) else (0,)
    end = start + size
    if end > len(data):  # no heap, or one that ends early, which the library notices
        return
    place = start + _HEAP_HEADER
    while place + _OBJECT_HEADER <= end:
        index, _, _, length = struct.unpack_from("<HHIQ", data, place)
        step = length if index == 0 else _OBJECT_HEADER + (length + 7) // 8 * 8
        if step % 2**64 == 0:
            raise IntegrityError(
                f"{path}: its HDF5 heap at byte {start} is damaged. Fetch the file again.",
                path=str(path), byte=start,
            )  # fmt: skip
        place += step
