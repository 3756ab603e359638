"""Embeddings of images that show a treatment, with the confounder and the truth beside them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeakageWorld:
    """World A1 of the leakage audits.

    Attributes
    ----------
    z_pre, z_post : (unit, feature) arrays
        Embeddings of before and after the treatment, of all units.
    treatment, outcome, confounder : (unit,) arrays
        W, Y and u.
    paired : (unit,) bool array
        Units whose earlier image a study would have.
    confounder_direction, leak_direction : (feature,) arrays
        Unit vectors a and b.
    effect : float
        tau.
    """

    z_pre: Floats
    z_post: Floats
    treatment: Floats
    outcome: Floats
    confounder: Floats
    paired: NDArray[np.bool_]
    confounder_direction: Floats
    leak_direction: Floats
    effect: float

    @property
    def known_pre(self) -> Floats:
        """(unit, feature): z_pre with rows of NaN for units without an earlier image."""
        return np.where(self.paired[:, None], self.z_pre, np.nan)


def leaking_images(
    seed: int,
    leak: float = 3.0,
    *,
    n: int = 4000,
    n_features: int = 20,
    noise: float = 0.3,
    drift: float = 0.5,
    share_of_pairs: float = 0.2,
    cosine: float | None = None,
    effect: float = 1.0,
) -> LeakageWorld:
    """Draw world A1 (after arXiv 2205.00465).

    u ~ N(0, 1), W ~ Bernoulli(expit(u)), Y = tau W + 1.5 u + N(0, 1), z_pre = 2 u a + noise e,
    z_post = 2 u a + W leak (.5 + U(0, 1)) b + drift N(0, I) + noise e', the drift one for all units.
    a is a random unit vector, b a normal vector less .7 of its part along a, normalised.

    Parameters
    ----------
    seed : int
        Seed.
    leak : float
        How strongly the later image shows the treatment.
    n, n_features : int
        Units, features.
    noise, drift : float
        Standard deviations.
    share_of_pairs : float
        Share of units, drawn at random, whose earlier image is known.
    cosine : float, optional
        Stress: b = cosine a + sqrt(1 - cosine^2) q with a random q at right angles to a.
    effect : float
        tau.

    Raises
    ------
    ConfigError
        A cosine beyond [-1, 1] or a share beyond [0, 1].
    """
    if not 0 <= share_of_pairs <= 1 or not (cosine is None or abs(cosine) <= 1):
        raise ConfigError(
            f"share_of_pairs {share_of_pairs} must lie in [0, 1] and cosine {cosine} in [-1, 1]."
        )
    random = generator(seed, "leaking_images")
    towards = _unit(random.standard_normal(n_features))
    other = random.standard_normal(n_features)
    along = (other @ towards) * towards
    leak_direction = _unit(other - 0.7 * along)
    if cosine is not None:
        leak_direction = cosine * towards + np.sqrt(1 - cosine**2) * _unit(other - along)
    confounder = random.standard_normal(n)
    treatment = random.binomial(1, expit(confounder)).astype(float)
    outcome = effect * treatment + 1.5 * confounder + random.standard_normal(n)
    shown = 2 * confounder[:, None] * towards
    change = treatment * leak * (0.5 + random.uniform(size=n))
    moved = drift * random.standard_normal(n_features)
    before, after = noise * random.standard_normal((2, n, n_features))
    paired = random.permutation(n) < round(share_of_pairs * n)
    return LeakageWorld(
        shown + before, shown + change[:, None] * leak_direction + moved + after, treatment, outcome,
        confounder, paired, towards, leak_direction, effect,
    )  # fmt: skip


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
