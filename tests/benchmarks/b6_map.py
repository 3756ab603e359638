"""A wealth map of one large raster: memory whatever its size, and what the task graph costs."""

import gc
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import common
import dask
import numpy as np
import pandas as pd
import psutil
import rasterio
import xarray as xr
from rasterio.transform import from_origin

from eo_causal.encode.cells import EmbeddedCells
from eo_causal.encode.random_features import RandomFeaturesSettings
from eo_causal.estimate.outcome import OutcomeLayers
from eo_causal.ingest.cell_map import CellSettings, map_cells
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.image_header import read_image_header

BANDS, CELL, TILE = ("green", "red", "nir", "swir1"), 32, 512
CHIPS = ChipSettings(size_pixels=CELL, max_slots=1, batch_bytes=2**24)


def write_raster(path: Path, side: int) -> None:
    """(4, side, side) uint16 in tiles, written strip by strip."""
    random = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "dtype": "uint16", "count": len(BANDS), "height": side, "width": side,
        "crs": "EPSG:32736", "transform": from_origin(5e5, 9.9e6, 30, 30), "tiled": True,
        "blockxsize": TILE, "blockysize": TILE, "interleave": "pixel", "bigtiff": "IF_SAFER",
        "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, side, TILE):
            height = min(TILE, side - row)
            strip = random.integers(1, 4000, (len(BANDS), height, side // 8 + 1), dtype=np.uint16)
            values = np.repeat(strip, 8, axis=2)[:, :, :side]
            target.write(values, window=rasterio.windows.Window(0, row, side, height))


def catalog_of(path: Path) -> pd.DataFrame:
    """The scenes table of the raster."""
    header = read_image_header(path)
    return pd.DataFrame([
        {
            "item_id": path.stem, "href": str(path), "band": name,
            "datetime": pd.Timestamp("2020-06-01"), "datetime_end": pd.NaT, "product": "generic",
            "baseline": None, "offset_applied": None, "crs": header.crs,
            "transform": header.transform, "rows": header.shape[0], "columns": header.shape[1],
            "band_index": number, "role": "data", "status": "ok",
        }
        for number, name in enumerate(BANDS, start=1)
    ])  # fmt: skip


def reader() -> EmbeddedCells:
    """16 random filters and five linear heads."""
    settings = RandomFeaturesSettings(n_filters=16, width=3, normalise="none", n_components=None)
    random = np.random.default_rng(1)
    chips = xr.DataArray(
        random.uniform(0, 4000, (4, 1, len(BANDS), CELL, CELL)).astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={"unit_id": ("unit", list("abcd")), "band": list(BANDS),
                "fractional_year": (("unit", "time"), np.full((4, 1), 2020.5))},
    )  # fmt: skip
    probe = EmbeddedCells(chips, settings, 1, ())
    names = probe._fitted.feature_names
    head = xr.Dataset(
        {"weight": (("fold", "feature"), random.normal(size=(5, len(names))) * 1e-3),
         "intercept": ("fold", np.zeros(5))},
        coords={"feature": list(names)},
    )  # fmt: skip
    return EmbeddedCells(chips, settings, 1, (OutcomeLayers(head),))


def whole(catalog: pd.DataFrame, n_parts: int, read: Any) -> list[xr.DataArray]:
    settings = CellSettings(cell_pixels=CELL, n_parts=n_parts)
    return [map_cells(catalog, part, settings, CHIPS, read) for part in range(n_parts)]


def check_seams(catalog: pd.DataFrame, read: Any) -> None:
    """Two ways to divide the work, and the bare loop over chips, give the same bits."""
    one, many = (xr.concat(whole(catalog, n, read), "y").to_numpy() for n in (1, 4))
    if not np.array_equal(one, many):
        raise SystemExit("parts change the map")
    with rasterio.open(catalog["href"].iloc[0]) as source:
        raw = source.read().astype(np.float32)
    rows, columns = raw.shape[1] // CELL, raw.shape[2] // CELL
    cut = raw[:, : rows * CELL, : columns * CELL]
    chips = cut.reshape(4, rows, CELL, columns, CELL).transpose(1, 3, 0, 2, 4)
    flat = chips.reshape(rows * columns, 1, 4, CELL, CELL)
    array = xr.DataArray(
        flat, dims=("unit", "time", "band", "y", "x"),
        coords={"unit_id": ("unit", np.arange(len(flat)).astype(str)), "band": list(BANDS),
                "fractional_year": (("unit", "time"), np.full((len(flat), 1), 2020.5))},
    )  # fmt: skip
    expected = read(array).reshape(rows, columns, 5)
    np.testing.assert_allclose(one[:rows, :columns], expected, rtol=1e-4)
    print(f"  answer of {rows * columns} cells in one part, in four, and cut by numpy: equal")


class Watch(threading.Thread):
    """The largest resident size of this process while it is watched, MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0.0, threading.Event()

    def run(self) -> None:
        """Look every 20 ms."""
        while not self.over.wait(0.02):
            self.peak = max(self.peak, psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Print what a map takes at growing sizes."""
    words = common.parser(__doc__ or "")
    words.add_argument("--sides", type=int, nargs="+", default=[5000, 10_000, 20_000])
    arguments = words.parse_args()
    rows = common.Rows("b6_map", arguments, "rasterio", "dask", "torch")
    dask.config.set(scheduler="synchronous")
    read = reader()  # imports torch
    imported = psutil.Process().memory_info().rss / 2**20
    with tempfile.TemporaryDirectory() as folder:
        for side in [] if arguments.light else arguments.sides:
            path = Path(folder) / f"raster_{side}.tif"
            write_raster(path, side)
            gc.collect()
            watch, before, start = Watch(), common.cpu_seconds(), time.perf_counter()
            watch.start()
            parts = whole(catalog_of(path), 8, read)
            seconds, wall = common.cpu_seconds() - before, time.perf_counter() - start
            cells = sum(int(np.isfinite(part).all("layer").sum()) for part in parts)
            watch.over.set()
            print(f"{side:,} x {side:,}: {cells:,} cells, {wall:.0f} s, peak {watch.peak:.0f} MB")
            rows.note(f"map of {side} x {side}: CPU seconds", seconds, "s")
            rows.add(
                "M2", f"{side} x {side}: MB above imports", watch.peak - imported, 512, at_most=True
            )
            path.unlink()
        small = Path(folder) / "small.tif"
        write_raster(small, 6 * TILE)
        check_seams(catalog_of(small), read)
    rows.write()


if __name__ == "__main__":
    main()
