"""Files of real producers, read by the one loader to their documented numbers."""

import numpy as np
import pytest

from eo_causal.errors import EOCausalWarning, ReadError
from eo_causal.ingest.binned import read_bins
from eo_causal.ingest.ocean_color import OceanColorSettings, read_ocean_variable
from eo_causal.ingest.read import read_header

FILES = {
    "l3m": "nasa_obpg/S20080012008031.L3m_MO_CHL_chlor_a_9km.nc",
    "l3b": "nasa_obpg/S2008001.L3b_DAY_RRS.nc",
    "hdf4": "nasa_obpg/S2008001.L3b_DAY_CHL.main",
    "cci": "esa_oc_cci/ESACCI-OC-L3S-IOP-MERGED-1M_MONTHLY_4km_GEO_PML_OCx_QAA-200505-fv4.2.nc",
    "olci": "olci_kd489_cube/cube-1-250-250.zarr",
}


@pytest.fixture
def path_of(data_folder):
    def find(name):
        path = data_folder / "ocean-color" / FILES[name]
        if not path.exists():
            pytest.skip(f"{path.name} is absent")
        return path

    return find


def test_mapped_file_and_its_contradicting_dates(path_of):
    path = path_of("l3m")
    with pytest.warns(EOCausalWarning, match="temporal_range|2007-12-31|day") as caught:
        cube = read_ocean_variable("chlor_a", [path], OceanColorSettings())
    assert caught[0].message.code == "TimeConflictWarning"
    assert cube.attrs["convention"] == "obpg_l3m"
    assert str(cube["time"].values[0])[:10] == "2008-01-01"
    assert (np.diff(cube["latitude"]) < 0).all()
    seen = cube.to_numpy()[np.isfinite(cube.to_numpy())]
    assert len(seen) == 11
    assert float(seen.min()) == pytest.approx(0.758789, abs=1e-6)
    assert float(seen.max()) == pytest.approx(1.711913, abs=1e-6)


def test_binned_file_to_places_and_means(path_of):
    path = path_of("l3b")
    bins, means, grid = read_bins(path, "Rrs_490")
    assert bins.tolist() == [72251, 89250]
    latitude, longitude = grid.centres(bins)
    np.testing.assert_allclose(latitude, [-77.375, -75.9583], atol=1e-4)
    np.testing.assert_allclose(longitude, [165.3178, 170.5534], atol=1e-4)
    np.testing.assert_allclose(means, [0.004032, 0.005166], atol=1e-6)
    with pytest.warns(EOCausalWarning, match="2007-12-31"):
        cube = read_ocean_variable("rrs_490", [path], OceanColorSettings())
    assert cube.attrs["units"] == "sr^-1"
    at = cube.sel(time="2008-01-01").to_numpy()
    assert set(np.round(at[np.isfinite(at)].astype(float), 6)) == {0.004032, 0.005166}


def test_hdf4_is_refused_by_name(path_of):
    with pytest.raises(ReadError, match="HDF4"):
        read_header(path_of("hdf4"))


def test_climate_record_and_its_absent_grid_mapping(path_of):
    cube = read_ocean_variable("adg_443", [path_of("cci")], OceanColorSettings())
    assert cube.attrs["convention"] == "oc_cci"
    values = cube.to_numpy()
    assert values.size == 231_842
    assert int(np.isfinite(values).sum()) == 64_029
    assert float(np.nanmean(values.astype(float))) == pytest.approx(0.019560, abs=1e-6)


def test_swaths_become_one_image(path_of):
    path = path_of("olci")
    swaths = read_ocean_variable("kd489", [path], OceanColorSettings(time_step="as_is"))
    valid = np.isfinite(swaths.to_numpy())
    shares = [0.22028, 0.03641, 0.01272, 0.28514, 0.02478]
    np.testing.assert_allclose(valid.mean(axis=(1, 2)), shares, atol=5e-6)
    assert valid.any(axis=0).mean() == pytest.approx(0.29728, abs=5e-6)
    median = {
        method: float(np.nanmedian(read_ocean_variable(
            "kd489", [path], OceanColorSettings(composite=method))))
        for method in ("geometric_mean", "mean")
    }  # fmt: skip
    assert median["geometric_mean"] == pytest.approx(1.2920, abs=1e-3)
    assert abs(median["mean"] - median["geometric_mean"]) > 0.05
