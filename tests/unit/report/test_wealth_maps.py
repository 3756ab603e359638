"""Wealth maps: bands that follow from the folds and the card, tags, tampering, places."""

import geopandas
import numpy as np
import pytest
import rasterio
import xarray as xr

from eo_causal.debias.card import CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.errors import CoverageError, DataError, IntegrityError
from eo_causal.report import wealth_maps
from eo_causal.report.wealth_maps import BANDS, CorrectedMap, wealth_at, write_wealth_map

WEST, NORTH, STEP = 500_000.0, 9_800_000.0, 480.0
SHAPE = (30, 20)


@pytest.fixture(scope="module")
def card():
    random = np.random.default_rng(0)
    truth = random.normal(50, 10, 600)
    fold = np.repeat([0, 1, 2], 200)
    prediction = 20 + 0.6 * truth + random.normal(0, 5, 600) + fold
    ids = np.arange(600).astype(str)
    settings = CardSettings(n_replicates=20, corrector="tweedie", recalibrate="always")
    return fit_card(
        truth, prediction, fold, unit_ids=ids, settings=settings, units="index points", seed=1
    )


@pytest.fixture(scope="module")
def parts():
    """Two parts of a map of three models; one empty cell, one with a prediction beyond the support."""
    random = np.random.default_rng(1)
    values = random.normal(50, 6, (*SHAPE, 4)).astype(np.float32)
    values[..., 3] = random.uniform(0, 1, SHAPE)
    values[4, 5] = np.nan
    values[6, 7, :3] = 300.0
    rows, columns = np.arange(SHAPE[0]), np.arange(SHAPE[1])
    whole = xr.DataArray(
        values, dims=("y", "x", "layer"),
        coords={"northing": ("y", NORTH - (rows + 0.5) * STEP),
                "easting": ("x", WEST + (columns + 0.5) * STEP),
                "layer": ["fold_0", "fold_1", "fold_2", "dissimilarity"]},
        attrs={"crs": "EPSG:32736", "step": [STEP, STEP]},
    )  # fmt: skip
    return [whole.isel(y=slice(0, 11)), whole.isel(y=slice(11, None))]


@pytest.fixture
def written(tmp_path, parts, card):
    facts = write_wealth_map(tmp_path, parts, card, 0.8, run_id="0" * 12, units="index points")
    return tmp_path / "wealth.tif", facts


def values_of(path):
    with rasterio.open(path) as source:
        return source.read(), source.descriptions


def test_bands_follow_from_the_folds_and_the_card(written, parts, card):
    path, facts = written
    bands, names = values_of(path)
    folds, _ = values_of(path.with_name("wealth_folds.tif"))
    raw = xr.concat(parts, "y").to_numpy()
    np.testing.assert_array_equal(folds, np.moveaxis(raw[..., :3], -1, 0))
    assert names == BANDS
    known = np.isfinite(raw).all(axis=2)
    predicted = raw[known][:, :3].astype(float)
    rows = card.folds
    best = (
        rows["recalibration_intercept"].to_numpy() + rows["recalibration_slope"].to_numpy() * predicted
    ).mean(axis=1)  # fmt: skip
    np.testing.assert_allclose(bands[0][known], best, rtol=1e-5)
    np.testing.assert_allclose(bands[1][known], card.corrected(predicted), rtol=1e-5)
    np.testing.assert_allclose(bands[2][known], card.std_error(predicted), rtol=1e-5)
    assert np.isnan(bands[:, ~known]).all()
    assert facts["n_cells"] == 600
    assert facts["n_mapped"] == 599
    assert facts["mean"] == pytest.approx(best.mean())


def test_places_unlike_the_survey_or_beyond_the_support_are_outside(written, parts):
    path, facts = written
    inside = values_of(path)[0][3]
    raw = xr.concat(parts, "y").to_numpy()
    assert np.isnan(inside[4, 5])
    assert inside[6, 7] == 0
    assert (inside[raw[..., 3] > 0.8] == 0).all()
    assert facts["share_inside"] == pytest.approx(np.nanmean(inside))


def test_tags_say_what_the_map_is_for(written, card):
    path, _ = written
    with rasterio.open(path) as source:
        tags = source.tags()
        assert tags["usage"] == "averages only; not for targeting or ranking"
        assert tags["units"] == "index points"
        assert tags["method"] == card.method
        assert source.tags(2)["valid_for"].startswith("contrasts in regime R1")
        assert source.crs.to_epsg() == 32736
        assert source.transform.c == WEST
        assert source.profile["driver"] == "GTiff"
        assert source.overviews(1) == [] or min(source.overviews(1)) == 2


def test_a_map_of_many_strips_is_the_same_file(tmp_path, parts, card, written, monkeypatch):
    monkeypatch.setattr(wealth_maps, "ROWS_AT_ONCE", 4)
    write_wealth_map(tmp_path / "b", parts, card, 0.8, run_id="0" * 12, units="index points")
    for name in ("wealth.tif", "wealth_folds.tif", "wealth_card.json"):
        assert (tmp_path / "b" / name).read_bytes() == written[0].with_name(name).read_bytes()
    assert not list(tmp_path.glob("**/*.strips.tif"))


def places_at(rows, columns):
    east = WEST + (np.asarray(columns) + 0.3) * STEP
    north = NORTH - (np.asarray(rows) + 0.6) * STEP
    points = geopandas.points_from_xy(east, north, crs="EPSG:32736")
    ids = [f"u{k}" for k in range(len(east))]
    return geopandas.GeoDataFrame({"unit_id": ids}, geometry=points).to_crs("EPSG:4326")


def test_places_read_their_cell_and_the_card_reads_them(written, card):
    path, _ = written
    bands, _ = values_of(path)
    found = wealth_at(CorrectedMap.open(path), places_at([0, 12, 29], [0, 3, 19]))
    np.testing.assert_allclose(found["prediction"], bands[0][[0, 12, 29], [0, 3, 19]])
    again = card.corrected(found[["fold_0", "fold_1", "fold_2"]].to_numpy())
    np.testing.assert_allclose(found["outcome_corrected"], again, rtol=1e-5)
    assert "std_error" not in found


def test_places_where_the_map_is_empty_are_named(written):
    with pytest.raises(CoverageError, match=r"1 of 2 places.*first: u1"):
        wealth_at(CorrectedMap.open(written[0]), places_at([0, 4], [0, 5]))


@pytest.mark.parametrize("name", ["wealth_card.json", "wealth_folds.tif"])
def test_a_card_or_folds_that_were_changed_are_refused(written, name):
    path = written[0].with_name(name)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(IntegrityError):
        CorrectedMap.open(written[0])


def test_a_map_without_a_card_is_refused(tmp_path):
    path = tmp_path / "other.tif"
    profile = {"driver": "GTiff", "height": 2, "width": 2, "count": 1, "dtype": "float32"}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path, "w", **profile):
        pass
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        pytest.raises(DataError, match="names no calibration card"),
    ):
        CorrectedMap.open(path)
