"""The exact posterior of the structural model on a grid of its two scales; numpy only.

For each ratio r = level_sd / noise_sd and each s = noise_sd all coefficients are integrated out in
closed form, so the average counterfactual is a finite mixture of normals. Ratios are
Gauss-Legendre nodes of u with r = 0.02 (exp(u) - 1), scales are spaced evenly in log s.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from eo_causal.errors import EOCausalWarning
from eo_causal.impact.model import Floats, ImpactModel

RATIO_SCALE = 0.02
EDGE_WEIGHT = 1e-4
MAX_WIDENINGS = 2


@dataclass(frozen=True)
class RatioNode:
    """Everything that depends on the ratio r only (q coefficients).

    Attributes
    ----------
    ratio, log_volume : float
        r, and u + ln(quadrature weight), the log volume element of the node.
    log_determinant : float
        Sum of ln(1 + r^2 lam).
    information : (q,) array
        Eigenvalues g of B' D^-1 B.
    basis : (q, q) array
        P^(-1/2) V: from rotated to real coefficients.
    score : (q,) array
        z = V' B' D^-1 y.
    total : float
        Q = sum of y^2 / d.
    leverage : (q,) array
        h, how the average counterfactual depends on the rotated coefficients.
    carried : float
        a, the part of the last level that the data fix.
    level_variance : float
        Variance of the average post level in units of level_sd^2.
    """

    ratio: float
    log_volume: float
    log_determinant: float
    information: Floats
    basis: Floats
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
    """

    nodes: list[RatioNode]
    scales: Floats
    weights: Floats
    log_density: Floats
    means: Floats
    variances: Floats

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


def exact_posterior(model: ImpactModel) -> ExactPosterior:
    """Compute the grid posterior of one series under the default priors.

    Warns
    -----
    EOCausalWarning
        ``GridWarning`` when posterior mass still sits on the edge after widening twice.
    """
    ratio_max, low, high = 10.0, 0.02, 2.0
    for _ in range(MAX_WIDENINGS + 1):
        posterior = _on_grid(model, ratio_max, low, high)
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


def _on_grid(model: ImpactModel, ratio_max: float, low: float, high: float) -> ExactPosterior:
    n = len(model.outcome)
    n_scales = int(np.ceil(np.log(high / low) * np.sqrt(2 * n))) + 1
    scales = np.exp(np.linspace(np.log(low), np.log(high), n_scales))
    nodes = ratio_nodes(model, ratio_max)
    variance = (scales**2)[None, :]
    information = np.array([node.information for node in nodes])[:, None, :]
    score = np.array([node.score for node in nodes])[:, None, :]
    leverage = np.array([node.leverage for node in nodes])[:, None, :]
    total = np.array([node.total for node in nodes])[:, None]
    determinant = np.array([node.log_determinant for node in nodes])[:, None]
    volume = np.array([node.log_volume for node in nodes])[:, None]
    ratios = np.array([node.ratio for node in nodes])[:, None]

    shrunk = information + variance[:, :, None]
    fit = total / variance - (score**2 / (variance[:, :, None] * shrunk)).sum(-1)
    log_density = -0.5 * (
        determinant
        + 2 * n * np.log(scales)
        + np.log(information / variance[:, :, None] + 1).sum(-1)
        + fit
    )
    prior = -0.5 * variance
    if model.settings.level == "local_level":
        prior = prior - 0.5 * (ratios * scales / model.settings.level_prior_sd) ** 2
        jacobian = 2 * np.log(scales)
    else:
        jacobian = np.log(scales)
    log_weight = log_density + prior + jacobian + volume
    weights = np.exp(log_weight - logsumexp(log_weight))

    n_scored = len(model.scored_rows)
    means = (leverage * score / shrunk).sum(-1) + np.array([node.carried for node in nodes])[
        :, None
    ]
    level = ratios**2 * variance * np.array([node.level_variance for node in nodes])[:, None]
    coefficient = (leverage**2 * variance[:, :, None] / shrunk).sum(-1)
    variances = coefficient + level + variance / n_scored
    return ExactPosterior(nodes, scales, weights, log_density, means, variances)


def ratio_nodes(model: ImpactModel, ratio_max: float) -> list[RatioNode]:
    """The ratio nodes with all algebra that does not depend on the scale."""
    if model.settings.level == "constant":
        return [_node(model, 0.0, 0.0)]
    top = np.log1p(ratio_max / RATIO_SCALE)
    position, weight = np.polynomial.legendre.leggauss(model.settings.n_ratio_nodes)
    u = (position + 1) / 2 * top
    volumes = u + np.log(weight * top / 2)
    ratios = RATIO_SCALE * np.expm1(u)
    return [
        _node(model, float(ratio), float(volume))
        for ratio, volume in zip(ratios, volumes, strict=True)
    ]


def _node(model: ImpactModel, ratio: float, log_volume: float) -> RatioNode:
    prior_sd = model.settings.coefficient_sd
    design, outcome = model.rotated_design, model.rotated_outcome
    d = 1 + ratio**2 * model.eigenvalues
    scaled = design * prior_sd
    information, vectors = np.linalg.eigh(scaled.T @ (scaled / d[:, None]))
    information = np.clip(information, 0.0, None)
    gamma = ratio**2 * model.rotated_offsets / d
    scored = model.scored_rows
    mean_design = model.design[scored].mean(0)
    times = model.offsets[scored]
    pair_mean = float(np.minimum.outer(times, times).mean())
    return RatioNode(
        ratio=ratio,
        log_volume=log_volume,
        log_determinant=float(np.log(d).sum()),
        information=information,
        basis=prior_sd * vectors,
        score=vectors.T @ (scaled.T @ (outcome / d)),
        total=float((outcome**2 / d).sum()),
        leverage=vectors.T @ (prior_sd * (mean_design - design.T @ gamma)),
        carried=float(gamma @ outcome),
        level_variance=pair_mean - float(model.rotated_offsets @ gamma),
    )


def sample_parameters(
    posterior: ExactPosterior, n_draws: int, random: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Independent posterior draws of the parameters, standardised scale.

    Returns
    -------
    level_sd, noise_sd : (draw,) arrays
    coefficient : (draw, q) array
    """
    flat = random.choice(posterior.weights.size, n_draws, p=posterior.weights.ravel())
    row, column = np.unravel_index(flat, posterior.weights.shape)
    noise_sd = posterior.scales[column]
    level_sd = posterior.ratios[row] * noise_sd
    n_coefficients = len(posterior.nodes[0].score)
    coefficient = np.empty((n_draws, n_coefficients))
    standard = random.standard_normal((n_draws, n_coefficients))
    for position, node in enumerate(posterior.nodes):
        chosen: NDArray[np.intp] = np.flatnonzero(row == position)
        if not len(chosen):
            continue
        variance = noise_sd[chosen, None] ** 2
        shrunk = node.information + variance
        rotated = node.score / shrunk + np.sqrt(variance / shrunk) * standard[chosen]
        coefficient[chosen] = rotated @ node.basis.T
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
