"""The structural model of one series: settings, validation, and the eig-marginal form.

The outcome is a local level plus fixed periods of the season plus controls,

    y_t = X_t b + mu_t + e_t,   mu_t = mu_(t-1) + n_t,   mu_0 = 0,

with e ~ N(0, noise_sd^2) and n ~ N(0, level_sd^2). With K_ij = min(t_i, t_j) over the observed
months and K = U diag(lam) U', the rotated outcome U'y has independent normal entries with mean
(U'X) b and variance noise_sd^2 + level_sd^2 lam. Missing months have no row and cost nothing.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.settings import Month, Settings
from eo_causal.errors import ConfigError, DataError, EOCausalWarning, TimeAxisError

Floats = NDArray[np.float64]
Positive = Annotated[float, Field(gt=0)]


class ImpactSettings(Settings):
    """Intervention, model, priors and engine of an impact estimate."""

    intervention: Month = Field(description="first month after the change")
    intervention_source: Literal["policy", "data"] = Field(
        default="policy", description="data = the date was found in the same outcome series"
    )
    policy_dates: tuple[Month, ...] = Field(
        default=(), description="dates known from outside the series, printed beside"
    )
    engine: Literal["exact", "nuts"] = Field(
        default="exact", description="how the posterior is computed"
    )
    sampler: Literal["pymc", "nutpie"] = Field(default="pymc", description="for engine: nuts")
    level: Literal["local_level", "constant"] = "local_level"
    season: Annotated[int, Field(ge=2)] | Literal["none"] = Field(
        default=12, description="periods per cycle, as fixed dummies"
    )
    scale: Literal["linear", "log"] = "linear"
    covariates: tuple[str, ...] = Field(
        default=("kd490",), description="variables of the control zones"
    )
    prior: Literal["default", "r_like"] = Field(
        default="default", description="r_like: priors of the R package CausalImpact"
    )
    level_prior_sd: Positive = Field(default=0.1, description="half-normal scale of level_sd")
    coefficient_sd: Positive = Field(default=2.0, description="normal scale of coefficients")
    interval_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    chains: Annotated[int, Field(ge=1)] = 4
    draws: Annotated[int, Field(ge=10)] = 1000
    tune: Annotated[int, Field(ge=10)] = 1000
    n_exact_draws: Annotated[int, Field(ge=100)] = Field(
        default=4000, description="draws of the exact engine"
    )
    n_ratio_nodes: Annotated[int, Field(ge=8)] = Field(
        default=48, description="grid nodes of the exact engine"
    )
    max_event_gap: Annotated[int, Field(ge=0)] = Field(
        default=2, description="longest gap allowed within 12 months of the intervention"
    )
    allow_event_gap: bool = False


@dataclass(frozen=True)
class ImpactModel:
    """One series, validated, standardised and rotated; what both engines work on.

    Attributes
    ----------
    index : DatetimeIndex
        All periods, pre and post.
    n_pre_periods : int
        Periods of the pre calendar; the rest are post.
    observed : DataFrame-like array (time,)
        The outcome in its own units, NaN = missing.
    outcome : (n,) array
        Standardised observed pre outcomes (log scale when ``scale: log``).
    centre, spread : float
        Mean and sd (ddof 1) of the observed pre outcomes.
    design : (time, q) array
        Intercept, season dummies, standardised controls, for every period.
    coefficients : tuple of str
        Names of the q columns.
    offsets : (time,) array
        Periods since the first pre period.
    pre_rows : (n,) array of int
        Rows of the observed pre periods.
    eigenvalues : (n,) array
        lam, not below zero.
    rotation : (n, n) array
        U.
    """

    settings: ImpactSettings
    index: pd.DatetimeIndex
    n_pre_periods: int
    observed: Floats
    outcome: Floats
    centre: float
    spread: float
    design: Floats
    coefficients: tuple[str, ...]
    offsets: Floats
    pre_rows: NDArray[np.intp]
    eigenvalues: Floats
    rotation: Floats

    @property
    def n_controls(self) -> int:
        """Number of control columns, the last ones of ``design``."""
        season = 1 if self.settings.season == "none" else self.settings.season
        return len(self.coefficients) - season

    @property
    def post_rows(self) -> NDArray[np.intp]:
        """Rows of the post periods, observed or not."""
        return np.arange(self.n_pre_periods, len(self.index))

    @property
    def scored_rows(self) -> NDArray[np.intp]:
        """Rows of the observed post periods, over which effects are averaged."""
        rows = self.post_rows
        return rows[np.isfinite(self.observed[rows])]

    @property
    def last_offset(self) -> float:
        """Offset of the last pre period."""
        return float(self.offsets[self.n_pre_periods - 1])

    @cached_property
    def rotated_outcome(self) -> Floats:
        """U'y, shape (n,)."""
        return self.rotation.T @ self.outcome

    @cached_property
    def rotated_design(self) -> Floats:
        """U'X of the observed pre periods, shape (n, q)."""
        return self.rotation.T @ self.design[self.pre_rows]

    @cached_property
    def rotated_offsets(self) -> Floats:
        """kappa = U't, the covariance of the last level with the rotated outcome."""
        return self.rotation.T @ self.offsets[self.pre_rows]

    @cached_property
    def shared_steps(self) -> float:
        """Mean of min(t_i, t_j) over pairs of scored periods: the level's variance before data."""
        times = self.offsets[self.scored_rows]
        return float(np.minimum.outer(times, times).mean())

    def unscale(self, standardised: Floats) -> Floats:
        """From the standardised scale back to the outcome's units."""
        values = standardised * self.spread + self.centre
        return np.exp(values) if self.settings.scale == "log" else values


def date_notes(settings: ImpactSettings) -> tuple[str, ...]:
    """What a reader must know of the intervention date."""
    if settings.intervention_source != "data":
        return ()
    known = ", ".join(settings.policy_dates) or "none given"
    return (
        "The intervention date was found in the same outcome series, so the effect at that date is"
        f" partly selected for being large. Dates known from elsewhere: {known}.",
    )


def build_model(
    outcome: pd.Series,
    controls: pd.DataFrame,
    settings: ImpactSettings,
    intervention: str | pd.Timestamp | None = None,
    post_end: str | pd.Timestamp | None = None,
) -> ImpactModel:
    """Validate one series and bring it into the form the engines need.

    Parameters
    ----------
    outcome : Series
        Outcome on a regular DatetimeIndex; NaN = missing.
    controls : DataFrame
        Complete control columns on the same index (may have no column).
    settings : ImpactSettings
        Model and priors.
    intervention, post_end : str or Timestamp, optional
        First and last post period; default the setting and the end of the series.

    Raises
    ------
    TimeAxisError, DataError, ConfigError
        Irregular or duplicate time, too little data, NaN or constant controls, a control that is
        the outcome, or periods outside the series.
    """
    outcome, controls = _aligned(outcome, controls)
    start = pd.Timestamp(intervention or settings.intervention)
    end = pd.Timestamp(post_end) if post_end is not None else outcome.index[-1]
    outcome, controls = outcome[outcome.index <= end], controls[controls.index <= end]
    n_pre = _n_pre(outcome, start, end)
    values = outcome.to_numpy(dtype=float)
    scaled = _logged(outcome) if settings.scale == "log" else values
    pre_rows = np.flatnonzero(np.isfinite(scaled[:n_pre]))
    _check_outcome(outcome, n_pre, pre_rows)
    _check_controls(outcome, controls, n_pre)
    _check_event_gap(outcome, n_pre, settings)

    design, names = _design(outcome.index, controls, n_pre, settings)
    _check_size(len(pre_rows), n_pre, len(names), settings)
    offsets = np.arange(len(values), dtype=float)
    times = offsets[pre_rows]
    eigenvalues, rotation = np.linalg.eigh(np.minimum.outer(times, times))
    centre, spread = float(scaled[pre_rows].mean()), float(scaled[pre_rows].std(ddof=1))
    return ImpactModel(
        settings=settings,
        index=outcome.index,
        n_pre_periods=n_pre,
        observed=values,
        outcome=(scaled[pre_rows] - centre) / spread,
        centre=centre,
        spread=spread,
        design=design,
        coefficients=names,
        offsets=offsets,
        pre_rows=pre_rows,
        eigenvalues=np.clip(eigenvalues, 0.0, None),
        rotation=rotation,
    )


def _aligned(outcome: pd.Series, controls: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Sort by time and refuse irregular axes."""
    if not outcome.index.equals(controls.index):
        raise DataError(
            f"the outcome has {len(outcome)} periods and the controls {len(controls)}, not the same"
            " ones. Give both on one time axis.", n_outcome=len(outcome), n_controls=len(controls),
        )  # fmt: skip
    if not outcome.index.is_monotonic_increasing:
        warnings.warn(
            EOCausalWarning("the time axis was not sorted; it is now.", "TimeAxisWarning"),
            stacklevel=4,
        )
        order = np.argsort(outcome.index)
        outcome, controls = outcome.iloc[order], controls.iloc[order]
    index = outcome.index
    if index.has_duplicates:
        first = index[index.duplicated()][0]
        raise TimeAxisError(
            f"{first:%Y-%m-%d} occurs twice in the time axis. Keep one value.", date=str(first)
        )
    _check_regular(index)
    return outcome, controls


def _check_regular(index: pd.DatetimeIndex) -> None:
    if len(index) < 3:
        raise DataError(f"{len(index)} periods are too few for a series.", n=len(index))
    monthly = all(stamp.day == 1 for stamp in index)
    if monthly:
        months = index.year * 12 + index.month
        steps = np.diff(months)
    else:
        steps = np.diff(index.to_numpy()).astype("timedelta64[s]").astype(float)
    usual = np.median(steps)
    wrong = np.flatnonzero(steps != usual)
    annual = not monthly and 363 * 86400 < usual < 368 * 86400
    if len(wrong) and not annual:
        date = index[wrong[0] + 1]
        raise TimeAxisError(
            f"the time axis is irregular at {date:%Y-%m-%d}. Put missing periods in as NaN.",
            date=str(date),
        )


def _n_pre(outcome: pd.Series, start: pd.Timestamp, end: pd.Timestamp) -> int:
    index = outcome.index
    inside = len(index) > 0 and index[0] < start <= end and start <= index[-1]
    if not inside:
        shown = f"{index[0]:%Y-%m} to {index[-1]:%Y-%m}" if len(index) else "empty"
        raise ConfigError(
            f"impact.intervention: {start:%Y-%m} leaves no pre or no post period (series {shown},"
            f" post ends {end:%Y-%m}). Choose a month inside the series.", intervention=str(start),
        )  # fmt: skip
    return int(index.searchsorted(start))


def _logged(outcome: pd.Series) -> Floats:
    values = outcome.to_numpy(dtype=float)
    if np.any(values <= 0):
        date = outcome.index[np.flatnonzero(values <= 0)[0]]
        raise DataError(
            f"scale: log needs positive outcomes; {date:%Y-%m} is {values[values <= 0][0]:g}."
            " Use scale: linear.", date=str(date),
        )  # fmt: skip
    return np.log(values)


def _check_outcome(outcome: pd.Series, n_pre: int, pre_rows: NDArray[np.intp]) -> None:
    values = outcome.to_numpy(dtype=float)
    if np.isinf(values).any():
        raise DataError("the outcome holds infinite values. Set them to NaN or correct them.")
    if len(pre_rows) > 1 and not np.ptp(values[pre_rows]) > 0:
        raise DataError(
            f"the outcome is constant ({values[pre_rows[0]]:g}) before the intervention."
        )
    if not np.isfinite(values[n_pre:]).any():
        raise DataError("no post period is observed, so there is no effect to estimate.")
    share = 1 - len(pre_rows) / n_pre
    if share > 0.5:
        warnings.warn(
            EOCausalWarning(f"{share:.0%} of the pre periods are missing.", "MissingDataWarning"),
            stacklevel=4,
        )


def _check_controls(outcome: pd.Series, controls: pd.DataFrame, n_pre: int) -> None:
    y = outcome.to_numpy(dtype=float)[:n_pre]
    for name in controls.columns:
        values = controls[name].to_numpy(dtype=float)
        missing = controls.index[~np.isfinite(values)]
        if len(missing):
            months = ", ".join(f"{stamp:%Y-%m}" for stamp in missing[:3])
            raise DataError(
                f"control {name!r} is missing in {len(missing)} period(s) (first: {months}). Set"
                " roles.fill: interpolate for gaps, shorten data.period where its ends are missing, or"
                " drop it from impact.covariates.",
                control=str(name), n_missing=len(missing),
            )  # fmt: skip
        x = values[:n_pre]
        if not np.ptp(x) > 1e-12 * max(1.0, float(np.abs(x).max())):
            raise DataError(f"control {name!r} is constant before the intervention. Drop it.")
        both = np.isfinite(y)
        if both.sum() > 2 and abs(np.corrcoef(x[both], y[both])[0, 1]) > 0.999:
            raise DataError(
                f"control {name!r} is the outcome itself (correlation above 0.999). Choose another"
                " zone as control.", control=str(name),
            )  # fmt: skip
    if controls.shape[1] > 1:
        scaled = controls.iloc[:n_pre].to_numpy(dtype=float)
        scaled = (scaled - scaled.mean(0)) / scaled.std(0)
        condition = float(np.linalg.cond(scaled))
        if not condition <= 1e3:
            warnings.warn(
                EOCausalWarning(
                    f"the controls are nearly collinear (condition number {condition:.0f});"
                    " their separate coefficients mean little.", "CollinearityWarning",
                ),
                stacklevel=4,
            )  # fmt: skip


def _check_event_gap(outcome: pd.Series, n_pre: int, settings: ImpactSettings) -> None:
    if settings.allow_event_gap:
        return
    missing = ~np.isfinite(outcome.to_numpy(dtype=float))
    first, last = max(0, n_pre - 12), min(len(missing), n_pre + 12)
    run, longest, end = 0, 0, 0
    for position in range(first, last):
        run = run + 1 if missing[position] else 0
        if run > longest:
            longest, end = run, position
    if longest > settings.max_event_gap:
        start = outcome.index[end - longest + 1]
        raise TimeAxisError(
            f"the outcome is missing from {start:%Y-%m} to {outcome.index[end]:%Y-%m}, {longest}"
            f" periods within 12 of the intervention (at most {settings.max_event_gap} are allowed)."
            " Add the missing files, or set impact.allow_event_gap: true.",
            first=str(start), n_missing=longest,
        )  # fmt: skip


def _check_size(n: int, n_pre: int, n_coefficients: int, settings: ImpactSettings) -> None:
    least = max(12, n_coefficients + 5)
    if n < least:
        raise DataError(
            f"{n} observed pre periods are too few for {n_coefficients} coefficients (at least"
            f" {least}). Lengthen data.period, drop covariates or set impact.season: none.",
            n_pre=n, n_needed=least,
        )  # fmt: skip
    season = 1 if settings.season == "none" else settings.season
    if n < 36 or n_pre < 3 * season:
        warnings.warn(
            EOCausalWarning(
                f"only {n} observed pre periods; the seasonal cycle and the level are weakly known.",
                "ShortSeriesWarning",
            ),
            stacklevel=4,
        )


def _design(
    index: pd.DatetimeIndex, controls: pd.DataFrame, n_pre: int, settings: ImpactSettings
) -> tuple[Floats, tuple[str, ...]]:
    """Columns: intercept, season dummies (first period = 0), standardised controls."""
    columns, names = [np.ones(len(index))], ["intercept"]
    if settings.season != "none":
        monthly = settings.season == 12 and all(stamp.day == 1 for stamp in index)
        period = index.month.to_numpy() - 1 if monthly else np.arange(len(index)) % settings.season
        for position in range(1, settings.season):
            columns.append((period == position).astype(float))
            names.append(f"season_{position + 1}")
    for name in controls.columns:
        values = controls[name].to_numpy(dtype=float)
        columns.append((values - values[:n_pre].mean()) / values[:n_pre].std(ddof=1))
        names.append(str(name))
    return np.column_stack(columns), tuple(names)
