"""All rankings in one call: what each is worth, how they compare, and what is refused."""

import dataclasses

import dask
import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value, write_value
from eo_causal.core.units import StudyUnits
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.cate import EffectSettings
from eo_causal.estimate.effect_fits import NetworkPredictions
from eo_causal.estimate.heterogeneity import (
    HeterogeneityResult,
    HeterogeneitySettings,
    estimate_heterogeneity,
    ranking_of,
)

N_IMAGES, EACH = 120, 3
KEYS = [f"k{number:03d}" for number in range(N_IMAGES)]
SETTINGS = HeterogeneitySettings(n_draws=20, effects=EffectSettings(inner_folds=2))
ONE_ARM = SETTINGS.model_copy(update={"arms": ("image:seen",)})


def folds_of(units, n_folds=4, n_splits=2):
    chosen = FoldSettings(kind="image_key", n_splits=n_splits, n_folds=n_folds)
    return make_folds(units, chosen, None, 0.0, True, seed=1)


def make_units(n_images=N_IMAGES):
    """A trial by image whose effect is 1 + the first feature; another set of features is noise."""
    random = np.random.default_rng(0)
    seen, noise = random.normal(size=(2, n_images, 2))
    image = np.repeat(np.arange(n_images), EACH)
    treatment = random.permutation(np.arange(n_images) % 2)[image].astype(float)
    effect = 1 + seen[image, 0]
    outcome = effect * treatment + 0.5 * random.normal(size=len(image))
    keys = np.array([f"k{number:03d}" for number in image], dtype=object)
    table = pd.DataFrame({
        "unit_id": [f"u{number:03d}" for number in range(len(image))], "image_key": keys,
        "treatment": treatment, "outcome": outcome, "cluster": keys, "easting": np.nan,
        "northing": np.nan,
    })  # fmt: skip
    units = StudyUnits(table, pd.DataFrame({"age": random.normal(size=len(image))}))
    return units, {"seen": lambda _: seen, "noise": lambda _: noise}, effect


@pytest.fixture(scope="module")
def world():
    return make_units()


@pytest.fixture(scope="module")
def run(world):
    def found(settings=SETTINGS, **changes):
        units, features, _ = world
        given = {
            "units": units, "folds": folds_of(units), "image_keys": KEYS, "features": features,
            "networks": {}, "probability": 0.5, "seed": 5, **changes,
        }  # fmt: skip
        with dask.config.set(scheduler="synchronous"):
            return estimate_heterogeneity(settings=settings, **given)

    return found


@pytest.fixture(scope="module")
def result(run):
    return run(SETTINGS.model_copy(update={"learners": ("dr", "t")}))


def test_the_arm_that_sees_the_modifier_is_found_and_no_other(result, world):
    rates = result.rates.set_index(["arm", "learner", "metric"])
    for learner in ("dr", "t"):
        for metric in ("autoc", "qini"):
            assert rates.loc[("image:seen", learner, metric), "p_adjusted"] < 0.01
            assert rates.loc[("image:noise", learner, metric), "p_adjusted"] > 0.2
    for arm, low, high in (("image:seen", 0.95, 1), ("image:noise", -0.4, 0.4)):
        found = np.corrcoef(result.of(arm, "dr")["cate"], world[2])[0, 1]
        assert low < found < high


def test_rankings_are_arms_with_learners(result):
    arms = ["tabular", "image:seen", "image:seen+tabular", "image:noise", "image:noise+tabular"]
    wanted = [(arm, learner) for arm in arms for learner in ("dr", "t")]
    for table in (result.rates, result.splits, result.curves, result.cate):
        assert list(table.groupby(["arm", "learner"], sort=False).groups) == wanted
    assert len(result.comparisons) == 10 * 9 // 2


def test_rates_are_medians_over_the_splits_with_their_range(result):
    rows = result.splits.groupby(["arm", "learner", "metric"], sort=False)
    for key, own in rows:
        row = result.rates.set_index(["arm", "learner", "metric"]).loc[key]
        assert own["split"].tolist() == [0, 1]
        assert row["estimate"] == pytest.approx(own["estimate"].median())
        assert row["ratio"] == pytest.approx(own["ratio"].median())
        assert (row["split_low"], row["split_high"]) == (own["ratio"].min(), own["ratio"].max())
        assert row["n_splits"] == 2
        assert row["p_value"] == pytest.approx(min(1, 2 * own["p_value"].min()))


def test_p_values_are_adjusted_for_all_rankings_of_a_metric(result):
    for _, rows in result.rates.groupby("metric"):
        assert len(rows) == 10
        wanted = multipletests(rows["p_value"], method="holm")[1]
        np.testing.assert_allclose(rows["p_adjusted"], wanted)


def test_a_single_ranking_needs_no_adjustment(run):
    rates = run(ONE_ARM).rates
    assert rates["metric"].tolist() == ["autoc", "qini"]
    np.testing.assert_array_equal(rates["p_adjusted"], rates["p_value"])


def test_units_are_in_their_order_and_curves_end_at_zero(result, world):
    own = result.of("image:seen", "dr")
    assert own["unit_id"].tolist() == world[0].table["unit_id"].tolist()
    for _, curve in result.curves.groupby(["arm", "learner"]):
        assert curve["share"].tolist() == pytest.approx((np.arange(1, 21) / 20).tolist())
        assert curve["toc"].iloc[-1] == pytest.approx(0, abs=1e-12)
        assert (curve["lower"] <= curve["toc"]).all()
        assert (curve["toc"] <= curve["upper"]).all()


def test_groups_and_calibration_show_what_the_ranking_found(result):
    groups = result.groups[
        (result.groups["arm"] == "image:seen") & (result.groups["learner"] == "dr")
    ]
    assert groups["group"].tolist() == [1, 2, 3, 4]
    assert groups["n"].sum() == N_IMAGES * EACH
    assert groups["effect"].is_monotonic_increasing
    terms = result.calibration.set_index(["arm", "learner", "term"])
    slope = terms.loc[("image:seen", "dr", "slope")]
    assert slope["lower"] < 1 < slope["upper"]
    assert slope["p_value"] < 1e-6
    assert terms.loc[("image:noise", "dr", "slope"), "p_value"] > 0.05


def test_equal_features_give_equal_rankings_and_a_difference_of_zero(run, world):
    features = {"one": world[1]["seen"], "two": world[1]["seen"]}
    settings = SETTINGS.model_copy(update={"arms": ("image:one", "image:two", "tabular")})
    found = run(settings, features=features)
    pairs = found.comparisons.set_index(["ranking_a", "ranking_b"])
    same = pairs.loc[("image:one dr", "image:two dr")]
    assert same["correlation"] == pytest.approx(1)
    assert (same["difference"], same["std_error"], same["p_value"]) == (0, 0, 1)
    other = pairs.loc[("image:one dr", "tabular dr")]
    assert other["lower"] > 0
    assert other["p_value"] < 0.05


def test_without_covariates_there_are_images_only(run, world):
    units = world[0]
    bare = StudyUnits(units.table, pd.DataFrame(index=units.table.index))
    found = run(units=bare)
    assert found.rates["arm"].unique().tolist() == ["image:seen", "image:noise"]


def test_predictions_that_are_all_alike_rank_nobody(run, world):
    """One number a fold fills no groups."""
    with counting() as counts:
        found = run(
            SETTINGS.model_copy(update={"arms": ("image:flat",), "n_groups": 10}),
            features={"flat": lambda _: np.ones((N_IMAGES, 3))},
            folds=folds_of(world[0], n_splits=1),
        )
    assert found.rates["estimate"].eq(0).all()
    assert found.rates["ratio"].eq(0).all()
    assert found.rates["p_value"].eq(0.5).all()
    assert len(found.groups) == 0
    assert counts["splits_without_differences"] == 2


def test_rankings_without_differences_leave_the_others_their_groups(run, world):
    features = {"flat": lambda _: np.ones((N_IMAGES, 3)), "seen": world[1]["seen"]}
    settings = SETTINGS.model_copy(update={"arms": ("image:flat", "image:seen"), "n_groups": 10})
    found = run(settings, features=features, folds=folds_of(world[0], n_splits=1))
    assert found.groups["arm"].unique().tolist() == ["image:seen"]
    assert found.rates["arm"].unique().tolist() == ["image:flat", "image:seen"]


def test_a_network_is_compared_on_the_splits_it_has(run, world):
    units = world[0]
    folds = folds_of(units)
    random = np.random.default_rng(1)
    said = pd.DataFrame({
        "split": 0, "unit_id": units.table["unit_id"], "propensity": 0.5,
        "mu0": random.normal(size=len(units)), "mu1": random.normal(size=len(units)),
    })  # fmt: skip
    networks = {"network": NetworkPredictions(said, said)}
    settings = SETTINGS.model_copy(update={"arms": ("image:seen", "image:network")})
    found = run(settings, networks=networks, folds=folds)
    rates = found.rates.set_index(["arm", "learner", "metric"])
    assert rates.loc[("image:network", "network", "autoc"), "n_splits"] == 1
    assert rates.loc[("image:seen", "dr", "autoc"), "n_splits"] == 2
    own = found.of("image:network", "network")
    np.testing.assert_allclose(own["cate"], said["mu1"] - said["mu0"])
    assert len(found.comparisons) == 1


def test_the_design_probability_takes_the_place_of_a_model(run):
    known, modelled = (run(ONE_ARM, probability=p).cate["score"] for p in (0.5, None))
    assert not np.allclose(known, modelled)
    assert known.mean() == pytest.approx(modelled.mean(), abs=0.15)


def test_numbers_follow_the_seed_and_not_what_else_was_asked(run, result):
    again, other = run(ONE_ARM), run(ONE_ARM, seed=6)
    own = result.of("image:seen", "dr")
    pd.testing.assert_frame_equal(again.of("image:seen", "dr"), own, check_exact=True)
    assert not np.array_equal(other.of("image:seen", "dr")["cate"], own["cate"])
    splits = result.splits[
        (result.splits["arm"] == "image:seen") & (result.splits["learner"] == "dr")
    ]
    pd.testing.assert_frame_equal(again.splits, splits.reset_index(drop=True), check_exact=True)


def test_a_result_survives_the_disk(result, tmp_path):
    write_value(result, HeterogeneityResult, tmp_path)
    back = read_value(HeterogeneityResult, tmp_path)
    for field in dataclasses.fields(HeterogeneityResult):
        if field.name != "level":
            pd.testing.assert_frame_equal(getattr(back, field.name), getattr(result, field.name))
    assert back.level == 0.95


def test_a_ranking_that_is_not_there_lists_those_that_are(result):
    pd.testing.assert_frame_equal(ranking_of(result, "tabular", "t"), result.of("tabular", "t"))
    with pytest.raises(
        ConfigError, match="no ranking by tabular r; there are: tabular dr, tabular t"
    ):
        ranking_of(result, "tabular", "r")


def test_two_folds_are_too_few(run, world):
    with pytest.raises(ConfigError, match=r"folds.n_folds is 2; .* needs 3"):
        run(folds=folds_of(world[0], n_folds=2))


def test_arms_that_are_not_there_are_refused(run):
    with pytest.raises(ConfigError, match=r"image:other; there are: tabular, image:seen"):
        run(SETTINGS.model_copy(update={"arms": ("image:other",)}))


def test_units_without_an_image_are_named(run):
    with pytest.raises(DataError, match=r"3 of 360 units have no chip \(first: u357\)"):
        run(ONE_ARM, image_keys=KEYS[:-1])


def test_folds_of_few_clusters_are_refused(run):
    units, features, _ = make_units(n_images=10)
    units = StudyUnits(units.table.assign(treatment=np.arange(30) % 2), units.covariates)
    folds = folds_of(units, n_folds=3)
    with pytest.raises(DataError, match=r"in 3 cluster\(s\): half-samples need 4"):
        run(ONE_ARM, units=units, folds=folds, image_keys=KEYS[:10], features=features)
