"""Image files opened: one driver per open, chosen by content, and nothing read beside the file.

A virtual raster under a plain name is never opened. Files stay open for the next reads of a thread.
"""

import atexit
import contextlib
import functools
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, EOCausalError, GeorefError, ReadError
from eo_causal.ingest.read import detect_kind

DRIVERS = {"geotiff": "GTiff", "jpeg2000": "JP2OpenJPEG"}
MIN_GDAL = (3, 12)
MAX_HANDLES = 16
SAFE_GDAL = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "CPL_LOG": os.devnull,  # what GDAL would print of odd tags; what fails is raised all the same
}


class ReadSettings(Settings):
    """How image files are opened."""

    georef: Literal["strict", "gcps", "warp"] = Field(
        default="strict",
        description="gcps: from ground control points; warp: turn rotated grids north up",
    )
    crs: str | None = Field(
        default=None,
        pattern=r"^([A-Za-z]+:\d+|(GEOG|PROJ|GEODCRS|BOUNDCRS|COMPOUNDCRS|LOCAL|ENGCRS|\{).*)$",
        description="CRS of files that declare none, as AUTHORITY:CODE, WKT or PROJJSON",
    )


class _Handles(threading.local):
    """Open files of one thread, the least recently used closed first."""

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[Any, ...], Any] = OrderedDict()


_HANDLES = _Handles()
_OPENING = threading.Lock()


@atexit.register
def close_images() -> None:
    """Close this thread's files; left open until Python ends they complain on the way out."""
    while _HANDLES.open:
        _HANDLES.open.popitem()[1].close()


def open_image(path: Path, settings: ReadSettings) -> Any:
    """An open data set, kept for the next reads of this thread."""
    handles, key = _HANDLES.open, _key(path, settings)
    if key in handles:
        handles.move_to_end(key)
        return handles[key]
    kind = detect_kind(path)
    if kind not in DRIVERS:
        raise ReadError(f"{path}: a {kind} file; images are GeoTIFF or JPEG 2000.", path=str(path))
    with named_damage(path, "cannot be opened"):
        source = _opened(path, DRIVERS[kind])
        if settings.georef != "strict":
            source = _straightened(source, settings)
    handles[key] = source
    if len(handles) > MAX_HANDLES:
        handles.popitem(last=False)[1].close()
    return source


@contextlib.contextmanager
def named_damage(path: Path, what: str) -> Iterator[None]:
    """Whatever GDAL raises at a damaged file, as one error that names it.

    Raises
    ------
    ReadError
    """
    try:
        yield
    except EOCausalError:
        raise
    except Exception as error:
        raise ReadError(
            f"{path}: {what} ({error.__cause__ or error}). The file is damaged or ends early; fetch it"
            " again.", path=str(path),
        ) from error  # fmt: skip


def _key(path: Path, settings: ReadSettings) -> tuple[Any, ...]:
    """A file as it is now: another time or size, another file."""
    try:
        status = path.stat()
    except OSError:
        return (str(path),)
    return (str(path), status.st_mtime_ns, status.st_size, settings.georef)


def _opened(path: Path, driver: str) -> Any:
    """A data set that knows where it lies; filters of warnings belong to all threads, hence the lock."""
    rasterio = safe_rasterio()
    nowhere = rasterio.errors.NotGeoreferencedWarning
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("error", nowhere)
        try:
            return rasterio.open(path, driver=driver)
        except nowhere as warning:
            raise GeorefError(
                f"{path}: has no transform, so its place is unknown.", path=str(path)
            ) from warning


def _straightened(source: Any, settings: ReadSettings) -> Any:
    """A north-up view of a rotated grid, or of one that only has ground control points."""
    from rasterio.vrt import WarpedVRT

    points, crs = source.gcps
    if settings.georef == "gcps" and points:
        return WarpedVRT(source, src_crs=crs, crs=crs)
    rotated = abs(source.transform.b) > 0 or abs(source.transform.d) > 0
    if settings.georef == "warp" and rotated and source.crs is not None:
        return WarpedVRT(source, crs=source.crs)
    return source


def memory_image(shape: tuple[int, ...], crs: Any, transform: Any) -> Any:
    """A float32 image (band, y, x) in memory, to be read and written.

    Where rasterio wraps an array itself, it silences every warning of the process meanwhile; threads
    that do so at once may silence them for good.
    """
    bands, height, width = shape
    return safe_rasterio().open(
        "memory", "w+", driver="MEM", dtype="float32", count=bands, height=height, width=width,
        crs=crs, transform=transform,
    )  # fmt: skip


@functools.cache
def safe_rasterio() -> Any:
    """The rasterio module, with the options that keep it from reading anything else."""
    os.environ.update(SAFE_GDAL)
    os.environ.setdefault("GDAL_CACHEMAX", "128")
    import rasterio
    import rasterio.errors

    found = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])
    if found < MIN_GDAL:
        raise ConfigError(
            f"GDAL {rasterio.__gdal_version__} is older than 3.12. Install rasterio 1.5 or newer."
        )
    return rasterio
