"""One scene's part in a batch: its files cut or resampled, its quality band obeyed."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import DataError, ReadError
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.cut import cut_windows
from eo_causal.ingest.image_files import ReadSettings, close_images
from eo_causal.ingest.image_header import ImageHeader, read_image_header
from eo_causal.ingest.products import Product, find_product
from eo_causal.ingest.quality import find_quality, quality_mask
from eo_causal.ingest.scene import Scene, SceneFile
from eo_causal.ingest.targets import Targets, lattice_offset, same_crs
from eo_causal.ingest.warp import warp_windows

CODES = Product("quality", 1.0, 0.0, has_classes=True)
ALIGNED = 1e-3
MAX_HEADERS = 4096


@dataclass
class ReadNotes:
    """What became of the files a task read.

    Attributes
    ----------
    files : dict
        Path -> Counter of windows, reads, bytes, retries, and pixels masked by cause.
    failures : list of dict
        item_id, path, n_chips, reason.
    """

    files: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, path: str, numbers: dict[str, int]) -> None:
        """Add numbers to a file's."""
        self.files.setdefault(path, Counter()).update(numbers)


def scene_chips(
    scene: Scene, targets: Targets, n_bands: int, settings: ChipSettings, notes: ReadNotes
) -> NDArray[np.float32] | None:
    """Chips (chip, band, y, x) of one scene; None when one of its files failed for good.

    What its quality band calls unusable is NaN.
    """
    product = find_product(
        scene.product, baseline=scene.baseline, offset_applied=scene.offset_applied
    )
    values = np.empty((len(targets), n_bands, *targets.size), dtype=np.float32)
    reading = scene.files[0]
    try:
        for reading in scene.files:
            part = _read(reading, product, targets, settings, notes)
            if len(scene.files) == 1:
                values = part
            else:
                values[:, list(reading.positions)] = part
        if scene.quality is not None:
            reading = scene.quality
            valid = _usable(scene, scene.quality, targets, settings, notes)
            values[np.broadcast_to(~valid[:, None], values.shape)] = np.nan
    except (DataError, OSError) as error:
        notes.failures.append(
            {
                "item_id": scene.item_id,
                "path": reading.path,
                "n_chips": len(targets),
                "reason": str(error),
            }
        )
        return None
    return values


def _read(
    file: SceneFile, product: Product, targets: Targets, settings: ChipSettings, notes: ReadNotes
) -> NDArray[np.float32]:
    """Chips (chip, band, y, x) of one file; what cannot be read is tried again."""
    for attempt in range(settings.retries):
        try:
            return _read_once(file, product, targets, settings, notes)
        except (ReadError, OSError):
            notes.add(file.path, {"retries": 1})
            close_images()
            time.sleep(0.1 * 2**attempt)
    return _read_once(file, product, targets, settings, notes)


def _read_once(
    file: SceneFile, product: Product, targets: Targets, settings: ChipSettings, notes: ReadNotes
) -> NDArray[np.float32]:
    """Cut where the file's grid is that of the targets, else resampled."""
    header = _header(file.path, settings.read)
    aligned = _aligned(targets, header, settings)
    done = []
    if aligned.any():
        own = targets.take(np.flatnonzero(aligned))
        corners, _ = lattice_offset(own, header.transform, header.shape, header.crs)
        cut = cut_windows(header, product, file.bands, corners, targets.size, settings.read)
        done.append((aligned, cut))
    if not aligned.all():
        others = targets.take(np.flatnonzero(~aligned))
        how = "nearest" if product.has_classes else settings.resampling
        cut = warp_windows(header, product, file.bands, others, how, settings.read)
        done.append((~aligned, cut))
    notes.add(file.path, {"windows": len(targets)})
    for _, cut in done:
        notes.add(file.path, {"reads": cut.n_reads, "bytes": cut.n_bytes, **cut.masked})
    if len(done) == 1:
        return done[0][1].values
    values = np.empty((len(targets), len(file.bands), *targets.size), dtype=np.float32)
    for where, cut in done:
        values[where] = cut.values
    return values


def _aligned(targets: Targets, header: ImageHeader, settings: ChipSettings) -> NDArray[np.bool_]:
    """Which footprints lie on the pixels of an image: those need no resampling."""
    step = (header.transform[0], -header.transform[4])
    if not np.allclose(targets.step, step, rtol=1e-6, atol=0):
        return np.zeros(len(targets), dtype=bool)
    same = np.array([same_crs(crs, header.crs) for crs in targets.crs])[targets.crs_index]
    if settings.grid == "native":
        return same
    shift = lattice_offset(targets, header.transform, header.shape, header.crs)[1]
    return same & (np.abs(shift).max(axis=1) <= ALIGNED)


def _usable(
    scene: Scene, file: SceneFile, targets: Targets, settings: ChipSettings, notes: ReadNotes
) -> NDArray[np.bool_]:
    """(chip, y, x): what the quality band lets pass; bad areas outside a chip grow into it."""
    margin = settings.quality.dilate_pixels
    codes = _read(file, CODES, targets.grown(margin), settings, notes)[:, 0]
    rule = find_quality(settings.quality.rule, scene.quality_band, scene.product)
    mask = quality_mask(codes, rule, dilate_pixels=margin)
    notes.add(file.path, mask.counts)
    inner = slice(margin, -margin or None)
    return mask.valid[:, inner, inner]


_HEADERS: dict[tuple[str, int, int, str], ImageHeader] = {}


def _header(path: str, settings: ReadSettings) -> ImageHeader:
    """A file's header, kept: checking where it lies takes longer than reading a chip."""
    status = Path(path).stat()
    key = (path, status.st_mtime_ns, status.st_size, settings.model_dump_json())
    header = _HEADERS.get(key)
    if header is None:
        if len(_HEADERS) >= MAX_HEADERS:
            _HEADERS.clear()
        header = _HEADERS[key] = read_image_header(Path(path), settings)
    return header
