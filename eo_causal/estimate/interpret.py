"""What goes with a large effect, and whether predicted effects are worth their name.

All functions take doubly robust scores of units and effects predicted by models that had not seen
them. They describe; what goes with an effect need not cause it.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.variance import interval, mean_std_error, ols_covariance, p_value
from eo_causal.errors import DataError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]


def best_linear_projection(
    score: Floats,
    table: pd.DataFrame,
    cluster: Positions,
    level: float = 0.95,
    *,
    scale: bool = True,
) -> pd.DataFrame:
    """Least squares of scores on features, all at once: the drivers of an effect.

    Parameters
    ----------
    score : (unit,) array
        Doubly robust scores, in units of the outcome.
    table : DataFrame
        One numeric column a feature, rows in the order of ``score``.
    cluster : (unit,) int array
        Codes of what is sampled together.
    level : float
        Of the intervals.
    scale : bool
        Coefficients per standard deviation, and the intercept at the mean of all features (the
        average effect); otherwise per unit of the column and at 0.

    Returns
    -------
    DataFrame
        term (``intercept`` first), estimate, std_error (clustered), lower, upper, p_value, and
        q_value: Benjamini-Hochberg over the features, NaN for the intercept.

    Raises
    ------
    DataError
        Lengths that differ, missing values, constant features, or no more clusters than terms.
    DegenerateError
        Features that depend on one another.
    """
    from scipy.stats import false_discovery_control

    values = _complete(table, score, cluster)
    constant = [str(name) for name, column in zip(table, values.T, strict=True) if _alike(column)]
    n_clusters = len(np.unique(cluster))
    if constant or not len(table.columns):
        raise DataError(
            f"A projection of effects needs features that vary; constant are: {constant}. Leave them"
            " out, and name at least one other.", columns=constant,
        )  # fmt: skip
    if n_clusters <= len(table.columns) + 1:
        raise DataError(
            f"{n_clusters} clusters cannot carry clustered errors of {len(table.columns) + 1} terms."
            " Name fewer features, or take leading principal components of them.",
            n_clusters=n_clusters,
        )
    if scale:
        values = (values - values.mean(axis=0)) / values.std(axis=0)
    names = ["intercept", *map(str, table.columns)]
    found = _regression(score, np.column_stack([np.ones(len(score)), values]), cluster, level)
    found.insert(0, "term", names)
    found["q_value"] = [np.nan, *false_discovery_control(found["p_value"].to_numpy()[1:])]
    return found


def calibration(
    score: Floats, cate: Floats, cluster: Positions, level: float = 0.95
) -> pd.DataFrame:
    """Do units with a larger predicted effect have a larger effect, and by as much?

    Least squares without intercept of the scores on the mean prediction and on each prediction's
    distance from it (Chernozhukov et al. arXiv 1712.04802, best linear predictor).

    Parameters
    ----------
    score, cate : (unit,) array
        Doubly robust scores; predicted effects, out of fold.
    cluster : (unit,) int array

    Returns
    -------
    DataFrame
        term, estimate, std_error, lower, upper, p_value. ``mean`` is 1 where the average is right (p
        of no average effect, two-sided); ``slope`` is 1 where differences are right and 0 where
        predictions are noise (p of no slope above 0, one-sided).

    Raises
    ------
    DataError
        Lengths that differ, missing values, predictions that are all alike or 0 on average.
    """
    _complete(pd.DataFrame({"cate": cate}), score, cluster)
    mean = float(cate.mean())
    if _alike(cate) or abs(mean) <= 1e-10 * cate.std():
        raise DataError(
            f"Predicted effects have mean {mean:.3g} and standard deviation {cate.std():.3g}; their"
            " calibration needs both to differ from 0. Report the average effect alone.",
            mean=mean,
        )
    design = np.column_stack([np.full(len(cate), mean), cate - mean])
    found = _regression(score, design, cluster, level)
    found.insert(0, "term", ["mean", "slope"])
    above, two_sided = found.loc[1, "estimate"] > 0, found.loc[1, "p_value"]
    found.loc[1, "p_value"] = two_sided / 2 if above else 1 - two_sided / 2
    return found


def effects_by_quantile(
    score: Floats, cate: Floats, cluster: Positions, n_groups: int = 4, level: float = 0.95
) -> pd.DataFrame:
    """Average effect of units grouped by their predicted effect.

    Parameters
    ----------
    score, cate : (unit,) array
        Doubly robust scores; predicted effects, out of fold.
    cluster : (unit,) int array
    n_groups : int
        Equally large groups; units of one prediction stay in one group.

    Returns
    -------
    DataFrame
        group (1 = smallest predictions), n, predicted (mean), effect (mean score), std_error
        (clustered within the group), lower, upper.

    Raises
    ------
    DataError
        Lengths that differ, missing values, too few different predictions, or a group in one
        cluster.
    """
    _complete(pd.DataFrame({"cate": cate}), score, cluster)
    group = quantile_groups(cate, n_groups)
    rows = []
    for number in range(1, n_groups + 1):
        own = group == number
        effect, error, lower, upper = _mean(score[own], cluster[own], level)
        rows.append({"group": number, "n": int(own.sum()), "predicted": float(cate[own].mean()),
                     "effect": effect, "std_error": error, "lower": lower, "upper": upper})  # fmt: skip
    return pd.DataFrame(rows)


def composition_by_quantile(
    cate: Floats,
    table: pd.DataFrame,
    cluster: Positions,
    n_groups: int = 4,
    level: float = 0.95,
) -> pd.DataFrame:
    """Means of variables among units grouped by their predicted effect.

    Parameters
    ----------
    cate : (unit,) array
        Predicted effects.
    table : DataFrame
        One numeric column a variable, for example shares of land cover; NaN = missing, left out.
    cluster : (unit,) int array
    n_groups : int
        See :func:`effects_by_quantile`.

    Returns
    -------
    DataFrame
        group, variable, n (units with a value), mean, std_error (clustered), lower, upper.

    Raises
    ------
    DataError
        As :func:`effects_by_quantile`.
    """
    _complete(pd.DataFrame({"cate": cate}), np.zeros(len(table)), cluster)
    group = quantile_groups(cate, n_groups)
    rows = []
    for number in range(1, n_groups + 1):
        for name in table.columns:
            values = table[name].to_numpy(dtype=float)
            own = (group == number) & np.isfinite(values)
            mean, error, lower, upper = _mean(values[own], cluster[own], level)
            rows.append({"group": number, "variable": str(name), "n": int(own.sum()), "mean": mean,
                         "std_error": error, "lower": lower, "upper": upper})  # fmt: skip
    return pd.DataFrame(rows)


def correlations(cate: Floats, table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of predicted effects with each variable, one at a time.

    Parameters
    ----------
    cate : (unit,) array
        Predicted effects.
    table : DataFrame
        One numeric column a variable; NaN = missing, left out.

    Returns
    -------
    DataFrame
        variable, spearman (NaN where either side does not vary), n (units with a value).

    Raises
    ------
    DataError
        Lengths that differ, or missing predictions.
    """
    from scipy.stats import spearmanr

    _complete(pd.DataFrame({"cate": cate}), np.zeros(len(table)), np.arange(len(table)))
    rows = []
    for name in table.columns:
        values = table[name].to_numpy(dtype=float)
        known = np.isfinite(values)
        one, other = cate[known], values[known]
        varies = len(one) > 1 and not _alike(one) and not _alike(other)
        found = float(spearmanr(one, other).statistic) if varies else np.nan
        rows.append({"variable": str(name), "spearman": found, "n": int(known.sum())})
    return pd.DataFrame(rows, columns=["variable", "spearman", "n"])


def quantile_groups(cate: Floats, n_groups: int) -> Positions:
    """(unit,) number 1 .. ``n_groups`` of the group by rank; ties share their average rank.

    Raises
    ------
    DataError
        A group without any unit, or fewer than two groups.
    """
    from scipy.stats import rankdata

    group = np.ceil(rankdata(cate) * n_groups / len(cate)).astype(np.intp)
    empty = sorted(set(range(1, n_groups + 1)) - set(group.tolist()))
    if n_groups < 2 or empty:
        raise DataError(
            f"{len(np.unique(cate))} different predicted effects of {len(cate)} units do not fill"
            f" {n_groups} groups (empty: {empty}). Ask for two or more, and for fewer where"
            " predictions are alike.", n_groups=n_groups,
        )  # fmt: skip
    return group


def _regression(score: Floats, design: Floats, cluster: Positions, level: float) -> pd.DataFrame:
    """Estimate, clustered error, interval and two-sided p of each column."""
    coefficients = np.linalg.lstsq(design, score, rcond=None)[0]
    residual = score - design @ coefficients
    covariance = ols_covariance(design, residual, "cluster", cluster=cluster)
    n_clusters = len(np.unique(cluster))
    rows = []
    for estimate, variance in zip(coefficients.tolist(), np.diag(covariance), strict=True):
        error = float(np.sqrt(variance))
        lower, upper = interval(estimate, error, level, n_clusters)
        rows.append({"estimate": estimate, "std_error": error, "lower": lower, "upper": upper,
                     "p_value": p_value(estimate, error, n_clusters)})  # fmt: skip
    return pd.DataFrame(rows)


def _mean(values: Floats, cluster: Positions, level: float) -> tuple[float, float, float, float]:
    """Mean, clustered error, ends of the interval."""
    if len(np.unique(cluster)) < 2:
        raise DataError(
            f"A group by predicted effect has {len(values)} units with a value, of"
            f" {len(np.unique(cluster))} cluster(s); its error needs two clusters. Ask for fewer groups,"
            " or leave the variable out.", n=len(values),
        )  # fmt: skip
    mean, error = float(values.mean()), mean_std_error(values, cluster)
    return mean, error, *interval(mean, error, level, len(np.unique(cluster)))


def _alike(values: Floats) -> bool:
    return not values.std() > 1e-10 * abs(values.mean())


def _complete(table: pd.DataFrame, score: Floats, cluster: Positions) -> Floats:
    """Values of a table that fits the units and misses nothing."""
    if not len(table) == len(score) == len(cluster) or not len(table):
        raise DataError(
            f"{len(table)} rows of features or predictions, {len(score)} scores and {len(cluster)}"
            " clusters. Give one of each for every unit, in one order."
        )
    values = table.to_numpy(dtype=float)
    missing = int((~np.isfinite(values).all(axis=1) | ~np.isfinite(score)).sum())
    if missing:
        raise DataError(
            f"{missing} of {len(table)} units miss a feature, a prediction or a score. Impute them, or"
            " leave the units out.", n=missing,
        )  # fmt: skip
    return values
