"""How small an effect a trial can find when a map stands in for a survey.

A map that correlates rho with the truth makes errors of variance 1/rho^2 - 1 (in variances of the outcome)
once its shrinkage is undone, so that n places are worth rho^2 n surveyed ones.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy import stats

from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, DataError

Share = Annotated[float, Field(gt=0, lt=1)]


class DesignSettings(Settings):
    """A trial with an outcome from a map; effects in standard deviations of the outcome."""

    n_clusters: int | None = Field(
        default=None, ge=2, description="randomised groups; null = asked for"
    )
    cluster_size: int = Field(default=1, ge=1, description="places a group")
    rho: float = Field(gt=0, le=1, description="correlation of map and truth in the study area")
    icc: float = Field(
        default=0.0, ge=0, lt=1, description="intra-cluster correlation of the outcome"
    )
    map_error_icc: float = Field(
        default=0.0, ge=0, le=1, description="the same of the map's errors"
    )
    share_treated: Share = Field(default=0.5, description="of the groups")
    alpha: Share = 0.05
    power: Share | None = Field(default=0.8, description="null = asked for")
    effect: float | None = Field(default=None, gt=0, description="null = asked for")


@dataclass(frozen=True)
class Power:
    """A design whose unknown has been found.

    Attributes
    ----------
    asked : str
        ``effect``, ``power`` or ``n_clusters``: which of the three was found.
    effect : float
        Smallest effect found with this power, sd of the outcome.
    power : float
    n_clusters : int
    std_error : float
        Of the effect, sd of the outcome.
    survey_clusters : float
        Groups that would do if the outcome were surveyed.
    warnings : tuple of str
    """

    asked: Literal["effect", "power", "n_clusters"]
    effect: float
    power: float
    n_clusters: int
    std_error: float
    survey_clusters: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        head = {
            "effect": f"The smallest effect found with a power of {self.power:.0%} is"
            f" {self.effect:.4f} sd",
            "power": f"An effect of {self.effect:.4g} sd is found with a power of {self.power:.1%}",
            "n_clusters": f"An effect of {self.effect:.4g} sd takes {self.n_clusters:,} groups for a"
            f" power of {self.power:.0%}",
        }[self.asked]
        body = (
            f" ({self.n_clusters:,} groups, standard error {self.std_error:.4f} sd). With a survey"
            f" {self.survey_clusters:,.0f} groups would do."
        )
        return "\n".join([head + body, *self.warnings])


def design_power(settings: DesignSettings) -> Power:
    """Minimum detectable effect, power, or number of groups: whichever of the three is left open.

    Raises
    ------
    ConfigError
        None, or more than one, of ``effect``, ``power`` and ``n_clusters`` is open.

    Notes
    -----
    With e = 1/rho^2 - 1 and m places a group, the variance of a group's mean is icc + r e +
    ((1 - icc) + (1 - r) e)/m, r = ``map_error_icc``; normal quantiles.
    """
    values = {name: getattr(settings, name) for name in ("effect", "power", "n_clusters")}
    unknown = [name for name, value in values.items() if value is None]
    if len(unknown) != 1:
        raise ConfigError(
            f"power: {', '.join(unknown) or 'none of effect, power, n_clusters'} is open; leave exactly one"
            " of the three open, it will be found.", open=unknown,
        )  # fmt: skip
    treated = settings.share_treated * (1 - settings.share_treated)
    with_map = cluster_variance(settings) / treated
    with_survey = cluster_variance(settings.model_copy(update={"rho": 1.0})) / treated
    z = float(stats.norm.ppf(1 - settings.alpha / 2))
    if settings.n_clusters is None:
        assert settings.effect is not None
        assert settings.power is not None
        quantiles = z + float(stats.norm.ppf(settings.power))
        n_clusters = int(np.ceil(with_map * (quantiles / settings.effect) ** 2))
    else:
        n_clusters = settings.n_clusters
    error = float(np.sqrt(with_map / n_clusters))
    effect, power = settings.effect, settings.power
    if effect is None:
        assert power is not None
        effect = (z + float(stats.norm.ppf(power))) * error
    elif power is None:
        power = float(stats.norm.cdf(effect / error - z) + stats.norm.cdf(-effect / error - z))
    assert power is not None
    return Power(
        "n_clusters" if unknown[0] == "n_clusters" else "effect" if unknown[0] == "effect" else "power",
        effect, power, n_clusters, error, n_clusters * with_survey / with_map, _warnings(settings),
    )  # fmt: skip


def cluster_variance(settings: DesignSettings) -> float:
    """Variance of the mean of a group, in variances of the outcome."""
    error, shared, m = 1 / settings.rho**2 - 1, settings.map_error_icc, settings.cluster_size
    between = settings.icc + shared * error
    return between + ((1 - settings.icc) + (1 - shared) * error) / m


def local_correlation(
    slope: float, prediction_variance: float, outcome_variance: float, local_sd: float
) -> float:
    """Correlation of map and truth where the truth varies by ``local_sd``.

    rho^2 = k^2 s^2 / (k^2 s^2 + v), v = Var(prediction) - k^2 Var(outcome): a correlation from a whole
    country is too hopeful for a district.

    Parameters
    ----------
    slope, prediction_variance, outcome_variance : float
        Of prediction on truth, where the map was calibrated.
    local_sd : float
        Of the outcome in the study area.

    Raises
    ------
    DataError
        Predictions that vary less than their slope on the truth allows, or no variation.
    """
    noise = prediction_variance - slope**2 * outcome_variance
    if not (noise >= 0 and local_sd > 0 and slope != 0):
        raise DataError(
            f"a slope of {slope:.3g}, variances {prediction_variance:.3g} (map) and {outcome_variance:.3g}"
            f" (truth) and a local sd of {local_sd:.3g} belong to no map. Take all of them from one"
            " calibration, in one unit.", slope=slope,
        )  # fmt: skip
    signal = slope**2 * local_sd**2
    return float(np.sqrt(signal / (signal + noise)))


def _warnings(settings: DesignSettings) -> tuple[str, ...]:
    found = []
    if settings.map_error_icc == 0 and settings.cluster_size > 1 and settings.rho < 1:
        found.append(
            "Errors of maps go together in space: map_error_icc = 0 is hopeful. Try 0.1 to 0.3."
        )
    if settings.n_clusters is not None and settings.n_clusters < 30:
        found.append("With fewer than 30 groups the normal quantiles are hopeful.")
    return tuple(found)
