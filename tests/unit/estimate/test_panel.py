"""Panel double machine learning: parity by hand, gaps, bad input."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eo_causal.errors import DataError
from eo_causal.estimate.panel import PanelSettings, learner_disagreement, panel_dml
from eo_causal.simulate.panel import unit_effects

COVARIATES = [f"x{number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def table():
    return unit_effects(0, linear=True, shifted=True, n=60, periods=5)


def fit(table, **settings):
    return panel_dml(table, COVARIATES, PanelSettings(**{"learner": "lasso"} | settings), seed=3)


def test_first_differences_by_an_independent_computation(table, monkeypatch):
    """Same folds and predictions, estimate and error written out with loops."""
    import eo_causal.estimate.panel as module

    seen = {}
    original = module._predict

    def remembered(features, target, fold, group, learner, seed):
        found = original(features, target, fold, group, learner, seed)
        seen[len(seen)] = (target, found, fold, group)
        return found

    monkeypatch.setattr(module, "_predict", remembered)
    found = fit(table).effect
    (y, predicted_y, fold, group), (d, predicted_d, _, _) = seen[0], seen[1]
    u, v = y - predicted_y, d - predicted_d
    theta = sum(a * b for a, b in zip(u, v, strict=True)) / sum(b * b for b in v)
    variance = 0.0
    for unit in set(group):
        rows = np.flatnonzero(group == unit)
        assert len(set(fold[rows])) == 1
        variance += sum(v[row] * (u[row] - theta * v[row]) for row in rows) ** 2
    assert found.estimate == pytest.approx(theta, abs=1e-8)
    assert found.std_error == pytest.approx(np.sqrt(variance) / sum(b * b for b in v), abs=1e-8)
    first = table[table["unit_id"] == 0]
    assert y[0] == pytest.approx(first["outcome"].iloc[1] - first["outcome"].iloc[0])


def test_learners_see_the_period_and_the_one_before(table, monkeypatch):
    import eo_causal.estimate.panel as module

    shapes = []
    original = module._predict
    monkeypatch.setattr(
        module, "_predict", lambda f, *rest: (shapes.append(f.copy()), original(f, *rest))[1]
    )
    fit(table)
    x = table[COVARIATES].to_numpy()
    np.testing.assert_array_equal(shapes[0][0], np.concatenate([x[1], x[0]]))
    shapes.clear()
    fit(table, approach="cre_general")
    own = x[table["unit_id"] == 0].mean(axis=0)
    np.testing.assert_allclose(shapes[0][0], np.concatenate([x[0], own]))


def test_periods_after_a_gap_have_no_difference(table):
    assert fit(table).n_dropped == 60
    gappy = table.drop(index=table.index[(table["unit_id"] < 10) & (table["time"] == 2)])
    found = fit(gappy)
    assert found.n_dropped == 60 + 10
    assert found.effect.n == len(gappy) - 70


def test_the_order_of_rows_and_blocks_of_units(table):
    shuffled = table.sample(frac=1, random_state=1)
    assert fit(shuffled).effect.estimate == fit(table).effect.estimate
    blocks = table.assign(block=table["unit_id"] // 4)
    found = panel_dml(blocks, COVARIATES, PanelSettings(learner="lasso"), "block", seed=3)
    assert "15 clusters" in found.effect.method


def test_trees_may_not_see_the_mean_of_the_treatment():
    with pytest.raises(ValidationError, match="trees_with_cre_normal"):
        PanelSettings(approach="cre_normal", learner="boosting")


def test_families_that_disagree(table):
    lasso = fit(table)
    assert not learner_disagreement([lasso, lasso])
    moved = lasso.effect.estimate + 3 * lasso.effect.std_error
    other = type(lasso)(
        type(lasso.effect)(moved, lasso.effect.std_error, None, 0.95, "", 1), 0.0, 0.0, 0
    )
    assert learner_disagreement([lasso, other])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(treatment=t["unit_id"] % 2), "constant over time"),
        (lambda t: pd.concat([t, t.head(1)]), "several rows in period 0"),
        (lambda t: t.assign(x1=t["x1"].where(t.index > 2)), r"x1 \(3\)"),
        (lambda t: t[t["unit_id"] < 9], "9 groups are too few"),
        (lambda t: t.drop(columns="x2"), "no column x2"),
    ],
)
def test_panels_that_cannot_be_used(table, change, words):
    with pytest.raises(DataError, match=words):
        fit(change(table))


def test_the_penalty_of_the_lasso_keeps_units_together():
    from eo_causal.estimate.panel import _model

    group = np.repeat(np.arange(20), 3)
    model = _model("lasso", group, 0)
    assert isinstance(model, type(make_pipeline(StandardScaler())))
    expected = list(GroupKFold(5).split(group, groups=group))
    for (one, _), (other, _) in zip(model[-1].cv, expected, strict=True):
        np.testing.assert_array_equal(one, other)
