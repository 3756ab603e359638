"""Trials on one map: each its own verdict, all from one card; and how they follow the truth together."""

import warnings

import numpy as np
import pandas as pd
import pytest

from eo_causal.core.progress import counting
from eo_causal.debias.card import CardSettings
from eo_causal.debias.card_files import read_card, write_card
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.effect import compare_effects
from eo_causal.debias.regime import diagnose
from eo_causal.debias.trials import TrialEffects, summary_of_trials, trial_effects
from eo_causal.errors import DataError, EOCausalWarning

pytestmark = pytest.mark.filterwarnings("ignore::eo_causal.errors.EOCausalWarning")
K, N, N_PILOT = 0.6, 900, 500


def seen(random, truth):
    """Predictions of three models that differ little."""
    common = K * truth + np.sqrt(K * (1 - K)) * random.normal(size=len(truth))
    return common[:, None] + 0.1 * random.normal(size=(len(truth), 3))


@pytest.fixture(scope="module")
def card():
    random = np.random.default_rng(0)
    truth = random.normal(size=1500)
    fold = np.arange(1500) % 3
    return fit_card(
        truth, seen(random, truth)[np.arange(1500), fold], fold, unit_ids=np.arange(1500),
        settings=CardSettings(n_replicates=40, recalibrate="never"), units="sd of wealth", seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trial():
    """Randomised, effect 1; places of a village are treated together."""
    return drawn_trial(1, 1.0)


def drawn_trial(seed, effect):
    random = np.random.default_rng(seed)
    village = np.repeat(np.arange(N // 3), 3)
    treated = random.permutation(np.arange(N // 3) % 2)[village]
    truth = random.normal(size=N) + effect * treated
    ids = [f"p{number}" for number in range(N)]
    cells = pd.DataFrame(seen(random, truth), columns=["fold_0", "fold_1", "fold_2"])
    cells.insert(0, "unit_id", ids)
    cells["dissimilarity"] = np.where(np.arange(N) < 90, 0.9, 0.3)
    labels = np.where(np.arange(N) < N_PILOT, truth, np.nan)
    places = pd.DataFrame({"unit_id": ids, "treated": treated, "measured": labels,
                           "village": [f"v{number}" for number in village]})  # fmt: skip
    return cells, places


def effects_of(trial, card, pilot="measured", cluster=None, groups=None, assignment="randomised",
               assume=None):  # fmt: skip
    return trial_effects(
        "grants", *trial, "treated", pilot, cluster, groups, card, 0.5, assignment, assume, seed=3
    )


def row(found, method):
    return found.effects.set_index("method").loc[method]


def test_a_trial_with_a_pilot_is_corrected(trial, card):
    with counting() as counts:
        found = effects_of(trial, card)
    assert found.name == "grants"
    assert found.verdict == "lcc"
    assert "Pilot of 500" in found.evidence
    assert found.effects["method"].tolist() == ["naive", "lcc", "tweedie", "ppi"]
    assert found.effects.loc[found.effects["recommended"], "method"].tolist() == ["lcc"]
    corrected = row(found, "lcc")
    assert corrected["lower"] < 1 < corrected["upper"]
    assert row(found, "naive")["estimate"] == pytest.approx(K * corrected["estimate"], abs=0.03)
    assert corrected["std_error"] > corrected["std_error_map_fixed"]
    assert (found.n, found.n_treated, found.n_pilot) == (N, N // 2, N_PILOT)
    means = trial[0].filter(like="fold_").mean(axis=1)
    inside = (trial[0]["dissimilarity"] <= 0.5) & means.between(*card.mean_support)
    assert 0.85 < inside.mean() < 0.9
    assert found.share_inside == pytest.approx(inside.mean())
    outside = int((~inside).sum())
    assert counts == {"places": N, "places_labelled": N_PILOT, "places_outside": outside}


def test_it_is_what_diagnosis_and_effects_say_of_the_same_numbers(trial, card):
    cells, places = trial
    models = cells[["fold_0", "fold_1", "fold_2"]].to_numpy()
    table = pd.DataFrame({"prediction": models.mean(axis=1), "treatment": places["treated"]})
    pilot = table[:N_PILOT].assign(outcome=places["measured"][:N_PILOT])
    diagnosis = diagnose(card, table, pilot=pilot, assignment="randomised", seed=3)
    wanted = compare_effects(models, places["treated"], card, diagnosis, outcome=places["measured"])
    found = effects_of(trial, card)
    pd.testing.assert_frame_equal(found.effects, wanted)
    pd.testing.assert_frame_equal(found.diagnosis, diagnosis.table)


@pytest.mark.parametrize(("n_clusters", "few"), [(29, True), (30, False)])
def test_few_clusters_are_flagged_and_warned_of(trial, card, n_clusters, few):
    cells, places = trial
    wide = places.assign(village=[f"v{number % n_clusters}" for number in range(N)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = effects_of((cells, wide), card, pilot=None, cluster="village")
    assert ("few_clusters" in found.flags) == few
    assert any(f"grants: {n_clusters} clusters" in str(one.message) for one in caught) == few


def test_clusters_widen_errors(trial, card):
    cells, places = trial
    random = np.random.default_rng(5)
    shared = np.repeat(random.normal(size=N // 3), 3)  # of a village, in predictions alone
    shaken = cells.copy()
    shaken[["fold_0", "fold_1", "fold_2"]] += shared[:, None]
    alone, together = (
        effects_of((shaken, places), card, pilot=None, cluster=name) for name in (None, "village")
    )
    for method in ("naive", "lcc"):
        assert row(together, method)["std_error"] > 1.2 * row(alone, method)["std_error"]
        assert row(together, method)["estimate"] == row(alone, method)["estimate"]


def test_without_any_evidence_there_are_bounds(trial, card):
    found = effects_of(trial, card, pilot=None)
    assert found.verdict == "bounds"
    assert found.n_pilot == 0
    assert "ppi" not in set(found.effects["method"])
    bounds = row(found, "bounds")
    assert bounds["recommended"]
    assert bounds["lower"] == row(found, "naive")["lower"]
    assert bounds["upper"] == row(found, "lcc")["upper"]


def test_a_pilot_column_without_labels_is_no_pilot(trial, card):
    cells, places = trial
    found = effects_of((cells, places.assign(measured=np.nan)), card)
    assert (found.verdict, found.n_pilot) == ("bounds", 0)
    pd.testing.assert_frame_equal(found.effects, effects_of(trial, card, pilot=None).effects)


def test_placebo_groups_speak_for_observed_trials_only(trial, card):
    random = np.random.default_rng(7)
    group = np.repeat(np.arange(80), 25)
    truth = np.sqrt(0.4) * random.normal(size=80)[group] + np.sqrt(0.6) * random.normal(size=2000)
    groups = pd.DataFrame(
        {"outcome": truth, "prediction": seen(random, truth)[:, 0], "group": group}
    )
    observed = effects_of(trial, card, pilot=None, groups=groups, assignment="observed")
    assert observed.verdict == "lcc"
    assert "placebo evidence" in observed.evidence
    randomised = effects_of(trial, card, pilot=None, groups=groups)
    assert randomised.verdict == "bounds"
    assert "placebo" not in set(randomised.diagnosis["source"])


@pytest.mark.parametrize(("regime", "verdict"), [("R1", "lcc"), ("R2", "none")])
def test_an_assumption_is_obeyed_and_recorded(trial, card, regime, verdict):
    with pytest.warns(EOCausalWarning, match=f"Regime {regime} is assumed"):
        found = effects_of(trial, card, assume=regime)
    assert found.verdict == verdict
    assert "assumed_regime" in found.flags


def test_places_that_were_not_read_from_the_map_are_refused(trial, card):
    cells, places = trial
    for other in (places[::-1], places.assign(unit_id=places["unit_id"] + "x")):
        with pytest.raises(DataError, match="trial grants: its places are not those"):
            effects_of((cells, other), card)


@pytest.mark.parametrize(
    ("treated", "words"),
    [(1, "both 0 and 1 are needed"), (2, r"is \[2\.0\]"), (np.nan, "missing or infinite")],
)
def test_a_treatment_that_is_no_contrast_is_refused(trial, card, treated, words):
    cells, places = trial
    with pytest.raises(DataError, match=words):
        effects_of((cells, places.assign(treated=treated)), card, pilot=None)


def test_twenty_trials_from_one_stored_card_equal_those_of_cards_fitted_anew(card, tmp_path):
    """M3: no label is read."""
    write_card(card, tmp_path / "card.json")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10e6
    stored = read_card(tmp_path / "card.json")
    random = np.random.default_rng(0)
    truth = random.normal(size=1500)
    fold = np.arange(1500) % 3
    predicted = seen(random, truth)[np.arange(1500), fold]
    for number in range(20):
        own = drawn_trial(100 + number, number / 10)
        anew = fit_card(
            truth, predicted, fold, unit_ids=np.arange(1500), settings=card.settings,
            units="sd of wealth", seed=1,
        ) if number % 7 == 0 else card  # fmt: skip
        ours, theirs = (effects_of(own, one, pilot=None).effects for one in (stored, anew))
        numbers = ["estimate", "std_error", "std_error_map_fixed", "lower", "upper"]
        np.testing.assert_allclose(
            ours[numbers].to_numpy(dtype=float), theirs[numbers].to_numpy(dtype=float), atol=1e-10
        )


def of(name, **estimates):
    table = pd.DataFrame([{"method": m, "estimate": value} for m, value in estimates.items()])
    return TrialEffects(name, table, "none", "", pd.DataFrame(), (), 100, 50, 0, 1.0)


def test_slopes_and_errors_are_those_worked_out_by_hand():
    trials = [of("a", naive=0.5, lcc=1.1), of("b", naive=1.0, lcc=2.0), of("c", naive=1.5, lcc=3.0)]
    found = summary_of_trials(trials, {"a": 1.0, "b": 2.0, "c": 3.0}).set_index("method")
    assert found.loc["naive"].tolist() == pytest.approx([0.5, 1.0, 3])
    assert found.loc["lcc"].tolist() == pytest.approx([0.95, 0.1 / 3, 3])
    assert found["n"].dtype.kind == "i"


def test_methods_that_some_trials_lack_are_summed_over_the_others():
    trials = [of("a", naive=0.5, ppi=1.5), of("b", naive=1.0), of("c", naive=1.5)]
    found = summary_of_trials(trials, {"a": 1.0, "b": 2.0, "c": 3.0}).set_index("method")
    assert found.index.tolist() == ["naive", "ppi"]
    assert np.isnan(found.loc["ppi", "slope"])
    assert found.loc["ppi", ["mae", "n"]].tolist() == [0.5, 1]


def test_trials_whose_truth_is_not_known_are_left_out():
    trials = [of("a", naive=0.5), of("b", naive=1.0)]
    found = summary_of_trials(trials, {"b": 2.0, "z": 7.0})
    assert found[["mae", "n"]].to_numpy().tolist() == [[1.0, 1]]
    for truth in (None, {}, {"z": 7.0}):
        nothing = summary_of_trials(trials, truth)
        assert nothing.columns.tolist() == ["method", "slope", "mae", "n"]
        assert len(nothing) == 0
