"""Which chips need which scenes, in an order in which neighbours share what is read.

A plan reads no pixel. It is a few flat arrays, so that a million chips are planned in seconds.
"""

import math
import warnings
from dataclasses import dataclass

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.progress import count
from eo_causal.errors import CoverageError, EOCausalWarning, GeorefError
from eo_causal.ingest.chip_settings import MAX_PIXELS, ChipSettings
from eo_causal.ingest.chip_slots import solar_days
from eo_causal.ingest.composite import periods_between
from eo_causal.ingest.image_header import METRES_PER_DEGREE
from eo_causal.ingest.scene import Scene
from eo_causal.ingest.targets import (
    Targets,
    is_geographic,
    lattice_offset,
    local_targets,
    native_targets,
    outline,
    same_crs,
    wrapped,
)

CHUNK_BYTES = 2**23
CHUNK_READ_BYTES = 2**26
SORT_PIXELS = 256
SNUG = 1e-6
MAX_OFF = 0.01
ROUNDING_SNAP = 1e-3
DEFAULT_PIXELS = 64


@dataclass(frozen=True)
class ChipPlan:
    """What will be cut.

    Attributes
    ----------
    positions : (chip,) int array
        Which unit each chip is of; chips are in the order of the store.
    targets : Targets
        Their footprints, in the same order.
    pair_chip, pair_scene : (pair,) int arrays
        Chip and scene that overlap, sorted by chip.
    starts : (chip + 1,) int array
        Where the pairs of each chip begin.
    n_slots : int
        Length of the time axis.
    periods : DatetimeIndex or None
        First day of each composite's period.
    chunk, batch : int
        Chips in a block of the store, and in a task.
    snap : float
        Largest shift of an image onto the common grid, in pixels.
    off : (chip,) bool array
        Chips that no scene reaches.
    """

    positions: NDArray[np.intp]
    targets: Targets
    pair_chip: NDArray[np.intp]
    pair_scene: NDArray[np.intp]
    starts: NDArray[np.intp]
    n_slots: int
    periods: pd.DatetimeIndex | None
    chunk: int
    batch: int
    snap: float
    off: NDArray[np.bool_]

    @property
    def n_batches(self) -> int:
        """Tasks it takes."""
        return -(-len(self.positions) // self.batch)


def plan_chips(
    places: geopandas.GeoDataFrame, scenes: list[Scene], n_bands: int, settings: ChipSettings
) -> ChipPlan:
    """Plan the chips of places.

    Parameters
    ----------
    places : GeoDataFrame
        Points or polygons, EPSG:4326; one chip each.

    Raises
    ------
    GeorefError
        Scenes of several grids with ``grid: native``.
    CoverageError
        No place, or more than 1 % of them on no scene.
    """
    if len(places) == 0:
        raise CoverageError("there is no unit to cut a chip for. Look at units.exclude.")
    targets, snap = _targets(places, scenes, settings)
    chip, scene = _overlaps(targets, scenes)
    off = np.ones(len(targets), dtype=bool)
    off[chip] = False
    _check_coverage(off, places)
    order = _reading_order(targets, chip, scene, scenes[0])
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    chip = rank[chip]
    by_chip = np.lexsort((scene, chip))
    chip, scene = chip[by_chip], scene[by_chip]
    n_slots, periods = _slots(places, order, chip, scene, scenes, settings)
    starts = np.searchsorted(chip, np.arange(len(order) + 1))
    image = n_bands * targets.size[0] * targets.size[1] * 4
    most = max(n_slots, int(np.diff(starts).max(initial=1)))
    chunk = max(1, min(CHUNK_BYTES // (image * n_slots), CHUNK_READ_BYTES // (image * most)))
    batch = chunk * max(1, settings.batch_bytes // (image * most * chunk))
    return ChipPlan(
        order, targets.take(order), chip, scene, starts, n_slots, periods, chunk, batch, snap,
        off[order],
    )  # fmt: skip


def _targets(
    places: geopandas.GeoDataFrame, scenes: list[Scene], settings: ChipSettings
) -> tuple[Targets, float]:
    longitude, latitude = centres(places)
    if settings.grid == "local":
        resolution = float(settings.resolution_m or 0)
        size = _size(places, settings, resolution)
        return local_targets(longitude, latitude, resolution, (size, size)), 0.0
    first = scenes[0]
    for scene in scenes[1:]:
        _check_same_grid(first, scene)
    size = _size(places, settings, _pixel_metres(first))
    targets = native_targets(
        longitude, latitude, first.crs, first.transform, first.shape, (size, size)
    )
    one = targets.take(np.array([0]))
    snaps = [
        float(np.abs(lattice_offset(one, scene.transform, scene.shape, scene.crs)[1]).max())
        for scene in scenes
    ]
    worst = int(np.argmax(snaps))
    if snaps[worst] > max(settings.max_snap, ROUNDING_SNAP) + ROUNDING_SNAP:
        raise GeorefError(
            f"{scenes[worst].item_id}: its grid is shifted by {snaps[worst]:.2f} pixels against"
            f" {first.item_id} (max_snap {settings.max_snap:g}). Raise max_snap, or use grid: local.",
            item_id=scenes[worst].item_id, snap=float(snaps[worst]),
        )  # fmt: skip
    return targets, float(snaps[worst])


def centres(places: geopandas.GeoDataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the points, and of the middle of the bounds of polygons.

    A polygon more than half the globe wide lies on both sides of the antimeridian.
    """
    import shapely

    west, south, east, north = shapely.bounds(places.geometry.to_numpy()).T
    for number in np.flatnonzero(east - west > 180):
        longitude = shapely.get_coordinates(places.geometry.iloc[number])[:, 0] % 360
        west[number], east[number] = longitude.min(), longitude.max()
    return wrapped((west + east) / 2, 0.0), (south + north) / 2


def _size(places: geopandas.GeoDataFrame, settings: ChipSettings, resolution_m: float) -> int:
    """Side of a chip in pixels; counts polygons that are larger."""
    widest = _extents(places) + 2 * settings.buffer_m
    if settings.size_m is not None:
        size = max(1, round(settings.size_m / resolution_m))
    elif settings.size_pixels is None and widest.max() > 0:
        size = math.ceil(widest.max() / resolution_m) + 1
    else:
        size = settings.size_pixels or DEFAULT_PIXELS
    if size > MAX_PIXELS:
        raise CoverageError(
            f"chips of {size} pixels are more than {MAX_PIXELS}: the largest place is"
            f" {widest.max():,.0f} m wide. Give size_pixels, or a coarser resolution_m."
        )
    count(polygons_larger_than_a_chip=int((widest > size * resolution_m).sum()))
    if size * resolution_m / 2 < settings.displacement_m:
        warnings.warn(
            EOCausalWarning(
                f"half a chip is {size * resolution_m / 2:.0f} m wide, less than the displacement of"
                f" {settings.displacement_m:g} m: places may lie outside their chips. Widen the chips.",
                "DisplacementWarning",
            ),
            stacklevel=4,
        )  # fmt: skip
    return size


def _extents(places: geopandas.GeoDataFrame) -> NDArray[np.float64]:
    """Larger side of the bounds of each place in metres, roughly; 0 for points."""
    import shapely

    west, south, east, north = shapely.bounds(places.geometry.to_numpy()).T
    across = np.where(east - west > 180, 360 - (east - west), east - west)
    across = across * np.cos(np.deg2rad((south + north) / 2))
    return np.asarray(np.maximum(across, north - south) * METRES_PER_DEGREE)


def _pixel_metres(scene: Scene) -> float:
    """Height of a pixel on the ground, roughly."""
    from pyproj import CRS

    crs = CRS.from_wkt(scene.crs)
    if crs.is_geographic:
        return abs(scene.transform[4]) * METRES_PER_DEGREE
    return abs(scene.transform[4]) * float(crs.axis_info[0].unit_conversion_factor)


def _check_same_grid(first: Scene, scene: Scene) -> None:
    step, other = ((item.transform[0], item.transform[4]) for item in (first, scene))
    alike = all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(step, other, strict=True))
    if not alike or not same_crs(first.crs, scene.crs):
        raise GeorefError(
            f"{scene.item_id} and {first.item_id} have different reference systems or pixel sizes."
            " Use grid: local with a resolution_m.", item_id=scene.item_id,
        )  # fmt: skip


def _overlaps(targets: Targets, scenes: list[Scene]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Chips and the scenes that reach into them."""
    chips, numbers = [], []
    boxes: dict[str, tuple[NDArray[np.intp], NDArray[np.float64], float]] = {}
    for number, scene in enumerate(scenes):
        if scene.crs not in boxes:
            boxes[scene.crs] = _from_west(_bounds(targets, scene))
        order, box, width = boxes[scene.crs]
        across, _, west, _, down, north = scene.transform
        east, south = west + across * scene.shape[1], north + down * scene.shape[0]
        tolerance = 1e-6 * across
        for turn in (-360, 0, 360) if is_geographic(scene.crs) else (0,):
            low = np.searchsorted(box[:, 0], west + turn - width)
            high = np.searchsorted(box[:, 0], east + turn)
            near = box[low:high]
            hit = (
                (near[:, 0] < east + turn - tolerance)
                & (near[:, 2] > west + turn + tolerance)
                & (near[:, 1] < north - tolerance)
                & (near[:, 3] > south + tolerance)
            )
            chips.append(order[low:high][hit])
            numbers.append(np.full(int(hit.sum()), number))
    return np.concatenate(chips).astype(np.intp), np.concatenate(numbers).astype(np.intp)


def _from_west(box: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """Footprints from west to east, their bounds in that order, and the widest of them."""
    order = np.argsort(box[:, 0], kind="stable")
    order = order[np.isfinite(box[order]).all(axis=1)]
    box = box[order]
    return order, box, float((box[:, 2] - box[:, 0]).max(initial=0))


def _bounds(targets: Targets, scene: Scene) -> NDArray[np.float64]:
    """Bounds of the footprints in a scene's system; half a pixel smaller on its own grid, as snapped."""
    box = outline(targets, scene.crs)
    if len(targets.crs) == 1 and same_crs(targets.crs[0], scene.crs):
        across, down = targets.step[0] / 2, targets.step[1] / 2
        box += np.array([across, down, -across, -down])
    return box


def _check_coverage(off: NDArray[np.bool_], places: geopandas.GeoDataFrame) -> None:
    if off.mean() > MAX_OFF:
        ids = ", ".join(map(str, places["unit_id"][off].head(3)))
        raise CoverageError(
            f"{int(off.sum()):,} of {len(off):,} places lie on no image (first: {ids}). Are longitude"
            " and latitude swapped? Else widen data.bounds or data.period, or exclude them.",
            n_off=int(off.sum()),
        )  # fmt: skip


def _reading_order(
    targets: Targets, chip: NDArray[np.intp], scene: NDArray[np.intp], corner: Scene
) -> NDArray[np.intp]:
    """Chips by their first scene and the blocks they lie in; chips off all scenes last.

    Blocks are counted from the corner of one scene, so that they are those of its file.
    """
    first = np.full(len(targets), np.iinfo(np.intp).max, dtype=np.intp)
    np.minimum.at(first, chip, scene)
    side = [SORT_PIXELS * step for step in targets.step]
    west, north = corner.transform[2], corner.transform[5]
    block_row = np.floor((north - targets.north) / side[1] + SNUG).astype(np.intp)
    block_column = np.floor((targets.west - west) / side[0] + SNUG).astype(np.intp)
    keys = (targets.west, -targets.north, block_column, block_row, targets.crs_index, first)
    return np.lexsort(keys)


def _slots(
    places: geopandas.GeoDataFrame,
    order: NDArray[np.intp],
    chip: NDArray[np.intp],
    scene: NDArray[np.intp],
    scenes: list[Scene],
    settings: ChipSettings,
) -> tuple[int, pd.DatetimeIndex | None]:
    """Length of the time axis, and its periods where there are composites."""
    times = np.array([item.time for item in scenes])
    if settings.time == "periods":
        periods = periods_between(times.min(), times.max(), settings.period)
        return len(periods), periods
    days = solar_days(times[scene], centres(places)[0][order[chip]])
    if len(days) == 0:
        return 1, None
    days -= days.min()
    span = int(days.max()) + 1
    key = np.sort(chip * span + days)
    distinct = key[np.diff(key, prepend=-1) > 0] // span
    most = int(np.bincount(distinct).max())
    return min(most, settings.max_slots or most), None
