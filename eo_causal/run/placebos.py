"""The stages that repeat an analysis for outcomes the treatment cannot have moved."""

from collections.abc import Mapping

import geopandas

from eo_causal.audit.report import AuditReport, not_run
from eo_causal.audit.study import moved_controls
from eo_causal.core.folds import Folds
from eo_causal.core.units import StudyUnits, units_with_images
from eo_causal.estimate.arms import AteSettings, estimate_ate
from eo_causal.estimate.covariates import CovariateSettings, study_units
from eo_causal.estimate.nuisance import Features
from eo_causal.run.stage import Stages


def placebo_stages(
    outcomes: tuple[str, ...],
    arm: str,
    study: CovariateSettings,
    estimate: AteSettings,
    places: geopandas.GeoDataFrame,
    units: StudyUnits,
    folds: Folds,
    keys: list[str],
    features: Mapping[str, Features],
    stage: Stages,
) -> tuple[AuditReport, ...]:
    """The line ``placebo``: the AIPW estimate of one arm for each negative-control outcome.

    Parameters
    ----------
    outcomes : tuple of str
        Columns measured before the treatment.
    arm : str
        Of the headline.
    """
    if not outcomes:
        reason = "no outcome from before the treatment is named (audit.negative_outcomes)."
        return (not_run("negative_controls", reason),)
    only = estimate.model_copy(update={"arms": (arm,), "estimators": ("aipw",)})
    effects = {}
    for name in outcomes:
        everyone = stage(
            f"units_{name}", study_units, places, study.model_copy(update={"outcome": name})
        )
        own = stage(f"with_images_{name}", units_with_images, everyone, keys)
        found = stage(f"estimate_{name}", estimate_ate, own, folds, keys, features, {}, only)
        effects[name] = found.effects
    return (stage("placebos", moved_controls, effects, arm),)
