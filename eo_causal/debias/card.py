"""The calibration card: all that is needed to correct a map, and to say how sure that is, without labels.

It lies beside the map as JSON and NetCDF, so that any number of trials can be run on one map.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.debias.linear import Recalibrate, affine
from eo_causal.debias.pairs import Floats
from eo_causal.debias.score import Bandwidth, Grid
from eo_causal.debias.tweedie import Curve, TweedieCorrection
from eo_causal.errors import DataError

Method = Literal["lcc", "tweedie"]
N_REPLICATE_NODES = 512


class CardSettings(Settings):
    """How a map is calibrated."""

    corrector: Literal["auto", "lcc", "tweedie"] = Field(
        default="auto", description="auto: lcc unless tweedie is clearly nearer on held-out rows"
    )
    bandwidth: Bandwidth = "robust_silverman"
    recalibrate: Recalibrate = "auto"
    sigma: float | None = Field(
        default=None,
        ge=0,
        description="sd of prediction - truth; null = that of the calibration pairs",
    )
    sigma_source: Literal["given", "train"] = Field(
        default="given", description="where a given sigma comes from"
    )
    heteroskedastic: bool = False
    n_replicates: int = Field(
        default=300, ge=2, description="resamples of the calibration clusters"
    )
    min_calibration: int = Field(default=30, ge=3)

    def tweedie(self) -> TweedieCorrection:
        """The correction with these settings."""
        return TweedieCorrection(
            self.bandwidth, self.recalibrate, self.sigma, self.heteroskedastic, self.min_calibration
        )


@dataclass(frozen=True)
class CalibrationCard:
    """What calibration pairs taught about the map of one model, or of several folds.

    Attributes
    ----------
    method : str
        ``lcc`` or ``tweedie``: what the map offers. Whether a contrast is to be corrected at all is
        decided for every trial.
    units : str
        Of truth, prediction and corrected values.
    seed : int
    sigma_source : str
        ``calibration``, ``given`` or ``train``.
    settings : CardSettings
    folds : DataFrame
        One row a model: ``fold``, the facts of its pairs, ``recalibration_intercept`` (a),
        ``recalibration_slope`` (b), ``tweedie_noise_variance``, ``bandwidth``, ``held_out_rms_lcc`` and
        ``held_out_rms_tweedie`` (root mean square of corrected value minus truth).
    curves : Dataset
        ``tweedie (fold, node)`` at ``start + step node``, its ``tail (fold, line)`` (intercept and
        slope beyond the support); of B resamples ``replicate_tweedie (fold, replicate, basis)`` float32
        (512 nodes across the support, then the tail), ``replicate_lcc (fold, replicate, line)``.
    choice : DataFrame
        Held-out curves by decile of the truth behind ``method``.
    choice_gain, choice_std_error : float
        See :class:`eo_causal.debias.choose.Choice`.
    calibration_hash, training_hash, folds_hash, map_hash : str or None
        SHA-256 of the unit ids of the pairs, of the training units, of unit ids with folds; of the map,
        set by who writes it.
    flags : tuple of str
    """

    method: Method
    units: str
    seed: int
    sigma_source: str
    settings: CardSettings
    folds: pd.DataFrame
    curves: xr.Dataset
    choice: pd.DataFrame
    choice_gain: float
    choice_std_error: float
    calibration_hash: str
    training_hash: str | None
    folds_hash: str
    map_hash: str | None
    flags: tuple[str, ...]

    def corrected(
        self, prediction: ArrayLike, fold: ArrayLike | None = None, method: Method | None = None
    ) -> NDArray[Any]:
        """Pseudo-outcomes for averages.

        Parameters
        ----------
        prediction : (n,) or (n, model) array
            Of the only model of the card; of the model that ``fold`` names; or of all models in the
            order of ``folds``, whose corrected values are then averaged. float32 stays float32.
        fold : (n,) array or int, optional
            The model of each prediction, by its number in ``folds``.
        method : str, optional
            ``lcc`` or ``tweedie``; the card's own by default.

        Raises
        ------
        DataError
            Several models and neither ``fold`` nor a column for each; a fold that the card lacks.
        """
        chosen = method or self.method
        return self._over_folds(
            prediction, fold, lambda values, number: self._correct(values, number, chosen)
        )

    def replicates(
        self, prediction: ArrayLike, fold: ArrayLike | None = None, method: Method | None = None
    ) -> Floats:
        """(replicate, n) corrected values had other calibration clusters been drawn; see :meth:`corrected`."""
        chosen = method or self.method

        def replicate(values: NDArray[Any], number: int) -> Floats:
            if chosen == "lcc":
                line = self._of("replicate_lcc", number)
                return line[:, :1] + line[:, 1:] * values.astype(float)
            table = self.replicate_table(self._label(number))
            return np.asarray((self._weights(values, number) @ table.T).T)

        return self._over_folds(prediction, fold, replicate)

    def node_weights(self, prediction: ArrayLike, fold: int | None = None) -> Any:
        """Sparse (n, 514): how each prediction reads ``replicate_table``.

        Rows can be averaged: the weights of a footprint are the mean of those of its pixels.
        """
        return self._weights(np.asarray(prediction), self._number(fold))

    def replicate_table(self, fold: int | None = None) -> Floats:
        """(replicate, 514) Tweedie's curve on 512 nodes, then intercept and slope beyond the support."""
        return self._of("replicate_tweedie", self._number(fold)).astype(float)

    def std_error(
        self, prediction: ArrayLike, fold: ArrayLike | None = None, method: Method | None = None
    ) -> Floats:
        """Error of a corrected value as a reading of its place's truth: parameters and noise.

        Errors of different places share the error of the parameters, so they must not be averaged as
        if independent. With a column for each model the noise of their mean is taken as the mean of
        theirs, which is not too small.
        """
        chosen = method or self.method

        def variance(values: NDArray[Any], number: int) -> Floats:
            noise = float(self.folds[f"held_out_rms_{chosen}"].iloc[number]) ** 2
            return self._parameter_variance(values, number, chosen) / shared + noise

        shared = np.asarray(prediction).shape[1] if np.ndim(prediction) == 2 else 1
        return np.sqrt(self._over_folds(prediction, fold, variance))

    def curve(self, fold: int | None = None) -> Curve:
        """Tweedie's correction of one model."""
        number = self._number(fold)
        row = self.folds.iloc[number]
        start, step = (float(self._of(name, number)) for name in ("start", "step"))
        tail = self._of("tail", number)
        return Curve(
            Grid(start, step), self._of("tweedie", number),
            (row["support_lower"], row["support_upper"]), (float(tail[0]), float(tail[1])),
        )  # fmt: skip

    def support(self, fold: int | None = None) -> tuple[float, float]:
        """Between which predictions a model was calibrated."""
        row = self.folds.iloc[self._number(fold)]
        return float(row["support_lower"]), float(row["support_upper"])

    @property
    def mean_support(self) -> tuple[float, float]:
        """Between which means over all models predictions were calibrated: means of their ends."""
        ends = self.folds[["support_lower", "support_upper"]].mean()
        return float(ends.iloc[0]), float(ends.iloc[1])

    def _of(self, name: str, number: int) -> NDArray[Any]:
        return self.curves[name].isel(fold=number).to_numpy()

    def _label(self, number: int) -> int:
        return int(self.folds["fold"].iloc[number])

    def _number(self, fold: int | None) -> int:
        """Position of a fold; that of the only one where none is named."""
        labels = self.folds["fold"].tolist()
        if fold is None and len(labels) == 1:
            return 0
        if fold not in labels:
            raise DataError(
                f"The card holds the folds {labels}; fold is {fold}. Name the fold whose model made the"
                " predictions, or give a column for each model.",
                fold=fold,
            )
        return labels.index(fold)

    def _over_folds(
        self, prediction: ArrayLike, fold: ArrayLike | None,
        function: Callable[[NDArray[Any], int], NDArray[Any]],
    ) -> NDArray[Any]:  # fmt: skip
        """``function(predictions, position of the model)``, joined along the last axis."""
        values = np.asarray(prediction)
        if values.ndim == 2 and fold is None and values.shape[1] == len(self.folds):
            parts = [function(values[:, number], number) for number in range(values.shape[1])]
            return np.mean(parts, axis=0, dtype=parts[0].dtype)
        if values.ndim != 1:
            raise DataError(
                f"Predictions have shape {values.shape}; the card needs (n,), or"
                f" (n, {len(self.folds)}) without fold.",
                shape=values.shape,
            )
        if fold is None or np.ndim(fold) == 0:
            return function(values, self._number(None if fold is None else int(np.asarray(fold))))
        labels = np.asarray(fold)
        if labels.shape != values.shape:
            raise DataError(f"{len(values)} predictions and folds of shape {labels.shape}.")
        found: NDArray[Any] | None = None
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            part = function(values[rows], self._number(int(label)))
            if found is None:
                found = np.empty((*part.shape[:-1], len(values)), part.dtype)
            found[..., rows] = part
        return values.astype(float) if found is None else found

    def _correct(self, values: NDArray[Any], number: int, method: Method) -> NDArray[Any]:
        if method == "tweedie":
            return self.curve(self._label(number)).correct(values)
        row = self.folds.iloc[number]
        return affine(values, 1 / row["slope"], -row["intercept"] / row["slope"])

    def _weights(self, values: NDArray[Any], number: int) -> Any:
        from scipy.sparse import coo_matrix

        lower, upper = self.support(self._label(number))
        x = values.astype(float)
        inside = (x >= lower) & (x <= upper)
        last = N_REPLICATE_NODES - 1
        place = np.where(inside, (x - lower) / (upper - lower) * last, 0.0)
        left = np.minimum(place.astype(np.intp), last - 1)
        right_share = place - left
        columns = [np.where(inside, left, last + 1), np.where(inside, left + 1, last + 2)]
        shares = [np.where(inside, 1 - right_share, 1.0), np.where(inside, right_share, x)]
        rows = np.tile(np.arange(len(x)), 2)
        cells = (np.concatenate(shares), (rows, np.concatenate(columns)))
        return coo_matrix(cells, shape=(len(x), N_REPLICATE_NODES + 2)).tocsr()

    def _parameter_variance(self, values: NDArray[Any], number: int, method: Method) -> Floats:
        """Variance over replicates, itself a curve on their nodes."""
        x = values.astype(float)
        if method == "lcc":
            return _line_variance(x, self._of("replicate_lcc", number))
        table = self.replicate_table(self._label(number))
        nodes, tails = table[:, :N_REPLICATE_NODES], table[:, N_REPLICATE_NODES:]
        lower, upper = self.support(self._label(number))
        places = np.linspace(lower, upper, N_REPLICATE_NODES)
        within = np.interp(x, places, nodes.var(axis=0, ddof=1))
        return np.where((x >= lower) & (x <= upper), within, _line_variance(x, tails))


def _line_variance(x: Floats, line: Floats) -> Floats:
    """Variance of intercept + slope x over lines (replicate, 2)."""
    covariance = np.cov(line.T)
    return np.asarray(covariance[0, 0] + 2 * x * covariance[0, 1] + x**2 * covariance[1, 1])
