"""Estimates of simulated studies: the formulas they rest on, and their summary by hand."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression

from eo_causal.errors import DegenerateError
from eo_causal.estimate.pattern_study import bias_table, estimate_pattern_study


def study(n_repetitions=2, n=400, rho=0.6):
    """Two cases: the score is the confounder, and correlates rho with it."""
    random = np.random.default_rng(0)
    confounder, other = random.normal(size=(2, n_repetitions, n))
    propensity = expit(confounder)
    treatment = (random.random(propensity.shape) < propensity).astype(float)
    outcome = confounder + treatment + 0.1 * random.normal(size=propensity.shape)
    score = np.stack([confounder, rho * confounder + np.sqrt(1 - rho**2) * other])
    dims = ("value", "repetition", "unit")
    same = {
        "confounder": confounder, "propensity": propensity, "treatment": treatment,
        "outcome": outcome,
    }  # fmt: skip
    columns = {name: (dims, np.stack([item] * 2)) for name, item in same.items()}
    return xr.Dataset(
        columns | {"score": (dims, score)}, coords={"value": [1, 2]}, attrs={"effect": 1.0}
    )


@pytest.fixture(scope="module")
def found():
    return estimate_pattern_study(study())


def one(found, value, adjusted_for, estimator, repetition=0):
    rows = found.estimates.query(
        "value == @value and adjusted_for == @adjusted_for and estimator == @estimator"
        " and repetition == @repetition"
    )
    return rows["estimate"].item()


def test_estimates_rest_on_unpenalised_models_of_one_score(found):
    units = study().isel(repetition=0)
    for value, adjusted, name in (
        (1, "true pattern", "confounder"),
        (2, "measured pattern", "score"),
    ):
        case = units.sel(value=value)
        score, w, y = (case[key].to_numpy() for key in (name, "treatment", "outcome"))
        design = score[:, None]
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(design, w)
        e = model.predict_proba(design)[:, 1]
        mu0, mu1 = (
            LinearRegression().fit(design[w == arm], y[w == arm]).predict(design) for arm in (0, 1)
        )
        hajek = np.average(y, weights=w / e) - np.average(y, weights=(1 - w) / (1 - e))
        scores = mu1 - mu0 + w * (y - mu1) / e - (1 - w) * (y - mu0) / (1 - e)
        assert one(found, value, adjusted, "hajek") == pytest.approx(hajek, abs=1e-5)
        assert one(found, value, adjusted, "aipw") == pytest.approx(scores.mean(), abs=1e-5)


def test_unadjusted_and_known_propensity_by_hand(found):
    first = study().isel(repetition=0, value=0)
    w, y, e = (first[key].to_numpy() for key in ("treatment", "outcome", "propensity"))
    naive = y[w == 1].mean() - y[w == 0].mean()
    assert one(found, 1, "nothing", "difference_in_means") == pytest.approx(naive)
    weighted = (w * y / e - (1 - w) * y / (1 - e)).mean()
    assert one(found, 2, "known propensity", "horvitz_thompson") == pytest.approx(weighted)


def test_the_law_is_the_bias_that_the_correlation_leaves(found):
    rows = found.correlations
    assert rows["repetition"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(rows["predicted"][:2], 0, atol=1e-12)
    naive = found.bias.query("value == 2 and adjusted_for == 'nothing'")["bias"].item()
    predicted, rho = found.cases["predicted"][1], found.cases["correlation"][1]
    assert predicted == pytest.approx((1 - rho**2) * naive, abs=0.01)
    left = found.bias.query("value == 2 and adjusted_for == 'measured pattern'")["bias"]
    assert left.tolist() == pytest.approx([predicted] * 2, abs=0.1)


def test_a_table_of_bias_by_hand():
    rows = [(4, r, "nothing", "hajek", estimate) for r, estimate in enumerate((1.1, 1.3, 1.5))]
    names = ["value", "repetition", "adjusted_for", "estimator", "estimate"]
    (row,) = bias_table(pd.DataFrame(rows, columns=names), 1.0).to_dict("records")
    assert row["bias"] == pytest.approx(0.3)
    assert row["sd"] == pytest.approx(0.2)
    assert row["std_error"] == pytest.approx(0.2 / np.sqrt(3))
    assert row["rmse"] == pytest.approx(np.sqrt((0.01 + 0.09 + 0.25) / 3))


def test_a_repetition_that_treats_everybody_is_named():
    units = study()
    units["treatment"][1, 1] = 1
    with pytest.raises(DegenerateError, match=r"case 2, repetition 1: 400 of 400 .*study.n_images"):
        estimate_pattern_study(units)
