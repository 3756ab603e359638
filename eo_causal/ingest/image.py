"""Imagery through the one loader: GeoTIFF and JPEG 2000 to float32 with NaN, north up, with a CRS.

One driver per open, chosen by content: a virtual raster under a plain name is never opened. Every
cause for which a pixel is no value is counted by itself.
"""

import atexit
import itertools
import math
import os
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.errors import (
    ConfigError,
    EOCausalWarning,
    GeorefError,
    IntegrityError,
    ReadError,
    ResourceLimitError,
)
from eo_causal.ingest.decode import HUGE
from eo_causal.ingest.products import Product
from eo_causal.ingest.read import MAX_ARRAY_BYTES, MAX_CHUNK_BYTES, MAX_RATIO, detect_kind

DRIVERS = {"geotiff": "GTiff", "jpeg2000": "JP2OpenJPEG"}
MAX_BANDS = 1024
MIN_GDAL = (3, 12)
MAX_HANDLES = 16
GROUND_METRES = (0.01, 100_000.0)
UTM_REACH = 10.0
METRES_PER_DEGREE = 111_320.0
SAFE_GDAL = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}
Window = tuple[int, int, int, int]


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


@dataclass(frozen=True)
class ImageHeader:
    """An image file as its header declares it, seen north up.

    Attributes
    ----------
    path : Path
    driver : str
        GDAL driver.
    shape : (int, int)
        Rows, columns.
    dtypes : tuple of str
        One per band.
    crs : str
        WKT.
    transform : tuple of 6 floats
        Column step, 0, west edge, 0, row step (negative), north edge; CRS units.
    nodata, scales, offsets, descriptions : tuples
        One per band, as the file's tags say.
    block : (int, int)
        Rows and columns of a storage block.
    south_up : bool
        The file's first row is its southernmost; reading turns it over.
    mask : {"none", "mask", "alpha"}
        What beside nodata says which pixels are valid.
    """

    path: Path
    driver: str
    shape: tuple[int, int]
    dtypes: tuple[str, ...]
    crs: str
    transform: tuple[float, float, float, float, float, float]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str | None, ...]
    block: tuple[int, int]
    south_up: bool
    mask: Literal["none", "mask", "alpha"]

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands that hold values, from 1."""
        count = len(self.dtypes) - (self.mask == "alpha")
        return tuple(range(1, count + 1))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north edge in CRS units."""
        step_x, _, west, _, step_y, north = self.transform
        return (
            west,
            north + step_y * self.shape[0],
            west + step_x * self.shape[1],
            north,
        )

    def locate(self, longitude: float, latitude: float) -> tuple[int, int]:
        """Row and column of the pixel that holds a place; may lie outside the image."""
        from pyproj import CRS, Transformer

        to_image = Transformer.from_crs("EPSG:4326", CRS.from_wkt(self.crs), always_xy=True)
        easting, northing = to_image.transform(longitude, latitude)
        step_x, _, west, _, step_y, north = self.transform
        return math.floor((northing - north) / step_y), math.floor((easting - west) / step_x)


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


def read_image_header(path: Path, settings: ReadSettings | None = None) -> ImageHeader:
    """Describe an image file without reading a pixel.

    Raises
    ------
    ReadError
        No GeoTIFF or JPEG 2000, or it cannot be opened.
    GeorefError
        No CRS, no or a rotated transform, a place that cannot be; names the option that helps.
    ResourceLimitError
        More bands, or pixels than the file can hold.
    """
    settings = settings or ReadSettings()
    source = _open(path, settings)
    _check_limits(path, source)
    _warn_of_sidecars(path)
    crs = _crs(path, source, settings)
    transform = source.transform
    if transform.is_identity:
        raise GeorefError(f"{path}: has no transform, so its place is unknown.", path=str(path))
    if abs(transform.b) > 1e-9 * abs(transform.a) or abs(transform.d) > 1e-9 * abs(transform.e):
        raise GeorefError(
            f"{path}: its grid is rotated. Say georef: warp to turn it north up.", path=str(path)
        )
    south_up = transform.e > 0
    rows = source.height
    north = transform.f + transform.e * rows if south_up else transform.f
    header = ImageHeader(
        path=path, driver=source.driver, shape=(rows, source.width), dtypes=tuple(source.dtypes),
        crs=crs.to_wkt(),
        transform=(transform.a, 0.0, transform.c, 0.0, -abs(transform.e), north),
        nodata=tuple(source.nodatavals), scales=tuple(source.scales),
        offsets=tuple(source.offsets), descriptions=tuple(source.descriptions),
        block=tuple(source.block_shapes[0]), south_up=south_up, mask=_mask_kind(source),
    )  # fmt: skip
    _check_place(header)
    return header


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
    inner = (max(top, 0), min(bottom, rows), max(left, 0), min(right, columns))
    values = np.full((len(chosen), bottom - top, right - left), np.nan, dtype=np.float32)
    masked = {"off_image": values.size}
    if inner[0] < inner[1] and inner[2] < inner[3]:
        raw, mask = _raw(header, chosen, inner, settings or ReadSettings())
        decoded, masked = decode_image(raw, mask, header, product, chosen)
        place = np.s_[:, inner[0] - top : inner[1] - top, inner[2] - left : inner[3] - left]
        values[place] = decoded
        masked["off_image"] = values.size - decoded.size
    return Image(values, {cause: n for cause, n in masked.items() if n})


def decode_image(
    raw: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    header: ImageHeader,
    product: Product,
    bands: tuple[int, ...],
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Raw numbers to values: one mask rule, float32 before any arithmetic, then scale and offset.

    Parameters
    ----------
    raw : (band, y, x) array
    mask : (y, x) array or None
        True = valid, from an internal or alpha mask.
    """
    valid = np.ones(raw.shape, dtype=bool)
    masked: dict[str, int] = {}

    def drop(cause: str, bad: NDArray[np.bool_]) -> None:
        masked[cause] = masked.get(cause, 0) + int((valid & bad).sum())
        valid[bad] = False

    for position, band in enumerate(bands):
        nodata = header.nodata[band - 1]
        if nodata is not None and np.isfinite(nodata):
            bad = np.zeros(raw.shape, dtype=bool)
            bad[position] = raw[position] == _as_type(nodata, raw.dtype)
            drop("nodata", bad)
    if mask is not None:
        drop("mask", np.broadcast_to(~mask, raw.shape))
    if raw.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            drop("not_finite", ~(np.abs(raw) <= HUGE))
    for fill in product.fill:
        drop("fill", raw == fill)
    if product.valid_min is not None:
        drop("out_of_range", raw < product.valid_min)
    if product.valid_max is not None:
        drop("out_of_range", raw > product.valid_max)
    index = [band - 1 for band in bands]
    scale = product.scale if product.scale is not None else np.array(header.scales)[index]
    offset = product.offset if product.offset is not None else np.array(header.offsets)[index]
    values = np.where(valid, raw, 0).astype(np.float32)
    values *= np.asarray(scale, dtype=np.float32).reshape(-1, 1, 1)
    values += np.asarray(offset, dtype=np.float32).reshape(-1, 1, 1)
    values[~valid] = np.nan
    return values, masked


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


class _Handles(threading.local):
    """Open files of one thread, the least recently used closed first."""

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[Any, ...], Any] = OrderedDict()


_HANDLES = _Handles()


@atexit.register
def close_images() -> None:
    """Close this thread's files; left open until Python ends they complain on the way out."""
    while _HANDLES.open:
        _HANDLES.open.popitem()[1].close()


def _open(path: Path, settings: ReadSettings) -> Any:
    """An open data set, kept for the next reads of this thread."""
    kind = detect_kind(path)
    if kind not in DRIVERS:
        raise ReadError(f"{path}: a {kind} file; images are GeoTIFF or JPEG 2000.", path=str(path))
    status = path.stat()
    key = (str(path), status.st_mtime_ns, status.st_size, settings.georef)
    handles = _HANDLES.open
    if key in handles:
        handles.move_to_end(key)
        return handles[key]
    rasterio = _rasterio()
    try:
        source = rasterio.open(path, driver=DRIVERS[kind])
        if settings.georef != "strict":
            source = _straightened(source, settings)
    except rasterio.errors.RasterioError as error:
        raise ReadError(
            f"{path}: cannot be opened ({error}). The file is damaged or ends early; fetch it"
            " again.", path=str(path),
        ) from error  # fmt: skip
    handles[key] = source
    if len(handles) > MAX_HANDLES:
        handles.popitem(last=False)[1].close()
    return source


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


def _rasterio() -> Any:
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


def _raw(
    header: ImageHeader, bands: tuple[int, ...], window: Window, settings: ReadSettings
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Raw pixels and the file's own mask of a window inside the image, north up."""
    rasterio = _rasterio()
    from rasterio.windows import Window as RasterWindow

    source = _open(header.path, settings)
    top, bottom, left, right = window
    first = header.shape[0] - bottom if header.south_up else top
    view = RasterWindow(left, first, right - left, bottom - top)
    _check_written(header, source, bands, (first, first + bottom - top, left, right))
    try:
        raw = source.read(bands, window=view)
        mask = source.dataset_mask(window=view) > 0 if header.mask != "none" else None
    except rasterio.errors.RasterioError as error:
        raise ReadError(
            f"{header.path}: bands {list(bands)}, rows {top} to {bottom}, columns {left} to {right}"
            f" cannot be decoded ({error.__cause__ or error}). The file is damaged or ends early;"
            " fetch it again.", path=str(header.path), window=list(window),
        ) from error  # fmt: skip
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


def _crs(path: Path, source: Any, settings: ReadSettings) -> Any:
    from pyproj import CRS

    if source.crs is not None and source.crs.to_wkt():
        return CRS.from_wkt(source.crs.to_wkt())
    if settings.crs is not None:
        return CRS.from_user_input(settings.crs)
    how = "Say georef: gcps to use them" if source.gcps[0] else "Give its CRS in source.crs"
    what = f"only {len(source.gcps[0])} ground control points" if source.gcps[0] else "no CRS"
    raise GeorefError(f"{path}: has {what}. {how}.", path=str(path))


def _mask_kind(source: Any) -> Literal["none", "mask", "alpha"]:
    from rasterio.enums import ColorInterp, MaskFlags

    flags = source.mask_flag_enums[0]
    if source.count > 1 and source.colorinterp[-1] == ColorInterp.alpha:
        return "alpha"
    return "mask" if MaskFlags.per_dataset in flags else "none"


def _check_limits(path: Path, source: Any) -> None:
    item = max(np.dtype(dtype).itemsize for dtype in source.dtypes)
    declared = source.width * source.height * source.count * item
    block = max(rows * columns for rows, columns in source.block_shapes) * item
    sparse = declared > 2**26 and declared / max(path.stat().st_size, 1) > MAX_RATIO
    if source.count > MAX_BANDS or block > MAX_CHUNK_BYTES or declared > MAX_ARRAY_BYTES or sparse:
        raise ResourceLimitError(
            f"{path}: declares {source.count} bands of {source.height} x {source.width} pixels,"
            f" {declared:,} bytes, in a file of {path.stat().st_size:,}. Such a file is refused.",
            path=str(path), declared=declared,
        )  # fmt: skip


def _check_place(header: ImageHeader) -> None:
    """A pixel between a centimetre and 100 km, a centre on Earth, UTM near its own meridian."""
    from pyproj import CRS, Transformer

    crs = CRS.from_wkt(header.crs)
    factor = METRES_PER_DEGREE if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
    low, high = GROUND_METRES
    for step in (header.transform[0], -header.transform[4]):
        if not low <= abs(step) * factor <= high:
            raise GeorefError(
                f"{header.path}: a pixel of {abs(step) * factor:g} m is not likely. Do transform and"
                " CRS belong together?", path=str(header.path),
            )  # fmt: skip
    west, south, east, north = header.bounds
    to_earth = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitude, latitude = to_earth.transform((west + east) / 2, (south + north) / 2)
    if not (np.isfinite([longitude, latitude]).all() and abs(latitude) <= 90):
        raise GeorefError(
            f"{header.path}: its centre lies at no place on Earth. Do transform and CRS belong"
            " together?", path=str(header.path),
        )  # fmt: skip
    if crs.utm_zone:
        meridian = 6 * int(crs.utm_zone[:-1]) - 183
        if abs((longitude - meridian + 180) % 360 - 180) > UTM_REACH:
            raise GeorefError(
                f"{header.path}: its centre lies at longitude {longitude:.2f}, far from UTM zone"
                f" {crs.utm_zone}. Do transform and CRS belong together?", path=str(header.path),
            )  # fmt: skip


def _warn_of_sidecars(path: Path) -> None:
    found = [end for end in (".msk", ".aux.xml") if path.with_name(path.name + end).exists()]
    if found:
        warnings.warn(
            EOCausalWarning(
                f"{path}: the file {path.name}{found[0]} beside it is not read. Build masks into the"
                " image itself.", "SidecarWarning",
            ),
            stacklevel=3,
        )  # fmt: skip


def _as_type(value: float, dtype: np.dtype[Any]) -> Any:
    """A nodata value as float data hold it; for integers as it is, so that it never wraps."""
    with np.errstate(over="ignore"):
        return dtype.type(value) if dtype.kind == "f" else value
