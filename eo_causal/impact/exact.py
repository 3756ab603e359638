"""The exact posterior of the structural model on a grid of its two scales; numpy only.

For each ratio r = level_sd / noise_sd and each s = noise_sd all coefficients are integrated out in
closed form, so the average counterfactual is a finite mixture of normals. Ratios are
Gauss-Legendre nodes of u with r = 0.02 (exp(u) - 1), scales are spaced evenly in log s.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import logsumexp, ndtr

from eo_causal.errors import EOCausalWarning
from eo_causal.impact.model import Floats, ImpactModel
from eo_causal.impact.priors import CoefficientPrior, coefficient_prior, log_scale_prior

RATIO_SCALE = 0.02
EDGE_WEIGHT = 1e-4
MAX_WIDENINGS = 2
SAMPLING_REFINEMENT = 8


@dataclass(frozen=True)
class RatioNode:
    """Everything that depends on the ratio r only (q coefficients).

    Attributes
    ----------
    ratio, log_volume : float
        r, and u + ln(quadrature weight), the log volume element of the node.
    log_determinant : float
        Sum of ln(1 + r^2 lam).
    basis : (q, q) array
        V, from rotated to real coefficients; it makes the posterior precision
        V'(X' D^-1 X / s^2 + P(s)) V = diag(information / s^2 + precision).
    information, precision : (q,) arrays
        g and f: what grows with the data (and priors that scale with the noise), what does not.
    log_prior_volume : float
        -2 ln det V - ln det P(1).
    score : (q,) array
        z = V' X' D^-1 y; y without its prior mean.
    total : float
        Q = sum of y^2 / d.
    leverage : (q,) array
        h, how the average counterfactual depends on the rotated coefficients.
    carried : float
        a, the part of the average counterfactual that rests on data and prior means alone.
    level_variance : float
        Variance of the average post level in units of level_sd^2.
    """

    ratio: float
    log_volume: float
    log_determinant: float
    basis: Floats
    information: Floats
    precision: Floats
    log_prior_volume: float
    score: Floats
    total: float
    leverage: Floats
    carried: float
    level_variance: float


@dataclass(frozen=True)
class ExactPosterior:
    """Grid posterior: weights over (ratio, scale) nodes and what they imply.

    Attributes
    ----------
    nodes : list of RatioNode
        One per ratio.
    scales : (J,) array
        noise_sd nodes, standardised.
    weights : (R, J) array
        Posterior weights, sum 1.
    log_density : (R, J) array
        Log likelihood with the coefficients integrated out, without prior and volume terms.
    means, variances : (R, J) arrays
        Normal components of the standardised average counterfactual over the scored periods.
    prior_mean : (q,) array
        Prior mean of the coefficients, to which rotated ones are added.
    """

    nodes: list[RatioNode]
    scales: Floats
    weights: Floats
    log_density: Floats
    means: Floats
    variances: Floats
    prior_mean: Floats

    @property
    def ratios(self) -> Floats:
        """r of every node."""
        return np.array([node.ratio for node in self.nodes])

    def mean(self) -> float:
        """Posterior mean of the standardised average counterfactual."""
        return float((self.weights * self.means).sum())

    def sd(self) -> float:
        """Posterior sd of the standardised average counterfactual."""
        centre = self.mean()
        return float(np.sqrt((self.weights * (self.variances + (self.means - centre) ** 2)).sum()))

    def coefficient_mean(self) -> Floats:
        """Posterior mean of the coefficients, shape (q,)."""
        mean = self.prior_mean.copy()
        for row, node in enumerate(self.nodes):
            shrunk = node.information + np.outer(self.scales**2, node.precision)
            mean += (self.weights[row][:, None] * (node.score / shrunk)).sum(0) @ node.basis.T
        return mean

    def cdf(self, value: float) -> float:
        """P(average counterfactual <= value)."""
        return float((self.weights * ndtr((value - self.means) / np.sqrt(self.variances))).sum())

    def quantile(self, probability: float) -> float:
        """Quantile of the average counterfactual by bisection, to 1e-10 sd."""
        spread, centre = self.sd(), self.mean()
        low, high = centre - 40 * spread, centre + 40 * spread
        while high - low > 1e-10 * spread:
            middle = (low + high) / 2
            if self.cdf(middle) < probability:
                low = middle
            else:
                high = middle
        return (low + high) / 2


def exact_posterior(model: ImpactModel, *, refinement: int = 1) -> ExactPosterior:
    """Compute the grid posterior of one series.

    Parameters
    ----------
    model : ImpactModel
        The series.
    refinement : int
        Scale nodes per posterior sd of ln noise_sd. One is enough for all integrals; draws need
        more (:func:`sample_parameters`).

    Warns
    -----
    EOCausalWarning
        ``GridWarning`` when posterior mass still sits on the edge after widening twice.
    """
    ratio_max, low, high = 10.0, 0.02, 2.0
    for _ in range(MAX_WIDENINGS + 1):
        posterior = _on_grid(model, ratio_max, low, high, refinement)
        by_scale, by_ratio = posterior.weights.sum(0), posterior.weights.sum(1)
        at_low, at_high = by_scale[0] > EDGE_WEIGHT, by_scale[-1] > EDGE_WEIGHT
        at_ratio = model.settings.level == "local_level" and by_ratio[-1] > EDGE_WEIGHT
        if not (at_low or at_high or at_ratio):
            return posterior
        low, high = low / (4 if at_low else 1), high * (4 if at_high else 1)
        ratio_max *= 4 if at_ratio else 1
    warnings.warn(
        EOCausalWarning(
            "the variance grid does not hold all posterior mass; the series is nearly noise-free or"
            " nearly a pure random walk. Treat its interval with care.", "GridWarning",
        ),
        stacklevel=2,
    )  # fmt: skip
    return posterior


def _on_grid(
    model: ImpactModel, ratio_max: float, low: float, high: float, refinement: int
) -> ExactPosterior:
    n = len(model.outcome)
    n_scales = int(np.ceil(refinement * np.log(high / low) * np.sqrt(2 * n))) + 1
    scales = np.exp(np.linspace(np.log(low), np.log(high), n_scales))
    prior = coefficient_prior(model)
    nodes = ratio_nodes(model, prior, ratio_max)
    variance = (scales**2)[None, :]
    information = np.array([node.information for node in nodes])[:, None, :]
    precision = np.array([node.precision for node in nodes])[:, None, :]
    score = np.array([node.score for node in nodes])[:, None, :]
    leverage = np.array([node.leverage for node in nodes])[:, None, :]
    total = np.array([node.total for node in nodes])[:, None]
    determinant = np.array([node.log_determinant for node in nodes])[:, None]
    volume = np.array([node.log_volume for node in nodes])[:, None]
    ratios = np.array([node.ratio for node in nodes])[:, None]
    prior_volume = np.array([node.log_prior_volume for node in nodes])[:, None]

    shrunk = information + variance[:, :, None] * precision
    fit = total / variance - (score**2 / (variance[:, :, None] * shrunk)).sum(-1)
    log_density = -0.5 * (
        determinant
        + 2 * n * np.log(scales)
        + np.log(information / variance[:, :, None] + precision).sum(-1)
        + 2 * prior.n_scaled * np.log(scales)
        + prior_volume
        + fit
    )
    # d(level_sd, noise_sd) = noise_sd^2 d(ratio, ln noise_sd); a constant level has no ratio
    jacobian = (2 if model.settings.level == "local_level" else 1) * np.log(scales)
    log_weight = log_density + log_scale_prior(model, ratios * scales, scales) + jacobian + volume
    weights = np.exp(log_weight - logsumexp(log_weight))

    n_scored = len(model.scored_rows)
    means = (leverage * score / shrunk).sum(-1) + np.array([node.carried for node in nodes])[
        :, None
    ]
    level = ratios**2 * variance * np.array([node.level_variance for node in nodes])[:, None]
    coefficient = (leverage**2 * variance[:, :, None] / shrunk).sum(-1)
    variances = coefficient + level + variance / n_scored
    return ExactPosterior(nodes, scales, weights, log_density, means, variances, prior.mean)


def ratio_nodes(model: ImpactModel, prior: CoefficientPrior, ratio_max: float) -> list[RatioNode]:
    """The ratio nodes with all algebra that does not depend on the scale."""
    if model.settings.level == "constant":
        return [_node(model, prior, 0.0, 0.0)]
    top = np.log1p(ratio_max / RATIO_SCALE)
    position, weight = np.polynomial.legendre.leggauss(model.settings.n_ratio_nodes)
    u = (position + 1) / 2 * top
    volumes = u + np.log(weight * top / 2)
    ratios = RATIO_SCALE * np.expm1(u)
    return [
        _node(model, prior, float(ratio), float(volume))
        for ratio, volume in zip(ratios, volumes, strict=True)
    ]


def _node(
    model: ImpactModel, prior: CoefficientPrior, ratio: float, log_volume: float
) -> RatioNode:
    design = model.rotated_design
    outcome = model.rotated_outcome - design @ prior.mean
    d = 1 + ratio**2 * model.eigenvalues
    basis, information, precision = _joint_basis(
        design.T @ (design / d[:, None]) + prior.scaled, prior.fixed
    )
    gamma = ratio**2 * model.rotated_offsets / d
    mean_design = model.design[model.scored_rows].mean(0)
    return RatioNode(
        ratio=ratio,
        log_volume=log_volume,
        log_determinant=float(np.log(d).sum()),
        basis=basis,
        information=information,
        precision=precision,
        log_prior_volume=-2 * float(np.linalg.slogdet(basis)[1]) - prior.log_determinant,
        score=basis.T @ (design.T @ (outcome / d)),
        total=float((outcome**2 / d).sum()),
        leverage=basis.T @ (mean_design - design.T @ gamma),
        carried=float(gamma @ outcome + mean_design @ prior.mean),
        level_variance=model.shared_steps - float(model.rotated_offsets @ gamma),
    )


def _joint_basis(information: Floats, fixed: Floats) -> tuple[Floats, Floats, Floats]:
    """V, g, f with V' information V = diag(g) and V' diag(fixed) V = diag(f).

    Whichever matrix is surely positive definite becomes the identity: the fixed prior when every
    coefficient has one, else the information, which then holds the prior of the others.
    """
    ones = np.ones(len(fixed))
    if (fixed > 0).all():
        values, basis = eigh(information, np.diag(fixed))
        return basis, np.clip(values, 0.0, None), ones
    values, basis = eigh(np.diag(fixed), information)
    return basis, ones, np.clip(values, 0.0, None)


def sample_parameters(
    model: ImpactModel, n_draws: int, random: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Independent posterior draws of the parameters, standardised scale.

    Scales are drawn from a fine grid and spread evenly over its cells, so that ranks of a true
    value among draws are uniform.

    Returns
    -------
    level_sd, noise_sd : (draw,) arrays
    coefficient : (draw, q) array
    """
    posterior = exact_posterior(model, refinement=SAMPLING_REFINEMENT)
    flat = random.choice(posterior.weights.size, n_draws, p=posterior.weights.ravel())
    row, column = np.unravel_index(flat, posterior.weights.shape)
    cell = np.log(posterior.scales[1] / posterior.scales[0])
    noise_sd = posterior.scales[column] * np.exp(cell * (random.random(n_draws) - 0.5))
    level_sd = posterior.ratios[row] * noise_sd
    n_coefficients = len(posterior.nodes[0].score)
    coefficient = np.empty((n_draws, n_coefficients))
    standard = random.standard_normal((n_draws, n_coefficients))
    for position, node in enumerate(posterior.nodes):
        chosen: NDArray[np.intp] = np.flatnonzero(row == position)
        if not len(chosen):
            continue
        variance = noise_sd[chosen, None] ** 2
        shrunk = node.information + variance * node.precision
        rotated = node.score / shrunk + np.sqrt(variance / shrunk) * standard[chosen]
        coefficient[chosen] = posterior.prior_mean + rotated @ node.basis.T
    return level_sd, noise_sd, coefficient


def scale_moments(posterior: ExactPosterior) -> dict[str, tuple[float, float]]:
    """Posterior mean and sd of ``level_sd`` and ``noise_sd``, standardised scale."""
    level = posterior.ratios[:, None] * posterior.scales
    noise = np.broadcast_to(posterior.scales, level.shape)
    moments = {}
    for name, values in (("level_sd", level), ("noise_sd", noise)):
        mean = float((posterior.weights * values).sum())
        variance = float((posterior.weights * (values - mean) ** 2).sum())
        moments[name] = (mean, float(np.sqrt(variance)))
    return moments
