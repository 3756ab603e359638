"""The report of a wealth map: each verdict in words, typed results, tables, figures and odd studies."""

import dataclasses
import json
import re

import geopandas
import jsonschema
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.progress import counting
from eo_causal.debias.card import CardSettings
from eo_causal.debias.trials import TrialEffects, summary_of_trials
from eo_causal.estimate.outcome import OutcomeFit
from eo_causal.report.results import read_schema
from eo_causal.report.wealth_maps import CorrectedMap
from eo_causal.report.wealth_report import (
    BANNER,
    VERDICTS,
    WealthReportSettings,
    WealthStudy,
    fit_survey_card,
    headline,
    placebo_groups,
    quality_table,
    trial_sentence,
    wealth_results,
    write_wealth_report,
)

N, UNITS = 600, "sd of wealth"
SETTINGS = WealthReportSettings(units=UNITS)
FACTS = {"n_cells": 120, "n_mapped": 119, "share_inside": 0.75, "mean": 0.1}
pytestmark = pytest.mark.filterwarnings("ignore::eo_causal.errors.EOCausalWarning")


def fit_of(seed, slope=0.7, noise=0.4):
    """Predictions of three models; each calibrates on the next fold's places."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=N)
    ids = [f"s{number}" for number in range(N)]
    predictions = pd.DataFrame({
        "unit_id": ids, "outcome": truth, "cluster": ids, "fold": np.arange(N) % 3,
        "outcome_pred": slope * truth + noise * random.normal(size=N),
    })  # fmt: skip
    calibration = predictions.assign(
        fold=(predictions["fold"] - 1) % 3,
        outcome_pred=slope * truth + noise * random.normal(size=N),
    )
    return OutcomeFit(predictions, calibration, xr.Dataset())


def row(method, estimate, error=0.1, best=False):
    return {
        "method": method, "estimate": estimate, "std_error": error, "std_error_map_fixed": error / 2,
        "lower": estimate - 2 * error, "upper": estimate + 2 * error, "p_value": 0.04,
        "recommended": best,
    }  # fmt: skip


def trial_of(name, verdict, best, *, bounds=False, ppi=False, recalibrated=False):
    rows = [row("naive", 0.35), row("lcc", 0.5, 0.15), row("tweedie", 0.48, 0.14)]
    if recalibrated:
        rows.insert(1, row("recalibrated", 0.36))
    if ppi:
        rows.append(row("ppi", 0.45, 0.05))
    if bounds:
        rows.append({"method": "bounds", "lower": 0.15, "upper": 0.8})
    effects = pd.DataFrame(rows)
    effects["recommended"] = effects["method"] == best
    diagnosis = pd.DataFrame({"source": ["pilot"], "quantity": ["rectifier"], "estimate": [0.1]})
    return TrialEffects(
        name, effects, verdict, f"Evidence of {name}.", diagnosis, ("ties",), 100, 50, 20, 0.9
    )


TRIALS = (
    trial_of("cash_grants", "lcc", "lcc", ppi=True),
    trial_of("wells", "tweedie", "tweedie"),
    trial_of("roads", "none", "naive"),
    trial_of("rails", "none", "recalibrated", recalibrated=True),
    trial_of("training", "bounds", "bounds", bounds=True),
    trial_of("clinics", "collect-labels", "ppi", ppi=True),
)


@pytest.fixture(scope="module")
def study():
    random = np.random.default_rng(1)
    values = random.normal(size=(10, 12, 4)).astype(np.float32)
    values[..., 3] = random.uniform(0, 1, (10, 12))
    values[4, 5] = np.nan
    whole = xr.DataArray(
        values, dims=("y", "x", "layer"),
        coords={"northing": ("y", 9_800_000 - 480.0 * np.arange(10)),
                "easting": ("x", 500_000 + 480.0 * np.arange(12)),
                "layer": ["fold_0", "fold_1", "fold_2", "dissimilarity"]},
        attrs={"crs": "EPSG:32736", "step": [480.0, 480.0]},
    )  # fmt: skip
    fit = fit_of(0)
    truth = {"cash_grants": 0.5, "wells": 0.4, "roads": 0.36, "training": 0.0}
    return WealthStudy(
        title="A map", question="What <now>?", outcome_name="wealth", fit=fit,
        quality=quality_table(fit, fit_of(5)),
        card=fit_survey_card(fit, CardSettings(n_replicates=5), UNITS, seed=1),
        parts=[whole.isel(y=slice(0, 4)), whole.isel(y=slice(4, None))], threshold=0.8, trials=TRIALS,
        summary=summary_of_trials(TRIALS, truth), truth={"trials": truth},
        failures=pd.DataFrame({"item_id": ["scene-7"], "reason": ["broken"]}),
        ledger=pd.DataFrame({"stage": ["chips"], "what": ["places"], "n": [N]}),
        warnings=[{"code": "ties", "stage": "card", "message": "Many ties."}],
        provenance={"pipeline": "wealth_map", "mode": "default", "run_id": "0" * 12, "seed": 1,
                    "versions": {"eo_causal": "0"}, "inputs": {"a.tif": "0"}},
        config_text="pipeline: wealth_map\n",
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_wealth_report(study, SETTINGS, folder=folder)
    return folder


def test_quality_is_worked_out_by_hand():
    fit = fit_of(0)
    with counting() as counts:
        found = quality_table(fit, fit).set_index("folds")
    truth, seen = fit.predictions["outcome"], fit.predictions["outcome_pred"]
    blocks = found.loc["blocks"]
    assert blocks["slope"] == pytest.approx(np.polyfit(truth, seen, 1)[0])
    assert blocks["inverse_slope"] == pytest.approx(np.polyfit(seen, truth, 1)[0])
    assert blocks["r2"] == pytest.approx(np.corrcoef(truth, seen)[0, 1] ** 2)
    assert blocks["noise_sd"] == pytest.approx((seen - truth).std(ddof=0))
    assert blocks["rmse"] == pytest.approx(np.sqrt(((seen - truth) ** 2).mean()))
    assert (blocks["n"], blocks["tie_share"]) == (N, 0)
    assert counts == {"units_judged": N}
    assert found["flag"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("slopes", "flag"),
    [((0.7, 0.9), "folds_optimistic"), ((0.9, 0.7), ""), ((0.7, 0.7), "")],
)
def test_random_folds_that_flatter_are_flagged(slopes, flag):
    found = quality_table(fit_of(0, slopes[0]), fit_of(1, slopes[1]))
    assert found["flag"].tolist() == ["", flag]


def test_clusters_widen_the_error_of_the_slope():
    fit = fit_of(0)
    table = fit.predictions.copy()
    order = table["outcome"].abs().sort_values().index  # alike places of a cluster err alike
    table.loc[order, "cluster"] = [f"c{number // 10}" for number in range(N)]
    shaken = table.assign(
        outcome_pred=table["outcome_pred"] + 0.3 * table["outcome"]
        * table["cluster"].map(dict(zip(table["cluster"].unique(), np.random.default_rng(2).normal(
            size=N // 10), strict=True))),
    )  # fmt: skip
    alone = dataclasses.replace(fit, predictions=shaken.assign(cluster=shaken["unit_id"]))
    together = dataclasses.replace(fit, predictions=shaken)
    found = quality_table(together, alone)["slope_error"]
    assert found[0] > 1.3 * found[1]


def test_the_card_is_that_of_the_calibration_places():
    fit = fit_of(0)
    card = fit_survey_card(fit, CardSettings(n_replicates=5), UNITS, seed=1)
    assert card.folds["fold"].tolist() == [0, 1, 2]
    assert card.folds["n"].tolist() == [200, 200, 200]
    own = fit.calibration[fit.calibration["fold"] == 1]
    slope = np.polyfit(own["outcome"], own["outcome_pred"], 1)[0]
    assert card.folds["slope"][1] == pytest.approx(slope)
    assert card.units == UNITS


def test_placebo_groups_are_the_regions_of_surveyed_places():
    fit = fit_of(0)
    ids = fit.predictions["unit_id"].to_numpy()[::-1]
    region = [f"r{number % 4}" for number in range(N)]
    places = geopandas.GeoDataFrame(
        {"unit_id": ids, "region": region}, geometry=geopandas.points_from_xy([0] * N, [0] * N)
    )
    found = placebo_groups(fit, places, "region")
    assert found["group"].tolist() == region[::-1]
    assert found["outcome"].tolist() == fit.predictions["outcome"].tolist()
    assert placebo_groups(fit, places, None) is None


@pytest.mark.parametrize(
    ("trial", "truth", "sentence"),
    [
        (TRIALS[0], 0.5, "Cash grants: correct by linear calibration. The map's own contrast is 0.35 sd of"
         " wealth, recommended 0.5 (0.2 to 0.8); the truth is 0.5."),
        (TRIALS[1], None, "Wells: correct by Tweedie's formula. The map's own contrast is 0.35 sd of wealth,"
         " recommended 0.48 (0.2 to 0.76)."),
        (TRIALS[2], None, "Roads: do not correct: report the map's own contrast. The map's own contrast is"
         " 0.35 sd of wealth (0.15 to 0.55)."),
        (TRIALS[3], None, "Rails: do not correct: report the map's own contrast. The map's own contrast is"
         " 0.35 sd of wealth, recommended 0.36 (0.16 to 0.56)."),
        (TRIALS[4], 0.0, "Training: report the bounds of both. The map's own contrast is 0.35 sd of wealth,"
         " recommended (0.15 to 0.8); the truth is 0."),
        (TRIALS[5], None, "Clinics: undecided: measure more places of the trial. The map's own contrast is"
         " 0.35 sd of wealth, recommended 0.45 (0.35 to 0.55)."),
    ],
    ids=lambda item: item.name if isinstance(item, TrialEffects) else "",
)  # fmt: skip
def test_every_verdict_is_said_in_a_sentence(trial, truth, sentence):
    assert trial_sentence(trial, UNITS, truth) == sentence


def test_every_verdict_has_words():
    assert {trial.verdict for trial in TRIALS} == set(VERDICTS)


def test_the_headline_says_how_good_the_map_is_and_what_each_trial_found(study):
    found = headline(study, UNITS)
    blocks = study.quality.iloc[0]
    assert (
        f"correlates {np.sqrt(blocks['r2']):.2f} with what was measured at 600 places" in found[0]
    )
    assert f"differences on the map are {blocks['slope']:.2f} of the true ones" in found[0]
    known = study.truth["trials"]
    assert found[1:] == [trial_sentence(t, UNITS, known.get(t.name)) for t in TRIALS]
    unknown = headline(dataclasses.replace(study, truth=None), UNITS)
    assert not any("the truth is" in sentence for sentence in unknown)


def test_results_satisfy_the_schema(study, written):
    found = json.loads((written / "results.json").read_text())
    jsonschema.validate(found, read_schema())
    assert found["headline"] == headline(study, UNITS)
    trials = {trial["name"]: trial for trial in found["trials"]}
    assert [trial["verdict"] for trial in trials.values()] == [trial.verdict for trial in TRIALS]
    assert found["regime"]["verdict"] == "differs between trials"
    assert found["regime"]["evidence"]["roads"] == "Evidence of roads."
    assert trials["wells"]["linear"] == {
        "estimate": 0.5, "std_error": 0.15, "std_error_map_fixed": 0.075,
        "interval": [pytest.approx(0.2), pytest.approx(0.8)], "units": UNITS, "recommended": False,
    }  # fmt: skip
    assert trials["training"]["bounds"]["estimate"] is None
    assert trials["training"]["bounds"]["interval"] == [0.15, 0.8]
    assert trials["training"]["truth"] == 0
    assert "truth" not in trials["clinics"]
    assert found["map"]["units"] == UNITS
    assert found["map"]["n_cells"] == 120
    assert found["map"]["n_mapped"] == 119


def test_one_verdict_of_all_trials_is_that_of_the_study(study):
    alike = dataclasses.replace(study, trials=(TRIALS[2], TRIALS[3]))
    found = wealth_results(alike, UNITS, FACTS)
    assert found["regime"]["verdict"] == "none"


def test_a_summary_without_slopes_is_null(study):
    few = dataclasses.replace(
        study, trials=TRIALS[:2], summary=summary_of_trials(TRIALS[:2], study.truth["trials"])
    )
    found = wealth_results(few, UNITS, FACTS) | {"headline": ["x"]}
    jsonschema.validate(found, read_schema())
    assert found["summary"]["naive"] == {"slope": None, "mae": pytest.approx(0.1), "n": 2}


def test_tables_hold_every_number(written):
    names = {path.stem for path in (written / "tables").glob("*.csv")}
    assert names == {
        "predictions", "calibration", "quality", "effects", "summary", "card", "card_choice",
        *(f"diagnosis_{trial.name}" for trial in TRIALS),
    }  # fmt: skip
    effects = pd.read_csv(written / "tables" / "effects.csv")
    assert effects.columns[:2].tolist() == ["trial", "method"]
    assert len(effects) == sum(len(trial.effects) for trial in TRIALS)
    assert effects["recommended"].sum() == len(TRIALS)


def test_the_map_lies_beside_its_card(written, study):
    found = CorrectedMap.open(written / "maps" / "wealth.tif")
    assert found.card.units == UNITS
    assert found.card.method == study.card.method
    assert found.tags["run_id"] == "0" * 12


def test_the_page_has_the_banner_the_verdicts_and_the_figures(written):
    page = (written / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert page.count(BANNER) == 2
    assert "What &lt;now&gt;?" in page
    for trial in TRIALS:
        said = f"{trial.name.replace('_', ' ')}: {VERDICTS[trial.verdict]}".replace("'", "&#39;")
        assert said in page
        assert trial.evidence in page
    assert "100 places, 50 treated, 20 measured; 90% like the survey" in page
    assert "Forbidden: ranking or targeting of places" in page
    assert "Many ties." in page
    assert "scene-7" in page
    for name in ("effects", "map", "quality"):
        assert (written / "figures" / f"{name}.svg").stat().st_size > 1000


def test_the_same_study_is_the_same_bytes(study, written, tmp_path):
    write_wealth_report(study, SETTINGS, folder=tmp_path)
    for name in ("results.json", "report.html", "maps/wealth.tif", "figures/effects.svg"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_a_map_without_trials_is_reported(study, tmp_path):
    alone = dataclasses.replace(
        study,
        trials=(),
        summary=summary_of_trials((), None),
        truth=None,
        warnings=[],
        failures=study.failures[:0],
    )
    write_wealth_report(alone, SETTINGS, folder=tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    jsonschema.validate(found, read_schema())
    assert found["trials"] == []
    assert len(found["headline"]) == 1
    figures = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert figures == {"map", "quality"}
    assert not (tmp_path / "tables" / "effects.csv").exists()
