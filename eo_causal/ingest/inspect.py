"""One file through the loader: what it is and what its numbers are."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.sources import SourcePolicy
from eo_causal.errors import ReadError, ResourceLimitError
from eo_causal.ingest.image import read_image
from eo_causal.ingest.image_files import DRIVERS
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import find_product
from eo_causal.ingest.read import FileArray, detect_kind, read_header, verify_sidecar
from eo_causal.ingest.targets import short_crs

MAX_BYTES = 2**34


def inspect_file(
    source: str | Path, policy: SourcePolicy, sha256: str | None = None
) -> dict[str, Any]:
    """Facts of one raster, decoded in full.

    Returns
    -------
    dict
        path and kind; of a NetCDF or Zarr source the largest variable with dims, shape and units; of
        an image bands, shape, crs, transform and the pixels masked by cause; of both n_valid,
        n_masked, minimum, maximum, mean, and the sha256 of the decoded float32 values.

    Raises
    ------
    SecurityError, ReadError, IntegrityError
        The source may not be opened, cannot be decoded, or has another hash than ``sha256``.
    ResourceLimitError
        Too large to be decoded in one piece.
    """
    path = Path(str(policy.check(source)))
    kind = detect_kind(path)
    verify_sidecar(path, sha256)
    describe = _image if kind in DRIVERS else _array
    facts, values = describe(path)
    return {"path": path.name, "kind": kind, **facts, **_numbers(values)}


def _array(path: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    header = read_header(path)
    arrays = [item for item in header.variables.values() if item.dtype.kind in "fiu" and item.dims]
    if not arrays:
        raise ReadError(f"{path}: holds no numeric array.", path=str(path))
    variable = max(arrays, key=lambda item: (len(item.dims), item.n_bytes))
    facts = {
        "variable": variable.name,
        "dims": list(variable.dims),
        "shape": list(variable.shape),
        "units": str(variable.attrs.get("units", "")),
    }
    return facts, FileArray(path, header.kind, variable)[...]


def _image(path: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    header = read_image_header(path)
    n_bytes = 4 * len(header.bands) * header.shape[0] * header.shape[1]
    if n_bytes > MAX_BYTES:
        raise ResourceLimitError(
            f"{path}: {n_bytes:,} bytes when decoded are too many for one look. Inspect a part of it.",
            path=str(path), n_bytes=n_bytes,
        )  # fmt: skip
    image = read_image(header, find_product("generic"))
    facts = {
        "bands": [header.descriptions[band - 1] or f"band_{band}" for band in header.bands],
        "shape": list(image.values.shape),
        "crs": short_crs(header.crs),
        "transform": list(header.transform),
        "nodata": [None if value is None else str(value) for value in header.nodata],
        "masked": image.masked,
    }
    return facts, image.values


def _numbers(values: NDArray[np.float32]) -> dict[str, Any]:
    seen = values[np.isfinite(values)].astype(float)
    return {
        "n_valid": int(seen.size),
        "n_masked": int(values.size - seen.size),
        "minimum": float(seen.min()) if seen.size else None,
        "maximum": float(seen.max()) if seen.size else None,
        "mean": float(seen.mean()) if seen.size else None,
        "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(),
    }
