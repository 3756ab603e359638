"""Average effects by several data arms in one call: same units, same folds, one table.

An arm is what the models may see: ``tabular`` (covariates), ``image:NAME`` (the features, or the
finished predictions of a network, that are called NAME), ``image:NAME+tabular`` (both).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.core.effect import Effect
from eo_causal.core.folds import Folds
from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.errors import ConfigError
from eo_causal.estimate import arm_tables
from eo_causal.estimate.arm_tables import FittedArm
from eo_causal.estimate.ate import Estimated, Estimator, difference_in_means, estimate
from eo_causal.estimate.checks import (
    CheckSettings,
    check_folds,
    check_separation,
    judge_trial_shift,
    warn_of_smoothing,
)
from eo_causal.estimate.combine import (
    UNADJUSTED,
    ErrorModel,
    Kind,
    differences_table,
    effects_table,
)
from eo_causal.estimate.fit_arms import Arm, fit_arms, study_of
from eo_causal.estimate.nuisance import Features, NuisanceSettings

Floats = NDArray[np.float64]
TABULAR, IMAGE, WITH_TABULAR = "tabular", "image:", "+tabular"


class AteSettings(Settings):
    """Which arms and estimators, and how uncertainty is stated."""

    arms: tuple[str, ...] | None = Field(
        default=None, description="tabular, image:NAME, image:NAME+tabular; null = all there are"
    )
    estimators: tuple[Estimator, ...] = Field(
        default=("aipw", "hajek", "horvitz_thompson", "overlap"), min_length=1,
        description="the first is the one to report",
    )  # fmt: skip
    clip: float = Field(default=0.01, gt=0, lt=0.5, description="propensities within [c, 1 - c]")
    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of intervals")
    std_error: Kind = Field(
        default="auto", description="iid, cluster or conley; auto = cluster where units share one"
    )
    cutoff_km: float | None = Field(
        default=None, gt=0, description="distance beyond which errors are independent, for conley"
    )
    randomised: bool = Field(default=False, description="treatment was assigned at random")
    design_probability: float | None = Field(
        default=None, gt=0, lt=1,
        description="known probability of treatment in a trial; then models of it only check",
    )  # fmt: skip
    nuisance: NuisanceSettings = NuisanceSettings()
    checks: CheckSettings = CheckSettings()

    @model_validator(mode="after")
    def _known_probability_is_a_trial(self) -> "AteSettings":
        if self.design_probability is not None and not self.randomised:
            raise ValueError("design_probability is known in trials only; set randomised: true")
        return self


@dataclass(frozen=True)
class AteResult:
    """Effects of all arms, and what speaks for and against each.

    Attributes
    ----------
    effects : DataFrame
        arm, estimator, estimate, std_error, lower, upper, p_value, n, n_effective, split_low,
        split_high, estimand, errors. The arm ``unadjusted`` is the difference in means.
    arms : DataFrame
        arm, log_loss, auc, calibration_slope, ess_treated, ess_control, clipped_share,
        largest_smd_before, largest_smd_after, n_features, penalty; means over splits.
    differences : DataFrame
        arm_a, arm_b, estimator, estimate, std_error, lower, upper.
    balance : DataFrame
        arm, variable, smd_before, smd_after.
    calibration : DataFrame
        arm, bin, predicted, observed, n.
    overlap : DataFrame
        arm, treated, low, high, n.
    nuisance : DataFrame
        unit_id, arm, fold, propensity, mu0, mu1, aipw_score, clipped; first split.
    splits : DataFrame
        split, arm, estimator, estimate, std_error.
    level : float
        Of the intervals.
    """

    effects: pd.DataFrame
    arms: pd.DataFrame
    differences: pd.DataFrame
    balance: pd.DataFrame
    calibration: pd.DataFrame
    overlap: pd.DataFrame
    nuisance: pd.DataFrame
    splits: pd.DataFrame
    level: float = 0.95

    def effect(self, arm: str, estimator: str = "aipw", units: str = "1") -> Effect:
        """One row of ``effects``.

        Raises
        ------
        ConfigError
            No such arm or estimator.
        """
        wanted = (self.effects["arm"] == arm) & (self.effects["estimator"] == estimator)
        if not wanted.any():
            known = ", ".join(
                f"{row.arm} {row.estimator}" for row in self.effects.itertuples(index=False)
            )
            raise ConfigError(f"no effect of arm {arm} by {estimator}; there are: {known}.")
        row = self.effects[wanted].iloc[0]
        return Effect(
            row["estimate"], row["std_error"], (row["lower"], row["upper"]), self.level,
            f"{estimator}, {arm}, {row['estimand']}, {row['errors']}", int(row["n"]),
            row["n_effective"], units, row["p_value"],
        )  # fmt: skip


def estimate_ate(
    units: StudyUnits,
    folds: Folds,
    image_keys: list[str],
    features: dict[str, Features],
    predictions: dict[str, pd.DataFrame],
    settings: AteSettings,
    *,
    seed: int,
) -> AteResult:
    """Cross-fitted average effects of all arms on all splits.

    Parameters
    ----------
    units : StudyUnits
    folds : Folds
        See :func:`eo_causal.core.folds.make_folds`.
    image_keys : list of str
        Keys of the chips that features are of, in their order.
    features : dict
        Name -> callable from positions of training chips to (chip, feature) values of all chips.
    predictions : dict
        Name -> out-of-fold predictions on the same folds: split, unit_id, propensity, mu0, mu1; all
        splits or the first ones.
    settings : AteSettings

    Returns
    -------
    AteResult

    Raises
    ------
    ConfigError
        An arm that is not there, or errors that lack a setting.
    DataError
        Units without an image or with missing features; too few units of an arm, or clusters.
    LeakageError
        A model that predicts treatment all but perfectly; folds that share an image.
    OverlapError
        Treated and untreated units that hardly overlap.

    Warns
    -----
    EOCausalWarning
        ``OverlapWarning``, ``CalibrationWarning``, ``LabelSmoothingWarning``,
        ``TrialShiftWarning``.
    """
    arms = choose_arms(settings.arms, units, features, predictions)
    errors = ErrorModel.of(units, settings.std_error, settings.cutoff_km)
    check_folds(units, folds, settings.checks.least_groups)
    warn_of_smoothing(settings.nuisance.label_smoothing, settings.nuisance.recalibration)
    study = study_of(units, folds, image_keys, arms, features)
    nuisances, components = fit_arms(
        arms, study, folds, features, predictions, settings.nuisance, seed
    )
    fitted = [
        FittedArm.of(
            arm.name, nuisances[arm.name], components[arm.name], settings.clip,
            settings.design_probability,
        )
        for arm in arms
    ]  # fmt: skip
    for arm in fitted:
        for nuisance in arm.nuisances:
            check_separation(arm.name, units, nuisance.propensity)
    balance = arm_tables.balances(fitted, units)
    table, slopes = arm_tables.arms_table(fitted, units, balance)
    if settings.design_probability is None:
        arm_tables.judge_arms(table, slopes, units.treatment, settings.clip, settings.checks)
    found = _estimates(fitted, units, settings.estimators)
    effects, splits = effects_table(found, errors, settings.level)
    if settings.randomised:
        judge_trial_shift(_shifts(effects, units.outcome), settings.checks)
    count(
        units=len(units),
        arms=len(fitted),
        propensities=sum(arm.used.size for arm in fitted),
        propensities_clipped=sum(int(arm.clipped.sum()) for arm in fitted),
    )
    return AteResult(
        effects=effects,
        arms=table,
        differences=differences_table(found, errors, settings.level),
        balance=balance,
        calibration=arm_tables.calibrations(fitted, units.treatment),
        overlap=arm_tables.overlaps(fitted, units.treatment),
        nuisance=arm_tables.nuisances(fitted, units, folds),
        splits=splits,
        level=settings.level,
    )


def choose_arms(
    wanted: tuple[str, ...] | None,
    units: StudyUnits,
    features: dict[str, Features],
    predictions: dict[str, pd.DataFrame],
) -> list[Arm]:
    """The arms of these names; without names all there are.

    Raises
    ------
    ConfigError
        An arm without covariates or images to see, none at all, or a name for features and
        predictions alike.
    """
    twice = [name for name in predictions if name in features]
    if twice:
        raise ConfigError(
            f"ate: {', '.join(twice)} names features and predictions alike. Rename one.",
            names=twice,
        )
    has_covariates = units.covariates.shape[1] > 0
    known = [Arm(TABULAR, "", True)] if has_covariates else []
    for name in features:
        known.append(Arm(f"{IMAGE}{name}", name, False))
        if has_covariates:
            known.append(Arm(f"{IMAGE}{name}{WITH_TABULAR}", name, True))
    known += [Arm(f"{IMAGE}{name}", name, False) for name in predictions]
    by_name = {arm.name: arm for arm in known}
    absent = [name for name in wanted or () if name not in by_name]
    if absent or not known:
        raise ConfigError(
            f"ate.arms: {', '.join(absent) or 'there is nothing to adjust for'};"
            f" there are: {', '.join(by_name) or 'none'}. Name covariates or an encoder.",
            arms=absent,
        )  # fmt: skip
    return [by_name[name] for name in dict.fromkeys(wanted)] if wanted else known


def _estimates(
    fitted: list[FittedArm], units: StudyUnits, estimators: tuple[Estimator, ...]
) -> dict[tuple[str, str], list[Estimated]]:
    treatment, outcome = units.treatment, units.outcome
    plain = difference_in_means(treatment, outcome)
    found = {
        (UNADJUSTED, "difference_in_means"): [plain] * max(len(arm.nuisances) for arm in fitted)
    }
    for arm in fitted:
        for name in estimators:
            found[arm.name, name] = [
                estimate(name, treatment, outcome, used, part.mu0, part.mu1)
                for used, part in zip(arm.used, arm.nuisances, strict=True)
            ]
    return found


def _shifts(effects: pd.DataFrame, outcome: Floats) -> dict[str, float]:
    """Estimates of the ATE minus the difference in means, in sd of the outcome."""
    same = effects[effects["estimand"] == "ATE"]
    plain = float(same.loc[same["arm"] == UNADJUSTED, "estimate"].iloc[0])
    spread = float(outcome.std())
    return {
        f"{row.arm} {row.estimator}": (row.estimate - plain) / spread
        for row in same.itertuples(index=False)
    }
