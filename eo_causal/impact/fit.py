"""Fit the structural model to one series with the engine the settings ask for."""

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.core.random import generator
from eo_causal.errors import EOCausalWarning, FitError
from eo_causal.impact.counterfactual import (
    ImpactResult,
    ParameterDraws,
    simulate_counterfactual,
    summarise,
)
from eo_causal.impact.exact import (
    ExactPosterior,
    exact_posterior,
    sample_parameters,
    scale_moments,
)
from eo_causal.impact.model import (
    Floats,
    ImpactModel,
    ImpactSettings,
    build_model,
    date_notes,
)
from eo_causal.impact.nonparametric import kpss_statistic

KPSS_LIMIT = 0.463


def fit_impact(
    outcome: pd.Series,
    controls: pd.DataFrame,
    settings: ImpactSettings,
    *,
    seed: int,
    intervention: str | pd.Timestamp | None = None,
    post_end: str | pd.Timestamp | None = None,
    units: str = "m-1",
) -> ImpactResult:
    """Estimate what changed at the intervention.

    Parameters
    ----------
    outcome : Series
        Outcome on a regular DatetimeIndex, in ``units``; NaN = missing.
    controls : DataFrame
        Complete control series on the same index.
    settings : ImpactSettings
        Model, priors and engine.
    seed : int
        Seed of the run.
    intervention, post_end : str or Timestamp, optional
        First and last post period, in place of the settings' (for placebos).
    units : str
        Units of the outcome.

    Raises
    ------
    DataError, TimeAxisError, ConfigError
        The series cannot be used; see :func:`eo_causal.impact.model.build_model`.
    ConvergenceError
        NUTS has not converged.
    FitError
        NUTS and the exact posterior disagree.
    """
    model = build_model(outcome, controls, settings, intervention, post_end)
    _warn_of_trends(model)
    if settings.engine == "exact":
        return _fit_exact(model, seed=seed, units=units)
    return _fit_nuts(model, seed=seed, units=units)


def _warn_of_trends(model: ImpactModel) -> None:
    """Say so when every control trends: common trends give confident wrong answers."""
    first = len(model.coefficients) - model.n_controls
    columns = model.design[: model.n_pre_periods, first:].T
    if len(columns) and all(kpss_statistic(column) > KPSS_LIMIT for column in columns):
        names = ", ".join(model.coefficients[first:])
        warnings.warn(
            EOCausalWarning(
                f"every control ({names}) trends before the intervention (KPSS at 5%); donors with a"
                " common trend can give a confident wrong answer. Add a control without one.",
                "TrendWarning",
            ),
            stacklevel=3,
        )


def exact_effect(model: ImpactModel, posterior: ExactPosterior | None = None) -> dict[str, float]:
    """Average effect on the outcome's scale without any draw: mean, sd, lower, upper, p.

    ``probability_positive`` is P(effect > 0); ``p_value`` the smaller tail. Linear scale only: on
    the log scale all numbers refer to the mean of log differences.
    """
    found = posterior or exact_posterior(model)
    values = model.observed[model.scored_rows]
    if model.settings.scale == "log":
        values = np.log(values)
    observed = (float(values.mean()) - model.centre) / model.spread
    tail = (1 - model.settings.interval_level) / 2
    positive = found.cdf(observed)
    return {
        "mean": (observed - found.mean()) * model.spread,
        "sd": found.sd() * model.spread,
        "lower": (observed - found.quantile(1 - tail)) * model.spread,
        "upper": (observed - found.quantile(tail)) * model.spread,
        "probability_positive": positive,
        "p_value": min(positive, 1 - positive),
    }


def relative_effect(model: ImpactModel) -> dict[str, float]:
    """Relative effect without any draw, a fraction: mean, lower, upper.

    Observed over counterfactual average, minus one; with ``scale: log`` of geometric averages. It
    falls as the counterfactual rises, so its quantiles are those of the counterfactual.
    """
    found = exact_posterior(model)
    values = model.observed[model.scored_rows]
    tail = (1 - model.settings.interval_level) / 2
    expected = np.array([found.mean(), found.quantile(1 - tail), found.quantile(tail)])
    if model.settings.scale == "log":
        logs = np.log(values).mean() - (model.centre + model.spread * expected)
        ratios = np.exp(logs)
    else:
        ratios = values.mean() / (model.centre + model.spread * expected)
    return dict(zip(("mean", "lower", "upper"), (ratios - 1).tolist(), strict=True))


def _fit_exact(model: ImpactModel, *, seed: int, units: str) -> ImpactResult:
    random = generator(seed, "exact")
    level_sd, noise_sd, coefficient = sample_parameters(model, model.settings.n_exact_draws, random)
    draws = ParameterDraws(level_sd, noise_sd, coefficient)
    paths = simulate_counterfactual(model, draws, random)
    diagnostics: dict[str, Any] = {
        "engine": "exact",
        "sampler": None,
        "seed": seed,
        "n_draws": model.settings.n_exact_draws,
        "r_hat": None,
        "level_sd": float(level_sd.mean()),
        "noise_sd": float(noise_sd.mean()),
    }
    return summarise(
        model, draws, paths, method="exact", units=units, diagnostics=diagnostics,
        notes=_notes(model),
    )  # fmt: skip


def _fit_nuts(model: ImpactModel, *, seed: int, units: str) -> ImpactResult:
    from eo_causal.impact.posterior import check_convergence, diagnose, mcse_of_average
    from eo_causal.impact.structural import sample_nuts

    sampled, n_divergences, sampler = sample_nuts(model, seed=seed)
    convergence = diagnose(sampled, n_divergences)
    check_convergence(convergence, sampled)
    draws = ParameterDraws(
        sampled["level_sd"].to_numpy().ravel(),
        sampled["noise_sd"].to_numpy().ravel(),
        sampled["coefficient"].to_numpy().reshape(-1, len(model.coefficients)),
        int(sampled.sizes["chain"]),
    )
    paths = simulate_counterfactual(model, draws, generator(seed, "nuts", "paths"))
    average = _average_effect(model, paths)
    tail = (1 - model.settings.interval_level) / 2
    shaped = xr.DataArray(average.reshape(draws.n_chains, -1), dims=("chain", "draw"))
    errors = mcse_of_average(shaped, (tail, 1 - tail))
    agreement = compare_engines(model, exact_posterior(model), average, draws, errors)
    diagnostics: dict[str, Any] = {
        "engine": "nuts",
        "sampler": sampler,
        "seed": seed,
        **convergence,
        "ess_average": errors["ess"],
        "level_sd": float(draws.level_sd.mean()),
        "noise_sd": float(draws.noise_sd.mean()),
        "agreement_with_exact": agreement,
    }
    return summarise(
        model, draws, paths, method="nuts", units=units, diagnostics=diagnostics,
        notes=_notes(model),
    )  # fmt: skip


def _average_effect(model: ImpactModel, paths: Floats) -> Floats:
    """Per-draw average effect, on the log scale when the model is (any scale will compare)."""
    scored = model.scored_rows - model.n_pre_periods
    observed, predicted = model.observed[model.scored_rows], paths[:, scored]
    if model.settings.scale == "log":
        observed, predicted = np.log(observed), np.log(predicted)
    return (observed - predicted).mean(axis=1)


def compare_engines(
    model: ImpactModel,
    posterior: ExactPosterior,
    average: Floats,
    draws: ParameterDraws,
    errors: dict[str, float],
) -> dict[str, float]:
    """Sampled and exact posterior of one series must agree within Monte-Carlo error.

    Returns
    -------
    dict
        Each difference as a share of what is allowed; all at most 1.

    Raises
    ------
    FitError
        A share above 1 (or NaN), naming it.
    """
    exact = exact_effect(model, posterior)
    sd = exact["sd"]
    tail = (1 - model.settings.interval_level) / 2
    low, high = np.quantile(average, [tail, 1 - tail])
    p = exact["p_value"]
    sampled_p = min(float((average > 0).mean()), float((average < 0).mean()))
    shares = {
        "mean": abs(float(average.mean()) - exact["mean"]) / (3 * errors["mean"] + 0.01 * sd),
        "lower": abs(float(low) - exact["lower"]) / (3 * errors["lower"] + 0.05 * sd),
        "upper": abs(float(high) - exact["upper"]) / (3 * errors["upper"] + 0.05 * sd),
        "tail": abs(sampled_p - p) / (3 * math.sqrt(max(p * (1 - p), 0) / errors["ess"]) + 0.002),
    }
    for name, (mean, spread) in scale_moments(posterior).items():
        values = getattr(draws, name)
        monte_carlo = 3 * _mcse(values, draws.n_chains)
        shares[name] = abs(float(values.mean()) - mean) / (monte_carlo + 0.02 * spread)
    wrong = [name for name, share in shares.items() if not share <= 1]
    if wrong:
        raise FitError(
            f"NUTS and the exact posterior disagree in {', '.join(wrong)}; neither can be trusted."
            " Run more draws; if it stays, report it with the config.", shares=shares,
        )  # fmt: skip
    return shares


def _mcse(values: Floats, n_chains: int) -> float:
    from eo_causal.impact.posterior import mcse_of_average

    shaped = xr.DataArray(values.reshape(n_chains, -1), dims=("chain", "draw"))
    return mcse_of_average(shaped, (0.05, 0.95))["mean"]


def _notes(model: ImpactModel) -> tuple[str, ...]:
    notes = list(date_notes(model.settings))
    n_missing = len(model.post_rows) - len(model.scored_rows)
    if n_missing:
        notes.append(f"{n_missing} post periods are missing; sums run over observed periods.")
    return tuple(notes)
