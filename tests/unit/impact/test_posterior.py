"""Draws that must not be used are refused, whatever is wrong with them."""

import numpy as np
import pytest
import xarray as xr

from eo_causal.errors import ConvergenceError
from eo_causal.impact.posterior import check_convergence, diagnose, mcse_of_average

N_CHAINS, N_DRAWS = 4, 500


def draws_of(values):
    return xr.Dataset({"level_sd": (("chain", "draw"), values)})


@pytest.fixture
def good():
    return np.random.default_rng(0).normal(size=(N_CHAINS, N_DRAWS))


def verdict(values, n_divergences=0):
    draws = draws_of(values)
    found = diagnose(draws, n_divergences)
    check_convergence(found, draws)
    return found


def test_independent_draws_pass(good):
    found = verdict(good)
    assert found["r_hat"] < 1.01
    assert found["ess_bulk"] > 1000
    assert (found["n_chains"], found["n_draws"]) == (N_CHAINS, N_DRAWS)


def one_nan(values):
    values[2, 17] = np.nan
    return values


def bimodal(values):
    return values * 0.1 + np.array([-1, -1, 1, 1])[:, None]


def constant_chain(values):
    values[1] = values[1, 0]
    return values


def sticky(values):
    return np.repeat(values[:, : N_DRAWS // 50], 50, axis=1)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (one_nan, "not finite"),
        (lambda values: values[:1], "chains 1 < 4"),
        (constant_chain, "constant"),
        (lambda values: np.ones_like(values), "constant"),
        (bimodal, "R-hat"),
        (sticky, "bulk ESS"),
        (lambda values: values[:, :60], "tail ESS"),
    ],
    ids=["nan", "one_chain", "constant_chain", "all_constant", "bimodal", "sticky", "few_draws"],
)
def test_bad_draws_are_refused_and_kept(good, damage, named):
    values = damage(good.copy())
    with pytest.raises(ConvergenceError, match=named) as caught:
        verdict(values)
    assert caught.value.exit_code == 5
    xr.testing.assert_identical(caught.value.facts["draws"], draws_of(values))


def test_divergences_are_refused(good):
    with pytest.raises(ConvergenceError, match="3 divergences"):
        verdict(good, n_divergences=3)


@pytest.mark.parametrize("name", ["r_hat", "ess_bulk", "ess_tail", "mcse_over_sd"])
def test_every_limit_fails_on_nan(good, name):
    found = diagnose(draws_of(good), 0) | {name: np.nan}
    with pytest.raises(ConvergenceError, match="nan"):
        check_convergence(found, draws_of(good))


def test_monte_carlo_error_of_independent_draws(good):
    found = mcse_of_average(xr.DataArray(good, dims=("chain", "draw")), (0.025, 0.975))
    assert found["mean"] == pytest.approx(1 / np.sqrt(good.size), rel=0.1)
    assert found["ess"] == pytest.approx(good.size, rel=0.2)
    normal_quantile_error = np.sqrt(0.025 * 0.975 / good.size) / 0.0584
    assert found["lower"] == pytest.approx(normal_quantile_error, rel=0.5)
