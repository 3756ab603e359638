"""Gaussian fields have the covariance they are asked for."""

import numpy as np
import pytest

from eo_causal.core.fields import draw_fields, exponential_correlation


def test_correlation_falls_with_distance():
    places = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    found = exponential_correlation(places, 2.5)
    np.testing.assert_allclose(found[0], [1, np.exp(-2), 1])
    np.testing.assert_array_equal(found, found.T)


def test_draws_have_the_correlation():
    places = np.random.default_rng(0).uniform(0, 1, (6, 2))
    correlation = exponential_correlation(places, 0.5)
    fields = draw_fields(np.random.default_rng(1), correlation, 200_000)
    np.testing.assert_allclose(fields @ fields.T / 200_000, correlation, atol=0.02)


def test_units_at_one_place_have_one_value():
    places = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    fields = draw_fields(np.random.default_rng(2), exponential_correlation(places, 0.5), 3)
    assert fields[0] == pytest.approx(fields[1], abs=1e-3)
