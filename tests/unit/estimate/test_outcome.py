"""Outcomes read from images: roles of folds, numbers that reproduce, refusals."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import StudyUnits
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.outcome import OutcomeSettings, apply_head, fold_roles, predict_outcome

N = 240


def embedding_of(values, keys):
    return xr.DataArray(
        values, dims=("unit", "feature"),
        coords={"image_key": ("unit", keys), "unit_id": ("unit", keys),
                "feature": [f"f{number}" for number in range(values.shape[1])]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def survey():
    """Units on a square of 100 km whose outcome is a linear function of twelve features and noise."""
    random = np.random.default_rng(0)
    features = random.normal(size=(N, 12)) * random.uniform(0.1, 10, 12) + 3
    keys = [f"k{number}" for number in range(N)]
    outcome = 0.3 * (features[:, 0] - 3) / features[:, 0].std() + random.normal(0, 0.2, N)
    table = pd.DataFrame({
        "unit_id": keys, "image_key": keys, "treatment": np.nan, "outcome": outcome,
        "cluster": keys, "easting": random.uniform(0, 1e5, N), "northing": random.uniform(0, 1e5, N),
    })  # fmt: skip
    return StudyUnits(table, pd.DataFrame(index=table.index)), embedding_of(features, keys)


def folds_of(units, **changes):
    settings = FoldSettings(**{"kind": "spatial_block", "n_splits": 1, **changes})
    return make_folds(units, settings, None, 500.0, False, seed=4)


@pytest.fixture(scope="module")
def fit(survey):
    units, embedding = survey
    return predict_outcome(units, folds_of(units), embedding, OutcomeSettings(), seed=1)


def test_each_unit_is_predicted_once_by_a_model_that_never_saw_it(survey, fit):
    units, embedding = survey
    assert fit.predictions["unit_id"].tolist() == units.table["unit_id"].tolist()
    error = fit.predictions["outcome_pred"] - fit.predictions["outcome"]
    assert error.std() < 0.25
    moved = units.table.assign(outcome=units.outcome)
    moved.loc[7, "outcome"] += 100
    other = predict_outcome(
        StudyUnits(moved, units.covariates), folds_of(units), embedding, OutcomeSettings(), seed=1
    )
    own = fit.predictions.loc[7, "fold"]
    same = fit.predictions["fold"].isin([own, (own - 1) % 5])
    before, after = fit.predictions["outcome_pred"], other.predictions["outcome_pred"]
    assert after[7] == before[7]
    pd.testing.assert_series_equal(after[same], before[same])
    assert (after[~same] != before[~same]).all()


def test_test_calibration_and_training_are_apart(survey):
    units, _ = survey
    for training, test, calibration in fold_roles(folds_of(units)):
        assert not set(training) & set(test)
        assert not set(training) & set(calibration)
        assert not set(test) & set(calibration)
        assert len(training) > N / 3


def test_calibration_units_are_those_of_the_next_fold(fit):
    fold = fit.predictions.set_index("unit_id")["fold"]
    assert (fold[fit.calibration["unit_id"]].to_numpy() == (fit.calibration["fold"] + 1) % 5).all()
    assert len(fit.calibration) == N


def test_the_head_repeats_the_predictions_from_raw_features(survey, fit):
    _, embedding = survey
    everywhere = apply_head(fit.head, embedding)
    assert everywhere.dims == ("unit", "fold")
    own = everywhere.to_numpy()[np.arange(N), fit.predictions["fold"]]
    np.testing.assert_allclose(own, fit.predictions["outcome_pred"], atol=1e-9)
    np.testing.assert_allclose(apply_head(fit.head, embedding.chunk(unit=50)), everywhere)


def test_components_and_constant_features_stay_in_the_head(survey):
    units, embedding = survey
    constant = embedding.copy(data=embedding.to_numpy().copy())
    constant[:, 3] = 5.0
    settings = OutcomeSettings(n_components=4)
    found = predict_outcome(units, folds_of(units), constant, settings, seed=1)
    own = apply_head(found.head, constant).to_numpy()[np.arange(N), found.predictions["fold"]]
    np.testing.assert_allclose(own, found.predictions["outcome_pred"], atol=1e-9)
    assert (found.head["weight"][:, 3] == 0).all()


def test_trees_predict_but_make_no_map(survey):
    units, embedding = survey
    settings = OutcomeSettings(model="forest")
    found = predict_outcome(units, folds_of(units, n_folds=3), embedding, settings, seed=1)
    assert np.corrcoef(found.predictions["outcome"], found.predictions["outcome_pred"])[0, 1] > 0.6
    with pytest.raises(ConfigError, match=r"maps need outcome\.model: ridge"):
        apply_head(found.head, embedding)


def test_other_features_than_the_models_are_refused(survey, fit):
    _, embedding = survey
    with pytest.raises(ConfigError, match="knows 12 features, the embedding has 11"):
        apply_head(fit.head, embedding[:, 1:])


def test_two_folds_are_too_few(survey):
    units, embedding = survey
    with pytest.raises(ConfigError, match=r"n_folds is 2"):
        predict_outcome(units, folds_of(units, n_folds=2), embedding, OutcomeSettings(), seed=1)


def test_missing_features_are_named(survey):
    units, embedding = survey
    broken = embedding.copy(data=embedding.to_numpy().copy())
    broken[5, 0] = np.nan
    with pytest.raises(DataError, match="k5"):
        predict_outcome(units, folds_of(units), broken, OutcomeSettings(), seed=1)


def test_a_buffer_that_leaves_nothing_to_learn_from_is_refused(survey):
    units, embedding = survey
    folds = folds_of(units, n_folds=3)
    empty = folds.table.assign(training=folds.table["training"] & False)
    with pytest.raises(DataError, match="0 units are left to learn from"):
        predict_outcome(
            units, type(folds)(empty, folds.kind, 0), embedding, OutcomeSettings(), seed=1
        )
