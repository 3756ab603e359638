"""Does a design fit its data? Checks of treatment columns that are made before outcomes are read."""

import warnings

import numpy as np
import pandas as pd

from eo_causal.errors import EOCausalWarning
from eo_causal.run.design import Design
from eo_causal.run.design_blocks import refuse
from eo_causal.run.design_strategies import Iv, Panel, Rdd

MIN_ON_A_SIDE = 20
WEAK = 10


def check_design_data(design: Design, table: pd.DataFrame) -> None:
    """Hold a design against the data it names; the outcome column is not touched.

    Parameters
    ----------
    design : Design
        Strategies did, panel_dml, rdd and iv are checked; others need nothing of the data.
    table : DataFrame
        One row a unit (or unit and period), with the columns that the design names.

    Raises
    ------
    DesignError
        A column that is not there; a treatment that is constant over time or leaves no untreated
        unit-period; a cutoff outside the data; a bandwidth with fewer than 20 units on a side.

    Warns
    -----
    EOCausalWarning
        ``WeakInstrument``: the first-stage F statistic is below 10.
    """
    specific = design.design_specific
    if isinstance(specific, Panel):
        _check_panel(specific, _treatment(design, table), table)
    elif isinstance(specific, Rdd):
        _check_discontinuity(specific, _column(table, "design_specific.running", specific.running))
    elif isinstance(specific, Iv):
        _warn_weak(specific, design, table)


def _column(table: pd.DataFrame, key: str, name: str) -> pd.Series:
    if name not in table:
        refuse(key, name, f"the data have no such column ({', '.join(map(str, table.columns))}).")
    return table[name]


def _treatment(design: Design, table: pd.DataFrame) -> pd.Series:
    name = design.treatment.column
    if name is None:
        refuse("treatment.column", None, f"strategy {design.strategy} needs it. Name the column.")
    return _column(table, "treatment.column", name)


def _check_panel(specific: Panel, treatment: pd.Series, table: pd.DataFrame) -> None:
    unit = _column(table, "design_specific.unit", specific.unit)
    _column(table, "design_specific.time", specific.time)
    if not (treatment == 0).any():
        refuse(
            "treatment.column", treatment.name,
            "no unit-period is untreated, so nothing serves as comparison. Add untreated ones.",
        )  # fmt: skip
    within = treatment.groupby(unit)
    if not (within.max() > within.min()).any():
        refuse(
            "treatment.column", treatment.name,
            "it is constant over time in every unit, so nothing changes. Choose another strategy.",
        )  # fmt: skip


def _check_discontinuity(specific: Rdd, running: pd.Series) -> None:
    low, high = float(running.min()), float(running.max())
    if not low < specific.cutoff < high:
        refuse(
            "design_specific.cutoff", specific.cutoff,
            f"{specific.running} runs from {low:g} to {high:g}. Choose a cutoff between.",
        )  # fmt: skip
    distance = running - specific.cutoff
    near = distance[distance.abs() <= specific.bandwidth]
    n_fewest = int(min((near < 0).sum(), (near >= 0).sum()))
    if n_fewest < MIN_ON_A_SIDE:
        refuse(
            "design_specific.bandwidth", specific.bandwidth,
            f"{n_fewest} units on one side are fewer than {MIN_ON_A_SIDE}. Widen it.",
        )  # fmt: skip


def _warn_weak(specific: Iv, design: Design, table: pd.DataFrame) -> None:
    """F statistic of the instrument in the regression of the treatment on it and the covariates."""
    treatment = _treatment(design, table)
    tabular = [_column(table, "confounders.tabular", name) for name in design.confounders.tabular]
    instrument = _column(table, "design_specific.instrument", specific.instrument)
    rows = pd.concat([treatment, instrument, *tabular], axis=1).dropna().to_numpy(dtype=float)
    without = np.column_stack([np.ones(len(rows)), rows[:, 2:]])
    moved, shift = (_residual(rows[:, position], without) for position in (0, 1))
    slope = (shift @ moved) / (shift @ shift)
    left = moved - slope * shift
    freedom = len(rows) - without.shape[1] - 1
    statistic = slope**2 * (shift @ shift) / (left @ left / freedom)
    if not statistic >= WEAK:
        warnings.warn(
            EOCausalWarning(
                f"design.design_specific.instrument is {specific.instrument!r}: first-stage F"
                f" {statistic:.1f} is below {WEAK}; intervals around the estimate are too narrow."
                " Find a stronger instrument.", "WeakInstrument",
            ), stacklevel=3,
        )  # fmt: skip


def _residual(values: np.ndarray, design: np.ndarray) -> np.ndarray:
    fitted: np.ndarray = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return values - fitted
