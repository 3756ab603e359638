"""Panel double machine learning: parity by hand, gaps, bad input."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eo_causal.core.effect import Effect
from eo_causal.core.storage import read_value, write_value
from eo_causal.errors import ConfigError, DataError, LeakageError
from eo_causal.estimate.panel import (
    PanelEffect,
    PanelRange,
    PanelSettings,
    panel_dml,
    panel_dml_range,
)
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

    def remembered(features, target, fold, group, learner):
        found = original(features, target, fold, group, learner)
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


def test_unit_means_by_an_independent_computation(table, monkeypatch):
    """Predicted treatment is moved to its unit's mean: m + mean(D) - mean(m)."""
    import eo_causal.estimate.panel as module

    guesses = np.random.default_rng(0).standard_normal((2, len(table)))
    left = iter(guesses)
    monkeypatch.setattr(module, "_predict", lambda *_: next(left))
    found = fit(table, approach="cre_general")
    top = bottom = 0.0
    v = np.empty(len(table))
    u = table["outcome"].to_numpy() - guesses[0]
    for unit in range(60):
        rows = np.flatnonzero(table["unit_id"] == unit)
        d, m = table["treatment"].to_numpy()[rows], guesses[1][rows]
        v[rows] = d - (m + d.mean() - m.mean())
        top, bottom = top + v[rows] @ u[rows], bottom + v[rows] @ v[rows]
    sums = [
        sum(
            v[row] * (u[row] - top / bottom * v[row])
            for row in np.flatnonzero(table["unit_id"] == unit)
        )
        for unit in range(60)
    ]
    assert found.effect.estimate == pytest.approx(top / bottom, abs=1e-10)
    assert found.effect.std_error == pytest.approx(
        np.sqrt(np.square(sums).sum()) / bottom, abs=1e-10
    )
    d = table["treatment"].to_numpy()
    expected = 1 - ((d - guesses[1]) ** 2).sum() / ((d - d.mean()) ** 2).sum()
    assert found.r2_treatment == pytest.approx(expected)
    assert (found.effect.n, found.n_dropped) == (300, 0)


def test_demeaned_values_keep_the_grand_mean(table, monkeypatch):
    import eo_causal.estimate.panel as module

    seen = []
    original = module._predict
    monkeypatch.setattr(module, "_predict", lambda *all_: (seen.append(all_), original(*all_))[1])
    assert fit(table, approach="wg_approx").n_dropped == 0
    within = table.groupby("unit_id").transform(lambda column: column - column.mean())
    for name, (features, target, *_) in zip(("outcome", "treatment"), seen, strict=True):
        np.testing.assert_allclose(target, within[name] + table[name].mean(), atol=1e-12)
        expected = within[COVARIATES] + table[COVARIATES].mean()
        np.testing.assert_allclose(features, expected, atol=1e-12)


def test_trees_of_boosting_are_few_and_see_every_row():
    from eo_causal.estimate.panel import _model

    model = _model("boosting", np.arange(3))
    assert (model.max_iter, model.early_stopping) == (60, False)


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


def one(estimate, std_error=0.1):
    return PanelEffect(Effect(estimate, std_error, (0.0, 1.0), 0.95, "by hand", 50), 0.5, 0.25, 5)


@pytest.mark.parametrize(
    ("second", "flags"),
    [
        (one(0.79), ()),
        (one(0.81), ("learner_disagreement",)),
        (one(0.81, 0.2), ()),
        (one(np.nan), ("learner_disagreement",)),
    ],
)
def test_families_disagree_beyond_two_of_the_larger_errors(second, flags):
    assert PanelRange({"lasso": one(0.6), "boosting": second}).flags == flags


def test_the_range_is_one_fit_of_each_family(table, tmp_path):
    found = panel_dml_range(table, COVARIATES, PanelSettings(), seed=3)
    assert list(found.fits) == ["lasso", "boosting"]
    assert found.fits["lasso"] == fit(table)
    assert found.fits["boosting"] == fit(table, learner="boosting")
    shown = found.to_frame().set_index("learner")
    assert shown.loc["boosting", "r2_treatment"] == found.fits["boosting"].r2_treatment
    assert shown.loc["lasso", "lower"] == found.fits["lasso"].effect.interval[0]
    assert "60 clusters); R2 out of fold: outcome" in str(found)
    assert "240 rows used, 60 dropped" in str(found)
    write_value(found, PanelRange, tmp_path)
    assert read_value(PanelRange, tmp_path) == found
    with pytest.raises(ConfigError, match="trees_with_cre_normal"):
        panel_dml_range(
            table, COVARIATES, PanelSettings(approach="cre_normal", learner="lasso"), seed=3
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(treatment=t["unit_id"] % 2), "constant over time"),
        (lambda t: pd.concat([t, t.head(1)]), "several rows in period 0"),
        (lambda t: t.assign(x1=t["x1"].where(t.index > 2)), r"x1 \(3\)"),
        (lambda t: t.assign(outcome=t["outcome"].mask(t.index < 2, np.inf)), r"outcome \(2\)"),
        (lambda t: t[t["unit_id"] < 9], "9 groups are too few"),
        (
            lambda t: t.assign(time=t["time"] * 2),
            r"0 groups are too few.*\(300 rows have no period",
        ),
        (lambda t: t.assign(treatment=t["time"]), "treatment is 1 in all 240 rows"),
        (lambda t: t.assign(outcome=3.0), "outcome is 0 in all 240 rows"),
        (
            lambda t: t.assign(time=pd.Timestamp("2020-01-01")),
            "time holds datetime64.*number periods",
        ),
        (lambda t: t.drop(columns="x2"), "no column x2"),
        (lambda t: t.head(0), "constant over time"),
    ],
)
def test_panels_that_cannot_be_used(table, change, words):
    with pytest.raises(DataError, match=words):
        fit(change(table))


def test_covariates_and_groups_that_cannot_be_used(table):
    settings = PanelSettings(learner="lasso")
    with pytest.raises(LeakageError, match="treatment is among the covariates"):
        panel_dml(table, ["x1", "treatment"], settings, seed=3)
    with pytest.raises(DataError, match="no covariates"):
        panel_dml(table, [], settings, seed=3)
    cut = table.assign(block=table["unit_id"] // 4).replace({"block": {2: 1}})
    cut.loc[3, "block"] = 5
    with pytest.raises(DataError, match=r"1 units lie in more than one block \(unit 0\)"):
        panel_dml(cut, COVARIATES, settings, "block", seed=3)


def test_time_may_be_a_covariate(table):
    found = panel_dml(table, ["time", *COVARIATES], PanelSettings(learner="lasso"), seed=3)
    assert found.effect.n == 240


def test_the_penalty_of_the_lasso_keeps_units_together():
    from eo_causal.estimate.panel import _model

    group = np.repeat(np.arange(20), 3)
    model = _model("lasso", group)
    assert isinstance(model, type(make_pipeline(StandardScaler())))
    expected = list(GroupKFold(5).split(group, groups=group))
    for (one, _), (other, _) in zip(model[-1].cv, expected, strict=True):
        np.testing.assert_array_equal(one, other)
