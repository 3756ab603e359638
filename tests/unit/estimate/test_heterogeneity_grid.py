"""The grid of design choices: what a choice adds by hand, arms, cells; a trial as the stage tests it."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.random import generator
from eo_causal.core.units import StudyUnits
from eo_causal.encode.pixel_stats import PixelStatsSettings
from eo_causal.encode.store import FoldFeatures
from eo_causal.errors import DataError
from eo_causal.estimate.heterogeneity import HeterogeneitySettings, estimate_heterogeneity
from eo_causal.estimate.heterogeneity_grid import (
    AT_BASELINE,
    GridSettings,
    arm_names,
    cells,
    choices_of,
    choices_summary,
    correlation,
    estimate_grid,
    rejections,
)
from eo_causal.simulate.heterogeneity_study import TrialStudySettings, simulate_trials

COLUMNS = ["repetition", "data", "encoder", "covariates", "learner", "metric", "ratio", "p_value"]


def grid(*, n=2, shift=0.0):
    """Ratio 1, +2 for a sequence, -0.5 for b, +0.25 for covariates; each moved by the repetition r."""
    rows = []
    for repetition in range(n):
        for data in ("single", "sequence"):
            for encoder in ("a", "b"):
                for covariates in ("no", "yes"):
                    ratio = 1 + (2 + repetition) * (data == "sequence") + shift
                    ratio -= (0.5 + 0.1 * repetition) * (encoder == "b")
                    ratio += (0.25 + 0.1 * repetition) * (covariates == "yes")
                    rows.append((repetition, data, encoder, covariates, "dr", "autoc", ratio, 0.2))
    return pd.DataFrame(rows, columns=COLUMNS)


def by_level(summary):
    return summary.set_index("level")


def test_the_summary_says_what_each_choice_adds():
    found = by_level(choices_summary(grid()))
    assert found["estimate"].to_dict() == pytest.approx(
        {"": 1.0, "sequence": 2.5, "b": -0.55, "yes": 0.3}
    )
    assert found["baseline"].to_dict() == {"": "", "sequence": "single", "b": "a", "yes": "no"}
    assert found["choice"].tolist() == [AT_BASELINE, "data", "encoder", "covariates"]
    assert found["n"].tolist() == [16, 8, 8, 8]


def test_errors_are_clustered_by_repetition():
    """Two repetitions of eight rows: contrasts 2 and 3, so that the sum over clusters is +-0.5 n/4."""
    row = by_level(choices_summary(grid())).loc["sequence"]
    # scores of a cluster project on its contrast; V = G/(G-1) (n-1)/(n-k) sum (c_r - mean)^2 / G^2
    assert row["std_error"] == pytest.approx(np.sqrt(2 * 15 / 12 * 0.5 / 4))
    assert row["lower"] < 2.5 < row["upper"]
    assert row["upper"] - 2.5 == pytest.approx(12.706 * row["std_error"], rel=1e-4)


def test_worlds_and_metrics_have_summaries_of_their_own():
    here, there = grid().assign(world="here"), grid(shift=-1).assign(world="there")
    found = choices_summary(pd.concat([here, there, here.assign(metric="qini")]))
    first = found[found["choice"] == AT_BASELINE].set_index(["world", "metric"])["estimate"]
    assert first.to_dict() == pytest.approx(
        {("here", "autoc"): 1, ("there", "autoc"): 0, ("here", "qini"): 1}
    )


def test_an_encoder_that_is_absent_counts_as_the_baseline():
    alone = pd.DataFrame(
        [(r, "no image", None, "yes", "dr", "autoc", 0.4 + 0.2 * r, 0.2) for r in (0, 1)],
        columns=COLUMNS,
    )
    found = by_level(choices_summary(pd.concat([grid(), alone], ignore_index=True)))["estimate"]
    assert found["no image"] == pytest.approx(0.5 - 1.3)
    assert found["b"] == pytest.approx(-0.55)


def test_a_table_of_one_trial_is_summarised_by_its_arms_without_errors():
    ratios = {"tabular": 1.0, "image:still": 0.5, "image:still+tabular": 1.5, "image:video": 2.5,
              "image:video+tabular": 3.5}  # fmt: skip
    rates = pd.DataFrame({
        "arm": list(ratios), "learner": "dr", "metric": "autoc", "ratio": list(ratios.values()),
    })  # fmt: skip
    found = by_level(choices_summary(rates))
    assert found["estimate"].to_dict() == pytest.approx(
        {"": 1.0, "still": 0.5, "video": 2.5, "no": -1.0}
    )
    assert (found["baseline"][["still", "no"]] == ["no image", "yes"]).all()
    assert found[["std_error", "lower", "upper", "p_value"]].isna().all(axis=None)


def test_a_level_that_comes_with_another_has_no_estimate_of_its_own():
    rates = pd.DataFrame({
        "arm": ["tabular", "tabular", "image:network"], "learner": ["dr", "t", "network"],
        "metric": "autoc", "ratio": [1.0, 1.2, 3.0],
    })  # fmt: skip
    found = by_level(choices_summary(rates))["estimate"]
    assert found[["network", "t"]].dropna().to_dict() == pytest.approx({"network": 2.0, "t": 0.2})
    assert np.isnan(found["no"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda rates: rates.drop(columns="ratio"),
            "needs arm .or data., learner, metric and ratio",
        ),
        (lambda rates: rates.assign(ratio=np.nan), "16 of 16 ratios are no number"),
    ],
)
def test_tables_that_hold_no_rates_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        choices_summary(change(grid()))


def test_arms_are_named_images_first_and_read_back():
    arms = arm_names(["pixel_stats/sequence"], (False, True))
    assert arms == (
        "image:pixel_stats/sequence", "image:pixel_stats/sequence+tabular", "tabular",
    )  # fmt: skip
    assert arm_names(["a/b"], (False,)) == ("image:a/b",)
    image, both, alone = map(choices_of, arms)
    assert image == {"data": "sequence", "encoder": "pixel_stats", "covariates": "no"}
    assert both == image | {"covariates": "yes"}
    assert alone == {"data": "no image", "encoder": None, "covariates": "yes"}


def test_cells_are_means_and_rejections_shares_over_repetitions():
    rates = grid().assign(world="here", correlation=0.5)
    rates.loc[rates["repetition"] == 1, "p_value"] = 0.01
    found = cells(rates).set_index(["data", "encoder", "covariates"]).loc["sequence", "a", "no"]
    assert found[["n", "ratio", "std_error", "rejected"]].tolist() == pytest.approx(
        [2, 3.5, 0.5, 0.5]
    )
    row = rejections(rates).iloc[0]
    assert (row["n"], row["rejected"]) == (16, 0.5)
    assert row["std_error"] == pytest.approx(0.5)


def test_constant_predictions_correlate_with_nothing():
    effect = np.array([1.0, 2, 3])
    assert correlation(np.ones(3), effect) == 0
    assert correlation(2 * effect, effect) == pytest.approx(1)
    assert np.isnan(correlation(effect, np.ones(3)))


@pytest.fixture(scope="module")
def trials():
    settings = TrialStudySettings(n_units=150, n_repetitions=2, size_pixels=8)
    return simulate_trials("change", settings, seed=3)


def test_a_trial_is_tested_as_the_stage_of_a_study_does(trials):
    features = {"pixel_stats/sequence": FoldFeatures(trials.chips, PixelStatsSettings(), 3)}
    tests = HeterogeneitySettings(learners=("dr",), n_draws=20)
    settings = GridSettings(heterogeneity=tests, covariates=(False,))
    rates = estimate_grid("change", trials.units, ["baseline"], features, settings, seed=3)
    assert rates["repetition"].tolist() == [0, 0, 1, 1]
    assert (rates["correlation"] > 0.2).all()

    own = trials.units[trials.units["repetition"] == 1].reset_index(drop=True)
    units = StudyUnits(own.drop(columns=["effect", "baseline"]), own[["baseline"]])
    seed = int(generator(3, "grid", 1).integers(2**31))
    folds = make_folds(units, FoldSettings(n_splits=1), None, 0.0, True, seed=seed)
    chips = trials.chips.isel(repetition=1)
    found = estimate_heterogeneity(
        units, folds, own["image_key"].tolist(), {"x": FoldFeatures(chips, PixelStatsSettings(), 1)},
        {}, 0.5, tests.model_copy(update={"arms": ("image:x",)}), seed=seed,
    )  # fmt: skip
    np.testing.assert_allclose(rates["ratio"][2:], found.rates["ratio"])


def test_worlds_share_images_and_differ_by_the_effect_alone(trials):
    settings = TrialStudySettings(n_units=150, n_repetitions=2, size_pixels=8)
    constant = simulate_trials("constant", settings, seed=3)
    np.testing.assert_array_equal(constant.chips, trials.chips)
    pd.testing.assert_series_equal(constant.units["baseline"], trials.units["baseline"])
    assert set(constant.units["effect"]) == {0.75}
    gain = trials.units["outcome"] - constant.units["outcome"]
    treated = trials.units["treatment"]
    np.testing.assert_allclose(gain, treated * (trials.units["effect"] - 0.75), atol=1e-12)
    assert not np.array_equal(trials.chips[0], trials.chips[1])
