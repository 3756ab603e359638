"""Prediction-powered inference: averages from many predictions and a few labels in the trial itself.

Valid in every regime, because labels say how far the predictions are off; the price is the labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_causal.core.effect import Effect
from eo_causal.core.variance import interval, p_value
from eo_causal.debias.contrast import check_clusters
from eo_causal.debias.pairs import Floats
from eo_causal.errors import DataError


@dataclass(frozen=True)
class _Arm:
    estimate: float
    influence: (
        Floats  # sums to 0; the variance is the sum of squares, of clusters where there are any
    )


def ppi_mean(
    outcome: ArrayLike,
    prediction: ArrayLike,
    *,
    tuned: bool = True,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
    units: str = "1",
) -> Effect:
    """Mean outcome from predictions everywhere and labels somewhere.

    lambda mean(prediction, unlabelled) + mean(outcome - lambda prediction, labelled), with lambda 1
    (PPI) or the one of least variance within [0, 1] (PPI++).

    Parameters
    ----------
    outcome : (n,) array
        Labels; NaN = unlabelled.
    prediction : (n,) array
        Of every unit, by a model that did not learn from these labels.
    tuned : bool
        PPI++.
    cluster : (n,) array, optional
        Labels of clusters, for the standard error.
    level : float
        Coverage of the interval.
    units : str
        Of the outcome.

    Raises
    ------
    DataError
        Shapes differ, predictions missing or infinite, infinite outcomes, fewer than 2 labelled or
        unlabelled units, fewer than 2 clusters.

    Notes
    -----
    Sources: arXiv 2301.09633 (PPI), 2311.01453 (PPI++).
    """
    y, x, codes = _checked(outcome, prediction, cluster)
    arm = _arm(y, x, np.ones(len(y), dtype=bool), tuned, "the sample")
    return _effect(arm.estimate, arm.influence, codes, tuned, level, units)


def ppi_effect(
    outcome: ArrayLike,
    prediction: ArrayLike,
    treatment: ArrayLike,
    *,
    tuned: bool = True,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
    units: str = "1",
) -> Effect:
    """Difference of the arms' :func:`ppi_mean`, each with its own lambda.

    Parameters
    ----------
    outcome, prediction, tuned, cluster, level, units
        As :func:`ppi_mean`; both arms need labels.
    treatment : (n,) array
        0 or 1.

    Raises
    ------
    DataError
        As :func:`ppi_mean`, in either arm; a treatment that is not 0 or 1, a single arm, or one that
        lies in a single cluster.
    """
    y, x, codes = _checked(outcome, prediction, cluster)
    treated = np.asarray(treatment, dtype=float)
    if treated.shape != y.shape or not np.isin(treated, (0, 1)).all():
        raise DataError("Treatment must be 0 or 1, one value a unit. Code it so.")
    if len(np.unique(treated)) < 2:
        raise DataError(
            f"All {len(y)} units have treatment {treated[0]:g}; an effect needs both arms. Add the other"
            " arm, or ask for ppi_mean."
        )
    if cluster is not None:
        check_clusters(treated, cluster, "trial")
    one = _arm(y, x, treated == 1, tuned, "the treated arm")
    none = _arm(y, x, treated == 0, tuned, "the control arm")
    estimate = one.estimate - none.estimate
    return _effect(estimate, one.influence - none.influence, codes, tuned, level, units)


def _checked(
    outcome: ArrayLike, prediction: ArrayLike, cluster: ArrayLike | None
) -> tuple[Floats, Floats, NDArray[np.intp] | None]:
    y, x = np.asarray(outcome, dtype=float), np.asarray(prediction, dtype=float)
    names = None if cluster is None else np.asarray(cluster)
    if y.ndim != 1 or x.shape != y.shape or (names is not None and names.shape != y.shape):
        raise DataError(
            f"Outcome {y.shape}, prediction {x.shape} and clusters must be columns of one length."
        )
    if not np.isfinite(x).all() or np.isinf(y).any():
        raise DataError(
            f"{int((~np.isfinite(x)).sum())} predictions are missing or infinite and"
            f" {int(np.isinf(y).sum())} outcomes infinite. Leave these units out."
        )
    if names is None:
        return y, x, None
    found, codes = np.unique(names, return_inverse=True)
    if len(found) < 2:
        raise DataError(
            f"All {len(y)} units are in one cluster. Leave clusters out, or use finer ones."
        )
    return y, x, codes


def _arm(y: Floats, x: Floats, part: NDArray[np.bool_], tuned: bool, name: str) -> _Arm:
    """Estimate and influence of the units of one arm; 0 for all others."""
    labelled, bare = part & np.isfinite(y), part & np.isnan(y)
    n, n_bare = int(labelled.sum()), int(bare.sum())
    if n < 2 or n_bare < 2:
        raise DataError(
            f"{n} labelled and {n_bare} unlabelled units in {name}; at least 2 of each are needed. Add"
            " labels, or leave PPI out.",
            n_labelled=n, n_unlabelled=n_bare,
        )  # fmt: skip
    weight = _power(y[labelled], x[labelled], x[bare]) if tuned else 1.0
    rectifier = y[labelled] - weight * x[labelled]
    carried = weight * x[bare]
    influence = np.zeros(len(y))
    influence[labelled] = (rectifier - rectifier.mean()) / n
    influence[bare] = (carried - carried.mean()) / n_bare
    return _Arm(float(carried.mean() + rectifier.mean()), influence)


def _power(y: Floats, x: Floats, bare: Floats) -> float:
    """lambda of least variance (arXiv 2311.01453), within [0, 1]; 0 where predictions are constant."""
    pooled = float(np.concatenate([x, bare]).var(ddof=1))
    if pooled == 0:
        return 0.0
    covariance = float(np.mean((y - y.mean()) * (x - x.mean())))
    return float(np.clip(covariance / ((1 + len(x) / len(bare)) * pooled), 0, 1))


def _effect(
    estimate: float, influence: Floats, codes: NDArray[np.intp] | None, tuned: bool, level: float,
    units: str,
) -> Effect:  # fmt: skip
    n_clusters = None if codes is None else int(codes.max()) + 1
    if codes is None or n_clusters is None:
        variance = float(influence @ influence)
    else:
        sums = np.bincount(codes, influence)
        variance = float(sums @ sums) * n_clusters / (n_clusters - 1)
    error = float(np.sqrt(variance))
    return Effect(
        estimate, error, interval(estimate, error, level, n_clusters), level,
        "PPI++" if tuned else "PPI", len(influence), units=units,
        p_value=p_value(estimate, error, n_clusters),
    )  # fmt: skip
