"""Series with a known truth: local levels with controls, breaks, panels of zones."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def autoregressive(innovations: Floats, phi: float, start: float = 0.0) -> Floats:
    """x_0 = start, x_t = phi x_(t-1) + e_t; the first innovation is not used."""
    values = np.empty_like(innovations)
    values[0] = start
    for t in range(1, len(values)):
        values[t] = phi * values[t - 1] + innovations[t]
    return values


def stationary_autoregressive(
    random: np.random.Generator, n: int, phi: float, innovation_sd: float
) -> Floats:
    """AR(1) that starts in its stationary distribution."""
    start = random.normal(0.0, innovation_sd / np.sqrt(1 - phi**2))
    return autoregressive(random.normal(0.0, innovation_sd, n), phi, start)


def local_level_series(
    seed: int = 7,
    n: int = 300,
    post: int = 60,
    effect: float = 0.6,
    level_sd: float = 0.05,
    noise_sd: float = 0.5,
) -> pd.DataFrame:
    """Monthly local level with three autoregressive controls and a step effect.

    y = level + 0.8 x1 + 0.4 x2 + N(0, noise_sd^2); x3 is unrelated; the last ``post`` months carry
    the effect.

    Returns
    -------
    DataFrame
        Columns y, x1, x2, x3 from 2000-01 on.
    """
    random = np.random.default_rng(seed)
    t = np.arange(n)
    e1, e2 = random.normal(0, 0.5, n), random.normal(0, 0.6, n)
    e3 = random.normal(0, 1, n)
    x1 = autoregressive(e1, 0.7) + np.sin(2 * np.pi * t / 12)
    x2 = autoregressive(e2, 0.5) + 0.5 * np.cos(2 * np.pi * t / 12)
    x3 = autoregressive(e3, 0.3)
    level = 5 + np.cumsum(random.normal(0, level_sd, n))
    y = level + 0.8 * x1 + 0.4 * x2 + random.normal(0, noise_sd, n)
    y[n - post :] += effect
    months = pd.date_range("2000-01", periods=n, freq="MS", name="date")
    return pd.DataFrame({"y": y, "x1": x1, "x2": x2, "x3": x3}, index=months)


def white_noise(seed: int, n: int = 1050, post: int = 50) -> tuple[pd.Series, str]:
    """N(5, 1) without level, season or controls; returns the series and its intervention month."""
    random = np.random.default_rng(seed)
    months = pd.date_range("1900-01", periods=n, freq="MS")
    return pd.Series(random.normal(5, 1, n), index=months), f"{months[n - post]:%Y-%m}"


def ar_break(
    seed: int, n: int = 324, phi: float = 0.6, sd: float = 0.4, step: float = 0.0, at: int = 256
) -> Floats:
    """AR(1) after 100 burn-in steps, plus a step from index ``at`` on."""
    random = np.random.default_rng(seed)
    values = autoregressive(random.normal(0, sd, n + 100), phi)[100:]
    values[at:] += step
    return values


def zones_panel(
    seed: int, n_zones: int = 20, n: int = 324, intervention: int = 256, effect: float = 1.0
) -> pd.DataFrame:
    """Zones that share a driver; the first one carries a step effect.

    a_j + b_j z_t + random walk (step sd 0.02) + N(0, 0.4^2) with z an AR(0.6).

    Returns
    -------
    DataFrame
        One column per zone (``zone_0`` is affected), months from 1998-01 on.
    """
    random = np.random.default_rng(seed)
    z = stationary_autoregressive(random, n, 0.6, 0.3)
    base, slope = random.normal(4, 0.3, n_zones), random.normal(0.8, 0.2, n_zones)
    walk = np.cumsum(random.normal(0, 0.02, (n, n_zones)), axis=0)
    values = base + z[:, None] * slope + walk + random.normal(0, 0.4, (n, n_zones))
    values[intervention:, 0] += effect
    months = pd.date_range("1998-01", periods=n, freq="MS", name="time")
    return pd.DataFrame(values, index=months, columns=[f"zone_{j}" for j in range(n_zones)])
