"""One simulated series, with and without gaps, for every test of the estimators."""

import numpy as np
import pytest

from eo_causal.impact.model import ImpactSettings
from eo_causal.simulate.series import local_level_series

INTERVENTION = "2020-01"


def split(frame):
    """Outcome and controls of a frame whose first column is the outcome."""
    return frame.iloc[:, 0], frame.iloc[:, 1:]


@pytest.fixture
def settings():
    return ImpactSettings(intervention=INTERVENTION, covariates=("x1", "x2", "x3"))


@pytest.fixture(params=[0.0, 0.2], ids=["complete", "gaps"])
def series(request):
    """S1, seed 7; with gaps a fifth of its months is missing."""
    frame = local_level_series(7)
    missing = np.random.default_rng(3).random(len(frame)) < request.param
    missing[0] = False
    return split(frame.assign(y=frame["y"].mask(missing)))


@pytest.fixture
def complete():
    return split(local_level_series(7))
