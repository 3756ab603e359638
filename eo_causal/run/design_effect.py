"""From a design and its table to the effect, for strategies that are one regression."""

import pandas as pd

from eo_causal.core.effect import Effect
from eo_causal.errors import DesignError
from eo_causal.estimate.regression import (
    trial_difference,
    two_stage_least_squares,
    two_way_fixed_effects,
)
from eo_causal.run.design import Design
from eo_causal.run.design_data import check_design_data
from eo_causal.run.design_strategies import Iv, Panel, PanelDml, Rct


def effect_of_design(design: Design, table: pd.DataFrame) -> Effect:
    """Estimate what a design asks for, after it was held against the data.

    Parameters
    ----------
    design : Design
        Strategy rct (difference in means, HC2), did (two-way fixed effects, clustered by unit) or iv
        (two-stage least squares, HC0). Controls are the tabular confounders.
    table : DataFrame
        With the columns that the design names.

    Raises
    ------
    DesignError
        A strategy that needs a pipeline, or a design that its data contradict.
    """
    check_design_data(design, table)
    outcome, treatment, level = (
        design.outcome.name, str(design.treatment.column), 1 - design.inference.alpha,
    )  # fmt: skip
    match design.design_specific:
        case Rct():
            return trial_difference(table, outcome, treatment, level)
        case Panel(unit=unit, time=time) if not isinstance(design.design_specific, PanelDml):
            return two_way_fixed_effects(table, outcome, treatment, unit, time, level)
        case Iv(instrument=instrument):
            return two_stage_least_squares(
                table, outcome, treatment, [instrument], design.confounders.tabular, level
            )
    raise DesignError(
        f"design.strategy is {design.strategy!r}: not one regression. Run its pipeline.",
        key="strategy", value=design.strategy,
    )  # fmt: skip
