"""Panels: what their text promises, recovered with the unit effects and functions taken off."""

import numpy as np
import pytest
from scipy.special import expit

from eo_causal.simulate.panel import EFFECT, clarke_polselli, unit_effects

A, B = 0.25, 0.5


def between(values, other, n):
    """Covariance of unit effects: of the means over a unit's two halves, whose noise is apart."""
    first = values.reshape(n, 2, -1).mean(axis=2)[:, 0]
    second = other.reshape(n, 2, -1).mean(axis=2)[:, 1]
    return np.cov(first, second)[0, 1]


def within(values, n):
    return values.reshape(n, -1).var(axis=1, ddof=1).mean()


def functions(table, linear):
    x1, x2 = table["x1"], table["x2"]
    if linear:
        return (0.25 * x1 + x2,) * 2
    return np.tanh(x1) + 0.5 * np.cos(x2), 0.8 * np.cos(x1) + 0.5 * np.tanh(x2)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_one_unit_effect_moves_treatment_and_outcome(linear, shifted):
    n = 4000
    table = unit_effects(5, linear=linear, shifted=shifted, n=n)
    g, m = functions(table, linear)
    treatment = (table["treatment"] - m).to_numpy()
    outcome = (table["outcome"] - EFFECT * table["treatment"] - g).to_numpy()
    for first, second in ((treatment, treatment), (outcome, outcome), (treatment, outcome)):
        assert between(first, second, n) == pytest.approx(1, abs=0.08)
    assert within(treatment, n) == pytest.approx(1, abs=0.03)
    assert within(outcome, n) == pytest.approx(1, abs=0.03)
    for name, moves in (("x1", shifted), ("x2", shifted), ("x3", False)):
        x = table[name].to_numpy()
        assert within(x, n) == pytest.approx(2, abs=0.05)
        assert between(x, treatment, n) == pytest.approx(float(moves), abs=0.08)


@pytest.mark.parametrize("dgp", ["dgp1", "dgp2", "dgp3"])
def test_outcome_effects_follow_means_of_treatment_and_covariates(dgp):
    n = 4000
    table = clarke_polselli(5, dgp, n=n)
    x1, x3 = table["x1"], table["x3"]
    g, m = {
        "dgp1": (A * x1 + x3, A * x1 + x3),
        "dgp2": (expit(x1) + A * np.cos(x3), np.cos(x1) + A * expit(x3)),
        "dgp3": (B * x1 * x3 + A * x3 * (x3 > 0), A * x1 * (x1 > 0) + B * x1 * x3),
    }[dgp]
    assert x1.var() == pytest.approx(5, abs=0.15)
    treatment = (table["treatment"] - m).to_numpy()
    assert between(treatment, treatment, n) == pytest.approx(1, abs=0.08)
    assert within(treatment, n) == pytest.approx(1, abs=0.03)
    left = table["outcome"] - EFFECT * table["treatment"] - g
    assert within(left.to_numpy(), n) == pytest.approx(1, abs=0.03)
    units = table.assign(left=left, both=x1 + x3).groupby("unit_id")[["left", "treatment", "both"]]
    means = units.mean()
    design = np.column_stack([np.ones(n), means["treatment"], means["both"]])
    slopes, rest = np.linalg.lstsq(design, means["left"], rcond=None)[:2]
    np.testing.assert_allclose(slopes[1:], [0.25, 0.25], atol=0.08)
    assert rest[0] / n == pytest.approx(0.95 + 1 / 10, abs=0.08)


def test_a_seed_makes_one_balanced_panel():
    table = unit_effects(1, linear=True, shifted=False, n=7, periods=3)
    assert table.equals(unit_effects(1, linear=True, shifted=False, n=7, periods=3))
    assert not table.equals(unit_effects(2, linear=True, shifted=False, n=7, periods=3))
    assert table["unit_id"].value_counts().eq(3).all()
    assert table.groupby("time").size().to_dict() == {0: 7, 1: 7, 2: 7}
    assert clarke_polselli(1, "dgp1", n=7, periods=3).shape == (21, 34)
