"""Does a ranking of units find those with large effects? Rank-weighted average treatment effects.

Arithmetic on doubly robust scores and priorities, from arXiv 2111.07966; nothing is fitted. A priority
must have been learned without the units it ranks.

>>> import numpy as np
>>> found = rate(np.array([4.0, 2, 0, 2]), np.array([9.0, 5, 1, 4]))
>>> round(found.autoc, 4), round(found.qini, 4)
(0.9167, 0.375)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from eo_causal.core.progress import count
from eo_causal.errors import ConfigError, DataError, DegenerateError

Floats = NDArray[np.float64]
METRICS = ("autoc", "qini")
FEWEST_CLUSTERS = 4
FEWEST_FOLDS = 2


@dataclass(frozen=True)
class Rate:
    """Areas under the targeting curve, in units of the outcome; 0 = the ranking says nothing.

    Attributes
    ----------
    autoc : float
        Mean of TOC(q): finds an effect that few units have.
    qini : float
        Mean of q TOC(q): finds an effect that varies over all units.
    """

    autoc: float
    qini: float


@dataclass(frozen=True)
class SequentialFold:
    """Units ranked by models that learned from earlier folds only.

    Attributes
    ----------
    score : (unit,) array
        Doubly robust scores, for example :func:`eo_causal.estimate.ate.aipw_scores`.
    priority : (unit,) array
        The larger, the earlier a unit is treated.
    cluster : (unit,) int array
        Codes of units whose scores depend on one another.

    Raises
    ------
    DataError
        Lengths that differ, a value that is not finite, or fewer than 4 clusters.
    """

    score: Floats
    priority: Floats
    cluster: NDArray[np.intp]

    def __post_init__(self) -> None:
        _check(self.score, self.priority)
        if len(self.cluster) != len(self.score):
            raise DataError(
                f"{len(self.cluster)} cluster codes for {len(self.score)} scores: each unit needs one."
                " Align them by unit.", n_clusters=len(self.cluster), n=len(self.score),
            )  # fmt: skip
        _check_clusters(self.cluster)


def toc(score: Floats, priority: Floats, shares: Floats) -> pd.DataFrame:
    """Targeting curve: how much more the first units gain from treatment than all do.

    TOC(q) = mean score of the first q n units by priority, rounded up, less the mean of all; units
    of one priority share their average score.

    Parameters
    ----------
    score, priority : (unit,) array
        Doubly robust scores; the larger a priority, the earlier.
    shares : (share,) array
        q in (0, 1].

    Returns
    -------
    DataFrame
        ``share``, ``toc`` (units of the score).

    Raises
    ------
    DataError
        Lengths that differ, a value that is not finite, or a share outside (0, 1].
    """
    _check(score, priority)
    if not ((shares > 0) & (shares <= 1)).all():
        raise DataError(
            f"shares go from {np.min(shares):g} to {np.max(shares):g}; a targeting curve is defined in"
            " (0, 1]. Choose shares within.", shares=shares,
        )  # fmt: skip
    order = _order(priority)
    total = np.cumsum(_by_rank(score[order], priority[order]))
    first = np.ceil(shares * len(score) - 1e-9).astype(np.intp).clip(1)
    return pd.DataFrame({"share": shares, "toc": total[first - 1] / first})


def rate(score: Floats, priority: Floats) -> Rate:
    """AUTOC and Qini over all ranks q = 1/n, 2/n, ..., 1.

    AUTOC = sum_i G_i (H_n - H_(i-1)) / n and QINI = sum_i G_i (n - i + 1) / n^2, where G_i is the
    score of rank i less the mean of all and H_i = 1 + 1/2 + ... + 1/i; units of one priority share
    their average score, so that a constant priority has exactly none.

    Parameters
    ----------
    score, priority : (unit,) array
        Doubly robust scores; the larger a priority, the earlier.

    Raises
    ------
    DataError
        Lengths that differ, or a value that is not finite.
    """
    _check(score, priority)
    order = _order(priority)
    autoc, qini = _areas(score[order], priority[order])
    return Rate(float(autoc), float(qini))


def half_sample_draws(
    cluster: NDArray[np.intp], n_draws: int, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Random halves of the clusters, to be shared by all priorities that are compared.

    Parameters
    ----------
    cluster : (unit,) int array
        Codes; a cluster is in a draw as a whole.
    n_draws : int
    random : Generator

    Returns
    -------
    (draw, unit) bool array
        True = in the draw. Of an odd number of clusters the smaller half, which errs towards larger
        standard errors.

    Raises
    ------
    DataError
        Fewer than 4 clusters.
    ConfigError
        Fewer than 2 draws, which have no spread.
    """
    _check_clusters(cluster)
    if not n_draws >= 2:
        raise ConfigError(f"{n_draws} half-sample draw(s) have no spread. Use 200.", n=n_draws)
    names, code = np.unique(cluster, return_inverse=True)
    chosen = np.tile(np.arange(len(names)) < len(names) // 2, (n_draws, 1))
    return random.permuted(chosen, axis=1)[:, code]


def half_samples(score: Floats, priority: Floats, draws: NDArray[np.bool_]) -> Floats:
    """AUTOC and Qini of each half-sample; their standard deviation is the standard error.

    Halves drawn without replacement vary as the whole sample does (arXiv 2111.07966).

    Parameters
    ----------
    score, priority : (unit,) array
        As for :func:`rate`.
    draws : (draw, unit) bool array
        From :func:`half_sample_draws`.

    Returns
    -------
    (draw, 2) array
        AUTOC, Qini.

    Raises
    ------
    DataError
        Lengths that differ, or a value that is not finite.
    """
    _check(score, priority)
    order = _order(priority)
    score, priority = score[order], priority[order]
    return np.array([_areas(score[kept], priority[kept]) for kept in draws[:, order]])


def pooled_rate(
    score: Floats,
    priority: Floats,
    cluster: NDArray[np.intp],
    n_draws: int,
    random: np.random.Generator,
) -> pd.DataFrame:
    """RATE of out-of-fold priorities ranked together: an estimate, no test.

    Priorities of different folds are learned from one another's outcomes, so that without any
    heterogeneity the ratio is not centred on 0. Hence there is no p-value.

    Parameters
    ----------
    score, priority, cluster : (unit,) array
        As in :class:`SequentialFold`.
    n_draws : int
        Half-samples.
    random : Generator

    Returns
    -------
    DataFrame
        ``metric`` (autoc, qini), ``estimate``, ``std_error``, ``ratio`` = estimate / std_error.

    Raises
    ------
    DataError
        As :class:`SequentialFold`.
    """
    part = SequentialFold(score, priority, cluster)
    estimate, draws = evaluate(part, half_sample_draws(cluster, n_draws, random))
    error = draws.std(axis=0, ddof=1)
    ratio = _ratio(estimate, error)
    return pd.DataFrame(
        {"metric": METRICS, "estimate": estimate, "std_error": error, "ratio": ratio}
    )


def evaluate(part: SequentialFold, draws: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Rates (2,) of one fold, and (draw, 2) of its half-samples (:func:`half_sample_draws`).

    Rankings that are to be compared are evaluated on the same draws.
    """
    found = rate(part.score, part.priority)
    return np.array([found.autoc, found.qini]), half_samples(part.score, part.priority, draws)


def combine_folds(found: Sequence[tuple[Floats, Floats]]) -> pd.DataFrame:
    """The table of :func:`sequential_rate` from the evaluations of independent folds.

    Parameters
    ----------
    found : sequence of (rates, half-samples)
        Of :func:`evaluate`, or the differences of two of them.
    """
    estimates = np.array([estimate for estimate, _ in found])
    errors = np.array([halves.std(axis=0, ddof=1) for _, halves in found])
    ratio = _ratio(estimates, errors).sum(axis=0) / np.sqrt(len(found))
    return pd.DataFrame({
        "metric": METRICS,
        "estimate": estimates.mean(axis=0),
        "std_error": np.sqrt((errors**2).sum(axis=0)) / len(found),
        "ratio": ratio,
        "p_value": ndtr(-ratio),
        "p_two_sided": 2 * ndtr(-np.abs(ratio)),
    })  # fmt: skip


def sequential_rate(
    parts: Sequence[SequentialFold], n_draws: int, random: np.random.Generator
) -> pd.DataFrame:
    """RATE of priorities each learned from earlier folds only, and a test that it is zero.

    With t_k the ratio of fold k = 2..K to its half-sample error, T = sum t_k / sqrt(K - 1) is
    standard normal where no ranking helps (arXiv 2405.05534). A fold whose priority is constant has
    t_k = 0.

    Parameters
    ----------
    parts : sequence of SequentialFold
        The evaluated folds 2..K: in random order, each ranked by models of the folds before it.
    n_draws : int
        Half-samples of whole clusters a fold.
    random : Generator

    Returns
    -------
    DataFrame
        One row a ``metric`` (autoc, qini): ``estimate``, the mean over folds; ``std_error`` =
        sqrt(sum of squared errors) / (K - 1); ``ratio`` = T, which is estimate / std_error only where
        folds have equal errors; ``p_value`` = 1 - Phi(T), against a ranking that helps;
        ``p_two_sided`` = 2 Phi(-|T|).

    Raises
    ------
    DataError
        Fewer than 2 evaluated folds.
    DegenerateError
        Half-samples that all give the same rate, other than 0.
    """
    if len(parts) < FEWEST_FOLDS:
        raise DataError(
            f"{len(parts)} evaluated fold(s): a sequential test needs {FEWEST_FOLDS}. Use at least"
            f" {FEWEST_FOLDS + 1} folds; the first is only learned from.", n=len(parts),
        )  # fmt: skip
    found = [evaluate(p, half_sample_draws(p.cluster, n_draws, random)) for p in parts]
    constant = sum(np.ptp(part.priority) == 0 for part in parts)
    count(rate_folds=len(parts), rate_folds_with_constant_priority=constant)
    return combine_folds(found)


def rate_difference(
    first: Sequence[SequentialFold],
    second: Sequence[SequentialFold],
    n_draws: int,
    random: np.random.Generator,
) -> pd.DataFrame:
    """RATE of the first priorities minus that of the second, on the same units and half-samples.

    Parameters
    ----------
    first, second : sequence of SequentialFold
        The same folds of two data arms or learners; one fold holding all units where priorities
        are pooled.
    n_draws : int
        Half-samples a fold.
    random : Generator

    Returns
    -------
    DataFrame
        As :func:`sequential_rate`; ``p_two_sided`` tests that the two rank equally well.

    Raises
    ------
    DataError
        Folds that differ in number or units.
    """
    paired = len(first) == len(second) > 0
    if not paired or not all(
        np.array_equal(a.cluster, b.cluster) for a, b in zip(first, second, strict=True)
    ):
        raise DataError(
            f"{len(first)} and {len(second)} evaluated folds, or different units in them: a paired"
            " difference needs both rankings on the same folds. Use one set of folds.",
            n_first=len(first), n_second=len(second),
        )  # fmt: skip
    found = []
    for a, b in zip(first, second, strict=True):
        draws = half_sample_draws(a.cluster, n_draws, random)
        (rate_a, halves_a), (rate_b, halves_b) = evaluate(a, draws), evaluate(b, draws)
        found.append((rate_a - rate_b, halves_a - halves_b))
    return combine_folds(found)


def _order(priority: Floats) -> NDArray[np.intp]:
    return np.argsort(-priority, kind="stable")


def _by_rank(score: Floats, priority: Floats) -> Floats:
    """Scores less their mean, averaged inside ties; both arrays in order of falling priority."""
    starts = np.flatnonzero(np.append(True, priority[1:] != priority[:-1]))
    if len(starts) == 1:
        return np.zeros(len(score))  # exactly, so that rounding is never divided by rounding
    sizes = np.diff(np.append(starts, len(score)))
    return np.repeat(np.add.reduceat(score - score.mean(), starts) / sizes, sizes)


def _areas(score: Floats, priority: Floats) -> Floats:
    """(2,) AUTOC and Qini; both arrays in order of falling priority."""
    excess = _by_rank(score, priority)
    left = np.arange(len(excess), 0, -1)
    weights = np.cumsum(1 / left)[::-1]
    return np.array([weights @ excess, left @ excess / len(excess)]) / len(excess)


def _ratio(estimate: Floats, error: Floats) -> Floats:
    """Estimate over error; 0 where both are 0."""
    if ((error == 0) & (estimate != 0)).any():
        raise DegenerateError(
            f"all half-samples give the same rate, {estimate[error == 0][0]:.3g}, so that it has no"
            " standard error. Use more clusters.", estimate=estimate.tolist(),
        )  # fmt: skip
    return np.divide(estimate, error, out=np.zeros_like(estimate), where=error > 0)


def _check(score: Floats, priority: Floats) -> None:
    if len(score) != len(priority) or not len(score):
        raise DataError(
            f"{len(score)} scores and {len(priority)} priorities: each unit needs one of both. Align"
            " them by unit.", n_scores=len(score), n_priorities=len(priority),
        )  # fmt: skip
    bad = int((~(np.isfinite(score) & np.isfinite(priority))).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(score)} units have no finite score or priority. Leave out units without"
            " predictions before ranking.", n=bad,
        )  # fmt: skip


def _check_clusters(cluster: NDArray[np.intp]) -> None:
    n_clusters = len(np.unique(cluster))
    if n_clusters < FEWEST_CLUSTERS:
        raise DataError(
            f"{len(cluster)} units in {n_clusters} cluster(s): half-samples need {FEWEST_CLUSTERS} at"
            " least. Use fewer folds, or finer clusters.", n_clusters=n_clusters,
        )  # fmt: skip
