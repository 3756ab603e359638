"""Which corrector a map offers: how far corrected values are off the truth, by decile of the truth.

Slicing is by the truth. Slicing by the prediction would reward leaving predictions as they are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from eo_causal.core.random import generator
from eo_causal.debias.base import SMALL_CALIBRATION_SAMPLE, TIES, WEAK_SLOPE, facts_of, quantiles
from eo_causal.debias.linear import affine
from eo_causal.debias.pairs import Floats, Pairs, check_lines, check_pairs, lines
from eo_causal.debias.tweedie import TweedieCorrection

METHODS = ("naive", "lcc", "tweedie")
UNFIT = (TIES, WEAK_SLOPE, SMALL_CALIBRATION_SAMPLE)  # flags under which Tweedie is not recommended
LARGEST_Z = 1.96
N_DRAWS = 300


@dataclass(frozen=True)
class Choice:
    """The corrector a map offers, and the evidence.

    Attributes
    ----------
    method : str
        ``lcc`` or ``tweedie``.
    curves : DataFrame
        One row a decile of the truth: ``decile``, ``n``, mean ``truth``, and the mean of corrected value
        minus truth on held-out rows for ``naive``, ``lcc``, ``tweedie``.
    gain, std_error : float
        Root mean square of the ``lcc`` curve less that of the ``tweedie`` curve, and its bootstrap error.
    residual : DataFrame
        (pair, method) corrected value minus truth on held-out rows, in the order of the pairs.
    """

    method: str
    curves: pd.DataFrame
    gain: float
    std_error: float
    residual: pd.DataFrame


def choose_corrector(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    tweedie: TweedieCorrection | None = None,
    min_calibration: int = 30,
    seed: int,
) -> Choice:
    """Linear calibration, unless Tweedie's held-out curve is clearly nearer to zero.

    Each half of the pairs is corrected with what the other half says. Tweedie is chosen when the root
    mean square of its curve is smaller by more than 1.96 bootstrap standard errors and the facts have
    no flag ``ties``, ``weak_slope`` or ``small_calibration_sample``.

    Parameters
    ----------
    truth, prediction, weight, cluster : (n,) array
        Calibration pairs; clusters stay whole.
    tweedie : TweedieCorrection, optional
        Its settings.
    min_calibration : int
        Fewer pairs are refused.
    seed : int
        Seed of the run.

    Raises
    ------
    DataError, DegenerateError
        As :func:`eo_causal.debias.pairs.check_pairs`, for the pairs or for a half of them.
    """
    pairs = check_pairs(truth, prediction, weight, cluster, min_calibration)
    return choose_among([pairs], tweedie or TweedieCorrection(), seed=seed)


def choose_among(folds: list[Pairs], tweedie: TweedieCorrection, *, seed: int) -> Choice:
    """:func:`choose_corrector` over the calibration pairs of several models; none are mixed in a fit."""
    residual = pd.concat(
        [
            held_out_residuals(pairs, tweedie, generator(seed, "choose_halves", number))
            for number, pairs in enumerate(folds)
        ],
        ignore_index=True,
    )
    truth = np.concatenate([pairs.truth for pairs in folds])
    weight = np.concatenate([pairs.weight * len(pairs.truth) for pairs in folds])
    weight /= weight.sum()
    decile = np.searchsorted(quantiles(truth, weight, tuple(np.arange(1, 10) / 10)), truth)
    curves = _curves(decile, truth, weight, residual)
    random = generator(seed, "choose_draws")
    clusters = _joined_clusters(folds)
    n = int(clusters.max()) + 1
    counts = (np.bincount(random.integers(n, size=n), minlength=n) for _ in range(N_DRAWS))
    gains = [_gain(decile, weight * drawn[clusters], residual) for drawn in counts]
    gain, std_error = _gain(decile, weight, residual), float(np.std(gains, ddof=1))
    flags = {flag for pairs in folds for flag in facts_of(pairs).flags}
    clear = gain > LARGEST_Z * std_error and not flags.intersection(UNFIT)
    return Choice("tweedie" if clear else "lcc", curves, gain, std_error, residual)


def held_out_residuals(
    pairs: Pairs, tweedie: TweedieCorrection, random: np.random.Generator
) -> pd.DataFrame:
    """(pair, method) corrected value minus truth; each half is corrected by the other half's fit."""
    second = _second_half(pairs, random)
    found = {name: np.empty(len(pairs.truth)) for name in METHODS}
    for part in (second, ~second):
        other = pairs.rows(np.flatnonzero(~part))
        line = lines(other)
        check_lines(line)
        prediction, truth = pairs.prediction[part], pairs.truth[part]
        corrected = {
            "naive": prediction,
            "lcc": affine(prediction, 1 / line.slope, -line.intercept / line.slope),
            "tweedie": tweedie.copy().fit_pairs(other).correct(prediction),
        }
        for name, values in corrected.items():
            found[name][part] = values - truth
    return pd.DataFrame(found)


def _second_half(pairs: Pairs, random: np.random.Generator) -> NDArray[np.bool_]:
    """Half of the clusters, or of the rows."""
    codes = _codes_of(pairs)
    names = np.unique(codes)
    drawn = random.permutation(names)[: len(names) // 2]
    return np.isin(codes, drawn)


def _codes_of(pairs: Pairs) -> NDArray[np.intp]:
    return np.arange(len(pairs.truth)) if pairs.cluster is None else pairs.cluster


def _joined_clusters(folds: list[Pairs]) -> NDArray[np.intp]:
    """Clusters, or rows, of all folds under numbers 0, 1, ...; those of different folds differ."""
    fold = np.repeat(np.arange(len(folds)), [len(pairs.truth) for pairs in folds])
    codes = np.concatenate([_codes_of(pairs) for pairs in folds])
    return np.unique(np.stack([fold, codes], axis=1), axis=0, return_inverse=True)[1].ravel()


def _gain(decile: NDArray[np.intp], weight: Floats, residual: pd.DataFrame) -> float:
    """Root mean square of the lcc curve less that of the tweedie curve."""
    total = np.bincount(decile, weight, minlength=10)
    held = total > 0
    spread = [
        np.sqrt(
            np.mean((np.bincount(decile, weight * values, minlength=10)[held] / total[held]) ** 2)
        )
        for values in (residual["lcc"].to_numpy(), residual["tweedie"].to_numpy())
    ]
    return float(spread[0] - spread[1])


def _curves(
    decile: NDArray[np.intp], truth: Floats, weight: Floats, residual: pd.DataFrame
) -> pd.DataFrame:
    columns = residual.assign(truth=truth)[["truth", *METHODS]]
    weighted = columns.mul(weight, axis=0).groupby(decile).sum()
    rows = weighted.div(pd.Series(weight).groupby(decile).sum(), axis=0)
    rows.insert(0, "n", np.bincount(decile, minlength=10)[rows.index])
    rows.insert(0, "decile", rows.index + 1)
    return rows.reset_index(drop=True)
