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
from eo_causal.core.variance import interval
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.estimate.cate import Rows
from eo_causal.estimate.learners import deal_groups
from eo_causal.estimate.mixture import (
    Mixture,
    MixtureSettings,
    Prior,
    fit_mixture,
    prior_of,
    refit_mixture,
)

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
SURE = 0.99  # a membership beyond this, or below 1 - this, is certain
SURE_SHARE, FAR, ONE_VALUE = 0.95, 2.0, 0.3  # what is warned of


class ClusterSettings(MixtureSettings):
    """How many clusters, and how they are fitted."""

    n_clusters: Annotated[int, Field(ge=1, le=10)] | None = Field(
        default=2, description="clusters; null = the candidate of the highest held-out likelihood"
    )
    candidates: tuple[Annotated[int, Field(ge=1, le=10)], ...] = Field(
        default=(1, 2, 3), min_length=1, description="numbers whose held-out likelihood is reported"
    )
    folds: int = Field(default=5, ge=2, description="parts for the held-out likelihood")
    n_draws: int = Field(default=100, ge=20, description="bootstrap draws of whole groups")


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
        again = refit_mixture(sample, found, prior, settings)
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
