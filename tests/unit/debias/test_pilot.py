"""The audit of a pilot: parity with statsmodels and patsy, its own slope."""

import numpy as np
import pytest
import statsmodels.api as sm

from eo_causal.debias.pilot import differential_error, natural_spline
from eo_causal.simulate import predictions


@pytest.mark.parametrize("clustered", [False, True])
def test_the_audit_is_the_regression_of_statsmodels(clustered):
    pilot = predictions.differential(0, 0.2).trial.assign(cluster=np.arange(300) // 3)
    if not clustered:
        pilot = pilot.drop(columns="cluster")
    found = differential_error(pilot, 0.6).iloc[0]
    design = np.column_stack([pilot["treatment"], natural_spline(pilot["outcome"].to_numpy())])
    options = {"cov_type": "HC2"}
    if clustered:
        options = {"cov_type": "cluster", "cov_kwds": {"groups": pilot["cluster"].to_numpy()}}
    fit = sm.OLS(pilot["prediction"].to_numpy(), design).fit(**options)
    assert found["delta"] == pytest.approx(fit.params[0])
    assert found["std_error"] == pytest.approx(fit.bse[0])
    assert found["p_value"] == pytest.approx(fit.pvalues[0])
    assert found["bias"] == pytest.approx(fit.params[0] / 0.6)


def test_the_audit_takes_the_pilots_own_slope_where_none_is_given():
    found = differential_error(predictions.differential(0, 0.2, 20_000).trial).iloc[0]
    assert found["slope"] == pytest.approx(0.6, abs=0.01)
    assert found["bias"] == pytest.approx(1 / 3, abs=0.03)


def test_the_spline_is_straight_beyond_its_outer_knots():
    values = np.linspace(0, 100, 1001)
    basis = natural_spline(values)
    assert basis.shape == (1001, 4)
    assert np.linalg.matrix_rank(basis) == 4
    bend = np.abs(np.diff(basis, 2, axis=0)).max(axis=1)
    assert bend[:48].max() < 1e-9
    assert bend[-48:].max() < 1e-9
    assert bend[100:900].min() > 0


def test_the_spline_spans_that_of_patsy():
    import patsy

    values = np.random.default_rng(0).normal(size=500)
    scaled = (values - values.mean()) / values.std()
    low, *inner, high = np.quantile(scaled, [0.05, 0.35, 0.65, 0.95])
    other = patsy.dmatrix(
        "cr(x, knots=inner, lower_bound=low, upper_bound=high) - 1",
        {"x": np.clip(scaled, low, high), "inner": inner, "low": low, "high": high},
    )
    within = (scaled >= low) & (scaled <= high)
    mine, theirs = natural_spline(values)[within], np.asarray(other)[within]
    assert np.abs(theirs - mine @ np.linalg.lstsq(mine, theirs)[0]).max() < 1e-8


def test_the_spline_has_fewer_knots_where_quantiles_coincide():
    values = np.repeat([0.0, 1.0], 50)
    assert natural_spline(values).shape == (100, 2)
