"""Priors of the structural model, in the form the exact engine needs.

Coefficients have precision ``fixed + scaled / noise_sd^2`` and mean ``mean``; the two scales have a
density each. All on the standardised scale of the outcome.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from eo_causal.impact.model import Floats, ImpactModel

# Brodersen et al. (2015) and the R package bsts: guesses, weights and shrinkage.
LEVEL_SD_GUESS, LEVEL_DF = 0.01, 32
EXPECTED_R2, NOISE_DF = 0.8, 50
PRIOR_INFORMATION = 0.01
DIAGONAL_SHRINKAGE = 0.5


@dataclass(frozen=True)
class CoefficientPrior:
    """Normal prior of the q coefficients given the noise scale.

    Attributes
    ----------
    mean : (q,) array
    fixed : (q,) array
        Precisions that do not depend on the noise; 0 where ``scaled`` holds the prior.
    scaled : (q, q) array
        Precision times noise_sd^2.
    """

    mean: Floats
    fixed: Floats
    scaled: Floats

    @property
    def n_scaled(self) -> int:
        """How many coefficients have a prior that scales with the noise."""
        return int((self.fixed == 0).sum())

    @property
    def log_determinant(self) -> float:
        """ln det of the precision at noise_sd = 1."""
        free = self.fixed == 0
        inner = np.linalg.slogdet(self.scaled[np.ix_(free, free)])[1] if free.any() else 0.0
        return float(np.log(self.fixed[~free]).sum() + inner)


def coefficient_prior(model: ImpactModel) -> CoefficientPrior:
    """The prior the settings ask for.

    ``default``: independent N(0, coefficient_sd^2). ``r_like``: the level at the start is
    N(first outcome, 1); controls are N(0, noise_sd^2 W^-1) with
    W = 0.01 (X'X / 2 + diag(X'X) / 2) / n (Brodersen et al. 2015); season dummies as in default.
    """
    q = len(model.coefficients)
    fixed = np.full(q, model.settings.coefficient_sd**-2)
    if model.settings.prior == "default":
        return CoefficientPrior(np.zeros(q), fixed, np.zeros((q, q)))
    mean = np.zeros(q)
    mean[0], fixed[0] = model.outcome[0], 1.0
    first = q - model.n_controls
    controls = model.design[model.pre_rows][:, first:]
    gram = controls.T @ controls
    shrunk = (1 - DIAGONAL_SHRINKAGE) * gram + DIAGONAL_SHRINKAGE * np.diag(np.diag(gram))
    scaled = np.zeros((q, q))
    scaled[first:, first:] = PRIOR_INFORMATION * shrunk / len(controls)
    fixed[first:] = 0.0
    return CoefficientPrior(mean, fixed, scaled)


def log_scale_prior(model: ImpactModel, level_sd: Floats, noise_sd: Floats) -> Floats:
    """Log prior density of the two scales, up to a constant; same shape as the arguments.

    ``default``: half-normal(level_prior_sd) and half-normal(1). ``r_like``: inverse gamma on the
    variances, with 32 degrees of freedom around 0.01^2 and 50 around 1 - 0.8. A constant level has
    no prior of its own.
    """
    moving = model.settings.level == "local_level"
    if model.settings.prior == "default":
        noise = -0.5 * noise_sd**2
        return noise - 0.5 * (level_sd / model.settings.level_prior_sd) ** 2 if moving else noise
    noise = _log_inverse_gamma(noise_sd, NOISE_DF, 1 - EXPECTED_R2)
    return noise + _log_inverse_gamma(level_sd, LEVEL_DF, LEVEL_SD_GUESS**2) if moving else noise


def _log_inverse_gamma(sd: Floats, df: float, guess: float) -> Floats:
    """Log density of sd when sd^2 ~ InvGamma(df / 2, df / 2 * guess)."""
    shape, rate = df / 2, df / 2 * guess
    variance = sd**2
    density = shape * np.log(rate) - gammaln(shape) - (shape + 1) * np.log(variance)
    return np.asarray(density - rate / variance + np.log(2 * sd))
