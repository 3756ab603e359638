"""Calibration pairs, checked, and the two lines between them: what every correction starts from.

Pairs are measured values (truth) with predictions of a model that did not learn from them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_causal.errors import DataError, DegenerateError

Floats = NDArray[np.float64]
SMALLEST_SPREAD = 0.05  # sd of predictions over sd of truth


@dataclass(frozen=True)
class Pairs:
    """Calibration pairs that passed every check.

    Attributes
    ----------
    truth, prediction : (n,) array
        In one unit.
    weight : (n,) array
        Sums to 1.
    cluster : (n,) array of int or None
        Codes 0, 1, ...
    """

    truth: Floats
    prediction: Floats
    weight: Floats
    cluster: NDArray[np.intp] | None

    def rows(self, rows: NDArray[Any]) -> "Pairs":
        """Some rows, or rows drawn again; weights sum to 1 anew."""
        weight = self.weight[rows]
        cluster = None if self.cluster is None else self.cluster[rows]
        return Pairs(self.truth[rows], self.prediction[rows], weight / weight.sum(), cluster)


@dataclass(frozen=True)
class Lines:
    """The two regression lines between truth and prediction, and their moments (ddof 0).

    Attributes
    ----------
    slope, intercept : float
        k and m of prediction on truth.
    inverse_slope, inverse_intercept : float
        b and a of truth on prediction.
    truth_mean, truth_variance, prediction_mean, prediction_variance : float
        Weighted moments.
    noise_variance : float
        Var(prediction - truth).
    """

    slope: float
    intercept: float
    inverse_slope: float
    inverse_intercept: float
    truth_mean: float
    truth_variance: float
    prediction_mean: float
    prediction_variance: float
    noise_variance: float


def check_pairs(
    truth: ArrayLike,
    prediction: ArrayLike,
    weight: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    min_calibration: int = 30,
) -> Pairs:
    """Calibration pairs as arrays, or the reason why they are none.

    Raises
    ------
    DataError
        Not one-dimensional, of unequal length, empty, missing or infinite values, fewer than
        ``min_calibration`` pairs, constant truth or predictions, negative or all-zero weights, one
        cluster, or a slope of prediction on truth that is not above 0.
    DegenerateError
        Predictions vary by less than 5 % of the truth.
    """
    values = {"truth": _vector("truth", truth), "prediction": _vector("prediction", prediction)}
    n = len(values["truth"])
    if weight is not None:
        values["weight"] = _vector("weight", weight)
    codes = None if cluster is None else np.asarray(cluster)
    lengths = {name: len(array) for name, array in values.items()}
    if codes is not None:
        lengths["cluster"] = len(codes) if codes.ndim == 1 else -1
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"Calibration columns have different lengths or shapes: {lengths}. Give one value a row.",
            **lengths,
        )
    if n < min_calibration:
        raise DataError(
            f"{n} calibration pairs; at least {min_calibration} are needed. Add labelled places, or set"
            " min_calibration.",
            n=n, min_calibration=min_calibration,
        )  # fmt: skip
    for name in ("truth", "prediction"):
        if np.ptp(values[name]) == 0:
            raise DataError(
                f"The {name} of all {n} calibration pairs is {values[name][0]:g}. A constant can be"
                " neither calibrated nor corrected; use another model or other pairs.",
                n=n,
            )
    weights = _weights(values.get("weight"), n)
    if codes is not None:
        codes = _codes(codes)
    pairs = Pairs(values["truth"], values["prediction"], weights, codes)
    check_lines(lines(pairs))
    return pairs


def lines(pairs: Pairs) -> Lines:
    """The two regression lines, by weighted least squares."""
    weight = pairs.weight
    truth_mean, prediction_mean = float(weight @ pairs.truth), float(weight @ pairs.prediction)
    truth, prediction = pairs.truth - truth_mean, pairs.prediction - prediction_mean
    truth_variance = float(weight @ truth**2)
    prediction_variance = float(weight @ prediction**2)
    covariance = float(weight @ (truth * prediction))
    slope = covariance / truth_variance if truth_variance else np.nan
    inverse = covariance / prediction_variance if prediction_variance else np.nan
    return Lines(
        slope, prediction_mean - slope * truth_mean, inverse, truth_mean - inverse * prediction_mean,
        truth_mean, truth_variance, prediction_mean, prediction_variance,
        float(weight @ (prediction - truth) ** 2),
    )  # fmt: skip


def check_lines(found: Lines) -> None:
    """Refuse lines by which nothing can be corrected; errors as :func:`check_pairs`."""
    if not found.truth_variance > 0 or not found.prediction_variance > 0:
        raise DataError(
            "The calibration pairs with weight have constant truth or predictions. Give weight to more"
            " pairs."
        )
    if not found.slope > 0:
        raise DataError(
            f"The slope of prediction on truth is {found.slope:.3g}; a map that does not rise with the"
            " truth cannot be corrected. Use another map.",
            slope=found.slope,
        )
    spread = float(np.sqrt(found.prediction_variance / found.truth_variance))
    if not spread >= SMALLEST_SPREAD:
        raise DegenerateError(
            f"The predictions' standard deviation is {spread:.3f} of the truth's (limit"
            f" {SMALLEST_SPREAD}): the map is all but constant. Use another map.",
            spread=spread,
        )


def _vector(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise DataError(
            f"The {name} has shape {array.shape}; one value a row is needed. Give a single column.",
            shape=array.shape,
        )
    if not len(array):
        raise DataError(f"The {name} is empty. Give calibration pairs.")
    n_bad = int((~np.isfinite(array)).sum())
    if n_bad:
        raise DataError(
            f"{n_bad} of {len(array)} values of the {name} are missing or infinite. Leave these rows"
            " out.",
            n=n_bad,
        )
    return array


def _weights(weight: Floats | None, n: int) -> Floats:
    if weight is None:
        return np.full(n, 1 / n)
    n_negative, total = int((weight < 0).sum()), float(weight.sum())
    if n_negative or not total > 0:
        raise DataError(
            f"{n_negative} weights are negative and their sum is {total:g}. Weights must not be negative,"
            " and not all 0.",
            n_negative=n_negative,
        )
    return weight / total


def _codes(cluster: NDArray[Any]) -> NDArray[np.intp]:
    names, codes = np.unique(cluster, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"All {len(cluster)} calibration pairs are in one cluster. Leave clusters out, or use finer"
            " ones.",
            n=len(cluster),
        )
    return codes
