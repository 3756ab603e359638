"""What must hold before an effect is believed: folds, leakage, overlap, calibration, trials."""

import warnings

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.folds import Folds, check_separate
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError, EOCausalWarning, LeakageError, OverlapError
from eo_causal.estimate.propensity import Slope, area_under_curve

Floats = NDArray[np.float64]
HIGHEST_AUC = 0.995


class CheckSettings(Settings):
    """When propensities are a warning, and when an error."""

    warn_clipped: float = Field(default=0.02, gt=0, lt=1, description="share of clipped units")
    most_clipped: float = Field(default=0.20, gt=0, lt=1, description="share that is an error")
    least_effective: float = Field(
        default=0.05, ge=0, lt=1, description="effective size of an arm over its size: error below"
    )
    slope: tuple[float, float] = Field(
        default=(0.8, 1.25), description="calibration slopes that need no warning"
    )
    least_groups: int = Field(
        default=2, ge=2, description="image keys or blocks of each arm a training part must hold"
    )
    trial_shift: float = Field(
        default=0.1, gt=0, description="move from the difference in means, in sd of the outcome"
    )


def check_folds(units: StudyUnits, folds: Folds, least_groups: int) -> None:
    """Every training part holds both arms and shares no image with its test part.

    Raises
    ------
    DataError
        Constant treatment or outcome, or too few groups of an arm in a training part.
    LeakageError
        An image is in both parts of a fold.
    """
    treatment, outcome = units.treatment, units.outcome
    if not (np.ptp(treatment) > 0 and np.ptp(outcome) > 0):
        raise DataError(
            f"{int(treatment.sum())} of {len(units)} units are treated and the outcome goes from"
            f" {outcome.min():g} to {outcome.max():g}: an effect needs both arms and an outcome that"
            " varies. Check the columns treatment and outcome.",
            n=len(units), n_treated=int(treatment.sum()),
        )  # fmt: skip
    keys = np.unique(units.table["image_key"].to_numpy(dtype=str), return_inverse=True)[1]
    check_separate(folds, keys, np.empty((0, 2), dtype=np.intp))
    for split in range(folds.n_splits):
        for fold, (training, _) in enumerate(folds.pairs(split)):
            for arm, name in ((1, "treated"), (0, "untreated")):
                rows = training[treatment[training] == arm]
                n_groups = len(np.unique(folds.group[rows]))
                if n_groups < least_groups:
                    raise DataError(
                        f"Fold {fold} of split {split} learns from {len(rows)} {name} units in"
                        f" {n_groups} group(s) of places; {least_groups} are the least, so that penalties"
                        " can be chosen. Set fewer folds, or a smaller folds.block_km.",
                        n_units=len(rows), n_groups=n_groups,
                    )  # fmt: skip


def check_separation(arm: str, units: StudyUnits, propensity: Floats) -> None:
    """Treatment is not predicted perfectly.

    Raises
    ------
    LeakageError
        Out-of-fold AUC above .995; names the covariates that tell most by themselves.
    """
    found = area_under_curve(units.treatment, propensity)
    if found <= HIGHEST_AUC:
        return
    table = units.covariates.fillna(units.covariates.median())
    alone = {
        str(name): abs(area_under_curve(units.treatment, table[name].to_numpy(dtype=float)) - 0.5)
        for name in table
    }
    columns = sorted(alone, key=lambda name: -alone[name])[:3]
    suspects = f" Covariates that tell most: {', '.join(columns)}." if columns else ""
    raise LeakageError(
        f"{arm}: models predict the treatment of units they have not seen with AUC {found:.4f}, above"
        f" {HIGHEST_AUC}: something was measured after treatment or encodes it.{suspects} List such"
        " columns under covariates.exclude, or use imagery from before treatment.",
        arm=arm, auc=found, columns=columns,
    )  # fmt: skip


def judge_overlap(
    arm: str, clipped: float, effective: dict[str, float], at: float, settings: CheckSettings
) -> None:
    """Warn of weak overlap; refuse estimates that would rest on a few units.

    Parameters
    ----------
    clipped : float
        Share of clipped propensities.
    effective : dict
        ``treated`` and ``untreated``: effective sample size over the number of units.
    at : float
        Propensities are clipped to [at, 1 - at].

    Raises
    ------
    OverlapError
        More units clipped, or fewer effective ones, than the settings allow.
    """
    remedy = (
        "The arms differ too much in what is adjusted for: leave this arm out, use fewer components"
        " (nuisance.n_components), or study places where both arms occur."
    )
    if not clipped <= settings.most_clipped:
        raise OverlapError(
            f"{arm}: {clipped:.1%} of propensities are outside [{at:g}, {1 - at:g}]; at most"
            f" {settings.most_clipped:.0%} may be. {remedy}", arm=arm, clipped=clipped,
        )  # fmt: skip
    for who, share in effective.items():
        if not share >= settings.least_effective:
            raise OverlapError(
                f"{arm}: weighting leaves {share:.1%} of the {who} units effective; at least"
                f" {settings.least_effective:.0%} are needed. {remedy}", arm=arm, effective=share,
            )  # fmt: skip
    if clipped > settings.warn_clipped:
        _warn(
            f"{arm}: {clipped:.1%} of propensities were clipped to [{at:g}, {1 - at:g}]; there the"
            " estimate leans on its outcome models.", "OverlapWarning",
        )  # fmt: skip


def judge_calibration(arm: str, slope: Slope, settings: CheckSettings) -> None:
    """Warn where propensities are too bold or too timid, beyond the error of their slope."""
    if slope.is_outside(*settings.slope):
        bold = "bold" if slope.estimate < 1 else "timid"
        _warn(
            f"{arm}: propensities are too {bold}: their calibration slope is {slope.estimate:.2f} (SE"
            f" {slope.std_error:.2f}), outside {list(settings.slope)}. Set nuisance.recalibration to"
            " logistic.", "CalibrationWarning",
        )  # fmt: skip


def judge_trial_shift(shifts: dict[str, float], settings: CheckSettings) -> None:
    """Warn where adjustment moves a randomised comparison, which it should leave where it is.

    Parameters
    ----------
    shifts : dict
        Arm and estimator -> estimate minus difference in means, in sd of the outcome.
    """
    far = {name: shift for name, shift in shifts.items() if not abs(shift) <= settings.trial_shift}
    if far:
        listed = ", ".join(f"{name} {shift:+.2f}" for name, shift in far.items())
        _warn(
            f"treatment was randomised, and yet adjustment moves the effect by more than"
            f" {settings.trial_shift:g} sd of the outcome ({listed}). Trust the difference in means, and"
            " look for leakage or weak overlap.", "TrialShiftWarning",
        )  # fmt: skip


def warn_of_smoothing(label_smoothing: float, recalibration: str) -> None:
    """Say that smoothed labels move propensities, hence effects, unless they are recalibrated."""
    if label_smoothing > 0 and recalibration == "none":
        _warn(
            f"label_smoothing {label_smoothing:g} pulls propensities towards 1/2 and biases weighted"
            " estimates. Set it to 0, or nuisance.recalibration to logistic.",
            "LabelSmoothingWarning",
        )  # fmt: skip


def _warn(message: str, code: str) -> None:
    warnings.warn(EOCausalWarning(message, code), stacklevel=3)
