"""What labelled units of the trial say: whether the map errs otherwise where there was treatment."""

from typing import Any

import numpy as np
import pandas as pd

from eo_causal.core.effect import Effect
from eo_causal.core.variance import ols_covariance, p_value
from eo_causal.debias.base import DIFFERENTIAL_ERROR
from eo_causal.debias.evidence import ALPHA, KnownMap, Opinion, check_table, evidence_row, warn
from eo_causal.debias.pairs import Floats
from eo_causal.debias.ppi import ppi_effect

SMALLEST_PILOT = 200
KNOTS = (0.05, 0.35, 0.65, 0.95)
Z_LEVEL, Z_POWER = 1.959964, 0.841621


def pilot_evidence(
    pilot: pd.DataFrame, trial: pd.DataFrame, seen: KnownMap, planned_effect: float | None
) -> tuple[list[dict[str, Any]], Opinion | None]:
    """Rows of the table, and a verdict where the pilot is large enough; warns of a differential error."""
    y, x, treatment = _columns(pilot)
    first, second = _treatment_coefficient(x, y, pilot), _treatment_coefficient(y, x, pilot)
    audit = differential_error(pilot, seen.slope).iloc[0]
    rows = [
        evidence_row("pilot", "treatment_given_truth", *first[:2], p=first[2]),
        evidence_row("pilot", "treatment_given_prediction", *second[:2], p=second[2]),
        evidence_row(
            "pilot", "bias_of_calibrated_effect", audit["bias"], audit["bias_std_error"], p=first[2]
        ),
    ]
    arms = np.column_stack([treatment, np.ones(len(y))])
    for method in ("naive", "lcc", "tweedie"):
        corrected = x if method == "naive" else seen.correct(method, pilot)
        rectifier = _first_coefficient(arms, corrected - y, pilot)
        rows.append(evidence_row("pilot", "rectifier", *rectifier[:2], part=method, p=rectifier[2]))
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
        warn(
            f"Given the truth, predictions of treated places differ by {first[0]:.3g} (p ="
            f" {first[2]:.2g}, limit {ALPHA}): a calibrated effect is off by {audit['bias']:.3g}. Follow"
            " the verdict, and do not report the corrected effect alone.",
            DIFFERENTIAL_ERROR,
        )
    if r1 and r2:
        return rows, Opinion(
            "bounds",
            f"{text} Both regimes are rejected: naive and {seen.method} bracket the effect.",
            flags,
        )
    if r1:
        return rows, Opinion(
            "none",
            f"{text} Only R1 is rejected: the map's own contrast is right; do not correct.",
            flags,
        )
    if r2:
        return rows, Opinion(
            seen.method, f"{text} Only R2 is rejected: the map's contrast is shrunken; correct."
        )
    wanted = _labels_needed(seen, float(trial["treatment"].mean()), planned_effect)
    return rows, Opinion(
        "collect-labels", f"{text} Neither is rejected. {wanted}", ppi=_pilot_effect(pilot, trial)
    )


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
        Columns that are absent, missing values, a treatment other than 0 and 1, one arm only.
    """
    check_table(pilot, ("outcome", "prediction", "treatment"), "pilot")
    y, x, treatment = _columns(pilot)
    if slope is None:
        design = np.column_stack([y, np.ones(len(y)), treatment])
        slope = float(np.linalg.lstsq(design, x)[0][0])
    delta, error, p = _treatment_coefficient(x, y, pilot)
    return pd.DataFrame(
        [{"n": len(pilot), "delta": delta, "std_error": error, "p_value": p, "slope": slope,
          "bias": delta / slope, "bias_std_error": error / slope}]
    )  # fmt: skip


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


def _labels_needed(seen: KnownMap, share: float, planned_effect: float | None) -> str:
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


def _columns(pilot: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """outcome, prediction, treatment"""
    y, x, treatment = pilot[["outcome", "prediction", "treatment"]].to_numpy(dtype=float).T
    return y, x, treatment
