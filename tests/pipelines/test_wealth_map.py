"""A country from scenes on disk to a map and three trials on it, judged by what was simulated."""

import json
import re
import shutil

import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
from commands import WEALTH, command

from eo_causal.core.artefacts import sha256_file
from eo_causal.debias.card_files import read_card
from eo_causal.errors import ConfigError, IntegrityError
from eo_causal.report.results import read_schema
from eo_causal.report.wealth_maps import BANDS, CorrectedMap, recalibrated
from eo_causal.run.config import load_config

SMALL = (
    "data.simulate.country={rows: 320, columns: 512, cloud: 0.0, dates: [2018-07-03]}",
    "data.simulate.n_survey=240", "data.simulate.n_trial=20", "data.simulate.n_pilot=10",
    "data.simulate.effects={grants: 0.5}", "data.simulate.sited=null",
    "folds.n_folds=3", "card.n_replicates=5", "map.n_parts=1",
)  # fmt: skip
TABLES = {
    "predictions", "calibration", "quality", "effects", "summary", "card", "card_choice",
    "diagnosis_grants", "diagnosis_training", "diagnosis_roads",
}  # fmt: skip
SECTIONS = (
    "Trials on the map", "The map", "How good predictions are", "The map's card",
    "Data and counts", "Settings", "Versions and inputs",
)  # fmt: skip


def settings(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.fixture(scope="module")
def results(wealth_run):
    return json.loads((wealth_run / "results.json").read_text())


@pytest.fixture(scope="module")
def trials(results):
    return {trial["name"]: trial for trial in results["trials"]}


@pytest.fixture(scope="module")
def layers(wealth_run):
    """Bands of the map and of the predictions of each fold's model, by name."""
    found = {}
    for name in ("wealth.tif", "wealth_folds.tif"):
        with rasterio.open(wealth_run / "maps" / name) as source:
            found |= dict(zip(source.descriptions, source.read(), strict=True))
    return found


def recommended(trial):
    methods = {name: item for name, item in trial.items() if isinstance(item, dict)}
    (found,) = [name for name, item in methods.items() if item["recommended"]]
    return found, methods[found]


def test_results_satisfy_the_schema_of_all_pipelines(results):
    jsonschema.validate(results, read_schema())
    assert set(results) >= {"quality", "regime", "trials", "summary", "map", "truth", "headline"}
    assert results["pipeline"] == "wealth_map"
    assert results["mode"] == "default"


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["trials"][0].update(verdict="correct"),
        lambda found: found["trials"][0]["naive"].pop("std_error"),
        lambda found: found["trials"][0].pop("linear"),
        lambda found: found["quality"]["blocks"].update(r2=1.2),
        lambda found: found["summary"]["naive"].update(slope="steep"),
        lambda found: found["map"].update(share_inside=None),
        lambda found: found["regime"].pop("evidence"),
    ],
)
def test_the_schema_refuses_what_is_not_typed_as_it_says(results, change):
    found = json.loads(json.dumps(results))
    change(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, read_schema())


def test_each_trial_has_its_own_verdict(trials, results):
    assert list(trials) == ["grants", "training", "roads"]
    assert trials["grants"]["verdict"] in ("lcc", "collect-labels")
    assert trials["training"]["verdict"] == "bounds"
    assert trials["roads"]["verdict"] == "none"
    assert results["regime"]["verdict"] == "differs between trials"
    assert set(results["regime"]["evidence"]) == set(trials)
    assert "differential_error" in trials["roads"]["flags"]
    assert [trials[name]["n_pilot"] for name in trials] == [330, 0, 330]


def test_what_is_recommended_holds_the_truth(trials):
    ways = {
        "grants": ("linear", "ppi"),
        "training": ("bounds",),
        "roads": ("naive", "recalibrated"),
    }
    for name, trial in trials.items():
        method, item = recommended(trial)
        assert method in ways[name]
        low, high = item["interval"]
        assert low < trial["truth"] < high, name
        assert trial["naive"]["units"] == "sd of wealth"


def test_corrections_help_the_lottery_and_harm_what_was_sited(trials, results):
    def error(name, method):
        return abs(trials[name][method]["estimate"] - trials[name]["truth"])

    assert error("grants", "linear") < 0.5 * error("grants", "naive")
    assert error("roads", "naive") < 0.5 * error("roads", "linear")
    k = results["quality"]["blocks"]["slope"]
    for trial in trials.values():
        shrunken = trial["naive"]["estimate"] / trial["linear"]["estimate"]
        assert shrunken == pytest.approx(k, abs=0.03)
    low, high = trials["roads"]["linear"]["interval"]
    assert not low < trials["roads"]["truth"] < high


def test_errors_of_corrected_effects_hold_the_map_s(trials):
    for trial in trials.values():
        for method in ("linear", "tweedie"):
            assert trial[method]["std_error"] > trial[method]["std_error_map_fixed"]
        assert trial["naive"]["std_error"] == trial["naive"]["std_error_map_fixed"]


def test_effects_are_those_of_the_tables(wealth_run, trials, results):
    effects = pd.read_csv(wealth_run / "tables" / "effects.csv").set_index(["trial", "method"])
    for name, trial in trials.items():
        for method, key in (("naive", "naive"), ("lcc", "linear"), ("tweedie", "tweedie")):
            row = effects.loc[name, method]
            assert row["estimate"] == pytest.approx(trial[key]["estimate"])
            assert row[["lower", "upper"]].tolist() == pytest.approx(trial[key]["interval"])
    assert effects.groupby("trial")["recommended"].sum().eq(1).all()
    summary = pd.read_csv(wealth_run / "tables" / "summary.csv").set_index("method")
    truth = [trial["truth"] for trial in trials.values()]
    for method, key in (("naive", "naive"), ("lcc", "linear")):
        found = [trial[key]["estimate"] for trial in trials.values()]
        slope = np.polyfit(truth, found, 1)[0]
        assert summary.loc[method, "slope"] == pytest.approx(slope)
        assert results["summary"][method]["slope"] == pytest.approx(slope)
        assert results["summary"][method]["mae"] == pytest.approx(
            np.abs(np.subtract(found, truth)).mean()
        )
    assert results["summary"]["ppi"]["slope"] is None


def test_truth_is_what_a_survey_of_everybody_would_find(wealth_run, results):
    (folder,) = (wealth_run / "stages").glob("simulate-*")
    assert results["truth"] == json.loads((folder / "truth.json").read_text())
    assert "wealth" not in pd.read_csv(folder / "trial_grants.csv").columns


def test_predictions_are_out_of_fold_and_calibrated_on_others(wealth_run, results):
    predictions, calibration = (
        pd.read_csv(wealth_run / "tables" / f"{name}.csv")
        for name in ("predictions", "calibration")
    )
    assert len(predictions) == 800
    assert predictions["unit_id"].is_unique
    tested = predictions.set_index("unit_id")["fold"]
    n_folds = tested.nunique()
    assert (
        (tested.loc[calibration["unit_id"]].to_numpy() - calibration["fold"]) % n_folds == 1
    ).all()
    quality = results["quality"]["blocks"]
    slope = np.polyfit(predictions["outcome"], predictions["outcome_pred"], 1)[0]
    assert quality["slope"] == pytest.approx(slope)
    residual = predictions["outcome_pred"] - predictions["outcome"]
    assert quality["noise_sd"] == pytest.approx(residual.std(ddof=0))
    assert quality["rmse"] == pytest.approx(np.sqrt((residual**2).mean()))
    assert quality["tie_share"] < 0.01
    assert 0.5 < quality["r2"] < 0.85


def test_the_map_is_a_cog_that_says_what_it_is_for(wealth_run, results):
    """M1."""
    maps = wealth_run / "maps"
    with rasterio.open(maps / "wealth.tif") as source:
        tags, of_corrected = source.tags(), source.tags(2)
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.descriptions == BANDS
        assert set(source.dtypes) == {"float32"}
        assert np.isnan(source.nodata)
        assert source.units[:3] == ("sd of wealth",) * 3
        assert source.units[3] == "1"
        assert source.crs.is_projected
        assert source.res == (480, 480)
        assert source.width * source.height == results["map"]["n_cells"]
    assert tags["usage"] == "averages only; not for targeting or ranking"
    assert of_corrected["valid_for"] == "contrasts in regime R1; see diagnose"
    assert tags["units"] == "sd of wealth"
    assert tags["run_id"] == results["run_id"]
    assert (tags["method"], tags["sigma_source"]) == (results["regime"]["corrector"], "calibration")
    card = read_card(maps / tags["card"], tags["card_sha256"])
    assert card.units == "sd of wealth"
    assert tags["folds_sha256"] == sha256_file(maps / "wealth_folds.tif")


def test_bands_follow_from_the_predictions_of_the_folds_and_the_card(wealth_run, layers):
    """M1: band 2 anew from the fold bands."""
    card = read_card(wealth_run / "maps" / "wealth_card.json")
    names = [f"fold_{number}" for number in card.folds["fold"]]
    predicted = np.stack([layers[name].ravel() for name in names], axis=1).astype(float)
    assert np.isfinite(predicted).all()
    corrected = layers["outcome_corrected"].ravel()
    off = np.abs(corrected - card.corrected(predicted)).max()
    assert off <= 1e-5 * corrected.std()
    np.testing.assert_allclose(
        layers["prediction"].ravel(), recalibrated(card, predicted), atol=1e-5
    )
    np.testing.assert_allclose(
        layers["std_error"].ravel(), card.std_error(predicted), rtol=1e-5, atol=1e-5
    )
    assert layers["outcome_corrected"].std() > layers["prediction"].std()


def test_the_area_of_applicability_is_where_the_country_looks_like_the_survey(layers, results):
    inside = layers["area_of_applicability"]
    assert set(np.unique(inside)) == {0, 1}
    assert inside.mean() == pytest.approx(results["map"]["share_inside"])
    assert results["map"]["n_mapped"] == np.isfinite(inside).sum()
    assert results["map"]["mean"] == pytest.approx(layers["prediction"].mean(), rel=1e-4)
    for trial in results["trials"]:
        assert trial["share_inside"] > 0.9  # places are like those surveyed, cells need not be


def test_a_changed_card_is_refused(wealth_run, tmp_path):
    maps = tmp_path / "maps"
    shutil.copytree(wealth_run / "maps", maps)
    assert CorrectedMap.open(maps / "wealth.tif").card.units == "sd of wealth"
    text = (maps / "wealth_card.json").read_text()
    (maps / "wealth_card.json").write_text(text.replace('"method": "lcc"', '"method": "tweedie"'))
    with pytest.raises(IntegrityError, match="not what was written with the map"):
        CorrectedMap.open(maps / "wealth.tif")


def test_tables_are_complete(wealth_run):
    for kind in ("csv", "parquet"):
        assert {path.stem for path in (wealth_run / "tables").glob(f"*.{kind}")} == TABLES
    choice = pd.read_csv(wealth_run / "tables" / "card_choice.csv")
    assert choice["decile"].tolist() == list(range(1, 11))
    for name in ("grants", "roads"):
        sources = pd.read_csv(wealth_run / "tables" / f"diagnosis_{name}.csv")["source"]
        assert {"calibration", "pilot"} <= set(sources)


def test_the_page_says_all_of_it(wealth_run, results, trials):
    """M4."""
    page = (wealth_run / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    for sentence in (*results["headline"], *results["regime"]["evidence"].values()):
        assert sentence.replace("'", "&#39;") in page
    for trial in trials.values():
        assert f"{trial['share_inside']:.0%} like the survey" in page
    assert page.count("For averages only") >= 2
    assert "do not rank places or choose whom to help" in page
    titles = re.findall(r"<h2[^>]*>([^<]+)</h2>", page.replace("&#39;", "'"))
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    figures = {path.stem for path in (wealth_run / "figures").glob("*.svg")}
    assert figures == {"effects", "map", "quality"}


def test_warnings_of_the_run_are_in_the_page_and_the_manifest(wealth_run):
    warned = json.loads((wealth_run / "manifest.json").read_text())["warnings"]
    codes = {row["code"] for row in warned}
    assert "differential_error" in codes
    page = (wealth_run / "report.html").read_text()
    assert "predictions of treated places differ by" in page


def test_a_run_again_computes_nothing(wealth_run, tmp_path):
    assert command("run", WEALTH, "--out", wealth_run, folder=tmp_path).code == 0
    stages = json.loads((wealth_run / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)


def test_a_plan_names_the_stages_and_simulates_nothing(tmp_path):
    done = command("plan", WEALTH, "--out", "run", folder=tmp_path)
    assert done.code == 0, done.err
    stages = re.findall(r"^  compute  (\w+)", done.out, flags=re.MULTILINE)
    assert [stages[0], stages[-1]] == ["simulate", "report"]
    for name in ("card", "area", "map_0", "map_1", "trial_grants", "trial_training", "trial_roads"):
        assert name in stages
    assert not list(tmp_path.glob("run/stages/simulate-*"))


def test_a_trial_place_beyond_the_map_is_named(tmp_path):
    places = pd.DataFrame({
        "unit_id": ["near", "far"], "longitude": [33.05, 40.0], "latitude": [-0.93, -0.93],
        "treated": [0, 1],
    })  # fmt: skip
    places.to_csv(tmp_path / "places.csv", index=False)
    trials = (
        f"trials=[{{name: lost, units: {{file: {tmp_path / 'places.csv'}, numbers: [treated]}},"
        " treatment: treated}]"
    )
    done = command("run", WEALTH, "--out", "run", *settings(*SMALL, trials), folder=tmp_path)
    assert done.code == 3, done.err
    assert "CoverageError" in done.err
    assert "1 of 2 places lie beyond the map or where it is empty (first: far)" in done.err
    assert not (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / "maps").exists()


def test_a_map_of_ready_made_chips_is_refused():
    chips = "data.chips={file: a.nc, date: 2018-07, resolution_m: 30}"
    with pytest.raises(ConfigError, match="ready-made chips cover no ground"):
        load_config(WEALTH, ["data.scenes=null", chips])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("outcome.model=forest", "a map needs ridge; trees leave ties"),
        ("outcome.model=boosting", "a map needs ridge"),
        ("region=province", "province must be among units.labels"),
        ("map.n_parts=0", "map.n_parts"),
        ("card.min_calibration=2", "card.min_calibration"),
        ("card.corrector=ratledge", "card.corrector"),
        ("trials=[{name: Grants, units: {file: a.csv}}]", "trials.0.name"),
        ("trials=[{name: a, units: {file: a.csv}, assume: R3}]", "trials.0.assume"),
        ("trials=[{name: a, units: {file: a.csv}}, {name: a, units: {file: b.csv}}]",
         "names must differ, not ['a', 'a']"),
    ],
)  # fmt: skip
def test_configs_that_cannot_work_are_refused_before_anything_runs(change, words):
    with pytest.raises(ConfigError) as caught:
        load_config(WEALTH, [change])
    assert words in str(caught.value)
