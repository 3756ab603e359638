"""Guards: each is attacked with what it must refuse."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.folds import Folds
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError, EOCausalWarning, LeakageError, OverlapError
from eo_causal.estimate.checks import (
    CheckSettings,
    check_folds,
    check_separation,
    judge_calibration,
    judge_overlap,
    judge_trial_shift,
    warn_of_smoothing,
)
from eo_causal.estimate.propensity import Slope

SETTINGS = CheckSettings()


def units_of(treatment, outcome=None, keys=None):
    n = len(treatment)
    names = [str(i) for i in range(n)]
    outcome = np.arange(n, dtype=float) if outcome is None else outcome
    table = pd.DataFrame({
        "unit_id": names, "image_key": names if keys is None else keys, "cluster": names,
        "treatment": treatment, "outcome": outcome, "easting": np.nan, "northing": np.nan,
    })  # fmt: skip
    return StudyUnits(table, pd.DataFrame({"age": np.arange(n) % 3, "late": treatment}))


def folds_of(fold, group=None):
    fold = np.asarray(fold)
    training = np.stack([fold != k for k in range(fold.max() + 1)])
    table = xr.Dataset({
        "fold_of_unit": (("split", "unit"), fold[None]),
        "training": (("split", "fold", "unit"), training[None]),
        "group": ("unit", np.arange(len(fold)) if group is None else np.asarray(group)),
    })  # fmt: skip
    return Folds(table, "image_key", 0)


def test_good_folds_pass():
    check_folds(units_of(np.tile([0.0, 1], 4)), folds_of(np.repeat([0, 1], 4)), 2)


@pytest.mark.parametrize(
    ("treatment", "outcome"), [(np.ones(8), None), (np.tile([0.0, 1], 4), np.ones(8))]
)
def test_constant_treatment_or_outcome_is_refused(treatment, outcome):
    with pytest.raises(DataError, match="an effect needs both arms and an outcome that varies"):
        check_folds(units_of(treatment, outcome), folds_of(np.repeat([0, 1], 4)), 2)


def test_one_treated_group_in_training_is_refused():
    units = units_of(np.array([0.0, 1, 0, 1, 0, 1, 0, 1]))
    folds = folds_of(np.repeat([0, 1], 4), group=[0, 1, 2, 1, 4, 5, 6, 7])
    with pytest.raises(
        DataError, match=r"Fold 1 of split 0 learns from 2 treated units in 1 group"
    ):
        check_folds(units, folds, 2)


def test_an_image_in_both_parts_is_refused():
    units = units_of(np.tile([0.0, 1], 4), keys=list("abcdefga"))
    with pytest.raises(LeakageError, match="image key"):
        check_folds(units, folds_of(np.repeat([0, 1], 4)), 2)


def test_perfect_prediction_names_the_column():
    units = units_of(np.tile([0.0, 1], 50))
    with pytest.raises(LeakageError, match=r"image:m\+tabular: .* tell most: late, age") as caught:
        check_separation("image:m+tabular", units, units.treatment * 0.9)
    assert caught.value.facts["auc"] == 1
    check_separation("image:m", units, np.linspace(0, 1, 100))


def test_many_clipped_propensities_are_refused():
    shares = {"treated": 0.5, "untreated": 0.5}
    with pytest.raises(
        OverlapError, match=r"tabular: 30.0% of propensities are outside \[0.01, 0.99"
    ):
        judge_overlap("tabular", 0.3, shares, 0.01, SETTINGS)
    with pytest.raises(OverlapError):
        judge_overlap("tabular", np.nan, shares, 0.01, SETTINGS)
    with pytest.warns(EOCausalWarning, match=r"3.0% of propensities were clipped") as caught:
        judge_overlap("tabular", 0.03, shares, 0.01, SETTINGS)
    assert caught[0].message.code == "OverlapWarning"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_overlap("tabular", 0.02, shares, 0.01, SETTINGS)


@pytest.mark.parametrize("share", [0.04, np.nan])
def test_few_effective_units_are_refused(share):
    with pytest.raises(OverlapError, match="of the untreated units effective"):
        judge_overlap("tabular", 0.0, {"treated": 0.5, "untreated": share}, 0.01, SETTINGS)


@pytest.mark.parametrize(
    ("slope", "word"), [(Slope(0.5, 0.1, 1.0), "bold"), (Slope(1.6, 0.1, 1.0), "timid")]
)
def test_wrong_calibration_warns(slope, word):
    with pytest.warns(EOCausalWarning, match=f"too {word}.*slope is {slope.estimate}") as caught:
        judge_calibration("tabular", slope, SETTINGS)
    assert caught[0].message.code == "CalibrationWarning"


@pytest.mark.parametrize(
    "slope",
    [
        Slope(0.5, 0.3, 1.0),
        Slope(-3.0, 1.0, 0.05),
        Slope(0.9, 0.01, 1.0),
        Slope(np.nan, np.nan, 0.0),
    ],
    ids=["uncertain", "hardly_varies", "inside", "constant"],
)
def test_slopes_that_say_nothing_are_quiet(slope):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_calibration("tabular", slope, SETTINGS)


def test_trial_shift_lists_what_moved():
    with pytest.warns(EOCausalWarning, match=r"\(tabular aipw \+0.20\)") as caught:
        judge_trial_shift({"tabular aipw": 0.2, "tabular hajek": -0.05}, SETTINGS)
    assert caught[0].message.code == "TrialShiftWarning"


def test_label_smoothing_warns_unless_recalibrated():
    with pytest.warns(EOCausalWarning, match="label_smoothing 0.05") as caught:
        warn_of_smoothing(0.05, "none")
    assert caught[0].message.code == "LabelSmoothingWarning"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_smoothing(0.05, "logistic")
        warn_of_smoothing(0.0, "none")
