"""Spatial audits: what they compute, what they flag, what they refuse."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from eo_causal.audit import spatial
from eo_causal.audit.spatial import (
    SurrogateSettings,
    block_gap,
    out_of_fold,
    residual_moran,
    surrogate_field_test,
)
from eo_causal.core.progress import counting
from eo_causal.core.variance import conley_std_error, mean_std_error, ols_covariance
from eo_causal.errors import DataError
from eo_causal.simulate.spatial import independent_fields

EXTENT = 200_000.0
NONE = np.empty((150, 0))


def report_of(world, controls=None, scores=None, seed=1, **settings):
    controls = np.empty((len(world.outcome), 0)) if controls is None else controls
    return surrogate_field_test(
        world.treatment, world.outcome, controls, world.places * EXTENT,
        SurrogateSettings(**settings), scores, seed=seed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return independent_fields(0, 150)


def row(report, check, number=0):
    return report.table[report.table["check"] == check].iloc[number]


def test_the_table_holds_all_errors_and_the_test(world):
    report = report_of(world, cutoff_km=60.0)
    assert list(report.table["check"]) == ["independent", "Conley", "Conley", "surrogate field"]
    assert list(report.table["cutoff_km"][1:3]) == [60.0, 120.0]
    design = np.column_stack([world.treatment, np.ones(150)])
    coefficient = np.linalg.lstsq(design, world.outcome, rcond=None)[0]
    residual = world.outcome - design @ coefficient
    assert row(report, "independent")["std_error"] == pytest.approx(
        ols_covariance(design, residual, "HC1")[0, 0] ** 0.5
    )
    conley = ols_covariance(
        design, residual, "conley", coordinates_m=world.places * EXTENT, cutoff_m=60_000
    )
    assert row(report, "Conley")["std_error"] == pytest.approx(conley[0, 0] ** 0.5)
    assert row(report, "Conley")["statistic"] == pytest.approx(coefficient[0])
    own = row(report, "surrogate field")
    assert own["statistic"] == pytest.approx(np.corrcoef(world.treatment, world.outcome)[0, 1])
    assert round(own["p_value"] * 200, 6) == round(own["p_value"] * 200)
    assert "199 random fields" in report.text


def test_without_a_cutoff_it_is_four_ranges(world):
    report = report_of(world)
    own = row(report, "surrogate field")
    assert row(report, "Conley")["cutoff_km"] == pytest.approx(4 * own["range_km"])


def test_given_scores_are_what_errors_are_of(world):
    scores = np.random.default_rng(0).normal(2, 1, 150)
    report = report_of(world, scores=scores, cutoff_km=30.0)
    assert row(report, "independent")["std_error"] == pytest.approx(mean_std_error(scores))
    expected = conley_std_error(scores, world.places * EXTENT, 60_000)
    assert row(report, "Conley", 1)["std_error"] == pytest.approx(expected)
    assert row(report, "Conley")["statistic"] == pytest.approx(scores.mean())


def test_same_seed_same_p_whatever_the_unit_of_length(world):
    first = report_of(world)
    assert first.table.equals(report_of(world).table)
    assert report_of(world, seed=2).table["p_value"].iloc[-1] != first.table["p_value"].iloc[-1]


def test_a_real_association_is_found_by_all():
    world = independent_fields(1, 150, 0.05)
    moved = world.__class__(world.places, world.treatment, world.outcome + world.treatment, NONE)
    report = report_of(moved)
    assert (report.table["p_value"] <= 0.01).all()
    assert report.status == "pass"


def test_fields_too_smooth_for_conley_are_flagged():
    """Looks for the flag where it belongs: no effect, and a short cutoff."""
    found = [report_of(independent_fields(seed, 150, 0.3), cutoff_km=5.0) for seed in range(12)]
    flagged = [report for report in found if report.flags]
    assert len(flagged) >= 3
    for report in flagged:
        assert report.flags == ("surrogate_disagrees",)
        assert report.status == "warn"
        assert row(report, "Conley")["p_value"] < 0.05 < row(report, "surrogate field")["p_value"]
        assert "do not rely" in report.text


def test_controls_are_taken_off_both():
    world = independent_fields(2, 150, 0.05)
    shared = np.random.default_rng(3).normal(size=150)
    confounded = world.__class__(
        world.places, world.treatment + 5 * shared, world.outcome + 5 * shared, NONE
    )
    raw, adjusted = report_of(confounded), report_of(confounded, shared[:, None])
    assert row(raw, "surrogate field")["statistic"] > 0.9
    assert abs(row(adjusted, "surrogate field")["statistic"]) < 0.3
    design = np.column_stack([np.ones(150), shared])
    left, right = (
        v - design @ np.linalg.lstsq(design, v, rcond=None)[0]
        for v in (confounded.treatment, confounded.outcome)
    )
    assert row(adjusted, "surrogate field")["statistic"] == pytest.approx(
        np.corrcoef(left, right)[0, 1]
    )


@pytest.mark.parametrize(("reach", "among"), [(0.02, (0.02, 0.04)), (0.16, (0.08, 0.16, 0.32))])
def test_the_fitted_range_is_near_the_true_one(reach, among):
    found = []
    for seed in range(8):
        own = row(report_of(independent_fields(seed, 200, reach)), "surrogate field")
        found.append(own["range_km"] * 1000 / EXTENT)
    assert np.median(found) == pytest.approx(reach, rel=0.6)
    assert sum(round(value, 1) <= max(among) for value in found) >= 6


def test_noise_in_a_treatment_is_not_taken_for_a_short_range():
    found = [
        row(report_of(independent_fields(seed, 200, 0.16, noise=0.5)), "surrogate field")
        for seed in range(8)
    ]
    assert np.median([own["noise_share"] for own in found]) in (0.25, 0.5, 0.75)
    assert np.median([own["range_km"] for own in found]) * 1000 / EXTENT > 0.06


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_correlation_of_cut_fields_is_that_of_the_normal_law(share):
    cut = norm.ppf(1 - share)
    for rho in (0.1, 0.5, 0.9):
        both = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([-cut, -cut])
        expected = (both - share**2) / (share * (1 - share))
        found = spatial._cut_correlation(np.array([rho]), share)[0]
        assert found == pytest.approx(expected, abs=1e-4)
    ends = spatial._cut_correlation(np.array([0.0, 1.0]), share)
    np.testing.assert_allclose(ends, [0, 1], atol=1e-12)


def test_a_binary_treatment_has_binary_surrogates(world):
    binary = independent_fields(0, 150, binary=True)
    report = report_of(binary)
    assert 0 < row(report, "surrogate field")["p_value"] <= 1


def test_many_units_are_thinned_and_it_is_told(world):
    with counting() as counts:
        report = report_of(world, max_units=60)
    n = row(report, "surrogate field")["n"]
    assert 45 <= n <= 60
    assert counts["units_thinned_away"] == 150 - n
    assert f"{n} of 150 units" in report.text
    assert row(report, "independent")["n"] == 150


def test_units_at_one_place_with_both_treatments_are_possible():
    world = independent_fields(5, 75, 0.1)
    twice = np.repeat(np.arange(75), 2)
    treatment = np.tile([0.0, 1.0], 75)
    doubled = world.__class__(world.places[twice], treatment, world.outcome[twice], NONE)
    report = report_of(doubled)
    assert row(report, "surrogate field")["statistic"] == pytest.approx(0, abs=1e-9)
    assert row(report, "surrogate field")["noise_share"] > 0


def test_a_negative_conley_variance_is_told_not_hidden(world, monkeypatch):
    places = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2) * 1000
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    centring = np.eye(144) - 1 / 144
    kernel = centring @ np.maximum(0, 1 - apart / 3000) @ centring
    scores = np.linalg.eigh(kernel)[1][:, 0]
    random = np.random.default_rng(0)
    report = surrogate_field_test(
        random.normal(size=144), random.normal(size=144), np.empty((144, 0)), places,
        SurrogateSettings(cutoff_km=3.0), scores, seed=1,
    )  # fmt: skip
    assert np.isnan(row(report, "Conley")["std_error"])
    assert report.status == "warn"
    assert "negative" in report.text


def test_bad_input_is_refused(world):
    broken = world.outcome.copy()
    broken[4] = np.nan
    settings = SurrogateSettings()
    with pytest.raises(DataError, match="1 of 150 units lack a value"):
        surrogate_field_test(world.treatment, broken, NONE, world.places, settings, seed=1)
    with pytest.raises(DataError, match="determine the treatment"):
        report_of(world, controls=world.treatment[:, None])
    with pytest.raises(DataError, match="at one place"):
        surrogate_field_test(
            world.treatment, world.outcome, NONE, np.zeros((150, 2)), settings, seed=1
        )


def test_out_of_fold_predictions_come_from_others():
    features = np.arange(6.0)[:, None]
    pairs = [(np.array([2, 3, 4, 5]), np.array([0, 1])), (np.array([0, 1]), np.arange(2, 6))]
    seen = []

    def learner(training, outcome, test):
        seen.append((training[:, 0].tolist(), test[:, 0].tolist()))
        return np.full(len(test), outcome.mean())

    predicted = out_of_fold(learner, features, np.arange(6.0), pairs)
    assert predicted.tolist() == [3.5, 3.5, 0.5, 0.5, 0.5, 0.5]
    assert seen[0] == ([2, 3, 4, 5], [0, 1])


def test_the_gap_is_a_difference_of_r2_or_of_auc():
    outcome = np.array([0.0, 1, 2, 3])
    report = block_gap(outcome, outcome, np.full(4, 1.5))
    assert report.table["value"].tolist() == [1.0, 0.0, 1.0]
    assert (report.status, report.flags) == ("warn", ("block_gap",))
    binary = np.array([0.0, 0, 1, 1])
    report = block_gap(binary, np.array([0.1, 0.6, 0.5, 0.9]), np.array([0.2, 0.6, 0.5, 0.9]))
    assert report.table["value"].tolist() == [0.75, 0.75, 0.0]
    assert (report.status, report.flags) == ("pass", ())
    assert "AUC is 0.750" in report.text


def test_what_has_no_skill_has_none_to_lose():
    outcome = np.array([0.0, 1, 2, 3])
    report = block_gap(outcome, outcome[::-1].copy(), 5 - outcome)
    assert report.table["value"].tolist() == pytest.approx([-3.0, -6.2, 0.0])
    some = block_gap(outcome, np.array([0.5, 1, 2, 2.5]), 5 - outcome)
    assert some.table["value"][2] == pytest.approx(0.9)
    binary = np.array([0.0, 0, 1, 1])
    worse = block_gap(binary, np.array([0.1, 0.6, 0.5, 0.9]), -binary)
    assert worse.table["value"].tolist() == [0.75, 0.0, 0.25]


def test_a_gap_without_predictions_is_refused():
    with pytest.raises(DataError, match="predictions for all"):
        block_gap(np.arange(3.0), np.arange(3.0), np.array([0, np.nan, 1]))
    with pytest.raises(DataError, match="outcome that varies"):
        block_gap(np.ones(3), np.arange(3.0), np.arange(3.0))


def test_moran_by_hand():
    """Four units on a line, one neighbour each: 0-1, 1-0, 2-3, 3-2."""
    places = np.array([[0.0, 0], [1, 0], [10, 0], [11, 0]])
    report = residual_moran(np.array([1.0, 2, -1, -2]), places, 1, 99, seed=1)
    assert report.table["statistic"][0] == pytest.approx((2 + 2 + 2 + 2) / 10)
    assert report.table["expected"][0] == pytest.approx(-1 / 3)


def test_moran_tells_smooth_residuals_from_white_ones():
    world = independent_fields(7, 200, 0.2)
    smooth = residual_moran(world.outcome, world.places, seed=1)
    assert (smooth.status, smooth.flags) == ("warn", ("residual_autocorrelation",))
    assert smooth.table["p_value"][0] == pytest.approx(0.001)
    random = np.random.default_rng(0)
    p = [residual_moran(random.normal(size=100), world.places[:100], n_permutations=99,
                        seed=s).table["p_value"][0] for s in range(60)]  # fmt: skip
    assert np.mean(np.array(p) <= 0.05) < 0.15
    assert 0.35 < np.mean(p) < 0.65


def test_moran_with_units_at_one_place():
    places = np.repeat(np.random.default_rng(1).uniform(0, 1, (4, 2)), 20, axis=0)
    report = residual_moran(np.random.default_rng(2).normal(size=80), places, seed=1)
    assert np.isfinite(report.table["statistic"][0])


def test_moran_refuses_what_it_cannot_judge():
    with pytest.raises(DataError, match="more than 8 units"):
        residual_moran(np.arange(5.0), np.zeros((5, 2)), seed=1)
    with pytest.raises(DataError, match="vary"):
        residual_moran(np.ones(20), np.random.default_rng(0).uniform(size=(20, 2)), seed=1)
