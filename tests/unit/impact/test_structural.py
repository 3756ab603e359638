"""The PyMC model is the model of the exact engine: same density, same posterior."""

import time

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from eo_causal.errors import ConfigError
from eo_causal.impact.fit import fit_impact
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.impact.structural import model_data, sample_nuts, structural_model
from eo_causal.simulate.series import local_level_series

pytestmark = pytest.mark.compiles
N_COEFFICIENTS = 15  # the graph that Morowali needs too: intercept, 11 months, 3 controls


def fixed_settings(**changes):
    return ImpactSettings(
        intervention="2020-01", engine="nuts", covariates=("x1", "x2", "x3"), **changes
    )


@pytest.fixture(scope="module")
def densities():
    """Log density of the data and its gradient, as functions of (level_sd, noise_sd, b)."""
    import pymc as pm

    model = structural_model(N_COEFFICIENTS)
    value = model.compile_logp(vars=model["likelihood"], jacobian=False)
    gradient = model.compile_dlogp()

    def at(data, level_sd, noise_sd, coefficient):
        point = {
            "noise_sd_log__": np.log(noise_sd),
            "level_sd_log__": np.log(level_sd),
            "coefficient": coefficient,
        }
        with model:
            pm.set_data(data)
        return float(value(point)), gradient(point), model, point

    return at


def test_density_equals_dense_algebra(series, densities):
    outcome, controls = series
    model = build_model(outcome, controls, fixed_settings(allow_event_gap=True))
    coefficient = np.random.default_rng(5).normal(0, 0.5, N_COEFFICIENTS)
    times = model.offsets[model.pre_rows]
    for level_sd, noise_sd in ((0.05, 0.5), (0.3, 0.2)):
        found = densities(model_data(model), level_sd, noise_sd, coefficient)[0]
        covariance = noise_sd**2 * np.eye(len(times)) + level_sd**2 * np.minimum.outer(times, times)
        mean = model.design[model.pre_rows] @ coefficient
        dense = multivariate_normal.logpdf(model.outcome, mean, covariance)
        assert found == pytest.approx(dense, rel=1e-8)


def test_gradient_equals_finite_differences(complete, densities):
    model = build_model(*complete, fixed_settings())
    coefficient = np.random.default_rng(5).normal(0, 0.5, N_COEFFICIENTS)
    _, gradient, graph, point = densities(model_data(model), 0.1, 0.4, coefficient)
    total = graph.compile_logp()
    step = 1e-5
    numeric = []
    for name in ("noise_sd_log__", "level_sd_log__", "coefficient"):
        for k in range(np.size(point[name])):
            shift = np.zeros(np.shape(point[name]))
            shift[k if shift.ndim else ()] = step
            up, down = (total(point | {name: point[name] + sign * shift}) for sign in (1, -1))
            numeric.append((up - down) / (2 * step))
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-5)


@pytest.fixture(scope="module")
def sampled():
    frame = local_level_series(7)
    settings = fixed_settings()
    return fit_impact(frame["y"], frame.drop(columns="y"), settings, seed=11)


def test_sampler_agrees_with_the_grid(sampled):
    """The contract between the engines: every difference within what is allowed."""
    shares = sampled.diagnostics["agreement_with_exact"]
    assert set(shares) == {"mean", "lower", "upper", "tail", "level_sd", "noise_sd"}
    assert max(shares.values()) <= 1


def test_sampler_converges_on_the_reference_series(sampled):
    found = sampled.diagnostics
    assert found["r_hat"] <= 1.01
    assert found["ess_bulk"] >= 400
    assert found["n_divergences"] == 0
    assert found["sampler"] == "pymc"
    assert sampled.average.estimate == pytest.approx(0.676, abs=0.03)


def test_sampling_is_fast_once_compiled(sampled):
    frame = local_level_series(8)
    model = build_model(frame["y"], frame.drop(columns="y"), fixed_settings())
    start = time.process_time()
    draws, _, _ = sample_nuts(model, seed=1)
    assert time.process_time() - start < 30  # about 5 s here; a recompilation would take longer
    assert draws.sizes == {"chain": 4, "draw": 1000, "covariate": N_COEFFICIENTS}


@pytest.mark.parametrize("change", [{"prior": "r_like"}, {"level": "constant"}])
def test_models_outside_the_graph_are_refused(complete, change):
    model = build_model(*complete, fixed_settings(**change))
    with pytest.raises(ConfigError, match="Use engine: exact"):
        sample_nuts(model, seed=1)
