"""The one place that talks to ArviZ: convergence diagnostics and the gate they must pass."""

from typing import Any

import numpy as np
import xarray as xr

from eo_causal.errors import ConvergenceError

MAX_R_HAT = 1.01
MIN_ESS = 400
MAX_MCSE_SHARE = 0.05
MIN_CHAINS = 4


def diagnose(draws: xr.Dataset, n_divergences: int) -> dict[str, Any]:
    """Convergence diagnostics over all variables of a set of draws.

    Parameters
    ----------
    draws : Dataset
        Variables with dims ``(chain, draw, ...)``.
    n_divergences : int
        Divergent transitions after tuning.

    Returns
    -------
    dict
        n_chains, n_draws, r_hat (largest), ess_bulk and ess_tail (smallest), mcse_over_sd
        (largest), n_divergences, all_finite, any_constant; NaN where ArviZ gives NaN.
    """
    import arviz

    values = np.concatenate(
        [draws[name].to_numpy().reshape(*draws[name].shape[:2], -1) for name in draws.data_vars],
        axis=2,
    )
    finite = bool(np.isfinite(values).all())
    spread = values.std(axis=1)
    worst: dict[str, list[float]] = {
        "r_hat": [],
        "ess_bulk": [],
        "ess_tail": [],
        "mcse_over_sd": [],
    }
    for name in draws.data_vars:
        one = draws[[name]]
        with np.errstate(divide="ignore", invalid="ignore"):  # constant chains give NaN, as wanted
            worst["r_hat"].append(_extreme(arviz.rhat(one)[name], np.max))
            worst["ess_bulk"].append(_extreme(arviz.ess(one, method="bulk")[name], np.min))
            worst["ess_tail"].append(_extreme(arviz.ess(one, method="tail")[name], np.min))
            error, sd = arviz.mcse(one)[name], one[name].std(("chain", "draw"))
            worst["mcse_over_sd"].append(_extreme(error / sd.where(sd > 0), np.max))
    return {
        "n_chains": int(draws.sizes["chain"]),
        "n_draws": int(draws.sizes["draw"]),
        "r_hat": float(np.max(worst["r_hat"])),
        "ess_bulk": float(np.min(worst["ess_bulk"])),
        "ess_tail": float(np.min(worst["ess_tail"])),
        "mcse_over_sd": float(np.max(worst["mcse_over_sd"])),
        "n_divergences": int(n_divergences),
        "all_finite": finite,
        "any_constant": bool((spread == 0).any()),
    }


def mcse_of_average(draws: xr.DataArray, probabilities: tuple[float, float]) -> dict[str, float]:
    """ESS and Monte-Carlo errors of a scalar with dims ``(chain, draw)``."""
    import arviz

    one = draws.to_dataset(name="value")
    return {
        "ess": float(arviz.ess(one, method="bulk")["value"]),
        "mean": float(arviz.mcse(one)["value"]),
        "lower": float(arviz.mcse(one, method="quantile", prob=probabilities[0])["value"]),
        "upper": float(arviz.mcse(one, method="quantile", prob=probabilities[1])["value"]),
    }


def check_convergence(diagnostics: dict[str, Any], draws: xr.Dataset) -> None:
    """Refuse draws that must not be used; every comparison fails on NaN.

    Raises
    ------
    ConvergenceError
        Names each violated limit; carries the draws as ``facts["draws"]``.
    """
    limits = [
        (diagnostics["n_chains"] >= MIN_CHAINS, f"chains {diagnostics['n_chains']} < {MIN_CHAINS}"),
        (diagnostics["all_finite"], "some draws are not finite"),
        (not diagnostics["any_constant"], "a parameter is constant within a chain"),
        (diagnostics["r_hat"] <= MAX_R_HAT, f"R-hat {diagnostics['r_hat']:.3f} > {MAX_R_HAT}"),
        (diagnostics["ess_bulk"] >= MIN_ESS, f"bulk ESS {diagnostics['ess_bulk']:.0f} < {MIN_ESS}"),
        (diagnostics["ess_tail"] >= MIN_ESS, f"tail ESS {diagnostics['ess_tail']:.0f} < {MIN_ESS}"),
        (diagnostics["n_divergences"] == 0, f"{diagnostics['n_divergences']} divergences"),
        (
            diagnostics["mcse_over_sd"] <= MAX_MCSE_SHARE,
            f"MCSE/sd {diagnostics['mcse_over_sd']:.3f} > {MAX_MCSE_SHARE}",
        ),
    ]
    failed = [text for holds, text in limits if not holds]
    if failed:
        raise ConvergenceError(
            f"the sampler has not converged ({'; '.join(failed)}). Run 4 chains, more draws or more"
            " tuning, or use impact.engine: exact. The draws are kept, no effect is reported.",
            failed=failed, diagnostics=diagnostics, draws=draws,
        )  # fmt: skip


def _extreme(values: xr.DataArray, choose: Any) -> float:
    return float(choose(values.to_numpy()))
