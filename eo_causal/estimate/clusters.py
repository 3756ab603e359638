"""Image effect clusters: kinds of places, told by their images, each with an effect of its own.

The model of arXiv 2206.06417 on finished embeddings, fitted by EM. It assumes Gaussian outcomes, which
the conditional effects of :mod:`eo_causal.estimate.cate` do not; what speaks against it is warned of.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.effect import Effect
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.variance import interval
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.estimate.ate import difference_in_means
from eo_causal.estimate.cate import Rows
from eo_causal.estimate.learners import Ridge, deal_groups

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
BATCH = 50  # units whose difference in means has the sd that, doubled, is the prior's of an effect
SURE = 0.99  # a membership beyond this, or below 1 - this, is certain
SURE_SHARE, FAR, ONE_VALUE = 0.95, 2.0, 0.3  # what is warned of
VARIANCE_UNITS = 1.0  # weight of the outcome's variance in each variance, units
GATE_STEPS = 10


class ClusterSettings(Settings):
    """How many clusters, and how they are fitted."""

    n_clusters: Annotated[int, Field(ge=1, le=10)] | None = Field(
        default=2, description="clusters; null = the candidate of the highest held-out likelihood"
    )
    candidates: tuple[Annotated[int, Field(ge=1, le=10)], ...] = Field(
        default=(1, 2, 3), min_length=1, description="numbers whose held-out likelihood is reported"
    )
    membership_sd: float = Field(
        default=0.5, gt=0, description="prior sd of the coefficients that sort images into clusters"
    )
    folds: int = Field(default=5, ge=2, description="parts for the held-out likelihood")
    n_starts: int = Field(default=4, ge=1, description="places from which the fit begins")
    n_draws: int = Field(default=100, ge=20, description="bootstrap draws of whole groups")
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
class ImageClusters:
    """Clusters, who belongs to them, and what the model implies.

    Attributes
    ----------
    clusters : DataFrame
        One row a cluster, by effect: ``cluster`` (1, 2, ...), ``share`` of the units and its error
        ``share_std_error``, ``estimate`` (mu), ``std_error``, ``lower``, ``upper``, and
        ``effect_variance``, Var(Y(1) - Y(0) | cluster) = sigma_0^2 + sigma_1^2 + s^2.
    membership : (unit, cluster) array
        Probability of each cluster given the image alone.
    implied : Effect
        Average effect the model implies: the mean over units of membership times mu.
    candidates : DataFrame
        ``n_clusters`` and ``log_likelihood``, the mean log density of held-out outcomes.
    sure_share : float
        Share of memberships outside [0.01, 0.99].
    """

    clusters: pd.DataFrame
    membership: Floats
    implied: Effect
    candidates: pd.DataFrame
    sure_share: float


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


def image_clusters(
    rows: Rows, average: Effect, settings: ClusterSettings, *, seed: int, level: float = 0.95
) -> ImageClusters:
    """Sort images into clusters of like effect.

    Z | M ~ Categorical(softmax(g(M))) with linear g and h of the embedding, Y(0) = h(M) + N(0,
    sigma_0Z^2), tau_Z ~ N(mu_Z, s_Z^2), Y(1) = h(M) + tau_Z + N(0, sigma_1Z^2); prior mu ~
    N(difference in means, (2 sd of it in batches of 50)^2). Treatment must be random. Errors come
    from a bootstrap of whole groups.

    Parameters
    ----------
    rows : Rows
        Embedding (few leading components), treatment, outcome, groups.
    average : Effect
        The AIPW estimate with which the implied average is compared.

    Raises
    ------
    DataError
        Missing numbers, one arm only, or fewer groups than ``folds``.

    Warns
    -----
    EOCausalWarning
        ``ClusterOverfitWarning`` (more than 95 % of memberships outside [0.01, 0.99]),
        ``ClusterEffectWarning`` (implied average more than 2 standard errors from ``average``),
        ``ZeroInflatedWarning`` (more than 30 % of outcomes on one value).
    """
    _check(rows, settings)
    varies = rows.design[:, np.ptp(rows.design, axis=0) > 0]
    rows = replace(rows, design=(varies - varies.mean(axis=0)) / varies.std(axis=0))
    draw, choice, fit, again = (
        generator(seed, "image_clusters", use) for use in ("folds", "choice", "fit", "bootstrap")
    )
    parts = deal_groups(rows.group, rows.treatment, settings.folds, draw)
    candidates = _held_out(rows, parts, settings, choice)
    likelihood = candidates["log_likelihood"]
    best = int(candidates["n_clusters"].to_numpy()[likelihood.to_numpy().argmax()])
    chosen = settings.n_clusters or best
    prior = prior_of(rows, parts, settings)
    found = fit_mixture(rows, chosen, prior, settings, fit)
    draws = _bootstrap(rows, found, prior, settings, again)
    membership = found.membership(rows.design)
    errors = draws.std(axis=0, ddof=1)
    n_groups = len(np.unique(rows.group))
    estimate = float((membership @ found.effect).mean())
    ends = [
        interval(mu, error, level, n_groups)
        for mu, error in zip(found.effect, errors[:chosen], strict=True)
    ]
    clusters = pd.DataFrame(
        {
            "cluster": np.arange(1, chosen + 1), "share": membership.mean(axis=0),
            "share_std_error": errors[chosen:-1], "estimate": found.effect,
            "std_error": errors[:chosen], "lower": [low for low, _ in ends],
            "upper": [high for _, high in ends], "effect_variance": found.variance.sum(axis=0),
        }
    )  # fmt: skip
    implied = Effect(
        estimate, float(errors[-1]), interval(estimate, float(errors[-1]), level, n_groups), level,
        "image clusters, bootstrap of groups", len(rows.outcome),
    )  # fmt: skip
    sure = np.maximum(membership, 1 - membership) > SURE
    result = ImageClusters(
        clusters, membership, implied, candidates, float(sure.mean()) if chosen > 1 else 0.0
    )
    count(image_clusters=chosen, bootstrap_draws=settings.n_draws)
    _warn_of(result, average, rows.outcome)
    return result


def fit_mixture(
    rows: Rows,
    n_clusters: int,
    prior: Prior,
    settings: ClusterSettings,
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


def prior_of(rows: Rows, folds: Positions, settings: ClusterSettings) -> Prior:
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
    rows: Rows, mixture: Mixture, responsibility: Floats, prior: Prior, settings: ClusterSettings
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


def _held_out(
    rows: Rows, parts: Positions, settings: ClusterSettings, random: np.random.Generator
) -> pd.DataFrame:
    """Mean log density of the outcomes of each part under models of the others."""
    table = []
    for number in sorted(set(settings.candidates)):
        total = 0.0
        for part in np.unique(parts):
            known, test = (
                rows.take(np.flatnonzero(parts != part)),
                rows.take(np.flatnonzero(parts == part)),
            )
            prior = prior_of(known, parts[parts != part], settings)
            found = fit_mixture(known, number, prior, settings, random)
            total += found.log_likelihood(test) * len(test.outcome)
        table.append({"n_clusters": number, "log_likelihood": total / len(rows.outcome)})
    return pd.DataFrame(table)


def _bootstrap(
    rows: Rows, found: Mixture, prior: Prior, settings: ClusterSettings, random: np.random.Generator
) -> Floats:
    """(draw, 2 cluster + 1): effects, shares and the implied average where groups are drawn anew.

    Fits begin at the estimate, and clusters are matched to it by who belongs to them.
    """
    from scipy.optimize import linear_sum_assignment

    codes = np.unique(rows.group, return_inverse=True)[1]
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    usual = found.membership(rows.design)
    draws = []
    for _ in range(settings.n_draws):
        drawn = random.integers(0, len(members), len(members))
        sample = rows.take(np.concatenate([members[group] for group in drawn]))
        joint = found.log_joint(sample)
        responsibility = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        again, _ = _expectation_maximisation(sample, found, responsibility, prior, settings)
        gap = usual[:, :, None] - again.membership(rows.design)[:, None]
        match = linear_sum_assignment((gap**2).sum(axis=0))[1]
        share = again.membership(sample.design).mean(axis=0)
        draws.append([*again.effect[match], *share[match], share @ again.effect])
    return np.array(draws)


def _check(rows: Rows, settings: ClusterSettings) -> None:
    columns = (rows.design, rows.treatment, rows.outcome)
    missing = sum(int((~np.isfinite(values)).sum()) for values in columns)
    n_groups, arms = len(np.unique(rows.group)), np.unique(rows.treatment).tolist()
    if missing or arms != [0, 1] or n_groups < settings.folds:
        raise DataError(
            f"image clusters need finite numbers, treatment 0 and 1, and at least {settings.folds}"
            f" groups: {missing} numbers are missing, treatment is {arms}, there are {n_groups}"
            " groups. Leave out what is missing, or lower clusters.folds.",
            missing=missing, n_groups=n_groups,
        )  # fmt: skip


def _warn_of(found: ImageClusters, average: Effect, outcome: Floats) -> None:
    if found.sure_share > SURE_SHARE:
        _warn(
            f"{found.sure_share:.0%} of the images belong to a cluster with a probability beyond"
            f" {SURE:g}: the memberships are over-fitted. Lower clusters.membership_sd, or give fewer"
            " components.", "ClusterOverfitWarning",
        )  # fmt: skip
    error = average.std_error or 0.0
    if not abs(found.implied.estimate - average.estimate) <= FAR * error:
        _warn(
            f"the clusters imply an average effect of {found.implied.estimate:.3g}, more than"
            f" {FAR:g} standard errors from {average.estimate:.3g} ({average.method}). Do not read"
            " the clusters' effects.", "ClusterEffectWarning",
        )  # fmt: skip
    share = float(np.unique(outcome, return_counts=True)[1].max()) / len(outcome)
    if share > ONE_VALUE:
        _warn(
            f"{share:.0%} of the outcomes are one value, which no Gaussian model describes. Read the"
            " learners of conditional effects instead.", "ZeroInflatedWarning",
        )  # fmt: skip


def _warn(message: str, code: str) -> None:
    warnings.warn(EOCausalWarning(message, code), stacklevel=4)
