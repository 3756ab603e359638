"""Where chips lie: one square of pixels a unit, on the scenes' own grid or on one of its own."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import CoverageError

UTM_LATITUDES = (-80.0, 84.0)
HALF = 0.5 + 1e-6
PROJECTED_AT_ONCE = 2**15


@dataclass(frozen=True)
class Targets:
    """Footprints of one shape and resolution.

    Attributes
    ----------
    crs : tuple of str
        The reference systems that occur.
    crs_index : (unit,) int array
        Which of them a footprint is in.
    west, north : (unit,) float64 arrays
        Its corner, in CRS units.
    step : (float, float)
        Width and height of a pixel, in CRS units, both positive.
    size : (int, int)
        Rows and columns.
    """

    crs: tuple[str, ...]
    crs_index: NDArray[np.intp]
    west: NDArray[np.float64]
    north: NDArray[np.float64]
    step: tuple[float, float]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.west)

    def take(self, positions: NDArray[np.intp]) -> "Targets":
        """Some of them, in this order."""
        return Targets(
            self.crs, self.crs_index[positions], self.west[positions], self.north[positions],
            self.step, self.size,
        )  # fmt: skip

    def grown(self, pixels: int) -> "Targets":
        """The same footprints with a margin all around."""
        across, down = self.step
        return Targets(
            self.crs, self.crs_index, self.west - pixels * across, self.north + pixels * down,
            self.step, (self.size[0] + 2 * pixels, self.size[1] + 2 * pixels),
        )  # fmt: skip

    def transform(self, position: int) -> tuple[float, float, float, float, float, float]:
        """Affine transform of one footprint."""
        west, north = float(self.west[position]), float(self.north[position])
        return (self.step[0], 0.0, west, 0.0, -self.step[1], north)

    @property
    def centre(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Easting and northing of the middle of each footprint."""
        height, width = self.size
        return self.west + width / 2 * self.step[0], self.north - height / 2 * self.step[1]


def native_targets(
    longitude: NDArray[np.float64],
    latitude: NDArray[np.float64],
    crs: str,
    transform: tuple[float, ...],
    shape: tuple[int, int],
    size: tuple[int, int],
) -> Targets:
    """Footprints on the lattice of an image, the pixel with the place at (rows // 2, columns // 2).

    Parameters
    ----------
    longitude, latitude : (unit,) arrays
        Degrees, EPSG:4326.
    transform, shape
        Of the image that defines the lattice, north up.
    """
    easting, northing = project(longitude, latitude, crs)
    across, _, west, _, down, north = transform
    if is_geographic(crs):
        easting = wrapped(easting, west + across * shape[1] / 2)
    column = np.floor((easting - west) / across) - size[1] // 2
    row = np.floor((northing - north) / down) - size[0] // 2
    return Targets(
        (crs,), np.zeros(len(easting), dtype=np.intp), west + column * across, north + row * down,
        (across, -down), size,
    )  # fmt: skip


def local_targets(
    longitude: NDArray[np.float64],
    latitude: NDArray[np.float64],
    resolution_m: float,
    size: tuple[int, int],
) -> Targets:
    """Footprints each in its place's own UTM zone, corners at multiples of the resolution.

    Images whose grid is that one, such as Sentinel-2, are then cut without any resampling.
    """
    names = utm_zones(longitude, latitude)
    kinds, index = np.unique(names, return_inverse=True)
    west, north = np.empty(len(names)), np.empty(len(names))
    for position, crs in enumerate(kinds):
        here = index == position
        easting, northing = project(longitude[here], latitude[here], str(crs))
        west[here] = (np.floor(easting / resolution_m) - size[1] // 2) * resolution_m
        north[here] = (np.ceil(northing / resolution_m) + size[0] // 2) * resolution_m
    step = (resolution_m, resolution_m)
    return Targets(tuple(map(str, kinds)), index.astype(np.intp), west, north, step, size)


def utm_zones(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.str_]:
    """``EPSG:326NN`` north and ``EPSG:327NN`` south of the equator.

    Raises
    ------
    CoverageError
        A place nearer to a pole than UTM reaches.
    """
    low, high = UTM_LATITUDES
    outside = ~((latitude >= low) & (latitude <= high))
    if outside.any():
        raise CoverageError(
            f"{int(outside.sum())} places lie outside latitudes {low:g} to {high:g}, where there is no"
            f" UTM zone (first: {latitude[outside][0]:.1f}). Use grid: native."
        )
    zone = (np.floor((longitude + 180) / 6) % 60 + 1).astype(int)
    code = np.where(latitude >= 0, 32600, 32700) + zone
    return np.char.add("EPSG:", code.astype(str))


def project(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64], crs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Easting and northing (or longitude and latitude) in a reference system."""
    from pyproj import Transformer

    to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    easting, northing = to_crs.transform(longitude, latitude)
    return np.asarray(easting), np.asarray(northing)


def outline(targets: Targets, crs: str, points: int = 4) -> NDArray[np.float64]:
    """Bounds of each footprint in another system: west, south, east, north (unit, 4).

    Edges are densified with ``points`` a side, because straight lines do not stay straight. Where
    degrees jump at the antimeridian the bounds go on beyond it. What has no place there is infinite.
    """
    width, height = targets.size[1] * targets.step[0], targets.size[0] * targets.step[1]
    west, north = targets.west, targets.north
    bounds = np.stack([west, north - height, west + width, north], axis=1)
    for position, own in enumerate(targets.crs):
        if not same_crs(own, crs):
            here = np.flatnonzero(targets.crs_index == position)
            for start in range(0, len(here), PROJECTED_AT_ONCE):
                some = here[start : start + PROJECTED_AT_ONCE]
                bounds[some] = _projected_bounds(targets.take(some), own, crs, points)
    return bounds


def _projected_bounds(targets: Targets, own: str, crs: str, points: int) -> NDArray[np.float64]:
    from pyproj import Transformer

    share = np.linspace(0, 1, points + 1)[:-1]
    ones = np.ones_like(share)
    across = np.concatenate([share, ones, 1 - share, 0 * ones])
    down = np.concatenate([0 * ones, share, ones, 1 - share])
    x, y = Transformer.from_crs(own, crs, always_xy=True).transform(
        targets.west[:, None] + across * targets.size[1] * targets.step[0],
        targets.north[:, None] - down * targets.size[0] * targets.step[1],
    )
    if is_geographic(crs):
        x = wrapped(x, x[:, :1])
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)


def wrapped(longitude: NDArray[np.float64], near: Any) -> NDArray[np.float64]:
    """Longitudes within half a turn of another one."""
    return longitude - 360 * np.round((longitude - near) / 360)


def lattice_offset(
    targets: Targets, transform: tuple[float, ...], shape: tuple[int, int], crs: str
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """First row and column of footprints in an image of their system, and the shift that leaves.

    Returns
    -------
    corners : (unit, 2) int array
    shift : (unit, 2) float64 array
        Nearest whole pixel minus exact place, in pixels: at most half of one. Halves all go one way,
        so that neighbours stay neighbours.
    """
    across, _, west, _, down, north = transform
    exact = np.stack([(targets.north - north) / down, (targets.west - west) / across], axis=1)
    if is_geographic(crs):
        turn = 360 / across
        exact[:, 1] -= turn * np.round((exact[:, 1] - shape[1] / 2) / turn)
    corners = np.floor(exact + HALF)
    return corners.astype(np.intp), corners - exact


def is_geographic(crs: str) -> bool:
    """Whether a reference system counts in degrees."""
    return bool(_parsed(crs).is_geographic)


def same_crs(first: str, second: str) -> bool:
    """Whether two texts name one reference system."""
    return first == second or bool(_parsed(first) == _parsed(second))


@functools.lru_cache(maxsize=1024)
def _parsed(crs: str) -> Any:
    from pyproj import CRS

    return CRS.from_user_input(crs)


@functools.lru_cache(maxsize=1024)
def short_crs(crs: str) -> str:
    """``AUTHORITY:CODE`` where there is one for exactly this system, else the text itself."""
    found = _parsed(crs).to_authority(min_confidence=100)
    return ":".join(found) if found else crs
