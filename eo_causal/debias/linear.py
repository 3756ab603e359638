"""Linear corrections: of contrasts by the slope of prediction on truth, of predictors by the reverse."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_causal.debias.base import BERKSON_VIOLATED, CalibrationFacts, calibration_facts

Recalibrate = Literal["auto", "always", "never"]
BLOCK = 2**18  # values that stay in the cache between two operations


class LinearCalibration:
    """Linear calibration (LCC): (prediction - m) / k with prediction = m + k truth.

    Contrasts are unbiased if E[prediction | truth] is a line and the error does not depend on the
    treatment given the truth, whatever the law of the error. Any affine change of predictions cancels.

    Parameters
    ----------
    min_calibration : int
        Fewer calibration pairs are refused.

    Attributes
    ----------
    facts_ : CalibrationFacts
        With ``flags`` of what speaks against it.
    slope_, intercept_ : float
        k and m.
    slope_covariance_ : (2, 2) array
        Of (intercept, slope); HC0, or cluster-robust.
    flags_ : tuple of str
        Those of the facts.

    Notes
    -----
    Source: arXiv 2508.01341. Corrected values are pseudo-outcomes for averages, no better predictions.

    Examples
    --------
    >>> truth = np.arange(40.0)
    >>> float(LinearCalibration().fit(truth, 3 + truth / 2).correct([8.0])[0])
    10.0
    """

    name = "lcc"

    def __init__(self, min_calibration: int = 30) -> None:
        self.min_calibration = min_calibration

    def fit(
        self,
        truth: ArrayLike,
        prediction: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        cluster: ArrayLike | None = None,
    ) -> Self:
        """Regress prediction on truth, on rows that the model did not learn from.

        Raises
        ------
        DataError, DegenerateError
            As :func:`eo_causal.debias.pairs.check_pairs`.
        """
        facts = calibration_facts(truth, prediction, weight, cluster, self.min_calibration)
        self.facts_: CalibrationFacts = facts
        self.slope_, self.intercept_ = facts.slope, facts.intercept
        self.slope_covariance_ = np.array(facts.slope_covariance)
        self.flags_ = facts.flags
        return self

    def correct(self, prediction: ArrayLike) -> NDArray[Any]:
        """(prediction - m) / k; float32 in, float32 out."""
        return affine(prediction, 1 / self.slope_, -self.intercept_ / self.slope_)


class Recalibration:
    """q = a + b prediction, from the regression of truth on prediction.

    It repairs predictors that are over-fitted, penalised for bias, or carry classical error, so that
    truth = q + error with an error that does not depend on q.

    Parameters
    ----------
    recalibrate : str
        ``auto`` applies it when b is more than 2 standard errors from 1; ``always``; ``never``.
    min_calibration : int
        Fewer calibration pairs are refused.

    Attributes
    ----------
    facts_ : CalibrationFacts
    applied_ : bool
    slope_, intercept_ : float
        b and a; 1 and 0 where it is not applied.
    """

    name = "recalibration"

    def __init__(self, recalibrate: Recalibrate = "auto", min_calibration: int = 30) -> None:
        self.recalibrate = recalibrate
        self.min_calibration = min_calibration

    def fit(
        self,
        truth: ArrayLike,
        prediction: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        cluster: ArrayLike | None = None,
    ) -> Self:
        """Regress truth on prediction, and decide.

        Raises
        ------
        DataError, DegenerateError
            As :func:`eo_causal.debias.pairs.check_pairs`.
        """
        facts = calibration_facts(truth, prediction, weight, cluster, self.min_calibration)
        self.facts_: CalibrationFacts = facts
        self.applied_ = is_recalibrated(facts, self.recalibrate)
        self.slope_ = facts.inverse_slope if self.applied_ else 1.0
        self.intercept_ = facts.inverse_intercept if self.applied_ else 0.0
        return self

    def correct(self, prediction: ArrayLike) -> NDArray[Any]:
        """q = a + b prediction: the best guess for a place; float32 in, float32 out."""
        return affine(prediction, self.slope_, self.intercept_)


def is_recalibrated(facts: CalibrationFacts, recalibrate: Recalibrate) -> bool:
    """Whether predictions are recalibrated before Tweedie's correction."""
    if recalibrate == "auto":
        return BERKSON_VIOLATED in facts.flags
    return recalibrate == "always"


def affine(values: ArrayLike, slope: float, intercept: float) -> NDArray[Any]:
    """slope values + intercept, in blocks: one pass over memory, no temporary of the whole size."""
    array = as_float(values)
    flat = array.reshape(-1)
    found = np.empty_like(flat)
    for start in range(0, len(flat), BLOCK):
        block = found[start : start + BLOCK]
        np.multiply(flat[start : start + BLOCK], flat.dtype.type(slope), out=block)
        block += flat.dtype.type(intercept)
    return found.reshape(array.shape)


def as_float(values: ArrayLike) -> NDArray[Any]:
    """An array of float32 as it is, everything else as float64; contiguous."""
    array = np.asarray(values)
    kind = np.float32 if array.dtype == np.float32 else np.float64
    return np.ascontiguousarray(array, dtype=kind)
