"""One-step prediction errors of the structural model in the pre period."""

import numpy as np

from eo_causal.impact.exact import ExactPosterior
from eo_causal.impact.model import Floats, ImpactModel


def one_step_errors(model: ImpactModel, posterior: ExactPosterior) -> tuple[Floats, Floats]:
    """One-step errors and their sds, with scales and coefficients at their posterior means.

    The coefficients come from the whole pre period, so this judges the dynamics, not the
    regression.

    Returns
    -------
    errors, sds : (n,) arrays
        Standardised scale, one per observed pre period.
    """
    weights = posterior.weights
    noise = float((weights * posterior.scales).sum())
    level = float((weights * posterior.ratios[:, None] * posterior.scales).sum())
    residual = model.outcome - model.design[model.pre_rows] @ posterior.coefficient_mean()
    times = model.offsets[model.pre_rows]
    mean, variance, last = 0.0, 0.0, 0.0
    errors, sds = np.empty(len(residual)), np.empty(len(residual))
    for k, value in enumerate(residual):
        variance += level**2 * (times[k] - last)
        total = variance + noise**2
        errors[k], sds[k] = value - mean, np.sqrt(total)
        gain = variance / total
        mean, variance, last = mean + gain * errors[k], variance * (1 - gain), times[k]
    return errors, sds
