"""Cross-fitting: no model predicts a unit it has seen."""

import dataclasses

import numpy as np
import pytest

from eo_causal.estimate.nuisance import (
    NuisanceSettings,
    Study,
    cross_fit,
    fit_source,
    recalibrate,
    stitch,
)
from eo_causal.estimate.propensity import calibration_slope


def fitted(world, folds, settings=None, **changes):
    units = world.study_units("x1", "x2", "confounder")
    arrays = {"treatment": units.treatment, "outcome": units.outcome} | changes
    return cross_fit(
        units.covariates.to_numpy(), arrays["treatment"], arrays["outcome"], folds.pairs(0),
        folds.group, settings, seed=1,
    )  # fmt: skip


@pytest.mark.parametrize("learner", ["penalised", "boosting"])
def test_predictions_do_not_depend_on_the_units_they_are_for(world, folds, learner):
    settings = NuisanceSettings()
    if learner == "boosting":
        settings = NuisanceSettings(propensity="boosting", outcome="boosting")
    before = fitted(world, folds, settings)
    test = folds.pairs(0)[2][1]
    units = world.study_units()
    treatment, outcome = units.treatment.copy(), units.outcome.copy()
    treatment[test], outcome[test] = 1 - treatment[test], 1000.0
    after = fitted(world, folds, settings, treatment=treatment, outcome=outcome)
    for name in ("propensity", "mu0", "mu1"):
        first, second = getattr(before, name), getattr(after, name)
        assert np.array_equal(first[test], second[test])
        assert not np.array_equal(first, second)


def test_every_unit_is_predicted_once_and_repeatably(world, folds):
    first, again = fitted(world, folds), fitted(world, folds)
    assert np.array_equal(first.fold, folds.table["fold_of_unit"].to_numpy()[0])
    assert np.isfinite(first.mu0).all()
    assert np.isfinite(first.mu1).all()
    assert ((first.propensity > 0) & (first.propensity < 1)).all()
    assert np.array_equal(first.propensity, again.propensity)


def test_features_are_learned_from_training_chips_only(world, folds, band_means):
    units = world.study_units("x1", "x2")
    rows = np.arange(len(units))
    study = Study(
        rows.astype(object), units.treatment, units.outcome, units.covariates.to_numpy(), rows,
        len(rows), folds.group,
    )  # fmt: skip
    parts = [
        fit_source("m", band_means, study, (False, True), pair, (0, k), NuisanceSettings(), 1)
        for k, pair in enumerate(folds.pairs(0))
    ]
    for (training, _), seen in zip(folds.pairs(0), band_means.trained, strict=True):
        assert np.array_equal(seen, training)
    alone, joined = (stitch(list(arm), len(rows)) for arm in zip(*parts, strict=True))
    assert (alone.n_features, joined.n_features) == (3, 5)
    truth = world.units["confounder"]
    assert np.corrcoef(alone.propensity, truth)[0, 1] > 0.9


@pytest.mark.parametrize("how", ["logistic", "isotonic"])
def test_recalibration_undoes_label_smoothing(world, folds, how):
    units = world.study_units()

    def slope(**settings):
        found = fitted(world, folds, NuisanceSettings(label_smoothing=0.3, **settings))
        return calibration_slope(units.treatment, found.propensity, found.fold, units.cluster)

    timid, mended = slope(), slope(recalibration=how)
    assert timid.estimate > 1.5
    assert abs(mended.estimate - 1) < abs(timid.estimate - 1) / 2


def test_logistic_recalibration_by_hand():
    """Four groups whose shares are 1/(1 + exp(-2 logit)): the slope is 2, the level 0."""
    raw = np.repeat([0.2, 0.5, 0.8], 1700)
    logits = np.log(raw / (1 - raw))
    share = 1 / (1 + np.exp(-2 * logits))
    treatment = np.concatenate([np.arange(1700) < round(1700 * p) for p in share[::1700]])
    found = recalibrate(raw, treatment.astype(float), np.array([0.3]), "logistic")
    assert found[0] == pytest.approx(1 / (1 + np.exp(-2 * np.log(3 / 7))), abs=1e-3)


def test_the_names_of_groups_do_not_matter(world, folds):
    first = fitted(world, folds)
    table = folds.table.assign(group=folds.table["group"] * 3 + 1)
    renamed = fitted(world, dataclasses.replace(folds, table=table))
    assert np.array_equal(first.propensity, renamed.propensity)
