"""Bounds when a hidden confounder moves treatment: marginal sensitivity, Manski, Rosenbaum, proxies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.variance import interval, mean_std_error
from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
LARGEST_LAMBDA = 50.0
LARGEST_GAMMA = 20.0
CALIPER = 0.2  # standard deviations of the logit propensity


@dataclass(frozen=True)
class Sample:
    """What bounds are computed from, one value a unit.

    Attributes
    ----------
    treatment, outcome, propensity : (n,) arrays
    mu0, mu1 : (n,) arrays
        Any predictions of the outcome in each arm that did not see the unit; zeros give the plain
        weighting form.
    fold : (n,) int array
        Quantiles of a unit come from the other folds.
    cluster : (n,) int array
        Units whose errors may depend on each other.
    """

    treatment: Floats
    outcome: Floats
    propensity: Floats
    mu0: Floats
    mu1: Floats
    fold: NDArray[np.intp]
    cluster: NDArray[np.intp]

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(np.unique(self.cluster))

    @property
    def arm_scores(self) -> tuple[Floats, Floats]:
        """(n,) AIPW scores of the mean outcome untreated, and treated."""
        untreated = (1 - self.treatment) * (self.outcome - self.mu0) / (1 - self.propensity)
        treated = self.treatment * (self.outcome - self.mu1) / self.propensity
        return self.mu0 + untreated, self.mu1 + treated


def upper_terms(
    treatment: Floats, outcome: Floats, propensity: Floats, quantile: Floats | float, odds: float
) -> Floats:
    """(n,) values whose mean bounds E[Y(1)] from above (Dorn and Guo, dual form).

    W Y + (1 - e) (W / e) [q + L (Y - q)+ - (q - Y)+ / L], for odds of treatment given everything
    that lie within a factor L of those given what is observed. Valid for any q, sharp where q is the
    L / (1 + L) quantile of Y given W = 1 and the covariates. L = 1 gives W Y / e.

    Parameters
    ----------
    quantile : (n,) array or float
        q.
    odds : float
        L, at least 1.
    """
    above, below = np.maximum(outcome - quantile, 0), np.maximum(quantile - outcome, 0)
    hidden = quantile + odds * above - below / odds
    return treatment * outcome + (1 - propensity) * treatment / propensity * hidden


def sensitivity_bounds(
    sample: Sample,
    odds: Sequence[float] = (1.0, 1.25, 1.5, 2.0, 3.0),
    support: tuple[float, float] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Bounds on the average effect by strength of hidden confounding, with outward intervals.

    Outcomes are taken as residuals of ``mu0`` and ``mu1``, which changes no bound's validity and
    makes L = 1 the AIPW estimate. Quantiles of the residuals are those of the other folds.

    Parameters
    ----------
    sample : Sample
    odds : sequence of float
        L; the odds of treatment given the hidden confounder too lie within [1/L, L] of those without.
    support : (float, float), optional
        Smallest and largest value the outcome can take; Manski's bounds then hold too, and the
        tighter of the two is reported.
    level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        lambda, lower, upper, interval_lower, interval_upper, binding (``marginal sensitivity`` or
        ``Manski``).

    Raises
    ------
    ConfigError
        A strength below 1, or a support that does not hold the outcomes.
    """
    weak = [value for value in odds if not value >= 1]
    if weak:
        raise ConfigError(f"sensitivity: Lambda is {weak[0]:g}; it must be 1 or more.")
    worst = None if support is None else manski_bounds(sample, support, level)
    rows = []
    for strength in odds:
        row = _bounds(sample, float(strength), level)
        binding = "marginal sensitivity"
        if worst is not None and (row["lower"] < worst["lower"] or row["upper"] > worst["upper"]):
            binding = "Manski"
            for name, tighter in (("lower", max), ("upper", min)):
                for key in (name, f"interval_{name}"):
                    row[key] = tighter(row[key], worst[key])
        rows.append({"lambda": float(strength), **row, "binding": binding})
    return pd.DataFrame(rows)


def manski_bounds(
    sample: Sample, support: tuple[float, float], level: float = 0.95
) -> dict[str, float]:
    """Bounds that assume nothing but the range of the outcome: lower, upper and outward interval.

    E[Y(1)] lies between E[W Y] + P(W = 0) times the ends of the support.

    Raises
    ------
    ConfigError
        An empty support, or outcomes outside it.
    """
    low, high = support
    treatment, outcome = sample.treatment, sample.outcome
    if not low < high or outcome.min() < low or outcome.max() > high:
        raise ConfigError(
            f"sensitivity.support: [{low:g}, {high:g}] does not hold the outcomes, which lie between"
            f" {outcome.min():g} and {outcome.max():g}. Widen it, or leave it out.",
            support=support,
        )
    lower = treatment * outcome + (1 - treatment) * low
    lower = lower - ((1 - treatment) * outcome + treatment * high)
    upper = treatment * outcome + (1 - treatment) * high
    upper = upper - ((1 - treatment) * outcome + treatment * low)
    return _summary(lower, upper, sample, level)


def breakdown_strength(sample: Sample, level: float = 0.95) -> float:
    """Smallest L at which the outward interval reaches zero; 1 where it holds zero already.

    Infinite where ``LARGEST_LAMBDA`` does not reach it.
    """

    def holds_zero(odds: float) -> bool:
        found = _bounds(sample, odds, level)
        return found["interval_lower"] <= 0 <= found["interval_upper"]

    if holds_zero(1.0):
        return 1.0
    if not holds_zero(LARGEST_LAMBDA):
        return float("inf")
    low, high = 0.0, float(np.log(LARGEST_LAMBDA))
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if holds_zero(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def implied_strength(full: Floats, without: Floats, share: float = 0.95) -> float:
    """L that leaving something out implies: quantile of how far it moves the odds of treatment.

    Parameters
    ----------
    full, without : (n,) arrays
        Propensities with and without it.
    share : float
        Of the units whose odds move by less.
    """
    logits = [np.log(values / (1 - values)) for values in (full, without)]
    return float(np.exp(np.quantile(np.abs(logits[0] - logits[1]), share)))


def proxy_curve(
    adjusted: Floats,
    without: Floats,
    cluster: NDArray[np.intp],
    correlations: Sequence[float] = (1.0, 0.95, 0.9, 0.8, 0.7),
    level: float = 0.95,
) -> pd.DataFrame:
    """The effect if images show the true confounder only with some correlation.

    An image with correlation r leaves about 1 - r^2 of the confounding that only it could remove; so
    what it did remove, ``without`` less ``adjusted``, is r^2 of it, and (1 - r^2) / r^2 of what it
    removed is left.

    Parameters
    ----------
    adjusted, without : (n,) arrays
        AIPW scores of the arm with images and of the same arm without them.
    cluster : (n,) array
        Units whose errors may depend on each other.
    correlations : sequence of float
        r, above 0 and at most 1.
    level : float
        Of the intervals, from the paired scores.

    Returns
    -------
    DataFrame
        correlation, left (1 - r^2), estimate, lower, upper.

    Raises
    ------
    ConfigError
        A correlation of 0 or less, or above 1.
    """
    rows = []
    for correlation in correlations:
        if not 0 < correlation <= 1:
            raise ConfigError(f"proxy curve: correlation {correlation:g} is not within (0, 1].")
        left = 1 - correlation**2
        scores = adjusted - left / correlation**2 * (without - adjusted)
        estimate, error = float(scores.mean()), mean_std_error(scores, cluster)
        lower, upper = interval(estimate, error, level, len(np.unique(cluster)))
        rows.append((correlation, left, estimate, lower, upper))
    return pd.DataFrame(rows, columns=["correlation", "left", "estimate", "lower", "upper"])


def rosenbaum_p(differences: Floats, gamma: float = 1.0) -> float:
    """Largest one-sided p of the signed-rank test when odds within pairs differ up to ``gamma``.

    Normal approximation without continuity correction; zero differences are left out.

    Parameters
    ----------
    differences : (pair,) array
        Treated less untreated, some not 0; the test is against no effect, towards positive ones.
    gamma : float
        At least 1.
    """
    from scipy.stats import norm, rankdata

    moved = differences[differences != 0]
    ranks = rankdata(np.abs(moved))
    chance = gamma / (1 + gamma)
    mean, variance = chance * ranks.sum(), chance * (1 - chance) * (ranks**2).sum()
    return float(norm.sf((ranks[moved > 0].sum() - mean) / np.sqrt(variance)))


def rosenbaum_gamma(differences: Floats, alpha: float = 0.05) -> float:
    """Gamma at which the p of :func:`rosenbaum_p` passes alpha; 1 where it has from the start."""
    if rosenbaum_p(differences) >= alpha:
        return 1.0
    if rosenbaum_p(differences, LARGEST_GAMMA) < alpha:
        return float("inf")
    from scipy.optimize import brentq

    return float(brentq(lambda gamma: rosenbaum_p(differences, gamma) - alpha, 1, LARGEST_GAMMA))


def matched_pairs(treatment: Floats, propensity: Floats) -> NDArray[np.intp]:
    """(pair, 2) treated and untreated positions: greedy nearest neighbours on the logit propensity.

    Without replacement, treated units with the largest propensity first, within 0.2 standard
    deviations of the logit.
    """
    logit = np.log(propensity / (1 - propensity))
    caliper = CALIPER * logit.std()
    treated = np.flatnonzero(treatment == 1)
    free = np.flatnonzero(treatment == 0)
    free = free[np.argsort(logit[free], kind="stable")]
    pairs = []
    for unit in treated[np.argsort(-logit[treated], kind="stable")]:
        if not len(free):
            break
        at = int(np.searchsorted(logit[free], logit[unit]))
        near = [place for place in (at - 1, at) if 0 <= place < len(free)]
        best = min(near, key=lambda place: abs(logit[free[place]] - logit[unit]))
        if abs(logit[free[best]] - logit[unit]) <= caliper:
            pairs.append((unit, free[best]))
            free = np.delete(free, best)
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def _bounds(sample: Sample, odds: float, level: float) -> dict[str, float]:
    upper_one, lower_one = _arm(sample, odds, treated=True)
    upper_zero, lower_zero = _arm(sample, odds, treated=False)
    return _summary(lower_one - upper_zero, upper_one - lower_zero, sample, level)


def _arm(sample: Sample, odds: float, treated: bool) -> tuple[Floats, Floats]:
    """Values whose means are the upper and the lower bound of one arm's mean outcome."""
    arm = sample.treatment if treated else 1 - sample.treatment
    propensity = sample.propensity if treated else 1 - sample.propensity
    predicted = sample.mu1 if treated else sample.mu0
    residual = sample.outcome - predicted
    share = odds / (1 + odds)
    high, low = (_other_folds(residual, arm, sample.fold, at) for at in (share, 1 - share))
    upper = upper_terms(arm, residual, propensity, high, odds)
    lower = -upper_terms(arm, -residual, propensity, -low, odds)
    return predicted + upper, predicted + lower


def _other_folds(values: Floats, arm: Floats, fold: NDArray[np.intp], share: float) -> Floats:
    """(n,) quantile of the arm's values in the folds a unit is not in."""
    found = np.empty(len(values))
    for number in np.unique(fold):
        own = fold == number
        others = values[(arm == 1) & ~own]
        found[own] = np.quantile(others if len(others) else values[arm == 1], share)
    return found


def _summary(lower: Floats, upper: Floats, sample: Sample, level: float) -> dict[str, float]:
    ends = {}
    for name, values, side in (("lower", lower, 0), ("upper", upper, 1)):
        error = mean_std_error(values, sample.cluster)
        ends[name] = float(values.mean())
        ends[f"interval_{name}"] = interval(ends[name], error, level, sample.n_clusters)[side]
    return ends
