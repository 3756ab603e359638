"""Verdicts: each line of the rules, hand-computed tests, and refusals."""

import warnings

import numpy as np
import pandas as pd
import pytest

from eo_causal.debias.card import CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.regime import diagnose
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.simulate import predictions


@pytest.fixture(scope="module")
def card():
    table = predictions.gaussian(99).calibration
    return fit_card(
        table["outcome"], table["prediction"], np.zeros(2000, dtype=int), unit_ids=np.arange(2000),
        settings=CardSettings(n_replicates=2), units="1", seed=0,
    )  # fmt: skip


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EOCausalWarning)
        return diagnose(*arguments, seed=0, **options)


def value(diagnosis, quantity, part="", column="estimate"):
    table = diagnosis.table
    rows = table[(table["quantity"] == quantity) & (table["part"] == part)]
    return rows[column].item()


def test_a_pilot_that_rejects_only_r2_says_correct(card):
    world = predictions.gaussian(1)
    found = quiet(card, world.trial, pilot=world.trial.iloc[:500])
    assert found.verdict == found.corrector == "lcc"
    assert "Only R2 is rejected" in found.evidence
    assert value(found, "treatment_given_prediction", column="p_value") < 0.05
    assert value(found, "treatment_given_truth", column="p_value") > 0.05


def test_a_pilot_that_rejects_only_r1_says_do_not_correct(card):
    world = predictions.sited_by_image(0, 0.5)
    found = quiet(card, world.trial, pilot=world.trial.iloc[:500])
    assert found.verdict == "none"
    assert "do not correct" in found.evidence
    assert "differential_error" in found.flags


def test_a_pilot_that_rejects_both_gives_bounds(card):
    world = predictions.differential(0, -0.3, 2000)
    found = quiet(card, world.trial, pilot=world.trial)
    assert found.verdict == "bounds"
    assert "Both regimes are rejected" in found.evidence


def test_a_pilot_that_rejects_neither_asks_for_labels(card):
    """n = (1.96 + .8416)^2 Var(Y) / (p (1 - p) tau^2 (1 - R^2))."""
    world = predictions.gaussian(2, effect=0.05)
    found = quiet(card, world.trial, pilot=world.trial.iloc[:300], planned_effect=0.05)
    facts, share = card.folds.iloc[0], world.trial["treatment"].mean()
    n = 7.848880 * facts["truth_variance"] / (share * (1 - share) * 0.05**2 * (1 - facts["r2"]))
    assert found.verdict == "collect-labels"
    assert f"About {int(np.ceil(n))} labelled units" in found.evidence
    assert found.ppi.method == "PPI++"
    assert found.ppi.n == 10_300
    without = quiet(card, world.trial, pilot=world.trial.iloc[:300])
    assert "give planned_effect" in without.evidence


def test_labelled_units_of_the_trial_are_counted_once(card):
    trial = predictions.gaussian(2, effect=0.05).trial.assign(unit_id=np.arange(10_000))
    found = quiet(card, trial, pilot=trial.iloc[:300])
    assert found.ppi.n == 10_000


def test_a_small_pilot_is_reported_but_does_not_decide(card):
    world = predictions.gaussian(1)
    found = quiet(card, world.trial, pilot=world.trial.iloc[:199])
    assert found.verdict == "bounds"
    assert "The pilot has 199 rows" in found.evidence
    assert np.isfinite(value(found, "treatment_given_truth"))


@pytest.mark.parametrize(("by_prediction", "verdict"), [(False, "lcc"), (True, "none")])
def test_placebo_groups_decide_for_observed_designs_only(card, by_prediction, verdict):
    world = predictions.placebo_groups(1, 200, 0.3, 0.5, by_prediction)
    found = quiet(card, world.trial, groups=world.calibration)
    assert found.verdict == verdict
    randomised = quiet(card, world.trial, groups=world.calibration, assignment="randomised")
    assert randomised.verdict == "bounds"
    assert "Collect labels" in randomised.evidence
    assert value(randomised, "between_group_slope") == value(found, "between_group_slope")


def test_placebo_groups_that_do_not_differ_give_bounds(card):
    world = predictions.placebo_groups(0, 20, 0.0)
    found = quiet(card, world.trial, groups=world.calibration)
    assert found.verdict == "bounds"
    assert "does not decide" in found.evidence
    assert np.isnan(value(found, "between_group_slope", column="lower"))
    assert "few_clusters" in found.flags


def test_a_pilot_outweighs_placebo_groups(card):
    world = predictions.gaussian(1)
    groups = predictions.placebo_groups(1, 200, 0.3, 0.5, True).calibration
    found = quiet(card, world.trial, pilot=world.trial.iloc[:500], groups=groups)
    assert found.verdict == "lcc"
    small = quiet(card, world.trial, pilot=world.trial.iloc[:100], groups=groups)
    assert small.verdict == "none"


def test_no_evidence_gives_bounds(card):
    found = quiet(card, predictions.gaussian(1).trial)
    assert found.verdict == "bounds"
    assert "No evidence" in found.evidence


@pytest.mark.parametrize(("assume", "verdict"), [("R1", "lcc"), ("R2", "none")])
def test_an_assumed_regime_is_obeyed_and_recorded(card, assume, verdict):
    world = predictions.sited_by_image(0, 0.5)
    with pytest.warns(EOCausalWarning, match=f"Regime {assume} is assumed"):
        found = diagnose(card, world.trial, assume=assume, seed=0)
    assert found.verdict == verdict
    assert "assumed_regime" in found.flags


def test_the_maps_corrector_is_the_verdict_on_skewed_maps():
    world = predictions.skewed(0)
    found = quiet(world.calibration, world.trial, pilot=world.trial.iloc[:2000])
    assert found.verdict == found.corrector == "tweedie"
    assert abs(value(found, "held_out_bias_tweedie", "10")) < abs(
        value(found, "held_out_bias_lcc", "10")
    )


def test_pairs_and_card_give_the_same_verdict_and_rectifiers(card):
    world = predictions.gaussian(99)
    options = {"pilot": world.trial.iloc[:500]}
    by_pairs = quiet(world.calibration, world.trial, **options)
    by_card = quiet(card, world.trial, **options)
    assert by_pairs.verdict == by_card.verdict
    for method in ("naive", "lcc", "tweedie"):
        assert value(by_pairs, "rectifier", method) == pytest.approx(
            value(by_card, "rectifier", method)
        )


def test_rectifiers_are_differences_of_mean_errors(card):
    world = predictions.gaussian(1)
    pilot = world.trial.iloc[:500]
    found = quiet(card, world.trial, pilot=pilot)
    error = pilot["prediction"] - pilot["outcome"]
    arms = error.groupby(pilot["treatment"]).mean()
    assert value(found, "rectifier", "naive") == pytest.approx(arms[1] - arms[0])
    lcc = pd.Series(card.corrected(pilot["prediction"], method="lcc")) - pilot["outcome"]
    arms = lcc.groupby(pilot["treatment"]).mean()
    assert value(found, "rectifier", "lcc") == pytest.approx(arms[1] - arms[0])


def test_a_card_of_several_models_reads_the_model_of_each_pilot_row():
    table = predictions.gaussian(3, n_calibration=600).calibration
    fold = np.arange(600) % 2
    card = fit_card(
        table["outcome"], table["prediction"] + 5 * fold, fold, unit_ids=np.arange(600),
        settings=CardSettings(n_replicates=2), units="1", seed=0,
    )  # fmt: skip
    trial = predictions.gaussian(4).trial
    pilot = trial.iloc[:500].assign(fold=np.arange(500) % 2)
    pilot["prediction"] += 5 * pilot["fold"]
    found = quiet(card, trial, pilot=pilot)
    expected = card.corrected(pilot["prediction"], pilot["fold"], "lcc") - pilot["outcome"]
    arms = expected.groupby(pilot["treatment"]).mean()
    assert value(found, "rectifier", "lcc") == pytest.approx(arms[1] - arms[0])
    unnamed = quiet(card, trial, pilot=trial.iloc[:500])
    assert np.isfinite(value(unnamed, "rectifier", "lcc"))


def test_an_uneven_error_is_flagged_and_reported_by_decile():
    world = predictions.heteroskedastic(0)
    with pytest.warns(EOCausalWarning, match="error's sd changes"):
        found = diagnose(world.calibration, world.trial, seed=0)
    assert "heteroskedastic" in found.flags
    assert value(found, "residual_sd", "10") > 1.5 * value(found, "residual_sd", "1")
    even = quiet(predictions.gaussian(0).calibration, world.trial)
    assert "heteroskedastic" not in even.flags


def test_predictions_beyond_the_calibration_are_flagged():
    world = predictions.out_of_support(0)
    with pytest.warns(EOCausalWarning, match="lie outside"):
        found = diagnose(world.calibration, world.trial, seed=0)
    assert "out_of_support" in found.flags
    assert value(found, "outside_support_share") > 0.25


def test_a_treatment_that_is_seen_is_warned_of(card):
    world = predictions.differential(0, 0.3, 1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = diagnose(card, world.trial, pilot=world.trial, seed=0)
    texts = {warning.message.code: str(warning.message) for warning in caught}
    assert "a calibrated effect is off by" in texts["differential_error"]
    assert "differential_error" in found.flags
    assert value(found, "bias_of_calibrated_effect") == pytest.approx(0.3 / 0.5, abs=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="outcome"), "pilot table has no column outcome"),
        (lambda table: table.assign(outcome=np.nan), "missing or infinite"),
        (lambda table: table.assign(treatment=1.0), "both 0 and 1 are needed"),
        (lambda table: table.assign(treatment=2.0), "both 0 and 1 are needed"),
    ],
)
def test_pilots_that_cannot_be_used_are_refused(card, change, message):
    trial = predictions.gaussian(0, n=500).trial
    with pytest.raises(DataError, match=message):
        diagnose(card, trial, pilot=change(trial), seed=0)


def test_a_trial_of_one_arm_is_refused(card):
    trial = predictions.gaussian(0, n=500).trial.assign(treatment=0)
    with pytest.raises(DataError, match="trial table is \\[0"):
        diagnose(card, trial, seed=0)
