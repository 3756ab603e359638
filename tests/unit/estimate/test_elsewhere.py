"""From a trial's embeddings and those of other places to effects there, by the trial's numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import ValidationError

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError
from eo_causal.estimate.cate import EffectSettings
from eo_causal.estimate.elsewhere import CarrySettings, effects_elsewhere
from eo_causal.estimate.heterogeneity import HeterogeneitySettings

N_IMAGES, EACH, N_PLACES = 100, 2, 30
SETTINGS = HeterogeneitySettings(effects=EffectSettings(inner_folds=2))
CARRY = CarrySettings(n_draws=20)


def embedding(keys, values):
    return xr.DataArray(
        np.asarray(values, dtype=np.float32), dims=("unit", "feature"),
        coords={"image_key": ("unit", np.array(keys)), "unit_id": ("unit", np.array(keys))},
    )  # fmt: skip


@dataclasses.dataclass
class World:
    units: StudyUnits
    folds: object
    trial: xr.DataArray
    other: xr.DataArray
    places: pd.DataFrame
    support: pd.DataFrame
    effect: np.ndarray

    def carry(self, carry=CARRY, settings=SETTINGS, probability=0.5, seed=3, **changes):
        own = dataclasses.replace(self, **changes)
        return effects_elsewhere(
            own.units, own.folds, own.trial, own.other, own.places, own.support, probability,
            settings, carry, seed=seed,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world():
    """The effect is 1 + the first feature, in the trial and elsewhere; covariates say more."""
    random = np.random.default_rng(0)
    values, there = random.normal(size=(N_IMAGES, 4)), random.normal(size=(N_PLACES, 4))
    image = np.repeat(np.arange(N_IMAGES), EACH)
    treatment = random.permutation(np.arange(N_IMAGES) % 2)[image].astype(float)
    outcome = (1 + values[image, 0]) * treatment + 0.3 * random.normal(size=len(image))
    keys = np.array([f"k{number:03d}" for number in image], dtype=object)
    table = pd.DataFrame({
        "unit_id": [f"u{number:03d}" for number in range(len(image))], "image_key": keys,
        "treatment": treatment, "outcome": outcome, "cluster": keys, "easting": np.nan,
        "northing": np.nan,
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame({"age": random.normal(size=len(image))}))
    folds = make_folds(units, FoldSettings(kind="image_key", n_splits=1), None, 0.0, True, seed=1)
    order = random.permutation(N_IMAGES)
    names = np.array([f"k{number:03d}" for number in range(N_IMAGES)])
    ids = [f"p{number:02d}" for number in range(N_PLACES)]
    return World(
        units, folds, embedding(names[order], values[order]), embedding(ids, there),
        pd.DataFrame({"unit_id": ids, "area": np.where(np.arange(N_PLACES) < 20, "near", "far")}),
        pd.DataFrame({"in_support": np.arange(N_PLACES) < 20, "dissimilarity": 0.5,
                      "membership": 0.5}),
        1 + there[:, 0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def carried(world):
    return world.carry()


def test_effects_of_other_places_are_found_in_their_order(world, carried):
    places = carried.places
    assert places["unit_id"].tolist() == world.places["unit_id"].tolist()
    assert np.corrcoef(places["cate"], world.effect)[0, 1] > 0.97
    assert np.abs(places["cate"] - world.effect).mean() < 0.25
    assert (places["std_error"] > 0).all()
    assert (places["lower"] < places["cate"]).all()


def test_areas_average_supported_places(world, carried):
    areas = carried.areas.set_index("area")
    assert areas["n"].to_dict() == {"near": 20, "far": 10}
    assert areas["n_in_support"].to_dict() == {"near": 20, "far": 0}
    near = carried.places["cate"][:20].mean()
    assert areas.loc["near", "estimate"] == pytest.approx(near)
    assert areas.loc["near", "estimate_all"] == pytest.approx(near)
    assert np.isnan(areas.loc["far", "estimate"])


def test_the_trial_alone_scales_and_teaches(world, carried):
    """Other places do not move a place: they are scaled and reduced by the trial's images."""
    values = world.other.to_numpy().copy()
    values[5:] = 100 * values[5:] + 7
    moved = world.carry(other=embedding(world.other["image_key"].to_numpy(), values))
    before, after = (found.places.iloc[:5] for found in (carried, moved))
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_many_features_are_reduced_by_the_trials_components(world):
    few = SETTINGS.model_copy(update={"n_components": 2})
    found = world.carry(settings=few)
    assert np.isfinite(found.places["cate"]).all()
    assert not np.allclose(found.places["cate"], world.carry().places["cate"])


def test_images_that_say_nothing_carry_the_average(world):
    flat = embedding(world.trial["image_key"].to_numpy(), np.ones((N_IMAGES, 4)))
    other = embedding(world.other["image_key"].to_numpy(), np.ones((N_PLACES, 4)))
    found = world.carry(trial=flat, other=other)
    assert np.ptp(found.places["cate"]) == 0
    treated = world.units.treatment == 1
    plain = world.units.outcome[treated].mean() - world.units.outcome[~treated].mean()
    assert found.places["cate"].iloc[0] == pytest.approx(plain, abs=0.05)


def test_numbers_follow_the_seed(world, carried):
    pd.testing.assert_frame_equal(world.carry().places, carried.places, check_exact=True)
    other = world.carry(seed=4).places
    assert not np.array_equal(other["std_error"], carried.places["std_error"])


@pytest.mark.parametrize("learner", ["t", "x", "r", "dr"])
def test_every_learner_carries_with_and_without_a_known_probability(world, learner):
    carry = CarrySettings(learner=learner, n_draws=20)
    for probability in (0.5, None):
        found = world.carry(carry, probability=probability)
        assert np.corrcoef(found.places["cate"], world.effect)[0, 1] > 0.95


def test_places_without_features_are_named(world):
    values = world.other.to_numpy().copy()
    values[3, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 30 target places miss features \(places p03\)"):
        world.carry(other=embedding(world.other["image_key"].to_numpy(), values))


def test_no_support_no_map(world):
    with pytest.raises(DataError, match="A map without a mask cannot be made"):
        world.carry(support=None)
    with pytest.raises(DataError, match="support has 29 rows"):
        world.carry(support=world.support.iloc[1:])


def test_a_bootstrap_of_few_draws_is_no_setting():
    with pytest.raises(ValidationError, match="n_draws"):
        CarrySettings(n_draws=19)
