"""How far each arm's propensities can be trusted, as tables."""

from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.folds import Folds
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.ate import aipw_scores
from eo_causal.estimate.balance import balance_table
from eo_causal.estimate.checks import CheckSettings, judge_calibration, judge_overlap
from eo_causal.estimate.nuisance import Nuisance
from eo_causal.estimate.propensity import (
    Slope,
    area_under_curve,
    calibration_bins,
    calibration_slope,
    clip,
    effective_size,
    inverse_weights,
    log_loss,
    overlap_histogram,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FittedArm:
    """An arm with its nuisances, one a split.

    Attributes
    ----------
    name : str
    nuisances : list of Nuisance
    used : (split, unit) array
        Propensities that enter estimates, clipped.
    clipped : (split, unit) bool array
    components : DataFrame
        Leading components of the arm's image features; no column where it has none.
    """

    name: str
    nuisances: list[Nuisance]
    used: Floats
    clipped: NDArray[np.bool_]
    components: pd.DataFrame

    @classmethod
    def of(
        cls,
        name: str,
        nuisances: list[Nuisance],
        components: pd.DataFrame,
        at: float,
        design_probability: float | None,
    ) -> "FittedArm":
        """Clip the propensities, or put the known ones of a trial in their place."""
        raw = np.stack([nuisance.propensity for nuisance in nuisances])
        if design_probability is not None:
            raw = np.full_like(raw, design_probability)
        return cls(name, nuisances, *clip(raw, at), components)


def arms_table(
    arms: list[FittedArm], units: StudyUnits, balance: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Slope]]:
    """One row an arm, means over the splits; and the calibration slopes with their errors.

    Log-loss, AUC and slope are of what the arm's models predict, also where a trial's known
    probability takes its place in the estimates.
    """
    treatment, cluster = units.treatment, units.cluster
    rows, slopes = [], {}
    for arm in arms:
        found = [
            calibration_slope(treatment, part.propensity, part.fold, cluster)
            for part in arm.nuisances
        ]
        slopes[arm.name] = Slope(
            *(float(np.median(values)) for values in zip(*map(astuple, found), strict=True))
        )
        weights = [inverse_weights(treatment, used) for used in arm.used]
        largest = balance.loc[balance["arm"] == arm.name, ["smd_before", "smd_after"]].abs().max()
        raw = [part.propensity for part in arm.nuisances]
        rows.append({
            "arm": arm.name,
            "log_loss": float(np.mean([log_loss(treatment, part) for part in raw])),
            "auc": float(np.mean([area_under_curve(treatment, part) for part in raw])),
            "calibration_slope": slopes[arm.name].estimate,
            "ess_treated": float(np.mean([effective_size(one) for one, _ in weights])),
            "ess_control": float(np.mean([effective_size(zero) for _, zero in weights])),
            "clipped_share": float(arm.clipped.mean()),
            "largest_smd_before": float(largest["smd_before"]),
            "largest_smd_after": float(largest["smd_after"]),
            "n_features": arm.nuisances[0].n_features,
            "penalty": float(np.median([part.penalty for part in arm.nuisances])),
        })  # fmt: skip
    return pd.DataFrame(rows), slopes


def judge_arms(
    table: pd.DataFrame, slopes: dict[str, Slope], treatment: Floats, at: float,
    settings: CheckSettings,
) -> None:  # fmt: skip
    """Errors and warnings of overlap and calibration, for every arm."""
    n_treated = float(treatment.sum())
    for row in table.itertuples(index=False):
        effective = {
            "treated": row.ess_treated / n_treated,
            "untreated": row.ess_control / (len(treatment) - n_treated),
        }
        judge_overlap(row.arm, row.clipped_share, effective, at, settings)
        judge_calibration(row.arm, slopes[row.arm], settings)


def balances(arms: list[FittedArm], units: StudyUnits) -> pd.DataFrame:
    """Balance of the covariates and of the arm's image components: first split of every arm."""
    return _stacked({
        arm.name: balance_table(
            pd.concat([units.covariates, arm.components], axis=1), units.treatment, arm.used[0]
        )
        for arm in arms
    })  # fmt: skip


def calibrations(arms: list[FittedArm], treatment: Floats) -> pd.DataFrame:
    """Calibration by bins of propensity: first split of every arm."""
    return _stacked(
        {arm.name: calibration_bins(treatment, arm.nuisances[0].propensity) for arm in arms}
    )


def overlaps(arms: list[FittedArm], treatment: Floats) -> pd.DataFrame:
    """Histograms of propensity: first split of every arm."""
    return _stacked(
        {arm.name: overlap_histogram(treatment, arm.nuisances[0].propensity) for arm in arms}
    )


def nuisances(arms: list[FittedArm], units: StudyUnits, folds: Folds) -> pd.DataFrame:
    """Nuisances, AIPW scores and clipping of every unit: first split of every arm."""
    fold = folds.table["fold_of_unit"].to_numpy()[0]
    return pd.concat(
        [
            pd.DataFrame({
                "unit_id": units.table["unit_id"].to_numpy(),
                "arm": arm.name,
                "fold": fold,
                "propensity": arm.used[0],
                "mu0": arm.nuisances[0].mu0,
                "mu1": arm.nuisances[0].mu1,
                "aipw_score": aipw_scores(
                    units.treatment, units.outcome, arm.used[0],
                    arm.nuisances[0].mu0, arm.nuisances[0].mu1,
                ),
                "clipped": arm.clipped[0],
            })
            for arm in arms
        ],
        ignore_index=True,
    )  # fmt: skip


def _stacked(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several arms with a first column that names the arm."""
    named = [table.assign(arm=name) for name, table in tables.items()]
    whole = pd.concat(named, ignore_index=True)
    return whole[["arm", *whole.columns.drop("arm")]]
