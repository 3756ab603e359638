"""Drivers, calibration and groups by predicted effect: hand values, and least squares elsewhere."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from eo_causal.core.variance import interval, mean_std_error, p_value
from eo_causal.errors import DataError, DegenerateError
from eo_causal.estimate.interpret import (
    best_linear_projection,
    calibration,
    composition_by_quantile,
    correlations,
    effects_by_quantile,
    quantile_groups,
)

CATE = np.array([0.1, 0.4, 0.2, 0.9, 0.8, 0.3, 0.7, 0.6])
SCORE = np.array([1.0, 2, 3, 8, 7, 4, 6, 5])
APART = np.arange(8)


def trial(seed=0, n_clusters=100):
    """Scores that follow the first of three features, with noise shared in clusters of four."""
    random = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), 4)
    table = pd.DataFrame(
        random.normal(2, 3, (len(cluster), 3)), columns=["crops", "trees", "roofs"]
    )
    noise = random.normal(size=n_clusters)[cluster] + random.normal(size=len(cluster))
    return 1.0 + 0.5 * table["crops"].to_numpy() + noise, table, cluster


@pytest.mark.parametrize("scale", [True, False])
def test_projection_equals_least_squares_with_clustered_errors(scale):
    score, table, cluster = trial()
    found = best_linear_projection(score, table, cluster, 0.9, scale=scale)
    features = (table - table.mean()) / table.std(ddof=0) if scale else table
    fit = sm.OLS(score, sm.add_constant(features)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": True}
    )
    assert found["term"].tolist() == ["intercept", "crops", "trees", "roofs"]
    for name, wanted in (
        ("estimate", fit.params),
        ("std_error", fit.bse),
        ("p_value", fit.pvalues),
    ):
        np.testing.assert_allclose(found[name], wanted, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found[["lower", "upper"]], fit.conf_int(0.1), rtol=1e-8)
    adjusted = multipletests(fit.pvalues[1:], method="fdr_bh")[1]
    np.testing.assert_allclose(found["q_value"][1:], adjusted, rtol=1e-8)
    assert np.isnan(found["q_value"][0])


def test_the_intercept_of_scaled_features_is_the_average_effect():
    score, table, cluster = trial(1)
    found = best_linear_projection(score, table, cluster)
    assert found["estimate"][0] == pytest.approx(score.mean())
    assert found["q_value"][1] < 1e-10
    assert (found["q_value"][2:] > 0.05).all()


def test_scale_of_features_changes_nothing_of_scaled_coefficients():
    score, table, cluster = trial(2)
    one = best_linear_projection(score, table, cluster)
    other = best_linear_projection(score, table * [1e-8, 1e6, 1] + [0, 5, 0], cluster)
    np.testing.assert_allclose(one.drop(columns="term"), other.drop(columns="term"), rtol=1e-6)


def test_few_clusters_take_student():
    score, table, cluster = trial(3, n_clusters=12)
    row = best_linear_projection(score, table[["crops"]], cluster).iloc[1]
    assert (row.lower, row.upper) == interval(row.estimate, row.std_error, 0.95, 12)
    assert row.p_value == p_value(row.estimate, row.std_error, 12)
    assert (row.upper - row.estimate) / row.std_error == pytest.approx(2.201, abs=1e-3)


def test_a_projection_refuses_what_it_cannot_use():
    score, table, cluster = trial()
    with pytest.raises(DataError, match=r"constant are: \['trees'\]. Leave them out"):
        best_linear_projection(score, table.assign(trees=7.0), cluster)
    with pytest.raises(DataError, match="name at least one other"):
        best_linear_projection(score, table[[]], cluster)
    with pytest.raises(DataError, match="1 of 400 units miss a feature"):
        best_linear_projection(score, table.mask(table == table.iloc[3, 1]), cluster)
    with pytest.raises(DataError, match="2 of 400 units"):
        best_linear_projection(np.where(np.arange(400) < 2, np.nan, score), table, cluster)
    with pytest.raises(DataError, match="400 rows of features or predictions, 399 scores"):
        best_linear_projection(score[1:], table, cluster)
    with pytest.raises(DataError, match="4 clusters cannot carry clustered errors of 4 terms"):
        best_linear_projection(score, table, cluster % 4)
    with pytest.raises(DegenerateError, match="depend on one another"):
        best_linear_projection(score, table.assign(roofs=2 * table["crops"]), cluster)


def test_a_perfect_prediction_has_slope_one():
    exact = calibration(CATE, CATE, APART)
    np.testing.assert_allclose(exact["estimate"], 1)
    assert exact["p_value"].max() < 1e-10
    random = np.random.default_rng(0)
    cate = random.normal(0.5, 1, 4000)
    found = calibration(cate + random.normal(size=4000), cate, np.arange(4000) // 4)
    assert found["term"].tolist() == ["mean", "slope"]
    assert (abs(found["estimate"] - 1) < 3 * found["std_error"]).all()
    assert found["p_value"].max() < 1e-10
    half = calibration(cate / 2 + 0.25, cate, np.arange(4000))
    np.testing.assert_allclose(half["estimate"], [1 + (0.25 - cate.mean() / 2) / cate.mean(), 0.5])


def test_noise_has_slope_zero_and_a_reversed_prediction_no_claim():
    random = np.random.default_rng(1)
    score, noise = random.normal(0.5, 1, 4000), random.normal(0.5, 1, 4000)
    slope = calibration(score, noise, np.arange(4000) // 4).iloc[1]
    assert abs(slope.estimate) < 2 * slope.std_error
    assert slope.std_error < 0.03
    wrong = calibration(score, 1 - score, np.arange(4000)).iloc[1]
    assert wrong.estimate == pytest.approx(-1)
    assert wrong.p_value == pytest.approx(1)


def test_calibration_by_hand_and_its_one_sided_p():
    """Mean .5; sum of (cate - .5) x score over sum of squares, 4.7/.6; mean 4.5/.5 = 9."""
    found = calibration(SCORE, CATE, APART)
    np.testing.assert_allclose(found["estimate"], [9, 4.7 / 0.6])
    design = np.column_stack([np.full(8, 0.5), CATE - 0.5])
    fit = sm.OLS(SCORE, design).fit(cov_type="cluster", cov_kwds={"groups": APART}, use_t=True)
    np.testing.assert_allclose(found["std_error"], fit.bse, rtol=1e-8)
    np.testing.assert_allclose(found["p_value"], fit.pvalues / [1, 2], rtol=1e-8)


def test_calibration_refuses_predictions_that_say_nothing():
    with pytest.raises(DataError, match=r"mean 0\.3 and standard deviation 0;"):
        calibration(SCORE, np.full(8, 0.3), APART)
    with pytest.raises(DataError, match="mean 0 and standard deviation 1;"):
        calibration(SCORE, np.tile([-1.0, 1], 4), APART)


def test_groups_by_rank_keep_ties_together():
    assert quantile_groups(CATE, 4).tolist() == [1, 2, 1, 4, 4, 2, 3, 3]
    tied = np.array([0, 0, 0, 1, 2, 2, 3, 3], dtype=float)
    assert quantile_groups(tied, 2).tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert quantile_groups(tied, 4).tolist() == [1, 1, 1, 2, 3, 3, 4, 4]
    with pytest.raises(
        DataError, match=r"1 different predicted .* of 8 units do not fill 4 groups"
    ):
        quantile_groups(np.zeros(8), 4)
    with pytest.raises(DataError, match=r"do not fill 1 groups .* two or more"):
        quantile_groups(CATE, 1)


def test_effects_by_quantile_by_hand():
    """Halves by prediction: scores 1, 2, 3, 4 and 8, 7, 6, 5; sd^2 = 5/3, over 4 units."""
    found = effects_by_quantile(SCORE, CATE, APART, 2)
    assert found["group"].tolist() == [1, 2]
    assert found["n"].tolist() == [4, 4]
    np.testing.assert_allclose(found["predicted"], [0.25, 0.75])
    np.testing.assert_allclose(found["effect"], [2.5, 6.5])
    np.testing.assert_allclose(found["std_error"], np.sqrt(5 / 12))
    np.testing.assert_allclose(found["upper"] - found["effect"], 3.182446 * np.sqrt(5 / 12))
    np.testing.assert_allclose(found["effect"] - found["lower"], 3.182446 * np.sqrt(5 / 12))


def test_errors_of_groups_are_clustered():
    cluster = np.array([0, 0, 1, 2, 3, 1, 3, 2])
    found = effects_by_quantile(SCORE, CATE, cluster, 2)
    wanted = [mean_std_error(SCORE[own], cluster[own]) for own in (CATE < 0.5, CATE > 0.5)]
    np.testing.assert_allclose(found["std_error"], wanted)
    with pytest.raises(DataError, match="2 units with a value, of 1 cluster"):
        effects_by_quantile(SCORE, CATE, np.array([0, 1, 0, 1, 1, 1, 1, 1]), 4)


def test_composition_by_quantile_by_hand():
    table = pd.DataFrame({
        "crops": [0.0, 0.2, 0.1, 0.9, 0.8, 0.3, 0.7, 0.6],
        "water": [1.0, np.nan, 2.0, 5.0, 7.0, 3.0, np.nan, np.nan],
    })  # fmt: skip
    found = composition_by_quantile(CATE, table, APART, 2)
    assert found["group"].tolist() == [1, 1, 2, 2]
    assert found["variable"].tolist() == ["crops", "water"] * 2
    assert found["n"].tolist() == [4, 3, 4, 2]
    np.testing.assert_allclose(found["mean"], [0.15, 2, 0.75, 6])
    np.testing.assert_allclose(found["std_error"][1], np.sqrt(1 / 3))
    np.testing.assert_allclose(found["lower"][3], 6 - 12.7062047)  # t, 1 d.f., error 1
    with pytest.raises(DataError, match="1 units with a value, of 1 cluster"):
        composition_by_quantile(CATE, table.mask(table == 5), APART, 2)
    with pytest.raises(DataError, match="8 rows of features or predictions, 7 scores"):
        composition_by_quantile(CATE, table[1:], APART, 2)


def test_rank_correlations_by_hand():
    table = pd.DataFrame({
        "same": np.exp(CATE), "reversed": -CATE, "constant": 3.0,
        "swapped": [1.0, 4, 2, 8, 7, 3, 5, 6],
        "known": np.where(CATE < 0.5, CATE, np.nan),
        "nowhere": np.nan,
    })  # fmt: skip
    found = correlations(CATE, table).set_index("variable")
    assert found["n"].tolist() == [8, 8, 8, 8, 4, 0]
    swapped = 1 - 6 * 2 / (8 * 63)
    expected = [1, -1, np.nan, swapped, 1, np.nan]
    np.testing.assert_allclose(found["spearman"], expected, rtol=1e-12)
    with pytest.raises(DataError, match="1 of 8 units miss"):
        correlations(np.where(CATE == 0.1, np.nan, CATE), table)
