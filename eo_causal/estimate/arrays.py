"""Average effects from plain arrays, for use without a config.

>>> import numpy as np
>>> random = np.random.default_rng(0)
>>> x = random.normal(size=(400, 2))
>>> w = random.binomial(1, 1 / (1 + np.exp(-x[:, 0])))
>>> y = 2 * w + x.sum(axis=1) + random.normal(size=400)
>>> effect = ate_from_arrays(w, y, x, seed=1).effect("tabular")
>>> bool(effect.interval[0] < 2 < effect.interval[1])
True
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.arms import AteResult, AteSettings, estimate_ate
from eo_causal.estimate.covariates import CovariateSettings, study_units


def ate_from_arrays(
    treatment: ArrayLike,
    outcome: ArrayLike,
    covariates: ArrayLike,
    cluster: ArrayLike | None = None,
    settings: AteSettings | None = None,
    folds: FoldSettings | None = None,
    *,
    seed: int,
) -> AteResult:
    """Cross-fitted effects of one arm, ``tabular``.

    Parameters
    ----------
    treatment, outcome : (unit,) array
        0 or 1; any number.
    covariates : (unit, covariate) array or DataFrame
        From before treatment; NaN = missing.
    cluster : (unit,) array, optional
        Units whose errors depend on each other; they also stay in one fold.
    settings : AteSettings, optional
    folds : FoldSettings, optional
        Five folds and five splits by default.

    Raises
    ------
    DataError, LeakageError, OverlapError
        As :func:`eo_causal.estimate.covariates.study_units` and
        :func:`eo_causal.estimate.arms.estimate_ate` say.
    """
    units = units_of_arrays(treatment, outcome, covariates, cluster)
    randomised = settings is not None and settings.randomised
    made = make_folds(units, folds or FoldSettings(), None, 0.0, randomised, seed=seed)
    return estimate_ate(units, made, [], {}, {}, settings or AteSettings(), seed=seed)


def units_of_arrays(
    treatment: ArrayLike,
    outcome: ArrayLike,
    covariates: ArrayLike,
    cluster: ArrayLike | None = None,
) -> StudyUnits:
    """Study units without places or images, numbered 0, 1, ...; clusters serve as image keys."""
    columns = pd.DataFrame(covariates).rename(columns=str).reset_index(drop=True)
    ids = pd.Series(np.arange(len(columns))).astype(str)
    keys = ids if cluster is None else pd.Series(np.asarray(cluster)).astype(str)
    table = columns.assign(treatment=np.asarray(treatment), outcome=np.asarray(outcome))
    table = table.assign(unit_id=ids, image_key=keys)
    return study_units(table, CovariateSettings(covariates=tuple(columns.columns)))
