"""Leakage gap and distillation curve: parity, hand-computed values, bad input."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from eo_causal.audit.distillation import distillation_curve
from eo_causal.audit.leakage import auc_of, leakage_gap, out_of_fold_scores
from eo_causal.core.effect import Effect
from eo_causal.errors import DataError


def halves(n):
    rows = np.arange(n)
    return [(rows[1::2], rows[::2]), (rows[::2], rows[1::2])]


def study(n=400, leak=0.0, seed=0):
    """z_pre, z_post (3 features), treatment; the leak lies in the last feature."""
    random = np.random.default_rng(seed)
    confounder = random.standard_normal(n)
    treatment = random.binomial(1, expit(confounder)).astype(float)
    images = np.stack([np.column_stack([confounder, *random.standard_normal((2, n))])] * 2)
    images[1, :, 2] += leak * treatment
    return images[0], images[1], treatment


def gap(z_pre, z_post, treatment, groups=None, **kwargs):
    settings = {"folds": halves(len(treatment)), "seed": 1, "n_draws": 100} | kwargs
    groups = np.arange(len(treatment)) if groups is None else groups
    return leakage_gap(z_pre, z_post, treatment, groups, **settings)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_weighted_auc_equals_scikit_learn_with_and_without_ties(digits):
    random = np.random.default_rng(digits)
    scores = random.standard_normal(200).round(digits)
    treatment = random.binomial(1, 0.3, 200).astype(float)
    weight = random.integers(0, 4, 200).astype(float)
    auc = auc_of(scores, treatment)
    assert auc(np.ones(200)) == pytest.approx(roc_auc_score(treatment, scores), abs=1e-12)
    expected = roc_auc_score(treatment, scores, sample_weight=weight)
    assert auc(weight) == pytest.approx(expected, abs=1e-12)


def test_auc_of_one_arm_is_not_defined():
    assert np.isnan(auc_of(np.arange(4.0), np.array([0, 0, 1, 1]))(np.array([1.0, 1, 0, 0])))


def test_scores_of_a_fold_come_from_models_that_did_not_see_it():
    z, _, treatment = study(40)
    folds = halves(40)
    before = out_of_fold_scores(z, treatment, folds)
    flipped = treatment.copy()
    flipped[folds[0][1]] = 1 - flipped[folds[0][1]]
    after = out_of_fold_scores(z, flipped, folds)
    np.testing.assert_array_equal(before[folds[0][1]], after[folds[0][1]])


def test_scores_do_not_depend_on_the_scale_of_features():
    z, _, treatment = study()
    scaled = z * np.array([1e-4, 1.0, 1e5]) + 7
    np.testing.assert_allclose(
        out_of_fold_scores(scaled, treatment, halves(400)),
        out_of_fold_scores(z, treatment, halves(400)), atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("probe", ["linear", "boosting"])
def test_rounding_errors_of_a_removed_feature_are_not_amplified(probe):
    z, _, treatment = study()
    rest = np.column_stack([z, 1e-17 * treatment])
    one, two = (
        out_of_fold_scores(values, treatment, halves(400), probe=probe) for values in (z, rest)
    )
    np.testing.assert_array_equal(one, two)


def test_images_that_show_the_treatment_are_flagged():
    report = gap(*study(leak=2.0))
    row = report.table.iloc[0]
    assert (report.status, report.flags) == ("warn", ("leak_gap",))
    assert row["gap"] == pytest.approx(row["auc_post"] - row["auc_pre"])
    assert 0 < row["lower"] < row["gap"] < row["upper"]
    assert "show the treatment" in report.text


def test_images_that_do_not_change_have_a_gap_of_zero():
    report = gap(*study())
    assert (report.status, report.flags) == ("pass", ())
    assert report.table[["gap", "lower", "upper"]].to_numpy().tolist() == [[0, 0, 0]]


def test_groups_are_drawn_as_a_whole():
    z_pre, z_post, treatment = (np.repeat(part, 10, axis=0) for part in study(60, leak=0.5))
    singly = gap(z_pre, z_post, treatment).table.iloc[0]
    grouped = gap(z_pre, z_post, treatment, np.repeat(np.arange(60), 10)).table.iloc[0]
    assert grouped["n_groups"] == 60
    wide, narrow = (row["upper"] - row["lower"] for row in (grouped, singly))
    assert wide > 2 * narrow


def test_units_without_an_earlier_image_are_left_out_and_counted():
    z_pre, z_post, treatment = study(leak=1.0)
    some = z_pre.copy()
    some[::4] = np.nan
    row = gap(some, z_post, treatment).table.iloc[0]
    assert (row["n"], row["n_left_out"]) == (300, 100)
    known = np.arange(400) % 4 > 0
    position = np.cumsum(known) - 1
    folds = [tuple(position[rows[known[rows]]] for rows in pair) for pair in halves(400)]
    alone = gap(z_pre[known], z_post[known], treatment[known], folds=folds).table.iloc[0]
    assert alone["gap"] == row["gap"]
    assert alone["lower"] == row["lower"]


def test_draws_without_both_arms_are_not_counted():
    z_pre, z_post, treatment = study(20, leak=1.0)
    by_arm = treatment.astype(int)
    report = gap(z_pre, z_post, treatment, by_arm, n_draws=200)
    assert 50 < report.table["n_draws"].iloc[0] < 150


def test_the_same_seed_gives_the_same_interval_and_trees():
    data = study(leak=1.0)
    one, two = (gap(*data, probe="boosting").table for _ in range(2))
    assert one.equals(two)
    assert not gap(*data, seed=2).table.equals(gap(*data).table)


def test_trees_find_what_a_line_cannot():
    z_pre, z_post, treatment = study(800)
    random = np.random.default_rng(5)
    z_post[:, 1] = random.choice([-1, 1], 800) * (1 + 2 * treatment)
    assert gap(z_pre, z_post, treatment).flags == ()
    assert gap(z_pre, z_post, treatment, probe="boosting").flags == ("nonlinear_leak",)


def test_a_fold_may_hold_no_unit_with_both_images():
    z_pre, z_post, treatment = study(60, leak=1.0)
    folds = [(np.arange(20, 60), np.arange(20)), *((np.delete(np.arange(60), at), at)
             for at in (np.arange(20, 40), np.arange(40, 60)))]  # fmt: skip
    z_pre[:20] = np.nan
    assert gap(z_pre, z_post, treatment, folds=folds).table["n"].iloc[0] == 40


def test_bad_input_is_named():
    z_pre, z_post, treatment = study(40)
    with pytest.raises(DataError, match=r"\(40, 2\) and after \(40, 3\) differ"):
        gap(z_pre[:, :2], z_post, treatment)
    with pytest.raises(DataError, match="1 of them with missing values"):
        gap(z_pre, np.where(np.arange(40)[:, None] == 3, np.nan, z_post), treatment)
    with pytest.raises(DataError, match="No unit has an image of before"):
        gap(np.full_like(z_pre, np.nan), z_post, treatment)
    with pytest.raises(DataError, match=r"values \[1.0\]; it must be 0 and 1"):
        gap(z_pre, z_post, np.ones(40))
    with pytest.raises(DataError, match="one group"):
        gap(z_pre, z_post, treatment, np.zeros(40))
    ones = np.flatnonzero(treatment == 1)
    with pytest.raises(DataError, match=r"Fold 0 learns from .* one arm only"):
        gap(z_pre, z_post, treatment, folds=[(ones, np.arange(40))])


def curve(levels, estimates, treatment, outcome, auc_pre=0.7):
    """A distillation curve whose estimates are given."""
    found = dict(zip(map(id, levels.values()), estimates, strict=True))

    def estimate(z, covariates, treatment, outcome, folds):
        return Effect(found[id(z)], 0.1, None, 0.95, "given", len(z))

    covariates = np.empty((len(treatment), 0))
    folds = halves(len(treatment))
    return distillation_curve(
        levels, estimate, covariates, treatment, outcome, folds, auc_pre=auc_pre
    )


def test_a_level_at_the_naive_estimate_with_little_auc_is_over_distilled():
    z, _, treatment = study(400)
    outcome = 2 * treatment  # naive 2
    noise = np.random.default_rng(3).standard_normal((400, 3))
    levels = {"image": z, "moderate": z.copy(), "strict": noise, "wrong": noise.copy()}
    report = curve(levels, [2.0, 1.2, 1.91, 1.89], treatment, outcome)
    table = report.table.set_index("level")
    assert table["over_distilled"].to_dict() == {
        "image": False, "moderate": False, "strict": True, "wrong": False,
    }  # fmt: skip
    assert table.loc["image", "auc"] > 0.7 > table.loc["strict", "auc"]
    assert report.flags == ("over_distilled",)
    assert report.status == "warn"
    assert "lost at strict" in report.text


def test_overlap_of_a_level_is_that_of_its_propensities():
    z, _, treatment = study(400)
    sharp = np.column_stack([treatment * 20, z[:, 0]])
    report = curve({"image": z, "leaking": sharp}, [1.0, 1.5], treatment, treatment)
    table = report.table.set_index("level")
    e = expit(out_of_fold_scores(z, treatment, halves(400)))
    weight = np.where(treatment == 1, 1 / e, 1 / (1 - e))
    expected = weight.sum() ** 2 / (weight**2).sum()
    assert table.loc["image", "n_effective"] == pytest.approx(expected)
    assert table.loc["image", "share_outside"] == np.mean((e < 0.02) | (e > 0.98))
    assert table.loc["leaking", "auc"] == 1
    assert table.loc["leaking", "share_outside"] > 0.3
    assert report.status == "pass"
