"""Regressions that designs name: published gold values, parity with statsmodels, bad input."""

import causaldata
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from eo_causal.core.progress import counting
from eo_causal.errors import DataError
from eo_causal.estimate.regression import (
    trial_difference,
    two_stage_least_squares,
    two_way_fixed_effects,
)

RELATIVE = 1e-5
CONTROLS = ["exper", "black", "south", "married", "smsa"]


def test_gold_value_of_a_trial():
    table = causaldata.nsw_mixtape.load_pandas().data
    found = trial_difference(table, "re78", "treat")
    assert found.n == 445
    assert found.estimate == pytest.approx(1794.34240, rel=RELATIVE)
    assert found.std_error == pytest.approx(670.99655, rel=RELATIVE)


def test_gold_value_of_difference_in_differences():
    table = causaldata.organ_donations.load_pandas().data
    treated = (table["State"] == "California") & table["Quarter"].isin(
        ["Q32011", "Q42011", "Q12012"]
    )
    table = table.assign(T=treated.astype(float))
    found = two_way_fixed_effects(table, "Rate", "T", "State", "Quarter")
    assert found.estimate == pytest.approx(-0.0224589744, rel=RELATIVE)
    assert found.std_error == pytest.approx(0.0067207655, rel=RELATIVE)


def test_gold_value_of_an_instrument():
    table = causaldata.close_college.load_pandas().data
    found = two_stage_least_squares(table, "lwage", "educ", ["nearc4"], CONTROLS)
    assert found.n == 3003
    assert found.estimate == pytest.approx(0.124164235, rel=RELATIVE)
    assert found.std_error == pytest.approx(0.049157730, rel=RELATIVE)


def test_a_trial_is_least_squares_with_hc2():
    random = np.random.default_rng(0)
    w = random.integers(0, 2, 80).astype(float)
    table = pd.DataFrame({"w": w, "y": w + random.standard_normal(80) * (1 + w)})
    found = trial_difference(table, "y", "w")
    fit = sm.OLS(table["y"], sm.add_constant(table[["w"]])).fit(cov_type="HC2")
    assert found.estimate == pytest.approx(fit.params["w"], rel=1e-10)
    assert found.std_error == pytest.approx(fit.bse["w"], rel=1e-10)


def test_a_panel_is_least_squares_with_dummies_whatever_is_missing():
    random = np.random.default_rng(1)
    table = pd.DataFrame({"unit": np.repeat(np.arange(20), 6), "time": np.tile(np.arange(6), 20)})
    table["d"] = ((table["unit"] < 8) & (table["time"] >= 3)).astype(float)
    table["y"] = table["unit"] + table["time"] + 2 * table["d"] + random.standard_normal(120)
    table = table.drop(index=[3, 50, 77])
    found = two_way_fixed_effects(table, "y", "d", "unit", "time")
    dummies = pd.get_dummies(table[["unit", "time"]].astype(str), drop_first=True, dtype=float)
    design = sm.add_constant(pd.concat([table["d"], dummies], axis=1))
    fit = sm.OLS(table["y"], design).fit(
        cov_type="cluster", cov_kwds={"groups": table["unit"], "use_correction": True}
    )
    assert found.estimate == pytest.approx(fit.params["d"], rel=1e-8)
    assert found.std_error == pytest.approx(fit.bse["d"], rel=1e-8)


def test_an_instrument_recovers_what_least_squares_cannot():
    random = np.random.default_rng(2)
    z, u = random.standard_normal((2, 20_000))
    d = z + u + random.standard_normal(20_000)
    table = pd.DataFrame({"z": z, "d": d, "y": 0.5 * d + 2 * u + random.standard_normal(20_000)})
    found = two_stage_least_squares(table, "y", "d", ["z"])
    assert found.estimate == pytest.approx(0.5, abs=4 * found.std_error)
    assert np.polyfit(table["d"], table["y"], 1)[0] > 1


def test_errors_of_an_instrument_follow_the_textbook_and_rows_are_counted():
    """Exactly identified: b = (Z'X)^-1 Z'y, HC0 sandwich with Z; incomplete rows are left out."""
    random = np.random.default_rng(3)
    z, c, u = random.standard_normal((3, 300))
    d = z + c + u
    table = pd.DataFrame({"z": z, "c": c, "d": d, "y": d + c + u * (1 + z**2)})
    table.loc[:9, "c"] = np.nan
    with counting() as counts:
        found = two_stage_least_squares(table, "y", "d", ["z"], ["c"])
    assert counts == {"rows_used": 290, "rows_dropped": 10}
    rows = table.dropna()
    x, w = (np.column_stack([rows[name], np.ones(290), rows["c"]]) for name in ("d", "z"))
    inverse = np.linalg.inv(w.T @ x)
    beta = inverse @ w.T @ rows["y"]
    scores = w * (rows["y"] - x @ beta).to_numpy()[:, None]
    covariance = inverse @ scores.T @ scores @ inverse.T
    assert found.estimate == pytest.approx(beta[0], rel=1e-10)
    assert found.std_error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-10)


def test_input_that_identifies_nothing_is_refused():
    table = pd.DataFrame({"unit": [1, 1, 2, 2] * 3, "time": [1, 2] * 6, "y": np.arange(12.0)})
    table["d"] = (table["unit"] == 1).astype(float)
    with pytest.raises(DataError, match="nothing is left to compare"):
        two_way_fixed_effects(table, "y", "d", "unit", "time")
    with pytest.raises(DataError, match="missing in 1 of 12 rows"):
        trial_difference(table.assign(y=table["y"].where(table.index > 0)), "y", "d")
    with pytest.raises(DataError, match="missing in 2 of 12 rows"):
        two_way_fixed_effects(
            table.assign(unit=table["unit"].where(table.index > 1)), "y", "d", "unit", "time"
        )
    with pytest.raises(DataError, match=r"d: 0 of 12 units are 1 and 12 are 0.*code it 0/1"):
        trial_difference(table.assign(d=0.0), "y", "d")
    with pytest.raises(DataError, match="code it 0/1"):
        trial_difference(table.assign(d=table["d"] + 1), "y", "d")
    for run in (
        lambda: trial_difference(table, "z", "d"),
        lambda: two_way_fixed_effects(table, "y", "d", "z", "time"),
        lambda: two_stage_least_squares(table, "y", "d", ["z"]),
    ):
        with pytest.raises(DataError, match="no column z"):
            run()
    with pytest.raises(DataError, match="do not identify"):
        two_stage_least_squares(table.assign(z=1.0), "y", "d", ["z"])
