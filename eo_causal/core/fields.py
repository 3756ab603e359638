"""Gaussian fields over places, with exponential covariance."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NUGGET = 1e-8


def exponential_correlation(places: Floats, reach: float) -> Floats:
    """(n, n) correlation exp(-d/reach) between places.

    Parameters
    ----------
    places : (n, 2) array
        Easting and northing.
    reach : float
        Range, in the units of ``places``.
    """
    from scipy.spatial.distance import pdist, squareform

    return np.asarray(np.exp(-squareform(pdist(places)) / reach))


def draw_fields(random: np.random.Generator, correlation: Floats, n_fields: int) -> Floats:
    """(n, field) independent Gaussian fields of mean 0 and the given correlation.

    1e-8 of the variance is noise, so that units at one place can be drawn too.
    """
    factor = np.linalg.cholesky(correlation + NUGGET * np.eye(len(correlation)))
    return np.asarray(factor @ random.standard_normal((len(correlation), n_fields)))
