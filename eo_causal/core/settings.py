"""Base class of all settings models, and the field types they share."""

import re
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


class Settings(BaseModel):
    """Immutable settings: unknown keys are errors, defaults are validated, NaN is refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def _month(value: object) -> str:
    text = str(value).strip()
    match = re.fullmatch(r"(\d{4})-(\d{2})(-\d{2})?", text)
    if not match or not 1 <= int(match[2]) <= 12:
        raise ValueError(f"{text!r} is not a month; write YYYY-MM, for example 2019-05")
    return f"{match[1]}-{match[2]}"


def _ordered(value: tuple[str, str]) -> tuple[str, str]:
    if value[0] > value[1]:
        raise ValueError(f"the period ends ({value[1]}) before it begins ({value[0]})")
    return value


def _bounds(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = value
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(
            f"{list(value)} are not bounds [west, south, east, north] in degrees"
            " (west < east, south < north)"
        )
    return value


Month = Annotated[str, BeforeValidator(_month)]
"""A calendar month, ``YYYY-MM``."""

Period = Annotated[tuple[Month, Month], AfterValidator(_ordered)]
"""First and last month, both included."""

Bounds = Annotated[tuple[float, float, float, float], AfterValidator(_bounds)]
"""West, south, east, north in degrees (EPSG:4326)."""


def month_start(month: str) -> np.datetime64:
    """First day of a month as ``datetime64[ns]``, the form of every time axis in the package."""
    return np.datetime64(month, "M").astype("datetime64[ns]")
