"""Standard errors: of means of influence values, and of least squares."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import DataError, DegenerateError

Floats = NDArray[np.float64]
Kind = Literal["HC0", "HC1", "HC2", "cluster", "conley"]
FEW_CLUSTERS = 50
PAIRS_AT_ONCE = 5_000_000


def mean_std_error(influence: Floats, cluster: NDArray[np.intp] | None = None) -> float:
    """Standard error of the mean of values that are independent between units or clusters.

    Parameters
    ----------
    influence : (n,) array
        Influence values; their mean is taken off.
    cluster : (n,) array, optional
        Codes. V = G/(G-1) sum_g(sum of g's values)^2 / n^2; without it each unit is a cluster, and
        the error is sd/sqrt(n).

    Raises
    ------
    DataError
        Fewer than two clusters.
    """
    codes = np.arange(len(influence)) if cluster is None else cluster
    return float(np.sqrt(_clustered_variance(influence, codes)))


def two_way_std_error(
    influence: Floats, first: NDArray[np.intp], second: NDArray[np.intp]
) -> float:
    """Standard error of a mean whose values depend within either of two groupings.

    V = V(first) + V(second) - V(first and second), each with its own G/(G-1).

    Raises
    ------
    DegenerateError
        The difference is negative; it is never clipped.
    """
    both = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)[1]
    parts = [_clustered_variance(influence, codes) for codes in (first, second, both.ravel())]
    return _root(parts[0] + parts[1] - parts[2], "two-way", "Use the coarser grouping alone.")


def conley_std_error(influence: Floats, coordinates_m: Floats, cutoff_m: float) -> float:
    """Standard error of a mean whose values depend over space.

    V = sum_ij K(d_ij/h) psi_i psi_j / n^2 with the Bartlett kernel K(u) = max(0, 1 - u); the mean
    is taken off first. h -> 0 gives the error of independent values (HC0).

    Parameters
    ----------
    influence : (n,) array
        Influence values.
    coordinates_m : (n, 2) array
        Metres.
    cutoff_m : float
        Distance h beyond which values are independent.

    Raises
    ------
    DegenerateError
        The variance is negative; it is never clipped.
    """
    centred = (influence - influence.mean())[:, None]
    total = float(bartlett_sum(centred, coordinates_m, cutoff_m)[0, 0])
    return _root(total / len(influence) ** 2, "Conley", _OTHER_CUTOFF)


def bartlett_sum(values: Floats, coordinates_m: Floats, cutoff_m: float) -> Floats:
    """Sum over all pairs of K(d_ij/h) g_i g_j', K(u) = max(0, 1 - u); only near pairs are visited.

    Parameters
    ----------
    values : (n, k) array
        Rows g_i.
    coordinates_m : (n, 2) array
        Metres.
    cutoff_m : float
        h.

    Returns
    -------
    (k, k) array

    Raises
    ------
    DataError
        A cutoff that is not above 0, or a place that is missing.
    """
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    n = len(values)
    if not cutoff_m > 0 or not np.isfinite(coordinates_m).all():
        raise DataError(
            f"Conley errors need a cutoff above 0 (got {cutoff_m} m) and a place for each unit. Set"
            " cutoff_km, or choose another error.",
            cutoff_m=cutoff_m,
        )
    everywhere = cKDTree(coordinates_m)
    total = np.zeros((values.shape[1], values.shape[1]))
    step = max(1, PAIRS_AT_ONCE // max(n, 1))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        here = cKDTree(coordinates_m[rows])
        near = here.sparse_distance_matrix(everywhere, cutoff_m, output_type="ndarray")
        kernel = csr_matrix((1 - near["v"] / cutoff_m, (near["i"], near["j"])), shape=(here.n, n))
        total += values[rows].T @ (kernel @ values)
    return total


def ols_covariance(
    design: Floats,
    residual: Floats,
    kind: Kind = "HC2",
    *,
    cluster: NDArray[np.intp] | None = None,
    coordinates_m: Floats | None = None,
    cutoff_m: float | None = None,
) -> Floats:
    """Covariance of least-squares coefficients: bread, meat, bread.

    Parameters
    ----------
    design : (n, k) array
        With the intercept, where there is one.
    residual : (n,) array
        Outcome less fit.
    kind : str
        ``HC0``; ``HC1`` = HC0 n/(n-k); ``HC2`` divides squared residuals by 1 - leverage;
        ``cluster`` with the factor G/(G-1) (n-1)/(n-k); ``conley`` with the Bartlett kernel.
    cluster : (n,) array
        Codes, for ``cluster``.
    coordinates_m, cutoff_m : (n, 2) array, float
        Metres, for ``conley``.

    Returns
    -------
    (k, k) array

    Raises
    ------
    DegenerateError
        Columns that depend on one another, a unit with leverage 1 (``HC2``), or a negative variance.
    DataError
        What the kind needs is missing.
    """
    n, k = design.shape
    if n <= k or np.linalg.matrix_rank(design) < k:
        raise DegenerateError(
            f"{k} columns of a regression on {n} units depend on one another. Leave out what is"
            " constant or repeated.",
            n=n, columns=k,
        )  # fmt: skip
    bread = np.linalg.inv(design.T @ design)
    scores = design * residual[:, None]
    if kind == "cluster":
        if cluster is None:
            raise DataError("Clustered errors need clusters. Name a cluster column, or use HC2.")
        sums = _sums(scores, cluster)
        influence = sums @ bread  # squared last, so that no variance is negative by rounding
        factor = len(sums) / (len(sums) - 1) * (n - 1) / (n - k)
        return np.asarray(influence.T @ influence * factor)
    if kind == "conley":
        if coordinates_m is None or cutoff_m is None:
            raise DataError("Conley errors need places and a cutoff. Set cutoff_km, or use HC2.")
        meat = bartlett_sum(scores, coordinates_m, cutoff_m)
    else:
        meat = _independent_meat(design, scores, bread, kind)
    covariance = bread @ meat @ bread
    _root(float(np.diag(covariance).min()), kind, _OTHER_CUTOFF)
    return np.asarray(covariance)


def interval(
    estimate: float, std_error: float, level: float = 0.95, n_clusters: int | None = None
) -> tuple[float, float]:
    """Lower and upper end; Student's t with G - 1 degrees of freedom below 50 clusters."""
    half = float(_reference(n_clusters).ppf((1 + level) / 2)) * std_error
    return estimate - half, estimate + half


def p_value(estimate: float, std_error: float, n_clusters: int | None = None) -> float:
    """Two-sided p-value of no effect, from the distribution that :func:`interval` uses."""
    if std_error == 0:
        return float(estimate == 0)
    return float(2 * _reference(n_clusters).sf(abs(estimate) / std_error))


_OTHER_CUTOFF = "Choose another cutoff, or cluster by block."


def _reference(n_clusters: int | None) -> Any:
    from scipy import stats

    if n_clusters is None or n_clusters >= FEW_CLUSTERS:
        return stats.norm()
    return stats.t(n_clusters - 1)


def _clustered_variance(influence: Floats, cluster: NDArray[np.intp]) -> float:
    sums = _sums((influence - influence.mean())[:, None], cluster)
    return float((sums**2).sum()) * len(sums) / (len(sums) - 1) / len(influence) ** 2


def _sums(rows: Floats, cluster: NDArray[np.intp]) -> Floats:
    """(cluster, k): sums of rows."""
    names, codes = np.unique(cluster, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"{len(rows)} units in {len(names)} cluster(s): an error between clusters needs at"
            " least two. Name a finer cluster column.",
            n_clusters=len(names),
        )
    return np.stack([np.bincount(codes, column, len(names)) for column in rows.T], axis=1)


def _independent_meat(design: Floats, scores: Floats, bread: Floats, kind: Kind) -> Floats:
    n, k = design.shape
    if kind != "HC2":
        return np.asarray(scores.T @ scores * (n / (n - k) if kind == "HC1" else 1.0))
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    alone = int((leverage > 1 - 1e-10).sum())
    if alone:
        raise DegenerateError(
            f"{alone} of {n} units decide a coefficient alone (leverage 1), so HC2 is not defined."
            " Leave out their dummy columns, or use HC1.",
            n=alone,
        )
    return np.asarray(scores.T @ (scores / (1 - leverage)[:, None]))


def _root(variance: float, kind: str, remedy: str) -> float:
    if not variance >= 0:
        raise DegenerateError(
            f"The {kind} variance is {variance:.3g}, which no estimate can have. {remedy}",
            variance=variance,
        )
    return float(np.sqrt(variance))
