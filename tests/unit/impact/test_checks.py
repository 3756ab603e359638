"""Checks: what they fit, what they count, and what they refuse to conclude."""

import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.random import generator
from eo_causal.impact import searched
from eo_causal.impact.check import CheckInput
from eo_causal.impact.checks import (
    CheckSettings,
    control_contamination,
    leave_one_out,
    local_confounders,
    model_fit,
    pre_trend,
    prior_sensitivity,
    run_checks,
    scale_sensitivity,
)
from eo_causal.impact.exact import exact_posterior
from eo_causal.impact.fit import exact_effect, fit_impact
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.impact.placebos import PlaceboTimeSettings, placebo_in_space, placebo_in_time
from eo_causal.impact.residuals import one_step_errors
from eo_causal.impact.searched import search_adjusted
from eo_causal.impact.zones import RoleSettings, zone_controls, zone_outcome
from eo_causal.simulate.series import zones_panel

SETTINGS = ImpactSettings(intervention="2019-05")


def panel(seed=1, n_zones=6, effect=1.0):
    table = zones_panel(seed, n_zones=n_zones, effect=effect)
    return xr.Dataset(
        {"kd490": (("zone", "time"), table.to_numpy().T)},
        coords={"zone": list(table.columns), "time": table.index},
    )


def given_of(zones, settings=SETTINGS, n_controls=3):
    names = [str(name) for name in zones["zone"].to_numpy()]
    roles = RoleSettings(impact=names[0], controls=tuple(names[1 : 1 + n_controls]))
    outcome = zone_outcome(zones, roles.impact)
    controls = zone_controls(zones, roles, settings.covariates)
    headline = exact_effect(build_model(outcome, controls, settings))
    return CheckInput(zones, roles, settings, outcome, controls, headline, seed=1)


@pytest.fixture(scope="module")
def given():
    return given_of(panel())


def test_placebo_dates_and_windows_end_before_the_intervention(given):
    found = placebo_in_time(given, PlaceboTimeSettings())
    months = pd.to_datetime(found.table["month"])
    last = given.outcome.index.get_indexer(months).max()
    assert last + 68 <= 256
    assert (found.summary["n"], found.summary["window"]) == (22, 68)
    assert found.summary["n_disjoint"] == (256 - 60) // 68


def test_a_battery_of_placebos_takes_seconds(given):
    start = time.process_time()
    found = placebo_in_time(given, PlaceboTimeSettings(step=3))
    assert found.summary["n"] >= 40
    assert time.process_time() - start <= 10


def test_placebos_use_no_month_of_the_real_post_period(given):
    spoiled = given.outcome.copy()
    spoiled[spoiled.index >= "2019-05"] = 1e6
    other = CheckInput(
        given.zones, given.roles, SETTINGS, spoiled, given.controls, given.headline, 1
    )
    first, second = (placebo_in_time(each, PlaceboTimeSettings()) for each in (given, other))
    pd.testing.assert_frame_equal(first.table, second.table, check_exact=True)


def test_placebo_p_counts_the_larger_ones(given):
    found = placebo_in_time(given, PlaceboTimeSettings())
    larger = (found.table["mean"].abs() >= abs(given.headline["mean"])).sum()
    assert found.summary["p_value"] == (larger + 1) / (22 + 1)
    assert found.summary["drift"] == pytest.approx(found.table["mean"].mean())
    assert found.summary["minimum_detectable_effect"] == pytest.approx(
        2.80 * found.table["mean"].std(ddof=1)
    )


def test_too_few_placebo_dates_are_not_a_pass(given):
    found = placebo_in_time(given, PlaceboTimeSettings(first=180))
    assert found.passed is None
    assert found.summary["p_value"] is None
    assert found.text.startswith("Not possible")


def test_few_placebo_dates_inform_but_cannot_pass(given):
    found = placebo_in_time(given, PlaceboTimeSettings(first=60, step=20))
    assert found.summary["n"] < 19
    assert found.passed is not True
    assert "p cannot fall below" in found.text


def test_each_zone_becomes_the_pseudo_impact(given):
    found = placebo_in_space(given)
    assert found.table["zone"].tolist() == [f"zone_{j}" for j in range(6)]
    assert found.summary["n"] == 5
    fifth = found.table.set_index("zone").loc["zone_5"]
    alone = build_model(zone_outcome(given.zones, "zone_5"), given.controls, SETTINGS)
    assert fifth["mean"] == pytest.approx(exact_effect(alone)["mean"], rel=1e-10)
    assert found.summary["p_value"] == 1 / 6
    assert found.passed is None  # 1/6 cannot prove anything at 5 %


def test_one_other_zone_is_no_placebo_in_space():
    found = placebo_in_space(given_of(panel(n_zones=2), n_controls=1))
    assert (found.passed, found.summary["p_value"]) == (None, None)
    assert "Name further zones" in found.text


def test_a_control_that_moved_is_named():
    zones = panel()
    after = zones["time"] >= np.datetime64("2019-05")
    moved = zones["kd490"] + 2.0 * after * (zones["zone"] == "zone_2")
    found = control_contamination(given_of(zones.assign(kd490=moved)))
    assert found.passed is False
    assert "kd490 zone_2" in found.summary["changed"]


def test_leaving_out_a_control_keeps_a_true_effect(given):
    found = leave_one_out(given)
    assert found.passed is True
    assert len(found.table) == 3
    dropped = given.controls.drop(columns="kd490 zone_2")
    expected = exact_effect(build_model(given.outcome, dropped, SETTINGS))["mean"]
    row = found.table.set_index("dropped").loc["kd490 zone_2"]
    assert row["mean"] == pytest.approx(expected, rel=1e-12)
    assert row["share_of_effect"] == pytest.approx(expected / given.headline["mean"])


def test_prior_sensitivity_refits_with_half_and_twice_the_scale(given):
    found = prior_sensitivity(given)
    assert found.summary["n"] >= 2
    halved = SETTINGS.model_copy(update={"level_prior_sd": 0.05})
    expected = exact_effect(build_model(given.outcome, given.controls, halved))["mean"]
    assert found.table["mean"].iloc[0] == pytest.approx(expected, rel=1e-12)


def test_both_scales_find_a_factor():
    zones = panel(seed=3, effect=0.0)
    after = zones["time"] >= np.datetime64("2019-05")
    factor = xr.where(after & (zones["zone"] == "zone_0"), 1.25, 1.0)
    found = scale_sensitivity(given_of(zones * factor))
    assert found.passed
    for row in found.table.to_dict("records"):
        assert row["lower"] < 0.25 < row["upper"]
        assert row["mean"] == pytest.approx(0.25, abs=0.06)


def test_relative_effect_is_that_of_the_draws(given):
    result = fit_impact(given.outcome, given.controls, SETTINGS, seed=1)
    row = scale_sensitivity(given).table.iloc[0]
    assert row["mean"] == pytest.approx(result.relative.estimate, abs=0.004)
    assert (row["lower"], row["upper"]) == pytest.approx(result.relative.interval, abs=0.012)


def test_an_outcome_without_a_logarithm_leaves_the_scale_open():
    zones = panel()
    found = scale_sensitivity(given_of(zones - zones["kd490"].mean()))
    assert found.passed is None
    assert "log" in found.table["failed"].dropna().iloc[0]


def test_local_change_of_temperature_is_seen():
    zones = panel()
    random = np.random.default_rng(0)
    shape = zones["kd490"].shape
    warm = 28 + random.normal(0, 0.3, shape)
    warm[0, 256:] += 1.0
    zones["temperature"] = (("zone", "time"), warm)
    zones["salinity"] = (("zone", "time"), 34 + random.normal(0, 0.1, shape))
    found = local_confounders(given_of(zones))
    assert found.summary["changed"] == ["temperature"]
    assert local_confounders(given_of(panel())).passed is None


def test_drift_before_the_intervention_fails_the_pre_trend():
    zones = panel()
    drift = xr.DataArray(np.linspace(0, 2, 324), dims="time")
    drifting = zones["kd490"] + drift * (zones["zone"] == "zone_0")
    assert pre_trend(given_of(zones.assign(kd490=drifting))).passed is False
    steady = generator(0, "steady").normal(4, 0.3, zones["kd490"].shape)
    assert pre_trend(given_of(zones.assign(kd490=(("zone", "time"), steady)))).passed is True


def test_spiky_errors_fail_the_fit():
    zones = panel()
    random = np.random.default_rng(5)
    spikes = np.where(random.random(zones["kd490"].shape) < 0.03, 4.0, 0.0)
    found = model_fit(given_of(zones.assign(kd490=zones["kd490"] + spikes)))
    assert found.passed is False
    assert "impact.scale: log" in found.text
    assert found.summary["largest_error"] > 4
    good = model_fit(given_of(panel()))
    assert good.passed is True
    assert 0.9 <= good.summary["coverage"] <= 1.0


def test_one_step_errors_are_white_under_the_model(given):
    model = build_model(given.outcome, given.controls, SETTINGS)
    errors, sds = one_step_errors(model, exact_posterior(model))
    scaled = (errors / sds)[20:]
    assert scaled.std() == pytest.approx(1.0, abs=0.1)
    assert abs(np.corrcoef(scaled[1:], scaled[:-1])[0, 1]) < 0.15


def test_a_failed_fit_is_a_row_that_says_why(given):
    zones = given.zones.copy(deep=True)
    zones["kd490"].loc[{"zone": "zone_5"}] = 4.0
    found = placebo_in_space(given_of(zones))
    row = found.table.set_index("zone").loc["zone_5"]
    assert "constant" in row["failed"]
    assert (found.summary["n"], found.summary["n_failed"]) == (4, 1)


def test_only_the_checks_asked_for_run(given):
    chosen = CheckSettings(
        placebo_in_time=None, placebo_in_space=False, local_confounders=False, fit=False
    )
    names = [check.name for check in run_checks(given.zones, given.roles, SETTINGS, chosen, seed=1)]
    assert names == [
        "control_contamination", "leave_one_out", "prior_sensitivity", "scale_sensitivity",
        "pre_trend",
    ]  # fmt: skip


def with_local(zones, values):
    return zones.assign(temperature=(("zone", "time"), values))


def test_what_could_not_be_fitted_is_no_pass():
    zones = panel()
    shape = zones["kd490"].shape
    unusable = np.full(shape, 28.0)  # a constant control cannot be used
    unusable[0] += np.random.default_rng(0).normal(size=shape[1])
    found = local_confounders(given_of(with_local(zones, unusable)))
    assert found.passed is None
    assert "Could not be fitted: temperature" in found.text


def test_a_prior_that_is_not_used_is_not_varied(given):
    constant = SETTINGS.model_copy(update={"level": "constant"})
    found = prior_sensitivity(given_of(given.zones, constant))
    assert found.table["change"].tolist() == [
        "coefficient prior halved",
        "coefficient prior doubled",
    ]
    assert found.table["mean"].nunique() == 2
    r_like = SETTINGS.model_copy(update={"prior": "r_like", "season": "none"})
    assert prior_sensitivity(given_of(given.zones, r_like)).passed is None


@pytest.mark.filterwarnings("ignore:only .* observed pre periods:eo_causal.errors.EOCausalWarning")
def test_too_few_months_leave_checks_open():
    zones = panel().isel(time=slice(230, 290))
    short = given_of(zones, SETTINGS.model_copy(update={"season": "none"}), n_controls=1)
    assert model_fit(short).passed is None
    few = given_of(panel().isel(time=slice(240, 290)), SETTINGS.model_copy(update={"season": "none"}),
                   n_controls=1)  # fmt: skip
    assert pre_trend(few).passed is None


def test_slope_of_a_gappy_series_is_that_of_the_calendar():
    """A line added to the impact zone adds its slope per year, however many months are seen."""
    zones = panel(effect=0.0)
    impact = zones["zone"] == "zone_0"
    months = xr.DataArray(np.arange(zones.sizes["time"]), dims="time")
    hidden = xr.DataArray(np.random.default_rng(0).random(zones.sizes["time"]) < 0.5, dims="time")
    settings = SETTINGS.model_copy(update={"allow_event_gap": True})
    for seen in (impact | ~impact, ~(impact & hidden)):
        plain, tilted = (
            pre_trend(given_of(world.where(seen), settings)).summary["sen_slope"]
            for world in (zones, zones + xr.where(impact, 0.01, 0.0) * months)
        )
        assert tilted - plain == pytest.approx(0.12, abs=1e-3)


@pytest.fixture
def fewer_searches(monkeypatch):
    monkeypatch.setattr(searched, "N_SEARCHED", 39)


def test_a_true_effect_is_larger_than_searching_makes_it(fewer_searches):
    found = search_adjusted(given_of(panel(effect=1.5)))
    assert found.passed
    assert found.summary == {"n": 39, "n_larger": 0, "p_value": 1 / 40, "n_failed": 0}


def test_an_effect_that_is_none_is_not(fewer_searches):
    found = search_adjusted(given_of(panel(seed=4, effect=0.0)))
    assert found.passed is False
    assert found.summary["p_value"] > 0.2
    assert found.table["month"].nunique() > 10  # each series has its own best date


def test_the_search_is_adjusted_only_where_the_date_was_searched(given):
    off = {name: False for name in CheckSettings.model_fields if name != "placebo_in_time"}
    chosen = CheckSettings(**off | {"placebo_in_time": None, "search_adjusted": True})
    policy = run_checks(given.zones, given.roles, SETTINGS, chosen, seed=1)
    assert policy == ()


def test_a_headline_that_is_no_number_passes_no_placebo(given, fewer_searches):
    nothing = dataclasses.replace(given, headline=dict.fromkeys(given.headline, np.nan))
    assert placebo_in_time(nothing, PlaceboTimeSettings()).summary["p_value"] == 1
    assert placebo_in_space(nothing).passed is False
    assert search_adjusted(nothing).passed is False


def test_an_interval_that_is_no_number_is_not_unchanged(given, monkeypatch):
    row = {"mean": 0.0, "sd": 1.0, "lower": np.nan, "upper": np.nan}
    monkeypatch.setattr("eo_causal.impact.checks.fit_row", lambda *given: dict(row))
    found = control_contamination(given)
    assert found.passed is None
    assert "Could not be fitted" in found.text
