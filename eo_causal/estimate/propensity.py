"""Propensities: clipping, weights, calibration, overlap."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.variance import mean_std_error
from eo_causal.estimate.learners import logistic_coefficients

Floats = NDArray[np.float64]
EDGE = 1e-6
LEAST_SPREAD = 0.1
SLOPE_PENALTY = 1e-10


@dataclass(frozen=True)
class Slope:
    """Slope of the treatment on logit(e) within folds; 1 = calibrated.

    Attributes
    ----------
    estimate, std_error : float
        NaN where e does not vary.
    spread : float
        Standard deviation of logit(e) within folds.
    """

    estimate: float
    std_error: float
    spread: float

    def is_outside(self, low: float, high: float) -> bool:
        """Outside [low, high], and it matters.

        It matters where the slope is not 1 beyond its own error (95 %) and logit(e) spreads by more
        than 0.1. Below that weights differ by a few percent, and the slope of propensities that see
        only noise, as in a trial, is anything: strongly negative as a rule, because what one part of
        the units happens to show, the rest shows less.
        """
        away = abs(self.estimate - 1) > 1.96 * self.std_error
        return bool(away and self.spread > LEAST_SPREAD and not low <= self.estimate <= high)


def clip(propensity: Floats, at: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Propensities within [at, 1 - at], and which were outside."""
    inside = np.clip(propensity, at, 1 - at)
    return inside, inside != propensity


def inverse_weights(treatment: Floats, propensity: Floats) -> tuple[Floats, Floats]:
    """(unit,) weights W/e of the treated and (1 - W)/(1 - e) of the controls."""
    return treatment / propensity, (1 - treatment) / (1 - propensity)


def effective_size(weights: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def logit(propensity: Floats) -> Floats:
    """log(e / (1 - e)), e kept within [1e-6, 1 - 1e-6]."""
    inside = np.clip(propensity, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def log_loss(treatment: Floats, propensity: Floats) -> float:
    """Mean negative log-likelihood, e kept within [1e-6, 1 - 1e-6]."""
    inside = np.clip(propensity, EDGE, 1 - EDGE)
    return float(-np.mean(np.log(np.where(treatment == 1, inside, 1 - inside))))


def area_under_curve(treatment: Floats, propensity: Floats) -> float:
    """Probability that a treated unit has the higher propensity; ties count one half."""
    from scipy.stats import rankdata

    treated = treatment == 1
    n1, n0 = int(treated.sum()), int((~treated).sum())
    ranks = rankdata(propensity)
    return float((ranks[treated].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def calibration_slope(
    treatment: Floats, propensity: Floats, fold: NDArray[np.intp], cluster: NDArray[np.intp]
) -> Slope:
    """Slope of the treatment on the logit of out-of-fold propensities.

    The slope within folds: the mean logit of a fold is a regressor of its own, because a training
    part has few treated units where its test fold has many, which alone makes a slope of -(K - 1).
    Standard error robust to heteroskedasticity and to ``cluster``.

    Parameters
    ----------
    treatment, propensity : (unit,) array
    fold, cluster : (unit,) int array
        Fold a unit was predicted in; units whose errors depend on one another.
    """
    score = logit(propensity)
    level = pd.Series(score).groupby(fold).transform("mean").to_numpy()
    within = score - level
    spread = float(within.std())
    if not spread > EDGE:
        return Slope(np.nan, np.nan, spread)
    design = np.column_stack([within / spread, level - level.mean()])
    weights = np.ones((len(treatment), 1))
    found = logistic_coefficients(design, treatment, weights, SLOPE_PENALTY)[0]
    with_intercept = np.column_stack([np.ones(len(design)), design])
    expected = 1 / (1 + np.exp(-with_intercept @ found))
    curvature = (with_intercept * (expected * (1 - expected))[:, None]).T @ with_intercept
    bread = np.linalg.pinv(curvature / len(treatment), hermitian=True)
    influence = (with_intercept * (treatment - expected)[:, None]) @ bread[:, 1]
    error = mean_std_error(influence, cluster) / spread
    return Slope(float(found[1]) / spread, error, spread)


def calibration_bins(treatment: Floats, propensity: Floats, n_bins: int = 10) -> pd.DataFrame:
    """Mean propensity and share of treated by quantile bin: bin, predicted, observed, n."""
    from scipy.stats import rankdata

    rank = rankdata(propensity, method="average")
    number = np.minimum(((rank - 0.5) / len(rank) * n_bins).astype(int), n_bins - 1)
    table = pd.DataFrame({"bin": number, "predicted": propensity, "observed": treatment})
    groups = table.groupby("bin")
    return groups.mean().assign(n=groups.size()).reset_index()


def overlap_histogram(treatment: Floats, propensity: Floats, n_bins: int = 20) -> pd.DataFrame:
    """Units by propensity, for each arm: treated, low, high, n."""
    edges = np.linspace(0, 1, n_bins + 1)
    parts = [
        pd.DataFrame({
            "treated": bool(arm), "low": edges[:-1], "high": edges[1:],
            "n": np.histogram(propensity[treatment == arm], edges)[0],
        })
        for arm in (0, 1)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
