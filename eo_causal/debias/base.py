"""What calibration pairs say about a map, and the flags and refusals that all corrections share."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eo_causal.core.variance import ols_covariance
from eo_causal.debias.pairs import Floats, Pairs, check_pairs, lines
from eo_causal.errors import EOCausalWarning, LeakageError, UnitsError

WEAK_SLOPE = "weak_slope"
SMALL_CALIBRATION_SAMPLE = "small_calibration_sample"
OUT_OF_SUPPORT = "out_of_support"
TIES = "ties"
BOUNDS_PILEUP = "bounds_pileup"
BERKSON_VIOLATED = "berkson_violated"
HETEROSKEDASTIC = "heteroskedastic"
DIFFERENTIAL_ERROR = "differential_error"
ZERO_SIGMA_IDENTITY = "zero_sigma_identity"
FEW_CLUSTERS = "few_clusters"
FOLDS_OPTIMISTIC = "folds_optimistic"
OUTSIDE_APPLICABILITY = "outside_applicability"
SIGMA_SOURCE_TRAIN = "sigma_source_train"
ASSUMED_REGIME = "assumed_regime"

SMALLEST_SLOPE, SMALLEST_SAMPLE, SMALLEST_CLUSTERS = 0.2, 100, 30
LARGEST_SHARE = 0.01  # of tied rows, of rows on a bound, of predictions outside the support
BERKSON_ERRORS = 2.0  # standard errors that the slope of truth on prediction may be from 1
SUPPORT = (0.001, 0.999)


@dataclass(frozen=True)
class CalibrationFacts:
    """What calibration pairs say about a map.

    Attributes
    ----------
    n, n_clusters : int
        Pairs, and clusters of them (None: pairs are independent).
    slope, intercept : float
        k and m of the regression of prediction on truth.
    slope_covariance : ((float, float), (float, float))
        Covariance of (intercept, slope) in this order: HC0, or cluster-robust.
    inverse_slope, inverse_intercept, inverse_slope_error : float
        b, a of the regression of truth on prediction, and the standard error of b.
    noise_variance : float
        Var(prediction - truth), mean removed, ddof 0.
    r2 : float
        Squared correlation.
    tie_share, bound_share : float
        Share of predictions that another row has too; that lie, with others, on the smallest or
        largest value.
    support : (float, float)
        0.1 % and 99.9 % quantile of the predictions.
    truth_variance, prediction_mean, prediction_variance : float
        ddof 0.
    rmse : float
        Root mean square of prediction - truth.
    flags : tuple of str
        ``weak_slope``, ``small_calibration_sample``, ``ties``, ``bounds_pileup``,
        ``berkson_violated``, ``zero_sigma_identity``, ``few_clusters`` as they apply.
    """

    n: int
    n_clusters: int | None
    slope: float
    intercept: float
    slope_covariance: tuple[tuple[float, float], tuple[float, float]]
    inverse_slope: float
    inverse_intercept: float
    inverse_slope_error: float
    noise_variance: float
    r2: float
    tie_share: float
    bound_share: float
    support: tuple[float, float]
    truth_variance: float
    prediction_mean: float
    prediction_variance: float
    rmse: float
    flags: tuple[str, ...] = ()

    @property
    def slope_error(self) -> float:
        """Standard error of k."""
        return float(np.sqrt(self.slope_covariance[1][1]))


def calibration_facts(
    truth: ArrayLike,
    prediction: ArrayLike,
    weight: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    min_calibration: int = 30,
) -> CalibrationFacts:
    """Slopes, noise, ties and support of a map, from calibration pairs.

    Parameters
    ----------
    truth, prediction : (n,) array
        Measured value, and prediction of a model that did not learn from it, in one unit.
    weight : (n,) array, optional
        Sampling weights.
    cluster : (n,) array, optional
        Labels; pairs of a cluster depend on one another.
    min_calibration : int
        Fewer pairs are refused.

    Raises
    ------
    DataError, DegenerateError
        As :func:`eo_causal.debias.pairs.check_pairs`.

    Notes
    -----
    Source: arXiv 2508.01341, section on linear calibration.
    """
    return facts_of(check_pairs(truth, prediction, weight, cluster, min_calibration))


def facts_of(pairs: Pairs) -> CalibrationFacts:
    """:func:`calibration_facts` of pairs that were checked."""
    found = lines(pairs)
    covariance = line_covariance(pairs.truth, pairs.prediction, found.slope, pairs)
    inverse = line_covariance(pairs.prediction, pairs.truth, found.inverse_slope, pairs)
    n_clusters = None if pairs.cluster is None else len(np.unique(pairs.cluster))
    tie_share, bound_share = _pileups(pairs.prediction)
    lower, upper = quantiles(pairs.prediction, pairs.weight, SUPPORT)
    facts: dict[str, Any] = {
        "n": len(pairs.truth),
        "n_clusters": n_clusters,
        "slope": found.slope,
        "intercept": found.intercept,
        "slope_covariance": (
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[1, 0]), float(covariance[1, 1])),
        ),
        "inverse_slope": found.inverse_slope,
        "inverse_intercept": found.inverse_intercept,
        "inverse_slope_error": float(np.sqrt(inverse[1, 1])),
        "noise_variance": found.noise_variance,
        "r2": found.slope * found.inverse_slope,
        "tie_share": tie_share,
        "bound_share": bound_share,
        "support": (float(lower), float(upper)),
        "truth_variance": found.truth_variance,
        "prediction_mean": found.prediction_mean,
        "prediction_variance": found.prediction_variance,
        "rmse": float(np.sqrt(pairs.weight @ (pairs.prediction - pairs.truth) ** 2)),
    }
    return CalibrationFacts(**facts, flags=_flags(facts))


def line_covariance(x: Floats, y: Floats, slope: float, pairs: Pairs) -> Floats:
    """(2, 2) covariance of (intercept, slope) of y on x: HC0, or robust to the clusters of the pairs."""
    mean, scale = float(pairs.weight @ x), float(np.std(x))
    standard = (x - mean) / scale
    residual = y - pairs.weight @ y - slope * (x - mean)
    root = np.sqrt(pairs.weight)
    design = np.stack([root, root * standard], axis=1)
    kind: Any = "HC0" if pairs.cluster is None else "cluster"
    inner = ols_covariance(design, root * residual, kind, cluster=pairs.cluster)
    back = np.array([[1.0, -mean / scale], [0.0, 1 / scale]])
    return np.asarray(back @ inner @ back.T)


def quantiles(values: Floats, weight: Floats, shares: tuple[float, ...]) -> Floats:
    """Weighted quantiles: the smallest value at which the share is reached."""
    return np.asarray(np.quantile(values, shares, weights=weight, method="inverted_cdf"))


def outside_share(prediction: ArrayLike, support: tuple[float, float]) -> float:
    """Share of the predictions that lie outside ``support``; NaN are left out."""
    values = np.asarray(prediction, dtype=float)
    known = values[np.isfinite(values)]
    return float(((known < support[0]) | (known > support[1])).mean()) if len(known) else 0.0


def check_support(prediction: ArrayLike, support: tuple[float, float]) -> tuple[str, ...]:
    """``("out_of_support",)``, with a warning, when over 1 % of predictions lie outside the support."""
    share = outside_share(prediction, support)
    if not share > LARGEST_SHARE:
        return ()
    _warn(
        f"{share:.1%} of the predictions lie outside [{support[0]:.4g}, {support[1]:.4g}], where the map"
        f" was calibrated (limit {LARGEST_SHARE:.0%}). There the correction assumes a Gaussian shape;"
        " calibrate on places like these, or report the estimate without them.",
        OUT_OF_SUPPORT,
    )
    return (OUT_OF_SUPPORT,)


def check_units(map_units: str, truth_units: str) -> None:
    """Refuse to compare a map and a truth in different units.

    Raises
    ------
    UnitsError
        They differ.
    """
    if map_units != truth_units:
        raise UnitsError(
            f"The map is in {map_units!r} and the measured values are in {truth_units!r}. Bring both"
            " into one unit.",
            map_units=map_units, truth_units=truth_units,
        )  # fmt: skip


def check_training(calibration_ids: ArrayLike, training_ids: ArrayLike) -> None:
    """Refuse calibration pairs that the model has learned from.

    Raises
    ------
    LeakageError
        A unit is in both.
    """
    both = np.intersect1d(np.asarray(calibration_ids), np.asarray(training_ids))
    if len(both):
        shown = ", ".join(map(str, both[:3]))
        raise LeakageError(
            f"{len(both)} calibration units were used in training ({shown}). Their residuals are too"
            " small, so corrections would be too weak; calibrate on rows that the model has not seen.",
            n=len(both),
        )


def warn_of(facts: CalibrationFacts) -> None:
    """One warning for each flag of the facts: the number, the limit, and what to do."""
    texts = {
        WEAK_SLOPE: f"The slope of prediction on truth is {facts.slope:.3f} (limit {SMALLEST_SLOPE}):"
        " corrections divide by it, so errors grow. Use a better map.",
        SMALL_CALIBRATION_SAMPLE: f"{facts.n} calibration pairs (limit {SMALLEST_SAMPLE}): slope and"
        " density are uncertain. Add labelled places; only linear calibration is recommended.",
        TIES: f"{facts.tie_share:.1%} of the predictions share their value with others (limit"
        f" {LARGEST_SHARE:.0%}), so their density has no score. Use linear calibration.",
        BOUNDS_PILEUP: f"{facts.bound_share:.1%} of the predictions lie on the smallest or largest value"
        f" (limit {LARGEST_SHARE:.0%}). Do not clip predictions, or use linear calibration.",
        BERKSON_VIOLATED: f"The slope of truth on prediction is {facts.inverse_slope:.3f} with standard"
        f" error {facts.inverse_slope_error:.3f}, more than {BERKSON_ERRORS:g} of them from 1. Keep"
        " recalibrate at auto, which repairs it before Tweedie.",
        ZERO_SIGMA_IDENTITY: "Predictions equal the truth up to a constant (noise variance 0), so the"
        " correction changes nothing. Check that they are held-out predictions.",
        FEW_CLUSTERS: f"{facts.n_clusters} calibration clusters (limit {SMALLEST_CLUSTERS}): standard"
        " errors are uncertain. Add clusters.",
    }  # fmt: skip
    for flag in facts.flags:
        _warn(texts[flag], flag)


def _flags(facts: dict[str, Any]) -> tuple[str, ...]:
    n_clusters = facts["n_clusters"]
    off = abs(facts["inverse_slope"] - 1)
    applies = {
        WEAK_SLOPE: not facts["slope"] >= SMALLEST_SLOPE,
        SMALL_CALIBRATION_SAMPLE: facts["n"] < SMALLEST_SAMPLE,
        TIES: facts["tie_share"] > LARGEST_SHARE,
        BOUNDS_PILEUP: facts["bound_share"] > LARGEST_SHARE,
        BERKSON_VIOLATED: off > max(BERKSON_ERRORS * facts["inverse_slope_error"], 1e-12),
        ZERO_SIGMA_IDENTITY: facts["noise_variance"] <= 1e-24 * facts["truth_variance"],
        FEW_CLUSTERS: n_clusters is not None and n_clusters < SMALLEST_CLUSTERS,
    }
    return tuple(flag for flag, applied in applies.items() if applied)


def _warn(text: str, flag: str) -> None:
    warnings.warn(EOCausalWarning(text, flag), stacklevel=3)


def _pileups(prediction: Floats) -> tuple[float, float]:
    """Share of tied rows, and of tied rows on the smallest or largest value."""
    counts = np.unique(prediction, return_counts=True)[1]
    tied = np.where(counts > 1, counts, 0)
    n = len(prediction)
    return float(tied.sum() / n), float((tied[0] + tied[-1]) / n)
