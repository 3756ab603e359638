"""Effects on corrected maps: hand cases, parity, identities, recommendations, refusals."""

import warnings

import numpy as np
import pandas as pd
import pytest

from eo_causal.debias.card import CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.effect import compare_effects, corrected_effect
from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.regime import Diagnosis
from eo_causal.errors import DataError, EOCausalWarning
from eo_causal.simulate import predictions

WORLD = predictions.gaussian(0, 0.5, 0.5, 1000, 2000)
PREDICTION, TREATMENT = WORLD.trial["prediction"], WORLD.trial["treatment"]
LINE = LinearCalibration().fit(WORLD.calibration["outcome"], WORLD.calibration["prediction"])


def card_of(table, fold=None, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EOCausalWarning)
        return fit_card(
            table["outcome"], table["prediction"], np.zeros(len(table), int) if fold is None else fold,
            unit_ids=np.arange(len(table)), settings=CardSettings(**settings), units="1", seed=0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def card():
    return card_of(WORLD.calibration, n_replicates=100)


@pytest.fixture(scope="module")
def folded():
    """Two models whose predictions differ in level and slope, and which model made each."""
    table = WORLD.calibration.copy()
    fold = np.arange(1000) % 2
    table["prediction"] = table["prediction"] * (1 + fold) + 3 * fold
    return card_of(table, fold, n_replicates=100)


def verdict(name, corrector="lcc"):
    return Diagnosis(name, "", pd.DataFrame(), (), corrector)


def test_linear_calibration_follows_its_formula():
    """Var = [V(d) + tau^2 V(k)] / k^2."""
    naive = corrected_effect("naive", PREDICTION, TREATMENT, LINE)
    found = corrected_effect("lcc", PREDICTION, TREATMENT, LINE)
    d, k, effect = naive.effect, LINE.slope_, found.effect
    assert effect.estimate == pytest.approx(d.estimate / k)
    assert found.std_error_map_fixed == pytest.approx(d.std_error / k)
    variance = (d.std_error**2 + effect.estimate**2 * LINE.slope_covariance_[1, 1]) / k**2
    assert effect.std_error == pytest.approx(np.sqrt(variance))
    assert effect.interval[1] == pytest.approx(effect.estimate + 1.959964 * effect.std_error)
    assert effect.p_value == pytest.approx(d.p_value, abs=1e-12)
    assert naive.std_error_map_fixed == d.std_error


def test_card_and_line_give_the_same_linear_calibration(card):
    by_card = corrected_effect("lcc", PREDICTION, TREATMENT, card)
    by_line = corrected_effect("lcc", PREDICTION, TREATMENT, LINE)
    assert by_card.effect.estimate == pytest.approx(by_line.effect.estimate)
    assert by_card.effect.std_error == pytest.approx(by_line.effect.std_error)


def test_two_part_errors_add_the_variance_over_replicates(card):
    found = corrected_effect("tweedie", PREDICTION, TREATMENT, card)
    replicates = card.replicates(PREDICTION, method="tweedie")
    treated = TREATMENT.to_numpy() == 1
    effects = replicates[:, treated].mean(axis=1) - replicates[:, ~treated].mean(axis=1)
    expected = np.sqrt(found.std_error_map_fixed**2 + effects.var(ddof=1))
    assert found.effect.std_error == pytest.approx(expected)
    assert found.effect.method == "tweedie, two-part"


def test_delta_and_two_part_agree_for_linear_calibration(card):
    delta, parts = (
        corrected_effect("lcc", PREDICTION, TREATMENT, card, how=how).effect
        for how in ("delta", "two_part")
    )
    assert delta.estimate == parts.estimate
    assert delta.std_error == pytest.approx(parts.std_error, rel=0.05)


def test_each_row_is_corrected_by_its_own_model(folded):
    """Var = V(fixed) + sum_f g_f' V_f g_f with g_f = (-sum w / k, -sum w T / k), w the contrast's."""
    fold = np.arange(2000) % 2
    seen = PREDICTION * (1 + fold) + 3 * fold
    found = corrected_effect("lcc", seen, TREATMENT, folded, fold=fold)
    values = folded.corrected(seen, fold, "lcc")
    treated = TREATMENT.to_numpy()
    contrast = treated / treated.sum() - (1 - treated) / (1 - treated).sum()
    assert found.effect.estimate == pytest.approx(contrast @ values)
    extra = 0.0
    for label, row in folded.folds.set_index("fold").iterrows():
        own = np.where(fold == label, contrast, 0)
        gradient = -np.array([own.sum(), own @ values]) / row["slope"]
        between = row["intercept_slope_covariance"]
        covariance = [[row["intercept_variance"], between], [between, row["slope_variance"]]]
        extra += gradient @ np.array(covariance) @ gradient
    expected = np.sqrt(found.std_error_map_fixed**2 + extra)
    assert found.effect.std_error == pytest.approx(expected)


def test_a_column_for_each_model_is_averaged(folded):
    columns = np.column_stack([PREDICTION, 2 * PREDICTION + 3])
    found = corrected_effect("lcc", columns, TREATMENT, folded)
    parts = [
        corrected_effect("lcc", columns[:, number], TREATMENT, folded, fold=number).effect.estimate
        for number in (0, 1)
    ]
    assert found.effect.estimate == pytest.approx(np.mean(parts))
    two_part = corrected_effect("lcc", columns, TREATMENT, folded, how="two_part")
    assert found.effect.std_error == pytest.approx(two_part.effect.std_error, rel=0.05)


def test_recalibrated_effects_are_b_times_naive():
    naive, found = (
        corrected_effect(name, PREDICTION, TREATMENT, LINE).effect
        for name in ("naive", "recalibrated")
    )
    b, error = LINE.facts_.inverse_slope, LINE.facts_.inverse_slope_error
    assert found.estimate == pytest.approx(b * naive.estimate)
    variance = (b * naive.std_error) ** 2 + (naive.estimate * error) ** 2
    assert found.std_error == pytest.approx(np.sqrt(variance))
    assert found.p_value == pytest.approx(naive.p_value, abs=1e-12)


def test_effects_scale_with_the_outcome(card):
    """T12: Y -> a + cY on truth and prediction scales effects by c."""
    other = card_of(WORLD.calibration * 20 + 50, n_replicates=100)
    for method in ("naive", "lcc", "tweedie"):
        one = corrected_effect(method, PREDICTION, TREATMENT, card).effect
        scaled = corrected_effect(method, PREDICTION * 20 + 50, TREATMENT, other).effect
        assert scaled.estimate == pytest.approx(20 * one.estimate, rel=1e-9)
        assert scaled.std_error == pytest.approx(20 * one.std_error, rel=1e-5)


def test_weights_multiply_corrected_rows(card):
    weight = np.where(np.arange(2000) < 1000, 2.0, 0.0)
    found = corrected_effect("tweedie", PREDICTION, TREATMENT, card, weight=weight).effect
    half = corrected_effect("tweedie", PREDICTION[:1000], TREATMENT[:1000], card).effect
    assert found.estimate == pytest.approx(half.estimate)
    assert found.std_error == pytest.approx(half.std_error, rel=0.02)


def test_few_clusters_use_students_t_and_are_flagged():
    cluster = np.arange(2000) % 10
    found = corrected_effect("lcc", PREDICTION, TREATMENT, LINE, cluster=cluster)
    half = (found.effect.interval[1] - found.effect.interval[0]) / 2
    assert half == pytest.approx(2.262157 * found.effect.std_error)  # t with 9 degrees of freedom
    assert "few_clusters" in found.flags
    many = corrected_effect("lcc", PREDICTION, TREATMENT, LINE, cluster=np.arange(2000) % 100)
    assert "few_clusters" not in many.flags


def test_treated_places_beyond_the_calibration_are_flagged(card):
    with pytest.warns(EOCausalWarning, match="lie outside"):
        found = corrected_effect("tweedie", PREDICTION + 5 * TREATMENT, TREATMENT, card)
    assert "out_of_support" in found.flags


@pytest.mark.parametrize(
    ("name", "recommended"),
    [("none", "naive"), ("lcc", "lcc"), ("tweedie", "tweedie"), ("collect-labels", "ppi")],
)
def test_the_verdict_recommends_one_row(card, name, recommended):
    outcome = WORLD.trial["outcome"].where(np.arange(2000) < 300)
    table = compare_effects(PREDICTION, TREATMENT, card, verdict(name), outcome=outcome)
    assert table["method"].tolist() == ["naive", "lcc", "tweedie", "ppi"]
    assert table.loc[table["recommended"], "method"].tolist() == [recommended]
    assert (table["lower"] < table["estimate"]).all()
    assert (table["std_error"] >= table["std_error_map_fixed"]).all()


def test_bounds_are_the_union_of_two_intervals(card):
    table = compare_effects(PREDICTION, TREATMENT, card, verdict("bounds", "tweedie"))
    rows = table.set_index("method")
    assert rows.loc["bounds", "lower"] == rows.loc["naive", "lower"]
    assert rows.loc["bounds", "upper"] == rows.loc["tweedie", "upper"]
    assert np.isnan(rows.loc["bounds", "estimate"])
    assert rows.index[rows["recommended"]].tolist() == ["bounds"]


def test_nothing_is_recommended_without_a_diagnosis(card):
    table = compare_effects(PREDICTION, TREATMENT, card)
    assert table["method"].tolist() == ["naive", "lcc", "tweedie"]
    assert not table["recommended"].any()


def test_a_mis_scaled_map_is_recalibrated_where_naive_is_right():
    world = predictions.classical(0, n_calibration=500, n=2000)
    card = card_of(world.calibration, n_replicates=20)
    trial = world.trial
    table = compare_effects(trial["prediction"], trial["treatment"], card, verdict("none"))
    rows = table.set_index("method")
    assert rows.index[rows["recommended"]].tolist() == ["recalibrated"]
    ratio = rows.loc["recalibrated", "estimate"] / rows.loc["naive", "estimate"]
    assert ratio == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treatment": np.ones(2000)}, "an effect needs both arms"),
        ({"treatment": np.full(2000, 2.0)}, "Treatment must be 0 or 1"),
        ({"prediction": np.full(2000, np.nan)}, "2000 predictions of the trial are missing"),
        ({"prediction": np.zeros(5)}, "differ in length"),
        ({"weight": np.full(2000, -1.0)}, "not negative"),
        ({"weight": TREATMENT}, "an effect needs both arms"),
        ({"method": "tweedie"}, "needs the map's calibration card"),
        ({"how": "two_part"}, "needs the replicates of a calibration card"),
        ({"prediction": np.zeros((2000, 2))}, "needs the map's calibration card"),
        ({"cluster": np.zeros(2000)}, "All treated units of the trial are in one cluster"),
        ({"cluster": TREATMENT}, "All treated units of the trial are in one cluster"),
        ({"cluster": np.where(TREATMENT == 1, np.arange(2000), -1)}, "All untreated units"),
        (
            {"cluster": np.where(np.arange(2000) < 3, np.nan, 1)},
            "3 of 2000 units of the trial have no",
        ),
    ],
)
def test_trials_that_cannot_be_used_are_refused(change, message):
    given = {
        "method": "lcc", "prediction": PREDICTION, "treatment": TREATMENT, "calibration": LINE,
    } | change  # fmt: skip
    with pytest.raises(DataError, match=message):
        corrected_effect(**given)


def test_tweedie_has_no_delta_method(card):
    with pytest.raises(DataError, match="Use two_part"):
        corrected_effect("tweedie", PREDICTION, TREATMENT, card, how="delta")
