"""Small studies for the estimators."""

import numpy as np
import pytest

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.simulate.confounding import tutorial


class BandMeans:
    """Features of chips: means of bands; remembers which chips it was trained on."""

    def __init__(self, chips):
        self.chips = chips
        self.trained = []

    def __call__(self, training):
        self.trained.append(np.asarray(training))
        return self.chips.mean(["time", "y", "x"]).to_numpy()


@pytest.fixture(scope="session")
def world():
    """400 units, half of the confounding only in the chips."""
    return tutorial(1, n=400, size=4)


@pytest.fixture(scope="session")
def folds(world):
    """Two splits of the world's units into five folds."""
    chosen = FoldSettings(kind="image_key", n_splits=2)
    return make_folds(world.study_units(), chosen, None, 0.0, False, seed=3)


@pytest.fixture
def band_means(world):
    """Features of the world's chips."""
    return BandMeans(world.chips)
