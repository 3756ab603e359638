"""Penalised regressions against scikit-learn, and how they choose their penalty."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsRegressor

from eo_causal.errors import ConfigError
from eo_causal.estimate.learners import (
    LOGISTIC_PENALTIES,
    Boosting,
    FromSklearn,
    Ridge,
    RidgeLogistic,
    deal_groups,
    logistic_coefficients,
    outcome_learner,
    propensity_learner,
)


@pytest.fixture
def sample():
    random = np.random.default_rng(0)
    design = random.normal(size=(400, 6))
    treatment = (random.random(400) < expit(design[:, 0] - design[:, 1])).astype(float)
    outcome = design @ [1, 2, 0, 0, 0, 0] + random.normal(size=400)
    return design, treatment, outcome, np.arange(400) % 5


@pytest.mark.parametrize("penalty", [10.0, 1e-2, 1e-5])
def test_logistic_equals_scikit_learn(sample, penalty):
    design, treatment = sample[:2]
    found = logistic_coefficients(design, treatment, np.ones((400, 1)), penalty)[0]
    fit = LogisticRegression(
        C=1 / (400 * penalty), tol=1e-12, max_iter=10_000, solver="newton-cholesky"
    )
    fit.fit(design, treatment)
    np.testing.assert_allclose(found[1:], fit.coef_[0], atol=1e-6)
    assert found[0] == pytest.approx(fit.intercept_[0], abs=1e-6)


def test_copies_are_fitted_as_if_alone(sample):
    design, treatment, _, folds = sample
    weights = (folds[:, None] != np.arange(5)).astype(float)
    together = logistic_coefficients(design, treatment, weights, 0.01)
    rest = folds != 2
    alone = logistic_coefficients(design[rest], treatment[rest], np.ones((rest.sum(), 1)), 0.01)
    np.testing.assert_allclose(together[2], alone[0], atol=1e-9)


def test_separated_arms_end_in_finite_coefficients():
    design = np.linspace(-3, 3, 40)[:, None]
    treatment = (design[:, 0] > 0).astype(float)
    found = logistic_coefficients(design, treatment, np.ones((40, 1)), 1e-5)[0]
    fit = LogisticRegression(
        C=1 / (40 * 1e-5), tol=1e-12, max_iter=10_000, solver="newton-cholesky"
    )
    fit.fit(design, treatment)
    assert found[1] == pytest.approx(fit.coef_[0, 0], rel=1e-5)


def test_the_penalty_has_the_least_out_of_fold_log_loss(sample):
    design, treatment, _, folds = sample
    learner = RidgeLogistic().fit(design, treatment, folds)
    losses = []
    for penalty in LOGISTIC_PENALTIES:
        margin = np.empty(400)
        for k in range(5):
            rest = folds != k
            ones = np.ones((rest.sum(), 1))
            found = logistic_coefficients(design[rest], treatment[rest], ones, penalty)[0]
            margin[~rest] = found[0] + design[~rest] @ found[1:]
        losses.append(np.mean(np.logaddexp(0, margin) - treatment * margin))
    assert learner.penalty_ == LOGISTIC_PENALTIES[int(np.argmin(losses))]
    ones = np.ones((400, 1))
    found = logistic_coefficients(design, treatment, ones, learner.penalty_)[0]
    np.testing.assert_allclose(learner.predict(design), expit(found[0] + design @ found[1:]))


def test_noise_gets_the_strongest_penalty():
    random = np.random.default_rng(1)
    design, treatment = random.normal(size=(200, 30)), random.integers(0, 2, 200).astype(float)
    learner = RidgeLogistic().fit(design, treatment, np.arange(200) % 5)
    assert learner.penalty_ >= 1
    assert np.std(learner.predict(design)) < 0.1


def test_label_smoothing_moves_targets(sample):
    design, treatment, _, folds = sample
    plain = RidgeLogistic((1e-3,)).fit(design, treatment, folds)
    smooth = RidgeLogistic((1e-3,), label_smoothing=0.05).fit(design, treatment, folds)
    wanted = logistic_coefficients(design, treatment * 0.95 + 0.025, np.ones((400, 1)), 1e-3)[0]
    np.testing.assert_allclose(smooth.coefficients_, wanted[1:])
    assert np.abs(smooth.coefficients_).sum() < np.abs(plain.coefficients_).sum()


def test_ridge_equals_scikit_learn_and_chooses_the_least_error(sample):
    design, _, outcome, folds = sample
    learner = Ridge().fit(design, outcome, folds)
    errors = []
    for penalty in learner.penalties:
        error = 0.0
        for k in range(5):
            rest = folds != k
            fit = SklearnRidge(alpha=penalty * rest.sum()).fit(design[rest], outcome[rest])
            error += ((outcome[~rest] - fit.predict(design[~rest])) ** 2).sum()
        errors.append(error)
    assert learner.penalty_ == learner.penalties[int(np.argmin(errors))]
    whole = SklearnRidge(alpha=learner.penalty_ * 400).fit(design, outcome)
    np.testing.assert_allclose(learner.coefficients_, whole.coef_, atol=1e-10)
    np.testing.assert_allclose(learner.predict(design), whole.predict(design), atol=1e-10)


def test_no_column_predicts_the_mean(sample):
    _, treatment, outcome, folds = sample
    nothing = np.empty((400, 0))
    assert Ridge().fit(nothing, outcome, folds).predict(nothing)[0] == pytest.approx(outcome.mean())
    share = RidgeLogistic().fit(nothing, treatment, folds).predict(nothing)[0]
    assert share == pytest.approx(treatment.mean())


def test_more_columns_than_units_are_no_obstacle():
    random = np.random.default_rng(2)
    design, outcome = random.normal(size=(20, 50)), random.normal(size=20)
    assert np.isfinite(Ridge().fit(design, outcome, np.arange(20) % 2).predict(design)).all()


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_boosting_learns_and_repeats(sample, kind):
    design, treatment, outcome, folds = sample
    target = treatment if kind == "classifier" else outcome
    first, again = (Boosting(kind, 3).fit(design, target, folds).predict(design) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.corrcoef(first, target)[0, 1] > 0.8


def test_groups_are_dealt_whole_and_treated_ones_evenly():
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 5) * 7
    treated = (group < 10 * 7).astype(float)
    folds = deal_groups(group, treated, 5, random)
    assert all(len(set(folds[group == g])) == 1 for g in np.unique(group))
    assert [treated[folds == k].sum() for k in range(5)] == [10] * 5


def test_few_groups_make_few_folds():
    folds = deal_groups(np.array([3, 3, 8]), np.array([1.0, 0, 1]), 5, np.random.default_rng(0))
    assert sorted(set(folds)) == [0, 1]


def test_weighted_ridge_equals_scikit_learn(sample):
    design, _, outcome, folds = sample
    weights = np.random.default_rng(4).exponential(size=400)
    learner = Ridge().fit(design, outcome, folds, weights)
    whole = SklearnRidge(alpha=learner.penalty_ * weights.sum())
    whole.fit(design, outcome, sample_weight=weights)
    np.testing.assert_allclose(learner.predict(design), whole.predict(design), atol=1e-10)
    even = Ridge().fit(design, outcome, folds, np.full(400, 7.0))
    np.testing.assert_allclose(
        even.predict(design), Ridge().fit(design, outcome, folds).predict(design), atol=1e-10
    )


def test_weighted_ridge_without_a_penalty_is_weighted_least_squares(sample):
    design, _, outcome, folds = sample
    weights = np.random.default_rng(4).exponential(size=400)
    learner = Ridge((0.0,)).fit(design, outcome, folds, weights)
    fitted = sm.WLS(outcome, sm.add_constant(design), weights=weights).fit()
    np.testing.assert_allclose([learner.intercept_, *learner.coefficients_], fitted.params)


def test_units_of_weight_zero_teach_ridge_nothing(sample):
    design, _, outcome, folds = sample
    weights = (np.arange(400) >= 100).astype(float)
    changed = np.where(weights == 0, 1e3, outcome)
    first, again = (Ridge().fit(design, y, folds, weights) for y in (outcome, changed))
    np.testing.assert_allclose(first.predict(design), again.predict(design), atol=1e-8)


def test_many_blocks_of_rows_are_one_ridge():
    random = np.random.default_rng(6)
    design = random.normal(3, 2, size=(30_000, 3))
    outcome = design @ [1.0, -1, 2] + 100 + random.normal(size=30_000)
    learner = Ridge().fit(design, outcome, np.arange(30_000) % 2)
    whole = SklearnRidge(alpha=learner.penalty_ * 30_000).fit(design, outcome)
    np.testing.assert_allclose(learner.predict(design), whole.predict(design), atol=1e-9)


@pytest.mark.parametrize(
    ("learner", "tolerance"),
    [(Ridge(), 1e-10), (RidgeLogistic(), 1e-5), (Boosting("regressor", 3), 0.0)],
)
def test_held_out_predictions_come_from_the_other_folds(sample, learner, tolerance):
    """Also for units that the models were not to learn from at all."""
    design, treatment, outcome, folds = sample
    target = treatment if isinstance(learner, RidgeLogistic) else outcome
    seen = np.arange(400) < 300
    learner.fit(design[seen], target[seen], folds[seen])
    found = learner.held_out(design, target, folds, seen)
    for k in range(5):
        rest = seen & (folds != k)
        alone = type(learner)("regressor", 3) if isinstance(learner, Boosting) else type(learner)()
        alone.penalties = (learner.penalty_,)
        alone.fit(design[rest], target[rest], np.arange(rest.sum()) % 2)
        expected = alone.predict(design[folds == k])
        np.testing.assert_allclose(found[folds == k], expected, atol=tolerance, rtol=0)


def test_a_fold_that_nothing_was_learned_from_gets_the_model_of_all(sample):
    design, _, outcome, folds = sample
    seen = folds != 4
    learner = Ridge().fit(design[seen], outcome[seen], folds[seen])
    found = learner.held_out(design, outcome, folds, seen)
    np.testing.assert_array_equal(found[~seen], learner.predict(design[~seen]))


def test_a_model_of_scikit_learn_is_cloned_and_weighted(sample):
    design, _, outcome, folds = sample
    weights = np.random.default_rng(4).exponential(size=400)
    model = LinearRegression()
    learner = FromSklearn(model).fit(design, outcome, folds, weights)
    expected = LinearRegression().fit(design, outcome, sample_weight=weights).predict(design)
    np.testing.assert_array_equal(learner.predict(design), expected)
    plain = FromSklearn(model).fit(design, outcome, folds).predict(design)
    np.testing.assert_array_equal(plain, LinearRegression().fit(design, outcome).predict(design))
    assert not hasattr(model, "coef_")
    held = FromSklearn(model).held_out(design, outcome, folds, np.ones(400, dtype=bool))
    rest = LinearRegression().fit(design[folds != 1], outcome[folds != 1])
    np.testing.assert_array_equal(held[folds == 1], rest.predict(design[folds == 1]))


def test_a_model_without_weights_is_refused_only_where_they_are_needed(sample):
    design, _, outcome, folds = sample
    learner = FromSklearn(KNeighborsRegressor()).fit(design, outcome, folds)
    assert np.corrcoef(learner.predict(design), outcome)[0, 1] > 0.8
    with pytest.raises(ConfigError, match="KNeighborsRegressor takes no sample_weight"):
        learner.fit(design, outcome, folds, np.ones(400))


def test_boosting_obeys_weights(sample):
    design, _, outcome, folds = sample
    weights = (np.arange(400) < 200).astype(float)
    changed = np.where(weights == 0, outcome + 50, outcome)
    learner = Boosting("regressor", 3)
    first = learner.fit(design, outcome, folds, weights).predict(design)
    np.testing.assert_allclose(first, learner.fit(design, changed, folds, weights).predict(design))


def test_learners_have_names():
    assert isinstance(outcome_learner("ridge", 1), Ridge)
    assert outcome_learner("boosting", 1).kind == "regressor"
    assert isinstance(propensity_learner("logistic", 1), RidgeLogistic)
    assert propensity_learner("boosting", 1).kind == "classifier"
