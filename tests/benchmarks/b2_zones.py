"""Zone means and medians from disk, against decoding alone and against what users would write."""

import tempfile
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import dask
import geopandas
import netCDF4
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from shapely.geometry import Polygon

from eo_causal.ingest.ocean_color import OceanColorSettings, read_kd490
from eo_causal.ingest.zonal import ZoneSettings, zone_means, zone_weights

STEP, WEST, NORTH = 1 / 48, 120.0, 6.25
MEAN = ZoneSettings(method="mean", min_valid_fraction=0.0)
RATIO = ZoneSettings(method="ratio", min_valid_fraction=0.0, min_valid_months=3)
MEDIAN = ZoneSettings(method="median", min_valid_fraction=0.0)
Variants = dict[str, Callable[[], Any]]


def make_cube(n_months: int, size: int) -> xr.DataArray:
    """Log-normal water, 60 % hidden in blobs of 20 cells."""
    random = np.random.default_rng(2)
    values = random.lognormal(-2.5, 0.3, (n_months, size, size)).astype(np.float32)
    n_blobs = -(-size // 20)
    for month in values:
        hidden = np.kron(random.random((n_blobs, n_blobs)) < 0.6, np.ones((20, 20), bool))
        month[hidden[:size, :size]] = np.nan
    cells = np.arange(size) + 0.5
    return xr.DataArray(
        values, dims=("time", "latitude", "longitude"), name="kd490", attrs={"units": "m-1"},
        coords={
            "time": pd.date_range("1998-01", periods=n_months, freq="MS", unit="ns"),
            "latitude": NORTH - STEP * cells,
            "longitude": WEST + STEP * cells,
        },
    )  # fmt: skip


def make_zones(n_zones: int, size: int) -> geopandas.GeoDataFrame:
    """Irregular polygons of 24 corners, partly overlapping."""
    random = np.random.default_rng(3)
    extent, polygons = size * STEP, []
    for _ in range(n_zones):
        centre = np.array([WEST, NORTH - extent]) + random.uniform(0.17, 0.83, 2) * extent
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = random.uniform(0.04, 0.095, 24) * extent
        ring = np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
        polygons.append(Polygon(centre + ring))
    names = [f"zone {number}" for number in range(n_zones)]
    return geopandas.GeoDataFrame({"zone": names}, geometry=polygons, crs=4326)


def write_files(cube: xr.DataArray, folder: Path) -> tuple[Path, Path]:
    """NetCDF-4 with one month a chunk, Zarr v3 with 25 x 150 x 150 cells a chunk."""
    n_y, n_x = cube.shape[1:]
    netcdf, store = folder / "kd490.nc", folder / "kd490.zarr"
    layout = {"zlib": True, "complevel": 4, "shuffle": True, "chunksizes": (1, n_y, n_x)}
    cube.to_netcdf(netcdf, encoding={"kd490": layout})
    chunks = (min(25, len(cube)), min(150, n_y), min(150, n_x))
    compressor = zarr.codecs.ZstdCodec(level=3)
    coding = {"chunks": chunks, "compressors": compressor, "_FillValue": None}
    cube.to_dataset().to_zarr(store, zarr_format=3, encoding={"kd490": coding}, consolidated=False)
    return netcdf, store


def on_cells(cube: xr.DataArray) -> xr.DataArray:
    """The package's form: dimensions time, y, x with coordinates latitude and longitude."""
    return cube.swap_dims(latitude="y", longitude="x")


def by_loader(path: Path) -> xr.DataArray:
    """A cube as the package itself opens it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_kd490([path], OceanColorSettings())


def open_plain(path: Path) -> xr.DataArray:
    """A cube as users open it: dask blocks of 25 months."""
    options = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
    return xr.open_dataset(path, chunks={"time": 25}, **options)["kd490"]


def decode_only(path: Path) -> Callable[[], float]:
    """Decompress everything once, keep nothing."""

    def netcdf() -> float:
        with netCDF4.Dataset(path) as dataset:
            dataset.set_auto_mask(False)
            variable = dataset["kd490"]
            return float(sum(variable[t][0, 0] == 0 for t in range(len(variable))))

    def store() -> float:
        array = zarr.open_group(path, mode="r")["kd490"]
        step = array.chunks[0]
        return float(sum(array[t : t + step][0, 0, 0] == 0 for t in range(0, array.shape[0], step)))

    return store if path.is_dir() else netcdf


def zone_rasters(cube: xr.DataArray, zones: geopandas.GeoDataFrame) -> xr.DataArray:
    """Weights as (zone, latitude, longitude), what xarray users would hold."""
    weights = zone_weights(on_cells(cube), zones).toarray()
    shape = (len(zones), *cube.shape[1:])
    return xr.DataArray(weights.reshape(shape), dims=("zone", "latitude", "longitude"))


def raster(values: np.ndarray) -> NumPyRasterSource:
    """An exactextract source over the whole grid."""
    n_y, n_x = values.shape
    return NumPyRasterSource(
        values, xmin=WEST, xmax=WEST + n_x * STEP, ymin=NORTH - n_y * STEP, ymax=NORTH,
        nodata=np.nan,
    )  # fmt: skip


def extract(
    path: Path, zones: geopandas.GeoDataFrame, operation: str, area: np.ndarray | None = None
) -> np.ndarray:
    """exactextract month by month, (zone, time)."""
    extra = {} if area is None else {"weights": raster(area)}
    months = []
    array = zarr.open_group(path, mode="r")["kd490"]
    for start in range(0, array.shape[0], array.chunks[0]):
        for month in array[start : start + array.chunks[0]]:
            found = exact_extract(raster(month), zones, operation, **extra)
            months.append([next(iter(each["properties"].values())) for each in found])
    return np.array(months).T


def peer_means(path: Path, zones: geopandas.GeoDataFrame, weights: xr.DataArray) -> Variants:
    """Zone means as users write them; single-threaded dask like everything else."""
    inside = weights > 0
    areas = [weights.isel(zone=row) for row in range(len(zones))]
    where = [inside.isel(zone=row) for row in range(len(zones))]

    def where_mean() -> np.ndarray:
        cube = open_plain(path)
        means = [cube.where(mask).mean(("latitude", "longitude")) for mask in where]
        with dask.config.set(scheduler="synchronous"):
            return np.array(dask.compute(*means))

    def weighted_mean() -> np.ndarray:
        cube = open_plain(path)
        means = [cube.weighted(area).mean(("latitude", "longitude")) for area in areas]
        with dask.config.set(scheduler="synchronous"):
            return np.array(dask.compute(*means))

    return {"xarray where().mean()": where_mean, "xarray weighted().mean()": weighted_mean}


def ours(open_cube: Callable[[], xr.DataArray], zones: Any, settings: ZoneSettings) -> Any:
    """Zone means of this package from a fresh opening of the file."""

    def run() -> np.ndarray:
        with dask.config.set(scheduler="synchronous"):
            return zone_means(open_cube(), zones, settings)["kd490"].to_numpy()

    return run


def unweighted_means(cube: xr.DataArray, inside: xr.DataArray) -> np.ndarray:
    """Plain means of the valid cells a zone touches, (zone, time)."""
    values = cube.to_numpy()
    masks = inside.to_numpy()
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0.0).astype(float)
    with np.errstate(invalid="ignore"):
        return np.array([filled[:, mask].sum(axis=1) / seen[:, mask].sum(axis=1) for mask in masks])


def disk_variants(path: Path, zones: Any) -> Variants:
    """Decoding alone, and our means on top of it."""
    return {
        "decode only": decode_only(path),
        "mean, opened by xarray": ours(lambda: on_cells(open_plain(path)), zones, MEAN),
        "mean, opened by the loader": ours(lambda: by_loader(path), zones, MEAN),
        "ratio, opened by the loader": ours(lambda: by_loader(path), zones, RATIO),
    }


def flox_means(path: Path, labels: np.ndarray) -> Callable[[], np.ndarray] | None:
    """Group means by label (no overlap, no partial cells); None where flox is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import flox.xarray
        except ImportError:
            return None

    def run() -> np.ndarray:
        group = xr.DataArray(labels, dims=("latitude", "longitude"), name="zone")
        expected = np.unique(labels[labels >= 0])
        with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mean = flox.xarray.xarray_reduce(
                open_plain(path), group, func="nanmean", expected_groups=expected
            )
            return mean.transpose("zone", "time").to_numpy()

    return run


def bench_means(
    paths: tuple[Path, Path], cube: xr.DataArray, zones: Any, rows: common.Rows
) -> None:
    arguments, megabytes = rows.arguments, cube.nbytes / 1e6
    netcdf, store = paths
    weights = zone_rasters(cube, zones)
    area = -np.diff(np.sin(np.deg2rad(NORTH - STEP * np.arange(cube.shape[1] + 1))))
    area_raster = np.repeat(area[:, None], cube.shape[2], axis=1)
    print("means: answers against exactextract weighted by cell area")
    reference = extract(store, zones, "weighted_mean", area_raster)
    disk = {path: disk_variants(path, zones) for path in paths}
    peers = peer_means(store, zones, weights)
    peers["exactextract per month"] = lambda: extract(store, zones, "mean")
    for variants in disk.values():
        timed = {name: run for name, run in variants.items() if name.startswith("mean")}
        common.check_answers(timed, reference, 1e-6)
    common.check_answers(
        {"xarray where().mean()": peers["xarray where().mean()"]},
        unweighted_means(cube, weights > 0), 1e-5,
    )  # fmt: skip
    rest = {name: run for name, run in peers.items() if name != "xarray where().mean()"}
    limits = {"xarray weighted().mean()": 1e-6, "exactextract per month": 1e-3}
    common.check_answers(rest, reference, limits)
    labels = np.where(weights.any("zone"), weights.argmax("zone"), -1)
    flox_run = flox_means(store, labels)
    if flox_run is None:
        print("  flox is not installed: skipped")
    else:
        peers["flox groupby (no overlaps)"] = flox_run
    if arguments.light:
        return
    for path, share in ((netcdf, 0.85), (store, 0.70)):
        extra = peers if path == store else {}
        seconds = common.interleave(disk[path] | extra, arguments.reps)
        for name, values in seconds.items():
            rows.throughput(f"{path.suffix} {name}", megabytes, values)
        for name in ("mean, opened by xarray", "mean, opened by the loader"):
            speed = common.ratio(seconds["decode only"], seconds[name])
            rows.add("P3", f"{path.suffix} {name} / decode only", speed, share)
        if extra:
            mine = seconds["mean, opened by the loader"]
            for name, target in (
                ("xarray where().mean()", 8.0), ("xarray weighted().mean()", 3.0)
            ):  # fmt: skip
                rows.add("P3", f"against {name}", common.ratio(seconds[name], mine), target)


def lower_medians(cube: xr.DataArray, weights: Any) -> np.ndarray:
    """Weighted lower medians by sorting, (zone, time)."""
    result = np.full((weights.shape[0], len(cube)), np.nan)
    flat = cube.to_numpy().reshape(len(cube), -1)
    for row in range(weights.shape[0]):
        mine = slice(weights.indptr[row], weights.indptr[row + 1])
        values, mass = flat[:, weights.indices[mine]].astype(float), weights.data[mine]
        for t, month in enumerate(values):
            seen = np.isfinite(month)
            if not seen.any():
                continue
            order = np.argsort(month[seen], kind="stable")
            reached = np.cumsum(mass[seen][order])
            result[row, t] = month[seen][order][np.searchsorted(reached, reached[-1] / 2)]
    return result


def bench_medians(store: Path, cube: xr.DataArray, zones: Any, rows: common.Rows) -> None:
    arguments, megabytes = rows.arguments, cube.nbytes / 1e6
    weights = zone_weights(on_cells(cube), zones)
    print("medians: answers against sorting")
    reference = lower_medians(cube, weights)
    memory = on_cells(cube)
    run = ours(lambda: memory, zones, MEDIAN)
    variants = {
        "median, opened by the loader": ours(lambda: by_loader(store), zones, MEDIAN),
        "median, in memory": run,
    }
    if not arguments.light:  # it interpolates between cells, which only large zones hide
        variants["exactextract median per month"] = lambda: extract(store, zones, "median")
    limits = dict.fromkeys(variants, 0.0) | {"exactextract median per month": 0.03}
    common.check_answers(variants, reference, limits)
    n_used = int((np.asarray(weights.sum(axis=0)).ravel() > 0).sum())
    block = on_cells(cube).chunk(time=min(25, len(cube)))
    tracemalloc.start()
    ours(lambda: block, zones, MEDIAN)()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    used = peak / (min(25, len(cube)) * n_used * 8)
    rows.add("P4", "peak memory / (time block x used cells, float64)", used, 2.0, at_most=True)
    if arguments.light:
        return
    seconds = common.interleave(variants, arguments.reps)
    for name, values in seconds.items():
        rows.throughput(name, megabytes, values)
    theirs = seconds["exactextract median per month"]
    for name in ("median, opened by the loader", "median, in memory"):
        rows.add("P4", f"{name}, against exactextract", common.ratio(theirs, seconds[name]), 10.0)


def main() -> None:
    flags = common.parser(__doc__ or "")
    flags.add_argument("--months", type=int, default=300)
    flags.add_argument("--size", type=int, default=600, help="rows and columns of the grid")
    flags.add_argument("--zones", type=int, default=20)
    arguments = flags.parse_args()
    if arguments.light:
        arguments.months, arguments.size, arguments.zones = 24, 160, 5
    rows = common.Rows(
        "b2_zones", arguments, "numpy", "xarray", "dask", "zarr", "netCDF4", "exactextract", "flox",
        "numba",
    )  # fmt: skip
    cube = make_cube(arguments.months, arguments.size)
    zones = make_zones(arguments.zones, arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(cube, Path(folder))
        bench_means(paths, cube, zones, rows)
        bench_medians(paths[1], cube, zones, rows)
    rows.write()


if __name__ == "__main__":
    main()
