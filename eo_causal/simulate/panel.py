"""Panels with unit effects in treatment and outcome, and a known effect of 0.5."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from eo_causal.core.random import generator

Floats = NDArray[np.float64]
EFFECT = 0.5


def unit_effects(
    seed: int, *, linear: bool, shifted: bool, n: int = 250, periods: int = 10
) -> pd.DataFrame:
    """World A4: unit effects a_i ~ N(0, 1) in treatment and outcome, five covariates.

    X ~ N(0, variance 2), with ``shifted`` X1 and X2 + a_i; D = m + a_i + N(0, 1), Y = 0.5 D + g + a_i
    + N(0, 1); ``linear`` g = m = 0.25 X1 + X2, else g = tanh X1 + 0.5 cos X2, m = 0.8 cos X1 + 0.5
    tanh X2.

    Returns
    -------
    DataFrame
        unit_id, time, outcome, treatment, x1 ... x5; one row a unit and period.
    """
    random = generator(seed, "panel", "unit_effects")
    effect = np.repeat(random.standard_normal(n), periods)
    x = random.normal(0, np.sqrt(2), (n * periods, 5))
    if shifted:
        x[:, :2] += effect[:, None]
    if linear:
        g = m = 0.25 * x[:, 0] + x[:, 1]
    else:
        g = np.tanh(x[:, 0]) + 0.5 * np.cos(x[:, 1])
        m = 0.8 * np.cos(x[:, 0]) + 0.5 * np.tanh(x[:, 1])
    d = m + effect + random.standard_normal(len(x))
    y = EFFECT * d + g + effect + random.standard_normal(len(x))
    return _table(x, d, y, n, periods)


def clarke_polselli(
    seed: int, dgp: Literal["dgp1", "dgp2", "dgp3"], n: int = 250, periods: int = 10
) -> pd.DataFrame:
    """World A5: thirty covariates, outcome effects that go with means of treatment and covariates.

    X ~ N(0, variance 5), c_i ~ N(0, 1), D = m + c_i + V, Y = 0.5 D + g + alpha_i + U with alpha_i = 0.25
    (Dbar_i - Dbar) + 0.25 mean_t(X1 + X3) + a_i, a_i ~ N(0, variance 0.95). ``dgp1`` is linear, ``dgp2``
    smooth, ``dgp3`` has products that trees cannot represent (arXiv 2312.08174).
    """
    random = generator(seed, "panel", "clarke_polselli")
    a, b = 0.25, 0.5
    x = random.normal(0, np.sqrt(5), (n * periods, 30))
    x1, x3 = x[:, 0], x[:, 2]
    if dgp == "dgp1":
        g = m = a * x1 + x3
    elif dgp == "dgp2":
        g, m = expit(x1) + a * np.cos(x3), np.cos(x1) + a * expit(x3)
    else:
        g = b * x1 * x3 + a * x3 * (x3 > 0)
        m = a * x1 * (x1 > 0) + b * x1 * x3
    d = m + np.repeat(random.standard_normal(n), periods) + random.standard_normal(len(x))
    means = d.reshape(n, periods).mean(axis=1)
    own = 0.25 * (means - means.mean()) + 0.25 * (x1 + x3).reshape(n, periods).mean(axis=1)
    alpha = np.repeat(own + random.normal(0, np.sqrt(0.95), n), periods)
    y = EFFECT * d + g + alpha + random.standard_normal(len(x))
    return _table(x, d, y, n, periods)


def _table(x: Floats, d: Floats, y: Floats, n: int, periods: int) -> pd.DataFrame:
    columns = {f"x{number + 1}": x[:, number] for number in range(x.shape[1])}
    units = np.repeat(np.arange(n), periods)
    table = {"unit_id": units, "time": np.tile(np.arange(periods), n), "outcome": y, "treatment": d}
    return pd.DataFrame(table | columns)
