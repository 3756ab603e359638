"""What an image file declares, seen north up, and whether that can be true."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eo_causal.errors import EOCausalWarning, GeorefError, ResourceLimitError
from eo_causal.ingest.image_files import ReadSettings, named_damage, open_image
from eo_causal.ingest.read import MAX_ARRAY_BYTES, MAX_CHUNK_BYTES, MAX_RATIO

MAX_BANDS = 1024
GROUND_METRES = (0.01, 100_000.0)
UTM_REACH = 10.0
METRES_PER_DEGREE = 111_320.0


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
    pixel_interleaved : bool
        A storage block holds all bands.
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
    pixel_interleaved: bool

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
    source = open_image(path, settings)
    _warn_of_sidecars(path)
    with named_damage(path, "its header cannot be read"):
        header = _described(path, source, settings)
        _check_place(header)
    return header


def _described(path: Path, source: Any, settings: ReadSettings) -> ImageHeader:
    _check_limits(path, source)
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
    return ImageHeader(
        path=path, driver=source.driver, shape=(rows, source.width), dtypes=tuple(source.dtypes),
        crs=crs.to_wkt(),
        transform=(transform.a, 0.0, transform.c, 0.0, -abs(transform.e), north),
        nodata=tuple(source.nodatavals), scales=tuple(source.scales),
        offsets=tuple(source.offsets), descriptions=tuple(source.descriptions),
        block=tuple(source.block_shapes[0]), south_up=south_up, mask=_mask_kind(source),
        pixel_interleaved=source.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL",
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
    factor = METRES_PER_DEGREE
    if not crs.is_geographic:
        factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else math.nan
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
