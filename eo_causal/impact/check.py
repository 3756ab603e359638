"""What a check is made from, what it returns, and the fit that all checks share."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from eo_causal.errors import DataError, FitError
from eo_causal.impact.fit import exact_effect
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.impact.zones import RoleSettings

ALPHA = 0.05


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes
    ----------
    name : str
        Stable name.
    passed : bool or None
        None = could not be run, or for information only.
    text : str
        One or two sentences.
    table : DataFrame
        Every number behind the sentence.
    summary : dict
        What enters results.json.
    """

    name: str
    passed: bool | None
    text: str
    table: pd.DataFrame
    summary: dict[str, Any]


@dataclass(frozen=True)
class CheckInput:
    """What every check starts from: the series, their roles, the model, the headline effect."""

    zones: xr.Dataset
    roles: RoleSettings
    settings: ImpactSettings
    outcome: pd.Series
    controls: pd.DataFrame
    headline: dict[str, float]
    seed: int


def fit_row(
    outcome: pd.Series,
    controls: pd.DataFrame,
    settings: ImpactSettings,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
) -> dict[str, Any]:
    """One exact fit as a row; a fit that is not possible becomes a row that says why."""
    row: dict[str, Any] = {"month": f"{start:%Y-%m}"} if start is not None else {}
    try:
        return row | exact_effect(build_model(outcome, controls, settings, start, end))
    except (DataError, FitError) as error:
        return row | {"failed": error.message}


def excludes_zero(row: dict[str, Any]) -> bool:
    """Whether a row's interval leaves zero; NaN does not."""
    return bool(row["lower"] > 0 or row["upper"] < 0)
