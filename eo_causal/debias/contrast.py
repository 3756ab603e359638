"""The contrast of two arms: its columns, checked, and how it is estimated from any outcome.

Estimators take weights and offer influence values, so that corrections can be resampled and differentiated.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from eo_causal.debias.base import FEW_CLUSTERS, SMALLEST_CLUSTERS
from eo_causal.debias.pairs import Floats
from eo_causal.errors import DataError


class Estimator(Protocol):
    """A contrast of two arms as a function of the outcome."""

    def __call__(self, outcome: Floats, treatment: Floats, weight: Floats) -> float:
        """The estimate; weight 0 leaves a unit out, weight 2 counts it twice."""

    def influence(self, outcome: Floats, treatment: Floats, weight: Floats) -> Floats:
        """(n,) values whose mean has the standard error of the estimate."""


class DifferenceInMeans:
    """Difference of the arms' weighted means; with inverse propensities as weights that of Hajek."""

    def __call__(self, outcome: Floats, treatment: Floats, weight: Floats) -> float:
        """Mean of the treated less mean of the others."""
        return self._mean(outcome, treatment * weight) - self._mean(
            outcome, (1 - treatment) * weight
        )

    def influence(self, outcome: Floats, treatment: Floats, weight: Floats) -> Floats:
        """(n,) influence values."""
        found = np.zeros(len(outcome))
        for sign, part in ((1, treatment * weight), (-1, (1 - treatment) * weight)):
            found += sign * part / part.mean() * (outcome - self._mean(outcome, part))
        return found

    @staticmethod
    def _mean(outcome: Floats, part: Floats) -> float:
        return float(part @ outcome / part.sum())


class RegressionCoefficient:
    """Coefficient of treatment in the weighted regression of the outcome on treatment and covariates.

    Parameters
    ----------
    covariates : (n, k) array
        One row a unit, in the order of outcomes; the intercept is added.
    """

    def __init__(self, covariates: ArrayLike) -> None:
        values = np.asarray(covariates, dtype=float)
        self._design = np.column_stack([np.ones(len(values)), values])

    def __call__(self, outcome: Floats, treatment: Floats, weight: Floats) -> float:
        """The coefficient."""
        own = weight * self._rest(treatment, weight)
        return float(own @ outcome / (own @ treatment))

    def influence(self, outcome: Floats, treatment: Floats, weight: Floats) -> Floats:
        """(n,) influence values."""
        own = weight * self._rest(treatment, weight)
        left = self._rest(outcome, weight)
        residual = left - self(outcome, treatment, weight) * self._rest(treatment, weight)
        return np.asarray(len(outcome) * own * residual / (own @ treatment))

    def _rest(self, values: Floats, weight: Floats) -> Floats:
        """What the covariates leave of values."""
        root = np.sqrt(weight)
        found = np.linalg.lstsq(root[:, None] * self._design, root * values)[0]
        return np.asarray(values - self._design @ found)


class Trial(NamedTuple):
    """Columns of a trial that passed every check."""

    prediction: Floats  # (n,) or (n, model)
    treatment: Floats
    weight: Floats
    fold: NDArray[Any] | None
    cluster: NDArray[np.intp] | None
    n_clusters: int | None


def checked_trial(
    prediction: ArrayLike, treatment: ArrayLike, weight: ArrayLike | None, fold: ArrayLike | None,
    cluster: ArrayLike | None,
) -> Trial:  # fmt: skip
    """The columns of a trial as arrays, or the reason why they are none.

    Parameters
    ----------
    prediction : (n,) or (n, model) array
        Uncorrected.
    treatment : (n,) array
        0 or 1.
    weight : (n,) array or None
        1 by default.
    fold : (n,) array, one value for all, or None
        Which model made each prediction.
    cluster : (n,) array or None
        Labels; they become codes 0, 1, ...

    Raises
    ------
    DataError
        Lengths that differ, missing predictions, negative or infinite weights, a treatment other than
        0 and 1, an arm without weight; as :func:`check_clusters`.
    """
    seen, treated = np.asarray(prediction, dtype=float), np.asarray(treatment, dtype=float)
    n = len(treated)
    weights = np.ones(n) if weight is None else np.asarray(weight, dtype=float)
    folds = None if fold is None else np.broadcast_to(np.asarray(fold), treated.shape)
    labels = None if cluster is None else np.asarray(cluster)
    lengths = {"prediction": len(seen), "treatment": n, "weight": len(weights)}
    lengths |= {} if labels is None else {"cluster": len(labels)}
    if treated.ndim != 1 or seen.ndim not in (1, 2) or len(set(lengths.values())) > 1:
        raise DataError(f"Columns of the trial differ in length: {lengths}. Give one row a unit.")
    n_bad = int((~np.isfinite(seen)).sum())
    if n_bad:
        raise DataError(
            f"{n_bad} predictions of the trial are missing or infinite. Leave these units out.",
            n=n_bad,
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("Weights of the trial must be finite and not negative.")
    if not np.isin(treated, (0, 1)).all():
        raise DataError("Treatment must be 0 or 1, one value a unit. Code it so.")
    arms = [float(weights[treated == arm].sum()) for arm in (0, 1)]
    if min(arms) == 0:
        raise DataError(
            f"The weights of untreated and treated units sum to {arms}; an effect needs both arms. Add"
            " the other arm.",
            weights=arms,
        )
    if labels is None:
        return Trial(seen, treated, weights, folds, None, None)
    check_clusters(treated, labels, "trial")
    names, codes = np.unique(labels, return_inverse=True)
    return Trial(seen, treated, weights, folds, codes, len(names))


def check_clusters(treatment: Floats, cluster: ArrayLike, what: str) -> None:
    """Refuse clusters whose errors cannot be seen: missing labels, or an arm within one cluster.

    The residuals of an arm sum to zero, so that a cluster that holds all of it would seem to have no error.

    Raises
    ------
    DataError
        As it says.
    """
    labels = np.asarray(cluster)
    missing = int(pd.isna(labels).sum())
    if missing:
        raise DataError(
            f"{missing} of {len(labels)} units of the {what} have no cluster. Name one for each.",
            n=missing,
        )
    for arm, name in ((1, "treated"), (0, "untreated")):
        n = len(np.unique(labels[treatment == arm]))
        if n == 1:
            raise DataError(
                f"All {name} units of the {what} are in one cluster, so an error between clusters cannot be"
                " told. Name finer clusters, or leave clusters out and say so.",
                arm=name,
            )


def few_clusters(trial: Trial) -> tuple[str, ...]:
    """``("few_clusters",)`` when a clustered trial has under 30 clusters."""
    few = trial.n_clusters is not None and trial.n_clusters < SMALLEST_CLUSTERS
    return (FEW_CLUSTERS,) if few else ()
