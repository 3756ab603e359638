"""Stage values to open formats and back, chosen by the type a stage function declares.

xarray becomes Zarr v3 (NaN fill, checksummed chunks, every chunk written), a DataFrame Parquet, a
GeoDataFrame GeoParquet, a dataclass one JSON file plus a folder for each field that is no JSON.
No pickles; nothing on disk decides what is imported.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Union

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter

from eo_causal.errors import IntegrityError, StorageError

_UNNAMED = "__value__"
_ORDER = "__order__"


def write_value(value: Any, declared: Any, folder: Path) -> None:
    """Write one stage value below ``folder``.

    Parameters
    ----------
    value : object
        What the stage returned.
    declared : type
        The return annotation; decides the format.
    folder : Path
        Existing, empty folder.
    """
    declared = _unwrap_optional(declared, value)
    if declared is xr.DataArray:
        write_zarr(_as_dataset(value), folder / "data.zarr")
    elif declared is xr.Dataset:
        write_zarr(value, folder / "data.zarr")
    elif _is_geo(declared) or declared is pd.DataFrame:
        # a table without columns has rows only as far as its index is written
        value.to_parquet(folder / "table.parquet", index=None if len(value.columns) else True)
    elif dataclasses.is_dataclass(declared):
        _write_fields(value, declared, folder)
    elif _is_collection_of_complex(declared):
        _write_collection(value, declared, folder)
    else:
        text = TypeAdapter(declared).dump_json(value, indent=1)
        (folder / "value.json").write_bytes(text)


def read_value(declared: Any, folder: Path) -> Any:
    """Read what :func:`write_value` wrote; arrays come back lazily (dask)."""
    if (folder / "none").exists():
        return None
    declared = _strip_optional(declared)
    if declared is xr.DataArray:
        dataset = open_zarr(folder / "data.zarr")
        array = dataset[_UNNAMED]
        return array.rename(dataset.attrs["array_name"] or None)
    if declared is xr.Dataset:
        return open_zarr(folder / "data.zarr")
    if _is_geo(declared):
        import geopandas

        return geopandas.read_parquet(folder / "table.parquet")
    if declared is pd.DataFrame:
        return pd.read_parquet(folder / "table.parquet")
    if dataclasses.is_dataclass(declared):
        return _read_fields(declared, folder)
    if _is_collection_of_complex(declared):
        return _read_collection(declared, folder)
    return TypeAdapter(declared).validate_json((folder / "value.json").read_bytes())


def write_zarr(dataset: xr.Dataset, path: Path) -> None:
    """Write a Zarr v3 store: NaN fill, Zstandard with checksum, empty chunks written.

    Stale encodings from source files are dropped first, because they would wrap values. The order
    of variables is stored, because a store lists them in any order.
    """
    _to_zarr(dataset, path, [str(name) for name in dataset.variables], mode="w-")


def create_array(array: xr.DataArray, folder: Path) -> None:
    """Store an array as :func:`write_value` does, but none of its dask blocks: tasks write those.

    See :func:`write_rows` for the blocks and :func:`extend_array` for what is known only afterwards.
    """
    dataset = _as_dataset(array)
    order = [str(name) for name in dataset.variables]
    _to_zarr(dataset, folder / "data.zarr", order, mode="w-", compute=False)


def write_rows(folder: Path, start: int, values: NDArray[Any]) -> None:
    """Write rows ``start``, ... of an array: whole blocks, so that tasks never meet.

    Raises
    ------
    StorageError
        The rows do not fill blocks: two tasks could write to one, and lose what the other wrote.
    """
    import zarr

    with zarr.config.set({"array.write_empty_chunks": True}):
        array: Any = zarr.open_group(folder / "data.zarr", mode="r+")[_UNNAMED]
        rows, end = array.chunks[0], start + len(values)
        if start % rows or (end % rows and end != array.shape[0]):
            raise StorageError(
                f"{folder}: rows {start} to {end} are no whole blocks of {rows}.", path=str(folder)
            )
        array[start:end] = values


def extend_array(coordinates: xr.Dataset, folder: Path) -> None:
    """Add coordinates and attributes to an array of :func:`create_array`."""
    import zarr

    group: Any = zarr.open_group(folder / "data.zarr", mode="r+")
    group[_UNNAMED].attrs.update(coordinates.attrs)
    order = [*group.attrs[_ORDER], *map(str, coordinates.variables)]
    plain = coordinates.copy()
    plain.attrs = {"array_name": group.attrs["array_name"]}
    _to_zarr(plain, folder / "data.zarr", order, mode="a")


def _as_dataset(array: xr.DataArray) -> xr.Dataset:
    return array.to_dataset(name=_UNNAMED).assign_attrs(array_name=array.name or "")


def _to_zarr(dataset: xr.Dataset, path: Path, order: list[str], **how: Any) -> None:
    from zarr.codecs import ZstdCodec

    clean = _evenly_chunked(dataset).drop_encoding().assign_attrs({_ORDER: order})
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in clean.variables.items():
        encoding[str(name)] = {"compressors": (ZstdCodec(level=3, checksum=True),)}
        if variable.dtype.kind == "f":
            encoding[str(name)]["_FillValue"] = np.array(np.nan, variable.dtype)[()]
    clean.to_zarr(
        path, zarr_format=3, consolidated=False, encoding=encoding, write_empty_chunks=True, **how
    )


def _evenly_chunked(dataset: xr.Dataset) -> xr.Dataset:
    """Blocks of one size per dimension, the largest there is; Zarr knows no others."""
    unified = dataset.unify_chunks()
    largest = {dimension: max(sizes) for dimension, sizes in unified.chunksizes.items()}
    return unified.chunk(largest) if largest else unified


def open_zarr(path: Path) -> xr.Dataset:
    """Open a store of :func:`write_zarr` lazily; a missing chunk is an error, never fill.

    Raises
    ------
    IntegrityError
        When the store cannot be opened. A damaged chunk raises when it is read.
    """
    import zarr

    try:
        with zarr.config.set({"array.read_missing_chunks": False}):
            dataset = xr.open_zarr(path, consolidated=False, chunks={})
        order = dataset.attrs.pop(_ORDER)
        coordinates = {name: dataset[name].variable for name in order if name in dataset.coords}
        values = {name: dataset[name].variable for name in order if name in dataset.data_vars}
        return xr.Dataset(values, coordinates, dataset.attrs)
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(
            f"{path}: not a readable Zarr store ({error}). Run again to compute it anew.",
            path=str(path),
        ) from error


def _unwrap_optional(declared: Any, value: Any) -> Any:
    stripped = _strip_optional(declared)
    return type(value) if stripped is Any else stripped


def _strip_optional(declared: Any) -> Any:
    if typing.get_origin(declared) in (Union, types.UnionType):
        options = [kind for kind in typing.get_args(declared) if kind is not type(None)]
        if len(options) == 1:
            return options[0]
    return declared


def _is_geo(declared: Any) -> bool:
    return getattr(declared, "__name__", "") == "GeoDataFrame"


def _is_complex(declared: Any) -> bool:
    """Whether a type needs files of its own instead of a place in a JSON file."""
    declared = _strip_optional(declared)
    if declared in (xr.DataArray, xr.Dataset, pd.DataFrame) or _is_geo(declared):
        return True
    if dataclasses.is_dataclass(declared):
        hints = typing.get_type_hints(declared)
        return any(_is_complex(kind) for kind in hints.values())
    return _is_collection_of_complex(declared)


def _is_collection_of_complex(declared: Any) -> bool:
    if typing.get_origin(declared) not in (tuple, list, dict):
        return False
    return any(_is_complex(kind) for kind in typing.get_args(declared) if kind is not Ellipsis)


def _write_fields(value: Any, declared: Any, folder: Path) -> None:
    simple: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(declared).items():
        item = getattr(value, name)
        if _is_complex(kind):
            _write_part(item, kind, folder / name)
        else:
            simple[name] = TypeAdapter(kind).dump_python(item, mode="json")
    (folder / "value.json").write_text(json.dumps(simple, indent=1, allow_nan=False))


def _read_fields(declared: Any, folder: Path) -> Any:
    simple = json.loads((folder / "value.json").read_text())
    fields: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(declared).items():
        if _is_complex(kind):
            fields[name] = read_value(kind, folder / name)
        else:
            fields[name] = TypeAdapter(kind).validate_python(simple[name])
    return declared(**fields)


def _write_collection(value: Any, declared: Any, folder: Path) -> None:
    kind = typing.get_args(declared)[-1 if typing.get_origin(declared) is dict else 0]
    keys = list(value) if isinstance(value, dict) else []
    items = list(value.values()) if isinstance(value, dict) else list(value)
    (folder / "value.json").write_text(json.dumps({"n": len(items), "keys": keys}))
    for position, item in enumerate(items):
        _write_part(item, kind, folder / str(position))


def _read_collection(declared: Any, folder: Path) -> Any:
    origin = typing.get_origin(declared)
    kind = typing.get_args(declared)[-1 if origin is dict else 0]
    index = json.loads((folder / "value.json").read_text())
    items = [read_value(kind, folder / str(position)) for position in range(index["n"])]
    return dict(zip(index["keys"], items, strict=True)) if origin is dict else origin(items)


def _write_part(value: Any, declared: Any, folder: Path) -> None:
    folder.mkdir()
    if value is None:
        (folder / "none").touch()
    else:
        write_value(value, declared, folder)


def settings_json(settings: BaseModel) -> dict[str, Any]:
    """A settings model as a JSON value, the form that enters cache keys."""
    return settings.model_dump(mode="json")
