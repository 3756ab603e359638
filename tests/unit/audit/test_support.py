"""Support of a trial: its own law is inside, shifted places are not, by either of two judges."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.audit.applicability import AreaOfApplicability
from eo_causal.audit.support import MOST_COMPONENTS, _components, support_of, support_report
from eo_causal.core.progress import counting
from eo_causal.errors import DataError

FOLD = np.arange(300) % 5


def normal(n, k=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, k))


def test_places_of_the_same_law_are_inside_and_shifted_ones_are_not():
    trial, target = normal(300), normal(200, seed=1)
    assert support_of(trial, target, FOLD, seed=0)["in_support"].mean() > 0.85
    shifted = support_of(trial, target + 5 * trial.std(axis=0), FOLD, seed=0)
    assert not shifted["in_support"].any()


def test_the_area_of_applicability_is_that_of_all_features():
    trial, target = pd.DataFrame(normal(300)), pd.DataFrame(normal(200, seed=1) * 1.5)
    found = support_of(trial, target, FOLD, seed=0)
    area = AreaOfApplicability.fit(trial, FOLD, seed=0)
    np.testing.assert_array_equal(found["dissimilarity"], area.transform(target))
    assert not found["in_support"][~area.inside(target)].any()


def test_membership_sees_a_shift_that_distances_do_not():
    """Eight features of 1 lie as far from the mean as units do, but where hardly a unit is."""
    trial, target = normal(300, 8), normal(200, 8, seed=1) * 0.05 + 1.0
    found = support_of(trial, target, FOLD, seed=0)
    area = AreaOfApplicability.fit(pd.DataFrame(trial), FOLD, seed=0)
    assert area.inside(pd.DataFrame(target)).all()
    assert found["in_support"].mean() < 0.05


def test_distances_see_a_spread_that_membership_does_not():
    trial, target = normal(300, 2), normal(200, 2, seed=1) * 20
    found = support_of(trial, target, FOLD, seed=0)
    assert found["membership"].between(0.2, 0.8).mean() > 0.5
    assert found["in_support"].mean() < 0.2


def test_membership_does_not_depend_on_how_many_places_there_are():
    trial = normal(300)
    few, many = (support_of(trial, normal(n, seed=2) + 0.5, FOLD, seed=0) for n in (200, 3000))
    assert few["membership"].mean() == pytest.approx(many["membership"].mean(), abs=0.05)
    assert few["membership"].mean() < 0.45


def test_components_are_the_trials_own():
    random = np.random.default_rng(3)
    trial = random.normal(size=(200, 40)) @ random.normal(size=(40, 40)) + 7
    target = random.normal(size=(50, 40)) * 9
    rows, others = _components(trial, target)
    assert rows.shape == (200, MOST_COMPONENTS)
    np.testing.assert_allclose(rows.T @ rows / 200, np.eye(MOST_COMPONENTS), atol=1e-10)
    np.testing.assert_allclose(_components(trial, target[:1])[1], others[:1])
    np.testing.assert_allclose(_components(trial, trial)[1], rows)


def test_features_that_repeat_or_never_vary_add_no_component():
    trial = normal(300, 3)
    wide = np.column_stack([trial, trial[:, 0] + trial[:, 1], np.full(300, 4.0)])
    assert _components(wide, wide)[0].shape == (300, 3)


def test_few_places_are_judged_by_models_that_saw_others():
    """Two or three places, thirty components: a model that had seen them would tell them apart."""
    outside = [
        1 - support_of(normal(300, 30), normal(3, 30, seed), FOLD, seed=0)["in_support"].mean()
        for seed in range(10, 20)
    ]
    assert np.mean(outside) <= 0.25
    assert len(support_of(normal(300, 30), normal(2, 30, 9), FOLD, seed=0)) == 2


def test_answers_are_in_the_order_of_places_and_depend_on_the_seed_only():
    trial, target = normal(300), normal(20, seed=1)
    target[7, 2] = np.nan
    with counting() as counts:
        found = support_of(trial, target, FOLD, seed=0)
    assert found.equals(support_of(trial, target, FOLD, seed=0))
    assert found.columns.tolist() == ["in_support", "dissimilarity", "membership"]
    assert found["in_support"].dtype == bool
    assert not found["in_support"][7]
    assert found.loc[7, ["dissimilarity", "membership"]].isna().all()
    assert found.drop(index=7).notna().all(axis=None)
    assert counts["places_without_features"] == 1
    relabelled = support_of(trial, target, FOLD * 10 + 3, seed=0)
    pd.testing.assert_frame_equal(found, relabelled)


def test_bad_input_is_refused():
    trial, target = normal(300), normal(20, seed=1)
    with pytest.raises(DataError, match="299 folds for 300 trial units"):
        support_of(trial, target, FOLD[1:], seed=0)
    with pytest.raises(DataError, match="1 of 20 target places have all features"):
        support_of(trial, np.where(np.arange(20)[:, None] > 0, np.nan, target), FOLD, seed=0)
    with pytest.raises(DataError, match="1 of 300 training rows have missing features"):
        support_of(np.where(trial == trial[4, 2], np.nan, trial), target, FOLD, seed=0)
    with pytest.raises(DataError, match="at least two folds"):
        support_of(trial, target, FOLD * 0, seed=0)
    with pytest.raises(DataError, match="Embed both with one encoder"):
        support_of(trial, target[:, :4], FOLD, seed=0)
    with pytest.raises(DataError, match="rows are alike"):
        support_of(trial * 0, target, FOLD, seed=0)


def test_the_report_averages_effects_with_and_without():
    support = pd.DataFrame({"in_support": [True] * 8 + [False] * 2})
    report = support_report(support, np.array([1.0] * 8 + [6.0] * 2))
    assert (report.name, report.status) == ("applicability", "warn")
    assert "20.0% of 10 target places" in report.text
    assert "2 with them and 1 without" in report.text
    assert support_report(support[:8], np.ones(8)).status == "pass"
    with pytest.raises(DataError, match="9 effects for 10 places"):
        support_report(support, np.ones(9))
