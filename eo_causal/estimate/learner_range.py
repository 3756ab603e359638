"""Does the answer hang on the choice of learners? The same arm by every pair of three and three."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd

from eo_causal.core.folds import Folds
from eo_causal.core.progress import count
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.arms import AteSettings, choose_arms
from eo_causal.estimate.ate import aipw
from eo_causal.estimate.combine import ErrorModel
from eo_causal.estimate.fit_arms import fit_arms, study_of
from eo_causal.estimate.learners import OutcomeKind, PropensityKind
from eo_causal.estimate.nuisance import Features, Nuisance
from eo_causal.estimate.propensity import clip


def learner_pairs(
    units: StudyUnits,
    folds: Folds,
    image_keys: list[str],
    features: dict[str, Features],
    arm: str,
    settings: AteSettings,
    *,
    seed: int,
) -> pd.DataFrame:
    """AIPW estimates of one arm by all pairs of propensity and outcome learners, on the first split.

    Parameters
    ----------
    units, folds, image_keys, features, settings, seed
        As :func:`eo_causal.estimate.arms.estimate_ate`; the learners of ``settings`` are not read.
    arm : str

    Returns
    -------
    DataFrame
        ``propensity``, ``outcome`` (names of learners), ``estimate``, ``std_error``, ``clipped``
        (share of propensities outside the limits); one row a pair.

    Raises
    ------
    ConfigError, DataError
        As :func:`~eo_causal.estimate.arms.estimate_ate`.
    """
    arms = choose_arms((arm,), units, features, {})
    study = study_of(units, folds, image_keys, arms, features)
    once = replace(folds, table=folds.table.isel(split=[0]))
    errors = ErrorModel.of(units, settings.std_error, settings.cutoff_km)
    fitted: dict[tuple[str, str], Nuisance] = {}
    for propensity, outcome in zip(get_args(PropensityKind), get_args(OutcomeKind), strict=True):
        chosen = settings.nuisance.model_copy(update={"propensity": propensity, "outcome": outcome})
        found, _ = fit_arms(arms, study, once, features, {}, chosen, seed)
        fitted[propensity, outcome] = found[arm][0]
    rows = []
    for (propensity, _), one in fitted.items():
        used, outside = clip(one.propensity, settings.clip)
        if settings.design_probability is not None:
            used = np.full(len(units), settings.design_probability)
        for (_, outcome), other in fitted.items():
            value = aipw(units.treatment, units.outcome, used, other.mu0, other.mu1)
            error = errors.std_error(value.influence)
            rows.append({
                "propensity": propensity, "outcome": outcome, "estimate": value.estimate,
                "std_error": error, "clipped": float(outside.mean()),
            })  # fmt: skip
    count(learner_pairs=len(rows))
    return pd.DataFrame(rows)
