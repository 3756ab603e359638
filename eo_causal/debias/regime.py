"""Is a contrast on a map to be corrected at all? The verdict belongs to a contrast, not to the map.

R1: treatment reaches the image only through the outcome (prediction independent of treatment given the
truth); contrasts are shrunken. R2: groups are defined by what the image sees (truth independent of
treatment given the prediction); contrasts are right as they are and a correction overshoots by 1/k.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.effect import Effect
from eo_causal.core.random import generator
from eo_causal.core.variance import interval, ols_covariance, p_value
from eo_causal.debias.base import (
    ASSUMED_REGIME,
    DIFFERENTIAL_ERROR,
    FEW_CLUSTERS,
    HETEROSKEDASTIC,
    SMALLEST_CLUSTERS,
    SMALLEST_SAMPLE,
    Floats,
    calibration_facts,
    check_support,
    outside_share,
)
from eo_causal.debias.card import CalibrationCard
from eo_causal.debias.choose import choose_corrector
from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.ppi import ppi_effect
from eo_causal.debias.tweedie import TweedieCorrection
from eo_causal.errors import DataError, EOCausalWarning

Verdict = Literal["none", "lcc", "tweedie", "bounds", "collect-labels"]
Method = Literal["lcc", "tweedie"]
ALPHA = 0.05
SMALLEST_PILOT = 200
KNOTS = (0.05, 0.35, 0.65, 0.95)
N_DRAWS = 1000  # resamples of groups
Z_LEVEL, Z_POWER = 1.959964, 0.841621
SPREAD_RATIO, SPREAD_ALPHA = 1.5, 0.01  # of residual sd between deciles of the prediction


@dataclass(frozen=True)
class Diagnosis:
    """Whether a contrast is to be corrected, and why.

    Attributes
    ----------
    verdict : str
        ``none``: report the map's own contrast. ``lcc``, ``tweedie``: correct. ``bounds``: report the
        union of the intervals of both. ``collect-labels``: labels in the trial are needed.
    evidence : str
        Sentences.
    table : DataFrame
        ``source`` (calibration, pilot, placebo), ``quantity``, ``part`` (decile, method or empty),
        ``estimate``, ``std_error``, ``lower``, ``upper``, ``p_value``.
    flags : tuple of str
    corrector : str
        What the map offers, ``lcc`` or ``tweedie``, whatever the verdict.
    ppi : Effect or None
        The pilot's own estimate, where the verdict is ``collect-labels``.
    """

    verdict: Verdict
    evidence: str
    table: pd.DataFrame
    flags: tuple[str, ...]
    corrector: Method
    ppi: Effect | None = None


class _Map(NamedTuple):
    slope: float
    r2: float
    truth_variance: float
    support: tuple[float, float]
    method: Method
    correct: Any  # (method, table) -> (n,) array
    rows: list[dict[str, Any]]
    flags: tuple[str, ...]


class _Opinion(NamedTuple):
    verdict: Verdict
    evidence: str
    flags: tuple[str, ...] = ()
    ppi: Effect | None = None


def diagnose(
    calibration: pd.DataFrame | CalibrationCard,
    trial: pd.DataFrame,
    *,
    pilot: pd.DataFrame | None = None,
    groups: pd.DataFrame | None = None,
    assignment: Literal["observed", "randomised"] = "observed",
    assume: Literal["R1", "R2"] | None = None,
    planned_effect: float | None = None,
    seed: int,
) -> Diagnosis:
    """Find out whether a trial's contrast on a map should be corrected; warns of its own flags.

    Parameters
    ----------
    calibration : DataFrame or CalibrationCard
        Pairs (``outcome``, ``prediction``, optional ``weight``, ``cluster``) of rows that the model did
        not learn from, or the card of the map.
    trial : DataFrame
        ``prediction``, ``treatment`` 0 or 1; optional ``cluster``, ``unit_id``.
    pilot : DataFrame, optional
        Labelled units of the trial: ``outcome``, ``prediction``, ``treatment``; optional ``cluster``,
        ``unit_id``, and ``fold`` for the card of several models. Below 200 rows it is reported only.
    groups : DataFrame, optional
        Labelled untreated places in groups like those of the design: ``outcome``, ``prediction``,
        ``group``. Says how existing differences look on the map; nothing about randomised treatments.
    assignment : str
        ``randomised`` rules placebo groups out as evidence.
    assume : str, optional
        ``R1`` or ``R2``: obeyed, and recorded as an assumption.
    planned_effect : float, optional
        In units of the outcome; for the number of labels that would decide.
    seed : int
        Seed of the run.

    Raises
    ------
    DataError, DegenerateError
        Pairs as :func:`eo_causal.debias.base.check_pairs`; columns that are absent, missing values, a
        treatment other than 0 and 1, one arm only, fewer than two groups.

    Notes
    -----
    Regimes after arXiv 2508.01341; tests by regression on a natural spline with 4 knots.
    """
    _check(trial, ("prediction", "treatment"), "trial")
    found = _map_of_card(calibration) if isinstance(calibration, CalibrationCard) else None
    seen = found or _map_of_pairs(calibration, seed)
    rows = [*seen.rows, _row("calibration", "outside_support_share",
                             outside_share(trial["prediction"], seen.support))]  # fmt: skip
    flags = [*seen.flags, *check_support(trial["prediction"], seen.support)]
    opinion: _Opinion | None = None
    if groups is not None:
        placebo_rows, opinion = _placebo(groups, seen, assignment, seed)
        rows += placebo_rows
    if pilot is not None:
        _check(pilot, ("outcome", "prediction", "treatment"), "pilot")
        pilot_rows, tested = _pilot(pilot, trial, seen, planned_effect)
        rows += pilot_rows
        opinion = tested or opinion
    if assume is not None:
        opinion = _assumed(assume, seen.method)
    opinion = opinion or _no_evidence(assignment, pilot, seen.method)
    flags += opinion.flags
    return Diagnosis(
        opinion.verdict, opinion.evidence, pd.DataFrame(rows), tuple(dict.fromkeys(flags)),
        seen.method, opinion.ppi,
    )  # fmt: skip


def differential_error(pilot: pd.DataFrame, slope: float | None = None) -> pd.DataFrame:
    """Does the map err otherwise where there was treatment? Calibrated effects are then off by delta/k.

    delta is the coefficient of treatment in prediction ~ g(outcome) + treatment, g a natural spline.
    Roofs, lights and paint that come with a programme make it.

    Parameters
    ----------
    pilot : DataFrame
        ``outcome``, ``prediction``, ``treatment``, optional ``cluster``.
    slope : float, optional
        k of the map's calibration; that of the pilot (within arms) by default.

    Returns
    -------
    DataFrame
        One row: ``n``, ``delta``, ``std_error``, ``p_value``, ``slope``, ``bias`` (delta/k),
        ``bias_std_error``.

    Raises
    ------
    DataError
        As :func:`diagnose`.
    """
    _check(pilot, ("outcome", "prediction", "treatment"), "pilot")
    y, x, treatment = _columns(pilot)
    if slope is None:
        design = np.column_stack([y, np.ones(len(y)), treatment])
        slope = float(np.linalg.lstsq(design, x)[0][0])
    delta, error, p = _treatment_coefficient(x, y, pilot)
    return pd.DataFrame(
        [{"n": len(pilot), "delta": delta, "std_error": error, "p_value": p, "slope": slope,
          "bias": delta / slope, "bias_std_error": error / slope}]
    )  # fmt: skip


def between_group_slope(groups: pd.DataFrame, *, seed: int) -> tuple[float, float, float]:
    """kappa, the slope of prediction on truth between groups, and its 95 % interval.

    Covariance over variance of ANOVA components: within-group mean squares are taken off, because raw
    group means still hold the noise of their places, which biases the slope down. The interval
    resamples groups; it is NaN where groups do not differ surely.

    Parameters
    ----------
    groups : DataFrame
        ``outcome``, ``prediction``, ``group``.
    seed : int
        Seed of the run.

    Raises
    ------
    DataError
        Missing values, or fewer than two groups of which one has two places.
    """
    _check(groups, ("outcome", "prediction", "group"), "groups")
    table = groups[["outcome", "prediction"]].astype(float)
    by = groups["group"].to_numpy()
    size = table.groupby(by).size().to_numpy(dtype=float)
    n_groups = len(size)
    if n_groups < 2 or size.sum() <= n_groups:
        raise DataError(
            f"{n_groups} groups of {len(table)} places; at least two are needed, with several places"
            " each. Use coarser groups.",
            n_groups=n_groups,
        )
    middle = table.mean()
    mean = (table.groupby(by).mean() - middle).to_numpy()
    within = (table - table.groupby(by).transform("mean")).to_numpy()
    products = np.stack([within[:, 0] ** 2, within[:, 0] * within[:, 1]], axis=1)
    inner = pd.DataFrame(products).groupby(by).sum().to_numpy()
    random = generator(seed, "between_group_slope")
    counts = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=N_DRAWS)
    everything = np.vstack([np.ones(n_groups), counts])
    variance, covariance = _components(everything, size, mean, inner)
    kappa = float(covariance[0] / variance[0])
    if not (variance > 0).mean() > 1 - ALPHA / 2 or not variance[0] > 0:
        return kappa, np.nan, np.nan
    kept = variance[1:] > 0
    lower, upper = np.quantile(
        covariance[1:][kept] / variance[1:][kept], (ALPHA / 2, 1 - ALPHA / 2)
    )
    return kappa, float(lower), float(upper)


def _components(
    counts: NDArray[Any], size: Floats, mean: Floats, inner: Floats
) -> tuple[Floats, Floats]:
    """Between-group variance of the truth and covariance with the prediction, one a row of counts."""
    n_groups = counts.sum(axis=1)
    n = counts @ size
    grand = counts @ (size[:, None] * mean) / n[:, None]
    squares = np.stack([mean[:, 0] ** 2, mean[:, 0] * mean[:, 1]], axis=1)
    correction = np.stack([grand[:, 0] ** 2, grand[:, 0] * grand[:, 1]], axis=1)
    between = counts @ (size[:, None] * squares) - n[:, None] * correction
    within = counts @ inner / (n - n_groups)[:, None]
    typical = (n - counts @ size**2 / n) / (n_groups - 1)
    component = (between / (n_groups - 1)[:, None] - within) / typical[:, None]
    return component[:, 0], component[:, 1]


def natural_spline(values: Floats, shares: tuple[float, ...] = KNOTS) -> Floats:
    """(n, knots) natural cubic spline: constant, line, and one bend less than inner intervals.

    Knots are quantiles; where they coincide there are fewer.
    """
    scaled = (values - values.mean()) / values.std()
    knots = np.unique(np.quantile(scaled, shares))
    basis = [np.ones(len(values)), scaled]
    if len(knots) > 2:
        cubes = [np.maximum(scaled - knot, 0) ** 3 for knot in knots]
        last = (cubes[-2] - cubes[-1]) / (knots[-1] - knots[-2])
        basis += [
            (cube - cubes[-1]) / (knots[-1] - knot) - last
            for cube, knot in zip(cubes[:-2], knots[:-2], strict=True)
        ]
    return np.stack(basis, axis=1)


def _treatment_coefficient(
    left: Floats, right: Floats, pilot: pd.DataFrame
) -> tuple[float, float, float]:
    """Coefficient, error and p-value of treatment in left ~ g(right) + treatment."""
    treatment = pilot["treatment"].to_numpy(dtype=float)
    design = np.column_stack([treatment, natural_spline(right)])
    return _first_coefficient(design, left, pilot)


def _first_coefficient(
    design: Floats, left: Floats, pilot: pd.DataFrame
) -> tuple[float, float, float]:
    codes = pd.factorize(pilot["cluster"])[0] if "cluster" in pilot else None
    n_clusters = None if codes is None else int(codes.max()) + 1
    coefficient = np.linalg.lstsq(design, left)[0]
    residual = left - design @ coefficient
    kind: Any = "HC2" if codes is None else "cluster"
    covariance = ols_covariance(design, residual, kind, cluster=codes)
    estimate, error = float(coefficient[0]), float(np.sqrt(covariance[0, 0]))
    return estimate, error, p_value(estimate, error, n_clusters)


def _pilot(
    pilot: pd.DataFrame, trial: pd.DataFrame, seen: _Map, planned_effect: float | None
) -> tuple[list[dict[str, Any]], _Opinion | None]:
    """Rows, and a verdict where the pilot is large enough."""
    y, x, treatment = _columns(pilot)
    first, second = _treatment_coefficient(x, y, pilot), _treatment_coefficient(y, x, pilot)
    audit = differential_error(pilot, seen.slope).iloc[0]
    rows = [
        _row("pilot", "treatment_given_truth", *first[:2], p=first[2]),
        _row("pilot", "treatment_given_prediction", *second[:2], p=second[2]),
        _row(
            "pilot", "bias_of_calibrated_effect", audit["bias"], audit["bias_std_error"], p=first[2]
        ),
    ]
    arms = np.column_stack([treatment, np.ones(len(y))])
    for method in ("naive", "lcc", "tweedie"):
        corrected = x if method == "naive" else seen.correct(method, pilot)
        rectifier = _first_coefficient(arms, corrected - y, pilot)
        rows.append(_row("pilot", "rectifier", *rectifier[:2], part=method, p=rectifier[2]))
    if len(pilot) < SMALLEST_PILOT:
        return rows, None
    text = (
        f"Pilot of {len(pilot)}: the prediction depends on treatment given the truth with p ="
        f" {first[2]:.3g} (R1), the truth on treatment given the prediction with p = {second[2]:.3g} (R2)."
    )
    r1, r2 = first[2] < ALPHA, second[2] < ALPHA
    flags: tuple[str, ...] = ()
    if r1:
        flags = (DIFFERENTIAL_ERROR,)
        _warn(
            f"Given the truth, predictions of treated places differ by {first[0]:.3g} (p ="
            f" {first[2]:.2g}, limit {ALPHA}): a calibrated effect is off by {audit['bias']:.3g}. Follow"
            " the verdict, and do not report the corrected effect alone.",
            DIFFERENTIAL_ERROR,
        )
    if r1 and r2:
        return rows, _Opinion(
            "bounds",
            f"{text} Both regimes are rejected: naive and {seen.method} bracket the effect.",
            flags,
        )
    if r1:
        return rows, _Opinion(
            "none",
            f"{text} Only R1 is rejected: the map's own contrast is right; do not correct.",
            flags,
        )
    if r2:
        return rows, _Opinion(
            seen.method, f"{text} Only R2 is rejected: the map's contrast is shrunken; correct."
        )
    wanted = _labels_needed(seen, float(trial["treatment"].mean()), planned_effect)
    return rows, _Opinion(
        "collect-labels", f"{text} Neither is rejected. {wanted}", ppi=_pilot_effect(pilot, trial)
    )


def _labels_needed(seen: _Map, share: float, planned_effect: float | None) -> str:
    if not planned_effect:
        return "Collect more labels in the trial; give planned_effect to learn how many."
    variance = share * (1 - share) * planned_effect**2 * (1 - seen.r2)
    n = int(np.ceil((Z_LEVEL + Z_POWER) ** 2 * seen.truth_variance / variance))
    return f"About {n} labelled units would decide if the effect is {planned_effect:g}."


def _pilot_effect(pilot: pd.DataFrame, trial: pd.DataFrame) -> Effect:
    """PPI++ of the pilot's labels and the rest of the trial."""
    rest = trial
    if "unit_id" in pilot and "unit_id" in trial:
        rest = trial[~trial["unit_id"].isin(pilot["unit_id"])]
    both = pd.concat([pilot, rest.assign(outcome=np.nan)], ignore_index=True)
    cluster = both["cluster"] if "cluster" in pilot and "cluster" in trial else None
    return ppi_effect(both["outcome"], both["prediction"], both["treatment"], cluster=cluster)


def _placebo(
    groups: pd.DataFrame, seen: _Map, assignment: str, seed: int
) -> tuple[list[dict[str, Any]], _Opinion | None]:
    kappa, lower, upper = between_group_slope(groups, seed=seed)
    rows = [_row("placebo", "between_group_slope", kappa, lower=lower, upper=upper)]
    if assignment == "randomised":
        return rows, None
    few = groups["group"].nunique() < SMALLEST_CLUSTERS
    flags = (FEW_CLUSTERS,) if few else ()
    text = (
        f"{groups['group'].nunique()} untreated groups: between them the prediction rises by {kappa:.3f}"
        f" [{lower:.3f}, {upper:.3f}] a unit of truth (k is {seen.slope:.3f})."
    )
    one, shrunken = (bool(lower <= value <= upper) for value in (1.0, seen.slope))
    if one and not shrunken:
        return rows, _Opinion(
            "none", f"{text} Existing differences are shown in full; do not correct.", flags
        )
    if shrunken and not one:
        return rows, _Opinion(
            seen.method,
            f"{text} Existing differences are shrunken by k; correct (placebo evidence).",
            flags,
        )
    return rows, _Opinion(
        "bounds", f"{text} That does not decide: naive and {seen.method} bracket the effect.", flags
    )


def _assumed(assume: Literal["R1", "R2"], method: Method) -> _Opinion:
    _warn(
        f"Regime {assume} is assumed, not tested. Label a pilot of at least {SMALLEST_PILOT} units to"
        " test it.",
        ASSUMED_REGIME,
    )
    verdict: Verdict = method if assume == "R1" else "none"
    return _Opinion(verdict, f"{assume} was assumed by the user.", (ASSUMED_REGIME,))


def _no_evidence(assignment: str, pilot: pd.DataFrame | None, method: Method) -> _Opinion:
    text = f"No evidence on the regime: naive and {method} bracket the effect."
    if pilot is not None:
        text += f" The pilot has {len(pilot)} rows; {SMALLEST_PILOT} are needed to use it."
    if assignment == "randomised":
        text += " Collect labels in the trial: groups without treatment say nothing about a randomised one."
    return _Opinion("bounds", text)


def _map_of_card(card: CalibrationCard) -> _Map:
    mean = card.folds.mean(numeric_only=True)
    rows = [
        _row("calibration", name, mean[name])
        for name in ("slope", "inverse_slope", "r2", "noise_variance", "tie_share")
    ]
    rows += _curve_rows(card.choice)
    return _Map(
        float(mean["slope"]), float(mean["r2"]), float(mean["truth_variance"]),
        (float(mean["support_lower"]), float(mean["support_upper"])), card.method,
        lambda method, table: _by_card(card, method, table), rows,
        card.flags,
    )  # fmt: skip


def _by_card(card: CalibrationCard, method: Method, table: pd.DataFrame) -> NDArray[Any]:
    """Corrected values; where the model is not named, the mean of all models' corrections."""
    if "fold" in table:
        return card.corrected(table["prediction"], table["fold"], method)
    columns = np.repeat(table[["prediction"]].to_numpy(dtype=float), len(card.folds), axis=1)
    return card.corrected(columns, method=method)


def _map_of_pairs(pairs: pd.DataFrame, seed: int) -> _Map:
    from scipy import stats

    _check(pairs, ("outcome", "prediction"), "calibration")
    truth, prediction = pairs["outcome"], pairs["prediction"]
    options: dict[str, Any] = {"weight": pairs.get("weight"), "cluster": pairs.get("cluster")}
    facts = calibration_facts(truth, prediction, **options)
    choice = choose_corrector(truth, prediction, **options, seed=seed)
    residual = (prediction - truth).to_numpy(dtype=float)
    rows = [
        _row("calibration", "slope", facts.slope, facts.slope_error),
        _row("calibration", "inverse_slope", facts.inverse_slope, facts.inverse_slope_error),
        *(
            _row("calibration", name, getattr(facts, name))
            for name in ("r2", "noise_variance", "tie_share")
        ),
        _row("calibration", "residual_skew", float(stats.skew(residual))),
        _row("calibration", "residual_kurtosis", float(stats.kurtosis(residual))),
        *_curve_rows(choice.curves),
    ]
    spread, flags = _residual_spread(prediction.to_numpy(dtype=float), residual)
    fitted: dict[str, Any] = {
        "lcc": LinearCalibration().fit(truth, prediction, **options),
        "tweedie": TweedieCorrection().fit(truth, prediction, **options),
    }
    method: Any = choice.method
    return _Map(
        facts.slope, facts.r2, facts.truth_variance, facts.support, method,
        lambda name, table: fitted[name].correct(table["prediction"]), rows + spread,
        facts.flags + flags,
    )  # fmt: skip


def _residual_spread(
    prediction: Floats, residual: Floats
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """sd of prediction - truth by decile of the prediction, and whether it changes."""
    from scipy import stats

    if len(prediction) < SMALLEST_SAMPLE:
        return [], ()
    decile = pd.qcut(pd.Series(prediction), 10, labels=False, duplicates="drop")
    parts = [(number, part.to_numpy()) for number, part in pd.Series(residual).groupby(decile)]
    deviation = [float(part.std()) for _, part in parts]
    rows = [
        _row("calibration", "residual_sd", value, part=str(int(number) + 1))
        for (number, _), value in zip(parts, deviation, strict=True)
    ]
    p = stats.levene(*(part for _, part in parts), center="median").pvalue if len(parts) > 1 else 1
    if not (p < SPREAD_ALPHA and max(deviation) > SPREAD_RATIO * min(deviation)):
        return rows, ()
    _warn(
        f"The error's sd changes from {min(deviation):.3g} to {max(deviation):.3g} over deciles of the"
        f" prediction (ratio limit {SPREAD_RATIO}). Expect a few per cent of bias in Tweedie's"
        " correction; look at the decile curve.",
        HETEROSKEDASTIC,
    )
    return rows, (HETEROSKEDASTIC,)


def _curve_rows(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Held-out mean of corrected value minus truth by decile of the truth, one row a method."""
    return [
        _row("calibration", f"held_out_bias_{method}", value, part=str(decile))
        for method in ("naive", "lcc", "tweedie")
        for decile, value in zip(curves["decile"], curves[method], strict=True)
    ]


def _row(
    source: str, quantity: str, estimate: float, std_error: float = np.nan, *, part: str = "",
    p: float = np.nan, lower: float = np.nan, upper: float = np.nan,
) -> dict[str, Any]:  # fmt: skip
    if np.isfinite(std_error):
        lower, upper = interval(estimate, std_error)
    return {
        "source": source, "quantity": quantity, "part": part, "estimate": float(estimate),
        "std_error": std_error, "lower": lower, "upper": upper, "p_value": p,
    }  # fmt: skip


def _columns(pilot: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """outcome, prediction, treatment"""
    y, x, treatment = pilot[["outcome", "prediction", "treatment"]].to_numpy(dtype=float).T
    return y, x, treatment


def _check(table: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    absent = [column for column in columns if column not in table]
    if absent:
        raise DataError(
            f"The {name} table has no column {', '.join(absent)}; it has {', '.join(table.columns)}.",
            columns=absent,
        )
    bad = {
        column: int((~np.isfinite(table[column].to_numpy(dtype=float))).sum())
        for column in columns
        if column != "group"
    }
    if any(bad.values()) or table[list(columns)].isna().any(axis=None):
        raise DataError(
            f"The {name} table has missing or infinite values: {bad}. Leave these rows out.", **bad
        )
    if "treatment" in columns:
        found = sorted(set(table["treatment"]))
        if found != [0, 1]:
            raise DataError(
                f"Treatment in the {name} table is {found[:5]}; both 0 and 1 are needed. Code treated"
                " units 1, the others 0.",
                treatment=found[:5],
            )


def _warn(text: str, flag: str) -> None:
    warnings.warn(EOCausalWarning(text, flag), stacklevel=4)
