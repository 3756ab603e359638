"""The one loader: kinds by content, one mask rule, float32 with NaN, errors that name the file."""

import base64
import functools
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.artefacts import list_files, sha256_file, sha256_json
from eo_causal.errors import IntegrityError, ReadError, ResourceLimitError
from eo_causal.ingest.decode import decode
from eo_causal.ingest.hdf5 import check_heaps

MAX_RATIO = 1_000
MAX_ARRAY_BYTES = 2**40
MAX_CHUNK_BYTES = 2**28
_ZARR_METADATA = (".zarray", ".zattrs", ".zgroup", "zarr.json")
_HDF5_LOCK = threading.Lock()

_SIGNATURES = (
    (b"II*\0", "geotiff"), (b"MM\0*", "geotiff"), (b"II+\0", "geotiff"), (b"MM\0+", "geotiff"),
    (b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
    (b"\x89HDF", "netcdf"), (b"CDF\x01", "netcdf"), (b"CDF\x02", "netcdf"), (b"CDF\x05", "netcdf"),
    (b"\x0e\x03\x13\x01", "hdf4"),
)  # fmt: skip


def detect_kind(path: Path) -> str:
    """What a file or folder is, by its content; its name is never trusted.

    Returns
    -------
    str
        ``netcdf``, ``zarr``, ``geotiff`` or ``jpeg2000``.

    Raises
    ------
    ReadError
        Missing, HDF4, or nothing this package reads.
    """
    if os.path.isdir(path):
        if any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray")):
            return "zarr"
        raise ReadError(f"{path}: a folder that is no Zarr store.", path=str(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise ReadError(f"{path}: no regular file. Give a file or a Zarr store.", path=str(path))
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}. Check the path.", path=str(path)) from error
    kind = next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), None)
    if kind == "hdf4":
        raise ReadError(
            f"{path}: an HDF4 file, which is not supported. Convert it to NetCDF-4 first, for"
            " example with `h4toh5` or `gdal_translate -of netCDF`.", path=str(path), kind=kind,
        )  # fmt: skip
    if kind is None:
        raise ReadError(
            f"{path}: begins with {head[:4]!r}, which is neither NetCDF, HDF5, Zarr, GeoTIFF nor"
            " JPEG 2000.", path=str(path),
        )  # fmt: skip
    return kind


@dataclass(frozen=True)
class Variable:
    """An array in a file, as its header declares it."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    attrs: dict[str, Any]

    @property
    def n_bytes(self) -> int:
        """Size when decoded."""
        return int(np.prod(self.shape, dtype=float)) * self.dtype.itemsize


@dataclass(frozen=True)
class Header:
    """All that can be known of a file without reading its pixels."""

    path: Path
    kind: str
    variables: dict[str, Variable]
    attrs: dict[str, Any]
    groups: tuple[str, ...] = field(default=())


def read_header(path: Path) -> Header:
    """Open a NetCDF or Zarr source and describe it.

    Raises
    ------
    ReadError
        Cannot be opened, or is of another kind.
    IntegrityError
        A ``<file>.sha256`` lies beside it and differs.
    ResourceLimitError
        An array declared far larger than the file can hold.
    """
    kind = detect_kind(path)
    verify_sidecar(path)
    if kind == "netcdf":
        header = _netcdf_header(path)
    elif kind == "zarr":
        header = _zarr_header(path)
    else:
        raise ReadError(
            f"{path}: a {kind} file; a time series is read from NetCDF or Zarr.", path=str(path)
        )
    _check_sizes(header)
    return header


def verify_sidecar(path: Path, sha256: str | None = None) -> None:
    """Compare a file with an expected hash, given or in ``<file>.sha256``.

    The hash of a folder (a Zarr store) is that of the list of its files and their hashes.

    Raises
    ------
    IntegrityError
        The hashes differ; the file is not used.
    """
    sidecar = path.with_name(path.name + ".sha256")
    if sha256 is None and sidecar.is_file():
        sha256 = (sidecar.read_text(encoding="ascii", errors="replace").split() or [""])[0]
    if sha256 is not None and _sha256(path) != sha256.lower():
        raise IntegrityError(
            f"{path}: its sha256 is not {sha256[:16]}... as expected. Download it again.",
            path=str(path), expected=sha256,
        )  # fmt: skip


def _metadata_stamp(folder: Path) -> tuple[int, ...]:
    """Times and sizes of an array's metadata files: another stamp, another array."""
    found = (folder / name for name in _ZARR_METADATA)
    states = [path.stat() for path in found if path.is_file()]
    return tuple(value for state in states for value in (state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=16)
def _zarr_array(path: Path, name: str, stamp: tuple[int, ...]) -> Any:
    """An open array; opening takes longer than reading a small slice."""
    import zarr

    return zarr.open_group(path, mode="r")[name]


@dataclass(frozen=True)
class FileArray:
    """A variable that decodes itself slice by slice; what dask tasks hold instead of data.

    Slicing returns float32 with NaN wherever a value is fill, outside its declared valid range,
    infinite or beyond 1e30. Scale and offset are applied after the cast.
    """

    path: Path
    kind: str
    variable: Variable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the file."""
        return self.variable.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type after decoding."""
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """Number of dimensions in the file."""
        return len(self.variable.shape)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        raw = read_raw(self.path, self.kind, self.variable.name, key)
        source = f"{self.path}: variable {self.variable.name!r}"
        return decode(raw, self.variable.attrs, source, reuse=raw.flags.writeable)


def read_raw(path: Path, kind: str, name: str, key: Any = ...) -> NDArray[Any]:
    """Raw values of one slice, neither masked nor scaled.

    Raises
    ------
    ReadError
        The slice cannot be decoded; names file, variable and slice.
    """
    try:
        if kind == "zarr":
            return np.asarray(_zarr_array(path, name, _metadata_stamp(path / name))[key])
        with _netcdf(path) as dataset:
            return np.asarray(dataset[name][key])
    except Exception as error:
        raise ReadError(
            f"{path}: variable {name!r}, slice {_shown(key)}, cannot be decoded ({error}). The file"
            " is damaged or ends early; fetch it again.", path=str(path), variable=name,
        ) from error  # fmt: skip


@contextmanager
def _netcdf(path: Path) -> Iterator[Any]:
    """An open netCDF4 file with automatic masking off; HDF5 allows one thread at a time."""
    import netCDF4

    with _HDF5_LOCK, netCDF4.Dataset(path, mode="r") as dataset:
        dataset.set_auto_maskandscale(False)
        yield dataset


def _netcdf_header(path: Path) -> Header:
    import netCDF4

    check_heaps(path)
    try:
        with _netcdf(path) as dataset:
            variables = {}
            named = dict(dataset.variables)
            for group in dataset.groups.values():
                named |= {f"{group.name}/{name}": item for name, item in group.variables.items()}
            for name, item in named.items():
                chunking = item.chunking()
                chunks = item.shape if chunking in ("contiguous", None) else tuple(chunking)
                attrs = {key: item.getncattr(key) for key in item.ncattrs()}
                dtype = np.dtype(item.dtype if item.dtype is not str else "O")
                if dtype.kind in "iu" and dtype.itemsize > 1:  # what was never written reads so
                    attrs.setdefault("_FillValue", netCDF4.default_fillvals[dtype.str[1:]])
                variables[name] = Variable(name, item.dimensions, item.shape, dtype, chunks, attrs)
            attrs = {key: dataset.getncattr(key) for key in dataset.ncattrs()}
            return Header(path, "netcdf", variables, attrs, tuple(dataset.groups))
    except Exception as error:
        raise ReadError(
            f"{path}: cannot be opened as NetCDF ({error}). The file is damaged or ends early; fetch"
            " it again.", path=str(path),
        ) from error  # fmt: skip


def _zarr_header(path: Path) -> Header:
    import zarr

    try:
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        variables = {}
        for name, item in group.arrays():
            attrs: dict[str, Any] = dict(item.attrs)
            named: Any = attrs.pop("_ARRAY_DIMENSIONS", None)
            dims = tuple(named or getattr(item.metadata, "dimension_names", None) or ())
            declares_fill = item.dtype.kind == "f" or item.metadata.zarr_format == 2
            if isinstance(attrs.get("_FillValue"), str):
                attrs["_FillValue"] = _encoded_fill(attrs["_FillValue"])
            elif "_FillValue" not in attrs and declares_fill and item.fill_value is not None:
                attrs["_FillValue"] = item.fill_value
            if item.ndim > 1 and not {"_FillValue", "missing_value"} & set(attrs):
                _check_blocks(path, name, item)
            variables[name] = Variable(name, dims, item.shape, item.dtype, item.chunks, attrs)
        return Header(path, "zarr", variables, dict(group.attrs))
    except IntegrityError:
        raise
    except Exception as error:
        raise ReadError(
            f"{path}: cannot be opened as Zarr ({error}). The store is damaged; fetch it again.",
            path=str(path),
        ) from error


def _check_blocks(path: Path, name: str, item: Any) -> None:
    """Refuse a Zarr array with absent blocks and no fill value: they would be read as numbers."""
    blocks = zip(item.shape, item.shards or item.chunks, strict=True)
    n_blocks = math.prod(math.ceil(size / max(block, 1)) for size, block in blocks)
    files = (found for found in (path / name).rglob("*") if found.is_file())
    n_files = sum(found.name not in _ZARR_METADATA for found in files)
    if n_files < n_blocks:
        raise IntegrityError(
            f"{path}: variable {name!r} lacks {n_blocks - n_files} of {n_blocks} blocks and declares"
            " no fill value. Fetch the store again.", path=str(path), variable=name,
        )  # fmt: skip


def _encoded_fill(text: str) -> Any:
    """A fill value in JSON text: xarray writes floats as base64 of eight bytes."""
    try:
        return float(text)
    except ValueError:
        return np.frombuffer(base64.b64decode(text), "<f8")[0]


def _sha256(path: Path) -> str:
    return sha256_json(list_files(path)) if path.is_dir() else sha256_file(path)


def _check_sizes(header: Header) -> None:
    path = header.path
    on_disk = (
        path.stat().st_size
        if path.is_file()
        else sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    )
    for variable in header.variables.values():
        too_large = variable.n_bytes > MAX_ARRAY_BYTES
        chunk_bytes = int(np.prod(variable.chunks, dtype=float)) * variable.dtype.itemsize
        if chunk_bytes > max(MAX_CHUNK_BYTES, variable.n_bytes):
            raise ResourceLimitError(
                f"{path}: variable {variable.name!r} has blocks of {chunk_bytes:,} bytes, more than"
                f" {MAX_CHUNK_BYTES:,}. Such a file is refused.", path=str(path),
                variable=variable.name, declared=chunk_bytes,
            )  # fmt: skip
        too_sparse = variable.n_bytes > 2**26 and variable.n_bytes / max(on_disk, 1) > MAX_RATIO
        if too_large or too_sparse:
            raise ResourceLimitError(
                f"{path}: variable {variable.name!r} declares {variable.n_bytes:,} bytes in a file"
                f" of {on_disk:,}. Such a file is refused.", path=str(path), variable=variable.name,
                declared=variable.n_bytes, on_disk=on_disk,
            )  # fmt: skip


def _shown(key: Any) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return ", ".join(
        f"{part.start}:{part.stop}" if isinstance(part, slice) else str(part) for part in parts
    )
