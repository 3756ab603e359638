"""Learners of effects: hand cases, and the same numbers from econml, scikit-learn and statsmodels."""

import sys

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsRegressor

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.cate import (
    EffectSettings,
    NuisanceModels,
    Nuisances,
    Rows,
    fit_effects,
    fit_nuisances,
)
from eo_causal.estimate.learners import deal_groups

SETTINGS = EffectSettings()
LEARNERS = ("t", "x", "r", "dr")


def random(seed=0):
    return np.random.default_rng(seed)


def world(n=600, noise=1.0, seed=1, effect=lambda x: 2 + x[:, 0]):
    """Treatment depends on the second feature; three rows a group."""
    draw = random(seed)
    design = draw.normal(size=(n, 4))
    treatment = (draw.random(n) < 1 / (1 + np.exp(-design[:, 1]))).astype(float)
    outcome = design[:, 1] + effect(design) * treatment + noise * draw.normal(size=n)
    return Rows(design, treatment, outcome, np.arange(n) // 3)


@pytest.fixture(scope="module")
def rows():
    return world()


@pytest.fixture(scope="module")
def nuisances(rows):
    return fit_nuisances(rows, None, SETTINGS, random())


class ArmRidge(BaseEstimator):
    """Ridge in each arm, for econml, which asks with [features, treatment]."""

    def __init__(self, penalties):
        self.penalties = penalties

    def fit(self, design, outcome):
        arm = design[:, -1]
        self.models_ = [
            SklearnRidge(alpha=penalty * (arm == k).sum()).fit(
                design[arm == k, :-1], np.ravel(outcome)[arm == k]
            )
            for k, penalty in enumerate(self.penalties)
        ]
        return self

    def predict(self, design):
        means = [model.predict(design[:, :-1]) for model in self.models_]
        return np.where(design[:, -1] == 1, means[1], means[0])


class Known(BaseEstimator):
    """The design probability of a trial."""

    classes_ = np.array([0, 1])

    def __init__(self, probability):
        self.probability = probability

    def fit(self, design, treatment):
        return self

    def predict_proba(self, design):
        return np.tile([1 - self.probability, self.probability], (len(design), 1))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_linear_effect_without_noise_is_recovered(name):
    """tau = 2 + x0: at x0 = -1, 0, 1 the effects are 1, 2, 3."""
    rows = world(noise=0.0)
    nuisances = fit_nuisances(rows, None, SETTINGS, random())
    model = fit_effects(name, rows, nuisances, SETTINGS, random())
    found = model.predict(np.array([[-1.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
    np.testing.assert_allclose(found, [1, 2, 3], atol=0.01)


def test_scores_are_those_of_econml_with_the_same_folds_and_models(rows):
    """E[score] by DRLearner's own nuisance fits, ridge in each arm, e = 0.4."""
    from econml.dr import LinearDRLearner

    found = fit_nuisances(rows, 0.4, SETTINGS, random())
    folds = deal_groups(rows.group, rows.treatment, 5, random())
    pairs = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(5)]
    penalties = found.models.control.penalty_, found.models.treated.penalty_
    peer = LinearDRLearner(
        model_propensity=Known(0.4), model_regression=ArmRidge(penalties), cv=pairs
    )
    peer.fit(rows.outcome, rows.treatment, X=rows.design, cache_values=True)
    potential = peer._cached_values.nuisances[0]
    np.testing.assert_allclose(found.score(rows), potential[:, 1] - potential[:, 0], atol=1e-10)


def test_predictions_are_out_of_fold_and_groups_stay_whole(rows):
    """An outcome that is changed moves no prediction of its own group."""
    first = fit_nuisances(rows, None, SETTINGS, random())
    outcome = rows.outcome.copy()
    outcome[rows.group == 7] += 3.0
    changed = Rows(rows.design, rows.treatment, outcome, rows.group)
    again = fit_nuisances(changed, None, SETTINGS, random())
    penalties = (first.models.control.penalty_, first.models.treated.penalty_)
    assert penalties == (again.models.control.penalty_, again.models.treated.penalty_)
    moved = np.abs(first.mu0 - again.mu0) + np.abs(first.mu1 - again.mu1) > 1e-9
    folds = deal_groups(rows.group, rows.treatment, 5, random())
    own = folds == folds[rows.group == 7][0]
    assert not moved[own].any()
    assert moved[~own].all()


def test_boosted_nuisances_are_out_of_fold(rows):
    settings = EffectSettings(outcome="boosting", propensity="boosting", inner_folds=2)
    found = fit_nuisances(rows, None, settings, random())
    seen = np.where(rows.treatment == 1, found.mu1, found.mu0)
    fitted = np.where(rows.treatment == 1, *found.predict(rows.design)[:0:-1])
    assert np.var(rows.outcome - seen) > 1.0  # the noise
    assert np.var(rows.outcome - fitted) < 0.5


def test_the_design_probability_takes_the_place_of_a_model(rows):
    found = fit_nuisances(rows, 0.4, SETTINGS, random())
    assert (found.propensity == 0.4).all()
    assert (found.predict(rows.design[:3])[0] == 0.4).all()


def test_propensities_are_clipped_and_counted(rows):
    settings = EffectSettings(clip=0.3)
    with counting() as counts:
        found = fit_nuisances(rows, None, settings, random())
    assert found.propensity.min() == 0.3
    assert found.propensity.max() == 0.7
    assert counts["propensities_clipped"] == np.isin(found.propensity, [0.3, 0.7]).sum()
    assert found.predict(rows.design)[0].min() == 0.3


def test_t_is_the_difference_of_models_fitted_to_each_arm(rows, nuisances):
    model = fit_effects("t", rows, nuisances, SETTINGS, random(), LinearRegression())
    arms = [
        LinearRegression().fit(rows.design[rows.treatment == w], rows.outcome[rows.treatment == w])
        for w in (0, 1)
    ]
    expected = arms[1].predict(rows.design) - arms[0].predict(rows.design)
    np.testing.assert_allclose(model.predict(rows.design), expected, atol=1e-10)
    ridge = fit_effects("t", rows, nuisances, SETTINGS, random()).predict(rows.design)
    _, mu0, mu1 = nuisances.predict(rows.design)
    np.testing.assert_allclose(ridge, mu1 - mu0, atol=0.02)


def test_x_equals_its_formula(rows, nuisances):
    model = fit_effects("x", rows, nuisances, SETTINGS, random(), LinearRegression())
    treated = rows.treatment == 1
    tau1 = LinearRegression().fit(
        rows.design[treated], rows.outcome[treated] - nuisances.mu0[treated]
    )
    tau0 = LinearRegression().fit(
        rows.design[~treated], nuisances.mu1[~treated] - rows.outcome[~treated]
    )
    new = random(5).normal(size=(20, 4))
    share = nuisances.predict(new)[0]
    expected = share * tau0.predict(new) + (1 - share) * tau1.predict(new)
    np.testing.assert_allclose(model.predict(new), expected, atol=1e-10)


def test_r_without_a_penalty_is_weighted_least_squares(rows, nuisances):
    model = fit_effects("r", rows, nuisances, SETTINGS, random(), LinearRegression())
    share = nuisances.propensity
    mean = share * nuisances.mu1 + (1 - share) * nuisances.mu0
    gap = rows.treatment - share
    design = sm.add_constant(rows.design)
    fitted = sm.WLS((rows.outcome - mean) / gap, design, weights=gap**2).fit()
    np.testing.assert_allclose(model.predict(rows.design), fitted.predict(design), atol=1e-10)


def test_dr_without_a_penalty_is_least_squares_on_scores(rows, nuisances):
    model = fit_effects("dr", rows, nuisances, SETTINGS, random(), LinearRegression())
    design = sm.add_constant(rows.design)
    fitted = sm.OLS(nuisances.score(rows), design).fit()
    np.testing.assert_allclose(model.predict(rows.design), fitted.predict(design), atol=1e-10)


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_are_predicted_one_by_one(name, rows, nuisances):
    model = fit_effects(name, rows, nuisances, SETTINGS, random())
    order = random(3).permutation(len(rows.design))
    together = model.predict(rows.design)
    np.testing.assert_allclose(model.predict(rows.design[order]), together[order], atol=1e-12)
    np.testing.assert_allclose(model.predict(rows.design[5:6]), together[5:6], atol=1e-12)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("final", ["ridge", "boosting"])
def test_learners_repeat(name, final, rows, nuisances):
    settings = EffectSettings(final=final, outcome=final)
    first, again = (
        fit_effects(name, rows, nuisances, settings, random()).predict(rows.design)
        for _ in range(2)
    )
    assert np.array_equal(first, again)
    assert np.corrcoef(first, rows.design[:, 0])[0, 1] > 0.5


def test_a_forest_of_scikit_learn_can_be_the_model(rows, nuisances):
    forest = RandomForestRegressor(20, min_samples_leaf=20, random_state=0)
    for name in LEARNERS:
        found = fit_effects(name, rows, nuisances, SETTINGS, random(), forest)
        assert np.corrcoef(found.predict(rows.design), rows.design[:, 0])[0, 1] > 0.5
    assert not hasattr(forest, "estimators_")


def test_rows_and_nuisances_are_taken_together(rows, nuisances):
    positions = np.array([4, 4, 9])
    part = nuisances.take(positions)
    np.testing.assert_array_equal(
        part.score(rows.take(positions)), nuisances.score(rows)[positions]
    )
    assert part.models is nuisances.models


def test_the_causal_forest_finds_a_step():
    rows = world(800, noise=0.5, effect=lambda x: 3.0 * (x[:, 0] > 0))
    nuisances = fit_nuisances(rows, None, SETTINGS, random())
    settings = EffectSettings(n_trees=50)
    first, again = (
        fit_effects("causal_forest", rows, nuisances, settings, random()).predict(rows.design)
        for _ in range(2)
    )
    assert np.array_equal(first, again)
    above = rows.design[:, 0] > 0
    assert first[above].mean() == pytest.approx(3, abs=0.6)
    assert first[~above].mean() == pytest.approx(0, abs=0.6)


def test_the_causal_forest_is_that_of_econml_on_residuals():
    from econml.grf import CausalForest

    rows = world(200)
    share, mu0, mu1 = np.full(200, 0.25), np.zeros(200), np.full(200, 2.0)
    nuisances = Nuisances(share, mu0, mu1, NuisanceModels(0.25, None, None, 0.01))
    settings = EffectSettings(n_trees=5)
    found = fit_effects("causal_forest", rows, nuisances, settings, random()).predict(rows.design)
    draw = random()
    deal_groups(rows.group, rows.treatment, 5, draw)
    peer = CausalForest(5, inference=False, n_jobs=1, random_state=int(draw.integers(2**31)))
    peer.fit(rows.design, rows.treatment - 0.25, rows.outcome - 0.5)
    np.testing.assert_array_equal(found, peer.predict(rows.design)[:, 0])


def test_a_causal_forest_without_econml_names_the_extra(rows, nuisances, monkeypatch):
    monkeypatch.setitem(sys.modules, "econml.grf", None)
    with pytest.raises(ConfigError, match=r"needs econml.*eo-causal\[forest\]") as caught:
        fit_effects("causal_forest", rows, nuisances, SETTINGS, random())
    assert caught.value.facts["extra"] == "forest"


def test_a_causal_forest_takes_no_other_model(rows, nuisances):
    with pytest.raises(ConfigError, match="no final model that LinearRegression could replace"):
        fit_effects("causal_forest", rows, nuisances, SETTINGS, random(), LinearRegression())


def test_r_needs_a_model_with_weights(rows, nuisances):
    with pytest.raises(ConfigError, match="KNeighborsRegressor takes no sample_weight"):
        fit_effects("r", rows, nuisances, SETTINGS, random(), KNeighborsRegressor())


def test_an_arm_in_one_group_cannot_be_cross_fitted(rows):
    treatment = (rows.group == 3).astype(float)
    lonely = Rows(rows.design, treatment, rows.outcome, rows.group)
    with pytest.raises(DataError, match="all 3 treated units lie in groups of one of 5") as caught:
        fit_nuisances(lonely, 0.5, SETTINGS, random())
    assert caught.value.facts == {"n": 3, "n_parts": 5}


def test_an_absent_arm_is_no_trial(rows):
    nobody = Rows(rows.design, np.ones(len(rows.outcome)), rows.outcome, rows.group)
    with pytest.raises(DataError, match="all 0 untreated units"):
        fit_nuisances(nobody, 0.5, SETTINGS, random())


@pytest.mark.parametrize("name", LEARNERS)
def test_effects_of_one_group_cannot_be_learned(name, rows, nuisances):
    together = Rows(rows.design, rows.treatment, rows.outcome, np.zeros(600, dtype=int))
    with pytest.raises(DataError, match="all 600 units lie in groups of one of 1 parts"):
        fit_effects(name, together, nuisances, SETTINGS, random())
