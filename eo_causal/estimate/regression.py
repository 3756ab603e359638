"""Effects from regressions that a design names: trial, difference in differences, instrument."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.effect import Effect
from eo_causal.core.progress import count
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
        Missing values, a treatment other than 0 or 1, or fewer than two units in an arm.
    """
    _refuse_missing(table, [outcome, treatment])
    y, w = table[[outcome, treatment]].to_numpy(dtype=float).T
    n_treated = int((w == 1).sum())
    n_control = int((w == 0).sum())
    if n_treated + n_control < len(w) or min(n_treated, n_control) < 2:
        raise DataError(
            f"{treatment}: {n_treated} of {len(w)} units are 1 and {n_control} are 0. A trial needs two"
            " of each, and no other value; code it 0/1.", column=treatment,
        )  # fmt: skip
    design = np.column_stack([np.ones(len(w)), w])
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    covariance = ols_covariance(design, y - design @ beta, "HC2")
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
    _refuse_missing(table, [outcome, treatment, unit, time])
    y, treated = table[[outcome, treatment]].to_numpy(dtype=float).T
    dummies = [
        pd.get_dummies(table[name], drop_first=True, dtype=float).to_numpy()
        for name in (unit, time)
    ]
    design = np.column_stack([np.ones(len(table)), treated, *dummies])
    cluster = np.asarray(pd.factorize(table[unit])[0], dtype=np.intp)
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    try:
        covariance = ols_covariance(design, y - design @ beta, "cluster", cluster=cluster)
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
    """Effect of a treatment moved by instruments, with HC0 errors; incomplete rows are left out, counted.

    Raises
    ------
    DataError
        Instruments that do not move the treatment, or too few complete rows.
    """
    names = [outcome, treatment, *instruments, *controls]
    complete = table[_present(table, names)].dropna()
    count(rows_used=len(complete), rows_dropped=len(table) - len(complete))
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


def _present(table: pd.DataFrame, names: list[str]) -> list[str]:
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise DataError(
            f"the table has no column {', '.join(absent)}. Name columns that it has.",
            columns=absent,
        )
    return names


def _refuse_missing(table: pd.DataFrame, names: list[str]) -> None:
    missing = int(table[_present(table, names)].isna().any(axis=1).sum())
    if missing:
        raise DataError(
            f"{', '.join(names)}: missing in {missing} of {len(table)} rows. Fill or remove them.",
            n=missing,
        )


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
