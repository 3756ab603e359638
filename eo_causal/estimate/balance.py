"""Balance: how far treated and controls differ in what was measured, before and after weighting."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.estimate.nuisance import Features, Study
from eo_causal.estimate.preparation import check_features, principal_axes, standardise
from eo_causal.estimate.propensity import inverse_weights

Floats = NDArray[np.float64]
N_LEADING = 5


def standardised_differences(
    values: Floats, treatment: Floats, treated: Floats, control: Floats
) -> Floats:
    """Difference of weighted means over the root mean of the arms' unweighted variances.

    Parameters
    ----------
    values : (unit, variable) array
        NaN = missing; left out of the variable's means.
    treatment : (unit,) array
        0 or 1.
    treated, control : (unit,) array
        Weights, 0 outside their arm.

    Returns
    -------
    (variable,) array
        0 for a variable without variance in both arms.
    """
    spread = np.sqrt((_moments(values, treatment)[1] + _moments(values, 1 - treatment)[1]) / 2)
    difference = _moments(values, treated)[0] - _moments(values, control)[0]
    return np.divide(difference, spread, out=np.zeros(values.shape[1]), where=spread > 0)


def balance_table(variables: pd.DataFrame, treatment: Floats, propensity: Floats) -> pd.DataFrame:
    """Standardised differences of all variables: variable, smd_before, smd_after.

    Parameters
    ----------
    variables : DataFrame
        One numeric column a variable, one row a unit.
    propensity : (unit,) array
        Within (0, 1); weights are 1/e and 1/(1 - e).
    """
    values = variables.to_numpy(dtype=float)
    before = standardised_differences(values, treatment, treatment, 1 - treatment)
    weights = inverse_weights(treatment, propensity)
    return pd.DataFrame({
        "variable": variables.columns.to_numpy(dtype=object),
        "smd_before": before,
        "smd_after": standardised_differences(values, treatment, *weights),
    })  # fmt: skip


def leading_components(name: str, features: Features, study: Study) -> pd.DataFrame:
    """The first five principal components of an arm's image features, one row a unit.

    They describe balance and enter no model, so they may learn from all images.
    """
    import dask

    images = np.arange(study.n_images)
    with dask.config.set(scheduler="synchronous"):
        found = features(images)
    values = check_features(found, name, study.image_of_unit, study.n_images, study.unit_id)
    scaled = standardise(values, images)
    scores = scaled @ principal_axes(scaled, min(N_LEADING, scaled.shape[1]))
    columns = [f"{name} component {k + 1}" for k in range(scores.shape[1])]
    return pd.DataFrame(scores[study.image_of_unit], columns=columns)


def _moments(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and variance of each column over its finite values; 0 where there are none."""
    seen = np.isfinite(values)
    weight = np.where(seen, weights[:, None], 0.0)
    total = np.maximum(weight.sum(axis=0), np.finfo(float).tiny)
    filled = np.where(seen, values, 0.0)
    mean = (weight * filled).sum(axis=0) / total
    return mean, (weight * np.where(seen, values - mean, 0.0) ** 2).sum(axis=0) / total
