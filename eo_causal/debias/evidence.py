"""What all evidence on a regime shares: the map it is about, the verdict it gives, rows and checks.

Its sources (pilot, placebo groups) do not know one another.
"""

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from eo_causal.core.effect import Effect
from eo_causal.core.variance import interval
from eo_causal.debias.contrast import check_clusters
from eo_causal.errors import DataError, EOCausalWarning

Verdict = Literal["none", "lcc", "tweedie", "bounds", "collect-labels"]
Method = Literal["lcc", "tweedie"]
ALPHA = 0.05


class KnownMap(NamedTuple):
    """What calibration says about the map, from a card or from pairs."""

    slope: float
    r2: float
    truth_variance: float
    support: tuple[float, float]
    method: Method
    correct: Any  # (method, table) -> (n,) array
    rows: list[dict[str, Any]]
    flags: tuple[str, ...]


class Opinion(NamedTuple):
    """The verdict that one source of evidence gives."""

    verdict: Verdict
    evidence: str
    flags: tuple[str, ...] = ()
    ppi: Effect | None = None


def evidence_row(
    source: str, quantity: str, estimate: float, std_error: float = np.nan, *, part: str = "",
    p: float = np.nan, lower: float = np.nan, upper: float = np.nan,
) -> dict[str, Any]:  # fmt: skip
    """One row of :attr:`eo_causal.debias.regime.Diagnosis.table`; the interval is that of the error."""
    if np.isfinite(std_error):
        lower, upper = interval(estimate, std_error)
    return {
        "source": source, "quantity": quantity, "part": part, "estimate": float(estimate),
        "std_error": std_error, "lower": lower, "upper": upper, "p_value": p,
    }  # fmt: skip


def check_table(table: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    """Refuse a table without these columns, with missing values, or whose treatment is not 0 and 1.

    Raises
    ------
    DataError
        As it says; as :func:`eo_causal.debias.contrast.check_clusters`.
    """
    absent = [column for column in columns if column not in table]
    if absent:
        raise DataError(
            f"The {name} table has no column {', '.join(absent)}; it has {', '.join(table.columns)}.",
            columns=absent,
        )
    bad = {
        column: int((~np.isfinite(table[column].to_numpy(dtype=float))).sum())
        for column in columns
        if column != "group"
    }
    if any(bad.values()) or table[list(columns)].isna().any(axis=None):
        raise DataError(
            f"The {name} table has missing or infinite values: {bad}. Leave these rows out.", **bad
        )
    if "treatment" in columns:
        found = sorted(set(table["treatment"]))
        if found != [0, 1]:
            raise DataError(
                f"Treatment in the {name} table is {found[:5]}; both 0 and 1 are needed. Code treated"
                " units 1, the others 0.",
                treatment=found[:5],
            )
        if "cluster" in table:
            check_clusters(table["treatment"].to_numpy(dtype=float), table["cluster"], name)


def warn(text: str, flag: str) -> None:
    """Warn the caller of the diagnosis."""
    warnings.warn(EOCausalWarning(text, flag), stacklevel=4)
