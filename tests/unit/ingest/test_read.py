"""Files are what they contain; damage, wrong hashes and impossible sizes end in a named error."""

import hashlib

import netCDF4
import numpy as np
import pytest
import zarr

from eo_causal.core.sources import SourcePolicy
from eo_causal.errors import (
    IntegrityError,
    ReadError,
    ResourceLimitError,
    UnsafeSourceError,
)
from eo_causal.ingest.decode import decode, valid_mask
from eo_causal.ingest.inspect import inspect_file
from eo_causal.ingest.read import (
    FileArray,
    detect_kind,
    read_header,
    verify_sidecar,
)


@pytest.fixture
def path(tmp_path):
    """A small packed NetCDF file."""
    with netCDF4.Dataset(tmp_path / "water.nc", "w") as dataset:
        dataset.createDimension("time", 4)
        dataset.createDimension("x", 50)
        variable = dataset.createVariable("kd490", "i2", ("time", "x"), fill_value=-1, zlib=True)
        variable.set_auto_maskandscale(False)
        variable.scale_factor, variable.add_offset = 0.001, 0.5
        variable[:] = np.arange(200).reshape(4, 50)
        variable[0, 0] = -1
    return tmp_path / "water.nc"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"II*\0", "geotiff"), (b"MM\0+", "geotiff"), (b"\x89HDF\r\n", "netcdf"),
        (b"CDF\x05", "netcdf"), (b"\0\0\0\x0cjP  \r\n", "jpeg2000"),
    ],
)  # fmt: skip
def test_kind_is_what_the_first_bytes_say(tmp_path, head, kind):
    path = tmp_path / "misleading.csv"
    path.write_bytes(head + bytes(20))
    assert detect_kind(path) == kind


@pytest.mark.parametrize(
    ("head", "words"),
    [(b"\x0e\x03\x13\x01", "HDF4"), (b"PK\x03\x04", "neither NetCDF"), (b"", "neither NetCDF")],
)
def test_other_kinds_are_refused(tmp_path, head, words):
    (tmp_path / "file.nc").write_bytes(head)
    with pytest.raises(ReadError, match=words):
        detect_kind(tmp_path / "file.nc")


def test_a_folder_must_be_a_store_and_a_path_must_exist(tmp_path):
    with pytest.raises(ReadError, match="no Zarr store"):
        detect_kind(tmp_path)
    with pytest.raises(ReadError, match="No such file"):
        detect_kind(tmp_path / "absent.nc")
    zarr.open_group(tmp_path / "store", mode="w")
    assert detect_kind(tmp_path / "store") == "zarr"


def test_values_are_masked_then_cast_then_scaled(path):
    header = read_header(path)
    values = FileArray(path, header.kind, header.variables["kd490"])[...]
    assert values.dtype == np.float32
    assert np.isnan(values[0, 0])
    expected = np.arange(200, dtype=np.float32).reshape(4, 50) * np.float32(0.001) + np.float32(0.5)
    np.testing.assert_array_equal(values.ravel()[1:], expected.ravel()[1:])


@pytest.mark.parametrize(
    ("attrs", "valid"),
    [
        ({"_FillValue": 3}, [1, 1, 1, 0, 1]),
        ({"missing_value": [0, 4]}, [0, 1, 1, 1, 0]),
        ({"valid_min": 1, "valid_max": 3}, [0, 1, 1, 1, 0]),
        ({"valid_range": [2, 9]}, [0, 0, 1, 1, 1]),
        ({}, [1, 1, 1, 1, 1]),
    ],
)
def test_one_mask_rule(attrs, valid):
    assert valid_mask(np.arange(5), attrs).astype(int).tolist() == valid


def test_integers_do_not_wrap_around():
    assert decode(np.array([200], np.uint8), {"scale_factor": 2.0})[0] == 400


def test_a_known_hash_is_always_checked(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar = path.with_name("water.nc.sha256")
    sidecar.write_text(f"{digest}  water.nc\n")
    read_header(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="sha256") as caught:
        read_header(path)
    assert caught.value.facts["expected"] == digest
    sidecar.unlink()
    with pytest.raises(IntegrityError):
        verify_sidecar(path, digest)


def test_a_truncated_file_names_itself(path):
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ReadError, match=r"water\.nc.*damaged or ends early"):
        read_header(path)


def test_a_small_file_may_not_declare_a_huge_array(tmp_path):
    path = tmp_path / "bomb.nc"
    with netCDF4.Dataset(path, "w") as dataset:
        for name, size in (("time", 1000), ("y", 10_000), ("x", 10_000)):
            dataset.createDimension(name, size)
        dataset.createVariable("kd490", "f4", ("time", "y", "x"), chunksizes=(1, 100, 100))
    with pytest.raises(ResourceLimitError) as caught:
        read_header(path)
    assert caught.value.facts["declared"] == 4 * 10**11
    assert caught.value.exit_code == 4


def test_inspection_gives_facts_and_a_hash_of_values(path, tmp_path):
    policy = SourcePolicy((tmp_path,))
    found = inspect_file(path, policy)
    assert found["shape"] == [4, 50]
    assert (found["n_valid"], found["n_masked"]) == (199, 1)
    assert found["maximum"] == pytest.approx(0.699, abs=1e-6)
    assert inspect_file(path, policy)["sha256"] == found["sha256"]
    with pytest.raises(IntegrityError):
        inspect_file(path, policy, sha256="0" * 64)
    with pytest.raises(UnsafeSourceError):
        inspect_file(path, SourcePolicy((tmp_path / "in",)))


@pytest.mark.parametrize("attrs", [{}, {"_FillValue": np.float32("nan")}, {"_FillValue": -999.0},
                                   {"valid_min": 0.0}, {"missing_value": [-999.0, 7.0]}])  # fmt: skip
@pytest.mark.parametrize(
    "odd", [np.nan, np.inf, -np.inf, 2e30, -2e30, np.finfo(np.float32).max, -999.0, 7.0, 0.5]
)
def test_floats_are_masked_alike_on_every_way(attrs, odd):
    raw = np.random.default_rng(0).random((3, 40), dtype=np.float32)
    raw[1, 7] = odd
    kept = raw.copy()
    expected = np.where(valid_mask(raw, attrs), raw, np.float32(np.nan))
    np.testing.assert_array_equal(decode(raw, attrs), expected)
    np.testing.assert_array_equal(raw, kept)
    np.testing.assert_array_equal(decode(raw.copy(), attrs, reuse=True), expected)
