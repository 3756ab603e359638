"""The audits as a study of images calls them: units, embeddings and nuisances in, reports out."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.audit.spatial import SurrogateSettings
from eo_causal.audit.study import (
    DateSettings,
    guard_chips,
    image_applicability,
    image_leakage,
    moved_controls,
    rows_of_units,
    spatial_audits,
    support_line,
    transport_support,
)
from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import StudyUnits
from eo_causal.errors import LeakageError

N = 200


@pytest.fixture(scope="module")
def world():
    """Units on a plane, one image each; the image shows what decides the treatment."""
    random = np.random.default_rng(0)
    image = random.standard_normal((N, 4))
    e = 1 / (1 + np.exp(-image[:, 0]))
    treatment = (random.random(N) < e).astype(float)
    places = random.uniform(0, 50_000, (N, 2))
    ids = [f"u{number}" for number in range(N)]
    table = pd.DataFrame({
        "unit_id": ids, "image_key": ids, "treatment": treatment,
        "outcome": image[:, 0] + treatment + 0.3 * random.standard_normal(N), "cluster": ids,
        "easting": places[:, 0], "northing": places[:, 1],
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame(index=range(N)))
    folds = make_folds(units, FoldSettings(n_splits=1), None, 0.0, False, seed=1)
    nuisance = pd.DataFrame({
        "propensity": e, "mu0": image[:, 0], "mu1": image[:, 0] + 1,
        "aipw_score": 1 + random.standard_normal(N), "arm": "image",
    })  # fmt: skip
    return units, folds, embedding(ids, image), nuisance


def embedding(keys, values):
    return xr.DataArray(
        np.asarray(values, dtype=np.float32), dims=("unit", "feature"),
        coords={"image_key": ("unit", np.array(keys))},
    )  # fmt: skip


def chips(date):
    times = np.array([[date]], dtype="datetime64[ns]")
    return xr.DataArray(
        np.zeros((1, 1, 1, 2, 2), np.float32), dims=("unit", "time", "band", "y", "x"),
        coords={"image_key": ("unit", ["a"]), "datetime": (("unit", "time"), times)},
    )  # fmt: skip


def test_a_year_is_read_against_the_user():
    settings = DateSettings(treatment_start="2000-06")
    assert guard_chips(chips("2000-01-01"), settings, "day").status == "pass"
    with pytest.raises(LeakageError, match="ends 2000-12-31"):
        guard_chips(chips("2000-01-01"), settings, "year")
    allowed = DateSettings(treatment_start="2000-06", allow_leakage=True)
    found = guard_chips(chips("2000-01-01"), allowed, "year")
    assert (found.status, found.flags) == ("fail", ("post_treatment_imagery",))


def test_rows_follow_the_units_whatever_the_order_of_the_images(world):
    units, _, image, _ = world
    shuffled = image.isel(unit=np.random.default_rng(1).permutation(N))
    np.testing.assert_array_equal(rows_of_units(units, shuffled), image.to_numpy().astype(float))
    assert np.isnan(rows_of_units(units, image.isel(unit=slice(1, None)))[0]).all()


def test_a_gap_passes_where_the_study_uses_the_images_from_before(world):
    units, folds, before, _ = world
    shown = before.to_numpy().copy()
    shown[:, 1] += 5 * units.treatment
    after = embedding(units.table["image_key"], shown).isel(unit=slice(10, None))
    found = image_leakage(units, folds, before, after, seed=1)
    assert (found.status, found.flags) == ("pass", ("leak_gap",))
    assert "before the treatment only" in found.text
    assert found.table["n_left_out"].iloc[0] == 10
    same = image_leakage(units, folds, before, before, seed=1)
    assert (same.status, same.flags) == ("pass", ())


def test_space_without_places_is_not_judged(world):
    units, _, _, nuisance = world
    nowhere = StudyUnits(units.table.assign(easting=np.nan), units.covariates)
    (found,) = spatial_audits(nowhere, nuisance, None, "image", SurrogateSettings(), seed=1)
    assert found.status == "not_run"
    assert "no places" in found.text


def test_space_is_judged_three_times_where_folds_are_blocks(world):
    units, _, _, nuisance = world
    parted = nuisance.assign(propensity=0.9 * units.treatment + 0.05)
    found = spatial_audits(units, nuisance, parted, "image", SurrogateSettings(), seed=1)
    assert [audit.name for audit in found] == ["surrogate_field", "residual_moran", "block_gap"]
    assert found[2].flags == ("block_gap",)
    assert found[0].status == "pass"


def test_units_unlike_the_other_arm_are_counted(world):
    units, folds, image, nuisance = world
    usual = image_applicability(units, folds, image, nuisance, "image", seed=1).table.set_index(
        "check"
    )
    assert usual["share"]["outside"] < 0.12  # of 100 points an arm in four dimensions
    odd = image.to_numpy().copy()
    far = np.flatnonzero(units.treatment == 1)[:30]
    odd[far, 2] += 40 + np.arange(30)
    far_away = embedding(units.table["image_key"], odd)
    found = image_applicability(units, folds, far_away, nuisance, "image", seed=1)
    assert found.flags == ("outside_applicability",)
    assert found.table.set_index("check")["n"]["outside"] >= 30


def test_outcomes_from_before_must_not_move():
    row = {
        "arm": "image",
        "estimator": "aipw",
        "std_error": 0.1,
        "lower": 0.0,
        "upper": 1.0,
        "n": 9,
    }
    effects = {"old": pd.DataFrame([row | {"estimate": 0.05}, row | {"arm": "x", "estimate": 9.0}])}
    assert moved_controls(effects, "image").status == "pass"
    assert moved_controls(effects, "x").flags == ("negative_control_moves",)


def test_places_unlike_the_trial_are_out_of_support_whatever_the_order_of_the_images(world):
    units, folds, image, _ = world
    random = np.random.default_rng(2)
    there = random.standard_normal((80, 4))
    there[40:] += 9
    elsewhere = embedding([f"p{number}" for number in range(80)], there)
    found = transport_support(units, folds, image, elsewhere, seed=1)
    assert list(found) == ["in_support", "dissimilarity", "membership"]
    assert found["in_support"][:40].mean() > 0.75
    assert not found["in_support"][40:].any()
    shuffled = image.isel(unit=random.permutation(N))
    again = transport_support(units, folds, shuffled, elsewhere, seed=1)
    np.testing.assert_array_equal(again["in_support"], found["in_support"])


def test_units_of_one_image_count_as_one_place(world):
    units, _, image, _ = world
    table = pd.concat([units.table, units.table.head(100)], ignore_index=True)
    table["unit_id"] = [f"v{number}" for number in range(len(table))]
    doubled = StudyUnits(table, pd.DataFrame(index=range(len(table))))
    chosen = FoldSettings(kind="image_key", n_splits=1)
    there = embedding(["p0", "p1", "p2"], [[0.0] * 4, [0.5] * 4, [9.0] * 4])
    found = [
        transport_support(own, make_folds(own, chosen, None, 0.0, False, seed=1), image, there,
                          seed=1)["dissimilarity"]
        for own in (doubled, units)
    ]  # fmt: skip
    np.testing.assert_allclose(*found)


def test_a_place_without_features_is_never_in_support(world):
    units, folds, image, _ = world
    there = embedding(["p0", "p1", "p2"], [[0.0] * 4, [0.1] * 4, [np.nan] * 4])
    found = transport_support(units, folds, image, there, seed=1)
    assert found["in_support"].tolist() == [True, True, False]


def test_the_line_says_what_the_places_out_of_support_change():
    """By hand: 1 of 4 places is out, and the average is 2 with it and 1 without."""
    places = pd.DataFrame({"in_support": [True, True, True, False], "cate": [0.0, 1, 2, 5],
                           "dissimilarity": 0.5, "membership": 0.5})  # fmt: skip
    found = support_line(places)
    assert (found.status, found.flags) == ("warn", ("outside_applicability",))
    assert "25.0% of 4 target places" in found.text
    assert "2 with them and 1 without" in found.text
    assert support_line(places.iloc[:3]).status == "pass"
