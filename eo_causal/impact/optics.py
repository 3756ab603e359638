"""What a change of attenuation means in metres of light: the euphotic depth."""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.effect import Effect
from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, DataError, EOCausalWarning
from eo_causal.impact.counterfactual import ImpactResult, quantiles

DepthMethod = Literal["kd490", "morel_kdpar1", "morel_kdpar2"]
FEW_INVALID = 1e-3
METHODS: tuple[DepthMethod, ...] = ("kd490", "morel_kdpar1", "morel_kdpar2")
_LABELS = {
    "kd490": "4.6 / Kd490, used as if it were Kd(PAR) (arXiv 2603.07331)",
    "morel_kdpar1": "4.6 / Kd(PAR) over one attenuation length (Morel et al. 2007, eq. 9)",
    "morel_kdpar2": "4.6 / Kd(PAR) over two attenuation lengths (Morel et al. 2007, eq. 9')",
}


class DepthSettings(Settings):
    """How attenuation becomes a depth."""

    method: DepthMethod = Field(default="kd490", description="headline; the others stand beside it")
    average: Literal["of_mean", "monthly"] = Field(
        default="of_mean", description="depth of the mean attenuation, or mean of monthly depths"
    )


@dataclass(frozen=True)
class DepthResult:
    """Change of the euphotic depth, metres, negative = shallower.

    Attributes
    ----------
    change : Effect
        Observed minus counterfactual depth, headline method.
    observed, counterfactual : float
        Depths, m, positive down.
    table : DataFrame
        One row per method.
    n_invalid : int
        Draws or months without a positive Kd(PAR).
    text : str
        One sentence.
    """

    change: Effect
    observed: float
    counterfactual: float
    table: pd.DataFrame
    n_invalid: int
    text: str


def euphotic_depth(kd490: Any, method: str = "kd490") -> NDArray[np.float64]:
    """Depth of 1 % of surface light.

    Parameters
    ----------
    kd490 : array
        m-1.
    method : str
        ``kd490``, ``morel_kdpar1`` or ``morel_kdpar2``.

    Returns
    -------
    array
        m, positive down; NaN where Kd(PAR) is not positive.

    Raises
    ------
    ConfigError
        Another method; Lee et al. (2007) needs absorption and backscattering.
    """
    kd = np.asarray(kd490, dtype=float)
    if method not in METHODS:
        more = " Lee et al. (2007) needs absorption and backscattering." if "lee" in method else ""
        raise ConfigError(
            f"depth.method: {method!r} cannot be computed from Kd490 alone.{more} Use one of"
            f" {', '.join(METHODS)}.", method=method,
        )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "kd490":
            par = kd
        elif method == "morel_kdpar1":
            par = 0.0864 + 0.884 * kd - 0.00137 / kd
        else:
            par = 0.0665 + 0.874 * kd - 0.00121 / kd
        return np.where((kd > 0) & (par > 0), 4.6 / np.where(par > 0, par, 1.0), np.nan)


def depth_change(result: ImpactResult, settings: DepthSettings) -> DepthResult:
    """Depth of the observed minus depth of the counterfactual water, per posterior draw.

    Without draws (paper mode) there is no interval: the published number has none.
    """
    rows = {}
    for method in METHODS:
        rows[method] = _one_method(result, method, settings.average)
    change, observed, counterfactual, n_invalid = rows[settings.method]
    table = pd.DataFrame(
        [
            {
                "method": name,
                "observed_m": row[1],
                "counterfactual_m": row[2],
                "change_m": row[0].estimate,
                "lower_m": row[0].interval[0] if row[0].interval else None,
                "upper_m": row[0].interval[1] if row[0].interval else None,
                "meaning": _LABELS[name],
            }
            for name, row in rows.items()
        ]
    )
    low_high = ""
    if change.interval is not None:
        low_high = (
            f" (change {change.estimate:+.1f} m, {change.level:.0%} interval"
            f" {change.interval[0]:+.1f} to {change.interval[1]:+.1f} m)"
        )
    text = (
        f"The euphotic zone is {abs(change.estimate):.1f} m"
        f" {'shallower' if change.estimate < 0 else 'deeper'}{low_high}: {observed:.1f} m instead of"
        f" {counterfactual:.1f} m. Method: {_LABELS[settings.method]}; "
        + ("depth of the mean attenuation." if settings.average == "of_mean" else "mean of monthly depths.")
    )  # fmt: skip
    if n_invalid:
        count(depths_impossible=n_invalid)
        text += f" {n_invalid:,} drawn depths without light physics were left out."
        if settings.average == "monthly" and not n_invalid <= FEW_INVALID * n_drawn(result):
            warnings.warn(
                EOCausalWarning(
                    f"{n_invalid:,} drawn months of counterfactual water have no depth (Kd490 of 0 or"
                    " below), and months near them have huge ones. Use depth.average: of_mean, or"
                    " impact.scale: log.", "DepthWarning",
                ),
                stacklevel=2,
            )  # fmt: skip
    return DepthResult(change, observed, counterfactual, table, n_invalid, text)


def n_drawn(result: ImpactResult) -> int:
    """Drawn counterfactual months, over which impossible depths are counted."""
    return 1 if result.draws is None else int(result.draws["counterfactual"].size)


def _one_method(
    result: ImpactResult, method: str, average: str
) -> tuple[Effect, float, float, int]:
    post = result.series[result.series.index >= result.diagnostics["intervention"]]
    seen = post["response"].notna().to_numpy()
    response = post["response"].to_numpy(dtype=float)[seen]
    if result.draws is None:
        predicted = post["point_pred"].to_numpy(dtype=float)[None, seen]
    else:
        paths = result.draws["counterfactual"].to_numpy()
        predicted = paths.reshape(-1, paths.shape[-1])[:, seen]
    monthly = average == "monthly"
    if not monthly:
        observed = float(euphotic_depth(response.mean(), method))
        depths = euphotic_depth(predicted.mean(axis=1), method)
    else:
        observed = float(np.nanmean(euphotic_depth(response, method)))
        depths = np.nanmean(euphotic_depth(predicted, method), axis=1)
    n_invalid = int(np.isnan(euphotic_depth(predicted, method)).sum()) if monthly else 0
    n_invalid = n_invalid or int(np.isnan(depths).sum())
    change = observed - depths[np.isfinite(depths)]
    if not len(change) or not np.isfinite(observed):
        raise DataError(
            f"depth.method {method}: attenuation of {response.mean():.3g} m-1 has no euphotic depth."
            " Are the units right? Set data.units.", method=method,
        )  # fmt: skip
    interval, error = None, None
    if result.draws is not None:
        interval, error = quantiles(change, result.average.level), float(change.std(ddof=1))
    effect = Effect(
        float(change.mean()),
        error,
        interval,
        result.average.level,
        method,
        len(response),
        None,
        "m",
    )
    return effect, observed, float(np.nanmean(depths)), n_invalid
