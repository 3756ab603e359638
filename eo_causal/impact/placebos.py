"""The same analysis where nothing happened: at other dates, in other zones."""

from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from eo_causal.core.display import show_p
from eo_causal.core.progress import count, track
from eo_causal.core.settings import Settings
from eo_causal.errors import DataError
from eo_causal.impact.check import ALPHA, CheckInput, CheckResult, fit_row
from eo_causal.impact.zones import RoleSettings, zone_controls, zone_outcome

POWER_FACTOR = 2.80
MIN_PLACEBOS = 3


class PlaceboTimeSettings(Settings):
    """Pseudo-interventions before the real one."""

    window: Literal["matched"] | Annotated[int, Field(ge=1)] = Field(
        default="matched", description="months of a placebo effect; matched = as the real one"
    )
    first: Annotated[int, Field(ge=24)] = Field(default=60, description="shortest pre period")
    step: Annotated[int, Field(ge=1)] = 6


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
        row = fit_row(before[0], before[1], given.settings, index[d], index[d + length - 1])
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
    n, n_larger = len(rows), int((~(np.abs(means) < abs(effect))).sum())  # NaN counts as larger
    p_value = (n_larger + 1) / (n + 1)
    p_ratio = (int((~(ratios < abs(effect) / given.headline["sd"])).sum()) + 1) / (n + 1)
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
    larger = sum(not abs(row["mean"]) < abs(given.headline["mean"]) for row in rows)
    summary |= {"p_value": (larger + 1) / (n + 1), "rank": larger + 1}
    text = (
        f"Among {n + 1} zones the impact zone has rank {larger + 1} by size of effect"
        f" (p = {(larger + 1) / (n + 1):.3f}, the smallest possible here is {1 / (n + 1):.3f})."
    )
    passed = True if larger == 0 and 1 / (n + 1) <= ALPHA else (None if larger == 0 else False)
    if passed is None:
        text += " With so few zones this supports the answer but cannot prove it."
    return CheckResult("placebo_in_space", passed, text, table, summary)


def _zone_effect(given: CheckInput, roles: RoleSettings) -> dict[str, Any]:
    try:
        outcome = zone_outcome(given.zones, roles.impact)
        controls = zone_controls(given.zones, roles, given.settings.covariates)
    except DataError as error:
        return {"failed": error.message}
    return fit_row(outcome, controls, given.settings)


def _percent_of(part: float, whole: float) -> str:
    return f"{part / whole:+.0%}"
