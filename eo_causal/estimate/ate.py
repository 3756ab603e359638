"""Average treatment effects and their influence values: arithmetic on arrays, nothing fitted.

>>> import numpy as np
>>> found = hajek(np.array([1.0, 0, 1, 0]), np.array([3.0, 1, 5, 1]), np.full(4, 0.5))
>>> found.estimate
3.0
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.effect import Effect
from eo_causal.core.variance import interval, mean_std_error
from eo_causal.errors import OverlapError
from eo_causal.estimate.propensity import effective_size, inverse_weights

Floats = NDArray[np.float64]
Estimator = Literal["aipw", "hajek", "horvitz_thompson", "overlap", "trimmed_aipw"]
TRIM = (0.1, 0.9)


@dataclass(frozen=True)
class Estimated:
    """An estimate and the influence of every unit on it.

    Attributes
    ----------
    estimate : float
        In units of the outcome.
    influence : (unit,) array
        Mean 0; the variance of the estimate is the variance of their mean.
    n : int
        Units that enter.
    n_effective : float
        Effective sample sizes of the two arms, summed.
    estimand : str
        Of whom the average is.
    """

    estimate: float
    influence: Floats
    n: int
    n_effective: float
    estimand: str = "ATE"

    def effect(
        self,
        cluster: NDArray[np.intp] | None = None,
        level: float = 0.95,
        method: str = "influence values",
    ) -> Effect:
        """With standard error and interval, robust to ``cluster`` where given."""
        error = mean_std_error(self.influence, cluster)
        n_clusters = None if cluster is None else len(np.unique(cluster))
        low_high = interval(self.estimate, error, level, n_clusters)
        return Effect(
            self.estimate, error, low_high, level, method, self.n, self.n_effective,
        )  # fmt: skip


def difference_in_means(treatment: Floats, outcome: Floats) -> Estimated:
    """Mean outcome of the treated minus that of the controls.

    Parameters
    ----------
    treatment, outcome : (unit,) array
        0 or 1; any number.
    """
    share = np.full(len(treatment), treatment.mean())
    found = _weighted(outcome, *inverse_weights(treatment, share))
    return Estimated(found.estimate, found.influence, found.n, float(len(treatment)))


def horvitz_thompson(treatment: Floats, outcome: Floats, propensity: Floats) -> Estimated:
    """Mean of WY/e - (1 - W)Y/(1 - e)."""
    treated, control = inverse_weights(treatment, propensity)
    value = (treated - control) * outcome
    estimate = float(value.mean())
    size = effective_size(treated) + effective_size(control)
    return Estimated(estimate, value - estimate, len(outcome), size)


def hajek(treatment: Floats, outcome: Floats, propensity: Floats) -> Estimated:
    """Difference of means weighted by 1/e and 1/(1 - e) (arXiv 2301.12985).

    Its influence takes e as known, which is conservative where e was estimated well.
    """
    return _weighted(outcome, *inverse_weights(treatment, propensity))


def overlap_weighted(treatment: Floats, outcome: Floats, propensity: Floats) -> Estimated:
    """Difference of means weighted by 1 - e and e: the effect where both arms occur (ATO)."""
    treated, control = treatment * (1 - propensity), (1 - treatment) * propensity
    return _weighted(outcome, treated, control, "overlap population")


def aipw_scores(
    treatment: Floats, outcome: Floats, propensity: Floats, mu0: Floats, mu1: Floats
) -> Floats:
    """(unit,) mu1 - mu0 + W(Y - mu1)/e - (1 - W)(Y - mu0)/(1 - e)."""
    treated, control = inverse_weights(treatment, propensity)
    return mu1 - mu0 + treated * (outcome - mu1) - control * (outcome - mu0)


def aipw(
    treatment: Floats, outcome: Floats, propensity: Floats, mu0: Floats, mu1: Floats
) -> Estimated:
    """Mean of the AIPW scores; right when either the propensity or the outcome models are.

    Parameters
    ----------
    treatment, outcome, propensity, mu0, mu1 : (unit,) array
        Predictions from models that did not see the unit.
    """
    score = aipw_scores(treatment, outcome, propensity, mu0, mu1)
    estimate = float(score.mean())
    treated, control = inverse_weights(treatment, propensity)
    size = effective_size(treated) + effective_size(control)
    return Estimated(estimate, score - estimate, len(outcome), size)


def trimmed_aipw(
    treatment: Floats,
    outcome: Floats,
    propensity: Floats,
    mu0: Floats,
    mu1: Floats,
    keep: tuple[float, float] = TRIM,
) -> Estimated:
    """AIPW among units with a propensity within ``keep``; their share counts as known.

    Raises
    ------
    OverlapError
        No treated, or no untreated, unit within.
    """
    kept = (propensity >= keep[0]) & (propensity <= keep[1])
    n_treated = int(treatment[kept].sum())
    if not 0 < n_treated < kept.sum():
        raise OverlapError(
            f"trimmed_aipw: {n_treated} treated and {int(kept.sum()) - n_treated} untreated units have a"
            f" propensity in {list(keep)}. Leave this estimator out.", n=int(kept.sum()),
        )  # fmt: skip
    inner = aipw(*(values[kept] for values in (treatment, outcome, propensity, mu0, mu1)))
    influence = np.zeros(len(outcome))
    influence[kept] = inner.influence / kept.mean()
    label = f"e in [{keep[0]:g}, {keep[1]:g}]"
    return Estimated(inner.estimate, influence, inner.n, inner.n_effective, label)


def estimate(
    name: Estimator,
    treatment: Floats,
    outcome: Floats,
    propensity: Floats,
    mu0: Floats,
    mu1: Floats,
) -> Estimated:
    """The estimator of this name."""
    weighting = {"hajek": hajek, "horvitz_thompson": horvitz_thompson, "overlap": overlap_weighted}
    if name in weighting:
        return weighting[name](treatment, outcome, propensity)
    augmented = trimmed_aipw if name == "trimmed_aipw" else aipw
    return augmented(treatment, outcome, propensity, mu0, mu1)


def _weighted(
    outcome: Floats, treated: Floats, control: Floats, estimand: str = "ATE"
) -> Estimated:
    """Difference of weighted means; weights are 0 outside their arm."""
    mean1 = float(treated @ outcome / treated.sum())
    mean0 = float(control @ outcome / control.sum())
    influence = treated * (outcome - mean1) / treated.mean()
    influence = influence - control * (outcome - mean0) / control.mean()
    size = effective_size(treated) + effective_size(control)
    return Estimated(mean1 - mean0, influence, len(outcome), size, estimand)
