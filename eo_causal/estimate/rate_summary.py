"""One answer from many rates: over random orders of folds, and over the rankings that were tried."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.errors import DataError
from eo_causal.estimate import combine

Floats = NDArray[np.float64]


def over_splits(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One answer from several random orders of folds, and how far they disagree.

    Parameters
    ----------
    tables : sequence of DataFrame
        From :func:`eo_causal.estimate.rate.sequential_rate` or ``pooled_rate``, one a split.

    Returns
    -------
    DataFrame
        One row a ``metric``: median ``estimate`` with the ``std_error`` of
        :func:`eo_causal.estimate.combine.over_splits`; median ``ratio`` with its range ``split_low``,
        ``split_high``; ``n_splits``; and, where the tables have them, ``p_value`` and
        ``p_two_sided`` = min(1, n/k p_(k)), k = n/2 rounded up: the median p-value, at most doubled,
        which holds however the splits depend on one another (Rueger 1978; arXiv 0811.2177).
    """
    rows = []
    for metric, part in pd.concat(tables).groupby("metric", sort=False):
        estimate, error = combine.over_splits(
            part["estimate"].to_numpy(), part["std_error"].to_numpy()
        )
        ratio = part["ratio"]
        row = {
            "metric": metric, "estimate": estimate, "std_error": error, "ratio": ratio.median(),
            "split_low": ratio.min(), "split_high": ratio.max(), "n_splits": len(part),
        }  # fmt: skip
        for name in ("p_value", "p_two_sided"):
            if name in part:
                row[name] = _median_p(part[name].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def holm(p_values: Floats) -> Floats:
    """p-values adjusted for having tried several rankings (Holm 1979); any below alpha holds.

    Parameters
    ----------
    p_values : (test,) array
        One an encoder, learner or arm that was tried, the discarded ones too.

    Raises
    ------
    DataError
        No p-value, or one outside [0, 1].
    """
    from statsmodels.stats.multitest import multipletests

    given = np.asarray(p_values, dtype=float)
    if not (len(given) and ((given >= 0) & (given <= 1)).all()):
        raise DataError(
            f"p-values {given.tolist()}: Holm's correction needs at least one, all in [0, 1]. Leave"
            " out what was not tested.", p_values=given.tolist(),
        )  # fmt: skip
    return np.asarray(multipletests(given, method="holm")[1])


def _median_p(p_values: Floats) -> float:
    n = len(p_values)
    k = (n + 1) // 2
    return float(min(1.0, n / k * np.sort(p_values)[k - 1]))
