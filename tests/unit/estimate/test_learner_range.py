"""Nine pairs of learners on one arm: which fits are paired, and what is refused."""

import warnings

import pytest

from eo_causal.errors import ConfigError, EOCausalWarning
from eo_causal.estimate.arms import AteSettings, estimate_ate
from eo_causal.estimate.learner_range import learner_pairs
from eo_causal.estimate.nuisance import NuisanceSettings

SETTINGS = AteSettings(estimators=("aipw",), arms=("tabular",))


@pytest.fixture(scope="module")
def units(world):
    return world.study_units("x1", "x2")


@pytest.fixture(scope="module")
def pairs(units, folds):
    return learner_pairs(units, folds, [], {}, "tabular", SETTINGS, seed=5)


def test_all_pairs_of_three_and_three_are_estimated(pairs):
    assert len(pairs) == 9
    assert len(pairs[["propensity", "outcome"]].drop_duplicates()) == 9
    assert pairs["std_error"].gt(0).all()
    assert pairs["estimate"].between(2, 4).all()


@pytest.mark.parametrize(("propensity", "outcome"), [("logistic", "ridge"), ("forest", "forest")])
def test_a_pair_of_one_kind_is_the_estimate_with_these_learners(
    units, folds, pairs, propensity, outcome
):
    chosen = NuisanceSettings(propensity=propensity, outcome=outcome)
    settings = SETTINGS.model_copy(update={"nuisance": chosen})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EOCausalWarning)  # a forest is too bold in this world
        splits = estimate_ate(units, folds, [], {}, {}, settings, seed=5).splits
    first = splits[(splits["split"] == 0) & (splits["arm"] == "tabular")].iloc[0]
    own = pairs[(pairs["propensity"] == propensity) & (pairs["outcome"] == outcome)].iloc[0]
    assert own["estimate"] == pytest.approx(first["estimate"])
    assert own["std_error"] == pytest.approx(first["std_error"])


def test_in_a_trial_the_known_probability_takes_the_place_of_models(units, folds):
    settings = SETTINGS.model_copy(update={"randomised": True, "design_probability": 0.5})
    found = learner_pairs(units, folds, [], {}, "tabular", settings, seed=5)
    by_outcome = found.groupby("outcome")["estimate"]
    assert (by_outcome.max() == by_outcome.min()).all()


def test_an_arm_that_is_not_there_is_refused(units, folds):
    with pytest.raises(ConfigError, match="image:no"):
        learner_pairs(units, folds, [], {}, "image:no", SETTINGS, seed=5)
