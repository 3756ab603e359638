"""Memory does not grow with the mosaic: peak over all processes while chips are cut (D6).

Also the program that the test starts: imports of the test itself would count as memory.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

BAR, REPEATS = 2 * 2**30, 4
SLOPE, LIGHT_SLOPE = 0.05, 0.15  # 5 MB of chance in each process weigh more in a small mosaic
COLUMNS, STEP, WEST, NORTH, CRS = 16, 10, 300_000, 9_900_000, "EPSG:32736"


def run(full_size, folder, n_workers):
    """Peaks in bytes for mosaics of growing size, those sizes in bytes, and the slope allowed."""
    pixels, n_files = (2048, (50, 100, 200)) if full_size else (512, (16, 64))
    words = [sys.executable, __file__, str(folder), str(pixels), str(n_workers)]
    done = subprocess.run(
        [*words, *map(str, n_files)], capture_output=True, text=True, timeout=7200
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    sizes = [number * pixels**2 * 6 * 2 for number in n_files]
    return peaks, sizes, SLOPE if full_size else LIGHT_SLOPE


def check(peaks, sizes, most, measured):
    """Below the bar, and hardly larger for the largest mosaic than for the smallest."""
    slope = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])
    measured("peak of all processes, MB", peaks[-1] / 2**20)
    measured("growth of the peak / growth of the mosaic", slope)
    assert peaks[-1] < BAR
    assert slope < most


def test_one_worker_stays_within_its_memory(full_size, tmp_path, measured):
    check(*run(full_size, tmp_path, n_workers=1), measured)


def test_two_workers_stay_within_their_memory(full_size, tmp_path, measured):
    check(*run(full_size, tmp_path, n_workers=2), measured)


def write_images(folder: Path, pixels: int, n_files: int) -> None:
    """One image of few distinct blocks, copied to other places: only the first is compressed."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    block = np.random.default_rng(0).integers(1, 8, (6, 256, 256)).astype("uint16")
    first = folder / "0000.tif"
    for number in range(n_files):
        row, column = divmod(number, COLUMNS)
        path = folder / f"{number:04d}.tif"
        side = pixels * STEP
        corner = from_origin(WEST + column * side, NORTH - row * side, STEP, STEP)
        if number:
            shutil.copyfile(first, path)
            with rasterio.open(path, "r+") as target:
                target.transform = corner
            continue
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint16", count=6, height=pixels, width=pixels,
            tiled=True, blockxsize=256, blockysize=256, compress="deflate", crs=CRS,
            transform=corner, interleave="pixel",
        ) as target:  # fmt: skip
            target.write(np.tile(block, (1, pixels // 256, pixels // 256)))


def make_places(pixels: int, n_files: int):
    """A chip of 64 x 64 pixels for every 128 x 128 of the mosaic: every block is decoded."""
    import geopandas
    import numpy as np

    steps = np.arange(64, pixels, 128) * STEP
    number, y, x = (
        grid.ravel() for grid in np.meshgrid(range(n_files), steps, steps, indexing="ij")
    )
    row, column = np.divmod(number, COLUMNS)
    points = geopandas.points_from_xy(
        WEST + column * pixels * STEP + x, NORTH - row * pixels * STEP - y, crs=CRS
    )
    keys = np.arange(len(points)).astype(str)
    return geopandas.GeoDataFrame(
        {"unit_id": keys, "image_key": keys}, geometry=points.to_crs(4326)
    )


@contextlib.contextmanager
def watching():
    """A dict that keeps the peak of this process and of each of its children, in bytes."""
    import psutil

    peaks, ended, this = {}, threading.Event(), psutil.Process()

    def watch() -> None:
        while not ended.wait(0.01):
            for process in (this, *this.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    held = process.memory_info().rss
                    peaks[process.pid] = max(peaks.get(process.pid, 0), held)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def cut(folder: Path, pixels: int, n_files: int) -> None:
    """Chips of the first files of the mosaic, to Zarr, which is removed again."""
    from eo_causal.core.sources import InputFiles, SourcePolicy
    from eo_causal.ingest.catalog import CatalogSettings, read_catalog
    from eo_causal.ingest.chip_settings import ChipSettings
    from eo_causal.ingest.chips import cut_chips

    paths = tuple(str(path) for path in sorted(folder.glob("*.tif"))[:n_files])
    settings = CatalogSettings(
        files=("*.tif",), date="2020-06-01", product="generic",
        band_names=("blue", "green", "red", "nir", "swir1", "swir2"),
    )  # fmt: skip
    files = InputFiles(paths, ("",) * n_files)
    catalog = read_catalog(files, settings, policy=SourcePolicy((folder.resolve(),)))
    small = {} if pixels > 512 else {"batch_bytes": 2**22}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        places = make_places(pixels, n_files)
        cut_chips(catalog, places, ChipSettings(size_pixels=64, **small), folder=Path(out))


def main() -> None:
    """Cut mosaics of growing size with workers that stay, and print the sums of their peaks."""
    from eo_causal.run.compute import ComputeSettings, computing

    folder, pixels, n_workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    sizes = [int(word) for word in sys.argv[4:]]
    write_images(folder, pixels, max(sizes))
    gdal = {"GDAL_CACHEMAX": "128" if pixels > 512 else "16", "GDAL_NUM_THREADS": "1"}
    found = []
    with (
        computing(ComputeSettings(kind="processes", n_workers=n_workers, gdal=gdal)),
        watching() as peaks,
    ):
        for _ in range(REPEATS):  # until each worker has seen what a small mosaic asks of it
            cut(folder, pixels, sizes[0])
        for n_files in sizes:
            cut(folder, pixels, n_files)
            found.append(sum(peaks.values()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
