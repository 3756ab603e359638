"""Repeated studies with a known effect: what each estimator makes of what is known of the confounder."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from eo_causal.core.progress import count, track
from eo_causal.errors import DegenerateError
from eo_causal.estimate.ate import aipw, difference_in_means, hajek, horvitz_thompson
from eo_causal.estimate.learners import logistic_coefficients

Floats = NDArray[np.float64]
NOTHING, KNOWN, TRUE, MEASURED = "nothing", "known propensity", "true pattern", "measured pattern"


@dataclass(frozen=True)
class PatternStudyResult:
    """Estimates of all repetitions, and what they come to.

    Attributes
    ----------
    estimates : DataFrame
        value, repetition, adjusted_for, estimator, estimate.
    correlations : DataFrame
        value, repetition, correlation (of the score with the confounder), predicted: the bias
        that should remain, (1 - correlation^2) x bias of the difference in means.
    bias : DataFrame
        value, adjusted_for, estimator, bias (mean over repetitions), std_error (Monte-Carlo), sd
        (of one study's estimate), rmse.
    cases : DataFrame
        value, correlation and predicted, means over repetitions.
    effect : float
        The true effect.
    """

    estimates: pd.DataFrame
    correlations: pd.DataFrame
    bias: pd.DataFrame
    cases: pd.DataFrame
    effect: float


def estimate_pattern_study(units: xr.Dataset) -> PatternStudyResult:
    """Estimate the effect in every repetition of every case.

    Unadjusted; with the true propensity (Horvitz-Thompson, Hajek); and with a logistic propensity and
    linear outcome models (Hajek, AIPW), on the confounder itself and on the score that a study
    measures of it. One score, no cross-fitting: the models have two coefficients.

    Parameters
    ----------
    units : Dataset (value, repetition, unit)
        ``confounder``, ``score``, ``propensity``, ``treatment``, ``outcome``; attribute ``effect``.

    Raises
    ------
    DegenerateError
        A repetition in which nobody or everybody is treated.
    """
    effect = float(units.attrs["effect"])
    loaded = units.compute()
    rows: list[tuple[int, int, str, str, float]] = []
    correlations = []
    for value in track(loaded["value"].to_numpy().tolist(), "estimating"):
        case = loaded.sel(value=value)
        arrays = {str(name): item.to_numpy() for name, item in case.data_vars.items()}
        for repetition in range(case.sizes["repetition"]):
            one = {name: item[repetition] for name, item in arrays.items()}
            found = _estimates(value, repetition, one)
            rows += [(value, repetition, *key, estimate) for key, estimate in found.items()]
            rho = float(np.corrcoef(one["confounder"], one["score"])[0, 1])
            naive = found[(NOTHING, "difference_in_means")] - effect
            correlations.append((value, repetition, rho, (1 - rho**2) * naive))
    count(estimates=len(rows))
    names = ["value", "repetition", "adjusted_for", "estimator", "estimate"]
    estimates = pd.DataFrame(rows, columns=names)
    paired = pd.DataFrame(correlations, columns=["value", "repetition", "correlation", "predicted"])
    means = paired.groupby("value", as_index=False)[["correlation", "predicted"]].mean()
    return PatternStudyResult(estimates, paired, bias_table(estimates, effect), means, effect)


def bias_table(estimates: pd.DataFrame, effect: float) -> pd.DataFrame:
    """Bias, its Monte-Carlo error, sd and root mean square error over the repetitions."""
    keys = ["value", "adjusted_for", "estimator"]
    error = estimates.assign(error=estimates["estimate"] - effect, square=0.0)
    error["square"] = error["error"] ** 2
    groups = error.groupby(keys, sort=False)
    sd, n = groups["error"].std(), groups.size()
    table = pd.DataFrame({
        "bias": groups["error"].mean(), "std_error": sd / np.sqrt(n), "sd": sd,
        "rmse": np.sqrt(groups["square"].mean()),
    })  # fmt: skip
    return table.reset_index()


def _estimates(value: int, repetition: int, one: dict[str, Floats]) -> dict[tuple[str, str], float]:
    """(what is adjusted for, estimator) -> estimate."""
    treatment, outcome, known = one["treatment"], one["outcome"], one["propensity"]
    if not 0 < treatment.mean() < 1:
        raise DegenerateError(
            f"case {value}, repetition {repetition}: {treatment.sum():.0f} of {len(treatment)} units"
            " are treated. Raise study.n_images.", value=value, repetition=repetition,
        )  # fmt: skip
    found = {
        (NOTHING, "difference_in_means"): difference_in_means(treatment, outcome),
        (KNOWN, "horvitz_thompson"): horvitz_thompson(treatment, outcome, known),
        (KNOWN, "hajek"): hajek(treatment, outcome, known),
    }
    for adjusted, score in ((TRUE, one["confounder"]), (MEASURED, one["score"])):
        propensity = _logistic(treatment, score)
        mu0, mu1 = (_line(score, outcome, treatment == arm) for arm in (0, 1))
        found[(adjusted, "hajek")] = hajek(treatment, outcome, propensity)
        found[(adjusted, "aipw")] = aipw(treatment, outcome, propensity, mu0, mu1)
    return {key: item.estimate for key, item in found.items()}


def _logistic(treatment: Floats, score: Floats) -> Floats:
    """(unit,) fitted propensities given one score."""
    weights = np.ones((len(score), 1))
    intercept, slope = logistic_coefficients(score[:, None], treatment, weights, penalty=0.0)[0]
    return np.asarray(expit(intercept + slope * score))


def _line(score: Floats, outcome: Floats, rows: NDArray[np.bool_]) -> Floats:
    """(unit,) predictions of the line fitted to some of the units."""
    return np.asarray(np.polyval(np.polyfit(score[rows], outcome[rows], 1), score))
