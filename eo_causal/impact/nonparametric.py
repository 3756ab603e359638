"""Small statistics for autocorrelated series: sieve bootstrap, rank measures, block bootstrap."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AutoregressiveFit:
    """AR(p) by least squares, order chosen by BIC."""

    mean: float
    coefficients: Floats
    residuals: Floats

    @property
    def order(self) -> int:
        """p."""
        return len(self.coefficients)


def fit_autoregression(values: Floats, max_order: int = 12) -> AutoregressiveFit:
    """Fit AR(p), p = 0..``max_order`` by BIC, on one common sample.

    Parameters
    ----------
    values : (n,) array
        Complete series.
    """
    mean = float(values.mean())
    centred = values - mean
    n = len(values) - max_order
    target = centred[max_order:]
    lags = np.column_stack([centred[max_order - k : -k] for k in range(1, max_order + 1)])
    best: tuple[float, Floats] = (np.inf, np.empty(0))
    for order in range(max_order + 1):
        found = np.linalg.lstsq(lags[:, :order], target, rcond=None)[0] if order else np.empty(0)
        rss = float(((target - lags[:, :order] @ found) ** 2).sum())
        bic = n * np.log(rss / n) + order * np.log(n)
        if bic < best[0]:
            best = (bic, found)
    residuals = target - lags[:, : len(best[1])] @ best[1]
    return AutoregressiveFit(mean, best[1], residuals - residuals.mean())


def sieve_samples(
    fit: AutoregressiveFit, n: int, n_samples: int, random: np.random.Generator, burn_in: int = 100
) -> Floats:
    """Series drawn from a fitted autoregression with resampled residuals.

    Returns
    -------
    (n_samples, n) array
    """
    from scipy.signal import lfilter

    shocks = random.choice(fit.residuals, size=(n_samples, n + burn_in))
    polynomial = np.concatenate([[1.0], -fit.coefficients])
    return np.asarray(fit.mean + lfilter([1.0], polynomial, shocks, axis=1)[:, burn_in:])


def cliffs_delta(first: Floats, second: Floats) -> float:
    """(#{x < y} - #{x > y}) / (n_x n_y) with x from the first sample: positive = second larger."""
    ordered = np.sort(second)
    above = len(ordered) - np.searchsorted(ordered, first, side="right")
    below = np.searchsorted(ordered, first, side="left")
    return float((above.sum() - below.sum()) / (len(first) * len(second)))


def effective_n(values: Floats) -> float:
    """n (1 - r1) / (1 + r1) with the lag-one autocorrelation r1, at least 2."""
    centred = values - values.mean()
    total = float((centred**2).sum())
    r1 = float((centred[1:] * centred[:-1]).sum()) / total if total > 0 else 0.0
    return max(2.0, len(values) * (1 - r1) / (1 + r1)) if r1 > -1 else float(len(values))


def before_after(before: Floats, after: Floats) -> dict[str, float]:
    """Differences of two samples and textbook tests.

    The tests treat values as independent and the date as given in advance; both are false for a
    date found in the series, so the p-values are descriptive only.
    """
    from scipy import stats

    welch = stats.ttest_ind(after, before, equal_var=False)
    return {
        "delta_mean": float(after.mean() - before.mean()),
        "cliffs_delta": cliffs_delta(before, after),
        "n_effective_before": effective_n(before),
        "n_effective_after": effective_n(after),
        "welch_p": float(welch.pvalue),
        "mann_whitney_p": float(stats.mannwhitneyu(after, before).pvalue),
        "levene_p": float(stats.levene(after, before).pvalue),
        "kolmogorov_smirnov_p": float(stats.ks_2samp(after, before).pvalue),
    }


def newey_west_step(values: Floats, after: NDArray[np.bool_]) -> tuple[float, float, int]:
    """Step at ``after`` by regression on (1, after) with Newey-West standard error.

    Returns
    -------
    step, standard error, lag
        lag = floor(4 (T / 100)^(2/9)).
    """
    n = len(values)
    lag = int(4 * (n / 100) ** (2 / 9))
    design = np.column_stack([np.ones(n), after.astype(float)])
    bread = np.linalg.inv(design.T @ design)
    coefficient = bread @ design.T @ values
    score = design * (values - design @ coefficient)[:, None]
    meat = score.T @ score
    for k in range(1, lag + 1):
        cross = score[k:].T @ score[:-k]
        meat += (1 - k / (lag + 1)) * (cross + cross.T)
    covariance = bread @ meat @ bread
    return float(coefficient[1]), float(np.sqrt(covariance[1, 1])), lag


def block_bootstrap_step(
    values: Floats,
    after: NDArray[np.bool_],
    random: np.random.Generator,
    block: int,
    n_samples: int = 2000,
) -> tuple[float, float]:
    """95 % interval of a step from moving blocks within each of the two periods.

    NaN where a period is shorter than a block.
    """
    parts = [values[~after], values[after]]
    means = []
    for part in parts:
        starts = len(part) - block + 1
        if starts < 1:
            return float("nan"), float("nan")
        n_blocks = -(-len(part) // block)
        first = random.integers(0, starts, size=(n_samples, n_blocks))
        rows = (first[..., None] + np.arange(block)).reshape(n_samples, -1)[:, : len(part)]
        means.append(part[rows].mean(axis=1))
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975])
    return float(low), float(high)


def trend(
    values: Floats, times: Floats, random: np.random.Generator, n_samples: int = 999
) -> dict[str, float]:
    """Sen slope per unit of time and Mann-Kendall statistic with an AR-sieve p-value.

    The sieve is fitted to the detrended series, so that the null has no trend; ``times`` need not
    be evenly spaced.
    """
    t = np.asarray(times, dtype=float)
    first, second = np.triu_indices(len(values), 1)
    slope = float(np.median((values[second] - values[first]) / (t[second] - t[first])))
    score = _kendall(values[None, :])[0]
    fit = fit_autoregression(values - slope * t)
    null = np.abs(_kendall(sieve_samples(fit, len(values), n_samples, random)))
    p_value = (int((null >= abs(score)).sum()) + 1) / (n_samples + 1)
    return {"sen_slope": slope, "mann_kendall": float(score), "p_value": p_value}


def _kendall(samples: Floats) -> Floats:
    """Sum of signs over all ordered pairs, by row."""
    total = np.zeros(len(samples))
    for lag in range(1, samples.shape[1]):
        total += np.sign(samples[:, lag:] - samples[:, :-lag]).sum(axis=1)
    return total


def kpss_statistic(values: Floats) -> float:
    """Test of level stationarity (Kwiatkowski et al. 1992); above 0.463 rejects at 5 %.

    Long-run variance with Bartlett weights and lag ceil(12 (n / 100)^(1/4)).
    """
    n = len(values)
    centred = values - values.mean()
    n_lags = min(int(np.ceil(12 * (n / 100) ** 0.25)), n - 1)
    variance = float(centred @ centred)
    for lag in range(1, n_lags + 1):
        variance += 2 * (1 - lag / (n_lags + 1)) * float(centred[lag:] @ centred[:-lag])
    return float((np.cumsum(centred) ** 2).sum() / (n * variance))


def complete(series: pd.Series) -> Floats:
    """Values of a series without its missing months (which the caller counts)."""
    values: Any = series.dropna().to_numpy(dtype=float)
    return np.asarray(values)
