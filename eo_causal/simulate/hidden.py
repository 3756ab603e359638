"""Studies with a confounder that nobody observed, whose bounds or true effects are known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from scipy.stats import t as student

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
SUPPORT = (-6.0, 8.0)
HIGH, LOW = 0.6, 0.3


@dataclass(frozen=True)
class HiddenWorld:
    """Units, and what a study would not see of them.

    Attributes
    ----------
    covariates : (n, k) array
        What is observed.
    treatment, outcome : (n,) arrays
        W and Y.
    propensity : (n,) array
        Chance of treatment that drew W: given the hidden confounder too in :func:`clipped`, given the
        covariates alone in :func:`bernoulli`.
    treated, untreated : (n,) arrays
        Y(1) and Y(0).
    """

    covariates: Floats
    treatment: Floats
    outcome: Floats
    propensity: Floats
    treated: Floats
    untreated: Floats

    @property
    def effect(self) -> float:
        """Average effect on these units."""
        return float((self.treated - self.untreated).mean())


def clipped(seed: int, n: int = 2000, support: tuple[float, float] = SUPPORT) -> HiddenWorld:
    """World A2: five covariates, one hidden confounder, outcomes cut to their support.

    X ~ U(-2, 2)^5, U ~ N(0, 1), p = .05 + .9 expit(X'w + .8 U + .5 sin X0 - .25 X0^2), w ~ N(0, .6^2);
    Y = mu + tau W + .7 U + t3, mu = .5 + .8 tanh X0 + .25 X1^2 - .15 sin X2 and
    tau = .7 + .2 sin X0 + .1 X0 + .8 (p - .5) (arXiv 2601.17160, simulation).

    Parameters
    ----------
    support : (float, float)
        Both potential outcomes are clipped to it.

    Raises
    ------
    ConfigError
        An empty support.
    """
    if not support[0] < support[1]:
        raise ConfigError(f"support: {list(support)} is empty; the first value must be smaller.")
    random = generator(seed, "hidden", "clipped")
    x, u = random.uniform(-2, 2, (n, 5)), random.standard_normal(n)
    logit = x @ random.normal(0, 0.6, 5) + 0.8 * u + 0.5 * np.sin(x[:, 0]) - 0.25 * x[:, 0] ** 2
    p = 0.05 + 0.9 * expit(logit)
    treatment = (random.random(n) < p).astype(float)
    tau = 0.7 + 0.2 * np.sin(x[:, 0]) + 0.1 * x[:, 0] + 0.8 * (p - 0.5)
    mean = 0.5 + 0.8 * np.tanh(x[:, 0]) + 0.25 * x[:, 1] ** 2 - 0.15 * np.sin(x[:, 2])
    base = mean + 0.7 * u + student(3).rvs(n, random_state=random)
    return _world(x, treatment, p, np.clip(base + tau, *support), np.clip(base, *support))


def bernoulli(seed: int, n: int = 10_000, odds: float = 1.0) -> HiddenWorld:
    """The world in which sharp marginal-sensitivity bounds have a closed form, and attain them.

    X ~ Bernoulli(.5), e = .6 where X = 1 and .3 elsewhere; Y(1) of the treated and Y(0) of the
    untreated are N(X, 1), so adjusting for X finds no effect. What nobody sees is as bad as ``odds``
    allows: Y(1) of the untreated is weighted by L above its L / (1 + L) quantile and by 1 / L below,
    Y(0) of the treated the other way round. The true effect is then :func:`bernoulli_effect`, the
    upper end of its bounds at L = ``odds`` (Dorn and Guo).

    Parameters
    ----------
    odds : float
        L, strength of the hidden confounder; 1 for none.

    Raises
    ------
    ConfigError
        A strength below 1.
    """
    if not odds >= 1:
        raise ConfigError(f"odds: Lambda is {odds:g}; it must be 1 or more.")
    random = generator(seed, "hidden", "bernoulli")
    x = random.integers(0, 2, n).astype(float)
    e = np.where(x == 1, HIGH, LOW)
    treatment = (random.random(n) < e).astype(float)
    share = odds / (1 + odds)
    place, above = random.random(n), random.random(n) < share
    worst = norm.ppf(np.where(above, share + (1 - share) * place, share * place))
    seen = x + random.standard_normal(n)
    treated = np.where(treatment == 1, seen, x + worst)
    untreated = np.where(treatment == 0, seen, x - worst)
    return _world(x[:, None], treatment, e, treated, untreated)


def bernoulli_quantile(world: HiddenWorld, odds: float) -> Floats:
    """(n,) L / (1 + L) quantile of Y given W = 1 and X in :func:`bernoulli`."""
    return np.asarray(world.covariates[:, 0] + norm.ppf(odds / (1 + odds)))


def bernoulli_upper(odds: float) -> float:
    """Sharp upper bound of E[Y(1)]: E[X] + E[1 - e] (L - 1/L) phi(Phi^-1(L / (1 + L)))."""
    return 0.5 + (1 - (HIGH + LOW) / 2) * bernoulli_effect(odds)


def bernoulli_effect(odds: float) -> float:
    """Sharp upper bound of the average effect, (L - 1/L) phi(Phi^-1(L / (1 + L))); lower: minus it."""
    return float((odds - 1 / odds) * norm.pdf(norm.ppf(odds / (1 + odds))))


def _world(
    x: Floats, treatment: Floats, propensity: Floats, treated: Floats, untreated: Floats
) -> HiddenWorld:
    outcome = np.where(treatment == 1, treated, untreated)
    return HiddenWorld(x, treatment, outcome, propensity, treated, untreated)
