"""From zone series to an outcome with its controls."""

from typing import Literal

import pandas as pd
import xarray as xr
from pydantic import Field, model_validator

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, CoverageError


class RoleSettings(Settings):
    """Which zone the intervention reached, and which zones serve as controls."""

    impact: str = Field(default="impact", description="zone whose series is the outcome")
    controls: tuple[str, ...] = Field(
        default=("control",), min_length=1, description="zones the intervention cannot reach"
    )
    fill: Literal["none", "interpolate"] = Field(
        default="none", description="how missing months of the controls are filled (counted)"
    )

    @model_validator(mode="after")
    def _each_zone_once(self) -> "RoleSettings":
        named = [self.impact, *self.controls]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice; a zone has one role")
        return self


def zone_outcome(zones: xr.Dataset, zone: str) -> pd.Series:
    """The kd490 series of one zone, m-1.

    Raises
    ------
    ConfigError
        No such zone; lists those there are.
    CoverageError
        The zone has no observed month at all.
    """
    known = [str(name) for name in zones["zone"].to_numpy()]
    if zone not in known:
        raise ConfigError(
            f"roles: {zone!r} is no zone of the data; known: {', '.join(known)}.", zone=zone
        )
    series = zones["kd490"].sel(zone=zone).to_series().rename(zone)
    if not series.notna().any():
        raise CoverageError(
            f"zone {zone!r} has no observed month. Move it onto water, widen data.period, or lower"
            " zone_means.min_valid_fraction.", zone=zone,
        )  # fmt: skip
    return series


def zone_controls(
    zones: xr.Dataset, roles: RoleSettings, covariates: tuple[str, ...]
) -> pd.DataFrame:
    """Control columns: each covariate of each control zone.

    Columns carry the variable's name alone when there is one control zone, else
    ``"variable zone"``. With ``fill: interpolate`` missing months are filled linearly in time and
    counted; months before the first or after the last observed one stay missing.

    Raises
    ------
    ConfigError
        A covariate the zones do not have.
    """
    usable = [str(name) for name, item in zones.items() if set(item.dims) == {"zone", "time"}]
    missing = [name for name in covariates if name not in usable]
    if missing:
        have = ", ".join(usable)
        raise ConfigError(
            f"impact.covariates: {', '.join(missing)} not among the zone variables ({have}).",
            missing=missing,
        )
    columns = {}
    for zone in roles.controls:
        zone_outcome(zones, zone)
        for name in covariates:
            label = name if len(roles.controls) == 1 else f"{name} {zone}"
            columns[label] = zones[name].sel(zone=zone).to_series()
    table = pd.DataFrame(columns, index=zones["time"].to_index())
    if roles.fill == "interpolate":
        filled = table.interpolate(method="time", limit_area="inside")
        count(control_months_filled=int((table.isna() & filled.notna()).to_numpy().sum()))
        return filled
    return table
