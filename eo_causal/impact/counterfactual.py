"""From parameter draws to counterfactual paths, effects, and the result of an impact estimate.

Effects follow Brodersen et al. (2015): per posterior draw over the observed post periods, so that
the interval of the average is the quantiles of per-draw averages, never the mean of monthly bounds.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.core.effect import Effect
from eo_causal.impact.model import Floats, ImpactModel, ImpactSettings
from eo_causal.impact.summary import report_text, summary_text

N_FITTED_DRAWS = 400


@dataclass(frozen=True)
class ParameterDraws:
    """Posterior draws on the standardised scale; ``sample`` runs over chain and draw.

    Attributes
    ----------
    level_sd, noise_sd : (sample,) arrays
    coefficient : (sample, q) array
    n_chains : int
        Samples are ordered chain by chain.
    """

    level_sd: Floats
    noise_sd: Floats
    coefficient: Floats
    n_chains: int = 1


@dataclass(frozen=True)
class ImpactResult:
    """What an intervention changed in one series.

    Attributes
    ----------
    method : str
        ``exact``, ``nuts`` or ``ucm_mle``.
    units : str
        Units of the outcome.
    average, cumulative, relative : Effect
        Average and summed effect in ``units``, relative effect as a fraction.
    p_value : float
        One-sided posterior tail-area probability (Brodersen et al. 2015), or the z-test's p in
        paper mode.
    p_value_mcse : float or None
        Monte-Carlo standard error of ``p_value``.
    series : DataFrame
        By period: response, point_pred, point_effect, cum_effect ... with _lower and _upper.
    table : DataFrame
        Rows average and cumulative; columns actual, predicted, abs_effect, rel_effect, ...
    draws : Dataset or None
        ``counterfactual``, ``effect``, ``effect_cumulative`` (chain, draw, time),
        ``effect_relative`` and parameters (chain, draw).
    diagnostics : dict
        How it was computed, and how well.
    settings : ImpactSettings
        What was asked for.
    notes : tuple of str
        Sentences a reader must see beside the numbers.
    """

    method: str
    units: str
    average: Effect
    cumulative: Effect
    relative: Effect
    p_value: float
    p_value_mcse: float | None
    series: pd.DataFrame
    table: pd.DataFrame
    draws: xr.Dataset | None
    diagnostics: dict[str, Any]
    settings: ImpactSettings
    notes: tuple[str, ...]

    def scaled(self, factor: float, units: str) -> "ImpactResult":
        """The same result in other units, for display; draws stay as they are."""
        relative = [
            name for name in self.table if name.startswith("rel_") or name in ("p", "alpha")
        ]
        table = self.table * factor
        table[relative] = self.table[relative]
        return dataclasses.replace(
            self, units=units, average=self.average.scaled(factor, units),
            cumulative=self.cumulative.scaled(factor, units), series=self.series * factor, table=table,
        )  # fmt: skip

    def summary(self, output: Literal["summary", "report"] = "summary") -> str:
        """The CausalImpact-style table as text, or the prose of :meth:`report`."""
        return self.report() if output == "report" else summary_text(self)

    def report(self, checks: tuple[Any, ...] = ()) -> str:
        """Four paragraphs of prose; ``checks`` are CheckResults to be taken into account."""
        return report_text(self, checks)

    def plot(self) -> Any:
        """Three panels: observed and counterfactual, pointwise effect, cumulative effect."""
        from eo_causal.impact.plot import plot_impact

        return plot_impact(self.series, self.units, str(self.diagnostics["intervention"]))


def simulate_counterfactual(
    model: ImpactModel, draws: ParameterDraws, random: np.random.Generator
) -> Floats:
    """Counterfactual paths for every draw and post period, in the outcome's units.

    The level at the last pre period is drawn from its exact conditional normal; then follow
    random-walk steps, the regression, and fresh observation noise, which is part of what would
    have been observed.

    Returns
    -------
    (sample, post period) array
    """
    post = model.post_rows
    variance = (draws.noise_sd**2)[:, None] + (draws.level_sd**2)[:, None] * model.eigenvalues
    residual = model.rotated_outcome - draws.coefficient @ model.rotated_design.T
    kappa = model.rotated_offsets
    signal = draws.level_sd**2
    mean = signal * ((residual / variance) @ kappa)
    spread = signal * (model.last_offset - signal * ((1 / variance) @ kappa**2))
    n_samples = len(draws.level_sd)
    start = mean + np.sqrt(np.clip(spread, 0, None)) * random.standard_normal(n_samples)
    steps = draws.level_sd[:, None] * random.standard_normal((n_samples, len(post)))
    level = start[:, None] + np.cumsum(steps, axis=1)
    noise = draws.noise_sd[:, None] * random.standard_normal((n_samples, len(post)))
    return model.unscale(level + draws.coefficient @ model.design[post].T + noise)


def fitted_pre_period(model: ImpactModel, draws: ParameterDraws) -> tuple[Floats, Floats]:
    """Mean and sd of the fitted values in every pre period, standardised scale.

    The sd holds parameter uncertainty, level uncertainty and observation noise; it is for display.
    """
    chosen = np.linspace(0, len(draws.level_sd) - 1, N_FITTED_DRAWS).astype(int)
    level_sd, noise_sd = draws.level_sd[chosen], draws.noise_sd[chosen]
    coefficient = draws.coefficient[chosen]
    n_pre = model.n_pre_periods
    cross = np.minimum.outer(model.offsets[:n_pre], model.offsets[model.pre_rows]) @ model.rotation
    variance = (noise_sd**2)[:, None] + (level_sd**2)[:, None] * model.eigenvalues
    residual = model.rotated_outcome - coefficient @ model.rotated_design.T
    level = (level_sd**2)[:, None] * ((residual / variance) @ cross.T)
    explained = (level_sd**4)[:, None] * ((1 / variance) @ (cross**2).T)
    left = np.clip((level_sd**2)[:, None] * model.offsets[:n_pre] - explained, 0, None)
    fitted = level + coefficient @ model.design[:n_pre].T
    total = fitted.var(axis=0) + (left + (noise_sd**2)[:, None]).mean(axis=0)
    return fitted.mean(axis=0), np.sqrt(total)


def summarise(
    model: ImpactModel,
    draws: ParameterDraws,
    counterfactual: Floats,
    *,
    method: str,
    units: str,
    diagnostics: dict[str, Any],
    notes: tuple[str, ...],
) -> ImpactResult:
    """Effects, tables and series from counterfactual draws.

    Parameters
    ----------
    counterfactual : (sample, post period) array
        In ``units``, from :func:`simulate_counterfactual`.
    """
    level = model.settings.interval_level
    scored = model.scored_rows - model.n_pre_periods
    observed = model.observed[model.scored_rows]
    predicted = counterfactual[:, scored]
    m = len(scored)
    effect_draws = observed - predicted
    average = effect_draws.mean(axis=1)
    if model.settings.scale == "log":
        relative = np.expm1((np.log(observed) - np.log(predicted)).mean(axis=1))
    else:
        relative = observed.sum() / predicted.sum(axis=1) - 1
    sums = predicted.sum(axis=1)
    p_value = tail_probability(sums, float(observed.sum()))
    ess = float(diagnostics.get("ess_average") or len(sums))
    mcse = float(np.sqrt(p_value * (1 - p_value) / ess))

    def effect(values: Floats, unit: str, label: str) -> Effect:
        low, high = quantiles(values, level)
        return Effect(
            float(values.mean()), float(values.std(ddof=1)), (low, high), level, label, m,
            ess, unit, p_value,
        )  # fmt: skip

    relative_label = f"{method}, geometric" if model.settings.scale == "log" else method
    return ImpactResult(
        method=method,
        units=units,
        average=effect(average, units, method),
        cumulative=effect(average * m, units, method),
        relative=effect(relative, "1", relative_label),
        p_value=p_value,
        p_value_mcse=mcse,
        series=_series(model, draws, counterfactual, level),
        table=_table(observed, predicted, relative, p_value, level),
        draws=_dataset(model, draws, counterfactual, relative),
        diagnostics={
            "intervention": str(model.index[model.n_pre_periods].date()),
            "n_pre": len(model.pre_rows),
            "n_post": m,
            "n_missing_pre": model.n_pre_periods - len(model.pre_rows),
            "n_missing_post": len(model.post_rows) - m,
            **diagnostics,
        },
        settings=model.settings,
        notes=notes,
    )


def tail_probability(sums: Floats, observed: float) -> float:
    """One-sided tail-area probability; at least 1 / (n + 1), so it never prints 0."""
    above, below = int((sums >= observed).sum()), int((sums <= observed).sum())
    return (min(above, below) + 1) / (len(sums) + 1)


def quantiles(values: Floats, level: float) -> tuple[float, float]:
    """Equal-tailed interval of draws."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _table(
    observed: Floats, predicted: Floats, relative: Floats, p_value: float, level: float
) -> pd.DataFrame:
    rows = {}
    m = len(observed)
    for name, factor in (("average", 1.0), ("cumulative", float(m))):
        actual = float(observed.mean()) * factor
        expected = predicted.mean(axis=1) * factor
        row = {"actual": actual}
        for label, values in (
            ("predicted", expected),
            ("abs_effect", actual - expected),
            ("rel_effect", relative),
        ):
            low, high = quantiles(values, level)
            row |= {
                label: float(values.mean()),
                f"{label}_lower": low,
                f"{label}_upper": high,
                f"{label}_sd": float(values.std(ddof=1)),
            }
        rows[name] = row | {"p": p_value, "alpha": 1 - level}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("effect")


def _series(
    model: ImpactModel, draws: ParameterDraws, counterfactual: Floats, level: float
) -> pd.DataFrame:
    from scipy.special import ndtri

    n_pre = model.n_pre_periods
    fitted, spread = fitted_pre_period(model, draws)
    width = float(ndtri((1 + level) / 2)) * spread
    tails = [(1 - level) / 2, (1 + level) / 2]
    low_post, high_post = np.quantile(counterfactual, tails, axis=0)
    post_mean = counterfactual.mean(axis=0)
    table = pd.DataFrame(index=model.index.rename("time"))
    response = model.observed
    table["response"] = response
    table["cum_response"] = np.nancumsum(response)
    table["point_pred"] = np.concatenate([model.unscale(fitted), post_mean])
    table["point_pred_lower"] = np.concatenate([model.unscale(fitted - width), low_post])
    table["point_pred_upper"] = np.concatenate([model.unscale(fitted + width), high_post])
    table["point_effect"] = response - table["point_pred"]
    table["point_effect_lower"] = response - table["point_pred_upper"]
    table["point_effect_upper"] = response - table["point_pred_lower"]

    seen = np.isfinite(response[n_pre:])
    effect = np.where(seen, response[n_pre:] - counterfactual, 0.0)
    running = np.cumsum(effect, axis=1)
    low, high = np.quantile(running, tails, axis=0)
    zeros = np.zeros(n_pre)
    table["cum_effect"] = np.concatenate([zeros, running.mean(axis=0)])
    table["cum_effect_lower"] = np.concatenate([zeros, low])
    table["cum_effect_upper"] = np.concatenate([zeros, high])
    for suffix, other in (("", ""), ("_lower", "_upper"), ("_upper", "_lower")):
        table[f"cum_pred{suffix}"] = table["cum_response"] - table[f"cum_effect{other}"]
    return table


def _dataset(
    model: ImpactModel, draws: ParameterDraws, counterfactual: Floats, relative: Floats
) -> xr.Dataset:
    n_chains = draws.n_chains
    n_draws = len(draws.level_sd) // n_chains
    response = model.observed[model.n_pre_periods :]
    seen = np.isfinite(response)
    effect = response - counterfactual
    running = np.cumsum(np.where(seen, effect, 0.0), axis=1)

    def shaped(values: Floats) -> Floats:
        return values.reshape(n_chains, n_draws, *values.shape[1:])

    paths = ("chain", "draw", "time")
    return xr.Dataset(
        {
            "counterfactual": (paths, shaped(counterfactual)),
            "effect": (paths, shaped(effect)),
            "effect_cumulative": (paths, shaped(running)),
            "effect_relative": (("chain", "draw"), shaped(relative)),
            "level_sd": (("chain", "draw"), shaped(draws.level_sd)),
            "noise_sd": (("chain", "draw"), shaped(draws.noise_sd)),
            "coefficient": (("chain", "draw", "covariate"), shaped(draws.coefficient)),
        },
        coords={
            "time": model.index[model.n_pre_periods :],
            "covariate": list(model.coefficients),
            "chain": np.arange(n_chains),
            "draw": np.arange(n_draws),
        },
        attrs={
            "parameters": "level_sd, noise_sd and coefficient are on the standardised scale",
            "outcome_mean": model.centre,
            "outcome_sd": model.spread,
        },
    )
