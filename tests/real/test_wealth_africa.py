"""Corrections of a wealth map on measured wealth of 19,669 African places (Yeh et al. 2020)."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from eo_causal.debias.base import BOUNDS_PILEUP, TIES, calibration_facts
from eo_causal.debias.card import CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.pseudo_trials import METHODS, PseudoTrialSettings, pseudo_trials
from eo_causal.debias.trials import TrialEffects, summary_of_trials

CONCAT, NEIGHBOURS = "Resnet-18 MS+NL concat", "KNN NL mean scalar"
N_TRIALS, N_PILOTS, WEAKEST = 40, 100, 0.5
CARD = CardSettings(recalibrate="never", n_replicates=2)
pytestmark = pytest.mark.filterwarnings("ignore::eo_causal.errors.EOCausalWarning")


def read(data_folder, name):
    path = data_folder / "wealth" / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not in EO_CAUSAL_DATA")
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def places(data_folder):
    return read(data_folder, "dhs_incountry_preds.csv")


def card_of(truth, seen, fold):
    return fit_card(
        truth, seen, fold, unit_ids=np.arange(len(truth)), settings=CARD, units="sd", seed=1
    )


@pytest.fixture(scope="module")
def pseudo(places):
    """Trials without treatment, calibrated on another third of the places; pilots of 500."""
    table = pd.DataFrame({
        "unit_id": places.index.astype(str), "outcome": places["label"],
        "prediction": places[CONCAT],
    })  # fmt: skip
    return pseudo_trials(table, PseudoTrialSettings(n_trials=160), CARD, "sd", seed=1)


def slopes_on_the_truth(pseudo, driver):
    """Of the contrasts by each method on the measured ones, in the first 40 trials."""
    own = pseudo.trials[(pseudo.trials["driver"] == driver) & (pseudo.trials["trial"] < N_TRIALS)]
    assert len(own) == N_TRIALS
    return {method: np.polyfit(own["truth"], own[method], 1)[0] for method in METHODS}


def test_quality_is_what_others_measured(places):
    """T17."""
    for model, wanted in ((CONCAT, (0.7027, 0.7346, 0.9567, 0.4417)),
                          (NEIGHBOURS, (0.6652, 0.6651, 1.0001, 0.4676))):  # fmt: skip
        facts = calibration_facts(places["label"], places[model])
        found = (facts.r2, facts.slope, facts.inverse_slope, np.sqrt(facts.noise_variance))
        assert found == pytest.approx(wanted, abs=5e-4)
        assert facts.n == 19_669


def test_contrasts_that_the_outcome_makes_are_shrunken_and_corrected(pseudo, measured):
    """T15: real R1."""
    slopes = slopes_on_the_truth(pseudo, "outcome")
    for method, wanted, off in (("naive", 0.75, 0.03), ("lcc", 1.0, 0.04), ("tweedie", 0.95, 0.05)):
        measured(f"slope_{method}", slopes[method])
        assert slopes[method] == pytest.approx(wanted, abs=off)


def test_contrasts_that_the_prediction_makes_are_right_as_they_are(pseudo, measured):
    """T16: real R2."""
    slopes = slopes_on_the_truth(pseudo, "prediction")
    for method in METHODS:
        measured(f"slope_{method}", slopes[method])
    assert slopes["naive"] == pytest.approx(1.03, abs=0.04)
    assert slopes["lcc"] > 1.35
    assert slopes["naive"] < slopes["tweedie"] < slopes["lcc"]


@pytest.mark.parametrize(("driver", "wanted"), [("outcome", "lcc"), ("prediction", "none")])
def test_pilots_tell_one_from_the_other(pseudo, driver, wanted, measured):
    """T15, T16: verdicts on 100 pilots of trials that are not too weak to tell."""
    own = pseudo.trials[pseudo.trials["driver"] == driver]
    strong = own[own["strength"].abs() >= WEAKEST].head(N_PILOTS)
    assert len(strong) == N_PILOTS
    right = int((strong["verdict"] == wanted).sum())
    measured(f"{wanted}_of_100", right)
    assert right >= 85


def test_a_model_with_ties_is_not_corrected_by_tweedie(places):
    """T18."""
    facts = calibration_facts(places["label"], places[NEIGHBOURS])
    assert facts.tie_share == pytest.approx(0.405, abs=5e-3)
    assert {TIES, BOUNDS_PILEUP} <= set(facts.flags)
    with pytest.warns(match=r"40\.5% of the predictions share their value"):
        card = card_of(places["label"], places[NEIGHBOURS], np.zeros(len(places), dtype=int))
    assert TIES in card.flags
    assert card.method == "lcc"
    assert TIES not in calibration_facts(places["label"], places[CONCAT]).flags


@pytest.fixture(scope="module")
def summary(data_folder):
    """Contrasts of funders and sectors that others computed, by the predictions of one model."""
    table = read(data_folder, "aid_trials_summary.csv")
    return table[table["model"] == CONCAT]


def summarised(summary, **columns):
    """Slope and error of columns of the table on measured contrasts."""
    trials = [
        TrialEffects(
            f"{row['funder']} {row['sector']}",
            pd.DataFrame([{"method": m, "estimate": row[c]} for m, c in columns.items()]),
            "none", "", pd.DataFrame(), (), row["n1"] + row["n0"], row["n1"], 0, 1.0,
        )
        for row in summary.to_dict("records")
    ]  # fmt: skip
    truth = dict(zip((trial.name for trial in trials), summary["ate"], strict=True))
    return summary_of_trials(trials, truth).set_index("method")


def test_the_naive_map_wins_in_trials_sited_by_what_is_seen(summary, measured):
    """T19: slopes of 28 contrasts on the measured ones."""
    found = summarised(summary, naive="naive", lcc="lcc", tweedie="tw")
    small = summarised(summary, tweedie="tw_smallsigma").loc["tweedie", "slope"]
    slopes = found["slope"].to_dict() | {"tweedie_small_sigma": small}
    for name, slope in slopes.items():
        measured(f"slope_{name}", slope)
    assert found["n"].eq(28).all()
    assert slopes == pytest.approx(
        {"naive": 0.957, "lcc": 1.303, "tweedie": 1.247, "tweedie_small_sigma": 1.050}, abs=2e-3
    )
    assert found["mae"].idxmin() == "naive"


@pytest.fixture(scope="module")
def aid(data_folder, places):
    """Treated and control places of each sector of Chinese finance.

    A location belongs to the district of the nearest place within 0.3 degrees; places are treated that
    were surveyed 3 to 8 years after a start in their district; others of their surveys are controls.
    """
    known = read(data_folder, "cluster_pred_dhs_indices_gadm2.csv")
    projects = read(data_folder, "aid_interventions_ch.csv")
    district, survey = (nearest(known, places, name, most=1e-6) for name in ("geolev", "svyid"))
    start = pd.to_datetime(projects["start_date"]).dt
    projects["year"] = start.year + (start.day_of_year - 1) / 365.25
    at = projects.rename(columns={"latitude": "lat", "longitude": "lon"})
    projects["district"] = nearest(known, at, "geolev", most=0.3)
    found = {}
    for sector, own in projects.dropna(subset="district").groupby("ad_sector_codes"):
        years = own.groupby("district")["year"].apply(np.array)
        treated = np.array([
            where in years and ((when - years[where] >= 3) & (when - years[where] <= 8)).any()
            for where, when in zip(district, places["year"] + 0.5, strict=True)
        ])  # fmt: skip
        found[sector] = treated, np.isin(survey, survey[treated]) & ~treated
    return found


def nearest(known, places, name, most):
    """A column of the nearest known place, None where it is farther than ``most`` degrees."""
    distance, row = cKDTree(known[["lat", "lon"]]).query(places[["lat", "lon"]])
    return np.where(distance <= most, known[name].to_numpy()[row], None)


def test_contrasts_of_aid_are_made_anew_from_places_and_projects(places, aid, summary, measured):
    """T19, from the raw tables: fifteen sectors; the folds, and with them k, are other random ones."""
    table = summary[summary["funder"] == "CH"].set_index("sector")
    truth, seen = places["label"].to_numpy(), places[CONCAT].to_numpy()
    fold = np.random.default_rng(0).permutation(len(places)) % 5
    card = card_of(truth, seen, (fold - 1) % 5)
    values = {"ate": truth, "naive": seen, "lcc": card.corrected(seen, fold, "lcc"),
              "tw": card.corrected(seen, fold, "tweedie")}  # fmt: skip
    found = pd.DataFrame([
        {"sector": int(sector), "n1": treated.sum(), "n0": control.sum()}
        | {name: own[treated].mean() - own[control].mean() for name, own in values.items()}
        for sector, (treated, control) in aid.items()
        if treated.sum() > 20 and control.sum() > 20
    ]).set_index("sector")  # fmt: skip
    assert found.index.tolist() == table.index.tolist()
    assert len(found) == 15
    for name in ("n1", "n0"):
        assert found[name].tolist() == table[name].tolist()
    for name in ("ate", "naive"):
        np.testing.assert_allclose(found[name], table[name], atol=6e-5)
    np.testing.assert_allclose(found["lcc"], table["lcc"], rtol=0.01)
    np.testing.assert_allclose(found["tw"], table["tw"], rtol=0.03)
    for name in ("naive", "lcc", "tw"):
        measured(f"slope_{name}", np.polyfit(found["ate"], found[name], 1)[0])
