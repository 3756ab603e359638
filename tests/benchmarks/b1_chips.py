"""Chips cut out of a mosaic: against decoding each block once, and against what users would write.

Each cache regime runs in a process of its own, because GDAL reads GDAL_CACHEMAX only once.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import common
import dask
import geopandas
import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy.ndimage import zoom

from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.ingest import chip_batch
from eo_causal.ingest.catalog import CatalogSettings, read_catalog
from eo_causal.ingest.chip_plan import plan_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import batches_of, cut_chips, in_order
from eo_causal.ingest.scene import scenes_of
from eo_causal.run.compute import ComputeSettings, computing

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
CRS, STEP, WEST, NORTH, BLOCK = "EPSG:32736", 10.0, 500_000.0, 9_800_000.0, 256
CACHES = {"64 MB": "64", "default (5 %)": "5%"}
PEERS = {
    "rioxarray isel": "rioxarray", "rioxarray clip_box": "rioxarray", "dask slices": "rioxarray",
    "torchgeo": "torchgeo.datasets", "odc-stac": "odc.stac",
}  # fmt: skip
MEMORY, ZARR = "ours, to memory", "ours, to Zarr"
Chips = NDArray[np.uint16]
Variants = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Mosaic:
    """Two by two files of ``size`` pixels; chips of ``chip`` pixels whose corners are (row, column)."""

    folder: Path
    size: int
    chip: int

    @property
    def paths(self) -> list[Path]:
        """Row by row."""
        return [self.folder / f"tile_{row}{column}.tif" for row in (0, 1) for column in (0, 1)]

    def corners(self, n_points: int) -> NDArray[np.intp]:
        """Upper left pixels of chips anywhere in the mosaic."""
        return np.random.default_rng(1).integers(0, 2 * self.size - self.chip, (n_points, 2))

    def pieces(self, corner: NDArray[np.intp]) -> Iterator[tuple[int, slice, slice, Any]]:
        """Files a chip lies in: number, rows and columns there, and the place in the chip."""
        for number in range(4):
            first = np.array(divmod(number, 2)) * self.size
            low = np.maximum(corner, first)
            high = np.minimum(corner + self.chip, first + self.size)
            if (low < high).all():
                rows, columns = map(slice, low - first, high - first)
                place = tuple(map(slice, low - corner, high - corner))
                yield number, rows, columns, place

    def bounds(self, corner: NDArray[np.intp]) -> tuple[float, float, float, float]:
        """West, south, east, north of a chip."""
        west, north = WEST + corner[1] * STEP, NORTH - corner[0] * STEP
        return west, north - self.chip * STEP, west + self.chip * STEP, north

    def empty(self, n_points: int, dtype: str = "uint16") -> NDArray[Any]:
        return np.empty((n_points, len(BANDS), self.chip, self.chip), dtype=dtype)


def write_mosaic(mosaic: Mosaic, interleave: str) -> None:
    """Smooth fields (cells of 32 pixels, sd 600 around 2,000) with noise of sd 40."""
    random = np.random.default_rng(0)
    size, cells = mosaic.size, mosaic.size // 32
    for number, path in enumerate(mosaic.paths):
        row, column = divmod(number, 2)
        corner = from_origin(WEST + column * size * STEP, NORTH - row * size * STEP, STEP, STEP)
        values = np.empty((len(BANDS), size, size), dtype=np.uint16)
        for band in values:
            smooth = zoom(random.normal(2000, 600, (cells, cells)).astype(np.float32), 32, order=1)
            noise = random.standard_normal((size, size), dtype=np.float32) * 40
            band[:] = np.clip(smooth + noise, 1, 10_000).astype(np.uint16)
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint16", count=len(BANDS), height=size, width=size,
            crs=CRS, transform=corner, tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
            compress="deflate", zlevel=6, predictor=2, interleave=interleave, num_threads=2,
        ) as target:  # fmt: skip
            target.write(values)
        raw, stored = values.nbytes, path.stat().st_size
        print(f"  {path.name}: {stored / 1e6:.0f} MB, {raw / stored:.2f}:1, {interleave}")


def decode_floor(mosaic: Mosaic, corners: NDArray[np.intp]) -> int:
    """Each block that holds a wanted pixel, decoded once, in the order of the files."""
    blocks = {
        (number, row, column)
        for corner in corners
        for number, rows, columns, _ in mosaic.pieces(corner)
        for row in range(rows.start // BLOCK, (rows.stop - 1) // BLOCK + 1)
        for column in range(columns.start // BLOCK, (columns.stop - 1) // BLOCK + 1)
    }
    sources = [rasterio.open(path) for path in mosaic.paths]
    for number, row, column in sorted(blocks):
        sources[number].read(window=Window(column * BLOCK, row * BLOCK, BLOCK, BLOCK))
    for source in sources:
        source.close()
    return len(blocks)


def open_per_point(mosaic: Mosaic, corners: NDArray[np.intp]) -> Chips:
    chips = mosaic.empty(len(corners))
    for chip, corner in zip(chips, corners, strict=True):
        for number, rows, columns, place in mosaic.pieces(corner):
            with rasterio.open(mosaic.paths[number]) as source:
                chip[:, *place] = source.read(window=Window.from_slices(rows, columns))
    return chips


def open_once(mosaic: Mosaic, corners: NDArray[np.intp]) -> Chips:
    chips = mosaic.empty(len(corners))
    sources = [rasterio.open(path) for path in mosaic.paths]
    for chip, corner in zip(chips, corners, strict=True):
        for number, rows, columns, place in mosaic.pieces(corner):
            chip[:, *place] = sources[number].read(window=Window.from_slices(rows, columns))
    for source in sources:
        source.close()
    return chips


def rioxarray_chips(mosaic: Mosaic, corners: NDArray[np.intp], how: str) -> Chips:
    """Files opened once, each chip by ``isel`` or by ``clip_box``."""
    import rioxarray

    chips = mosaic.empty(len(corners))
    sources = [rioxarray.open_rasterio(path, cache=False) for path in mosaic.paths]
    for chip, corner in zip(chips, corners, strict=True):
        for number, rows, columns, place in mosaic.pieces(corner):
            if how == "isel":
                part = sources[number].isel(y=rows, x=columns)
            else:
                x, y = sources[number].x.values[columns], sources[number].y.values[rows]
                part = sources[number].rio.clip_box(
                    x[0], y[-1], x[-1], y[0], allow_one_dimensional_raster=True
                )
            chip[:, *place] = part.values
    for source in sources:
        source.close()
    return chips


def dask_chips(mosaic: Mosaic, corners: NDArray[np.intp], batch: int = 200) -> Chips:
    """Slices of one lazy mosaic whose chunks are the files' blocks, computed by the batch."""
    import dask.array as da
    import rioxarray

    chips = mosaic.empty(len(corners))
    chunks = {"band": len(BANDS), "y": BLOCK, "x": BLOCK}
    opened = [rioxarray.open_rasterio(path, chunks=chunks, lock=False) for path in mosaic.paths]
    whole = da.block([[opened[0].data, opened[1].data], [opened[2].data, opened[3].data]])
    for start in range(0, len(corners), batch):
        slices = [
            whole[:, row : row + mosaic.chip, column : column + mosaic.chip]
            for row, column in corners[start : start + batch]
        ]
        chips[start : start + batch] = np.stack(dask.compute(*slices))
    for source in opened:
        source.close()
    return chips


def torchgeo_chips(mosaic: Mosaic, corners: NDArray[np.intp]) -> NDArray[Any]:
    from torchgeo.datasets import RasterDataset

    tiles = RasterDataset([str(path) for path in mosaic.paths])
    chips = mosaic.empty(len(corners), "float32")
    for chip, corner in zip(chips, corners, strict=True):
        west, south, east, north = mosaic.bounds(corner)
        chip[:] = tiles[west:east, south:north]["image"].numpy()
    return chips


def odc_chips(mosaic: Mosaic, corners: NDArray[np.intp], items: list[Any]) -> Chips:
    import odc.stac
    from odc.geo.geobox import GeoBox

    chips = mosaic.empty(len(corners))
    shape = (mosaic.chip, mosaic.chip)
    for chip, corner in zip(chips, corners, strict=True):
        west, _, _, north = mosaic.bounds(corner)
        box = GeoBox(shape, from_origin(west, north, STEP, STEP), CRS)
        loaded = odc.stac.load(items, bands=list(BANDS), geobox=box)
        for band, name in zip(chip, BANDS, strict=True):
            band[:] = loaded[name].values[0]
    return chips


def stac_items(mosaic: Mosaic) -> list[Any]:
    """One item a file, with what odc-stac wants to know beforehand."""
    import pystac
    import shapely
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(CRS, 4326, always_xy=True)
    items = []
    for path in mosaic.paths:
        with rasterio.open(path) as source:
            footprint = shapely.box(*to_degrees.transform_bounds(*source.bounds))
            projection = {"shape": list(source.shape), "transform": list(source.transform)[:6]}
        properties = {f"proj:{name}": value for name, value in projection.items()}
        item = pystac.Item(
            path.stem, shapely.geometry.mapping(footprint), list(footprint.bounds),
            pd.Timestamp("2020-06-01").to_pydatetime(), properties | {"proj:code": CRS},
            stac_extensions=[
                "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
                "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
                "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
            ],
        )  # fmt: skip
        bands = {
            "eo:bands": [{"name": name} for name in BANDS],
            "raster:bands": [{"data_type": "uint16"} for _ in BANDS],
        }
        asset = pystac.Asset(str(path), media_type=pystac.MediaType.COG, extra_fields=bands)
        item.add_asset("image", asset)
        items.append(item)
    return items


@dataclass(frozen=True)
class Ours:
    """The package's own way, from a catalog that is read already."""

    mosaic: Mosaic
    catalog: pd.DataFrame
    places: geopandas.GeoDataFrame

    @property
    def settings(self) -> ChipSettings:
        return ChipSettings(size_pixels=self.mosaic.chip)

    def to_memory(self, ordered: bool = False) -> NDArray[Any] | None:
        """Planning and every task, whose blocks stay in memory in the order of reading."""
        scenes, bands = scenes_of(self.catalog)
        plan = plan_chips(self.places, scenes, len(bands), self.settings)
        blocks: list[NDArray[Any]] = []
        with mock.patch.object(
            chip_batch, "write_rows", lambda folder, start, values: blocks.append(values)
        ):
            for batch in batches_of(plan, self.places, scenes, bands):
                chip_batch.cut_batch(batch, self.settings, "")
        return np.concatenate(blocks)[np.argsort(plan.positions), 0] if ordered else None

    def to_zarr(self, read: bool = False) -> NDArray[Any] | None:
        """The public call; with ``read``, what it left on disk in the order of the places."""
        with tempfile.TemporaryDirectory(dir=self.mosaic.folder) as folder:
            found = cut_chips(self.catalog, self.places, self.settings, folder=Path(folder))
            return in_order(found.chips, self.places["image_key"]).values[:, 0] if read else None


def make_ours(mosaic: Mosaic, corners: NDArray[np.intp]) -> Ours:
    """Catalog of the files, and a point in the pixel that is each chip's middle."""
    named = CatalogSettings(
        files=(str(mosaic.folder / "*.tif"),),
        date="2020-06-01",
        band_names=BANDS,
        product="generic",
    )
    files = InputFiles(tuple(map(str, mosaic.paths)), ("",) * 4)
    catalog = read_catalog(files, named, policy=SourcePolicy((mosaic.folder.resolve(),)))
    middle = corners + mosaic.chip // 2 + 0.5
    points = geopandas.points_from_xy(
        WEST + middle[:, 1] * STEP, NORTH - middle[:, 0] * STEP, crs=CRS
    )
    keys = [f"place {number}" for number in range(len(corners))]
    places = geopandas.GeoDataFrame(
        {"unit_id": keys, "image_key": keys}, geometry=points.to_crs(4326), crs=4326
    )
    return Ours(mosaic, catalog, places)


def installed(peers: Variants) -> Variants:
    """Peers whose library is there; the others are named and left out."""
    found = {}
    for name, run in peers.items():
        try:
            importlib.import_module(PEERS.get(name, "rasterio"))
        except ImportError as error:
            print(f"  {name}: skipped ({error})")
        else:
            found[name] = run
    return found


def bench_chips(mosaic: Mosaic, rows: common.Rows) -> None:
    """P1: both sizes of N, ours against the floor and the peers."""
    arguments = rows.arguments
    corners = mosaic.corners(arguments.points)
    few = corners[: arguments.few]
    many_peers: Variants = {
        "open per point": partial(open_per_point, mosaic, corners),
        "open once, random order": partial(open_once, mosaic, corners),
        "rioxarray isel": partial(rioxarray_chips, mosaic, corners, "isel"),
        "dask slices": partial(dask_chips, mosaic, corners),
    }
    few_peers: Variants = {
        "rioxarray clip_box": partial(rioxarray_chips, mosaic, few, "clip_box"),
        "torchgeo": partial(torchgeo_chips, mosaic, few),
        "odc-stac": lambda: odc_chips(mosaic, few, stac_items(mosaic)),
    }
    goals = {"open per point": 4.0, "rioxarray isel": 2.0, "rioxarray clip_box": 2.0}
    goals |= {"dask slices": 2.0, "torchgeo": 4.0, "odc-stac": 8.0}
    for points, peers in ((corners, many_peers), (few, few_peers)):
        compare(mosaic, points, installed(peers), goals, rows)


def compare(
    mosaic: Mosaic,
    corners: NDArray[np.intp],
    peers: Variants,
    goals: dict[str, float],
    rows: common.Rows,
) -> None:
    """Equal chips first, then CPU seconds of all in turn."""
    ours = make_ours(mosaic, corners)
    reference = open_once(mosaic, corners)
    print(f"{len(corners)} chips, GDAL cache {rows.arguments.cache}: answers")
    mine = {MEMORY: partial(ours.to_memory, ordered=True), ZARR: partial(ours.to_zarr, read=True)}
    common.check_answers(mine | peers, reference, 0.0)
    if rows.arguments.light:
        return
    timed = {"decode floor": partial(decode_floor, mosaic, corners)}
    timed |= {MEMORY: ours.to_memory, ZARR: ours.to_zarr} | peers
    seconds = common.interleave(timed, rows.arguments.reps)
    where = f"N = {len(corners)}, cache {rows.arguments.cache}"
    for name, values in seconds.items():
        rows.throughput(f"{where}: {name}", len(corners), values, unit="chips")
    for name in (MEMORY, ZARR):
        share = common.ratio(seconds["decode floor"], seconds[name])
        rows.add("P1", f"{where}: {name} / decode floor", share, 0.8)
    for name in (name for name in peers if name in goals):
        faster = common.ratio(seconds[name], seconds[MEMORY])
        rows.add("P1", f"{where}: {MEMORY}, against {name}", faster, goals[name])


def bench_workers(mosaic: Mosaic, rows: common.Rows) -> None:
    """P2: wall time of the public call with one and with two worker processes.

    Four times the points, so that tasks (some 680 chips each) can be shared out evenly.
    """
    ours = make_ours(mosaic, mosaic.corners(4 * rows.arguments.points))
    first = Ours(mosaic, ours.catalog, ours.places.head(50))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rows.arguments.reps):
        for n_workers, walls in seconds.items():
            with computing(ComputeSettings(kind="processes", n_workers=n_workers)):
                first.to_zarr()
                start = time.perf_counter()
                ours.to_zarr()
                walls.append(time.perf_counter() - start)
    speed = common.ratio(seconds[1], seconds[2])
    print(f"load of the machine while measured: {os.getloadavg()[0]:.1f}")
    rows.add("P2", "wall speed-up from one to two worker processes", speed, 1.6)


def one_part(arguments: Namespace) -> None:
    """What runs in a process of its own: a cache regime, or the workers."""
    rows = common.Rows(
        "b1_chips", arguments, "numpy", "rasterio", "xarray", "dask", "zarr", "rioxarray", "torchgeo",
        "odc-stac",
    )  # fmt: skip
    mosaic = Mosaic(arguments.folder, arguments.size, arguments.chip)
    if arguments.cache == "workers":
        bench_workers(mosaic, rows)
    else:
        with dask.config.set(scheduler="synchronous"):
            bench_chips(mosaic, rows)
    rows.write()


def main() -> None:
    flags = common.parser(__doc__ or "")
    flags.add_argument("--size", type=int, default=4096, help="rows and columns of a file")
    flags.add_argument("--points", type=int, default=2000)
    flags.add_argument("--few", type=int, default=200, help="points for slow peers")
    flags.add_argument("--chip", type=int, default=64, help="rows and columns of a chip")
    flags.add_argument("--interleave", choices=("pixel", "band"), default="pixel")
    flags.add_argument("--cache", choices=(*CACHES, "workers"), help="only this part")
    flags.add_argument("--folder", type=Path, help="where the files are; made when left out")
    arguments = flags.parse_args()
    if arguments.light:
        arguments.size, arguments.points, arguments.few = 512, 60, 10
    if arguments.folder and arguments.cache:
        return one_part(arguments)
    parts = [arguments.cache] if arguments.cache else [*CACHES, "workers"]
    with tempfile.TemporaryDirectory() as folder:
        write_mosaic(Mosaic(Path(folder), arguments.size, arguments.chip), arguments.interleave)
        for part in ["64 MB"] if arguments.light else parts:
            words = [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--cache", part]
            cache = {"GDAL_CACHEMAX": CACHES.get(part, "64")}
            sys.stdout.flush()
            subprocess.run(words, check=True, env=os.environ | cache)
    return None


if __name__ == "__main__":
    main()
