"""What every ranking is fitted on: other folds for all units, earlier folds for the sequential test."""

import dataclasses

import dask
import numpy as np
import pandas as pd
import pytest

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.progress import counting
from eo_causal.core.random import generator
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError
from eo_causal.estimate.arms import choose_arms
from eo_causal.estimate.cate import EffectSettings, Rows, fit_nuisances
from eo_causal.estimate.effect_fits import (
    NETWORK,
    FitPlan,
    NetworkPredictions,
    SplitFit,
    fit_all,
    fit_part,
    rows_of,
)
from eo_causal.estimate.fit_arms import study_of

N_IMAGES, EACH, SEED = 60, 3, 4
KEYS = [f"k{number:02d}" for number in range(N_IMAGES)]
QUICK = EffectSettings(inner_folds=2)
PLAN = FitPlan(("dr", "t"), 0.5, 30, QUICK, SEED)


class Recorded:
    """Features of images; remembers the images it may learn from."""

    def __init__(self, values):
        self.values, self.training = values, []

    def __call__(self, training):
        self.training.append(np.asarray(training))
        return self.values


@dataclasses.dataclass
class World:
    units: StudyUnits
    folds: object
    values: np.ndarray
    effect: np.ndarray

    def fits(self, features=None, networks=None, plan=PLAN, wanted=None, **changes):
        units = self.units
        if changes:
            units = StudyUnits(units.table.assign(**changes), units.covariates)
        features = {"image": lambda training: self.values} if features is None else features
        networks = networks or {}
        pooled = {name: given.pooled for name, given in networks.items()}
        arms = choose_arms(wanted, units, features, pooled)
        study = study_of(units, self.folds, KEYS, arms, features)
        with dask.config.set(scheduler="synchronous"):
            return fit_all(arms, study, self.folds, features, networks, units.cluster, plan)


@pytest.fixture(scope="module")
def world():
    """A trial by image; the first of three features moves the effect, which is 1 + it."""
    random = np.random.default_rng(0)
    values = random.normal(size=(N_IMAGES, 3))
    image = np.repeat(np.arange(N_IMAGES), EACH)
    treatment = random.permutation(np.arange(N_IMAGES) % 2)[image].astype(float)
    effect = 1 + values[image, 0]
    age = random.normal(size=len(image))
    outcome = effect * treatment + 0.5 * age + 0.3 * random.normal(size=len(image))
    keys = np.array(KEYS, dtype=object)[image]
    table = pd.DataFrame({
        "unit_id": [f"u{number:03d}" for number in range(len(image))], "image_key": keys,
        "treatment": treatment, "outcome": outcome, "cluster": keys, "easting": np.nan,
        "northing": np.nan,
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame({"age": age}))
    chosen = FoldSettings(kind="image_key", n_splits=2, n_folds=4)
    return World(units, make_folds(units, chosen, None, 0.0, True, seed=1), values, effect)


@pytest.fixture(scope="module")
def fits(world):
    return world.fits()


def predictions(world, folds, seed=0, sequential=False):
    """What a network might have said, with the units in another order."""
    random, rows = np.random.default_rng(seed), []
    for split in range(folds.n_splits):
        pairs = folds.sequence(split, SEED) if sequential else folds.pairs(split)
        tested = random.permutation(np.concatenate([test for _, test in pairs]))
        rows.append(pd.DataFrame({
            "split": split, "unit_id": world.units.table["unit_id"].to_numpy()[tested],
            "propensity": random.uniform(0.2, 0.8, len(tested)),
            "mu0": random.normal(size=len(tested)), "mu1": random.normal(size=len(tested)),
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def network(world):
    return NetworkPredictions(
        predictions(world, world.folds), predictions(world, world.folds, 1, sequential=True)
    )


def test_every_arm_has_every_learner_on_every_split(world, fits):
    arms = ["tabular", "image:image", "image:image+tabular"]
    assert list(fits) == [(arm, learner) for arm in arms for learner in ("dr", "t")]
    for own in fits.values():
        assert len(own) == 2
        for fit in own:
            assert np.isfinite(fit.score).all()
            assert np.isfinite(fit.effect).all()
            assert len(fit.score) == len(fit.effect) == len(world.units)
            assert len(fit.steps) == 3


def test_predictions_follow_the_true_effect_where_it_is_seen(world, fits):
    for learner in ("dr", "t"):
        seen = fits["image:image", learner][0]
        assert np.corrcoef(seen.effect, world.effect)[0, 1] > 0.9
        assert seen.effect.mean() == pytest.approx(1, abs=0.25)
        unseen = fits["tabular", learner][0]
        assert abs(np.corrcoef(unseen.effect, world.effect)[0, 1]) < 0.4


def test_scores_of_a_trial_use_its_probability(world, fits):
    """By hand: with e = 1/2, Gamma = mu1 - mu0 + 2 W (Y - mu1) - 2 (1 - W) (Y - mu0)."""
    units, folds = world.units, world.folds
    arms = choose_arms(("tabular",), units, {}, {})
    study = study_of(units, folds, KEYS, arms, {})
    training, test = folds.pairs(0)[0]
    (part,) = fit_part("", None, study, (True,), (training, test), (0, 0), PLAN)
    age = units.covariates["age"].to_numpy()
    design = ((age - age[training].mean()) / age[training].std())[:, None]
    own = rows_of(study, design, training)
    random = generator(SEED, "effects", 0, 0)
    _, mu0, mu1 = fit_nuisances(own, 0.5, QUICK, random).predict(design[test])
    w, y = units.treatment[test], units.outcome[test]
    by_hand = mu1 - mu0 + 2 * w * (y - mu1) - 2 * (1 - w) * (y - mu0)
    np.testing.assert_allclose(part.score, by_hand, rtol=1e-12)
    np.testing.assert_array_equal(fits["tabular", "dr"][0].score[test], part.score)


def test_a_part_is_learned_from_its_training_rows_alone(world):
    units, folds = world.units, world.folds
    arms = choose_arms(("image:image+tabular",), units, {"image": lambda _: world.values}, {})
    study = study_of(units, folds, KEYS, arms, {})
    training, test = folds.pairs(0)[0]
    noise = np.random.default_rng(1).normal(size=len(test))
    other = dataclasses.replace(study, outcome=study.outcome.copy())
    other.outcome[test] += noise
    first, second = (
        fit_part("image", lambda _: world.values, one, (True,), (training, test), (0, 0), PLAN)[0]
        for one in (study, other)
    )
    for learner in PLAN.learners:
        np.testing.assert_array_equal(first.effects[learner], second.effects[learner])
    np.testing.assert_allclose(second.score - first.score, noise * (4 * units.treatment[test] - 2))


def test_rows_hold_what_their_positions_say(world):
    study = study_of(world.units, world.folds, KEYS, [], {})
    design = np.arange(2.0 * len(world.units)).reshape(-1, 2)
    found = rows_of(study, design, np.array([5, 2]))
    assert isinstance(found, Rows)
    np.testing.assert_array_equal(found.design, [[10, 11], [4, 5]])
    np.testing.assert_array_equal(found.outcome, world.units.outcome[[5, 2]])
    np.testing.assert_array_equal(found.group, world.folds.group[[5, 2]])


def test_encoders_learn_from_images_of_the_training_part_only(world):
    recorded = Recorded(world.values)
    world.fits({"image": recorded}, wanted=("image:image",))
    image = np.repeat(np.arange(N_IMAGES), EACH)
    wanted = [
        np.unique(image[training])
        for split in range(2)
        for training, _ in (*world.folds.pairs(split), *world.folds.sequence(split, SEED))
    ]
    found = [np.unique(training).tolist() for training in recorded.training]
    assert len(found) == 14
    assert sorted(found) == sorted(images.tolist() for images in wanted)


def test_steps_are_the_folds_in_sequence(world, fits):
    cluster = world.units.cluster
    for split in range(2):
        steps = world.folds.sequence(split, SEED)
        for own in fits.values():
            for part, (_, test) in zip(own[split].steps, steps, strict=True):
                np.testing.assert_array_equal(part.cluster, cluster[test])


def test_later_folds_and_own_outcomes_do_not_move_a_step(world, fits):
    steps = world.folds.sequence(0, SEED)
    for number, (_, test) in enumerate(steps):
        later = np.concatenate([own for _, own in steps[number:]])
        outcome = world.units.outcome.copy()
        outcome[later] += 10 * np.random.default_rng(2).normal(size=len(later))
        moved = world.fits(wanted=("image:image",), outcome=outcome)["image:image", "dr"][0]
        before = fits["image:image", "dr"][0]
        np.testing.assert_array_equal(moved.steps[number].priority, before.steps[number].priority)
        assert (moved.steps[number].score != before.steps[number].score).all()
        if number:
            np.testing.assert_array_equal(moved.steps[0].score, before.steps[0].score)
        assert len(test) == len(before.steps[number].score)


def test_features_that_are_all_alike_predict_one_effect_a_fold(world):
    found = world.fits({"image": lambda _: np.ones((N_IMAGES, 2))}, wanted=("image:image",))
    for own in found.values():
        for _, test in world.folds.pairs(0):
            assert np.ptp(own[0].effect[test]) == 0
        assert all(np.ptp(part.priority) == 0 for part in own[0].steps)


def test_what_was_fitted_is_counted(world):
    with counting() as counts:
        world.fits()
    assert counts["parts_fitted"] == 3 * 2 * (4 + 3)
    assert counts["effect_models"] == 2 * counts["parts_fitted"]


def test_any_scheduler_gives_the_same_bytes(world, fits):
    units = world.units
    features = {"image": lambda training: world.values}
    arms = choose_arms(None, units, features, {})
    study = study_of(units, world.folds, KEYS, arms, features)
    with dask.config.set(scheduler="threads", num_workers=2):
        found = fit_all(arms, study, world.folds, features, {}, units.cluster, PLAN)
    for ranking, own in found.items():
        for one, other in zip(own, fits[ranking], strict=True):
            np.testing.assert_array_equal(one.effect, other.effect)
            np.testing.assert_array_equal(one.score, other.score)
            for a, b in zip(one.steps, other.steps, strict=True):
                np.testing.assert_array_equal(a.priority, b.priority)


def test_a_network_is_one_ranking_of_its_own(world, network):
    found = world.fits({}, {"net": network}, wanted=("image:net",))
    assert list(found) == [("image:net", NETWORK)]
    rows = network.pooled[network.pooled["split"] == 1].set_index("unit_id")
    rows = rows.loc[world.units.table["unit_id"]]
    fit = found["image:net", NETWORK][1]
    np.testing.assert_array_equal(fit.effect, rows["mu1"] - rows["mu0"])
    w, y = world.units.treatment, world.units.outcome
    by_hand = np.where(
        w == 1, fit.effect + 2 * (y - rows["mu1"]), fit.effect - 2 * (y - rows["mu0"])
    )
    np.testing.assert_allclose(fit.score, by_hand, rtol=1e-12)
    later = network.sequential[network.sequential["split"] == 1].set_index("unit_id")
    for part, (_, test) in zip(fit.steps, world.folds.sequence(1, SEED), strict=True):
        own = later.loc[world.units.table["unit_id"].to_numpy()[test]]
        np.testing.assert_array_equal(part.priority, own["mu1"] - own["mu0"])


def test_a_network_beside_features_keeps_the_learners_of_those(world, network):
    found = world.fits(networks={"net": network})
    assert [ranking for ranking in found if ranking[0] == "image:net"] == [("image:net", NETWORK)]
    assert ("tabular", NETWORK) not in found
    assert len(found) == 7


def test_without_a_design_probability_propensities_of_a_network_are_clipped(world, network):
    plan = dataclasses.replace(PLAN, probability=None, settings=EffectSettings(clip=0.3))
    pooled = network.pooled.assign(propensity=0.001)
    given = NetworkPredictions(pooled, network.sequential)
    (fit, _) = world.fits({}, {"net": given}, plan, ("image:net",))["image:net", NETWORK]
    rows = pooled[pooled["split"] == 0].set_index("unit_id").loc[world.units.table["unit_id"]]
    w, y = world.units.treatment, world.units.outcome
    by_hand = np.where(w == 1, fit.effect + (y - rows["mu1"]) / 0.3,
                       fit.effect - (y - rows["mu0"]) / 0.7)  # fmt: skip
    np.testing.assert_allclose(fit.score, by_hand, rtol=1e-12)


def test_a_network_may_have_fewer_splits_than_the_study(world, network):
    first = NetworkPredictions(*(t[t["split"] == 0] for t in (network.pooled, network.sequential)))
    found = world.fits({}, {"net": first}, wanted=("image:net",))
    assert len(found["image:net", NETWORK]) == 1


def test_units_without_a_prediction_are_named(world, network):
    short = network.pooled[network.pooled["unit_id"] != "u007"]
    with pytest.raises(DataError, match=r"1 of 180 tested units .* split 0 \(first: u007\)"):
        world.fits(
            {}, {"net": NetworkPredictions(short, network.sequential)}, wanted=("image:net",)
        )
    steps = world.folds.sequence(0, SEED)
    tested = world.units.table["unit_id"].to_numpy()[steps[0][1]]
    later = network.sequential[network.sequential["unit_id"] != tested[0]]
    with pytest.raises(DataError, match=rf"1 of \d+ tested units .*first: {tested[0]}\)"):
        world.fits({}, {"net": NetworkPredictions(network.pooled, later)}, wanted=("image:net",))


def test_units_with_missing_features_are_named(world):
    values = world.values.copy()
    values[2, 1] = np.nan
    with pytest.raises(DataError, match=r"features image: 3 of 180 units .*u006, u007, u008"):
        world.fits({"image": lambda _: values}, wanted=("image:image",))


def test_within_folds_levels_of_folds_are_gone_and_equal_values_stay_equal():
    fold = np.array([0, 0, 1, 1, 1])
    fit = SplitFit(np.zeros(5), np.zeros(5), fold, [])
    np.testing.assert_allclose(
        fit.within(np.array([1.0, 3, 10, 11, 12])), [6.4, 8.4, 6.4, 7.4, 8.4]
    )
    flat = fit.within(np.array([0.1, 0.1, 0.7, 0.7, 0.7]))
    assert len(np.unique(flat)) == 1
