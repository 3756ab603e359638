"""A trial in which whole clusters are treated and the effect is the same for all: nothing to rank."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.random import generator

Floats = NDArray[np.float64]
EFFECT = 0.3
SHARED = 0.5


@dataclass(frozen=True)
class ClusteredTrial:
    """Units of a trial and what is true of them.

    Attributes
    ----------
    features : (unit, feature) array
        Standard normal, independent.
    treatment : (unit,) array
        0 or 1, the same within a cluster, with probability 1/2.
    outcome : (unit,) array
    cluster : (unit,) int array
        Codes 0, 1, ...
    effect : float
        The effect on every unit.
    """

    features: Floats
    treatment: Floats
    outcome: Floats
    cluster: NDArray[np.intp]
    effect: float


def clustered_trial(
    seed: int, n_clusters: int = 300, n_each: int = 3, n_features: int = 10
) -> ClusteredTrial:
    """An effect that no feature tells apart, among outcomes that features do tell apart (C10).

    Y = Z_2 + 0.5 u_g + 0.3 W + N(0, 1) with features Z ~ N(0, I), cluster effects u_g ~ N(0, 1) and
    W ~ Bernoulli(1/2) drawn by cluster. A test of effect heterogeneity rejects at its nominal level.

    Parameters
    ----------
    n_clusters, n_each : int
        Clusters, and units of each.
    n_features : int
        At least 2.
    """
    random = generator(seed, "clustered_trial")
    cluster = np.repeat(np.arange(n_clusters), n_each)
    features = random.standard_normal((len(cluster), n_features))
    treatment = random.integers(0, 2, n_clusters)[cluster].astype(float)
    shared, own = random.standard_normal(n_clusters)[cluster], random.standard_normal(len(cluster))
    outcome = features[:, 1] + SHARED * shared + EFFECT * treatment + own
    return ClusteredTrial(features, treatment, outcome, cluster, EFFECT)
