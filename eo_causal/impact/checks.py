"""Would the same method find effects where nothing happened? Checks beside an impact estimate.

All checks use the exact engine; each returns a table, a sentence and, where it can fail, a verdict.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.display import show_p
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import DataError, FitError
from eo_causal.impact.check import ALPHA, CheckInput, CheckResult, excludes_zero, fit_row
from eo_causal.impact.exact import exact_posterior
from eo_causal.impact.fit import exact_effect, relative_effect
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.impact.nonparametric import trend
from eo_causal.impact.placebos import PlaceboTimeSettings, placebo_in_space, placebo_in_time
from eo_causal.impact.residuals import one_step_errors
from eo_causal.impact.searched import search_adjusted
from eo_causal.impact.zones import RoleSettings, zone_controls, zone_outcome

MIN_MONTHS = 24
DAYS_PER_YEAR = 365.25


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


def control_contamination(given: CheckInput) -> CheckResult:
    """Each control series as outcome, the other controls as its controls, at the real date."""
    rows: list[dict[str, Any]] = []
    linear = given.settings.model_copy(update={"scale": "linear"})
    for name in given.controls.columns:
        rest = given.controls.drop(columns=name)
        rows.append({"control": name} | fit_row(given.controls[name], rest, linear))
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
        {"dropped": name}
        | fit_row(given.outcome, given.controls.drop(columns=name), given.settings)
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
        | fit_row(given.outcome, given.controls, given.settings.model_copy(update=new))
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
    passed = same_sign and excludes_zero(rows[0]) == excludes_zero(rows[1])
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
        rows.append({"variable": name} | fit_row(outcome, controls, linear))
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


def _verdict(rows: Sequence[dict[str, Any]], label: str) -> tuple[list[str], bool | None, str]:
    """Rows whose interval leaves zero; failed if any, open if one could not be fitted; a sentence."""
    moved = [row[label] for row in rows if "mean" in row and excludes_zero(row)]
    ends = ("lower", "upper")
    unfitted = [
        row[label] for row in rows if not all(np.isfinite(row.get(end, np.nan)) for end in ends)
    ]
    gaps = f" Could not be fitted: {', '.join(unfitted)}." if unfitted else ""
    return moved, False if moved else (None if unfitted or not rows else True), gaps


def _stability(
    name: str, label: str, rows: Sequence[dict[str, Any]], given: CheckInput
) -> CheckResult:
    """Common verdict of leave-one-out and prior sensitivity: sign and certainty stay the same."""
    effect = given.headline["mean"]
    certain = excludes_zero(given.headline)
    usable = [row for row in rows if "mean" in row]
    for row in usable:
        row["share_of_effect"] = row["mean"] / effect
    flipped = [row[label] for row in usable if row["mean"] * effect <= 0]
    lost = [row[label] for row in usable if certain and not excludes_zero(row)]
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
