"""Faults of raster files and stores, one generator a class, values fresh in every run.

A generator is called in an empty working folder that holds nothing but what it writes. One that is
registered with ``@refused`` returns a :class:`Refusal`: the command that meets the fault and how it
must end. One that is registered with ``@handled`` returns a :class:`Handling`: the truth.
Repeat a run with ``EO_CAUSAL_FAULT_SEED=NUMBER``.
"""

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr

from eo_causal import errors
from eo_causal.core.artefacts import list_files, sha256_file, sha256_json
from eo_causal.simulate.rasters import write_convention

SEED = int(os.environ.get("EO_CAUSAL_FAULT_SEED") or random.SystemRandom().randrange(10**6))
STEP = 1 / 24
STUDY = """
pipeline: water_clarity
data: {{files: ["{pattern}"]}}
zones: {{impact: [{west}, -2.2, {east}, -2.05], control: [{west}, -2.35, {east}, -2.2]}}
impact: {{intervention: 2009-01, engine: exact, covariates: [kd490]}}
"""
RUN = ("run", "study.yaml")


@dataclass(frozen=True)
class Refusal:
    """How a command must end: error class, words of its line, and facts it must keep."""

    error: type[errors.EOCausalError]
    words: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = RUN


@dataclass(frozen=True)
class Handling:
    """What reading must return, and the code of the warning it must give."""

    paths: list[Path]
    truth: xr.DataArray
    tolerance: float = 0.0
    warning: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


Chance = np.random.Generator
REFUSED: dict[str, Callable[[Chance], Refusal]] = {}
HANDLED: dict[str, Callable[[Chance], Handling]] = {}


def refused(function: Callable[[Chance], Refusal]) -> Callable[[Chance], Refusal]:
    """Register a generator of a fault that must be refused."""
    REFUSED[function.__name__] = function
    return function


def handled(function: Callable[[Chance], Handling]) -> Callable[[Chance], Handling]:
    """Register a generator of a fault that must be handled."""
    HANDLED[function.__name__] = function
    return function


def water(chance: Chance, n_months: int = 24) -> xr.DataArray:
    """Clear water with clouds somewhere on the equator."""
    values = np.exp(chance.normal(-3, 0.2, (n_months, 9, 12))).astype(np.float32).clip(0.02)
    values[chance.random(values.shape) < 0.1] = np.nan
    cells = np.arange(12) + 0.5
    return xr.DataArray(
        values, dims=("time", "y", "x"), name="kd490", attrs={"units": "m-1"},
        coords={
            "time": pd.date_range("2008-01", periods=n_months, freq="MS", unit="ns"),
            "latitude": ("y", -2.0 - STEP * cells[:9]),
            "longitude": ("x", float(chance.integers(-170, 170)) + STEP * cells),
        },
    )  # fmt: skip


def study(cube: xr.DataArray, pattern: str) -> None:
    """Write the config of a study over the cube's area."""
    west, east = float(cube["longitude"].min()), float(cube["longitude"].max())
    Path("study.yaml").write_text(STUDY.format(pattern=pattern, west=west, east=east))


def netcdf(cube: xr.DataArray, change: Callable[[Any], None] = lambda dataset: None) -> Path:
    """A plain NetCDF file with its study, changed by ``change(dataset)``."""
    [path] = write_convention(Path.cwd(), cube, "generic")
    with netCDF4.Dataset(path, "a") as dataset:
        dataset.set_auto_maskandscale(False)
        change(dataset)
    study(cube, path.name)
    return path


def attributes(cube: xr.DataArray, **values: Any) -> Path:
    """A NetCDF file whose variable has other attributes."""
    return netcdf(cube, lambda dataset: dataset["kd490"].setncatts(values))


def store(cube: xr.DataArray, zarr_format: int, **encoding: Any) -> Path:
    """A Zarr store as xarray writes it, with its study."""
    grid = cube.swap_dims(y="latitude", x="longitude").to_dataset(name="kd490")
    chunks = {"chunks": (6, 9, 12), **encoding}
    options: dict[str, Any] = {"zarr_format": zarr_format, "consolidated": False}
    grid.to_zarr("kd490.zarr", encoding={"kd490": chunks}, **options)
    study(cube, "kd490.zarr")
    return Path("kd490.zarr")


def blocks(path: Path) -> list[Path]:
    """Files that hold the values of a store's variable."""
    return sorted(item for item in (path / "kd490").rglob("*[0-9]") if item.is_file())


def seal(path: Path) -> str:
    """Put the file's hash beside it."""
    digest = sha256_json(list_files(path)) if path.is_dir() else sha256_file(path)
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    return digest


def edit_json(path: Path, **changes: Any) -> None:
    """Overwrite keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@refused
def file_ends_early(chance):
    path = netcdf(water(chance))
    os.truncate(path, int(path.stat().st_size * chance.uniform(0.1, 0.9)))
    return Refusal(errors.ReadError, ("kd490.nc", "fetch it again"))


@refused
def one_bit_flipped_under_a_known_hash(chance):
    path = netcdf(water(chance))
    digest, data = seal(path), bytearray(path.read_bytes())
    data[chance.integers(len(data))] ^= 1 << int(chance.integers(8))
    path.write_bytes(data)
    # a flip in the first bytes makes it no NetCDF at all, which is refused before it is hashed
    return Refusal(
        errors.DataError, ("kd490.nc",), {"expected": digest} if data[:4] == b"\x89HDF" else {}
    )


@refused
def zeros_at_the_end_under_a_known_hash(chance):
    path = netcdf(water(chance))
    digest, data = seal(path), path.read_bytes()
    start = int(len(data) * chance.uniform(0.3, 0.9))
    path.write_bytes(data[:start] + bytes(len(data) - start))
    return Refusal(errors.IntegrityError, ("kd490.nc", "sha256"), {"expected": digest})


@refused
def an_empty_hash_file(chance):
    path = netcdf(water(chance))
    path.with_name("kd490.nc.sha256").touch()
    return Refusal(errors.IntegrityError, ("kd490.nc", "sha256"))


@refused
def a_changed_block_in_a_sealed_store(chance):
    path = store(water(chance), int(chance.choice([2, 3])))
    seal(path)
    block = blocks(path)[chance.integers(4)]
    data = bytearray(block.read_bytes())
    data[chance.integers(len(data))] ^= 1
    block.write_bytes(data)
    return Refusal(errors.IntegrityError, ("kd490.zarr", "sha256"))


@refused
def a_missing_block_without_a_fill_value(chance):
    cube = (water(chance).fillna(0.05) * 10_000).astype("i2")
    path = store(cube.assign_attrs(units="m-1"), 3)
    blocks(path)[chance.integers(4)].unlink()
    return Refusal(errors.IntegrityError, ("kd490.zarr", "1 of 4 blocks"), {"variable": "kd490"})


@refused
def a_damaged_compressed_block(chance):
    path = store(water(chance), 3)
    for block in blocks(path):
        os.truncate(block, int(chance.integers(4, 200)))
    return Refusal(errors.ReadError, ("kd490.zarr", "kd490", "fetch it again"))


@refused
def a_virtual_raster_under_a_plain_name(chance):
    study(water(chance), "*.tif")
    Path("water.tif").write_text('<VRTDataset rasterXSize="1"><SourceFilename>/etc/passwd'
                                 "</SourceFilename></VRTDataset>")  # fmt: skip
    return Refusal(errors.ReadError, ("water.tif", "neither NetCDF"))


@refused
def a_web_page_under_a_data_name(chance):
    study(water(chance), "*.nc")
    Path("water.nc").write_text("<!doctype html><title>Please log in</title>")
    return Refusal(errors.ReadError, ("water.nc", "neither NetCDF"))


@refused
def an_hdf4_file(chance):
    study(water(chance), "*.hdf")
    Path("water.hdf").write_bytes(b"\x0e\x03\x13\x01" + chance.bytes(100))
    return Refusal(errors.ReadError, ("water.hdf", "Convert it"), {"kind": "hdf4"})


@refused
def a_pipe_instead_of_a_file(chance):
    os.mkfifo("water.nc")
    return Refusal(errors.ReadError, ("water.nc",), command=("inspect", "water.nc"))


@refused
def a_small_file_with_a_huge_array(chance):
    study(water(chance), "bomb.nc")
    side = int(chance.integers(20_000, 40_000))
    with netCDF4.Dataset("bomb.nc", "w") as dataset:
        for name, size in (("time", 1000), ("latitude", side), ("longitude", side)):
            dataset.createDimension(name, size)
        dims = ("time", "latitude", "longitude")
        dataset.createVariable("kd490", "f4", dims, chunksizes=(1, 100, 100))
    return Refusal(errors.ResourceLimitError, ("bomb.nc", "kd490"), {"declared": 4000 * side**2})


@refused
def a_store_with_a_huge_array(chance):
    cube = water(chance)
    path = store(cube, 2)
    edit_json(path / "kd490" / ".zarray", shape=[24, 10**6, 10**6])
    return Refusal(errors.ResourceLimitError, ("kd490.zarr", "kd490"))


@refused
def blocks_larger_than_memory(chance):
    path = store(water(chance), 2)
    side = int(chance.integers(20_000, 90_000))
    edit_json(path / "kd490" / ".zarray", chunks=[1, side, side])
    return Refusal(errors.ResourceLimitError, ("blocks of",), {"declared": 4 * side**2})


@refused
def a_codec_that_would_unpickle(chance):
    path = store(water(chance), 2)
    edit_json(path / "kd490" / ".zarray", filters=[{"id": "pickle", "protocol": 4}])
    payload = b"cposix\nmkdir\n(Vcanary\ntR."
    for block in blocks(path):
        block.write_bytes(payload)
    return Refusal(errors.DataError, ("kd490.zarr",))


@refused
def a_link_inside_a_store_to_the_outside(chance):
    path = store(water(chance), 2)
    block = blocks(path)[chance.integers(4)]
    block.unlink()
    block.symlink_to("/etc/hostname")
    return Refusal(errors.UnsafeSourceError, (block.name, "leaves its store"))


@refused
def a_link_to_the_outside(chance):
    study(water(chance), "water.nc")
    Path("water.nc").symlink_to("/etc/hostname")
    return Refusal(errors.UnsafeSourceError, ("data.roots",), {"source": str(Path("water.nc"))})


@refused
def links_in_a_circle(chance):
    Path("a.nc").symlink_to("b.nc")
    Path("b.nc").symlink_to("a.nc")
    return Refusal(errors.UnsafeSourceError, ("a.nc",), command=("inspect", "a.nc"))


@refused
def a_source_that_is_no_plain_path(chance):
    source = chance.choice(
        [
            "/vsicurl/https://data.example.org/a.tif", "/vsizip/a.zip/a.tif", 'NETCDF:"a.nc":kd490',
            "zip::https://data.example.org/a.zip", "file:///etc/passwd", "s3://bucket/a.nc",
            "http://169.254.169.254/latest", "https://127.1/a.nc", "<VRTDataset/>", "~/a.nc",
        ]
    )  # fmt: skip
    return Refusal(errors.UnsafeSourceError, (), command=("inspect", str(source)))
