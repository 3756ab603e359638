"""The structural model in PyMC, in eig-marginal form: one compiled graph serves many series."""

import functools
from typing import Any

import numpy as np
import xarray as xr

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError
from eo_causal.impact.model import ImpactModel

PARAMETERS = ("level_sd", "noise_sd", "coefficient")


@functools.cache
def structural_model(n_coefficients: int) -> Any:
    """The PyMC model; data of any length and prior scales are replaced before each use.

    ``outcome`` is U'y, ``design`` U'X, ``eigenvalues`` lam (arXiv 2603.07331 asks for a local level
    with controls; the rotation makes its likelihood a product of independent normals).
    """
    import pymc as pm

    with pm.Model() as model:
        outcome = pm.Data("outcome", np.zeros(3))
        design = pm.Data("design", np.zeros((3, n_coefficients)))
        eigenvalues = pm.Data("eigenvalues", np.zeros(3))
        level_prior_sd = pm.Data("level_prior_sd", 0.1)
        coefficient_sd = pm.Data("coefficient_sd", 2.0)
        noise_sd = pm.HalfNormal("noise_sd", 1.0)
        level_sd = pm.HalfNormal("level_sd", level_prior_sd)
        coefficient = pm.Normal("coefficient", 0.0, coefficient_sd, shape=(n_coefficients,))
        pm.Normal(
            "likelihood",
            design @ coefficient,
            pm.math.sqrt(noise_sd**2 + level_sd**2 * eigenvalues),
            observed=outcome,
        )
    return model


def model_data(model: ImpactModel) -> dict[str, Any]:
    """What a series puts into the compiled graph."""
    return {
        "outcome": model.rotated_outcome,
        "design": model.rotated_design,
        "eigenvalues": model.eigenvalues,
        "level_prior_sd": np.asarray(model.settings.level_prior_sd),
        "coefficient_sd": np.asarray(model.settings.coefficient_sd),
    }


def sample_nuts(model: ImpactModel, *, seed: int) -> tuple[xr.Dataset, int, str]:
    """Sample the posterior of one series with NUTS.

    Returns
    -------
    draws : Dataset
        level_sd, noise_sd (chain, draw) and coefficient (chain, draw, covariate), standardised.
    n_divergences : int
    sampler : str
        The sampler that really ran.

    Raises
    ------
    ConfigError
        A model the compiled graph does not hold (constant level, r_like priors).
    """
    settings = model.settings
    if settings.level != "local_level" or settings.prior != "default":
        raise ConfigError(
            f"impact.engine: nuts fits level: local_level with prior: default, not level:"
            f" {settings.level} with prior: {settings.prior}. Use engine: exact."
        )
    number = int(generator(seed, "nuts").integers(2**31))
    trace = (_with_nutpie if settings.sampler == "nutpie" else _with_pymc)(model, number)
    posterior = trace["posterior"].to_dataset()
    divergences = int(trace["sample_stats"]["diverging"].sum())
    draws = xr.Dataset(
        {
            "level_sd": (("chain", "draw"), posterior["level_sd"].to_numpy()),
            "noise_sd": (("chain", "draw"), posterior["noise_sd"].to_numpy()),
            "coefficient": (("chain", "draw", "covariate"), posterior["coefficient"].to_numpy()),
        },
        coords={"covariate": list(model.coefficients)},
    )
    return draws, divergences, settings.sampler


@functools.cache
def _compiled(n_coefficients: int) -> Any:
    import nutpie

    return nutpie.compile_pymc_model(structural_model(n_coefficients), backend="numba")


def _with_nutpie(model: ImpactModel, number: int) -> Any:
    import nutpie

    settings = model.settings
    return nutpie.sample(
        _compiled(len(model.coefficients)).with_data(**model_data(model)),
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains, seed=number, progress_bar=False, cores=1,
    )  # fmt: skip


def _with_pymc(model: ImpactModel, number: int) -> Any:
    import pymc as pm

    settings = model.settings
    with structural_model(len(model.coefficients)):
        pm.set_data(model_data(model))
        return pm.sample(
            draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains, cores=1,
            random_seed=number, nuts_sampler="pymc", progressbar=False, quiet=True,
            compute_convergence_checks=False,
        )  # fmt: skip
