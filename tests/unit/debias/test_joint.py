"""The joint bootstrap: parity with the delta method, shared units, clusters, models, refusals."""

import numpy as np
import pytest

from eo_causal.debias.effect import corrected_effect
from eo_causal.debias.joint import joint_effect
from eo_causal.debias.linear import LinearCalibration
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.simulate import predictions

WORLD = predictions.gaussian(0, 0.5, 0.5, 1000, 2000)
PREDICTION, TREATMENT = WORLD.trial["prediction"], WORLD.trial["treatment"]
LINE = LinearCalibration().fit(WORLD.calibration["outcome"], WORLD.calibration["prediction"])


def test_a_joint_bootstrap_is_near_the_delta_method():
    delta = corrected_effect("lcc", PREDICTION, TREATMENT, LINE)
    found = joint_effect("lcc", WORLD.trial, WORLD.calibration, seed=0)
    assert found.effect.estimate == pytest.approx(delta.effect.estimate)
    assert found.std_error_map_fixed == pytest.approx(delta.std_error_map_fixed)
    assert found.effect.std_error == pytest.approx(delta.effect.std_error, rel=0.12)
    assert found.effect.interval[0] == pytest.approx(delta.effect.interval[0], abs=0.03)
    again = joint_effect("lcc", WORLD.trial, WORLD.calibration, seed=0)
    assert again == found


def test_a_joint_bootstrap_corrects_by_model():
    fold = np.arange(2000) % 2
    trial = WORLD.trial.assign(fold=fold, prediction=PREDICTION + 9 * fold)
    pairs = WORLD.calibration.assign(fold=np.arange(1000) % 2)
    pairs["prediction"] += 9 * pairs["fold"]
    found = joint_effect("lcc", trial, pairs, n_draws=30, seed=0).effect
    level = joint_effect(
        "lcc", WORLD.trial.assign(fold=fold), WORLD.calibration.assign(fold=pairs["fold"]), n_draws=30,
        seed=0,
    ).effect  # fmt: skip
    assert found.estimate == pytest.approx(level.estimate)
    assert found.std_error == pytest.approx(level.std_error)
    assert found.estimate != pytest.approx(
        joint_effect("lcc", WORLD.trial, WORLD.calibration, seed=0).effect.estimate, rel=1e-6
    )
    with pytest.raises(DataError, match="No calibration pairs for the folds \\[1\\]"):
        joint_effect("lcc", trial, pairs[pairs["fold"] == 0], seed=0)
    with pytest.raises(DataError, match="Say in both which model"):
        joint_effect("lcc", WORLD.trial, pairs, seed=0)
    with pytest.raises(DataError, match="Say in both which model"):
        joint_effect("lcc", trial, WORLD.calibration, seed=0)


def test_units_in_both_tables_are_drawn_together():
    """All pairs are trial units: truth and prediction of a unit then come with its treatment."""
    trial = WORLD.trial.assign(unit_id=np.arange(2000))
    together = joint_effect("lcc", trial, trial, seed=0).effect
    apart = joint_effect("lcc", WORLD.trial, WORLD.trial, seed=0).effect
    exact = trial.groupby("treatment")["outcome"].mean().diff()[1]
    assert together.estimate == apart.estimate
    assert together.estimate == pytest.approx(exact, abs=0.15)
    assert together.std_error != apart.std_error


def test_clusters_are_drawn_whole():
    world = predictions.clustered_errors(0, n_calibration_clusters=40, n_clusters=40)
    pairs = world.calibration.assign(cluster=world.calibration["cluster"] + 1000)
    clustered = joint_effect("lcc", world.trial, pairs, seed=0)
    columns = ["outcome", "prediction"]
    plain = joint_effect("lcc", world.trial.drop(columns="cluster"), pairs[columns], seed=0)
    assert clustered.effect.std_error > 1.4 * plain.effect.std_error
    assert clustered.std_error_map_fixed > 1.4 * plain.std_error_map_fixed


def test_the_papers_bootstrap_says_that_it_covers_too_rarely():
    with pytest.warns(EOCausalWarning, match="31 %"):
        found = joint_effect("lcc", WORLD.trial, WORLD.calibration, calibration_fixed=True, seed=0)
    assert found.effect.std_error == pytest.approx(found.std_error_map_fixed, rel=0.12)
    assert found.effect.method == "lcc, trial bootstrap"
