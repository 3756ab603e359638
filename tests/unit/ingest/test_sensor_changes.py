"""Steps at sensor boundaries, and warnings about changes near the intervention."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from eo_causal.errors import EOCausalWarning
from eo_causal.ingest.sensor_changes import sensor_steps, warn_sensor_changes


def series_with_step(step, n=120, at=60, noise=0.02, seed=0):
    months = pd.date_range("2000-01", periods=n, freq="MS", unit="ns")
    t = np.arange(n)
    values = -3 + 0.1 * np.sin(2 * np.pi * t / 12) + 0.001 * t + step * (t >= at)
    return pd.Series(values + np.random.default_rng(seed).normal(0, noise, n), index=months)


def test_step_is_found_beside_season_and_trend():
    table = sensor_steps(series_with_step(0.1), ("2005-01",))
    assert table["step"].item() == pytest.approx(0.1, abs=0.03)
    assert table["t"].item() > 5
    assert table["n_months"].item() == 72


def test_no_step_has_a_small_t():
    ts = [sensor_steps(series_with_step(0, seed=s), ("2005-01",))["t"].item() for s in range(40)]
    assert np.mean(np.abs(ts) > 2.5) <= 0.15


def test_standard_error_is_newey_west():
    series = series_with_step(0.05, noise=0.05)
    near = series[24:96]
    months = near.index.to_period("M").astype("int64").to_numpy()
    after = (near.index >= "2005-01").astype(float)
    angle = 2 * np.pi * months / 12
    design = np.column_stack(
        [np.ones(72), after, months - months.mean(), np.sin(angle), np.cos(angle)]
    )
    lags = int(4 * (72 / 100) ** (2 / 9))
    fit = sm.OLS(near.to_numpy(), design).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
    )
    table = sensor_steps(series, ("2005-01",))
    assert table["step"].item() == pytest.approx(fit.params[1], rel=1e-9)
    assert table["std_error"].item() == pytest.approx(fit.bse[1], rel=1e-9)


def test_missing_months_are_left_out_and_thin_sides_give_no_answer():
    series = series_with_step(0.1)
    series.iloc[30:40] = np.nan
    table = sensor_steps(series, ("2005-01", "2009-08"))
    assert table["n_months"].tolist() == [62, 41]
    assert np.isfinite(table["step"][0])
    assert table.loc[1, ["step", "std_error", "t"]].isna().all()


def test_changes_near_the_intervention_warn_with_their_months():
    with pytest.warns(EOCausalWarning, match="2018-05, 2020-05") as caught:
        warn_sensor_changes(("2012-01", "2018-05", "2020-05"), "2019-05")
    assert caught[0].message.code == "SensorChangeWarning"


def test_changes_far_from_the_intervention_are_silent():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_sensor_changes(("2012-01", "2018-04", "2020-06"), "2019-05")
    assert not caught
