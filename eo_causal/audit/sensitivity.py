"""How strong would a hidden confounder have to be to overturn an estimate?"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.audit.bounds import (
    LARGEST_GAMMA,
    LARGEST_LAMBDA,
    Sample,
    breakdown_strength,
    implied_strength,
    manski_bounds,
    matched_pairs,
    proxy_curve,
    rosenbaum_gamma,
    rosenbaum_p,
    sensitivity_bounds,
)
from eo_causal.audit.divergence_bounds import divergence_bounds
from eo_causal.audit.report import AuditReport, not_run
from eo_causal.core.display import show_number, show_p
from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.core.variance import interval, mean_std_error

Floats = NDArray[np.float64]
Part = Literal["robustness_value", "e_value", "rosenbaum", "marginal", "manski", "divergence"]
FEWEST_PAIRS = 10
FEWEST_LEARNERS = 3
IMAGES = "the images"


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
    nuisances: pd.DataFrame,
    arm: str,
    without: dict[str, str],
    settings: SensitivitySettings,
    leading: list[float] | None = None,
    learners: pd.DataFrame | None = None,
) -> SensitivityResult:
    """All parts asked for, the proxy curve and the range over learners, on the headline arm.

    A part warns when: the robustness value at alpha is not above the strongest benchmark; the E-value
    of the interval is 1; Rosenbaum's Gamma is 1; the Lambda at zero is not above the largest that
    leaving something out implies; images that show half of their confounder's variance would have
    left the whole effect; learners differ by more than two standard errors. None fails.

    Parameters
    ----------
    units : StudyUnits
    nuisances : DataFrame
        Out-of-fold ``propensity`` (clipped), ``mu0``, ``mu1`` and ``fold`` by ``arm``, in the order of
        the units.
    arm : str
        Of the headline.
    without : dict
        What was left out ("the images") -> the arm without it: the measure of strength. Arms that are
        not there are passed over.
    settings : SensitivitySettings
    leading : list of float, optional
        Leading component of the embedding by unit, a benchmark beside the covariates.
    learners : DataFrame, optional
        See :func:`learner_range`.
    """
    by_arm = {str(name): rows for name, rows in nuisances.groupby("arm", sort=False)}
    sample, level = _sample(units, by_arm[arm]), 1 - settings.alpha
    others = {
        name: _sample(units, by_arm[other])
        for name, other in without.items()
        if other in by_arm and other != arm
    }
    found, bounds = [], pd.DataFrame()
    if "robustness_value" in settings.parts:
        observed = units.covariates
        if leading is not None:
            observed = observed.assign(**{"the leading component of the images": leading})
        found.append(_robustness(sample, observed, settings.alpha))
    if "e_value" in settings.parts:
        found.append(_e_value(sample, level))
    if "rosenbaum" in settings.parts:
        found.append(rosenbaum_report(sample, settings.alpha))
    if "marginal" in settings.parts:
        bounds = sensitivity_bounds(sample, settings.odds, settings.support, level)
        found.append(_marginal(sample, bounds, others, level))
    if "manski" in settings.parts:
        found.append(_manski(sample, settings.support, level))
    if "divergence" in settings.parts:
        found.append(_divergence(sample, settings.support))
    found.append(_proxy(sample, others.get(IMAGES), level))
    found.append(learner_range(learners))
    count(sensitivity_parts=len(found))
    return SensitivityResult(tuple(found), bounds)


def _sample(units: StudyUnits, nuisance: pd.DataFrame) -> Sample:
    propensity, mu0, mu1 = nuisance[["propensity", "mu0", "mu1"]].to_numpy(dtype=float).T
    fold = nuisance["fold"].to_numpy(dtype=np.intp)
    return Sample(units.treatment, units.outcome, propensity, mu0, mu1, fold, units.cluster)


def robustness_value(
    t: float, df: float, q: float = 1.0, alpha: float | None = None, inflation: float = 1.0
) -> float:
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
    inflation : float
        A standard error that allows for clusters, over the one in ``t``, which does not.

    Notes
    -----
    Cinelli and Hazlett: f = q |t| / sqrt(df), less the critical value over sqrt(df - 1) with
    ``alpha``; RV = (sqrt(f^4 + 4 f^2) - f^2) / 2.
    """
    from scipy.stats import t as student

    f = q * abs(t) / np.sqrt(df)
    if alpha is not None:
        f -= inflation * student.ppf(1 - alpha / 2, df - 1) / np.sqrt(df - 1)
    return _equal_strength(f) if f > 0 else 0.0


def benchmark_strength(r2_outcome: float, r2_treatment: float) -> float:
    """The partial R2, the same with both, whose bias is that of these two; what an RV compares to."""
    return _equal_strength(float(np.sqrt(r2_outcome * r2_treatment / (1 - r2_treatment))))


def _equal_strength(f: float) -> float:
    """R that solves R / sqrt(1 - R) = f."""
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


def rosenbaum_report(sample: Sample, alpha: float) -> AuditReport:
    """Matched pairs and the Gamma at which their two-sided signed-rank test passes alpha.

    Two-sided: twice the p towards the AIPW effect. The direction comes from the data, so one side
    alone would find an effect of nothing in 2 alpha of all studies.
    """
    pairs = matched_pairs(sample.treatment, sample.propensity)
    untreated, treated = sample.arm_scores
    differences = sample.outcome[pairs[:, 0]] - sample.outcome[pairs[:, 1]]
    signed = differences if treated.mean() >= untreated.mean() else -differences
    n_differ = int((differences != 0).sum())
    if n_differ < FEWEST_PAIRS:
        reason = (
            f"Only {n_differ} of {len(pairs)} pairs matched on the propensity differ in outcome;"
            f" the signed-rank test needs {FEWEST_PAIRS}."
        )
        return not_run("rosenbaum", reason)
    gamma, p = rosenbaum_gamma(signed, alpha / 2), min(1.0, 2 * rosenbaum_p(signed))
    text = f"In {len(pairs):,} pairs matched on the propensity the signed-rank test gives p {show_p(p)}"
    if gamma == 1:
        text += ", so that no hidden difference is needed to explain it."
    else:
        text += (
            f"; it stays below {alpha:g} while hidden differences move the odds within pairs by less"
            f" than Γ = {_shown(gamma, LARGEST_GAMMA)}."
        )
    table = pd.DataFrame(
        {"check": ["rosenbaum"], "n_pairs": len(pairs), "p_value": p, "gamma": gamma}
    )
    status: Literal["pass", "warn"] = "pass" if gamma > 1 else "warn"
    return AuditReport("rosenbaum", status, text, table.replace(np.inf, np.nan))


def learner_range(table: pd.DataFrame | None) -> AuditReport:
    """Smallest and largest AIPW estimate over all pairs of learners.

    Parameters
    ----------
    table : DataFrame or None
        propensity, outcome (names of learners), estimate, std_error; one row a pair. With fewer
        than three of either, or a pair that is missing, the audit is not run.
    """
    if table is None:
        return not_run(
            "learner_range", "The range over learners needs estimates by several of them."
        )
    sizes = [table[column].nunique() for column in ("propensity", "outcome")]
    pairs = len(table[["propensity", "outcome"]].drop_duplicates())
    if min(sizes) < FEWEST_LEARNERS or pairs < sizes[0] * sizes[1]:
        return not_run(
            "learner_range",
            f"The range over learners needs all pairs of at least {FEWEST_LEARNERS} propensity and"
            f" {FEWEST_LEARNERS} outcome learners; there are {pairs} pairs of {sizes[0]} and {sizes[1]}.",
        )
    low, high = float(table["estimate"].min()), float(table["estimate"].max())
    errors = (high - low) / float(table["std_error"].max())
    differ = not errors <= 2
    text = (
        f"Over {pairs} pairs of {sizes[0]} propensity and {sizes[1]} outcome learners the effect lies"
        f" between {show_number(low)} and {show_number(high)}, {errors:.1f} standard errors apart."
    )
    flags = ("learner_disagreement",) if differ else ()
    return AuditReport("learner_range", "warn" if differ else "pass", text, table, flags)


def _robustness(sample: Sample, covariates: pd.DataFrame, alpha: float) -> AuditReport:
    """On the regression of outcome residuals on treatment residuals, beside observed covariates."""
    expected = sample.propensity * sample.mu1 + (1 - sample.propensity) * sample.mu0
    treated, moved = sample.treatment - sample.propensity, sample.outcome - expected
    estimate = float(treated @ moved / (treated @ treated))
    df = len(treated) - 2
    left = moved - estimate * treated
    error = float(np.sqrt(left @ left / df / (treated @ treated)))
    clustered = mean_std_error(treated * left / (treated**2).mean(), sample.cluster)
    t = estimate / error
    value = robustness_value(t, df)
    significant = robustness_value(t, df, alpha=alpha, inflation=clustered / error)
    rows = [
        {"check": "robustness value", "value": value},
        {"check": f"robustness value at {alpha:g}", "value": significant},
    ]
    strongest = None
    for name, (r2_treatment, r2_outcome) in _benchmarks(sample, covariates).items():
        both = benchmark_strength(r2_outcome, r2_treatment)
        rows.append({"check": f"as strong as {name}", "value": both})
        if strongest is None or both > strongest[1]:
            strongest = (name, both)
    text = (
        f"A hidden confounder must explain {value:.1%} of what is left of treatment and of outcome to"
        f" take the estimate away, {significant:.1%} to make it insignificant."
    )
    weak = not significant > 0
    if strongest is not None:
        text += f" One as strong as {strongest[0]} would explain {strongest[1]:.1%}."
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


def _e_value(sample: Sample, level: float) -> AuditReport:
    """Of the estimate, and of the end of its interval that is nearer to no effect."""
    untreated, treated = sample.arm_scores
    means = float(untreated.mean()), float(treated.mean())
    if np.isin(sample.outcome, (0, 1)).all():
        if not min(means) > 0:
            reason = (
                f"A mean outcome is {min(means):.3g}, so that there is no risk ratio (E-value)."
            )
            return not_run("e_value", reason)
        log_ratio = float(np.log(means[1] / means[0]))
        influence = treated / means[1] - untreated / means[0]
    else:
        scale = np.log(approximate_risk_ratio(1.0)) / sample.outcome.std()
        influence = scale * (treated - untreated)
        log_ratio = float(influence.mean())
    error = mean_std_error(influence, sample.cluster)
    ends = interval(log_ratio, error, level, sample.n_clusters)
    nearer = 0.0 if ends[0] <= 0 <= ends[1] else min(ends, key=abs)
    ratio = float(np.exp(log_ratio))
    value, of_interval = e_value(ratio), e_value(float(np.exp(nearer)))
    text = (
        f"As a risk ratio the effect is about {show_number(ratio)}; a hidden confounder would need risk"
        f" ratios of {show_number(value)} with treatment and with outcome to explain it away"
        f" (E-value), and of {show_number(of_interval)} to bring no effect into its interval."
    )
    table = pd.DataFrame(
        {"check": ["e_value"], "risk_ratio": ratio, "e_value": value, "of_interval": of_interval}
    )
    return AuditReport("e_value", "pass" if of_interval > 1 else "warn", text, table)


def _marginal(
    sample: Sample, bounds: pd.DataFrame, others: dict[str, Sample], level: float
) -> AuditReport:
    """Against what leaving parts out implies for 95 % of the units; for all of them in the table."""
    breakdown = breakdown_strength(sample, level)
    rows: list[dict[str, str | float]] = [{"check": "interval reaches zero", "lambda": breakdown}]
    implied = {}
    for name, other in others.items():
        implied[name], largest = (
            implied_strength(sample.propensity, other.propensity, share) for share in (0.95, 1.0)
        )
        rows.append({"check": f"leaving out {name}", "lambda": implied[name], "largest": largest})
    strongest = max(implied.values(), default=1.0)
    text = (
        f"The interval holds zero once a hidden confounder may move the odds of treatment by a factor"
        f" of Λ = {_shown(breakdown, LARGEST_LAMBDA)}."
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


def _proxy(sample: Sample, without: Sample | None, level: float) -> AuditReport:
    """What is left of the effect if the images show only a part of their confounder."""
    if without is None:
        return not_run(
            "proxy", "The proxy curve needs the headline arm and one without its images."
        )
    scores, blind = (one.arm_scores[1] - one.arm_scores[0] for one in (sample, without))
    curve = proxy_curve(scores, blind, sample.cluster, level=level)
    curve.insert(0, "check", [f"correlation {value:g}" for value in curve["correlation"]])
    kept, removed = float(scores.mean()), float((blind - scores).mean())
    critical = float(np.sqrt(removed / (removed + kept))) if removed * kept > 0 else 0.0
    text = f"The images moved the effect from {show_number(kept + removed)} to {show_number(kept)}."
    if critical > 0:
        text += (
            f" If they show their confounder with a correlation of only {critical:.2f}, what they left"
            " of it would explain the rest."
        )
    else:
        text += " What they left of their confounder would only move it further from zero."
    weak = critical**2 > 0.5
    return AuditReport("proxy", "warn" if weak else "pass", text, curve)


def _shown(value: float, largest: float) -> str:
    return show_number(value) if np.isfinite(value) else f"{largest:g}, the largest tried"
