"""Prediction-powered means against what the library of their authors gives (row T14).

ppi-python 0.2.3 is not installed here: its wheel brings a package named ``tests``, which hides this folder from
worker processes.
"""

import numpy as np
import pytest

from eo_causal.debias.ppi import ppi_mean

PLACES, OTHERS = np.arange(40), np.arange(300)
TRUTH = np.sin(PLACES) + PLACES / 40
LABELLED = 0.6 * TRUTH + 0.8 * np.cos(3 * PLACES)
UNLABELLED = 0.7 * np.sin(2 * OTHERS) + OTHERS / 600


@pytest.mark.parametrize(
    ("tuned", "estimate", "interval", "tolerance"),
    [
        (False, 0.4548736577200528, (0.24922917090221494, 0.6605181445378906), 1e-10),  # lam=1
        (True, 0.4575891100191214, (0.2557005252751554, 0.6594776947630874), 1e-8),  # lam=None
    ],
)
def test_means_and_intervals_are_those_of_the_authors(tuned, estimate, interval, tolerance):
    """ppi_mean_pointestimate and ppi_mean_ci with alpha .05."""
    outcome = np.concatenate([TRUTH, np.full(len(OTHERS), np.nan)])
    found = ppi_mean(outcome, np.concatenate([LABELLED, UNLABELLED]), tuned=tuned)
    assert found.estimate == pytest.approx(estimate, abs=tolerance)
    assert found.interval == pytest.approx(interval, abs=1e-8)
