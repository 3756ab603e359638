"""Worlds over space without any effect: fields that seem related because both are smooth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.fields import draw_fields, exponential_correlation
from eo_causal.core.random import generator

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FieldWorld:
    """Units in the unit square.

    Attributes
    ----------
    places : (n, 2) array
        Easting and northing, in sides of the square.
    treatment : (n,) array
        A field, or the field above its median (0 or 1).
    outcome : (n,) array
        A field independent of everything else.
    features : (n, k) array
        Fields independent of everything else, or white noise.
    """

    places: Floats
    treatment: Floats
    outcome: Floats
    features: Floats


def independent_fields(
    seed: int,
    n: int = 300,
    reach: float = 0.12,
    *,
    binary: bool = False,
    noise: float = 0.0,
    clumps: int | None = None,
) -> FieldWorld:
    """Treatment and outcome are independent exponential fields: no effect is true (A3).

    Parameters
    ----------
    seed : int
        Seed.
    n : int
        Units.
    reach : float
        Range of both covariances exp(-d/reach), in sides of the square.
    binary : bool
        Treatment is 1 where its field is above the median.
    noise : float
        Share of the treatment's variance that is white noise.
    clumps : int, optional
        Units lie round so many random centres (normal, sd 0.03) instead of evenly.
    """
    random = generator(seed, "independent_fields")
    places = _places(random, n, clumps)
    fields = draw_fields(random, exponential_correlation(places, reach), 2)
    treatment = np.sqrt(1 - noise) * fields[:, 0] + np.sqrt(noise) * random.standard_normal(n)
    if binary:
        treatment = (treatment > np.median(treatment)).astype(float)
    return FieldWorld(places, treatment, fields[:, 1], np.empty((n, 0)))


def noise_fields(
    seed: int, n: int = 600, n_features: int = 10, reach: float = 0.15, *, smooth: bool = True
) -> FieldWorld:
    """Features that say nothing of the outcome, yet predict it at neighbours of training units.

    Outcome and features are independent exponential fields; with ``smooth=False`` the features are
    white noise, and nothing can be learned from neighbours. The treatment is the outcome above its
    median, so that the same holds for a classifier.
    """
    random = generator(seed, "noise_fields")
    places = _places(random, n, None)
    fields = draw_fields(random, exponential_correlation(places, reach), 1 + n_features)
    features = fields[:, 1:] if smooth else random.standard_normal((n, n_features))
    outcome = fields[:, 0]
    return FieldWorld(places, (outcome > np.median(outcome)).astype(float), outcome, features)


def _places(random: np.random.Generator, n: int, clumps: int | None) -> Floats:
    if clumps is None:
        return random.uniform(0, 1, (n, 2))
    centres = random.uniform(0, 1, (clumps, 2))
    return np.asarray(centres[random.integers(0, clumps, n)] + random.normal(0, 0.03, (n, 2)))
