"""Land cover of the Morowali study: areas, rates, and the code nobody declared."""

import pytest

from eo_causal.core.progress import counting
from eo_causal.core.sources import InputFiles
from eo_causal.errors import EOCausalWarning
from eo_causal.impact.landcover import IntensitySettings, area_table, intensity_analysis
from eo_causal.ingest.land_cover import LandCoverSource, read_land_cover

FILE = "sentinel2LULC_IMIP.nc"
BUILT_KM2 = {"nominal": (12.2561, 46.1789), "ellipsoid": (12.175, 45.872)}


@pytest.fixture(scope="module")
def maps(data_folder):
    path = data_folder / "ocean-color" / "morowali_imip" / FILE
    if not path.is_file():
        pytest.skip(f"{FILE} of the Morowali data set is absent")
    with pytest.warns(EOCausalWarning, match="1,374,440 pixels") as caught, counting() as counts:
        found = read_land_cover(InputFiles((str(path),), ("",)), LandCoverSource(file=FILE))
    assert caught[0].message.code == "UndeclaredClassWarning"
    assert counts["pixels_undeclared"] == 1_374_440
    return found


@pytest.fixture(scope="module")
def result(maps):
    return intensity_analysis(maps, IntensitySettings(pixel_area="nominal"), seed=1)


def test_undeclared_code_is_missing_and_listed(maps):
    assert maps.attrs["undeclared"] == {"0": 1_374_440}
    assert (maps.values == 0).sum() == 0


@pytest.mark.parametrize("pixel_area", ["nominal", "ellipsoid"])
def test_built_area(maps, pixel_area):
    names = dict(zip(maps.attrs["flag_values"], maps.attrs["flag_meanings"], strict=True))
    years = maps.indexes["time"].year.to_numpy()
    table = area_table(maps, names, years, IntensitySettings(pixel_area=pixel_area))
    built = table[table["code"] == 7].set_index("year")["area_km2"]
    first, last = BUILT_KM2[pixel_area]
    tolerance = 1e-4 if pixel_area == "nominal" else 2e-3
    assert built.loc[2017] == pytest.approx(first, abs=tolerance)
    assert built.loc[2024] == pytest.approx(last, abs=tolerance)


def test_uniform_rate_and_the_published_one(result):
    assert result.pooled["uniform_rate"] == pytest.approx(7.684, abs=0.001)
    assert result.pooled["uniform_rate_paper"] == pytest.approx(1.0978, abs=0.001)
    low, high = result.pooled["uniform_rate_interval"]
    assert low < 7.684 < high


def test_six_land_classes_are_compared(result):
    assert result.category["class"].nunique() == 6
