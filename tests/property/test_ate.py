"""Do effects come out right, and their intervals cover? Repeated studies (EO_CAUSAL_SIZE=full for all).

Rows C-5 to C-9 of the confounding worlds. In CI they run with fewer repetitions.
"""

import dataclasses
import warnings

import numpy as np
import pytest

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.errors import EOCausalWarning
from eo_causal.estimate.arms import AteSettings, estimate_ate
from eo_causal.estimate.ate import aipw, difference_in_means, hajek
from eo_causal.estimate.checks import warn_of_smoothing
from eo_causal.estimate.nuisance import NuisanceSettings, cross_fit
from eo_causal.estimate.propensity import calibration_slope, clip
from eo_causal.simulate.confounding import clustered, null, tutorial

pytestmark = pytest.mark.statistics
ONE_SPLIT = FoldSettings(n_splits=1)
ORACLE = ("x1", "x2", "confounder")


def arms_of(world, units, seed, settings=None):
    """All arms with band means as image features, one split."""
    means = world.chips.mean(["time", "y", "x"]).to_numpy()
    folds = make_folds(units, ONE_SPLIT, None, 0.0, False, seed=seed)
    keys = world.chips["image_key"].values.tolist()
    features = {"means": lambda training: means}
    return estimate_ate(units, folds, keys, features, {}, settings or AteSettings(), seed=seed)


def nuisance_of(units, seed, n_folds=5, **settings):
    """Cross-fitted nuisances from the covariates alone, one split."""
    chosen = FoldSettings(n_splits=1, n_folds=n_folds)
    folds = make_folds(units, chosen, None, 0.0, False, seed=seed)
    return cross_fit(
        units.covariates.to_numpy(), units.treatment, units.outcome, folds.pairs(0), folds.group,
        NuisanceSettings(**settings), seed=seed,
    )  # fmt: skip


def test_images_remove_the_confounding_that_only_they_show(full_size, measured):
    """C-5: naive 1.97, blind to images .85, image and covariates 0; a proxy of .95 leaves .09."""
    errors = {"naive": [], "blind": [], "both": [], "oracle": [], "proxy": []}
    for seed in range(20 if full_size else 8):
        world = tutorial(seed, size=4)
        found = arms_of(world, world.study_units("x1", "x2"), seed)
        errors["naive"].append(found.effect("unadjusted", "difference_in_means").estimate - 2)
        errors["blind"].append(found.effect("tabular").estimate - 2)
        errors["both"].append(found.effect("image:means+tabular").estimate - 2)
        for name, last in (("oracle", "confounder"), ("proxy", "proxy")):
            units = world.study_units("x1", "x2", last)
            nuisance = nuisance_of(units, seed)
            propensity = clip(nuisance.propensity, 0.01)[0]
            effect = aipw(units.treatment, units.outcome, propensity, nuisance.mu0, nuisance.mu1)
            errors[name].append(effect.estimate - 2)
    bias = {name: float(np.mean(values)) for name, values in errors.items()}
    for name, value in bias.items():
        measured(f"bias_{name}", value)
    measured("rmse_both", np.sqrt(np.mean(np.square(errors["both"]))))
    assert bias["naive"] == pytest.approx(1.97, abs=0.1)
    assert bias["blind"] == pytest.approx(0.85, abs=0.1)
    assert abs(bias["both"]) < 0.2
    assert np.sqrt(np.mean(np.square(errors["both"]))) < 0.3
    assert bias["oracle"] < bias["proxy"] < 0.2


def test_intervals_cover_and_the_spread_of_folds_does_not(full_size, measured):
    """C-6: nominal 95 %; the sd of two fold estimates over sqrt(2) covers about 79 %.

    In CI 80 repetitions: the range is widened by two binomial standard errors of that number.
    """
    n = 400 if full_size else 80
    covered, two_folds = [], []
    for seed in range(n):
        units = tutorial(seed, size=1).study_units(*ORACLE)
        nuisance = nuisance_of(units, seed)
        propensity = clip(nuisance.propensity, 0.01)[0]
        effect = aipw(units.treatment, units.outcome, propensity, nuisance.mu0, nuisance.mu1)
        low, high = effect.effect().interval
        covered.append(low < 2 < high)
        halves = nuisance_of(units, seed, n_folds=2)
        propensity = clip(halves.propensity, 0.01)[0]
        parts = [
            hajek(units.treatment[rows], units.outcome[rows], propensity[rows]).estimate
            for rows in (halves.fold == 0, halves.fold == 1)
        ]
        half_width = 1.96 * np.std(parts, ddof=1) / np.sqrt(2)
        two_folds.append(abs(np.mean(parts) - 2) < half_width)
    share, wrong = float(np.mean(covered)), float(np.mean(two_folds))
    measured("coverage", share)
    measured("coverage_of_fold_sd", wrong)
    wider = 0.0 if full_size else 2 * np.sqrt(0.95 * 0.05 / n)
    assert 0.92 - wider <= share <= 0.975 + wider
    assert wrong < 0.87


def test_clustered_errors_cover_where_units_share_images(full_size, measured):
    """C-7: independent errors are too small by 1.73 and cover about 73 %."""
    n = 400 if full_size else 200
    covered, ratio = [], []
    for seed in range(n):
        units = clustered(seed, size=1).study_units()
        found = difference_in_means(units.treatment, units.outcome)
        effects = found.effect(units.cluster), found.effect()
        covered.append([effect.interval[0] < 1 < effect.interval[1] for effect in effects])
        ratio.append(effects[0].std_error / effects[1].std_error)
    together, alone = np.mean(covered, axis=0)
    measured("coverage_clustered", together)
    measured("coverage_iid", alone)
    measured("ratio_of_errors", np.mean(ratio))
    assert np.mean(ratio) > 1.5
    assert together >= 0.92 - (0 if full_size else 2 * np.sqrt(0.95 * 0.05 / n))
    assert alone < 0.8


def test_clustered_trials_are_estimated_with_clustered_errors(measured):
    """C-7 through all of cross-fitting: images of noise, folds by image."""
    world = clustered(1, size=2)
    found = arms_of(world, world.study_units(), 1)
    assert found.effects["errors"].eq("200 clusters").all()
    fold = found.nuisance.groupby(world.units["image_key"].to_numpy())["fold"]
    assert fold.nunique().eq(1).all()
    row = found.effect("image:means")
    measured("std_error", row.std_error)
    assert row.interval[0] < 1 < row.interval[1]


def test_permuted_treatment_cannot_be_predicted_and_does_nothing(full_size, measured):
    """C-8: labels do not leak through cross-fitting; no effect on null data."""
    aucs, ratios = [], []
    for seed in range(20 if full_size else 6):
        world = null(seed, size=2)
        units = world.study_units("x1")
        shuffled = np.random.default_rng(seed).permutation(units.treatment)
        units = dataclasses.replace(units, table=units.table.assign(treatment=shuffled))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # a chance pattern may well be called out
            found = arms_of(world, units, seed)
        aucs.append(found.arms["auc"].to_numpy())
        rows = found.effects[found.effects["estimator"] == "aipw"]
        ratios.append((rows["estimate"] / rows["std_error"]).to_numpy())
    measured("auc", np.mean(aucs))
    measured("largest_ratio", np.abs(ratios).max())
    assert np.mean(aucs, axis=0) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.abs(ratios) < 2) > 0.85
    assert np.abs(np.mean(ratios)) < 2 / np.sqrt(len(ratios)) + 0.1


def test_label_smoothing_is_seen_for_what_it_does(full_size, measured):
    """C-9: calibrated without; with smoothing .05 a warning, and Hajek off by about +.34."""
    n = 100 if full_size else 30
    bias, slopes = {0.0: [], 0.05: []}, {0.0: [], 0.05: []}
    for seed in range(n):
        units = tutorial(seed, size=1).study_units(*ORACLE)
        for smoothing in bias:
            nuisance = nuisance_of(units, seed, label_smoothing=smoothing)
            propensity = clip(nuisance.propensity, 1e-3)[0]
            bias[smoothing].append(hajek(units.treatment, units.outcome, propensity).estimate - 2)
            slope = calibration_slope(
                units.treatment, nuisance.propensity, nuisance.fold, units.cluster
            )
            slopes[smoothing].append(slope.estimate)
    for smoothing in bias:
        measured(f"bias_{smoothing}", np.mean(bias[smoothing]))
        measured(f"slope_{smoothing}", np.mean(slopes[smoothing]))
    assert ((np.array(slopes[0.0]) > 0.8) & (np.array(slopes[0.0]) < 1.25)).all()
    assert np.mean(slopes[0.05]) > np.mean(slopes[0.0]) + 0.05
    assert np.mean(bias[0.05]) == pytest.approx(0.34, abs=0.1)
    assert abs(np.mean(bias[0.0])) < 0.15
    with pytest.warns(EOCausalWarning, match="biases weighted estimates"):
        warn_of_smoothing(0.05, "none")
