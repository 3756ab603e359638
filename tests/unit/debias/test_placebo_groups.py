"""The slope between groups: hand-computed components, noise within groups, refusals."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.debias.placebo_groups import between_group_slope
from eo_causal.errors import DataError
from eo_causal.simulate import predictions


def test_the_slope_between_groups_is_that_of_variance_components():
    """Two unequal groups by hand: means 1, 4 of truth and 2, 4 of prediction, sizes 2 and 3."""
    groups = pd.DataFrame(
        {
            "outcome": [0.5, 1.5, 3.5, 4.0, 4.5],
            "prediction": [1.9, 2.1, 3.9, 4.0, 4.1],
            "group": ["a", "a", "b", "b", "b"],
        }
    )
    covariance_between, covariance_within = 2 * 3 / 5 * 3 * 2, (0.05 * 2 + 0.05 * 2) / 3
    variance_between, variance_within = 2 * 3 / 5 * 9, (0.25 * 2 + 0.25 * 2) / 3
    expected = (covariance_between - covariance_within) / (variance_between - variance_within)
    assert between_group_slope(groups, seed=0)[0] == pytest.approx(expected)


def test_noise_within_groups_does_not_pull_the_slope_down():
    table = predictions.placebo_groups(1, 2000, 0.1, 0.5, True).calibration
    kappa, lower, upper = between_group_slope(table, seed=0)
    raw = np.cov(table.groupby("group").mean().T)
    assert raw[0, 1] / raw[0, 0] < 0.8
    assert lower < kappa < upper
    assert kappa == pytest.approx(1, abs=0.06)


def test_one_group_is_refused():
    groups = predictions.placebo_groups(0).calibration
    with pytest.raises(DataError, match="1 groups of"):
        between_group_slope(groups.assign(group=1), seed=0)
    with pytest.raises(DataError, match="missing"):
        between_group_slope(groups.assign(group=None), seed=0)
