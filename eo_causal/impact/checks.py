"""Would the same method find effects where nothing happened? Checks beside an impact estimate.

All checks use the exact engine; each returns a table, a sentence and, where it can fail, a verdict.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.display import show_p
from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import DataError, FitError
from eo_causal.impact.exact import exact_posterior
from eo_causal.impact.fit import exact_effect, relative_effect
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.impact.nonparametric import trend
from eo_causal.impact.residuals import one_step_errors
from eo_causal.impact.searched import searched_effects
from eo_causal.impact.zones import RoleSettings, zone_controls, zone_outcome

ALPHA = 0.05
POWER_FACTOR = 2.80
MIN_PLACEBOS = 3
MIN_MONTHS = 24
N_SEARCHED = 199
DAYS_PER_YEAR = 365.25


class PlaceboTimeSettings(Settings):
    """Pseudo-interventions before the real one."""

    window: Literal["matched"] | Annotated[int, Field(ge=1)] = Field(
        default="matched", description="months of a placebo effect; matched = as the real one"
    )
    first: Annotated[int, Field(ge=24)] = Field(default=60, description="shortest pre period")
    step: Annotated[int, Field(ge=1)] = 6


class CheckSettings(Settings):
    """Which checks run."""

    placebo_in_time: PlaceboTimeSettings | None = PlaceboTimeSettings()
    placebo_in_space: bool = True
    control_contamination: bool = True
    leave_one_out: bool = True
    prior_sensitivity: bool = True
    scale_sensitivity: bool = True
    local_confounders: bool = True
    pre_trend: bool = True
    fit: bool = True
    search_adjusted: bool = Field(
        default=True, description="runs where impact.intervention_source is data"
    )


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


def run_checks(
    zones: xr.Dataset,
    roles: RoleSettings,
    settings: ImpactSettings,
    checks: CheckSettings,
    *,
    seed: int,
) -> tuple[CheckResult, ...]:
    """Run every check asked for, in the order a referee reads them."""
    settings = settings.model_copy(update={"allow_event_gap": True, "engine": "exact"})
    outcome = zone_outcome(zones, roles.impact)
    controls = zone_controls(zones, roles, settings.covariates)
    headline = exact_effect(build_model(outcome, controls, settings))
    given = CheckInput(zones, roles, settings, outcome, controls, headline, seed)
    return tuple(_chosen(given, checks))


def _chosen(given: CheckInput, checks: CheckSettings) -> Iterator[CheckResult]:
    if checks.placebo_in_time is not None:
        yield placebo_in_time(given, checks.placebo_in_time)
    if checks.placebo_in_space:
        yield placebo_in_space(given)
    if checks.control_contamination:
        yield control_contamination(given)
    if checks.leave_one_out:
        yield leave_one_out(given)
    if checks.prior_sensitivity:
        yield prior_sensitivity(given)
    if checks.scale_sensitivity:
        yield scale_sensitivity(given)
    if checks.local_confounders:
        yield local_confounders(given)
    if checks.pre_trend:
        yield pre_trend(given)
    if checks.fit:
        yield model_fit(given)
    if checks.search_adjusted and given.settings.intervention_source == "data":
        yield search_adjusted(given)


def placebo_in_time(given: CheckInput, settings: PlaceboTimeSettings) -> CheckResult:
    """The same analysis at dates before the intervention, with windows as long as the real one.

    No month at or after the real intervention is ever used.
    """
    start = pd.Timestamp(given.settings.intervention)
    index = given.outcome.index
    n_pre = int((index < start).sum())
    length = len(index) - n_pre if settings.window == "matched" else settings.window
    dates = range(settings.first, n_pre - length + 1, settings.step)
    before = given.outcome.iloc[:n_pre], given.controls.iloc[:n_pre]
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for d in track(list(dates), "placebos in time"):
        row = _one(before[0], before[1], given.settings, index[d], index[d + length - 1])
        (rows if "mean" in row else failures).append(row)
    count(placebos_fitted=len(rows), placebos_failed=len(failures))
    table = pd.DataFrame([*rows, *failures])
    n_disjoint = max(0, (n_pre - settings.first) // length)
    if len(rows) < MIN_PLACEBOS:
        text = (
            f"Not possible: {len(rows)} usable dates with windows of {length} months; at least"
            f" {MIN_PLACEBOS} are needed. Lengthen data.period or shorten the window."
        )
        summary: dict[str, Any] = {"n": len(rows), "p_value": None, "n_disjoint": n_disjoint}
        return CheckResult("placebo_in_time", None, text, table, summary)
    means = np.array([row["mean"] for row in rows])
    ratios = np.abs(means) / np.array([row["sd"] for row in rows])
    effect = given.headline["mean"]
    n, n_larger = len(rows), int((np.abs(means) >= abs(effect)).sum())
    p_value = (n_larger + 1) / (n + 1)
    p_ratio = (int((ratios >= abs(effect) / given.headline["sd"]).sum()) + 1) / (n + 1)
    drift, spread = float(means.mean()), float(means.std(ddof=1))
    summary = {
        "n": n,
        "n_larger": n_larger,
        "p_value": p_value,
        "p_value_standardised": p_ratio,
        "n_disjoint": n_disjoint,
        "n_failed": len(failures),
        "window": length,
        "drift": drift,
        "sd": spread,
        "effect_minus_drift": effect - drift,
        "minimum_detectable_effect": POWER_FACTOR * spread,
        "effect": effect,
        "effect_interval": [given.headline["lower"], given.headline["upper"]],
    }
    text = (
        f"{n} placebo dates with windows of {length} months ({n_disjoint} disjoint): p"
        f" {show_p(p_value)} (standardised {show_p(p_ratio)}). Their mean is"
        f" {_percent_of(drift, effect)} of the effect, which is drift that may also sit in the"
        " headline; an effect below"
        f" {abs(POWER_FACTOR * spread / effect):.0%} of the one found could not be told from it."
    )
    passed = None if n < 1 / ALPHA - 1 else p_value <= ALPHA
    if passed is None:
        text += f" With {n} dates p cannot fall below {1 / (n + 1):.2f}, so this informs only."
        passed = False if p_value > 2 / (n + 1) + 1e-12 else None
    return CheckResult("placebo_in_time", passed, text, table, summary)


def placebo_in_space(given: CheckInput) -> CheckResult:
    """Every other zone as pseudo-impact at the real date, the real impact zone left out.

    A control zone is tested against the remaining controls; with a single control zone it serves
    as control for all others and is not tested itself.
    """
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    others = [str(zone) for zone in given.zones["zone"].to_numpy() if zone != given.roles.impact]
    for zone in others:
        controls = tuple(name for name in given.roles.controls if name != zone)
        if not controls:
            continue
        roles = given.roles.model_copy(update={"impact": zone, "controls": controls})
        row = {"zone": zone} | _zone_effect(given, roles)
        (rows if "mean" in row else failures).append(row)
    own = {"zone": given.roles.impact, **given.headline}
    table = pd.DataFrame([own, *rows, *failures])
    n = len(rows)
    summary: dict[str, Any] = {"n": n, "n_failed": len(failures), "p_value": None}
    if n < 2:
        text = (
            f"Not possible: {n} zone(s) beside the impact and control zones. Name further zones that"
            " the intervention cannot have reached."
        )
        return CheckResult("placebo_in_space", None, text, table, summary)
    larger = sum(abs(row["mean"]) >= abs(given.headline["mean"]) for row in rows)
    summary |= {"p_value": (larger + 1) / (n + 1), "rank": larger + 1}
    text = (
        f"Among {n + 1} zones the impact zone has rank {larger + 1} by size of effect"
        f" (p = {(larger + 1) / (n + 1):.3f}, the smallest possible here is {1 / (n + 1):.3f})."
    )
    passed = True if larger == 0 and 1 / (n + 1) <= ALPHA else (None if larger == 0 else False)
    if passed is None:
        text += " With so few zones this supports the answer but cannot prove it."
    return CheckResult("placebo_in_space", passed, text, table, summary)


def control_contamination(given: CheckInput) -> CheckResult:
    """Each control series as outcome, the other controls as its controls, at the real date."""
    rows: list[dict[str, Any]] = []
    linear = given.settings.model_copy(update={"scale": "linear"})
    for name in given.controls.columns:
        rest = given.controls.drop(columns=name)
        rows.append({"control": name} | _one(given.controls[name], rest, linear))
    table = pd.DataFrame(rows)
    moved, passed, gaps = _verdict(rows, "control")
    text = (
        f"{', '.join(moved)} changed at the same date: the control may itself be affected, or"
        " something changed everywhere."
        if moved
        else "No control that could be tested changed at the date of the intervention."
    )
    summary = {"n": len(rows), "n_changed": len(moved), "changed": moved}
    return CheckResult("control_contamination", passed, text + gaps, table, summary)


def leave_one_out(given: CheckInput) -> CheckResult:
    """Drop each control in turn: does the effect keep its sign and its certainty?"""
    rows = [
        {"dropped": name} | _one(given.outcome, given.controls.drop(columns=name), given.settings)
        for name in given.controls.columns
    ]
    return _stability("leave_one_out", "dropped", rows, given)


def prior_sensitivity(given: CheckInput) -> CheckResult:
    """Half and twice the prior scale of the level, or of the coefficients where no level moves."""
    if given.settings.prior != "default":
        text = f"Not possible: prior {given.settings.prior} has no scale to vary."
        return CheckResult("prior_sensitivity", None, text, pd.DataFrame(), {"n": 0})
    wanders = given.settings.level == "local_level"
    name, label = ("level_prior_sd", "level") if wanders else ("coefficient_sd", "coefficient")
    sd = getattr(given.settings, name)
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"{label} prior halved", {name: sd / 2}),
        (f"{label} prior doubled", {name: sd * 2}),
    ]
    rows = [
        {"change": label}
        | _one(given.outcome, given.controls, given.settings.model_copy(update=new))
        for label, new in changes
    ]
    return _stability("prior_sensitivity", "change", rows, given)


def scale_sensitivity(given: CheckInput) -> CheckResult:
    """The same model of the outcome and of its logarithm: do the relative effects agree?

    Attenuation is skewed and spiky; on the log scale single months weigh less, and the relative
    effect is geometric.
    """
    rows: list[dict[str, Any]] = []
    for scale in ("linear", "log"):
        settings = given.settings.model_copy(update={"scale": scale})
        row: dict[str, Any] = {"scale": scale}
        try:
            row |= relative_effect(build_model(given.outcome, given.controls, settings))
        except (DataError, FitError) as error:
            row["failed"] = error.message
        rows.append(row)
    table = pd.DataFrame(rows)
    if any("failed" in row for row in rows):
        text = "Not possible: the outcome cannot be modelled on both scales."
        return CheckResult("scale_sensitivity", None, text, table, {"n": 0})
    shown = [
        f"{row['mean']:+.1%} ({row['lower']:.1%} to {row['upper']:.1%}) on the {row['scale']} scale"
        for row in rows
    ]
    same_sign = rows[0]["mean"] * rows[1]["mean"] > 0
    passed = same_sign and _excludes_zero(rows[0]) == _excludes_zero(rows[1])
    text = f"Relative effect {' and '.join(shown)}."
    if not passed:
        text += " The conclusion depends on the scale."
    summary = {"n": 2, "linear": rows[0]["mean"], "log": rows[1]["mean"]}
    return CheckResult("scale_sensitivity", passed, text, table, summary)


def local_confounders(given: CheckInput) -> CheckResult:
    """Temperature and salinity of the impact zone itself, as outcomes at the same date."""
    names = [name for name in ("temperature", "salinity") if name in given.zones]
    rows: list[dict[str, Any]] = []
    linear = given.settings.model_copy(update={"scale": "linear"})
    for name in names:
        outcome = given.zones[name].sel(zone=given.roles.impact).to_series()
        controls = zone_controls(given.zones, given.roles, (name,))
        rows.append({"variable": name} | _one(outcome, controls, linear))
    if not rows:
        text = "Not possible: the zones hold neither temperature nor salinity."
        return CheckResult("local_confounders", None, text, pd.DataFrame(), {"n": 0})
    moved, passed, gaps = _verdict(rows, "variable")
    text = (
        f"{', '.join(moved)} of the impact zone changed at the same date beyond what the control zone"
        " explains; far controls cannot absorb such a local change."
        if moved
        else "Nothing else that could be tested in the impact zone changed beyond the control zone."
    )
    summary = {"n": len(rows), "changed": moved}
    return CheckResult("local_confounders", passed, text + gaps, pd.DataFrame(rows), summary)


def pre_trend(given: CheckInput) -> CheckResult:
    """Did impact and control zones already drift apart before the intervention?"""
    start = pd.Timestamp(given.settings.intervention)
    others = [zone_outcome(given.zones, zone) for zone in given.roles.controls]
    control = pd.concat(others, axis=1).mean(axis=1, skipna=False)
    gap = (given.outcome - control)[given.outcome.index < start].dropna()
    if len(gap) < MIN_MONTHS:
        text = f"Not possible: {len(gap)} months in which both are seen are too few."
        return CheckResult("pre_trend", None, text, pd.DataFrame(), {"n": len(gap)})
    years = (gap.index - gap.index[0]).days.to_numpy() / DAYS_PER_YEAR
    found = trend(gap.to_numpy(dtype=float), years, generator(given.seed, "pre_trend"))
    passed = found["p_value"] >= ALPHA
    text = (
        f"Before the intervention impact minus control changed by {found['sen_slope'] * 10:.2g} m⁻¹ per"
        f" decade (Mann-Kendall with autoregressive sieve, p {show_p(found['p_value'])})."
    )
    return CheckResult("pre_trend", passed, text, pd.DataFrame([found]), dict(found))


def model_fit(given: CheckInput) -> CheckResult:
    """One-step predictions in the pre period: explained share, coverage, normality, correlation."""
    from scipy import stats
    from statsmodels.stats.diagnostic import acorr_ljungbox

    model = build_model(given.outcome, given.controls, given.settings)
    errors, sds = one_step_errors(model, exact_posterior(model))
    skip = max(13, len(model.coefficients) + 1)
    if len(errors) - skip < MIN_MONTHS:
        text = f"Not possible: {len(errors)} months before the intervention are too few."
        return CheckResult("fit", None, text, pd.DataFrame(), {"n": len(errors)})
    standardised = (errors / sds)[skip:]
    values = model.outcome[skip:]
    shapiro = float(stats.shapiro(standardised).pvalue)
    ljung = float(acorr_ljungbox(standardised, lags=[12])["lb_pvalue"].iloc[0])
    summary = {
        "one_step_r2": 1
        - float((errors[skip:] ** 2).sum() / ((values - values.mean()) ** 2).sum()),
        "coverage": float((np.abs(standardised) <= 1.96).mean()),
        "shapiro_p": shapiro,
        "ljung_box_p": ljung,
        "largest_error": float(np.abs(standardised).max()),
    }
    passed = shapiro >= 0.01 and ljung >= 0.01
    text = (
        f"One-step predictions explain {summary['one_step_r2']:.0%} of the pre-period variance; their"
        f" 95% intervals cover {summary['coverage']:.0%}; Shapiro-Wilk p {show_p(shapiro)},"
        f" Ljung-Box(12) p {show_p(ljung)}, largest standardised error"
        f" {summary['largest_error']:.1f}."
    )
    if not passed:
        text += " Errors are not normal white noise."
        if given.settings.scale == "linear":
            text += " Try impact.scale: log."
    return CheckResult("fit", passed, text, pd.DataFrame([summary]), summary)


def search_adjusted(given: CheckInput) -> CheckResult:
    """Is the effect larger than what searching a series without an effect for a date gives?"""
    model = build_model(given.outcome, given.controls, given.settings)
    table = searched_effects(
        model, given.controls, N_SEARCHED, generator(given.seed, "search_adjusted")
    )
    fitted = table[table["mean"].notna()] if "mean" in table else table.iloc[:0]
    n = len(fitted)
    if n < N_SEARCHED // 2:
        text = f"Not possible: {n} of {len(table)} simulated series could be fitted."
        return CheckResult("search_adjusted", None, text, table, {"n": n, "p_value": None})
    own = abs(given.headline["mean"]) / given.headline["sd"]
    larger = int((fitted["mean"].abs() / fitted["sd"] >= own).sum())
    p_value = (larger + 1) / (n + 1)
    text = (
        f"In {n} series simulated without an effect the best date gives an effect as large, relative"
        f" to its uncertainty, in {larger} (p {show_p(p_value)} after allowing for the search)."
    )
    summary = {"n": n, "n_larger": larger, "p_value": p_value, "n_failed": len(table) - n}
    return CheckResult("search_adjusted", p_value <= ALPHA, text, table, summary)


def _one(
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


def _verdict(rows: Sequence[dict[str, Any]], label: str) -> tuple[list[str], bool | None, str]:
    """Rows whose interval leaves zero; failed if any, open if one could not be fitted; a sentence."""
    moved = [row[label] for row in rows if "mean" in row and _excludes_zero(row)]
    unfitted = [row[label] for row in rows if "mean" not in row]
    gaps = f" Could not be fitted: {', '.join(unfitted)}." if unfitted else ""
    return moved, False if moved else (None if unfitted or not rows else True), gaps


def _zone_effect(given: CheckInput, roles: RoleSettings) -> dict[str, Any]:
    try:
        outcome = zone_outcome(given.zones, roles.impact)
        controls = zone_controls(given.zones, roles, given.settings.covariates)
    except DataError as error:
        return {"failed": error.message}
    return _one(outcome, controls, given.settings)


def _stability(
    name: str, label: str, rows: Sequence[dict[str, Any]], given: CheckInput
) -> CheckResult:
    """Common verdict of leave-one-out and prior sensitivity: sign and certainty stay the same."""
    effect = given.headline["mean"]
    certain = _excludes_zero(given.headline)
    usable = [row for row in rows if "mean" in row]
    for row in usable:
        row["share_of_effect"] = row["mean"] / effect
    flipped = [row[label] for row in usable if row["mean"] * effect <= 0]
    lost = [row[label] for row in usable if certain and not _excludes_zero(row)]
    table = pd.DataFrame(rows)
    if not usable:
        text = f"Not possible: no variant could be fitted ({len(rows)} tried)."
        return CheckResult(name, None, text, table, {"n": 0})
    shares = [row["share_of_effect"] for row in usable]
    kept = f"{min(shares):.0%}"
    if len(usable) > 1:
        kept += f" to {max(shares):.0%}"
    text = f"{len(usable)} of {len(rows)} variants fitted; {kept} of the effect remains."
    if flipped:
        text += f" The sign changes for: {', '.join(flipped)}."
    if lost:
        text += f" The interval reaches zero for: {', '.join(lost)}."
    summary = {"n": len(usable), "smallest_share": min(shares), "largest_share": max(shares)}
    return CheckResult(name, not flipped and not lost, text, table, summary)


def _excludes_zero(row: dict[str, Any]) -> bool:
    return bool(row["lower"] > 0 or row["upper"] < 0)


def _percent_of(part: float, whole: float) -> str:
    return f"{part / whole:+.0%}"
