"""Arrays whose blocks are written by tasks: whole blocks only, what is missing is never fill."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.storage import create_array, extend_array, read_value, write_rows, write_value
from eo_causal.errors import StorageError

SHAPE = (10, 2, 3)


def values():
    given = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    given[4:8] = np.nan
    return given


@pytest.fixture
def folder(tmp_path):
    """An array of ten rows in blocks of four, none of them written."""
    import dask.array as da

    rows = da.full(SHAPE, np.nan, dtype=np.float32, chunks=(4, 2, 3))
    array = xr.DataArray(
        rows, dims=("unit", "y", "x"), name="chips", coords={"x": [0.5, 1.5, 2.5]},
        attrs={"units": "1"},
    )  # fmt: skip
    create_array(array, tmp_path)
    return tmp_path


def filled(folder):
    for start in (8, 0, 4):
        write_rows(folder, start, values()[start : start + 4])
    return folder


def known_afterwards():
    return xr.Dataset(
        coords={
            "unit_id": ("unit", np.array([f"u{number}" for number in range(10)])),
            "datetime": ("unit", pd.date_range("2020-01-01", periods=10, unit="ns")),
        },
        attrs={"largest_snap_pixels": 0.25},
    )


def test_blocks_and_later_coordinates_come_back_as_one_array(folder):
    filled(folder)
    extend_array(known_afterwards(), folder)
    found = read_value(xr.DataArray, folder)
    np.testing.assert_array_equal(found, values())
    assert found.name == "chips"
    assert found.attrs == {"units": "1", "largest_snap_pixels": 0.25}
    assert list(found.coords) == ["x", "unit_id", "datetime"]
    assert found["unit_id"].values.tolist() == [f"u{number}" for number in range(10)]
    assert found["datetime"].dtype == np.dtype("datetime64[ns]")
    assert found.chunks[0] == (4, 4, 2)


def test_blocks_are_those_written_in_one_go(folder, tmp_path_factory):
    filled(folder)
    extend_array(known_afterwards(), folder)
    found = read_value(xr.DataArray, folder)
    other = tmp_path_factory.mktemp("other")
    write_value(found, xr.DataArray, other)
    blocks = sorted((folder / "data.zarr" / "__value__" / "c").rglob("0"))
    files = [path for path in blocks if path.is_file()]
    assert len(files) == 3
    for path in files:
        assert path.read_bytes() == (other / path.relative_to(folder)).read_bytes()
    xr.testing.assert_identical(read_value(xr.DataArray, other), found)


@pytest.mark.parametrize(("start", "number"), [(0, 3), (2, 4), (4, 5), (8, 1), (1, 9)])
def test_rows_that_do_not_fill_blocks_are_refused(folder, start, number):
    with pytest.raises(
        StorageError, match=f"rows {start} to {start + number} are no whole blocks of 4"
    ):
        write_rows(folder, start, values()[:number])


def test_several_blocks_at_once_and_again(folder):
    write_rows(folder, 0, values()[:8] + 1)
    write_rows(folder, 0, values()[:8])
    write_rows(folder, 8, values()[8:])
    extend_array(known_afterwards(), folder)
    np.testing.assert_array_equal(read_value(xr.DataArray, folder), values())


def test_a_block_that_was_never_written_is_an_error_though_one_of_nan_is_not(folder):
    write_rows(folder, 0, values()[:4])
    write_rows(folder, 4, values()[4:8])
    extend_array(known_afterwards(), folder)
    found = read_value(xr.DataArray, folder)
    assert np.isnan(found[4:8].values).all()
    with pytest.raises(Exception, match="chunk"):
        found[8:].compute()
