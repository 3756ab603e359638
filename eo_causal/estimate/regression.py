"""Effects from regressions that a design names: trial, difference in differences, instrument."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.effect import Effect
from eo_causal.core.variance import interval, ols_covariance, p_value
from eo_causal.errors import DataError, DegenerateError

Floats = NDArray[np.float64]


def trial_difference(
    table: pd.DataFrame, outcome: str, treatment: str, level: float = 0.95
) -> Effect:
    """Difference in means of a trial, with HC2 errors (those of unequal variances).

    Raises
    ------
    DataError
        Missing values.
    """
    design = np.column_stack([np.ones(len(table)), _columns(table, [treatment])])
    y = _columns(table, [outcome])[:, 0]
    beta, covariance = _least_squares(design, y, "HC2", None)
    return _effect(beta[1], covariance[1, 1], level, "difference in means, HC2", len(table))


def two_way_fixed_effects(
    table: pd.DataFrame, outcome: str, treatment: str, unit: str, time: str, level: float = 0.95
) -> Effect:
    """Difference in differences: a dummy for every unit and period, errors clustered by unit.

    The variance factor is G/(G-1) (n-1)/(n-k), k all columns with dummies and intercept.

    Raises
    ------
    DataError
        Missing values, or a treatment that no comparison identifies.
    """
    dummies = [
        pd.get_dummies(table[name], drop_first=True, dtype=float).to_numpy()
        for name in (unit, time)
    ]
    treated = _columns(table, [treatment])
    design = np.column_stack([np.ones(len(table)), treated, *dummies])
    cluster = np.asarray(pd.factorize(table[unit])[0], dtype=np.intp)
    y = _columns(table, [outcome])[:, 0]
    try:
        beta, covariance = _least_squares(design, y, "cluster", cluster)
    except DegenerateError as error:
        raise DataError(
            f"{treatment}: units and periods determine it, so nothing is left to compare. It must"
            " change over time in some units and not in others.", column=treatment,
        ) from error  # fmt: skip
    n_units = int(cluster.max()) + 1
    said = f"two-way fixed effects, {n_units} clusters"
    return _effect(beta[1], covariance[1, 1], level, said, len(table), n_units)


def two_stage_least_squares(
    table: pd.DataFrame,
    outcome: str,
    treatment: str,
    instruments: Sequence[str],
    controls: Sequence[str] = (),
    level: float = 0.95,
) -> Effect:
    """Effect of a treatment moved by instruments, with HC0 errors; rows with missing values are left out.

    Raises
    ------
    DataError
        Instruments that do not move the treatment, or too few complete rows.
    """
    names = [outcome, treatment, *instruments, *controls]
    complete = table[names].dropna()
    y = complete[outcome].to_numpy(dtype=float)
    own = np.column_stack([np.ones(len(complete)), complete[list(controls)].to_numpy(dtype=float)])
    regressors = np.column_stack([complete[treatment].to_numpy(dtype=float), own])
    outside = np.column_stack([complete[list(instruments)].to_numpy(dtype=float), own])
    if len(complete) <= outside.shape[1] or np.linalg.matrix_rank(outside) < regressors.shape[1]:
        raise DataError(
            f"{len(complete)} complete rows and instruments {', '.join(instruments)} do not identify the"
            f" effect of {treatment}. Name others.", n=len(complete),
        )  # fmt: skip
    projected = outside @ np.linalg.lstsq(outside, regressors, rcond=None)[0]
    beta = np.linalg.lstsq(projected, y, rcond=None)[0]
    covariance = ols_covariance(projected, y - regressors @ beta, "HC0")
    return _effect(beta[0], covariance[0, 0], level, "two-stage least squares, HC0", len(complete))


def _columns(table: pd.DataFrame, names: list[str]) -> Floats:
    missing = int(table[names].isna().any(axis=1).sum())
    if missing:
        raise DataError(
            f"{', '.join(names)}: missing in {missing} of {len(table)} rows. Fill or remove them.",
            n=missing,
        )
    return table[names].to_numpy(dtype=float)


def _least_squares(
    design: Floats, y: Floats, kind: str, cluster: NDArray[np.intp] | None
) -> tuple[Floats, Floats]:
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    residual = y - design @ beta
    if kind == "cluster":
        return beta, ols_covariance(design, residual, "cluster", cluster=cluster)
    return beta, ols_covariance(design, residual, "HC2")


def _effect(
    estimate: float,
    variance: float,
    level: float,
    method: str,
    n: int,
    n_clusters: int | None = None,
) -> Effect:
    error = float(np.sqrt(variance))
    ends = interval(float(estimate), error, level, n_clusters)
    p = p_value(float(estimate), error, n_clusters)
    return Effect(float(estimate), error, ends, level, method, n, p_value=p)
