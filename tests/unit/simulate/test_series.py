"""Series of known truth: their recipe, their effects, their reproducibility."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.simulate.series import (
    ar_break,
    autoregressive,
    local_level_series,
    stationary_autoregressive,
    white_noise,
    zones_panel,
)


def test_autoregression_by_hand():
    np.testing.assert_allclose(autoregressive(np.array([9.0, 1.0, 2.0]), 0.5), [0, 1, 2.5])


def test_stationary_start_has_the_stationary_variance():
    random = np.random.default_rng(0)
    starts = [stationary_autoregressive(random, 2, 0.6, 0.3)[0] for _ in range(4000)]
    assert np.std(starts) == pytest.approx(0.3 / 0.8, rel=0.04)


def test_effect_of_the_local_level_series_is_a_step_at_the_end():
    difference = local_level_series(3, effect=0.6)["y"] - local_level_series(3, effect=0.0)["y"]
    np.testing.assert_allclose(difference[:240], 0.0, atol=1e-12)
    np.testing.assert_allclose(difference[240:], 0.6, atol=1e-12)


def test_local_level_series_is_monthly_from_2000():
    frame = local_level_series(1, n=30, post=6)
    assert list(frame.columns) == ["y", "x1", "x2", "x3"]
    assert frame.index.equals(pd.date_range("2000-01", periods=30, freq="MS"))


def test_outcome_without_noise_is_level_plus_two_controls():
    frame = local_level_series(5, effect=0, level_sd=0, noise_sd=0)
    np.testing.assert_allclose(frame["y"], 5 + 0.8 * frame["x1"] + 0.4 * frame["x2"], rtol=1e-12)


def test_white_noise_names_its_intervention_month():
    series, intervention = white_noise(1, n=1050, post=50)
    assert len(series) == 1050
    assert int((series.index >= intervention).sum()) == 50
    assert series.mean() == pytest.approx(5, abs=0.15)
    assert series.std() == pytest.approx(1, abs=0.1)


def test_break_adds_its_step_from_the_stated_index():
    gap = ar_break(2, step=1.0, at=200) - ar_break(2, step=0.0, at=200)
    np.testing.assert_allclose(gap[:200], 0.0, atol=1e-12)
    np.testing.assert_allclose(gap[200:], 1.0, atol=1e-12)


def test_break_series_has_its_autocorrelation():
    values = np.concatenate([ar_break(seed, n=2000) - 0.0 for seed in range(5)])
    assert np.corrcoef(values[:-1], values[1:])[0, 1] == pytest.approx(0.6, abs=0.05)


def test_panel_gives_the_effect_to_the_first_zone_only():
    gap = zones_panel(4, effect=1.0) - zones_panel(4, effect=0.0)
    np.testing.assert_allclose(gap["zone_0"][256:], 1.0, atol=1e-12)
    np.testing.assert_allclose(gap["zone_0"][:256], 0.0, atol=1e-12)
    assert (gap.drop(columns="zone_0") == 0).all().all()


def test_panel_zones_share_a_driver():
    panel = zones_panel(6, effect=0.0)
    correlations = np.corrcoef(panel.diff().dropna().to_numpy().T)
    assert np.median(correlations[np.triu_indices(20, 1)]) > 0.1


@pytest.mark.parametrize("make", [local_level_series, ar_break, zones_panel])
def test_same_seed_same_numbers(make):
    np.testing.assert_array_equal(np.asarray(make(11)), np.asarray(make(11)))
    assert not np.array_equal(np.asarray(make(11)), np.asarray(make(12)))


def test_seed_seven_is_the_published_series(data_folder):
    path = data_folder / "impact" / "causalimpact" / "sim_local_level_T300.csv"
    if not path.is_file():
        pytest.skip("causalimpact data are absent")
    stored = pd.read_csv(path, parse_dates=["date"], index_col="date")
    made = local_level_series(7)
    np.testing.assert_allclose(made.to_numpy(), stored.to_numpy(), rtol=0, atol=1e-12)
    assert list(made.columns) == list(stored.columns)
    assert (made.index == stored.index).all()
