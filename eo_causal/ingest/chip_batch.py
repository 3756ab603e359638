"""One task: the chips of some neighbouring places, from reading to whole blocks of the store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.storage import write_rows
from eo_causal.ingest.chip_read import ReadNotes, scene_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chip_slots import Frame, observed_slots, period_slots
from eo_causal.ingest.cut import inside_image
from eo_causal.ingest.scene import Scene
from eo_causal.ingest.targets import (
    Targets,
    is_geographic,
    lattice_offset,
    same_crs,
    wrapped,
)


@dataclass(frozen=True)
class Batch:
    """What a task needs: a few arrays and the scenes it reads.

    Attributes
    ----------
    start : int
        Place of its first chip in the store.
    targets : Targets
    longitude : (chip,) float64 array
        Degrees; decides the solar day.
    pair_chip, pair_scene : (pair,) int arrays
        Chip and scene, counted within the batch.
    scenes : tuple of Scene
    n_bands, n_slots : int
    periods : DatetimeIndex or None
    """

    start: int
    targets: Targets
    longitude: NDArray[np.float64]
    pair_chip: NDArray[np.intp]
    pair_scene: NDArray[np.intp]
    scenes: tuple[Scene, ...]
    n_bands: int
    n_slots: int
    periods: pd.DatetimeIndex | None


@dataclass
class BatchRecord:
    """What a task reports; the pixels stay in the store.

    Attributes
    ----------
    start : int
    times, ends : (chip, slot) datetime64 arrays
        Of the image, and when the last scene in it ends; NaT = empty slot.
    valid_fraction : (chip, slot) float32 array
    n_images : (chip, slot) int16 array
        Images that went into a slot.
    on_image : (chip,) float32 array
        Share of a chip's pixels that lie on some image; known unless ``edge`` is keep.
    notes : ReadNotes
    n_emptied, n_dropped : int
        Slots below min_valid_fraction, and usable dates beyond max_slots.
    """

    start: int
    times: NDArray[np.datetime64]
    ends: NDArray[np.datetime64]
    valid_fraction: NDArray[np.float32]
    n_images: NDArray[np.int16]
    on_image: NDArray[np.float32]
    notes: ReadNotes
    n_emptied: int = 0
    n_dropped: int = 0


def cut_batch(batch: Batch, settings: ChipSettings, folder: str) -> BatchRecord:
    """Read, mask, combine and write the chips of a batch; returns what happened.

    Writes whole blocks of ``chips`` in the Zarr store, so that tasks never meet. A second run of a
    task writes the same bytes.
    """
    chips, record = read_batch(batch, settings)
    write_rows(Path(folder), batch.start, chips)
    return record


def read_batch(batch: Batch, settings: ChipSettings) -> tuple[NDArray[np.float32], BatchRecord]:
    """(chip, slot, band, y, x) values of a batch, NaN = invalid, and what happened."""
    n_chips = len(batch.targets)
    shape = (n_chips, batch.n_slots)
    record = BatchRecord(
        batch.start, np.full(shape, "NaT", dtype="datetime64[ns]"),
        np.full(shape, "NaT", dtype="datetime64[ns]"),
        np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.int16),
        np.ones(n_chips, dtype=np.float32), ReadNotes(),
    )  # fmt: skip
    frames: list[list[Frame]] = [[] for _ in range(n_chips)]
    for number, scene in enumerate(batch.scenes):
        members = batch.pair_chip[batch.pair_scene == number]
        targets = batch.targets.take(members)
        values = scene_chips(scene, targets, batch.n_bands, settings, record.notes)
        if values is not None:
            for member, image in zip(members, values, strict=True):
                frames[member].append(Frame(scene.time, scene.end, image))
    if settings.edge != "keep":
        record.on_image[:] = _on_image(batch, settings)
    chips = np.empty((*shape, batch.n_bands, *batch.targets.size), dtype=np.float32)
    for chip, found in enumerate(frames):
        _fill(chip, found, batch, settings, chips[chip], record)
    return chips, record


def _fill(
    chip: int,
    frames: list[Frame],
    batch: Batch,
    settings: ChipSettings,
    values: NDArray[np.float32],
    record: BatchRecord,
) -> None:
    """Put a place's frames into its slots (slot, band, y, x)."""
    if batch.periods is None:
        filled = observed_slots(frames, float(batch.longitude[chip]), settings)
    else:
        filled = period_slots(frames, batch.periods, settings)
    values[sorted(set(range(len(values))) - {slot for slot, _ in filled.slots})] = np.nan
    for slot, frame in filled.slots:
        values[slot] = frame.values
        record.times[chip, slot] = frame.time
        record.ends[chip, slot] = frame.end
        record.valid_fraction[chip, slot] = frame.valid_fraction
        record.n_images[chip, slot] = frame.n_images
    record.n_emptied += filled.n_emptied
    record.n_dropped += filled.n_dropped


def _on_image(batch: Batch, settings: ChipSettings) -> NDArray[np.float64]:
    """(chip,): share of pixels that lie on some image."""
    covered = np.zeros((len(batch.targets), *batch.targets.size), dtype=bool)
    for number, scene in enumerate(batch.scenes):
        members = batch.pair_chip[batch.pair_scene == number]
        targets = batch.targets.take(members)
        if settings.grid == "native":
            corners, _ = lattice_offset(targets, scene.transform, scene.shape, scene.crs)
            inside = inside_image(scene.shape, corners, targets.size)
        else:
            inside = _centres_inside(targets, scene)
        covered[members] |= True if inside is None else inside
    return covered.mean(axis=(1, 2))


def _centres_inside(targets: Targets, scene: Scene) -> NDArray[np.bool_]:
    """(chip, y, x): pixels whose centre lies in a scene's rectangle."""
    x, y = _pixel_centres(targets, scene.crs)
    across, _, west, _, down, north = scene.transform
    if is_geographic(scene.crs):
        x = wrapped(x, west + across * scene.shape[1] / 2)
    column, row = (x - west) / across, (y - north) / down
    return (column > 0) & (column < scene.shape[1]) & (row > 0) & (row < scene.shape[0])


def _pixel_centres(targets: Targets, crs: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """(chip, y, x) easting and northing of pixel centres in a reference system."""
    from pyproj import Transformer

    height, width = targets.size
    x = targets.west[:, None, None] + (np.arange(width) + 0.5) * targets.step[0]
    y = targets.north[:, None, None] - (np.arange(height)[:, None] + 0.5) * targets.step[1]
    x, y = (np.array(item) for item in np.broadcast_arrays(x, y))
    for number, own in enumerate(targets.crs):
        here = targets.crs_index == number
        if here.any() and not same_crs(own, crs):
            transformer = Transformer.from_crs(own, crs, always_xy=True)
            x[here], y[here] = transformer.transform(x[here], y[here])
    return x, y
