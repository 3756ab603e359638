"""Bins of the integerised sinusoidal grid: numbers to places and back, sums to means."""

import netCDF4
import numpy as np
import pytest

from eo_causal.errors import IntegrityError, ReadError
from eo_causal.ingest.binned import BinGrid, read_bins
from eo_causal.ingest.ocean_color import OceanColorSettings, read_ocean_variable

ROWS = np.array([3, 8, 12, 12, 8, 3])
GRID = BinGrid(ROWS)


def write_bins(path, bins, sums, weights):
    """A binned file of six rows, written as the producer does."""
    with netCDF4.Dataset(path, "w") as dataset:
        group = dataset.createGroup("level-3_binned_data")
        group.createDimension("list", len(bins))
        group.createDimension("index", len(ROWS))
        listed = np.zeros(len(bins), [("bin_num", "u4"), ("weights", "f4")])
        listed["bin_num"], listed["weights"] = bins, weights
        index = np.zeros(len(ROWS), [("start_num", "u4"), ("max", "u4")])
        index["max"] = ROWS
        data = np.zeros(len(bins), [("sum", "f4"), ("sum_squared", "f4")])
        data["sum"] = sums
        for name, values, dimension in (
            ("BinList", listed, "list"), ("BinIndex", index, "index"), ("Kd_490", data, "list"),
        ):  # fmt: skip
            kind = group.createCompoundType(values.dtype, f"{name}_type")
            group.createVariable(name, kind, (dimension,))[:] = values
        dataset.units = "angstrom:undefined,Kd_490:m^-1"
        dataset.processing_level = "L3 Binned"


@pytest.fixture
def path(tmp_path):
    name = tmp_path / "S20080012008031.L3b_MO_KD490.nc"
    write_bins(name, [25, 4, 12], [0.8, 0.1, 0.3], [4.0, 1.0, 2.0])
    return name


def test_every_bin_is_found_at_its_own_centre():
    bins = np.arange(1, ROWS.sum() + 1)
    latitude, longitude = GRID.centres(bins)
    np.testing.assert_array_equal(GRID.bin_at(latitude, longitude), bins)
    assert latitude[0] == -75
    assert longitude[:3].tolist() == [-120, 0, 120]


def test_means_are_sums_over_weights_in_order(path):
    bins, means, grid = read_bins(path, "Kd_490")
    assert bins.tolist() == [4, 12, 25]
    np.testing.assert_allclose(means, [0.1, 0.15, 0.2], rtol=1e-6)
    assert grid.bins_in_row.tolist() == ROWS.tolist()


def test_grid_cells_take_the_bin_they_lie_in(path):
    cube = read_ocean_variable("kd_490", [path], OceanColorSettings())
    assert cube.shape == (1, 6, 12)
    assert (cube.attrs["convention"], cube.attrs["units"]) == ("obpg_l3b", "m^-1")
    assert str(cube["time"].values[0])[:10] == "2008-01-01"
    values = cube.to_numpy()[0]
    latitude, longitude = np.meshgrid(cube["latitude"], cube["longitude"], indexing="ij")
    wanted = GRID.bin_at(latitude, longitude)
    means = {4: 0.1, 12: 0.15, 25: 0.2}
    expected = np.vectorize(lambda number: means.get(number, np.nan))(wanted)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_bounds_limit_the_grid_before_reading(path):
    whole = read_ocean_variable("Kd_490", [path], OceanColorSettings())
    part = read_ocean_variable("Kd_490", [path], OceanColorSettings(bounds=(-100, -70, 100, 10)))
    inside = whole.where((abs(whole.longitude) <= 100) & (whole.latitude <= 10)
                         & (whole.latitude >= -70), drop=True)  # fmt: skip
    np.testing.assert_array_equal(part, inside)


def test_an_absent_variable_and_impossible_bins_are_refused(path, tmp_path):
    with pytest.raises(ReadError, match="it has Kd_490"):
        read_ocean_variable("chlor_a", [path], OceanColorSettings())
    bad = tmp_path / "S2008001.L3b_DAY_KD490.nc"
    write_bins(bad, [999], [1.0], [1.0])
    with pytest.raises(IntegrityError, match="do not fit its grid"):
        read_bins(bad, "Kd_490")
