"""Published series of impact studies: their documented effects, priors of the R package included."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.errors import ConfigError
from eo_causal.impact.causal_impact import causal_impact
from eo_causal.simulate.series import local_level_series


@pytest.fixture(scope="module")
def folder(data_folder):
    path = data_folder / "impact" / "causalimpact"
    if not (path / "comparison_data.csv").is_file():
        pytest.skip("the series of impact/causalimpact are absent")
    return path


def test_our_recipe_returns_the_stored_series(folder):
    stored = pd.read_csv(folder / "sim_local_level_T300.csv", index_col="date", parse_dates=True)
    pd.testing.assert_frame_equal(
        stored, local_level_series(7), rtol=0, atol=1e-12, check_freq=False, check_index_type=False
    )


@pytest.fixture(scope="module")
def comparison(folder):
    return pd.read_csv(folder / "comparison_data.csv", index_col="DATE", parse_dates=True)


PERIODS = (("2019-04-16", "2019-07-14"), ("2019-07-15", "2019-08-01"))


def test_daily_series_with_the_priors_of_the_r_package(comparison):
    found = causal_impact(comparison, *PERIODS, prior="r_like", seed=1)
    assert found.average.estimate == pytest.approx(-657, abs=250)
    low, high = found.average.interval
    assert low < 0 < high
    assert 0.1 <= found.p_value <= 0.3
    assert found.diagnostics["intervention"] == "2019-07-15"
    assert "from 2019-07-15 on" in found.report()


def test_added_five_is_found_in_a_table_without_dates(folder):
    table = pd.read_csv(folder / "arma_data.csv")[["y", "X"]]
    table.loc[70:99, "y"] += 5
    found = causal_impact(table, (0, 69), (70, 99), prior="r_like", seed=1)
    assert 4.6 <= found.average.estimate <= 5.2
    low, high = found.average.interval
    assert low < 5 < high
    assert found.series.index.tolist() == list(range(100))


def test_default_and_r_like_priors_differ_but_agree_on_the_sign(folder):
    table = pd.read_csv(folder / "arma_data.csv")[["y", "X"]]
    table.loc[70:99, "y"] += 5
    found = causal_impact(table, (0, 69), (70, 99), seed=1)
    assert found.average.interval[0] > 0
    assert found.settings.prior == "default"


def test_months_between_the_periods_are_used_by_neither(comparison):
    spoiled = comparison.copy()
    between = (spoiled.index > "2019-07-07") & (spoiled.index < "2019-07-15")
    spoiled.loc[between, "CHANGED"] = 1e9
    pre = ("2019-04-16", "2019-07-07")
    clean, dirty = (
        causal_impact(table, pre, PERIODS[1], prior="r_like", seed=1)
        for table in (comparison, spoiled)
    )
    assert clean.average == dirty.average
    assert clean.diagnostics["n_missing_pre"] == 7


@pytest.mark.parametrize(
    ("pre", "post"),
    [
        (("2019-04-16", "2019-07-20"), PERIODS[1]),
        (PERIODS[0], ("2020-01-01", "2020-02-01")),
        (PERIODS[1], PERIODS[0]),
    ],
)
def test_periods_that_overlap_or_lie_outside(comparison, pre, post):
    with pytest.raises(ConfigError, match="period"):
        causal_impact(comparison, pre, post)


def test_missing_control_is_refused_with_its_date(comparison):
    table = comparison.copy()
    table.iloc[7, 2] = np.nan
    with pytest.raises(ValueError, match="NOT_CHANGED_2"):
        causal_impact(table, *PERIODS)
