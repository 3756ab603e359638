"""Worlds of maps and trials: each follows the equations of its text."""

import numpy as np
import pytest

from eo_causal.simulate import predictions

WORLDS = {
    "gaussian": predictions.gaussian,
    "out_of_support": predictions.out_of_support,
    "skewed": predictions.skewed,
    "classical": predictions.classical,
    "sited_by_image": predictions.sited_by_image,
    "clustered_errors": predictions.clustered_errors,
    "over_fitted": predictions.over_fitted,
    "heteroskedastic": predictions.heteroskedastic,
    "differential": predictions.differential,
    "uncertain_map": predictions.uncertain_map,
    "placebo_groups": predictions.placebo_groups,
    "cluster_trial": predictions.cluster_trial,
}


def slopes(table):
    """(prediction on truth, truth on prediction)."""
    covariance = np.cov(table["outcome"], table["prediction"])
    return covariance[0, 1] / covariance[0, 0], covariance[0, 1] / covariance[1, 1]


def contrast(table, name):
    arms = table.groupby("treatment")[name].mean()
    return arms[1] - arms[0]


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_repeats_by_its_seed(name):
    world, again, other = (WORLDS[name](seed) for seed in (1, 1, 2))
    assert world.trial.equals(again.trial)
    assert world.calibration.equals(again.calibration)
    assert not world.trial.equals(other.trial)
    assert set(world.trial["treatment"]) == {0.0, 1.0}
    assert np.isfinite(world.trial.to_numpy(dtype=float)).all()


@pytest.mark.parametrize("r2", [0.25, 0.5, 0.75, 0.9])
def test_gaussian_maps_shrink_by_r2_and_are_berkson(r2):
    world = predictions.gaussian(0, r2, 0.5, 100_000, 100_000)
    forward, reverse = slopes(world.calibration)
    assert forward == pytest.approx(r2, abs=0.01)
    assert reverse == pytest.approx(1, abs=0.02)
    assert contrast(world.trial, "outcome") == pytest.approx(0.5, abs=0.02)
    assert contrast(world.trial, "prediction") == pytest.approx(world.naive_effect, abs=0.02)


def test_skewed_trials_have_the_law_of_the_calibration_pairs():
    world = predictions.skewed(0, 2, 0, 60_000, 60_000)
    expected = world.calibration["prediction"].quantile([0.05, 0.3, 0.5, 0.8, 0.95])
    found = world.trial["prediction"].quantile([0.05, 0.3, 0.5, 0.8, 0.95])
    np.testing.assert_allclose(found, expected, atol=0.15)
    error = world.trial["outcome"] - world.trial["prediction"]
    assert error.std() == pytest.approx(2, abs=0.03)
    assert error.corr(world.trial["prediction"]) == pytest.approx(0, abs=0.02)


def test_the_true_score_makes_tweedie_exact():
    """T1 on draws: mean of prediction - sigma^2 score differs by the effect between the arms."""
    world = predictions.skewed(0, 2, 3, 100, 200_000)
    exact = world.trial.assign(corrected=world.trial["prediction"] - 4 * world.trial["score"])
    assert contrast(exact, "corrected") == pytest.approx(3, abs=0.08)
    assert contrast(exact, "prediction") < 2.7


def test_the_score_is_the_slope_of_the_log_density():
    places = np.linspace(0, 30, 61)

    def log_density(x):
        scaled = (x[:, None] - predictions.MIXTURE_MEAN) / predictions.MIXTURE_SD
        part = predictions.MIXTURE_SHARE / predictions.MIXTURE_SD * np.exp(-0.5 * scaled**2)
        return np.log(part.sum(axis=1))

    expected = (log_density(places + 1e-5) - log_density(places - 1e-5)) / 2e-5
    np.testing.assert_allclose(predictions.mixture_score(places), expected, atol=1e-6)


def test_classical_error_does_not_shrink():
    world = predictions.classical(0, 0.75, 0.5, 100_000, 100_000)
    forward, reverse = slopes(world.calibration)
    assert forward == pytest.approx(1, abs=0.01)
    assert reverse == pytest.approx(0.75, abs=0.01)
    assert contrast(world.trial, "prediction") == pytest.approx(0.5, abs=0.02)


def test_groups_chosen_by_the_image_are_shown_without_shrinkage():
    world = predictions.sited_by_image(0, n=400_000)
    assert contrast(world.trial, "outcome") == pytest.approx(world.effect, abs=0.01)
    assert contrast(world.trial, "prediction") == pytest.approx(world.effect, abs=0.01)
    assert slopes(world.calibration)[0] == pytest.approx(0.75, abs=0.03)


def test_clusters_share_treatment_and_error():
    world = predictions.clustered_errors(0, 0.3, 0.5, 10, 4000, 20)
    treatment = world.trial["treatment"].to_numpy().reshape(4000, 20)
    assert (treatment == treatment[:, :1]).all()
    assert treatment.mean() == 0.5
    error = 2 * world.trial["prediction"] - world.trial["outcome"]
    table = error.to_numpy().reshape(4000, 20)
    assert table.var() == pytest.approx(1, abs=0.05)
    assert np.cov(table.T)[0, 1:].mean() == pytest.approx(0.3, abs=0.05)


def test_training_rows_look_better_than_held_out_rows():
    world = predictions.over_fitted(0, 300)
    assert slopes(world.training)[0] > 1.3 * slopes(world.calibration)[0]
    assert contrast(world.trial, "prediction") == pytest.approx(world.naive_effect, abs=0.05)


@pytest.mark.parametrize("noise_slope", [0.0, 0.6])
def test_heteroskedastic_trials_follow_the_grid(noise_slope):
    world = predictions.heteroskedastic(0, noise_slope, 0.0, 20_000, 8000)
    for quantile in (0.1, 0.5, 0.9):
        found, expected = (
            table["prediction"].quantile(quantile) for table in (world.trial, world.calibration)
        )
        assert found == pytest.approx(expected, abs=0.07)
    residual = world.calibration["outcome"] - world.calibration["prediction"]
    high = world.calibration["prediction"] > 1
    ratio = residual[high].std() / residual[~high].std()
    assert (ratio > 1.4) == (noise_slope > 0)


def test_a_treatment_that_is_seen_shifts_predictions():
    world = predictions.differential(0, 0.2, 100_000)
    rest = world.trial.assign(rest=world.trial["prediction"] - 0.6 * world.trial["outcome"])
    assert contrast(rest, "rest") == pytest.approx(0.2, abs=0.01)
    assert contrast(rest, "prediction") == pytest.approx(world.naive_effect, abs=0.02)


def test_the_uncertain_map_has_its_line():
    world = predictions.uncertain_map(0, 200_000, 1000)
    assert slopes(world.calibration)[0] == pytest.approx(0.55, abs=0.01)
    assert world.calibration.corr().iloc[0, 1] == pytest.approx(0.75, abs=0.01)
    assert world.calibration["prediction"].mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(("by_prediction", "expected"), [(False, 0.5), (True, 1.0)])
def test_groups_differ_in_truth_or_in_prediction(by_prediction, expected):
    table = predictions.placebo_groups(0, 8000, 0.3, 0.5, by_prediction).calibration
    assert slopes(table)[0] == pytest.approx(0.5, abs=0.01)
    within = table[["outcome", "prediction"]] - table.groupby("group").transform("mean")
    inner = np.cov(within.T) * 25 / 24
    outer = np.cov(table.groupby("group").mean().T) - inner / 25
    assert outer[0, 1] / outer[0, 0] == pytest.approx(expected, abs=0.03)


def test_a_cluster_trial_has_its_correlation_and_shared_parts():
    world = predictions.cluster_trial(0, 5000, 20, 0.1, 0.7, 0.2, 0.0)
    assert world.trial[["outcome", "prediction"]].corr().iloc[0, 1] == pytest.approx(0.7, abs=0.01)
    outcome = world.trial["outcome"].to_numpy().reshape(5000, 20)
    error = (world.trial["prediction"] - world.trial["outcome"]).to_numpy().reshape(5000, 20)
    assert np.cov(outcome.T)[0, 1:].mean() == pytest.approx(0.1, abs=0.02)
    noise = 1 / 0.49 - 1
    assert np.cov(error.T)[0, 1:].mean() == pytest.approx(0.2 * noise, abs=0.05)
    assert slopes(world.calibration)[1] == pytest.approx(0.49, abs=0.03)
