"""Do intervals cover, do nulls stay null? Repeated simulations (EO_CAUSAL_SIZE=full for all).

Measured figures are listed at the end of the run; those of ``make validation`` stand in
docs/validation.md.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import chisquare

from eo_causal.impact.breakpoints import sup_f, sup_f_test
from eo_causal.impact.check import CheckInput
from eo_causal.impact.counterfactual import ParameterDraws, simulate_counterfactual
from eo_causal.impact.exact import sample_parameters
from eo_causal.impact.fit import exact_effect
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.impact.placebos import placebo_in_space
from eo_causal.impact.zones import RoleSettings, zone_controls, zone_outcome
from eo_causal.simulate.series import (
    ar_break,
    autoregressive,
    local_level_series,
    zones_panel,
)

pytestmark = pytest.mark.statistics
SETTINGS = ImpactSettings(intervention="2020-01")
FIRST_SEED = 1000


def effect_of(frame, **changes):
    settings = SETTINGS.model_copy(update=changes)
    return exact_effect(build_model(frame["y"], frame.drop(columns="y"), settings))


def covers(effect, truth):
    return effect["lower"] <= truth <= effect["upper"]


@pytest.mark.parametrize("truth", [0.6, 0.0], ids=["effect", "null"])
def test_intervals_cover(full_size, truth, measured):
    n = 500 if full_size else 200
    frames = [local_level_series(seed, effect=truth) for seed in range(FIRST_SEED, FIRST_SEED + n)]
    effects = [effect_of(frame) for frame in frames]
    share = float(np.mean([covers(effect, truth) for effect in effects]))
    means = np.array([effect["mean"] for effect in effects])
    measured("coverage", share)
    assert (0.925 if full_size else 0.92) <= share <= (0.975 if full_size else 0.98)
    assert abs(means.mean() - truth) < 2 * means.std(ddof=1) / np.sqrt(n)


def test_autocorrelated_errors_make_no_effects(full_size, measured):
    """AR(1) errors, rho .6: the level takes them up, so the interval is wide, never narrow."""
    n = 500 if full_size else 100
    wrong = 0
    for seed in range(FIRST_SEED, FIRST_SEED + n):
        frame = local_level_series(seed, effect=0.0, noise_sd=0.0)
        shocks = np.random.default_rng(seed + 10**6).normal(0, 0.5 * 0.8, 400)
        frame["y"] += autoregressive(shocks, 0.6)[100:]
        wrong += not covers(effect_of(frame), 0.0)
    measured("false_positives", wrong / n)
    assert wrong / n <= 0.075


def prior_predictive(model, random):
    """Parameters from the prior, a pre-period outcome and a counterfactual from them."""
    q = len(model.coefficients)
    level_sd, noise_sd = abs(random.normal(0, 0.1)), abs(random.normal(0, 1.0))
    coefficient = random.normal(0, 2.0, q)
    walk = np.cumsum(np.r_[0.0, random.normal(0, level_sd, len(model.offsets) - 1)])
    path = walk + model.design @ coefficient + random.normal(0, noise_sd, len(walk))
    simulated = dataclasses.replace(
        model, outcome=path[model.pre_rows], centre=0.0, spread=1.0, observed=path
    )
    truth = [level_sd, noise_sd, coefficient[0], coefficient[-1]]
    return simulated, [*truth, path[model.post_rows].sum()]


def ranks(model, truth, random, settings):
    """How many of 99 posterior draws lie below the truth, for every quantity."""
    fitted = dataclasses.replace(model, settings=settings)
    draws = ParameterDraws(*sample_parameters(fitted, 99, random))
    sums = simulate_counterfactual(fitted, draws, random).sum(axis=1)
    columns = [draws.level_sd, draws.noise_sd, draws.coefficient[:, 0], draws.coefficient[:, -1]]
    return [
        int((values < true).sum()) for values, true in zip([*columns, sums], truth, strict=True)
    ]


@pytest.mark.filterwarnings("ignore:the variance grid:eo_causal.errors.EOCausalWarning")
def test_simulation_based_calibration(full_size, measured):
    """Ranks of prior draws within their posteriors are uniform, and not so for a wrong model."""
    n = 2000 if full_size else 500
    frame = local_level_series(1, n=120, post=24)
    chosen = ImpactSettings(intervention="2008-01", season="none")
    model = build_model(frame["y"], frame[["x1"]], chosen)
    wrong = chosen.model_copy(update={"level_prior_sd": 0.01})
    right_ranks, wrong_ranks = [], []
    random = np.random.default_rng(20260307)
    for _ in range(n):
        simulated, truth = prior_predictive(model, random)
        right_ranks.append(ranks(simulated, truth, random, chosen))
        wrong_ranks.append(ranks(simulated, truth, random, wrong))
    p_right, p_wrong = (smallest_p(np.array(found)) for found in (right_ranks, wrong_ranks))
    measured("smallest_p", p_right)
    measured("smallest_p_misspecified", p_wrong)
    assert p_right > 0.001
    assert p_wrong < 0.001


def smallest_p(found):
    """Holm-adjusted smallest p of chi-square tests on 20 bins of ranks 0..99."""
    p_values = [chisquare(np.bincount(column // 5, minlength=20)).pvalue for column in found.T]
    return min(1.0, min(p_values) * len(p_values))


def test_sup_f_holds_its_size_and_finds_a_step(full_size, measured):
    n = 300 if full_size else 100
    n_bootstrap = 999 if full_size else 199
    random = np.random.default_rng(0)
    nulls = [sup_f_test(ar_break(seed), n_bootstrap, random)["p_value"] for seed in range(n)]
    steps = [sup_f_test(ar_break(seed, step=1.0), n_bootstrap, random) for seed in range(n)]
    size = float(np.mean(np.array(nulls) <= 0.05))
    power = float(np.mean([test["p_value"] <= 0.05 for test in steps]))
    date_error = float(np.median([abs(test["index"] - 256) for test in steps]))
    for name, value in (("size", size), ("power", power), ("date_error", date_error)):
        measured(name, value)
    assert size <= 0.08 + (0 if full_size else 0.02)
    assert power >= 0.95
    assert date_error <= 2


def test_shuffled_months_would_reject_almost_always():
    """Why the sieve is needed: permutation at the found date takes memory for a break."""
    random = np.random.default_rng(0)
    rejected = 0
    for seed in range(40):
        values = ar_break(seed)
        statistic, _ = sup_f(values[None, :])
        shuffled = np.array([random.permutation(values) for _ in range(199)])
        rejected += (sup_f(shuffled)[0] >= statistic).sum() < 10
    assert rejected / 40 > 0.6


def space_p_value(seed, effect):
    table = zones_panel(seed, effect=effect)
    zones = xr.Dataset(
        {"kd490": (("zone", "time"), table.to_numpy().T)},
        coords={"zone": list(table.columns), "time": table.index},
    )
    roles = RoleSettings(impact="zone_0", controls=tuple(table.columns[1:]))
    settings = SETTINGS.model_copy(update={"intervention": "2019-05"})
    outcome = zone_outcome(zones, "zone_0")
    controls = zone_controls(zones, roles, ("kd490",))
    headline = exact_effect(build_model(outcome, controls, settings))
    given = CheckInput(zones, roles, settings, outcome, controls, headline, seed)
    return placebo_in_space(given).summary["p_value"]


def test_placebo_in_space_ranks_a_true_effect_first(full_size):
    n = 10 if full_size else 5
    first = [space_p_value(seed, 1.0) == 1 / 20 for seed in range(n)]
    assert sum(first) >= 0.9 * n


def test_placebo_in_space_is_uniform_without_an_effect(full_size, measured):
    n = 100 if full_size else 30
    p_values = pd.Series([space_p_value(seed, 0.0) for seed in range(100, 100 + n)])
    bins = np.bincount(((p_values * 20).round().astype(int) - 1) // 4, minlength=5)
    found = chisquare(bins).pvalue
    measured("p", found)
    assert found > 0.01
