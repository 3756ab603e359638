"""Mutants of files, and a worker process that reads them the way the command line does."""

import json
import multiprocessing
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from reliability.fault_texts import TABLES, rows, table
from reliability.faults import Chance, netcdf, store, water

TIMEOUT = 30


def mutate(data: bytes, chance: Chance) -> bytes:
    """One random change: truncate, flip, overwrite the header, zero, delete, insert, copy."""
    size = len(data)
    start, end = sorted(int(place) for place in chance.integers(0, size + 1, 2))
    end = min(end, start + int(chance.integers(1, 2000)))
    changed = bytearray(data)
    kind = int(chance.integers(7))
    if kind == 0:
        return data[:start]
    if kind == 1:
        for place in chance.integers(0, size, int(chance.integers(1, 20))):
            changed[place] ^= 1 << int(chance.integers(8))
    elif kind == 2:
        for place in chance.integers(0, min(size, 512), int(chance.integers(1, 8))):
            changed[place] = int(chance.integers(256))
    elif kind == 3:
        changed[start:end] = bytes(end - start)
    elif kind == 4:
        del changed[start:end]
    elif kind == 5:
        changed[start:start] = chance.bytes(int(chance.integers(1, 300)))
    else:
        other = int(chance.integers(0, size))
        changed[start:end] = data[other : other + end - start]
    return bytes(changed)


def write_geotiff(chance: Chance, compress: str) -> Path:
    """A small float raster."""
    import rasterio
    from rasterio.transform import from_origin

    values = water(chance, 3).to_numpy()
    profile = {"driver": "GTiff", "dtype": "float32", "count": 3, "height": 9, "width": 12}
    place = {"crs": "EPSG:4326", "transform": from_origin(120, -2, 0.25, 0.25), "nodata": -9999}
    with rasterio.open("water.tif", "w", compress=compress, **profile, **place) as target:
        target.write(np.nan_to_num(values, nan=-9999))
    return Path("water.tif")


def write_config(chance: Chance) -> Path:
    """A config with most kinds of values."""
    table(rows(chance))
    Path("study.yaml").write_text(
        TABLES + "title: 'Größe: \"x\"'\nroles: {impact: impact, controls: [control]}\n"
        "seed: &n 199\nbreaks: {n_bootstrap: *n}\n"
    )
    return Path("study.yaml")


def write_table(chance: Chance) -> Path:
    """A good zone table."""
    table(rows(chance))
    return Path("impact.csv")


FORMATS: dict[str, Callable[[Chance], Path]] = {
    **{
        f"geotiff-{name}": (lambda chance, name=name: write_geotiff(chance, name))
        for name in ("none", "deflate", "lzw", "zstd")
    },
    "netcdf": lambda chance: netcdf(water(chance)),
    "zarr-2": lambda chance: store(water(chance), 2),
    "zarr-3": lambda chance: store(water(chance), 3),
    "yaml": write_config,
    "csv": write_table,
}


def parts(path: Path) -> list[Path]:
    """What is mutated: the file, or the metadata of a store."""
    if path.is_file():
        return [path]
    return [item for item in path.rglob("*") if item.name in (".zarray", ".zattrs", "zarr.json")]


def examine(path: Path) -> str:
    """What the command line makes of a file: a result, or ``refused: CLASS``."""
    from eo_causal.core.sources import SourcePolicy
    from eo_causal.errors import EOCausalError, EOCausalWarning
    from eo_causal.ingest.inspect import inspect_file
    from eo_causal.ingest.tables import read_zone_table
    from eo_causal.run.config import config_yaml, load_config

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", EOCausalWarning)
    try:
        if path.suffix == ".yaml":
            return config_yaml(load_config(path))
        if path.suffix == ".csv":
            return str(read_zone_table(path, units="1e-2 m-1").to_dict())
        facts = inspect_file(path, SourcePolicy((path.parent,)))
        return json.dumps(facts, allow_nan=False)
    except EOCausalError as error:
        return f"refused: {type(error).__name__}"


def serve(connection: Any) -> None:
    """Examine the paths that come in; a traceback goes back as text."""
    import traceback

    while (path := connection.recv()) is not None:
        try:
            answer = examine(Path(path))
        except BaseException:  # noqa: BLE001 (a traceback is what is looked for)
            answer = f"traceback: {traceback.format_exc()}"
        connection.send((answer, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class Worker:
    """One process that examines files; a new one takes over when it dies or hangs."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def examine(self, path: Path, seconds: float = TIMEOUT) -> str:
        """The answer, ``died: CODE`` or ``hung``."""
        self._here.send(str(path.absolute()))
        try:
            if self._here.poll(seconds):
                answer, peak = self._here.recv()
                self.peak_bytes = max(self.peak_bytes, peak)
                return str(answer)
            answer = "hung"
        except EOFError:
            self._process.join()
            answer = f"died: {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        self._start()
        return str(answer)

    def close(self) -> None:
        """End the process."""
        self._here.send(None)
        self._process.join(10)
