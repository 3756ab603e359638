"""A wealth map of one large raster: memory whatever its size, and CPU time beside bare loops over patches."""

import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import common
import dask
import numpy as np
import pandas as pd
import psutil
import rasterio
import xarray as xr
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.windows import Window

from eo_causal.encode.cells import EmbeddedCells
from eo_causal.encode.random_features import (
    RandomFeaturesSettings,
    convolve_and_pool,
    random_filters,
)
from eo_causal.estimate.outcome import OutcomeLayers
from eo_causal.ingest import cell_map
from eo_causal.ingest.cell_map import CellSettings, map_cells
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.image_header import read_image_header

BANDS, CELL, TILE = ("green", "red", "nir", "swir1"), 32, 512
CHIPS = ChipSettings(size_pixels=CELL, max_slots=1, batch_bytes=2**24)
FEW = RandomFeaturesSettings(n_filters=16, width=3, normalise="none", n_components=None)
TORCHGEO = RandomFeaturesSettings(
    n_filters=64, width=3, bias=-1, scale=False, pooling="mean", normalise="none", n_components=None
)
SEED, BATCH = 1, 256
Bands = np.ndarray


def write_raster(path: Path, height: int, width: int, dtype: str = "uint16") -> None:
    """Bands (4, height, width) in tiles, written strip by strip."""
    random = np.random.default_rng(0)
    highest = min(4000, np.iinfo(dtype).max)
    profile = {
        "driver": "GTiff", "dtype": dtype, "count": len(BANDS), "height": height, "width": width,
        "crs": "EPSG:32736", "transform": from_origin(5e5, 9.9e6, 30, 30), "tiled": True,
        "blockxsize": TILE, "blockysize": TILE, "interleave": "pixel", "bigtiff": "IF_SAFER",
        "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, height, TILE):
            rows = min(TILE, height - row)
            strip = random.integers(1, highest, (len(BANDS), rows, width // 8 + 1), dtype=dtype)
            values = np.repeat(strip, 8, axis=2)[:, :, :width]
            target.write(values, window=Window(0, row, width, rows))


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


def reader(settings: RandomFeaturesSettings, n_models: int) -> EmbeddedCells:
    """Random filters and linear heads."""
    random = np.random.default_rng(1)
    chips = xr.DataArray(
        random.uniform(0, 4000, (4, 1, len(BANDS), CELL, CELL)).astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={"unit_id": ("unit", list("abcd")), "band": list(BANDS),
                "fractional_year": (("unit", "time"), np.full((4, 1), 2020.5))},
    )  # fmt: skip
    names = EmbeddedCells(chips, settings, SEED, ())._fitted.feature_names
    head = xr.Dataset(
        {"weight": (("fold", "feature"), random.normal(size=(n_models, len(names))) * 1e-3),
         "intercept": ("fold", np.ones(n_models))},
        coords={"feature": list(names)},
    )  # fmt: skip
    return EmbeddedCells(chips, settings, SEED, (OutcomeLayers(head),))


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


@dataclass(frozen=True)
class Strip:
    """One strip of the raster, mapped in several ways: 128 features a patch, one linear head, a COG."""

    path: Path
    reader: EmbeddedCells

    def ours(self) -> Bands:
        """The package's own way, from a catalog."""
        (part,) = whole(catalog_of(self.path), 1, self.reader)
        return self.written(part.to_numpy()[..., 0])

    def without_dask(self) -> Bands:
        """The same tasks as plain calls, one after the other."""
        with (
            mock.patch("dask.delayed.delayed", lambda thing, **_: thing),
            mock.patch.object(cell_map, "compute_tasks", list),
        ):
            return self.ours()

    def bare_loop(self) -> Bands:
        """Our features of one patch after another: no catalog, dates, masks or failures."""
        filters = random_filters(SEED, len(BANDS), TORCHGEO)
        return self.mapped(
            lambda patches: np.array(
                [convolve_and_pool(patch, filters, TORCHGEO.bias, ("mean",)) for patch in patches]
            )
        )

    def torchgeo_loop(self) -> Bands:
        """torchgeo's features with the same filters, in batches."""
        import torch
        from torchgeo.models import RCF

        model = RCF(len(BANDS), 2 * TORCHGEO.n_filters, TORCHGEO.width, TORCHGEO.bias)
        model.weights.copy_(torch.from_numpy(random_filters(SEED, len(BANDS), TORCHGEO).copy()))
        return self.mapped(
            lambda patches: np.concatenate(
                [
                    model(torch.from_numpy(patches[start : start + BATCH])).numpy()
                    for start in range(0, len(patches), BATCH)
                ]
            )
        )

    def decode_and_write(self) -> Bands:
        """What no way can do without."""
        return self.mapped(lambda patches: np.zeros((len(patches), 2 * TORCHGEO.n_filters)))

    def mapped(self, features: Callable[[Bands], Bands]) -> Bands:
        """A bare loop over rows of tiles: read, cut, encode, apply the head."""
        head = self.reader.readers[0].head
        weight, intercept = head["weight"].to_numpy()[0], float(head["intercept"][0])
        return self.written(
            np.concatenate(
                [
                    (features(patches) @ weight + intercept).reshape(shape)
                    for patches, shape in self.patches()
                ]
            )
        )

    def patches(self) -> Iterator[tuple[Bands, tuple[int, int]]]:
        """Patches (patch, band, y, x) float32 of one row of tiles, and rows and columns of patches."""
        with rasterio.open(self.path) as source:
            columns = source.width // CELL
            for row in range(0, source.height, TILE):
                rows = min(TILE, source.height - row) // CELL
                window = Window(0, row, columns * CELL, rows * CELL)
                cut = source.read(window=window).reshape(len(BANDS), rows, CELL, columns, CELL)
                patches = cut.transpose(1, 3, 0, 2, 4).astype(np.float32)
                yield patches.reshape(-1, len(BANDS), CELL, CELL), (rows, columns)

    def written(self, values: Bands) -> Bands:
        """The same values, after a COG of them is on disk."""
        plain = self.path.with_suffix(".plain.tif")
        with rasterio.open(
            plain, "w", driver="GTiff", dtype="float32", count=1, height=values.shape[0],
            width=values.shape[1], crs="EPSG:32736", transform=from_origin(5e5, 9.9e6, 960, 960),
        ) as target:  # fmt: skip
            target.write(values.astype(np.float32), 1)
        copy(plain, self.path.with_suffix(".map.tif"), driver="COG", compress="DEFLATE")
        return values


def bench_loops(folder: Path, rows: common.Rows) -> None:
    """P9: equal maps first, then CPU seconds of all ways in turn."""
    arguments = rows.arguments
    path = folder / "strip.tif"
    write_raster(path, arguments.rows, arguments.width, "uint8")
    strip = Strip(path, reader(TORCHGEO, 1))
    ways: dict[str, Callable[[], Bands]] = {
        "ours": strip.ours, "the same without dask": strip.without_dask, "bare loop": strip.bare_loop,
    }  # fmt: skip
    try:
        import torchgeo.models  # noqa: F401
    except ImportError as error:
        print(f"  torchgeo: skipped ({error})")
    else:
        ways["torchgeo loop"] = strip.torchgeo_loop
    print(f"{arguments.rows} x {arguments.width} pixels, patches of {CELL}: answers")
    common.check_answers(ways, strip.bare_loop(), 1e-4)
    if arguments.light:
        return
    seconds = common.interleave(ways | {"decode and write": strip.decode_and_write}, arguments.reps)
    for name, values in seconds.items():
        rows.throughput(name, arguments.rows * arguments.width / 1e6, values, unit="Mpx")
    if "torchgeo loop" in ways:
        faster = common.ratio(seconds["torchgeo loop"], seconds["ours"])
        rows.add("P9", "full map, against the torchgeo loop", faster, 1.5)
    slower = common.ratio(seconds["ours"], seconds["the same without dask"])
    rows.add("P9", "full map / its tasks without dask", slower, 1.15, at_most=True)
    more = common.ratio(seconds["ours"], seconds["bare loop"])
    rows.note("full map / bare loop of our features", more.median, "times")
    share = common.ratio(seconds["decode and write"], seconds["ours"])
    rows.add("P9", "decode and write / full map", share, 0.15, at_most=True)
    walls = []
    for _ in range(arguments.reps):
        start = time.perf_counter()
        strip.ours()
        walls.append(time.perf_counter() - start)
    spread = (max(walls) - min(walls)) / float(np.median(walls))
    rows.add("P9", "range of wall time / its median", spread, 0.2, at_most=True)


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
    words.add_argument("--sides", type=int, nargs="*", default=[5000, 10_000, 20_000])
    words.add_argument("--rows", type=int, default=512, help="of the strip mapped in several ways")
    words.add_argument("--width", type=int, default=20_000, help="columns of that strip")
    arguments = words.parse_args()
    if arguments.light:
        arguments.width = 2 * TILE
    rows = common.Rows("b6_map", arguments, "rasterio", "dask", "torch", "torchgeo")
    dask.config.set(scheduler="synchronous")
    read = reader(FEW, 5)  # imports torch
    imported = psutil.Process().memory_info().rss / 2**20
    with tempfile.TemporaryDirectory() as folder:
        for side in [] if arguments.light else arguments.sides:
            path = Path(folder) / f"raster_{side}.tif"
            write_raster(path, side, side)
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
        write_raster(small, 6 * TILE, 6 * TILE)
        check_seams(catalog_of(small), read)
        bench_loops(Path(folder), rows)
    rows.write()


if __name__ == "__main__":
    main()
