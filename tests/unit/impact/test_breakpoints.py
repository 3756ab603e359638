"""Breaks: the consensus rule by hand, known breaks found, and the test that admits its search."""

import numpy as np
import pandas as pd
import pytest
import ruptures
import xarray as xr

from eo_causal.errors import ConfigError, DataError
from eo_causal.impact.breakpoints import (
    BreakSettings,
    consensus_of,
    find_breakpoints,
    search_breaks,
    sup_f,
    sup_f_test,
)
from eo_causal.simulate.series import ar_break

MONTHS = pd.date_range("1998-01", periods=324, freq="MS")


@pytest.mark.parametrize(
    ("found", "tolerance", "expected"),
    [
        ({"a": [100], "b": [103], "c": [200]}, 5, [101]),
        ({"a": [100], "b": [106], "c": [200]}, 5, []),
        ({"a": [100, 104], "b": [109], "c": []}, 5, [104]),
        ({"a": [10, 50], "b": [50], "c": [11]}, 0, [50]),
        ({"a": [7], "b": [7], "c": [7]}, 3, [7]),
        ({"a": [], "b": [], "c": []}, 5, []),
    ],
)
def test_consensus_by_hand(found, tolerance, expected):
    assert consensus_of(found, tolerance) == expected


def test_sup_f_is_the_largest_of_all_two_sample_tests():
    values = np.random.default_rng(0).normal(size=60)
    statistics = {}
    for tau in range(9, 52):
        first, second = values[:tau], values[tau:]
        within = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
        total = ((values - values.mean()) ** 2).sum()
        statistics[tau] = (total - within) / (within / 58)
    statistic, index = sup_f(values[None, :])
    best = max(statistics, key=statistics.get)
    assert (int(index[0]), statistic[0]) == (best, pytest.approx(statistics[best], rel=1e-10))


@pytest.mark.parametrize("seed", [1, 2])
def test_compiled_searches_are_those_of_the_paper(seed):
    values = np.cumsum(np.random.default_rng(seed).normal(size=120))
    options = {"model": "rbf", "min_size": 3, "jump": 1}
    compiled = ruptures.KernelCPD(kernel="rbf", min_size=3).fit(values)
    published = ruptures.Dynp(**options).fit(values)
    for k in range(1, 9):
        assert compiled.predict(n_bkps=k) == published.predict(n_bkps=k)
    for penalty in (1, 5, 10):
        pelt = ruptures.Pelt(**options).fit(values).predict(pen=penalty)
        settings = BreakSettings(penalty=penalty)
        assert search_breaks(values, settings)["pelt"] == pelt[:-1]


def test_a_clear_step_is_found_by_all_methods():
    values = ar_break(1, phi=0.0, sd=0.3, step=2.0)
    found = search_breaks(values, BreakSettings())
    assert consensus_of(found, 5) == [256]
    test = sup_f_test(values, 199, np.random.default_rng(0))
    assert (test["index"], test["p_value"]) == (256, 1 / 200)
    assert test["index_lower"] <= 256 <= test["index_upper"]


def zones_of(impact, control):
    return xr.Dataset(
        {"kd490": (("zone", "time"), np.array([impact, control]), {"units": "m-1"})},
        coords={"zone": ["impact", "control"], "time": MONTHS},
    )


def search(zones, mode="default", **settings):
    chosen = BreakSettings(n_bootstrap=199, max_breaks=1, **settings)
    return find_breakpoints(zones, "impact", ("control",), "2019-05", chosen, mode, seed=1)


def test_season_does_not_hide_or_make_a_break():
    season = 0.8 * np.sin(2 * np.pi * np.arange(324) / 12)
    impact = 0.02 * (ar_break(3, step=1.5) + season) + 0.1
    control = 0.02 * (ar_break(9) + season) + 0.1
    found = search(zones_of(impact, control))
    (month,) = found.breaks["impact"]
    assert abs((pd.Timestamp(month) - pd.Timestamp("2019-05")).days) < 70
    assert found.breaks["control"] == []
    assert found.search.set_index("zone").loc["impact", "p_value"] <= 0.05
    assert "Zone control: breaks none" in found.text
    assert set(found.candidates["treatment"]) == {"raw", "deseasonalised"}


def test_missing_months_keep_the_calendar_right():
    impact = 0.02 * ar_break(3, phi=0.0, step=2.0) + 0.1
    impact[[10, 11, 50, 200]] = np.nan
    found = search(zones_of(impact, 0.02 * ar_break(9) + 0.1))
    assert found.breaks["impact"] == ["2019-05"]


def test_raw_difference_in_differences_by_hand():
    random = np.random.default_rng(0)
    impact, control = random.normal(0.1, 0.01, (2, 324))
    step = (impact - control)[256:].mean() - (impact - control)[:256].mean()
    found, resampled = search(zones_of(impact, control)).raw_difference_in_differences
    assert found.estimate == pytest.approx(step, rel=1e-9)
    assert "Newey-West lag 5" in found.method
    assert "bootstrap of 12 months" in resampled.method
    assert resampled.estimate == found.estimate
    for effect in (found, resampled):
        assert effect.interval[0] < step < effect.interval[1]


def test_paper_mode_reports_the_consensus_of_the_raw_series():
    impact = 0.02 * ar_break(3, phi=0.0, step=2.0) + 0.1
    found = search(zones_of(impact, 0.02 * ar_break(4, phi=0.0) + 0.1), mode="paper")
    assert found.breaks["impact"] == ["2019-05"]
    assert set(found.candidates["treatment"]) == {"raw"}
    row = found.statistics.iloc[0]
    assert row["delta_mean"] == pytest.approx(0.04, abs=0.003)
    assert row["cliffs_delta"] > 0.9


def test_an_intervention_outside_the_data_is_refused():
    early = zones_of(np.ones(324), np.ones(324)).isel(time=slice(0, 200))
    with pytest.raises(
        ConfigError, match="2019-05 does not lie within the data, 1998-01 to 2014-08"
    ):
        search(early)


def test_too_short_a_series_is_refused():
    short = zones_of(np.ones(324), np.ones(324)).isel(time=slice(250, 262))
    with pytest.raises(DataError, match="12 months are too few"):
        search(short)
