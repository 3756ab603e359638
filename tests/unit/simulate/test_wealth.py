"""The simulated country: roofs follow wealth, lots add the effect, and what is sited adds none."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError
from eo_causal.simulate.scenes import REFLECTANCE, SceneSettings, earth_coordinates
from eo_causal.simulate.wealth import (
    WealthSettings,
    draw_wealth_country,
    read_wealth_truth,
    write_wealth_country,
)

SIDE = 8
SETTINGS = WealthSettings(
    country=SceneSettings(rows=512, columns=768, cloud=0.0, dates=("2018-07-03",)), cell_pixels=SIDE,
    n_survey=900, n_trial=500, n_pilot=120,
)  # fmt: skip
SMALL = WealthSettings(
    country=SceneSettings(rows=256, columns=256, cloud=0.0, dates=("2018-07-03",)), cell_pixels=SIDE,
    n_survey=100, n_trial=20, n_pilot=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return draw_wealth_country(SETTINGS, 1)


@pytest.fixture(scope="module")
def small():
    return draw_wealth_country(SMALL, 1)


def blocks(image):
    """(row, column) -> the (side, side) pixels of each cell."""
    rows, columns = image.shape[0] // SIDE, image.shape[1] // SIDE
    cut = image[: rows * SIDE, : columns * SIDE]
    return cut.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2)


def cells_of(table, shape):
    """Row and column of each place's cell."""
    lattice = np.mgrid[: shape[0] // SIDE, : shape[1] // SIDE].reshape(2, -1).T
    middles = lattice * SIDE + SIDE // 2 + 0.25
    at = np.column_stack(earth_coordinates(middles.astype(float)))
    index = {tuple(np.round(place, 6)): cell for place, cell in zip(at, lattice, strict=True)}
    places = np.round(table[["longitude", "latitude"]].to_numpy(), 6)
    return np.array([index[tuple(place)] for place in places])


def roof_share(found, table):
    red = blocks(found.country.images[-1, 1])
    cells = cells_of(table, found.country.town.shape[1:])
    roof = np.float32(REFLECTANCE["town"][1] * 1.3)
    return np.isclose(red[cells[:, 0], cells[:, 1]], roof, rtol=1e-6).mean(axis=(1, 2))


def contrast(table, column="wealth"):
    return table.loc[table["treated"] == 1, column].mean() - table.loc[
        table["treated"] == 0, column
    ].mean()  # fmt: skip


def test_wealth_is_standard_normal_and_shared_by_neighbours(found):
    survey = found.survey
    assert survey["wealth"].mean() == pytest.approx(0, abs=0.15)
    assert survey["wealth"].std() == pytest.approx(1, abs=0.1)
    within = survey.groupby("region")["wealth"].transform("mean")
    assert 0.3 < np.corrcoef(within, survey["wealth"])[0, 1] ** 2 < 0.75


def test_no_two_places_share_ground(found):
    every = pd.concat([found.survey, *found.trials.values()])
    cells = cells_of(every, found.country.town.shape[1:])
    assert len(np.unique(cells, axis=0)) == len(every) == 900 + 3 * 500
    assert every["unit_id"].is_unique


def test_roofs_follow_wealth_as_they_should(found):
    """Mean share of roofs: 0.05 + 0.55 E expit(1.5 (wealth + 0.6 N)); and never less than 5 %."""
    share, wealth = roof_share(found, found.survey), found.survey["wealth"].to_numpy()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    expected = 0.05 + 0.55 * expit(1.5 * (wealth[:, None] + 0.6 * nodes)) @ weights / weights.sum()
    assert (share - expected).mean() == pytest.approx(0, abs=0.02)
    assert np.polyfit(expected, share, 1)[0] == pytest.approx(1, abs=0.06)


def test_lots_are_fair_and_add_the_effect_to_wealth_and_to_roofs(found):
    for name, effect in (("grants", 0.6), ("training", 0.3)):
        table = found.trials[name]
        assert table["treated"].mean() == pytest.approx(0.5, abs=0.08)
        assert contrast(table) == found.effects[name]
        assert contrast(table) == pytest.approx(effect, abs=4 * 2 / np.sqrt(500))
    grants = found.trials["grants"].assign(share=roof_share(found, found.trials["grants"]))
    assert contrast(grants, "share") > 0.04
    untreated = grants["wealth"] - 0.6 * grants["treated"]
    assert untreated.std() == pytest.approx(1, abs=0.12)


def test_of_a_lot_images_show_what_it_did_to_wealth_and_nothing_else(found):
    table = found.trials["grants"].assign(share=roof_share(found, found.trials["grants"]))
    wealth = table["wealth"].to_numpy()
    design = np.column_stack([table["treated"], np.ones(500), wealth, wealth**2, wealth**3])
    coefficient, *_ = np.linalg.lstsq(design, table["share"])
    residual = table["share"] - design @ coefficient
    error = np.sqrt(residual.var() * np.linalg.inv(design.T @ design)[0, 0])
    assert abs(coefficient[0]) < 3 * error


def test_the_sited_programme_goes_where_roofs_are_and_adds_nothing(found):
    table = found.trials["roads"]
    share = roof_share(found, table)
    assert contrast(table.assign(share=share), "share") > 0.15
    assert found.effects["roads"] == contrast(table) > 0.5
    assert table["wealth"].std() == pytest.approx(1, abs=0.12)
    design = np.column_stack([table["treated"], np.ones(500), share])
    coefficient, *_ = np.linalg.lstsq(design, table["wealth"])
    assert abs(coefficient[0]) < 0.25  # given the roofs, wealth knows little of the siting


def test_pilots_are_measured_and_some_trials_have_none(found):
    measured = {name: table["wealth_measured"] for name, table in found.trials.items()}
    assert {name: int(own.notna().sum()) for name, own in measured.items()} == {
        "grants": 120, "training": 0, "roads": 120,
    }  # fmt: skip
    known = found.trials["grants"].dropna(subset="wealth_measured")
    assert known["wealth_measured"].equals(known["wealth"])
    assert 0.3 < known["treated"].mean() < 0.7


def test_a_country_without_siting_has_randomised_trials_only(small):
    assert list(small.trials) == ["grants", "training", "roads"]
    settings = SMALL.model_copy(update={"sited": None, "effects": {"wells": 0.5}})
    assert list(draw_wealth_country(settings, 1).trials) == ["wells"]


def test_a_seed_is_a_country(small):
    again, other = draw_wealth_country(SMALL, 1), draw_wealth_country(SMALL, 2)
    pd.testing.assert_frame_equal(again.survey, small.survey)
    np.testing.assert_array_equal(again.country.images, small.country.images)
    assert other.effects != small.effects


def test_a_country_without_room_is_refused():
    with pytest.raises(ConfigError, match=r"has room for \d+ of 5060 places"):
        draw_wealth_country(SMALL.model_copy(update={"n_survey": 5000}), 1)


def test_files_hold_what_users_would_get_and_not_what_nobody_knows(tmp_path, small):
    with counting() as counts:
        folder = write_wealth_country(SMALL, seed=1, folder=tmp_path)
    assert counts["places_surveyed"] == 100
    assert counts["places_in_trials"] == 60
    assert counts["trials"] == 3
    survey = pd.read_csv(folder / "survey.csv")
    assert survey.columns.tolist() == ["unit_id", "longitude", "latitude", "region", "wealth"]
    np.testing.assert_allclose(survey["wealth"], small.survey["wealth"], atol=1e-7)
    for name, table in small.trials.items():
        written = pd.read_csv(folder / f"trial_{name}.csv")
        assert "wealth" not in written
        np.testing.assert_array_equal(written["treated"], table["treated"])
        np.testing.assert_allclose(written["wealth_measured"], table["wealth_measured"], atol=1e-7)
    assert read_wealth_truth(folder) == {"trials": small.effects}
    assert (
        json.loads((folder / "truth.json").read_text())["trials"]["roads"] == small.effects["roads"]
    )
    bands = {path.stem.rsplit("_T1_")[-1] for path in (folder / "scenes").glob("*.TIF")}
    assert bands == {"green", "red", "nir", "swir1", "QA_PIXEL"}
