"""How differences between untreated groups look on a map: in full, or shrunken by its slope."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.random import generator
from eo_causal.debias.base import FEW_CLUSTERS, SMALLEST_CLUSTERS
from eo_causal.debias.evidence import ALPHA, KnownMap, Opinion, check_table, evidence_row
from eo_causal.debias.pairs import Floats
from eo_causal.errors import DataError

N_DRAWS = 1000  # resamples of groups


def placebo_evidence(
    groups: pd.DataFrame, seen: KnownMap, assignment: str, seed: int
) -> tuple[list[dict[str, Any]], Opinion | None]:
    """Rows of the table, and a verdict unless treatment was randomised."""
    kappa, lower, upper = between_group_slope(groups, seed=seed)
    rows = [evidence_row("placebo", "between_group_slope", kappa, lower=lower, upper=upper)]
    if assignment == "randomised":
        return rows, None
    few = groups["group"].nunique() < SMALLEST_CLUSTERS
    flags = (FEW_CLUSTERS,) if few else ()
    text = (
        f"{groups['group'].nunique()} untreated groups: between them the prediction rises by {kappa:.3f}"
        f" [{lower:.3f}, {upper:.3f}] a unit of truth (k is {seen.slope:.3f})."
    )
    one, shrunken = (bool(lower <= value <= upper) for value in (1.0, seen.slope))
    if one and not shrunken:
        return rows, Opinion(
            "none", f"{text} Existing differences are shown in full; do not correct.", flags
        )
    if shrunken and not one:
        return rows, Opinion(
            seen.method,
            f"{text} Existing differences are shrunken by k; correct (placebo evidence).",
            flags,
        )
    return rows, Opinion(
        "bounds", f"{text} That does not decide: naive and {seen.method} bracket the effect.", flags
    )


def between_group_slope(groups: pd.DataFrame, *, seed: int) -> tuple[float, float, float]:
    """kappa, the slope of prediction on truth between groups, and its 95 % interval.

    Covariance over variance of ANOVA components: within-group mean squares are taken off, because raw
    group means still hold the noise of their places, which biases the slope down. The interval
    resamples groups; it is NaN where groups do not differ surely.

    Parameters
    ----------
    groups : DataFrame
        ``outcome``, ``prediction``, ``group``.
    seed : int
        Seed of the run.

    Raises
    ------
    DataError
        Missing values, or fewer than two groups of which one has two places.
    """
    check_table(groups, ("outcome", "prediction", "group"), "groups")
    table = groups[["outcome", "prediction"]].astype(float)
    by = groups["group"].to_numpy()
    size = table.groupby(by).size().to_numpy(dtype=float)
    n_groups = len(size)
    if n_groups < 2 or size.sum() <= n_groups:
        raise DataError(
            f"{n_groups} groups of {len(table)} places; at least two are needed, with several places"
            " each. Use coarser groups.",
            n_groups=n_groups,
        )
    middle = table.mean()
    mean = (table.groupby(by).mean() - middle).to_numpy()
    within = (table - table.groupby(by).transform("mean")).to_numpy()
    products = np.stack([within[:, 0] ** 2, within[:, 0] * within[:, 1]], axis=1)
    inner = pd.DataFrame(products).groupby(by).sum().to_numpy()
    random = generator(seed, "between_group_slope")
    counts = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=N_DRAWS)
    everything = np.vstack([np.ones(n_groups), counts])
    variance, covariance = _components(everything, size, mean, inner)
    kappa = float(covariance[0] / variance[0])
    if not (variance > 0).mean() > 1 - ALPHA / 2 or not variance[0] > 0:
        return kappa, np.nan, np.nan
    kept = variance[1:] > 0
    lower, upper = np.quantile(
        covariance[1:][kept] / variance[1:][kept], (ALPHA / 2, 1 - ALPHA / 2)
    )
    return kappa, float(lower), float(upper)


def _components(
    counts: NDArray[Any], size: Floats, mean: Floats, inner: Floats
) -> tuple[Floats, Floats]:
    """Between-group variance of the truth and covariance with the prediction, one a row of counts."""
    n_groups = counts.sum(axis=1)
    n = counts @ size
    grand = counts @ (size[:, None] * mean) / n[:, None]
    squares = np.stack([mean[:, 0] ** 2, mean[:, 0] * mean[:, 1]], axis=1)
    correction = np.stack([grand[:, 0] ** 2, grand[:, 0] * grand[:, 1]], axis=1)
    between = counts @ (size[:, None] * squares) - n[:, None] * correction
    within = counts @ inner / (n - n_groups)[:, None]
    typical = (n - counts @ size**2 / n) / (n_groups - 1)
    component = (between / (n_groups - 1)[:, None] - within) / typical[:, None]
    return component[:, 0], component[:, 1]
