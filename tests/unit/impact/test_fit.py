"""Effects of one series: identities, invariances, intervals, and words that stay within them."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.errors import EOCausalWarning, FitError
from eo_causal.impact.check import CheckResult
from eo_causal.impact.counterfactual import ParameterDraws, tail_probability
from eo_causal.impact.exact import exact_posterior
from eo_causal.impact.fit import compare_engines, exact_effect, fit_impact
from eo_causal.impact.model import ImpactSettings, build_model
from eo_causal.simulate.series import local_level_series, white_noise

CHECKS = [
    CheckResult("placebo_in_time", passed, "", pd.DataFrame(), {}) for passed in (True, False)
]


@pytest.fixture(scope="module")
def result():
    frame = local_level_series(7)
    settings = ImpactSettings(intervention="2020-01", covariates=())
    return fit_impact(frame["y"], frame.drop(columns="y"), settings, seed=1, units="m-1")


def per_draw(result, name):
    values = result.draws[name].to_numpy()
    return values.reshape(-1, *values.shape[2:])


def test_every_effect_is_computed_per_draw(result):
    observed = result.series["response"].to_numpy()[240:]
    paths = per_draw(result, "counterfactual")
    average = (observed - paths).mean(axis=1)
    relative = observed.sum() / paths.sum(axis=1) - 1
    assert result.average.estimate == pytest.approx(average.mean(), rel=1e-12)
    assert result.average.interval == pytest.approx(np.quantile(average, [0.025, 0.975]))
    assert result.relative.estimate == pytest.approx(relative.mean(), rel=1e-12)
    assert result.relative.interval == pytest.approx(np.quantile(relative, [0.025, 0.975]))


def test_cumulative_effect_ends_at_the_sum(result):
    assert result.cumulative.estimate == pytest.approx(60 * result.average.estimate, rel=1e-10)
    last = result.series.iloc[-1]
    assert last["cum_effect"] == pytest.approx(result.cumulative.estimate, rel=1e-10)
    ends = last[["cum_effect_lower", "cum_effect_upper"]]
    assert tuple(ends) == pytest.approx(result.cumulative.interval, rel=1e-10)
    before = result.series.iloc[:240]
    assert (before[["cum_effect", "cum_effect_lower", "cum_effect_upper"]] == 0).all(axis=None)


def test_cumulative_band_widens(result):
    after = result.series.iloc[240:]
    width = (after["cum_effect_upper"] - after["cum_effect_lower"]).to_numpy()
    assert (np.diff(width[::6]) > 0).all()


def test_draws_agree_with_the_exact_mixture(result):
    frame = local_level_series(7)
    exact = exact_effect(build_model(frame["y"], frame.drop(columns="y"), result.settings))
    assert result.average.estimate == pytest.approx(exact["mean"], abs=4 * exact["sd"] / 63)
    assert result.average.std_error == pytest.approx(exact["sd"], rel=0.05)
    assert result.p_value == pytest.approx(exact["p_value"], abs=4 * result.p_value_mcse)


def test_interval_of_the_average_is_not_the_mean_of_bounds():
    """White noise: the average of m months is known about 1 / sqrt(m) as well as one month."""
    series, month = white_noise(0)
    settings = ImpactSettings(
        intervention=month, season="none", level="constant", covariates=(), n_exact_draws=20_000
    )
    found = fit_impact(series, pd.DataFrame(index=series.index), settings, seed=1)
    after = found.series.iloc[-50:]
    monthly = (after["point_effect_upper"] - after["point_effect_lower"]).mean()
    low, high = found.average.interval
    assert (high - low) / monthly == pytest.approx(1.024 / np.sqrt(50), rel=0.05)


def test_level_uncertainty_follows_the_random_walk():
    """Var(mean of m later levels - last level) = level_sd^2 (m + 1)(2m + 1) / (6m)."""
    frame = local_level_series(7)
    model = build_model(frame["y"], frame[["x1"]], ImpactSettings(intervention="2020-01"))
    m, node = 60, exact_posterior(model).nodes[-1]
    assert node.ratio > 9  # so that hardly any noise hides the last level
    walk = (m + 1) * (2 * m + 1) / (6 * m)
    assert node.level_variance == pytest.approx(walk + 1 / node.ratio**2, rel=1e-3)


def test_same_seed_same_bits_other_seed_other_draws(result):
    frame = local_level_series(7)
    again, other = (
        fit_impact(frame["y"], frame.drop(columns="y"), result.settings, seed=seed)
        for seed in (1, 2)
    )
    pd.testing.assert_frame_equal(again.series, result.series, check_exact=True)
    assert other.average.estimate != result.average.estimate


def test_scaled_outcome_scales_the_effect(result):
    frame = local_level_series(7)
    twice = fit_impact(2 * frame["y"] - 1, frame.drop(columns="y"), result.settings, seed=1)
    assert twice.average.estimate == pytest.approx(2 * result.average.estimate, rel=1e-8)
    assert twice.p_value == result.p_value


@pytest.mark.parametrize(
    ("sums", "observed", "expected"),
    [(range(99), 200.0, 1 / 100), (range(99), 95.0, 5 / 100), (range(99), -1.0, 1 / 100)],
)
def test_tail_probability_by_hand(sums, observed, expected):
    assert tail_probability(np.array(sums, dtype=float), observed) == expected


def test_missing_post_months_are_left_out_and_said():
    frame = local_level_series(7)
    frame["y"] = frame["y"].mask(frame.index >= "2024-07")
    found = fit_impact(
        frame["y"], frame[["x1", "x2"]], ImpactSettings(intervention="2020-01"), seed=1
    )
    assert (found.average.n, found.diagnostics["n_missing_post"]) == (54, 6)
    assert found.cumulative.estimate == pytest.approx(54 * found.average.estimate, rel=1e-10)
    assert "sums run over observed periods" in found.report()


def test_log_scale_gives_the_factor():
    frame = local_level_series(7, effect=0)
    y = np.exp(frame["y"] / 10)
    y[frame.index >= "2020-01"] *= 1.5
    settings = ImpactSettings(intervention="2020-01", scale="log")
    found = fit_impact(y, frame.drop(columns="y"), settings, seed=1)
    low, high = found.relative.interval
    assert low < 0.5 < high
    assert high - low < 0.25
    assert "geometric" in found.relative.method


def test_report_claims_no_cause_when_a_check_failed(result):
    assert "not yet a causal claim" in result.report()
    assert "three assumptions" in result.report(CHECKS[:1])
    failed = result.report(tuple(CHECKS))
    assert "caused by the intervention is not supported" in failed
    assert "Read as an effect" not in failed


def test_summary_holds_the_familiar_rows(result):
    lines = result.summary().splitlines()
    titles = [line[:24].strip() for line in lines[:8]]
    assert titles == [
        "", "Actual", "Prediction (s.d.)", "95% CI", "Absolute effect (s.d.)", "95% CI",
        "Relative effect (s.d.)", "95% CI",
    ]  # fmt: skip
    assert f"{result.table.loc['average', 'abs_effect']:.4g}" in lines[4]
    assert lines[-2].endswith(f"{result.p_value:.5f}")


def test_units_change_for_display_only(result):
    shown = result.scaled(100, "1e-2 m-1")
    assert shown.average.estimate == pytest.approx(100 * result.average.estimate)
    assert shown.relative == result.relative
    assert shown.table.loc["average", "rel_effect"] == result.table.loc["average", "rel_effect"]
    assert shown.p_value == result.p_value


def test_trending_controls_warn():
    frame = local_level_series(7)
    controls = frame.drop(columns="y").add(np.arange(300) * 0.02, axis=0)
    with pytest.warns(EOCausalWarning, match="x1, x2, x3") as caught:
        fit_impact(frame["y"], controls, ImpactSettings(intervention="2020-01"), seed=1)
    assert caught[0].message.code == "TrendWarning"


@pytest.mark.parametrize("shift", [0.5, np.nan])
def test_engines_that_disagree_are_refused(shift):
    frame = local_level_series(7)
    model = build_model(frame["y"], frame.drop(columns="y"), ImpactSettings(intervention="2020-01"))
    posterior = exact_posterior(model)
    random = np.random.default_rng(0)
    exact = exact_effect(model)
    from eo_causal.impact.exact import sample_parameters

    draws = ParameterDraws(*sample_parameters(model, 4000, random), n_chains=4)
    average = random.normal(exact["mean"] + shift * exact["sd"], exact["sd"], 4000)
    errors = {"ess": 4000.0, "mean": exact["sd"] / 63, "lower": 0.01, "upper": 0.01}
    with pytest.raises(FitError, match="mean") as caught:
        compare_engines(model, posterior, average, draws, errors)
    assert not caught.value.facts["shares"]["mean"] <= 1
