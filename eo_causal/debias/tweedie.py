"""Tweedie's correction: predictions minus noise variance times the score of their own density.

If truth = prediction + error, with a Gaussian error independent of the prediction, then the mean of the
corrected values among places of equal truth is that truth (arXiv 2508.01341).
"""

import functools
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_causal.debias.base import ZERO_SIGMA_IDENTITY, CalibrationFacts, facts_of
from eo_causal.debias.linear import Recalibrate, as_float, is_recalibrated
from eo_causal.debias.pairs import Floats, Lines, Pairs, check_pairs, lines
from eo_causal.debias.score import (
    Bandwidth,
    Grid,
    bandwidth_of,
    bin_linearly,
    gaussian_score,
    grid_score,
    make_grid,
    over_density,
    smooth,
)
from eo_causal.errors import DataError


@dataclass(frozen=True)
class Curve:
    """A correction as a function of the prediction: a table within the support, a line beyond.

    Attributes
    ----------
    grid : Grid
        Places of the table, in units of the prediction.
    values : (node,) array
        Corrected values there.
    support : (float, float)
        Between them, both included, the table holds.
    tail : (float, float)
        Intercept and slope of the line beyond.
    """

    grid: Grid
    values: Floats
    support: tuple[float, float]
    tail: tuple[float, float]

    def correct(self, prediction: ArrayLike) -> NDArray[Any]:
        """One corrected value a prediction; NaN stays NaN.

        float32, the type of rasters, is read from the table by compiled code and stays float32;
        anything else becomes float64.
        """
        array = as_float(prediction)
        if array.dtype == np.float32:
            return self._gather(array)
        inside = (array >= self.support[0]) & (array <= self.support[1])
        within = np.interp(array, self.grid.nodes, self.values)
        return np.where(inside, within, self.tail[0] + self.tail[1] * array)

    def _gather(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.empty_like(array)
        numbers = (self.grid.start, 1 / self.grid.step, *self.support, *self.tail)
        table = np.stack([self.values, np.diff(self.values, append=self.values[-1])], axis=1)
        _gather_kernel()(array.reshape(-1), table, *numbers, found.reshape(-1))
        return found


class TweedieCorrection:
    """T(x) = x - sigma^2 s(x), with s the score of the density of calibration predictions.

    The density is that of predictions, not of the truth, and the same for all arms of a trial. Beyond
    the 0.1 % and 99.9 % quantile of calibration predictions s is that of a Gaussian.

    Parameters
    ----------
    bandwidth : str
        ``robust_silverman``, ``scott`` or ``gaussian`` (no kernel: the score of a Gaussian).
    recalibrate : str
        ``auto`` recalibrates predictions first when the slope b of truth on prediction is more than 2
        standard errors from 1; ``always``; ``never``.
    sigma : float, optional
        Standard deviation of prediction - truth. Left out, that of the calibration pairs, which must
        be held-out rows: training residuals are too small.
    heteroskedastic : bool
        T(x) = x - sigma^2(x) s(x) - (sigma^2)'(x). Without the derivative it would be worse than a
        constant, so there is no such option. Terms of higher order are left out: where the noise grows
        fast a constant is nearer (+1 % against -5 % where its variance doubles each 1.2 sd).
    min_calibration : int
        Fewer calibration pairs are refused.

    Attributes
    ----------
    facts_ : CalibrationFacts
        Of the raw predictions.
    recalibration_ : (float, float)
        a and b of q = a + b x; (0, 1) where predictions were not recalibrated.
    noise_variance_ : float
        sigma^2, of recalibrated predictions where they are.
    sigma_source_ : str
        ``calibration`` or ``given``.
    bandwidth_ : float
        In units of raw predictions.
    curve_ : Curve
        T in terms of raw predictions.
    flags_ : tuple of str
        Those of the facts, and ``zero_sigma_identity``.

    Notes
    -----
    Corrected values are pseudo-outcomes for averages: their squared error is larger than that of the
    predictions, and they may leave the range of the index. Source: arXiv 2508.01341.
    """

    name = "tweedie"

    def __init__(
        self,
        bandwidth: Bandwidth = "robust_silverman",
        recalibrate: Recalibrate = "auto",
        sigma: float | None = None,
        heteroskedastic: bool = False,
        min_calibration: int = 30,
    ) -> None:
        self.bandwidth = bandwidth
        self.recalibrate = recalibrate
        self.sigma = sigma
        self.heteroskedastic = heteroskedastic
        self.min_calibration = min_calibration

    def fit(
        self,
        truth: ArrayLike,
        prediction: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        cluster: ArrayLike | None = None,
    ) -> Self:
        """Learn noise and density from rows that the model did not learn from.

        Raises
        ------
        DataError, DegenerateError
            As :func:`eo_causal.debias.pairs.check_pairs`; ``sigma`` below 0; no usable score.
        """
        return self.fit_pairs(check_pairs(truth, prediction, weight, cluster, self.min_calibration))

    def fit_pairs(self, pairs: Pairs) -> Self:
        """:meth:`fit` on pairs that were checked."""
        if self.sigma is not None and not 0 <= self.sigma < np.inf:
            raise DataError(f"sigma is {self.sigma}; a standard deviation is not below 0.")
        facts = facts_of(pairs)
        self.facts_: CalibrationFacts = facts
        applied = is_recalibrated(facts, self.recalibrate)
        self.recalibration_ = (
            (facts.inverse_intercept, facts.inverse_slope) if applied else (0.0, 1.0)
        )
        self.noise_variance_ = self.noise_of(lines(pairs), applied)
        self.sigma_source_ = "calibration" if self.sigma is None else "given"
        self.bandwidth_ = bandwidth_of(pairs.prediction, pairs.weight, self.bandwidth)
        grid = make_grid(pairs.prediction, self.bandwidth_)
        self.curve_ = self.curve_of(pairs, applied, grid, facts.support)
        identity = (ZERO_SIGMA_IDENTITY,) if self.noise_variance_ == 0 else ()
        self.flags_ = tuple(dict.fromkeys((*facts.flags, *identity)))
        return self

    def correct(self, prediction: ArrayLike) -> NDArray[Any]:
        """Pseudo-outcomes for averages, one a prediction; NaN stays NaN, float32 stays float32."""
        return self.curve_.correct(prediction)

    def copy(self) -> "TweedieCorrection":
        """The same settings, not fitted."""
        return TweedieCorrection(
            self.bandwidth, self.recalibrate, self.sigma, self.heteroskedastic, self.min_calibration
        )

    def noise_of(self, found: Lines, applied: bool) -> float:
        """sigma^2: the given one, or the variance of (recalibrated) prediction - truth."""
        if self.sigma is not None:
            return self.sigma**2
        if applied:
            return found.truth_variance * (1 - found.slope * found.inverse_slope)
        return found.noise_variance

    def curve_of(
        self, pairs: Pairs, applied: bool, grid: Grid, support: tuple[float, float]
    ) -> Curve:
        """The correction that these pairs imply, on a given grid and support."""
        found = lines(pairs)
        a, b = (found.inverse_intercept, found.inverse_slope) if applied else (0.0, 1.0)
        noise = self.noise_of(found, applied)
        # scores are of raw predictions: of q = a + bx they are smaller by 1/b
        pull = noise / b / found.prediction_variance
        tail = (a - pull * found.prediction_mean, b + pull)
        x, weight, nodes = pairs.prediction, pairs.weight, grid.nodes
        if self.bandwidth == "gaussian":
            return Curve(grid, tail[0] + tail[1] * nodes, support, tail)
        bandwidth = bandwidth_of(x, weight, self.bandwidth)
        if self.heteroskedastic:
            residual = a + b * x - pairs.truth
            squares = (residual - weight @ residual) ** 2
            if self.sigma is not None:
                squares *= noise / float(weight @ squares)
            shift = _local_shift(x, weight, squares, bandwidth, grid)
        else:
            shift = noise * grid_score(x, weight, bandwidth, grid)
        return Curve(grid, a + b * nodes - shift / b, support, tail)


def _local_shift(
    x: Floats, weight: Floats, squares: Floats, bandwidth: float, grid: Grid
) -> Floats:
    """sigma^2(x) s(x) + (sigma^2)'(x) at the nodes: derivative of a density of squares over a density."""
    density = smooth(bin_linearly(x, weight, grid), grid, bandwidth)[0]
    derivative = smooth(bin_linearly(x, weight * squares, grid), grid, bandwidth)[1]
    return over_density(
        derivative, density, float(weight @ squares) * gaussian_score(grid.nodes, x, weight)
    )


@functools.cache
def _gather_kernel() -> Any:
    import numba

    @numba.njit(cache=False, nogil=True)
    def gather(
        values: Any, table: Any, start: Any, per_step: Any, lower: Any, upper: Any, intercept: Any,
        slope: Any, found: Any,
    ) -> None:  # fmt: skip
        for i in range(len(values)):
            value = np.float64(values[i])
            if lower <= value <= upper:
                place = (value - start) * per_step
                left = np.int32(place)
                found[i] = table[left, 0] + (place - left) * table[left, 1]
            else:
                found[i] = intercept + slope * value

    return gather
