"""Image effect clusters on a world of two kinds of places, and where their model is wrong."""

import numpy as np
import pytest
from pydantic import ValidationError

from eo_causal.core.effect import Effect
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.estimate.ate import difference_in_means
from eo_causal.estimate.cate import Rows
from eo_causal.estimate.clusters import ClusterSettings, image_clusters

QUICK = ClusterSettings(n_draws=20, n_starts=2, folds=3, candidates=(1, 2))
WITHOUT_CHOICE = QUICK.model_copy(update={"candidates": (1,)})


def two_kinds(seed, n_places=400, gap=2.0, n_features=3):
    """Two units a place; kind 2 where 4 x_1 + noise > 1, with effect ``gap`` instead of 0."""
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(n_places), 2)
    image = random.standard_normal((n_places, n_features))
    kind = 4 * image[:, 0] + random.logistic(size=n_places) > 1
    treatment = random.integers(0, 2, n_places).astype(float)[place]
    usual = 1 + 0.4 * image[place, 1]
    effect = np.where(kind, gap, 0.0)[place]
    outcome = usual + treatment * (effect + random.normal(0, 0.3, len(place)))
    outcome = outcome + random.normal(0, 0.5, len(place))
    return Rows(image[place], treatment, outcome, place), kind[place]


def average(rows):
    return difference_in_means(rows.treatment, rows.outcome).effect(rows.group)


@pytest.fixture(scope="module")
def world():
    return two_kinds(1)


@pytest.fixture(scope="module")
def found(world):
    return image_clusters(world[0], average(world[0]), QUICK, seed=3)


def test_effects_of_two_kinds_are_recovered(found):
    clusters = found.clusters
    assert list(clusters["cluster"]) == [1, 2]
    assert (clusters["std_error"] < 0.15).all()
    assert (np.abs(clusters["estimate"] - [0, 2]) < 3 * clusters["std_error"]).all()
    assert (clusters["lower"] < clusters["estimate"]).all()
    assert (clusters["upper"] > clusters["estimate"]).all()


def test_shares_and_members_are_recovered(world, found):
    share = world[1].mean()
    assert found.clusters["share"].sum() == pytest.approx(1)
    assert found.clusters["share"].iloc[1] == pytest.approx(share, abs=0.06)
    np.testing.assert_allclose(found.clusters["share"], found.membership.mean(axis=0))
    assert np.corrcoef(found.membership[:, 1], world[1])[0, 1] > 0.75
    assert 0 < found.sure_share < 0.9


def test_the_implied_average_is_near_the_truth(world, found):
    truth = 2 * world[1].mean()
    assert found.implied.estimate == pytest.approx(truth, abs=3 * found.implied.std_error)
    assert found.implied.estimate == pytest.approx(
        (found.membership @ found.clusters["estimate"]).mean()
    )
    assert 0.02 < found.implied.std_error < 0.15


def test_the_variance_of_effects_sums_both_arms(found):
    """0.25 without treatment, 0.25 + 0.09 with it."""
    np.testing.assert_allclose(found.clusters["effect_variance"], 0.59, atol=0.15)


def test_held_out_likelihood_tells_two_kinds_from_one(world, found):
    assert list(found.candidates["n_clusters"]) == [1, 2]
    one, two = found.candidates["log_likelihood"]
    assert two > one + 0.05
    alike, _ = two_kinds(1, gap=0.0)
    settings = QUICK.model_copy(update={"n_clusters": None})
    none = image_clusters(alike, average(alike), settings, seed=3)
    assert len(none.clusters) == 1
    assert none.clusters["estimate"].iloc[0] == pytest.approx(average(alike).estimate, abs=0.05)
    assert none.sure_share == 0


def test_answers_depend_on_the_seed_only_and_not_on_units_of_the_features(world, found):
    rows, _ = world
    scaled = np.column_stack(
        [100 * rows.design[:, :2] + 7, rows.design[:, 2], np.ones(len(rows.group))]
    )
    again = image_clusters(
        Rows(scaled, rows.treatment, rows.outcome, rows.group), average(rows), QUICK, seed=3
    )
    np.testing.assert_allclose(again.membership, found.membership, atol=1e-6)
    np.testing.assert_allclose(again.clusters, found.clusters, atol=1e-6)


def test_certain_memberships_are_warned_of():
    rows, _ = two_kinds(1, n_places=40, n_features=40, gap=6.0)
    loose = WITHOUT_CHOICE.model_copy(update={"membership_sd": 100.0})
    vague = Effect(2.5, 10.0, (-17.1, 22.1), 0.95, "AIPW", 80)
    with pytest.warns(EOCausalWarning, match="memberships are over-fitted") as caught:
        found = image_clusters(rows, vague, loose, seed=0)
    assert [w.message.code for w in caught] == ["ClusterOverfitWarning"]
    assert found.sure_share > 0.95


def test_an_implied_average_far_from_the_estimate_is_warned_of(world):
    far = Effect(5.0, 0.1, (4.8, 5.2), 0.95, "AIPW", 800)
    with pytest.warns(
        EOCausalWarning, match=r"more than 2 standard errors from 5 \(AIPW\)"
    ) as caught:
        image_clusters(world[0], far, WITHOUT_CHOICE, seed=3)
    assert [w.message.code for w in caught] == ["ClusterEffectWarning"]


def test_outcomes_on_one_value_are_warned_of(world):
    rows, _ = world
    outcome = np.where(rows.outcome < 1.4, 0.0, rows.outcome)
    floored = Rows(rows.design, rows.treatment, outcome, rows.group)
    with pytest.warns(EOCausalWarning, match="of the outcomes are one value") as caught:
        image_clusters(floored, average(floored), WITHOUT_CHOICE, seed=3)
    assert "ZeroInflatedWarning" in {w.message.code for w in caught}


def test_what_cannot_be_sorted_is_refused(world):
    rows, _ = world
    holes = np.where(np.arange(len(rows.outcome)) < 2, np.nan, rows.outcome)
    for changed, said in (
        ({"outcome": holes}, "2 numbers are missing"),
        ({"treatment": np.ones(len(holes))}, r"treatment is \[1.0\]"),
        ({"group": np.arange(len(holes)) % 2}, "there are 2 groups"),
    ):
        with pytest.raises(DataError, match=said):
            image_clusters(Rows(**{**vars(rows), **changed}), average(rows), QUICK, seed=0)
    with pytest.raises(ValidationError, match="n_cluster"):
        ClusterSettings(n_cluster=2)
