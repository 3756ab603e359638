"""What every design states, whatever its strategy: estimand, treatment, outcome, confounders."""

import re
from typing import Annotated, Any, Literal, NoReturn

import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field

from eo_causal.core.settings import Settings
from eo_causal.errors import DesignError

Strategy = Literal["rct", "conditional_exogeneity", "did", "bsts", "rdd", "iv", "panel_dml"]
Quantity = Literal["ATE", "ATT", "ATC", "CATE", "LATE", "cumulative_impact"]
Name = Annotated[str, Field(min_length=1)]


def _date(value: object) -> str:
    text = str(value).strip()
    try:
        known = bool(re.fullmatch(r"\d{4}(-\d{2}){0,2}", text)) and bool(first_moment(text))
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"{text!r} is no date; write YYYY, YYYY-MM or YYYY-MM-DD")
    return text


Date = Annotated[str, BeforeValidator(_date)]
"""A year, a month or a day, as ISO 8601 writes it."""


def first_moment(date: str) -> pd.Timestamp:
    """When a year, month or day begins."""
    return pd.Period(date).start_time


def last_moment(date: str) -> pd.Timestamp:
    """When a year, month or day ends."""
    return pd.Period(date).end_time


def _in_order(window: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
    first, last = window
    if first is not None and last is not None and first_moment(first) > last_moment(last):
        raise ValueError(f"it ends ({last}) before it begins ({first})")
    return window


Window = Annotated[tuple[Date | None, Date | None], AfterValidator(_in_order)]
"""First and last date, both included; None = as far as the data go."""


def refuse(key: str, value: Any, remedy: str) -> NoReturn:
    """Raise a DesignError that names the key, its value and the remedy."""
    raise DesignError(f"design.{key} is {value!r}: {remedy}", key=key, value=value)


class Estimand(Settings):
    """Which effect, on whom, over which time."""

    quantity: Quantity = "ATE"
    population: Name
    horizon: str | None = None


class UnitBlock(Settings):
    """What a row is."""

    geometry: Name = Field(description="point, polygon, zone, cell, or none")
    id: Name
    crs: str | None = None
    resolution_m: float | None = Field(default=None, gt=0)


class TimeBlock(Settings):
    """Which dates the study uses."""

    start: Date | None = None
    end: Date | None = None
    freq: str | None = None


class TreatmentBlock(Settings):
    """What was done, when it became known, and how it was assigned."""

    name: Name
    kind: Literal["binary", "continuous"] = "binary"
    column: str | None = None
    start_date: Date | None = None
    announcement_date: Date | None = None
    assignment: Literal["randomised", "observed"]
    cluster: str | None = None

    @property
    def first_known(self) -> pd.Timestamp | None:
        """The earlier of start and announcement; None where no date is stated."""
        dates = [date for date in (self.start_date, self.announcement_date) if date is not None]
        return min(map(first_moment, dates), default=None)


class OutcomeBlock(Settings):
    """What is measured, and by what."""

    name: Name
    source: Literal["survey", "map", "raster"]
    units: str | None = None
    support: tuple[float, float] | None = Field(default=None, description="least and largest value")
    map_version: str | None = Field(default=None, description="required for source: map")
    calibration_id: str | None = None


class ImageryBlock(Settings):
    """Images that stand for confounders."""

    bands: tuple[str, ...] = ()
    window: Window = Field(default=(None, None), description="first and last date of the images")
    encoder: str | None = None
    must_precede_treatment: bool = True


class Confounders(Settings):
    """What is adjusted for."""

    tabular: tuple[str, ...] = ()
    imagery: ImageryBlock | None = None


class Excluded(Settings):
    """What must not be adjusted for."""

    post_treatment: tuple[str, ...] = Field(default=(), description="columns the treatment moves")
    colliders: tuple[str, ...] = Field(default=(), description="common effects of two causes")


class InferenceBlock(Settings):
    """How uncertainty is stated; ``se`` is None where a posterior states it."""

    se: Literal["iid", "HC2", "cluster", "conley", "surrogate_field"] | None = None
    cutoff_km: float | None = Field(default=None, gt=0, description="required for se: conley")
    folds: Literal["auto", "spatial_block", "image_key", "cluster"] | None = None
    block_km: float | None = Field(default=None, gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=1)


class ResultBlock(Settings):
    """What the run found; never part of the hash."""

    estimate: float
    std_error: float | None = None
    ci: tuple[float, float] | None = None
    n: int
    n_eff: float | None = None
    map_uncertainty_included: bool | None = Field(
        default=None, description="required for an outcome with source: map"
    )


class DesignBlocks(Settings):
    """Everything in a design but the fields of its own strategy."""

    id: str = Field(pattern=r"^[^/\\]+$")
    version: str = Field(default="1", pattern=r"^[^/\\-]+$")
    registered_at: str | None = None
    question: str | None = None
    strategy: Strategy
    estimand: Estimand
    units: UnitBlock
    time: TimeBlock = TimeBlock()
    treatment: TreatmentBlock
    outcome: OutcomeBlock
    confounders: Confounders = Confounders()
    excluded: Excluded = Excluded()
    inference: InferenceBlock = InferenceBlock()
    sensitivity: tuple[
        Literal[
            "rv", "evalue", "rosenbaum", "msm", "manski", "itb", "leave_one_out", "prior", "scale"
        ], ...
    ] = ()  # fmt: skip
    placebos: tuple[Literal["in_time", "in_space", "negative_outcome"], ...] = ()
    result: ResultBlock | None = None
