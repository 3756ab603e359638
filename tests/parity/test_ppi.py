"""Prediction-powered means against the library of their authors (row T14)."""

import numpy as np
import pytest
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

from eo_causal.debias.ppi import ppi_mean


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tuned", "power", "tolerance"), [(False, 1, 1e-10), (True, None, 1e-8)])
def test_means_and_intervals_are_those_of_the_authors(seed, tuned, power, tolerance):
    """Their lambda None is the tuned one."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=60 + 40 * seed)
    labelled = 0.6 * truth + 0.5 * random.normal(size=len(truth))
    unlabelled = 0.7 * random.normal(size=900)
    expected = ppi_mean_pointestimate(truth, labelled, unlabelled, lam=power)
    lower, upper = ppi_mean_ci(truth, labelled, unlabelled, alpha=0.05, lam=power)
    outcome = np.concatenate([truth, np.full(len(unlabelled), np.nan)])
    found = ppi_mean(outcome, np.concatenate([labelled, unlabelled]), tuned=tuned)
    assert found.estimate == pytest.approx(np.ravel(expected)[0], abs=tolerance)
    assert found.interval == pytest.approx((np.ravel(lower)[0], np.ravel(upper)[0]), abs=1e-8)
