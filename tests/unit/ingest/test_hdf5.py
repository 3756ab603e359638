"""Damaged HDF5 structures are refused before the library sees them."""

import numpy as np
import pytest
from reliability.faults import netcdf, water

from eo_causal.errors import IntegrityError
from eo_causal.ingest.hdf5 import check_heaps
from eo_causal.ingest.read import read_header


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A good file."""
    monkeypatch.chdir(tmp_path)
    return netcdf(water(np.random.default_rng(4)))


def test_a_heap_that_leads_nowhere_is_refused_before_the_library_loops(path):
    data = bytearray(path.read_bytes())
    start = data.find(b"GCOL")
    data[start + 16 : start + 200] = bytes(184)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=f"heap at byte {start} is damaged"):
        read_header(path)


def test_good_and_cut_files_pass_on_to_the_library(path):
    check_heaps(path)
    data = path.read_bytes()
    for end in (0, data.find(b"GCOL") + 12, data.find(b"GCOL") + 50):
        path.write_bytes(data[:end])
        check_heaps(path)
