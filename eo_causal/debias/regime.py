"""Is a contrast on a map to be corrected at all? The verdict belongs to a contrast, not to the map.

R1: treatment reaches the image only through the outcome (prediction independent of treatment given the
truth); contrasts are shrunken. R2: groups are defined by what the image sees (truth independent of
treatment given the prediction); contrasts are right as they are and a correction overshoots by 1/k.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.effect import Effect
from eo_causal.debias.base import (
    ASSUMED_REGIME,
    HETEROSKEDASTIC,
    SMALLEST_SAMPLE,
    calibration_facts,
    check_support,
    outside_share,
)
from eo_causal.debias.card import CalibrationCard
from eo_causal.debias.choose import choose_corrector
from eo_causal.debias.evidence import (
    KnownMap,
    Method,
    Opinion,
    Verdict,
    check_table,
    evidence_row,
    warn,
)
from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.pairs import Floats
from eo_causal.debias.pilot import SMALLEST_PILOT, pilot_evidence
from eo_causal.debias.placebo_groups import placebo_evidence
from eo_causal.debias.tweedie import TweedieCorrection

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
        Pairs as :func:`eo_causal.debias.pairs.check_pairs`; columns that are absent, missing values, a
        treatment other than 0 and 1, one arm only, fewer than two groups.

    Notes
    -----
    Regimes after arXiv 2508.01341; tests by regression on a natural spline with 4 knots.
    """
    check_table(trial, ("prediction", "treatment"), "trial")
    found = _map_of_card(calibration) if isinstance(calibration, CalibrationCard) else None
    seen = found or _map_of_pairs(calibration, seed)
    outside = outside_share(trial["prediction"], seen.support)
    rows = [*seen.rows, evidence_row("calibration", "outside_support_share", outside)]
    flags = [*seen.flags, *check_support(trial["prediction"], seen.support)]
    opinion: Opinion | None = None
    if groups is not None:
        placebo_rows, opinion = placebo_evidence(groups, seen, assignment, seed)
        rows += placebo_rows
    if pilot is not None:
        check_table(pilot, ("outcome", "prediction", "treatment"), "pilot")
        pilot_rows, tested = pilot_evidence(pilot, trial, seen, planned_effect)
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


def _assumed(assume: Literal["R1", "R2"], method: Method) -> Opinion:
    warn(
        f"Regime {assume} is assumed, not tested. Label a pilot of at least {SMALLEST_PILOT} units to"
        " test it.",
        ASSUMED_REGIME,
    )
    verdict: Verdict = method if assume == "R1" else "none"
    return Opinion(verdict, f"{assume} was assumed by the user.", (ASSUMED_REGIME,))


def _no_evidence(assignment: str, pilot: pd.DataFrame | None, method: Method) -> Opinion:
    text = f"No evidence on the regime: naive and {method} bracket the effect."
    if pilot is not None:
        text += f" The pilot has {len(pilot)} rows; {SMALLEST_PILOT} are needed to use it."
    if assignment == "randomised":
        text += " Collect labels in the trial: groups without treatment say nothing about a randomised one."
    return Opinion("bounds", text)


def _map_of_card(card: CalibrationCard) -> KnownMap:
    mean = card.folds.mean(numeric_only=True)
    rows = [
        evidence_row("calibration", name, mean[name])
        for name in ("slope", "inverse_slope", "r2", "noise_variance", "tie_share")
    ]
    rows += _curve_rows(card.choice)
    return KnownMap(
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


def _map_of_pairs(pairs: pd.DataFrame, seed: int) -> KnownMap:
    from scipy import stats

    check_table(pairs, ("outcome", "prediction"), "calibration")
    truth, prediction = pairs["outcome"], pairs["prediction"]
    options: dict[str, Any] = {"weight": pairs.get("weight"), "cluster": pairs.get("cluster")}
    facts = calibration_facts(truth, prediction, **options)
    choice = choose_corrector(truth, prediction, **options, seed=seed)
    residual = (prediction - truth).to_numpy(dtype=float)
    rows = [
        evidence_row("calibration", "slope", facts.slope, facts.slope_error),
        evidence_row(
            "calibration", "inverse_slope", facts.inverse_slope, facts.inverse_slope_error
        ),
        *(
            evidence_row("calibration", name, getattr(facts, name))
            for name in ("r2", "noise_variance", "tie_share")
        ),
        evidence_row("calibration", "residual_skew", float(stats.skew(residual))),
        evidence_row("calibration", "residual_kurtosis", float(stats.kurtosis(residual))),
        *_curve_rows(choice.curves),
    ]
    spread, flags = _residual_spread(prediction.to_numpy(dtype=float), residual)
    fitted: dict[str, Any] = {
        "lcc": LinearCalibration().fit(truth, prediction, **options),
        "tweedie": TweedieCorrection().fit(truth, prediction, **options),
    }
    method: Any = choice.method
    return KnownMap(
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
        evidence_row("calibration", "residual_sd", value, part=str(int(number) + 1))
        for (number, _), value in zip(parts, deviation, strict=True)
    ]
    p = stats.levene(*(part for _, part in parts), center="median").pvalue if len(parts) > 1 else 1
    if not (p < SPREAD_ALPHA and max(deviation) > SPREAD_RATIO * min(deviation)):
        return rows, ()
    warn(
        f"The error's sd changes from {min(deviation):.3g} to {max(deviation):.3g} over deciles of the"
        f" prediction (ratio limit {SPREAD_RATIO}). Expect a few per cent of bias in Tweedie's"
        " correction; look at the decile curve.",
        HETEROSKEDASTIC,
    )
    return rows, (HETEROSKEDASTIC,)


def _curve_rows(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Held-out mean of corrected value minus truth by decile of the truth, one row a method."""
    return [
        evidence_row("calibration", f"held_out_bias_{method}", value, part=str(decile))
        for method in ("naive", "lcc", "tweedie")
        for decile, value in zip(curves["decile"], curves[method], strict=True)
    ]
