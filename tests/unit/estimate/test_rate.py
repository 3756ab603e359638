"""Rates of four units worked by hand, of a known law (C-15), and against econml."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, DataError, DegenerateError
from eo_causal.estimate.ate import aipw_scores
from eo_causal.estimate.rate import (
    SequentialFold,
    half_sample_draws,
    half_samples,
    pooled_rate,
    rate,
    rate_difference,
    sequential_rate,
    toc,
)

SCORE = np.array([4.0, 2, 0, 2])
PRIORITY = np.array([9.0, 5, 1, 4])


def random_parts(seed=0, n_folds=3, n=60, slope=0.0):
    """Folds whose scores rise with the priority by ``slope``, two units a cluster."""
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(n_folds):
        priority = random.normal(size=n)
        score = slope * priority + random.normal(size=n)
        parts.append(SequentialFold(score, priority, np.repeat(np.arange(n // 2), 2)))
    return parts


def ranked_by(parts, rank):
    return [SequentialFold(part.score, rank(part), part.cluster) for part in parts]


def test_the_curve_by_hand():
    """In order 4, 2, 2, 0 with mean 2: means of the first units 4, 3, 8/3, 2."""
    found = toc(SCORE, PRIORITY, np.array([0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(found["toc"], [2, 1, 2 / 3, 0], atol=1e-12)
    assert found["share"].tolist() == [0.25, 0.5, 0.75, 1.0]


def test_a_share_between_ranks_takes_the_next_whole_unit():
    found = toc(SCORE, PRIORITY, np.array([0.1, 0.3]))
    np.testing.assert_allclose(found["toc"], [2, 1])


def test_areas_by_hand():
    """AUTOC = (2 + 1 + 2/3 + 0)/4, QINI = (1/4 2 + 1/2 1 + 3/4 2/3)/4."""
    found = rate(SCORE, PRIORITY)
    assert found.autoc == pytest.approx((2 + 1 + 2 / 3) / 4)
    assert found.qini == pytest.approx(1.5 / 4)


def test_ties_share_their_average_score():
    """Units 4 and 0 tie at the top: 2 each, as all others have."""
    tied = rate(SCORE, np.array([9.0, 1, 9, 0]))
    assert (tied.autoc, tied.qini) == pytest.approx((0, 0), abs=1e-12)
    half = rate(SCORE, np.array([9.0, 1, 1, 1]))
    spread = rate(np.array([4, 4 / 3, 4 / 3, 4 / 3]), PRIORITY)
    assert (half.autoc, half.qini) == pytest.approx((spread.autoc, spread.qini))


def test_areas_are_means_of_the_curve_over_all_ranks():
    random = np.random.default_rng(0)
    score, priority = random.normal(size=500), random.integers(0, 40, 500)
    curve = toc(score, priority, np.arange(1, 501) / 500)
    found = rate(score, priority)
    assert found.autoc == pytest.approx(curve["toc"].mean())
    assert found.qini == pytest.approx((curve["share"] * curve["toc"]).mean())


def test_the_order_of_units_and_the_scale_of_priorities_do_not_matter():
    random = np.random.default_rng(1)
    score, priority = random.normal(size=200), random.integers(0, 30, 200) / 10
    other, found = random.permutation(200), rate(score, priority)
    again = rate(score[other] + 7, np.exp(priority[other]))
    assert (again.autoc, again.qini) == pytest.approx((found.autoc, found.qini))


def test_rates_of_uniform_effects():
    """C-15: 1/4 and 1/12; their negatives reversed; none where the priority is constant."""
    effect = np.random.default_rng(2).random(100_000)
    best, worst, none = rate(effect, effect), rate(effect, -effect), rate(effect, 0 * effect)
    assert best.autoc == pytest.approx(1 / 4, abs=0.01)
    assert best.qini == pytest.approx(1 / 12, abs=0.01)
    assert worst.autoc == pytest.approx(-best.autoc, abs=1e-3)
    assert worst.qini == pytest.approx(-best.qini, abs=1e-3)
    assert none.autoc == none.qini == 0
    coarse = toc(effect, effect, np.arange(1, 11) / 10)["toc"].mean()
    assert coarse == pytest.approx(0.225, abs=2e-3)  # why all ranks are used


class _Known:
    """A model of effects that econml may ask, and that was never fitted."""

    def effect(self, X, T0, T1):
        return np.round(X[:, 0] + 0.3 * X[:, 1], 1)


@pytest.mark.parametrize("metric", ["toc", "qini"])
def test_areas_on_a_grid_equal_those_of_econml(metric):
    """DRTester sums the curve over percentiles of the training priorities, from the left."""
    from econml.validate import DRTester
    from sklearn.linear_model import LinearRegression, LogisticRegression

    random = np.random.default_rng(3)
    x = random.normal(size=(800, 2))
    w = (random.random(800) < 1 / (1 + np.exp(-x[:, 1]))).astype(int)
    y = x[:, 1] + w * (1 + x[:, 0]) + random.normal(size=800)
    training, test = np.arange(400), np.arange(400, 800)
    tester = DRTester(
        model_regression=LinearRegression(), model_propensity=LogisticRegression(), cate=_Known()
    )
    tester.fit_nuisance(x[test], w[test], y[test], x[training], w[training], y[training])
    percentiles = np.linspace(5, 95, 50)
    theirs = tester.evaluate_uplift(
        x[test], x[training], percentiles=percentiles, metric=metric, n_bootstrap=5
    )

    propensity = LogisticRegression().fit(x[training], w[training]).predict_proba(x[test])[:, 1]
    arms = [training[w[training] == arm] for arm in (0, 1)]
    mu0, mu1 = (LinearRegression().fit(x[rows], y[rows]).predict(x[test]) for rows in arms)
    score = aipw_scores(w[test], y[test], propensity, mu0, mu1)
    np.testing.assert_allclose(score, tester.dr_val_[:, 0], atol=1e-10)
    priority = _Known().effect(x[test], 0, 1)
    cuts = np.percentile(_Known().effect(x[training], 0, 1), percentiles)
    curve = toc(score, priority, (priority >= cuts[:, None]).mean(axis=1))
    value = curve["toc"] * (curve["share"] if metric == "qini" else 1)
    ours = (value[:-1] * np.diff(percentiles) / 100).sum()
    assert ours == pytest.approx(theirs.params[0], abs=1e-10)
    assert ours > 0.1


def test_draws_hold_half_of_the_clusters_as_wholes():
    cluster = np.repeat([7, 3, 9, 5, 1], [1, 2, 3, 4, 5])
    draws = half_sample_draws(cluster, 400, np.random.default_rng(0))
    by_cluster = pd.DataFrame(draws.T).groupby(cluster)
    assert by_cluster.nunique().eq(1).all().all()
    inside = by_cluster.first().to_numpy()
    assert (inside.sum(axis=0) == 2).all()
    assert inside.mean(axis=1) == pytest.approx(0.4, abs=0.1)


def test_a_half_sample_is_the_rate_of_its_units():
    random = np.random.default_rng(4)
    score, priority = random.normal(size=40), random.integers(0, 9, 40)
    draws = half_sample_draws(np.arange(40) // 2, 6, random)
    found = half_samples(score, priority, draws)
    wanted = [rate(score[kept], priority[kept]) for kept in draws]
    np.testing.assert_allclose(found, [[one.autoc, one.qini] for one in wanted])


def test_all_halves_of_four_clusters_spread_as_the_mean_of_four_does():
    """Six halves, equally often; the variance of their means is s^2/4."""
    draws = half_sample_draws(np.arange(4), 6000, np.random.default_rng(5))
    chosen, n = np.unique(draws, axis=0, return_counts=True)
    assert len(chosen) == 6
    assert n == pytest.approx(1000, abs=150)
    spread = np.std(draws @ SCORE / 2)
    assert spread == pytest.approx(np.std(SCORE, ddof=1) / np.sqrt(4), rel=0.03)


def test_the_sequential_table_by_its_formulas():
    parts = random_parts(6, n_folds=4, slope=0.3)
    table = sequential_rate(parts, 50, np.random.default_rng(1)).set_index("metric")
    random = np.random.default_rng(1)
    rates = [rate(part.score, part.priority) for part in parts]
    errors = []
    for part in parts:
        draws = half_sample_draws(part.cluster, 50, random)
        errors.append(half_samples(part.score, part.priority, draws).std(axis=0, ddof=1))
    for k, metric in enumerate(("autoc", "qini")):
        values, error = np.array([getattr(one, metric) for one in rates]), np.array(errors)[:, k]
        row, statistic = table.loc[metric], (values / error).sum() / 2
        assert row["estimate"] == pytest.approx(values.mean())
        assert row["std_error"] == pytest.approx(np.sqrt((error**2).sum()) / 4)
        assert row["ratio"] == pytest.approx(statistic)
        assert row["p_value"] == pytest.approx(norm.sf(statistic))
        assert row["p_two_sided"] == pytest.approx(2 * norm.sf(abs(statistic)))


def test_a_ranking_that_helps_is_found_and_its_reverse_is_not():
    parts = random_parts(7, slope=1.0)
    table = sequential_rate(parts, 100, np.random.default_rng(0))
    assert (table["ratio"] > 4).all()
    assert (table["p_value"] < 1e-4).all()
    reverse = ranked_by(parts, lambda part: -part.priority)
    table = sequential_rate(reverse, 100, np.random.default_rng(0))
    assert (table["p_value"] > 0.99).all()
    assert (table["p_two_sided"] < 1e-4).all()


def test_a_constant_priority_has_no_rate():
    parts = ranked_by(random_parts(8), lambda part: np.full(len(part.score), 0.1))
    with counting() as counts:
        table = sequential_rate(parts, 20, np.random.default_rng(0))
    assert (table[["estimate", "std_error", "ratio"]] == 0).all().all()
    assert (table["p_value"] == 0.5).all()
    assert (table["p_two_sided"] == 1).all()
    assert counts == {"rate_folds": 3, "rate_folds_with_constant_priority": 3}


def test_pooled_rates_come_without_a_test():
    part = random_parts(9, n_folds=1, slope=0.5)[0]
    table = pooled_rate(part.score, part.priority, part.cluster, 50, np.random.default_rng(0))
    assert table.columns.tolist() == ["metric", "estimate", "std_error", "ratio"]
    found = rate(part.score, part.priority)
    assert table["estimate"].tolist() == [found.autoc, found.qini]
    np.testing.assert_allclose(table["ratio"], table["estimate"] / table["std_error"])


def test_a_ranking_does_not_differ_from_itself():
    parts = random_parts(10, slope=0.5)
    table = rate_difference(parts, parts, 20, np.random.default_rng(0))
    assert (table[["estimate", "std_error", "ratio"]] == 0).all().all()
    assert (table["p_two_sided"] == 1).all()


def test_differences_are_paired_on_the_same_draws():
    """Against a slightly disturbed ranking: far smaller errors than of two separate rates."""
    parts = random_parts(11, slope=0.5, n=200)
    random = np.random.default_rng(1)
    other = ranked_by(parts, lambda part: part.priority + 0.2 * random.normal(size=200))
    table = rate_difference(parts, other, 100, np.random.default_rng(0))
    first = sequential_rate(parts, 100, np.random.default_rng(0))
    second = sequential_rate(other, 100, np.random.default_rng(0))
    np.testing.assert_allclose(table["estimate"], first["estimate"] - second["estimate"])
    separate = np.hypot(first["std_error"], second["std_error"])
    assert (table["std_error"] < 0.5 * separate).all()


def test_a_better_ranking_is_told_from_a_random_one():
    parts = random_parts(12, slope=1.0)
    random = np.random.default_rng(2)
    other = ranked_by(parts, lambda part: random.normal(size=60))
    table = rate_difference(parts, other, 100, np.random.default_rng(0))
    assert (table["estimate"] > 0).all()
    assert (table["p_two_sided"] < 0.01).all()


def test_units_without_partner_are_refused():
    with pytest.raises(DataError, match="4 scores and 3 priorities"):
        rate(SCORE, PRIORITY[:3])
    with pytest.raises(DataError, match="0 scores and 0 priorities"):
        toc(SCORE[:0], PRIORITY[:0], np.array([0.5]))
    with pytest.raises(DataError, match="3 cluster codes for 4 scores"):
        SequentialFold(SCORE, PRIORITY, np.arange(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    score = np.where(SCORE == 2, bad, SCORE)
    with pytest.raises(DataError, match="2 of 4 units have no finite score"):
        rate(score, PRIORITY)
    with pytest.raises(DataError, match="2 of 4 units"):
        SequentialFold(SCORE, score, np.arange(4))


@pytest.mark.parametrize("share", [0.0, 1.1, np.nan])
def test_shares_outside_the_curve_are_refused(share):
    with pytest.raises(DataError, match="defined in \\(0, 1\\]"):
        toc(SCORE, PRIORITY, np.array([0.5, share]))


def test_few_clusters_folds_and_draws_are_refused():
    with pytest.raises(DataError, match="4 units in 3 cluster\\(s\\)"):
        SequentialFold(SCORE, PRIORITY, np.array([0, 1, 2, 2]))
    random = np.random.default_rng(0)
    with pytest.raises(DataError, match="in 3 cluster\\(s\\)"):
        half_sample_draws(np.array([0, 1, 2, 2]), 10, random)
    with pytest.raises(ConfigError, match="1 half-sample draw"):
        half_sample_draws(np.arange(4), 1, random)
    with pytest.raises(DataError, match="1 evaluated fold\\(s\\)"):
        sequential_rate(random_parts(n_folds=1), 10, random)


def test_differences_between_different_units_are_refused():
    random, parts = np.random.default_rng(0), random_parts()
    for first, second in (parts, parts[:2]), ([], []), (parts, random_parts(n=40)):
        with pytest.raises(DataError, match=f"{len(first)} and {len(second)} evaluated folds"):
            rate_difference(first, second, 10, random)


def test_a_rate_without_spread_is_refused():
    """Four equal clusters: every half is the same."""
    part = SequentialFold(np.tile([1.0, 0], 4), np.tile([1.0, 0], 4), np.repeat(np.arange(4), 2))
    with pytest.raises(DegenerateError, match="no standard error"):
        sequential_rate([part, part], 10, np.random.default_rng(0))
