"""How strong would a hidden confounder have to be to overturn an estimate?"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.audit.bounds import (
    Sample,
    breakdown_strength,
    implied_strength,
    manski_bounds,
    sensitivity_bounds,
)
from eo_causal.audit.divergence_bounds import divergence_bounds
from eo_causal.audit.report import AuditReport, not_run
from eo_causal.core.display import show_number, show_p
from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits

Floats = NDArray[np.float64]
Part = Literal["robustness_value", "e_value", "rosenbaum", "marginal", "manski", "divergence"]
CALIPER = 0.2  # standard deviations of the logit propensity
LARGEST_GAMMA = 20.0


class SensitivitySettings(Settings):
    """Which questions are asked of hidden confounding."""

    parts: tuple[Part, ...] = Field(
        default=("robustness_value", "e_value", "rosenbaum", "marginal", "manski"),
        description="divergence adds information-theoretic bounds, which contain Manski's",
    )
    odds: tuple[Annotated[float, Field(ge=1)], ...] = Field(
        default=(1.0, 1.25, 1.5, 2.0, 3.0), min_length=1,
        description="Lambda: how far a hidden confounder may move the odds of treatment",
    )  # fmt: skip
    support: tuple[float, float] | None = Field(
        default=None, description="smallest and largest value the outcome can take"
    )
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05

    @model_validator(mode="after")
    def _bounded(self) -> "SensitivitySettings":
        if self.support is None and "divergence" in self.parts:
            raise ValueError(
                "parts: divergence needs `support`; without it its bounds are infinite"
            )
        if self.support is not None and not self.support[0] < self.support[1]:
            raise ValueError(f"support: {list(self.support)} is empty")
        return self


@dataclass(frozen=True)
class SensitivityResult:
    """The pack.

    Attributes
    ----------
    reports : tuple of AuditReport
    bounds : DataFrame
        lambda, lower, upper, interval_lower, interval_upper, binding; empty when not asked for.
    """

    reports: tuple[AuditReport, ...]
    bounds: pd.DataFrame


def sensitivity_pack(
    units: StudyUnits,
    nuisance: pd.DataFrame,
    without: dict[str, list[float]],
    settings: SensitivitySettings,
) -> SensitivityResult:
    """All parts asked for, on the headline arm.

    Parameters
    ----------
    units : StudyUnits
    nuisance : DataFrame
        Out-of-fold ``propensity`` (clipped), ``mu0``, ``mu1`` and ``fold``, in the order of the units.
    without : dict
        What was left out ("the images") -> propensities without it: the measure of strength.
    settings : SensitivitySettings
    """
    propensity, mu0, mu1 = nuisance[["propensity", "mu0", "mu1"]].to_numpy(dtype=float).T
    fold = nuisance["fold"].to_numpy(dtype=np.intp)
    sample = Sample(units.treatment, units.outcome, propensity, mu0, mu1, fold, units.cluster)
    level = 1 - settings.alpha
    implied = {
        name: implied_strength(sample.propensity, np.asarray(values))
        for name, values in without.items()
    }
    found, bounds = [], pd.DataFrame()
    if "robustness_value" in settings.parts:
        found.append(_robustness(sample, units.covariates, settings.alpha))
    if "e_value" in settings.parts:
        found.append(_e_value(sample))
    if "rosenbaum" in settings.parts:
        found.append(rosenbaum_report(sample, settings.alpha))
    if "marginal" in settings.parts:
        bounds = sensitivity_bounds(sample, settings.odds, settings.support, level)
        found.append(_marginal(sample, bounds, implied, level))
    if "manski" in settings.parts:
        found.append(_manski(sample, settings.support, level))
    if "divergence" in settings.parts:
        found.append(_divergence(sample, settings.support))
    count(sensitivity_parts=len(found))
    return SensitivityResult(tuple(found), bounds)


def robustness_value(t: float, df: float, q: float = 1.0, alpha: float | None = None) -> float:
    """Partial R2 with treatment and outcome a confounder needs to take q of the estimate away.

    Parameters
    ----------
    t : float
        t statistic of the treatment.
    df : float
        Residual degrees of freedom.
    q : float
        Share of the estimate.
    alpha : float, optional
        To make it insignificant at this level instead.

    Notes
    -----
    Cinelli and Hazlett: f = q |t| / sqrt(df), less the critical value over sqrt(df - 1) with
    ``alpha``; RV = (sqrt(f^4 + 4 f^2) - f^2) / 2.
    """
    from scipy.stats import t as student

    f = q * abs(t) / np.sqrt(df)
    if alpha is not None:
        f -= student.ppf(1 - alpha / 2, df - 1) / np.sqrt(df - 1)
    if not f > 0:
        return 0.0
    return float((np.sqrt(f**4 + 4 * f**2) - f**2) / 2)


def partial_r2(t: float, df: float) -> float:
    """Partial R2 of a regressor with this t statistic: t^2 / (t^2 + df)."""
    return float(t**2 / (t**2 + df))


def confounding_bias(std_error: float, df: float, r2_outcome: float, r2_treatment: float) -> float:
    """Absolute bias of a confounder with these partial R2 (Cinelli and Hazlett)."""
    return float(std_error * np.sqrt(df * r2_outcome * r2_treatment / (1 - r2_treatment)))


def e_value(risk_ratio: float) -> float:
    """Risk ratio a confounder needs with treatment and outcome to explain this one away."""
    ratio = risk_ratio if risk_ratio >= 1 else 1 / risk_ratio
    return float(ratio + np.sqrt(ratio * (ratio - 1)))


def approximate_risk_ratio(difference: float) -> float:
    """exp(0.91 d) of a difference d in standard deviations of the outcome."""
    return float(np.exp(0.91 * difference))


def rosenbaum_p(differences: Floats, gamma: float = 1.0) -> float:
    """Largest one-sided p of the signed-rank test when odds within pairs differ up to ``gamma``.

    Normal approximation without continuity correction; zero differences are left out.

    Parameters
    ----------
    differences : (pair,) array
        Treated less untreated; the test is against no effect, towards positive ones.
    gamma : float
        At least 1.
    """
    from scipy.stats import norm, rankdata

    moved = differences[differences != 0]
    ranks = rankdata(np.abs(moved))
    chance = gamma / (1 + gamma)
    mean, variance = chance * ranks.sum(), chance * (1 - chance) * (ranks**2).sum()
    return float(norm.sf((ranks[moved > 0].sum() - mean) / np.sqrt(variance)))


def rosenbaum_gamma(differences: Floats, alpha: float = 0.05) -> float:
    """Gamma at which the p of :func:`rosenbaum_p` passes alpha; 1 where it has from the start."""
    if rosenbaum_p(differences) >= alpha:
        return 1.0
    if rosenbaum_p(differences, LARGEST_GAMMA) < alpha:
        return float("inf")
    from scipy.optimize import brentq

    return float(brentq(lambda gamma: rosenbaum_p(differences, gamma) - alpha, 1, LARGEST_GAMMA))


def matched_pairs(treatment: Floats, propensity: Floats) -> NDArray[np.intp]:
    """(pair, 2) treated and untreated positions: greedy nearest neighbours on the logit propensity.

    Without replacement, treated units with the largest propensity first, within 0.2 standard
    deviations of the logit.
    """
    logit = np.log(propensity / (1 - propensity))
    caliper = CALIPER * logit.std()
    treated = np.flatnonzero(treatment == 1)
    free = np.flatnonzero(treatment == 0)
    free = free[np.argsort(logit[free], kind="stable")]
    pairs = []
    for unit in treated[np.argsort(-logit[treated], kind="stable")]:
        if not len(free):
            break
        at = int(np.searchsorted(logit[free], logit[unit]))
        near = [place for place in (at - 1, at) if 0 <= place < len(free)]
        best = min(near, key=lambda place: abs(logit[free[place]] - logit[unit]))
        if abs(logit[free[best]] - logit[unit]) <= caliper:
            pairs.append((unit, free[best]))
            free = np.delete(free, best)
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def rosenbaum_report(sample: Sample, alpha: float) -> AuditReport:
    """Matched pairs and the Gamma at which their signed-rank test is no longer significant."""
    pairs = matched_pairs(sample.treatment, sample.propensity)
    if len(pairs) < 10:
        return not_run("rosenbaum", f"only {len(pairs)} pairs could be matched on the propensity")
    differences = sample.outcome[pairs[:, 0]] - sample.outcome[pairs[:, 1]]
    signed = differences if np.median(differences) >= 0 else -differences
    gamma, p = rosenbaum_gamma(signed, alpha), rosenbaum_p(signed)
    text = (
        f"In {len(pairs):,} pairs matched on the propensity the signed-rank test gives p {show_p(p)};"
        f" it stays below {alpha:g} while hidden differences move the odds within pairs by less than"
        f" Γ = {show_number(gamma)}."
    )
    table = pd.DataFrame(
        {"check": ["rosenbaum"], "n_pairs": len(pairs), "p_value": p, "gamma": gamma}
    )
    status: Literal["pass", "warn"] = "pass" if gamma > 1 else "warn"
    return AuditReport("rosenbaum", status, text, table.replace(np.inf, np.nan))


def _robustness(sample: Sample, covariates: pd.DataFrame, alpha: float) -> AuditReport:
    """On the regression of outcome residuals on treatment residuals, beside observed covariates."""
    expected = sample.propensity * sample.mu1 + (1 - sample.propensity) * sample.mu0
    treated, moved = sample.treatment - sample.propensity, sample.outcome - expected
    estimate = float(treated @ moved / (treated @ treated))
    df = len(treated) - 2
    error = float(np.sqrt(((moved - estimate * treated) ** 2).sum() / df / (treated @ treated)))
    t = estimate / error
    value, significant = robustness_value(t, df), robustness_value(t, df, alpha=alpha)
    rows = [
        {"check": "robustness value", "value": value},
        {"check": f"robustness value at {alpha:g}", "value": significant},
    ]
    strongest = None
    for name, (r2_treatment, r2_outcome) in _benchmarks(sample, covariates).items():
        both = float(np.sqrt(r2_treatment * r2_outcome))
        rows.append({"check": f"as strong as {name}", "value": both})
        if strongest is None or both > strongest[1]:
            strongest = (name, both)
    text = (
        f"A hidden confounder must explain {value:.1%} of what is left of treatment and of outcome to"
        f" take the estimate away, {significant:.1%} to make it insignificant."
    )
    weak = not significant > 0
    if strongest is not None:
        text += f" The strongest covariate, {strongest[0]}, explains {strongest[1]:.1%} (geometric mean)."
        weak = not significant > strongest[1]
    return AuditReport("robustness_value", "warn" if weak else "pass", text, pd.DataFrame(rows))


def _benchmarks(sample: Sample, covariates: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Partial R2 of each covariate with treatment and with outcome, given the others."""
    filled = covariates.fillna(covariates.median())
    found = {}
    for name in filled.columns:
        others = filled.drop(columns=name).to_numpy(dtype=float)
        column = filled[name].to_numpy(dtype=float)
        with_treatment = np.column_stack([others, sample.treatment])
        found[str(name)] = (
            _partial(column, sample.treatment, others),
            _partial(column, sample.outcome, with_treatment),
        )
    return found


def _partial(one: Floats, other: Floats, given: Floats) -> float:
    """Squared partial correlation given columns and an intercept."""
    design = np.column_stack([np.ones(len(one)), given])
    left, right = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (one, other))
    size = float((left @ left) * (right @ right))
    return float((left @ right) ** 2 / size) if size > 1e-20 else 0.0


def _e_value(sample: Sample) -> AuditReport:
    spread = float(sample.outcome.std())
    effect = _aipw(sample)
    ratio = approximate_risk_ratio(effect / spread)
    value = e_value(ratio)
    text = (
        f"As a risk ratio the effect is about {show_number(ratio)}; a hidden confounder would need risk"
        f" ratios of {show_number(value)} with treatment and with outcome to explain it away (E-value)."
    )
    table = pd.DataFrame({"check": ["e_value"], "risk_ratio": ratio, "e_value": value})
    return AuditReport("e_value", "pass", text, table)


def _marginal(
    sample: Sample, bounds: pd.DataFrame, implied: dict[str, float], level: float
) -> AuditReport:
    breakdown = breakdown_strength(sample, level)
    rows = [{"check": "interval reaches zero", "lambda": breakdown}]
    rows += [{"check": f"leaving out {name}", "lambda": value} for name, value in implied.items()]
    strongest = max(implied.values(), default=1.0)
    text = (
        f"The interval holds zero once a hidden confounder may move the odds of treatment by a factor"
        f" of Λ = {show_number(breakdown)}."
    )
    if implied:
        said = ", ".join(f"{name} {show_number(value)}" for name, value in implied.items())
        text += f" What was observed moves the odds of 95 % of the units by less than: {said}."
    flags = ("manski_binding",) if (bounds["binding"] == "Manski").any() else ()
    status: Literal["pass", "warn"] = "pass" if breakdown > max(strongest, 1.0) else "warn"
    table = pd.DataFrame(rows).replace(np.inf, np.nan)
    return AuditReport("marginal_sensitivity", status, text, table, flags)


def _manski(sample: Sample, support: tuple[float, float] | None, level: float) -> AuditReport:
    if support is None:
        return not_run(
            "manski", "Manski bounds need audit.sensitivity.support, the range of the outcome."
        )
    found = manski_bounds(sample, support, level)
    text = (
        f"Without any assumption but its range the effect lies between {show_number(found['lower'])}"
        f" and {show_number(found['upper'])} (Manski)."
    )
    return AuditReport("manski", "pass", text, pd.DataFrame([{"check": "manski"} | found]))


def _divergence(sample: Sample, support: tuple[float, float] | None) -> AuditReport:
    arms = {}
    for arm in (0, 1):
        values = np.sort(sample.outcome[sample.treatment == arm])
        weights = np.full(len(values), 1 / len(values))
        arms[arm] = divergence_bounds(
            values, weights, float((sample.treatment == arm).mean()), support
        )
    table = arms[1][["bound"]].assign(
        lower=arms[1]["lower"] - arms[0]["upper"], upper=arms[1]["upper"] - arms[0]["lower"]
    )
    text = "Bounds from the divergence that the shares of the arms allow; each contains Manski's."
    return AuditReport("divergence", "pass", text, table)


def _aipw(sample: Sample) -> float:
    treated, e = sample.treatment, sample.propensity
    scores = sample.mu1 - sample.mu0 + treated * (sample.outcome - sample.mu1) / e
    scores -= (1 - treated) * (sample.outcome - sample.mu0) / (1 - e)
    return float(scores.mean())
