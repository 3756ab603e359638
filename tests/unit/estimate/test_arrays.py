"""From arrays in three lines."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from eo_causal.core.folds import FoldSettings
from eo_causal.errors import DataError, LeakageError
from eo_causal.estimate.arrays import ate_from_arrays, units_of_arrays

ONE = FoldSettings(n_splits=1)


@pytest.fixture
def arrays():
    random = np.random.default_rng(1)
    covariates = random.normal(size=(500, 2))
    treatment = random.binomial(1, expit(covariates[:, 0]))
    return treatment, 2 * treatment + covariates.sum(axis=1) + random.normal(size=500), covariates


def test_an_effect_from_arrays(arrays):
    effect = ate_from_arrays(*arrays, seed=1).effect("tabular")
    assert effect.interval[0] < 2 < effect.interval[1]
    assert effect.std_error < 0.15
    assert "aipw, tabular, ATE, independent units" in str(effect)


def test_missing_covariates_are_filled_not_dropped(arrays):
    treatment, outcome, covariates = arrays
    covariates[::10, 1] = np.nan
    effect = ate_from_arrays(treatment, outcome, covariates, seed=1, folds=ONE).effect("tabular")
    assert effect.n == 500
    assert effect.estimate == pytest.approx(2, abs=0.3)


def test_clusters_stay_together(arrays):
    cluster = np.repeat(np.arange(50), 10)
    found = ate_from_arrays(*arrays, cluster, seed=1, folds=ONE)
    assert found.nuisance.groupby(cluster)["fold"].nunique().eq(1).all()
    assert found.effects["errors"].eq("50 clusters").all()


def test_names_of_a_table_are_kept(arrays):
    treatment, outcome, covariates = arrays
    table = pd.DataFrame(covariates, columns=["age", "income"], index=np.arange(500) + 7)
    assert list(units_of_arrays(treatment, outcome, table).covariates) == ["age", "income"]


def test_traps_are_found(arrays):
    treatment, outcome, covariates = arrays
    covariates[:, 1] *= treatment
    with pytest.raises(LeakageError, match="1 is 0 wherever treatment is 0"):
        ate_from_arrays(treatment, outcome, covariates, seed=1)


def test_few_units_are_refused():
    with pytest.raises(DataError):
        ate_from_arrays([0, 1, 0, 1], [1.0, 2, 3, 4], [[1.0], [2], [4], [3]], seed=1)
