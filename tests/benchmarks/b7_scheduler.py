"""What schedulers cost, what their workers obey, and what a plan of a million chips takes."""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import common
import dask
import geopandas
import numpy as np
import pandas as pd
import psutil
from pyproj import CRS

from eo_causal.ingest.chip_plan import plan_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import batches_of
from eo_causal.ingest.scene import scenes_of
from eo_causal.run.compute import ComputeSettings, computing, limits_in_force

KINDS = ("synchronous", "threads", "processes", "local", "address")
LIGHT_KINDS = ("synchronous", "processes")  # the unit tests look at the others
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
TILE_PIXELS, STEP, WEST, NORTH = 2048, 1e-4, 20.0, 5.0


def number_of(number: int) -> int:
    """An empty task."""
    return number


@contextlib.contextmanager
def workers(kind: str, n_workers: int) -> Iterator[ComputeSettings]:
    """Dask set up by the package; for ``address`` on a cluster that somebody else started."""
    if kind != "address":
        settings = ComputeSettings(kind=kind, n_workers=n_workers)
        with computing(settings):
            yield settings
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=n_workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        settings = ComputeSettings(kind=kind, address=cluster.scheduler_address)
        with computing(settings):
            yield settings


def tree_seconds() -> float:
    """CPU seconds of this process and its living children."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def resident_megabytes() -> float:
    """What this process holds now, in MB."""
    return psutil.Process().memory_info().rss / 2**20


def run_tasks(n_tasks: int) -> list[int]:
    task = dask.delayed(number_of, pure=False)
    return list(dask.compute(*(task(number) for number in range(1, n_tasks + 1))))


def loaded_limits(settings: ComputeSettings) -> dict[str, str]:
    """What a worker obeys once the libraries are loaded there."""
    import rasterio.env  # noqa: F401
    import sklearn.cluster  # noqa: F401

    return limits_in_force(settings)


def check_limits(kind: str, n_workers: int, settings: ComputeSettings) -> None:
    """F7: thread and GDAL settings on a worker are those of the config."""
    found = dask.delayed(loaded_limits, pure=False)(settings).compute()
    threads = {
        "OMP_NUM_THREADS": settings.threads.omp,
        "NUMBA_NUM_THREADS": settings.threads.numba,
        "EO_CAUSAL_TORCH_THREADS": settings.threads.torch,
        "ZARR_THREADING__MAX_WORKERS": n_workers if kind == "threads" else 1,
    }
    wanted = settings.gdal | {name: str(value) for name, value in threads.items()}
    if found != wanted:
        sys.exit(f"{kind}: workers obey {found}, not {wanted}")
    print(f"  answer of limits on workers of kind {kind}: equal to the config")


def bench_schedulers(rows: common.Rows) -> None:
    """Start of workers, their limits, and empty tasks."""
    arguments = rows.arguments
    expected = np.arange(1, arguments.tasks + 1)
    print(f"{arguments.tasks} empty tasks, {arguments.workers} workers")
    for kind in LIGHT_KINDS if arguments.light else KINDS:
        start = time.perf_counter()
        with workers(kind, arguments.workers) as settings:
            started = time.perf_counter() - start
            check_limits(kind, arguments.workers, settings)
            name = f"{arguments.tasks} tasks, {kind}"
            common.check_answers({name: lambda: run_tasks(arguments.tasks)}, expected, 0.0)
            walls, seconds = [], []
            for _ in range(1 if arguments.light else arguments.reps):
                before, start = tree_seconds(), time.perf_counter()
                run_tasks(arguments.tasks)
                walls.append((time.perf_counter() - start) / arguments.tasks * 1e6)
                seconds.append((tree_seconds() - before) / arguments.tasks * 1e6)
        rows.note(f"{kind}: start of {arguments.workers} workers, limits read back", started, "s")
        rows.note(f"{kind}: wall time of an empty task", statistics.median(walls), "us")
        rows.note(f"{kind}: CPU time of an empty task", statistics.median(seconds), "us")


@dataclass(frozen=True)
class World:
    """A square of tiles with places anywhere on it."""

    n_side: int
    n_places: int

    def catalog(self) -> pd.DataFrame:
        """One file a tile."""
        tile = np.arange(self.n_side**2)
        row, column = np.divmod(tile, self.n_side)
        west = WEST + column * TILE_PIXELS * STEP
        north = NORTH - row * TILE_PIXELS * STEP
        table = pd.DataFrame(
            {
                "item_id": [f"tile_{number:05d}" for number in tile],
                "href": [f"tile_{number:05d}.tif" for number in tile],
                "datetime": pd.Timestamp("2020-06-01"), "datetime_end": pd.NaT,
                "product": "generic", "platform": None, "baseline": None, "offset_applied": None,
                "crs": CRS.from_epsg(4326).to_wkt(),
                "transform": [(STEP, 0.0, x, 0.0, -STEP, y) for x, y in zip(west, north, strict=True)],
                "rows": TILE_PIXELS, "columns": TILE_PIXELS, "status": "ok", "role": "data",
            }
        )  # fmt: skip
        bands = pd.DataFrame({"band": BANDS, "band_index": range(1, len(BANDS) + 1)})
        return table.merge(bands, how="cross")

    def places(self) -> geopandas.GeoDataFrame:
        random = np.random.default_rng(0)
        extent = self.n_side * TILE_PIXELS * STEP
        away = random.uniform(0.001, 0.999, (self.n_places, 2)) * extent
        keys = np.arange(self.n_places).astype(str)
        return geopandas.GeoDataFrame(
            {"unit_id": keys, "image_key": keys},
            geometry=geopandas.points_from_xy(WEST + away[:, 0], NORTH - away[:, 1]), crs=4326,
        )  # fmt: skip


def bench_plan(rows: common.Rows) -> None:
    """P13, F8: tasks, seconds and memory of planning; reads no pixel."""
    world = World(rows.arguments.side, rows.arguments.places)
    imported = resident_megabytes()
    catalog, places = world.catalog(), world.places()
    n_tiles = world.n_side**2
    held = resident_megabytes()
    start = common.cpu_seconds()
    scenes, bands = scenes_of(catalog)
    grouped = common.cpu_seconds() - start
    start = common.cpu_seconds()
    plan = plan_chips(places, scenes, len(bands), ChipSettings())
    planned = common.cpu_seconds() - start
    start = common.cpu_seconds()
    batches = list(batches_of(plan, places, scenes, bands))
    listed = common.cpu_seconds() - start
    peak = common.peak_megabytes()
    found = {"chips in batches": lambda: sum(len(batch.targets) for batch in batches)}
    common.check_answers(found, world.n_places, 0.0)
    print(f"plan of {world.n_places:,} chips on {n_tiles:,} tiles: {len(batches):,} tasks")
    rows.note("scenes from the catalog", grouped, "s")
    rows.note("all tasks of the plan", listed, "s")
    rows.note("imports", imported, "MB")
    rows.note("catalog and places", held - imported, "MB")
    rows.note("peak of the client, all together", peak, "MB")
    if rows.arguments.light:
        return
    rows.add("F8", "tasks / tile", len(batches) / n_tiles, 4, at_most=True)
    rows.add("P13", "CPU seconds of the plan", planned, 5, at_most=True)
    what = "peak memory above imports, catalog and places, MB"
    rows.add("P13", what, peak - held, 500, at_most=True)


def main() -> None:
    flags = common.parser(__doc__ or "")
    flags.add_argument("--tasks", type=int, default=5000)
    flags.add_argument("--workers", type=int, default=2)
    flags.add_argument("--side", type=int, default=100, help="tiles along a side of the square")
    flags.add_argument("--places", type=int, default=1_000_000)
    flags.add_argument("--plan-only", action="store_true", help="in a process of its own")
    arguments = flags.parse_args()
    if arguments.light:
        arguments.tasks, arguments.workers, arguments.side, arguments.places = 50, 1, 10, 2000
    rows = common.Rows("b7_scheduler", arguments, "numpy", "dask", "distributed", "geopandas")
    if arguments.plan_only:
        bench_plan(rows)
    else:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--plan-only"], check=True)
        bench_schedulers(rows)
    rows.write()


if __name__ == "__main__":
    main()
