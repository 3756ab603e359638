"""The published method of arXiv 2603.07331, for ``mode: paper`` only: maximum likelihood, never Bayesian.

A local linear trend with a stochastic seasonal of period 12 and controls is fitted before the
intervention and forecast after it. The published numbers are one early stop of L-BFGS on a flat
ridge of the likelihood; here the highest of several optimiser runs wins, and the stop of the
library's default run is printed beside it.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.effect import Effect
from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.errors import ConfigError, DataError, EOCausalWarning, FitError
from eo_causal.impact.check import CheckResult
from eo_causal.impact.checks import CheckSettings
from eo_causal.impact.counterfactual import ImpactResult
from eo_causal.impact.model import ImpactSettings, date_notes

Floats = NDArray[np.float64]
SCALE = 100.0
TESTED = ("0.15",)
N_STARTS = 3
PLACEBO_SEED = 42
N_PLACEBOS = 40
PLACEBO_WINDOW = 12
BOUNDARY = 1e-6
VARIANCES = ("sigma2.irregular", "sigma2.level", "sigma2.trend", "sigma2.seasonal")


@dataclass(frozen=True)
class Forecast:
    """One maximum-likelihood fit and its forecast, outcome times 100."""

    mean: Floats
    lower: Floats
    upper: Floats
    covariance_sd_of_mean: float
    fitted: Floats
    log_likelihood: float
    log_likelihood_default: float | None
    converged: bool
    variances: dict[str, float]
    spread: float


def fit_paper(
    outcome: pd.Series,
    controls: pd.DataFrame,
    settings: ImpactSettings,
    *,
    seed: int,
    units: str = "m-1",
) -> ImpactResult:
    """The published estimate.

    The interval of the average is avg +- 1.96 SE with SE = mean monthly width / 3.92: the
    uncertainty of one month, as published, and labelled so.

    Raises
    ------
    DataError
        Missing months; this mode interpolates nothing.
    FitError
        No optimiser run ended with a finite likelihood.
    """
    _check_version()
    _refuse_other_models(settings)
    gaps = {"the outcome": int(outcome.isna().sum())}
    gaps |= {f"control {name}": int(n) for name, n in controls.isna().sum().items()}
    missing = ", ".join(f"{n} months of {name}" for name, n in gaps.items() if n)
    if missing:
        raise DataError(
            f"mode: paper needs complete series; {missing} are missing. Rasters: use"
            " zone_means.method: interpolate; tables: complete them, or use mode: default."
        )
    start = pd.Timestamp(settings.intervention)
    n_pre = int((outcome.index < start).sum())
    y = outcome.to_numpy(dtype=float) * SCALE
    found = forecast(y, controls.to_numpy(dtype=float), n_pre, len(y), seed=seed)
    return _result(outcome, y, n_pre, found, settings, seed, units)


def _refuse_other_models(settings: ImpactSettings) -> None:
    """The published model is one model; settings it would ignore are refused."""
    published = {"scale": "linear", "season": 12, "level": "local_level", "interval_level": 0.95}
    wrong = [name for name, value in published.items() if getattr(settings, name) != value]
    if wrong:
        raise ConfigError(
            f"mode: paper: impact.{', impact.'.join(wrong)} cannot be changed in the published model."
            " Leave it out, or use mode: default.", keys=wrong,
        )  # fmt: skip


def forecast(
    y: Floats, exog: Floats, n_pre: int, end: int, *, seed: int, n_starts: int = N_STARTS
) -> Forecast:
    """Fit on the first ``n_pre`` months and forecast up to ``end``.

    Parameters
    ----------
    y : (n,) array
        Outcome times 100.
    exog : (n, q) array
        Controls; standardised here by their pre-period mean and sd.
    """
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    scaled = (exog - exog[:n_pre].mean(axis=0)) / exog[:n_pre].std(axis=0)
    before = np.ascontiguousarray(scaled[:n_pre]) if exog.shape[1] else None
    after = np.ascontiguousarray(scaled[n_pre:end]) if exog.shape[1] else None
    model = UnobservedComponents(
        y[:n_pre], level="local linear trend", seasonal=12, exog=before, mle_regression=True
    )
    fit = _maximise(model, seed, n_starts)
    prediction = fit.get_forecast(end - n_pre, exog=after)
    bounds = np.asarray(prediction.conf_int(alpha=0.05))
    variances = {
        name: float(value)
        for name, value in zip(model.param_names, fit.params, strict=True)
        if name in VARIANCES
    }
    return Forecast(
        mean=np.asarray(prediction.predicted_mean),
        lower=bounds[:, 0],
        upper=bounds[:, 1],
        covariance_sd_of_mean=_sd_of_mean(fit, end - n_pre),
        fitted=np.asarray(fit.fittedvalues),
        log_likelihood=float(fit.llf),
        log_likelihood_default=_default_stop(model) if n_starts else None,
        converged=bool(fit.mle_retvals.get("converged", True)),
        variances=variances,
        spread=float(y[:n_pre].std(ddof=1)),
    )


def _maximise(model: Any, seed: int, n_starts: int) -> Any:
    """Powell from the library's start and seeded ones, polished by L-BFGS; the highest wins."""
    random = generator(seed, "unobserved_components")
    best = None
    for k in range(n_starts + 1):
        start = np.array(model.start_params, dtype=float)
        if k:
            start = start * np.exp(random.normal(0.0, 1.0, len(start)))
        options: dict[str, Any] = {"disp": False, "warn_convergence": False}
        coarse = model.fit(start, method="powell", maxiter=20000, xtol=1e-8, ftol=1e-10, **options)
        fine = model.fit(
            coarse.params, method="lbfgs", maxiter=2000, pgtol=1e-10, factr=1.0, **options
        )
        for fit in (coarse, fine):
            if np.isfinite(fit.llf) and (best is None or fit.llf > best.llf):
                best = fit
    if best is None:
        raise FitError("no optimiser run ended with a finite likelihood. Check the series.")
    return best


def _default_stop(model: Any) -> float:
    """Log-likelihood where the library's default optimiser stops, as the published code used it."""
    return float(model.fit(disp=False, warn_convergence=False).llf)


def _sd_of_mean(fit: Any, n: int) -> float:
    """Sd of the mean of n forecasts, from their joint covariance given the ML variances.

    With state s_(h+1) = T s_h + R e and y_h = Z s_h + noise, the sum of n forecasts is linear in
    the first forecast state and the shocks; its variance is accumulated step by step.
    """
    representation = fit.filter_results
    transition, selection = representation.transition[:, :, 0], representation.selection[:, :, 0]
    shock = selection @ representation.state_cov[:, :, 0] @ selection.T
    design = representation.design[0, :, -1]
    noise = float(representation.obs_cov[0, 0, 0])
    covariance = representation.predicted_state_cov[:, :, -1]
    weight = np.zeros_like(design)
    variance = n * noise
    for _ in range(n - 1):
        weight = design + transition.T @ weight
        variance += float(weight @ shock @ weight)
    weight = design + transition.T @ weight
    variance += float(weight @ covariance @ weight)
    return float(np.sqrt(variance)) / n


def _result(
    outcome: pd.Series,
    y: Floats,
    n_pre: int,
    found: Forecast,
    settings: ImpactSettings,
    seed: int,
    units: str,
) -> ImpactResult:
    from scipy.special import ndtr

    observed = y[n_pre:]
    m = len(observed)
    average = float((observed - found.mean).mean())
    error = float((found.upper - found.lower).mean()) / 3.92
    p_value = float(2 * ndtr(-abs(average) / error))
    relative = average / float(found.mean.mean())
    label = "ucm_mle; published interval, the uncertainty of one month"
    half = 1.96 * error

    def effect(value: float, width: float, unit: str, factor: float = 1.0) -> Effect:
        low_high = ((value - width) * factor, (value + width) * factor)
        return Effect(
            value * factor, width / 1.96 * factor, low_high, 0.95, label, m, None, unit, p_value
        )

    mean_prediction = float(found.mean.mean())
    boundary = [
        name for name, value in found.variances.items() if value < BOUNDARY * found.spread**2
    ]
    notes = [
        "Maximum likelihood, not Bayesian; variances are taken as known.",
        *date_notes(settings),
    ]
    if "sigma2.trend" in boundary:
        notes.append(
            "The trend variance is zero: the trend is a fixed line that drives the answer."
        )
    return ImpactResult(
        method="ucm_mle",
        units=units,
        average=effect(average, half, units, 1 / SCALE),
        cumulative=effect(average * m, half * m, units, 1 / SCALE),
        relative=effect(relative, half / mean_prediction, "1"),
        p_value=p_value,
        p_value_mcse=None,
        series=_series(outcome, y, n_pre, found),
        table=_table(observed, found, average, half, p_value),
        draws=None,
        diagnostics={
            "engine": "ucm_mle",
            "seed": seed,
            "intervention": str(outcome.index[n_pre].date()),
            "n_pre": n_pre,
            "n_post": m,
            "n_missing_pre": 0,
            "n_missing_post": 0,
            "log_likelihood": found.log_likelihood,
            "log_likelihood_default": found.log_likelihood_default,
            "converged": found.converged,
            "variances": found.variances,
            "variances_at_boundary": boundary,
            "joint_sd_of_average_m-1": found.covariance_sd_of_mean / SCALE,
        },
        settings=settings,
        notes=tuple(notes),
    )


def _table(
    observed: Floats, found: Forecast, average: float, half: float, p: float
) -> pd.DataFrame:
    rows = {}
    actual, predicted = float(observed.mean()) / SCALE, float(found.mean.mean()) / SCALE
    effect, width = average / SCALE, half / SCALE
    for name, factor in (("average", 1.0), ("cumulative", float(len(observed)))):
        row: dict[str, float] = {"actual": actual * factor}
        for label, value, spread in (
            ("predicted", predicted * factor, width * factor),
            ("abs_effect", effect * factor, width * factor),
            ("rel_effect", effect / predicted, width / predicted),
        ):
            row |= {
                label: value,
                f"{label}_lower": value - spread,
                f"{label}_upper": value + spread,
                f"{label}_sd": spread / 1.96,
            }
        rows[name] = row | {"p": p, "alpha": 0.05}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("effect")


def _series(outcome: pd.Series, y: Floats, n_pre: int, found: Forecast) -> pd.DataFrame:
    table = pd.DataFrame(index=outcome.index.rename("time"))
    table["response"] = y / SCALE
    table["cum_response"] = np.cumsum(y) / SCALE
    fitted = found.fitted.copy()
    fitted[:13] = np.nan
    none = np.full(n_pre, np.nan)
    table["point_pred"] = np.concatenate([fitted, found.mean]) / SCALE
    table["point_pred_lower"] = np.concatenate([none, found.lower]) / SCALE
    table["point_pred_upper"] = np.concatenate([none, found.upper]) / SCALE
    for suffix, other in (("", ""), ("_lower", "_upper"), ("_upper", "_lower")):
        table[f"point_effect{suffix}"] = table["response"] - table[f"point_pred{other}"]
        post = table[f"point_effect{suffix}"].to_numpy()[n_pre:]
        table[f"cum_effect{suffix}"] = np.concatenate([np.zeros(n_pre), np.cumsum(post)])
    for suffix, other in (("", ""), ("_lower", "_upper"), ("_upper", "_lower")):
        table[f"cum_pred{suffix}"] = table["cum_response"] - table[f"cum_effect{other}"]
    return table


def paper_checks(
    outcome: pd.Series,
    controls: pd.DataFrame,
    result: ImpactResult,
    checks: CheckSettings,
    *,
    seed: int,
) -> tuple[CheckResult, ...]:
    """The published checks: 40 placebo dates with 12-month windows, and leave-one-out.

    The published p is k / n and can be zero; (k + 1) / (n + 1) is reported. Of ``checks`` only
    whether these two run counts.
    """
    y = outcome.to_numpy(dtype=float) * SCALE
    exog = controls.to_numpy(dtype=float)
    n_pre = result.diagnostics["n_pre"]
    effect = result.average.estimate * SCALE
    found = []
    if checks.placebo_in_time is not None:
        placebos = _placebos(outcome.index, y, exog, n_pre, effect, seed)
        placebos.summary["effect"] = effect / SCALE
        found.append(placebos)
    if checks.leave_one_out:
        found.append(_leave_one_out(y, controls, n_pre, effect, seed))
    return tuple(found)


def _placebos(
    index: pd.DatetimeIndex, y: Floats, exog: Floats, n_pre: int, effect: float, seed: int
) -> CheckResult:
    choices = range(36, n_pre - PLACEBO_WINDOW)
    random = np.random.default_rng(PLACEBO_SEED)
    dates = np.sort(random.choice(list(choices), min(N_PLACEBOS, len(choices)), replace=False))
    rows = []
    for d in track([int(d) for d in dates], "published placebos"):
        found = forecast(y, exog, d, d + PLACEBO_WINDOW, seed=seed, n_starts=0)
        value = float((y[d : d + PLACEBO_WINDOW] - found.mean).mean())
        rows.append({"month": f"{index[d]:%Y-%m}", "mean": value / SCALE})
    count(placebos_fitted=len(rows))
    if not rows:
        text = f"Not possible: {n_pre} months before the intervention leave no placebo date."
        return CheckResult("placebo_in_time", None, text, pd.DataFrame(), {"n": 0, "p_value": None})
    means = np.array([row["mean"] for row in rows]) * SCALE
    n, larger = len(means), int((~(np.abs(means) < abs(effect))).sum())
    summary = {
        "n": n,
        "n_larger": larger,
        "p_value": (larger + 1) / (n + 1),
        "published_p_value": larger / n,
        "mean": float(means.mean()) / SCALE,
        "sd": float(means.std()) / SCALE,
        "window": PLACEBO_WINDOW,
    }
    text = (
        f"{larger} of {n} placebo dates give a larger effect: p = {summary['p_value']:.3f}, published"
        f" as {larger}/{n}. Windows of {PLACEBO_WINDOW} months say little about an average over"
        " years; the default mode uses windows as long as the real one."
    )
    passed = bool(summary["p_value"] <= 0.05)
    return CheckResult("placebo_in_time", passed, text, pd.DataFrame(rows), summary)


def _leave_one_out(
    y: Floats, controls: pd.DataFrame, n_pre: int, effect: float, seed: int
) -> CheckResult:
    rows = []
    for name in controls.columns:
        rest = controls.drop(columns=name).to_numpy(dtype=float)
        found = forecast(y, rest, n_pre, len(y), seed=seed, n_starts=0)
        value = float((y[n_pre:] - found.mean).mean())
        rows.append({"dropped": name, "mean": value / SCALE, "share_of_effect": value / effect})
    if not rows:
        return CheckResult(
            "leave_one_out", None, "Not possible: there is no control.", pd.DataFrame(), {"n": 0}
        )
    shares = [float(str(row["share_of_effect"])) for row in rows]
    text = f"Without one control {min(shares):.0%} to {max(shares):.0%} of the effect remain."
    summary = {"n": len(rows), "smallest_share": min(shares), "largest_share": max(shares)}
    return CheckResult("leave_one_out", min(shares) > 0, text, pd.DataFrame(rows), summary)


def _check_version() -> None:
    import statsmodels

    if not statsmodels.__version__.startswith(TESTED):
        warnings.warn(
            EOCausalWarning(
                f"statsmodels {statsmodels.__version__} is outside the tested {', '.join(TESTED)}.",
                "VersionWarning",
            ),
            stacklevel=3,
        )
