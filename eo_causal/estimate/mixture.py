"""The mixture of places of two or more kinds behind image effect clusters, fitted by EM."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.estimate.ate import difference_in_means
from eo_causal.estimate.cate import Rows
from eo_causal.estimate.learners import Ridge

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
BATCH = 50  # units whose difference in means has the sd that, doubled, is the prior's of an effect
VARIANCE_UNITS = 1.0  # weight of the outcome's variance in each variance, units
GATE_STEPS = 10


class MixtureSettings(Settings):
    """How a mixture is fitted."""

    membership_sd: float = Field(
        default=0.5, gt=0, description="prior sd of the coefficients that sort images into clusters"
    )
    n_starts: int = Field(default=4, ge=1, description="places from which the fit begins")
    max_iterations: int = Field(default=300, ge=1, description="of EM")
    tolerance: float = Field(default=1e-5, gt=0, description="of the mean log-likelihood")


@dataclass(frozen=True)
class Mixture:
    """Parameters: Z | M ~ Categorical(softmax(g(M))), Y | M, W, Z ~ N(h(M) + W mu_Z, v_WZ).

    Attributes
    ----------
    gate : (cluster, 1 + feature) array
        Linear g, intercept first.
    base : (1 + feature,) array
        Linear h, intercept first.
    effect : (cluster,) array
        mu, ascending.
    variance : (2, cluster) array
        sigma_0^2 of outcomes without treatment; sigma_1^2 + s^2 with it, which outcomes cannot
        tell apart.
    """

    gate: Floats
    base: Floats
    effect: Floats
    variance: Floats

    def membership(self, design: Floats) -> Floats:
        """(unit, cluster) probability of each cluster given the image."""
        return np.asarray(np.exp(_log_membership(self.gate, design)))

    def residual(self, rows: Rows) -> Floats:
        """(unit, cluster) outcome less its mean in each cluster."""
        usual = self.base[0] + rows.design @ self.base[1:]
        return (rows.outcome - usual)[:, None] - np.outer(rows.treatment, self.effect)

    def log_joint(self, rows: Rows) -> Floats:
        """(unit, cluster) log density of the outcome and the cluster."""
        residual = self.residual(rows)
        variance = self.variance[rows.treatment.astype(int)]
        density = -0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)
        return _log_membership(self.gate, rows.design) + density

    def log_likelihood(self, rows: Rows) -> float:
        """Mean log density of the outcomes."""
        return float(np.logaddexp.reduce(self.log_joint(rows), axis=1).mean())


@dataclass(frozen=True)
class Prior:
    """What is believed before the outcomes are sorted.

    Attributes
    ----------
    effect, effect_sd : float
        mu ~ N(effect, effect_sd^2).
    variance : float
        Of outcomes; counts as one unit in each variance.
    base_penalty : float
        h has coefficients ~ N(0, 1/base_penalty).
    gate_sd : float
        g has coefficients ~ N(0, gate_sd^2); intercepts are free.
    """

    effect: float
    effect_sd: float
    variance: float
    base_penalty: float
    gate_sd: float

    def log_density(self, mixture: Mixture) -> float:
        """Log prior density of the parameters, up to a constant."""
        gate = (mixture.gate[:, 1:] ** 2).sum() / self.gate_sd**2
        base = self.base_penalty * (mixture.base[1:] ** 2).sum()
        effect = (((mixture.effect - self.effect) / self.effect_sd) ** 2).sum()
        variance = np.log(mixture.variance) + self.variance / mixture.variance
        return -0.5 * float(gate + base + effect + VARIANCE_UNITS * variance.sum())


def fit_mixture(
    rows: Rows,
    n_clusters: int,
    prior: Prior,
    settings: MixtureSettings,
    random: np.random.Generator,
) -> Mixture:
    """The best of several fits: from a ranking by a linear model of effects, and from random ones.

    Parameters
    ----------
    rows : Rows
        Columns of ``design`` with standard deviation 1.
    """
    n = len(rows.outcome)
    share = rows.treatment.mean()
    pseudo = (rows.outcome - rows.outcome.mean()) * (rows.treatment - share)
    directions = [rows.design.T @ pseudo]
    if n_clusters > 1:
        shape = (settings.n_starts - 1, rows.design.shape[1])
        directions += list(random.standard_normal(shape))
    blank = Mixture(
        np.zeros((n_clusters, 1 + rows.design.shape[1])), np.zeros(1 + rows.design.shape[1]),
        np.full(n_clusters, prior.effect), np.full((2, n_clusters), prior.variance),
    )  # fmt: skip
    fits = []
    for direction in directions:
        rank = np.argsort(np.argsort(rows.design @ direction)) * n_clusters // n
        likely = np.where(rank[:, None] == np.arange(n_clusters), 0.8, 0.2)
        responsibility = likely / likely.sum(axis=1, keepdims=True)
        fits.append(_expectation_maximisation(rows, blank, responsibility, prior, settings))
    return max(fits, key=lambda fit: fit[1])[0]


def refit_mixture(rows: Rows, start: Mixture, prior: Prior, settings: MixtureSettings) -> Mixture:
    """The fit to other rows that begins at a mixture, for example of a bootstrap draw.

    Parameters
    ----------
    rows : Rows
        Columns of ``design`` scaled as those ``start`` was fitted to.
    start : Mixture
    """
    joint = start.log_joint(rows)
    responsibility = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
    return _expectation_maximisation(rows, start, responsibility, prior, settings)[0]


def prior_of(rows: Rows, folds: Positions, settings: MixtureSettings) -> Prior:
    """The prior a set of rows stands for; ``folds`` (unit,) choose the penalty of h."""
    mean = difference_in_means(rows.treatment, rows.outcome).estimate
    treated = rows.treatment == 1
    size = BATCH * np.array([treated.mean(), 1 - treated.mean()])
    spread = np.array([rows.outcome[treated].var(), rows.outcome[~treated].var()])
    usual = rows.outcome - mean * rows.treatment
    base = Ridge().fit(rows.design, usual, folds)
    variance = float(np.mean((usual - base.predict(rows.design)) ** 2))
    return Prior(
        mean, 2 * float(np.sqrt((spread / size).sum())), variance,
        base.penalty_ * len(usual) / variance, settings.membership_sd,
    )  # fmt: skip


def _expectation_maximisation(
    rows: Rows, mixture: Mixture, responsibility: Floats, prior: Prior, settings: MixtureSettings
) -> tuple[Mixture, float]:
    """Mixture, clusters by effect, and its log posterior a unit."""
    n, before = len(rows.outcome), -np.inf
    for _ in range(settings.max_iterations):
        mixture = _maximised(rows, mixture, responsibility, prior)
        joint = mixture.log_joint(rows)
        likelihood = np.logaddexp.reduce(joint, axis=1)
        responsibility = np.exp(joint - likelihood[:, None])
        objective = float(likelihood.mean()) + prior.log_density(mixture) / n
        if not objective - before > settings.tolerance:
            break
        before = objective
    else:
        count(cluster_fits_not_converged=1)
    order = np.argsort(mixture.effect)
    return Mixture(
        mixture.gate[order], mixture.base, mixture.effect[order], mixture.variance[:, order]
    ), objective


def _maximised(rows: Rows, mixture: Mixture, responsibility: Floats, prior: Prior) -> Mixture:
    """Parameters given who belongs where: g, then h, then mu, then the variances."""
    gate = _gate(rows.design, responsibility, mixture.gate, prior.gate_sd)
    treatment, outcome = rows.treatment, rows.outcome
    weights = responsibility / mixture.variance[treatment.astype(int)]
    weight = weights.sum(axis=1)
    target = (weights * (outcome[:, None] - np.outer(treatment, mixture.effect))).sum(axis=1)
    design = np.column_stack([np.ones(len(outcome)), rows.design])
    ridge = np.full(design.shape[1], prior.base_penalty)
    ridge[0] = 0.0
    base = np.linalg.solve(
        (design * weight[:, None]).T @ design + np.diag(ridge), design.T @ target
    )
    treated = treatment[:, None] * weights
    precision = treated.sum(axis=0) + 1 / prior.effect_sd**2
    pulled = treated.T @ (outcome - design @ base) + prior.effect / prior.effect_sd**2
    found = Mixture(gate, base, pulled / precision, mixture.variance)
    arms = np.stack([1 - treatment, treatment])
    squares = arms @ (responsibility * found.residual(rows) ** 2)
    size = arms @ responsibility
    variance = (squares + VARIANCE_UNITS * prior.variance) / (size + VARIANCE_UNITS)
    return replace(found, variance=variance)


def _gate(design: Floats, responsibility: Floats, start: Floats, sd: float) -> Floats:
    """A few steps towards the ridge multinomial regression of the responsibilities."""
    from scipy.optimize import minimize

    def loss(flat: Floats) -> tuple[float, Floats]:
        gate = flat.reshape(start.shape)
        log_share = _log_membership(gate, design)
        surplus = np.exp(log_share) - responsibility
        gradient = np.column_stack([surplus.sum(axis=0), surplus.T @ design])
        gradient[:, 1:] += gate[:, 1:] / sd**2
        value = -(responsibility * log_share).sum() + (gate[:, 1:] ** 2).sum() / (2 * sd**2)
        return float(value), gradient.ravel()

    if len(start) == 1:
        return start
    options = {"maxiter": GATE_STEPS}
    answer = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(answer.x).reshape(start.shape)


def _log_membership(gate: Floats, design: Floats) -> Floats:
    """(unit, cluster) log softmax; numbers of a cluster lie together, which makes sums over few
    clusters fast.
    """
    margin = gate[:, :1] + gate[:, 1:] @ design.T
    margin -= margin.max(axis=0)
    return np.asarray((margin - np.log(np.exp(margin).sum(axis=0))).T)
