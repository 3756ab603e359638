"""Stage values survive the disk unchanged, and a damaged store never reads as good data."""

from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from shapely.geometry import box

from eo_causal.core.effect import Effect
from eo_causal.core.settings import Settings
from eo_causal.core.storage import open_zarr, read_value, write_value, write_zarr
from eo_causal.errors import IntegrityError


class Choice(Settings):
    level: float = 0.95


@dataclass(frozen=True)
class Part:
    name: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Whole:
    effect: Effect
    draws: xr.Dataset | None
    table: pd.DataFrame
    parts: tuple[Part, ...]
    by_name: dict[str, Part]
    diagnostics: dict[str, Any]
    settings: Choice
    months: tuple[str, ...]
    p_value: float | None


def series() -> xr.Dataset:
    values = np.array([[1.5, np.nan, 2.5], [np.nan, np.nan, np.nan]], "f4")
    return xr.Dataset(
        {"kd490": (("zone", "time"), values, {"units": "m-1"})},
        coords={
            "zone": ["impact", "control"],
            "time": pd.date_range("1998-01", periods=3, freq="MS", unit="ns"),
        },
        attrs={"method": "ratio"},
    )


def table() -> pd.DataFrame:
    months = pd.date_range("1998-01", periods=2, freq="MS", name="time")
    return pd.DataFrame({"n": [1, 2], "text": ["a", "=b"], "x": [0.5, np.nan]}, index=months)


def whole(draws: xr.Dataset | None) -> Whole:
    part = Part("placebo", table())
    effect = Effect(0.5, None, (0.1, 0.9), 0.95, "exact", 68)
    return Whole(
        effect, draws, table(), (part, part), {"control": part}, {"ess": [1.0, None]},
        Choice(level=0.9), ("2019-05",), None,
    )  # fmt: skip


@pytest.mark.parametrize("draws", [None, series()])
def test_a_dataclass_comes_back_equal(tmp_path, draws):
    value = whole(draws)
    write_value(value, Whole, tmp_path)
    back = read_value(Whole, tmp_path)
    assert back.effect == value.effect
    assert back.settings == value.settings
    assert back.diagnostics == value.diagnostics
    assert back.months == value.months
    assert back.p_value is None
    pd.testing.assert_frame_equal(back.table, value.table, check_freq=False)
    assert [part.name for part in back.parts] == ["placebo", "placebo"]
    pd.testing.assert_frame_equal(back.by_name["control"].table, table(), check_freq=False)
    assert back.draws is None if draws is None else back.draws.load().identical(draws)


def test_arrays_and_tables_come_back_equal(tmp_path):
    cube = series()["kd490"].rename("chlorophyll").chunk(time=2)
    frame = geopandas.GeoDataFrame({"zone": ["reef"]}, geometry=[box(0, 0, 1, 1)], crs=4326)
    for name, value, kind in [
        ("cube", cube, xr.DataArray),
        ("frame", frame, geopandas.GeoDataFrame),
        ("table", table(), pd.DataFrame),
        ("nothing", {"a": [1, "b"]}, dict[str, Any]),
    ]:
        (tmp_path / name).mkdir()
        write_value(value, kind, tmp_path / name)
        back = read_value(kind, tmp_path / name)
        if name == "cube":
            assert back.load().identical(cube.load())
        elif name == "nothing":
            assert back == value
        else:
            assert back.equals(value)


def test_stale_encoding_of_a_source_file_never_wraps_values(tmp_path):
    dataset = series()
    dataset["kd490"].encoding = {"dtype": "int8", "scale_factor": 0.1, "_FillValue": -1}
    dataset["kd490"][0, 0] = 620.0
    write_zarr(dataset, tmp_path / "a.zarr")
    assert float(open_zarr(tmp_path / "a.zarr")["kd490"][0, 0]) == 620.0


def test_a_flipped_bit_is_an_error_not_a_value(tmp_path):
    write_zarr(series(), tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr" / "kd490" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(RuntimeError, match="match checksum"):
        open_zarr(tmp_path / "a.zarr").load()


def test_a_missing_chunk_is_an_error_not_fill(tmp_path):
    write_zarr(series(), tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "kd490" / "c" / "0" / "0").unlink()
    with pytest.raises(ValueError, match="not found"):
        open_zarr(tmp_path / "a.zarr").load()


def test_a_chunk_of_nothing_but_missing_values_reads_as_missing(tmp_path):
    empty = series().isel(zone=[1]).chunk(time=1)
    write_zarr(empty, tmp_path / "a.zarr")
    assert len(list((tmp_path / "a.zarr" / "kd490" / "c" / "0").iterdir())) == 3
    assert open_zarr(tmp_path / "a.zarr")["kd490"].isnull().all()


def test_what_is_no_store_is_named(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(IntegrityError, match=r"a\.zarr"):
        open_zarr(tmp_path / "a.zarr")


def test_uneven_blocks_are_written_evenly(tmp_path):
    whole = xr.Dataset({"kd490": (("time", "x"), np.arange(12.0).reshape(6, 2))})
    write_zarr(whole.chunk(time=(3, 1, 2)), tmp_path / "data.zarr")
    found = open_zarr(tmp_path / "data.zarr")
    xr.testing.assert_identical(found.load(), whole)


def test_rows_of_a_table_without_columns_survive(tmp_path):
    write_value(pd.DataFrame(index=range(5)), pd.DataFrame, tmp_path)
    assert read_value(pd.DataFrame, tmp_path).shape == (5, 0)
