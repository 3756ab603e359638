"""Standardised differences by hand, with missing values, and after weighting by the truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from eo_causal.errors import DataError
from eo_causal.estimate.balance import balance_table, leading_components
from eo_causal.estimate.nuisance import Study

TREATMENT = np.array([1.0, 1, 0, 0])


def test_difference_by_hand():
    """Means 3 and 1, variances 1 and 1 (population): 2. Weights 4/3 and 4: 2.5 and 1."""
    table = balance_table(
        pd.DataFrame({"a": [2.0, 4, 0, 2]}), TREATMENT, np.array([0.75, 0.25, 0.5, 0.5])
    )
    assert table["smd_before"].tolist() == pytest.approx([2])
    assert table["smd_after"].tolist() == pytest.approx([(2 * 4 / 3 + 4 * 4) / (16 / 3) - 1])


def test_missing_values_are_left_out_and_constants_are_zero():
    table = balance_table(
        pd.DataFrame({"a": [2.0, 4, 0, np.nan], "b": [1.0, 1, 1, 1]}), TREATMENT, np.full(4, 0.5)
    )
    spread = np.sqrt((1 + 0) / 2)
    assert table["smd_before"].tolist() == pytest.approx([3 / spread, 0])


def test_no_variable_is_an_empty_table():
    table = balance_table(pd.DataFrame(index=range(4)), TREATMENT, np.full(4, 0.5))
    assert table.empty
    assert list(table) == ["variable", "smd_before", "smd_after"]


def test_true_propensities_balance():
    random = np.random.default_rng(0)
    x = random.normal(size=20_000)
    propensity = expit(x)
    treatment = (random.random(20_000) < propensity).astype(float)
    table = balance_table(pd.DataFrame({"x": x}), treatment, propensity)
    assert table["smd_before"].iloc[0] > 0.8
    assert abs(table["smd_after"].iloc[0]) < 0.05


def study(n_images, image_of_unit):
    n = len(image_of_unit)
    blank = np.zeros(n)
    ids = np.arange(n).astype(object)
    return Study(ids, blank, blank, np.empty((n, 0)), image_of_unit, n_images, image_of_unit)


def test_leading_components_follow_the_units():
    values = np.random.default_rng(0).normal(size=(6, 3)) * [5, 1, 1]
    found = leading_components("stats", lambda chips: values, study(6, np.array([0, 0, 5])))
    assert list(found) == ["stats component 1", "stats component 2", "stats component 3"]
    assert found.iloc[0].tolist() == found.iloc[1].tolist() != found.iloc[2].tolist()


def test_features_of_another_number_of_images_are_refused():
    with pytest.raises(DataError, match=r"features stats have the shape \(5, 3\) for 6 images"):
        leading_components("stats", lambda chips: np.ones((5, 3)), study(6, np.array([0, 1])))
