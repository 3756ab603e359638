"""Information-theoretic bounds on a mean potential outcome (arXiv 2601.17160), an option.

They bound the divergence between the observed law of one arm, P, and the law of its potential
outcome, Q = e P + (1 - e) R. Every law R on the support satisfies that bound, so each interval
contains Manski's, which is always printed beside it. All conjugates are infinite beyond a finite
argument, so without a bounded outcome the bounds are infinite: ``support`` is mandatory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
TINY = 1e-12


@dataclass(frozen=True)
class Divergence:
    """An f-divergence D_f(P || Q).

    Attributes
    ----------
    largest : callable
        Share of the arm, e -> largest divergence, e f(1/e) + (1 - e) f(0).
    conjugate : callable
        g*(t), finite for t below ``end``.
    end : float
        f(0).
    """

    largest: Callable[[float], float]
    conjugate: Callable[[Floats], Floats]
    end: float


def _js_largest(e: float) -> float:
    return 0.5 * float(np.log(4) + e * np.log(e) - (1 + e) * np.log1p(e))


DIVERGENCES = {
    "kullback_leibler": Divergence(
        lambda e: -float(np.log(e)), lambda t: -1 - np.log(np.maximum(-t, TINY)), 0.0
    ),
    "hellinger": Divergence(
        lambda e: 1 - float(np.sqrt(e)), lambda t: t / np.maximum(1 - 2 * t, TINY), 0.5
    ),
    "chi_squared": Divergence(
        lambda e: (1 - e) / (2 * e), lambda t: 1 - np.sqrt(np.maximum(1 - 2 * t, 0)), 0.5
    ),
    "total_variation": Divergence(lambda e: 1 - e, lambda t: np.maximum(t, -0.5), 0.5),
    "jensen_shannon": Divergence(
        _js_largest, lambda t: -0.5 * np.log(np.maximum(2 - np.exp(2 * t), TINY)), 0.5 * np.log(2)
    ),
}


def divergence_bounds(
    values: Floats,
    probability: Floats,
    share: float,
    support: tuple[float, float] | None,
) -> pd.DataFrame:
    """Bounds on the mean potential outcome of one arm, by divergence, with Manski's.

    Parameters
    ----------
    values, probability : (m,) arrays
        Law of the outcome in the arm.
    share : float
        Probability of the arm, e.
    support : (float, float)
        Smallest and largest value an outcome can take.

    Returns
    -------
    DataFrame
        bound, lower, upper; the last row is Manski's.

    Raises
    ------
    ConfigError
        No support, values outside it, or a share that is no probability.
    """
    if support is None or not (
        support[0] < support[1] and support[0] <= values.min() and values.max() <= support[1]
    ):
        raise ConfigError(
            "divergence bounds: the outcome needs a support [low, high] that holds all its values;"
            " without one every such bound is infinite. Set sensitivity.support.",
            support=support,
        )
    if not 0 < share < 1:
        raise ConfigError(
            f"divergence bounds: the share of the arm is {share:g}, not within (0, 1)."
        )
    low, high = support
    rows = []
    for name, divergence in DIVERGENCES.items():
        upper = _upper(values, probability, divergence, share, high)
        lower = -_upper(-values, probability, divergence, share, -low)
        rows.append({"bound": name, "lower": lower, "upper": upper})
    mean = float(values @ probability)
    ends = [share * mean + (1 - share) * end for end in (low, high)]
    rows.append({"bound": "manski", "lower": ends[0], "upper": ends[1]})
    return pd.DataFrame(rows)


def _upper(
    values: Floats, probability: Floats, divergence: Divergence, share: float, high: float
) -> float:
    """inf over l > 0 and u of l B + u + l E[g*((Y - u) / l)], convex in both.

    u is at least high - l f(0), so that no law on the support escapes; it is the inner search.
    """
    from scipy.optimize import minimize_scalar

    radius, spread = divergence.largest(share), high - float(values.min())
    if spread == 0:
        return high

    def at(scale: float) -> float:
        least = high - scale * divergence.end

        def inner(log_gap: float) -> float:
            centre = least + np.exp(log_gap)
            inside = divergence.conjugate((values - centre) / scale)
            return float(scale * radius + centre + scale * (probability @ inside))

        found = minimize_scalar(
            inner, bounds=(np.log(spread) - 20, np.log(spread + scale) + 5), method="bounded",
            options={"xatol": 1e-6},
        )  # fmt: skip
        return float(found.fun)

    found = minimize_scalar(
        lambda log_scale: at(float(np.exp(log_scale))),
        bounds=(np.log(spread) - 9, np.log(spread) + 9), method="bounded", options={"xatol": 1e-6},
    )  # fmt: skip
    return min(float(found.fun), high)
