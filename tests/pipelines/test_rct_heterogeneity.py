"""A randomised programme from scenes on disk to the page, judged by the effects that were simulated."""

import json
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
from commands import PROGRAMME, command
from pyproj import Transformer

from eo_causal.core.artefacts import list_files
from eo_causal.errors import ConfigError
from eo_causal.report.results import read_schema
from eo_causal.run.config import load_config

HEADLINE = "image/sequence/dr"
COUNTRY = "{rows: 256, columns: 512, cloud: 0.0, dates: [2007-06-24, 2011-07-03]}"
TINY = (
    f"data.simulate.country={COUNTRY}", "data.simulate.n_places=45", "data.simulate.n_elsewhere=24",
    "data.simulate.n_other_kind=4", "encoders={sequence: {name: pixel_stats}}", "folds.n_splits=1",
    "folds.n_folds=3", "heterogeneity.learners=[dr]", "heterogeneity.n_draws=20",
    "heterogeneity.effects.inner_folds=2", "transport.n_draws=20", "land_cover=null",
    "study.covariates=[]",
)  # fmt: skip
CLOCKS = ("manifest.json", "ledger.jsonl", "config.yaml")
TABLES = {
    "rates", "rates_by_split", "targeting_curves", "cate", "calibration", "groups", "comparisons",
    "design_choices", "effects", "arms", "drivers", "land_cover_effects", "land_cover_dominant",
    "land_cover_shares",
    "composition", "correlations", "audit", "applicability", "date_guard", "residual_moran",
    "surrogate_field", "transport_sequence", "areas_sequence", "transport_single_image",
    "areas_single_image",
}  # fmt: skip
SECTIONS = (
    "Do effects differ?", "Audits", "What goes with a large effect", "Outside the trial",
    "Average effects", "What the answer assumes", "Audits in detail", "Every split",
    "Data and counts", "Settings", "Versions and inputs",
)  # fmt: skip


def settings(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.fixture(scope="module")
def results(programme_run):
    return json.loads((programme_run / "results.json").read_text())


def table_of(run, name):
    return pd.read_csv(run / "tables" / f"{name}.csv")


def simulated(run, name):
    (folder,) = (run / "stages").glob("simulate-*")
    return pd.read_csv(folder / name)


def test_results_satisfy_the_schema_of_all_pipelines(results):
    jsonschema.validate(results, read_schema())
    assert set(results) >= {"effect", "rate", "cate", "transport", "leakage", "spatial", "truth"}
    assert results["pipeline"] == "rct_heterogeneity"
    assert results["design"]["strategy"] == "rct"
    assert re.fullmatch(r"[0-9a-f]{64}", results["design"]["hash"])


def test_predicted_effects_follow_the_true_ones_and_masks_the_kinds_of_places(results):
    truth = results["truth"]
    assert truth["correlation"] > 0.85
    assert truth["correlation_elsewhere"] > 0.85
    assert truth["other_kind_out_of_support"] >= 0.8
    assert truth["same_kind_out_of_support"] <= 0.15


def test_the_average_effect_is_found(results):
    plain = results["effect"]["ate"]["unadjusted"]["difference_in_means"]
    assert abs(plain["estimate"] - results["truth"]["ate"]) < 3 * plain["std_error"]


def test_every_ranking_has_a_key_of_arm_encoder_and_learner(results):
    sources = ["tabular/none"] + [
        f"{arm}/{encoder}"
        for encoder in ("single_image", "sequence")
        for arm in ("image", "image+tabular")
    ]
    wanted = {f"{source}/{learner}" for source in sources for learner in ("dr", "t")}
    assert set(results["rate"]) == wanted
    assert results["cate"]["ranking"] == HEADLINE


def test_the_sequence_shows_for_whom_and_a_single_image_does_not(results):
    for key, rates in results["rate"].items():
        for metric in ("autoc", "qini"):
            found = rates[metric]["p_adjusted"] < 0.05
            assert found == ("/sequence/" in key), (key, metric)


def test_several_splits_are_reported_with_their_range(results, programme_run):
    splits = table_of(programme_run, "rates_by_split")
    assert splits["split"].unique().tolist() == [0, 1, 2, 3, 4]
    for key, rates in results["rate"].items():
        for row in rates.values():
            low, high = row["split_range"]
            assert low < row["ratio"] < high, key
            assert row["n_splits"] == 5
            assert row["p_adjusted"] >= row["p_value"]
    low, high = results["rate"][HEADLINE]["autoc"]["split_range"]
    assert f"{low:.1f} to {high:.1f} over 5 splits" in results["headline"][1]


def test_groups_rise_and_calibration_holds(results):
    groups = results["cate"]["groups"]
    effects = [row["effect"] for row in groups]
    assert effects == sorted(effects)
    assert sum(row["n"] for row in groups) == 1009
    slope = results["cate"]["calibration"]["slope"]
    assert slope["interval"][0] < 1 < slope["interval"][1]


def test_greening_is_named_as_what_goes_with_a_large_effect(results):
    terms = [row for row in results["cate"]["drivers"] if row["term"] != "intercept"]
    strongest = min(terms, key=lambda row: row["q_value"])
    assert "slope" in strongest["term"]
    assert strongest["q_value"] < 0.001
    assert {row["instead_of"] for row in results["cate"]["land_cover"]} <= {"forest", "fields"}


@pytest.mark.parametrize("encoder", ["single_image", "sequence"])
def test_maps_have_no_value_exactly_where_places_are_out_of_support(
    programme_run, encoder, results
):
    places = table_of(programme_run, f"transport_{encoder}")
    with rasterio.open(programme_run / "maps" / f"effect_{encoder}.tif") as source:
        layers = dict(zip(source.descriptions, source.read(), strict=True))
        units = dict(zip(source.descriptions, source.units, strict=True))
        tags, crs = source.tags(), source.crs
        to_map = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        metres = to_map.transform(places["longitude"], places["latitude"])
        row, column = np.transpose([source.index(*at) for at in zip(*metres, strict=True)])
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert units["cate"] == "outcome units"
    assert units["dissimilarity"] == "1"
    assert "look unlike the trial" in tags["note"]
    assert tags["run_id"] == results["run_id"]
    assert layers["n_places"].sum() == len(places) == 300
    spoken = np.zeros(layers["cate"].shape, dtype=bool)
    inside = places["in_support"].to_numpy()
    spoken[row[inside], column[inside]] = True
    spoken[row[~inside], column[~inside]] = False  # a cell with one masked place is masked
    for name in ("cate", "std_error", "lower", "upper"):
        np.testing.assert_array_equal(np.isfinite(layers[name]), spoken)
    alone = inside & (layers["n_places"][row, column] == 1)
    np.testing.assert_allclose(layers["cate"][row, column][alone], places["cate"][alone], rtol=1e-5)


def test_areas_and_agreement_of_encoders_are_reported(results):
    transport = results["transport"]
    assert list(transport["encoders"]) == ["single_image", "sequence"]
    for found in transport["encoders"].values():
        assert found["n_places"] == 300
        assert set(found["areas"]) == {"north-east", "south-east"}
        assert 0.6 < found["share_in_support"] < 0.9
    assert -1 <= transport["rank_correlation"]["single_image sequence"] <= 1


def test_the_audit_block_holds_all_seven_lines(results):
    lines = {row["line"]: row["status"] for row in results["audit"]}
    assert list(lines) == [
        "leakage", "spatial", "measurement_error", "placebo", "sensitivity", "applicability",
        "registration",
    ]  # fmt: skip
    assert lines["leakage"] == "pass"
    assert lines["applicability"] == "warn"
    assert {lines[name] for name in ("measurement_error", "placebo", "sensitivity")} == {"not_run"}


def test_tables_are_complete(programme_run):
    for kind in ("csv", "parquet"):
        assert {path.stem for path in (programme_run / "tables").glob(f"*.{kind}")} == TABLES
    cate = table_of(programme_run, "cate")
    assert len(cate) == 10 * 1009
    assert np.isfinite(cate[["cate", "score"]]).all(axis=None)


def test_the_page_says_all_of_it(programme_run, results):
    page = (programme_run / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    for sentence in results["headline"]:
        assert sentence.replace("<", "&lt;") in page
    titles = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    figures = {path.stem for path in (programme_run / "figures").glob("*.svg")}
    assert figures == {"rates", "curves", "groups", "effects", "components", "land_cover",
                       "composition", "places", "map"}  # fmt: skip


def test_no_coordinate_of_a_trial_unit_leaves_the_cache(programme_run):
    units = simulated(programme_run, "units.csv")
    places = units[["longitude", "latitude"]].map("{:.5f}".format).itertuples(index=False)
    digits = set(map(tuple, places))
    read = 0
    for path in programme_run.rglob("*"):
        if path.is_file() and "stages" not in path.parts:
            if path.suffix in (".json", ".html", ".csv", ".svg", ".yaml"):
                text = path.read_text()
                assert not any(east in text and north in text for east, north in digits), path
                read += 1
            elif path.suffix == ".parquet":
                table = pd.read_parquet(path).select_dtypes("number")
                assert not np.isin(table.round(5), units["longitude"].round(5)).any(), path
                read += 1
    assert read > 50


def test_a_run_again_computes_nothing(programme_run, tmp_path):
    assert command("run", PROGRAMME, "--out", programme_run, folder=tmp_path).code == 0
    stages = json.loads((programme_run / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)


def test_a_plan_names_the_stages_and_simulates_nothing(tmp_path):
    done = command("plan", PROGRAMME, "--out", "run", folder=tmp_path)
    assert done.code == 0, done.err
    stages = re.findall(r"^  compute  (\w+)", done.out, flags=re.MULTILINE)
    assert [stages[0], stages[-1]] == ["simulate", "report"]
    for name in ("heterogeneity", "drivers", "land_cover", "places_elsewhere"):
        assert name in stages
    for encoder in ("single_image", "sequence"):
        assert f"support_{encoder}" in stages
        assert f"transport_{encoder}" in stages
    assert "Registration: not run. Not frozen" in done.out
    assert not list(tmp_path.glob("run/stages/simulate-*"))


def test_any_scheduler_ends_in_the_same_bytes(tmp_path):
    found = []
    for name, words in (
        ("one", ("--scheduler", "threads")),
        ("two", ("--scheduler", "processes", "--set", "compute.n_workers=1")),
    ):
        done = command("run", PROGRAMME, "--out", name, *words, *settings(*TINY), folder=tmp_path)
        assert done.code == 0, done.err
        files = list_files(tmp_path / name).items()
        found.append({path: digest for path, digest in files if not path.endswith(CLOCKS)})
    assert len(found[0]) > 100
    different = [path for path in found[0] if found[1].get(path) != found[0][path]]
    assert different == []
    assert set(found[0]) == set(found[1])


def test_images_that_reach_the_treatment_are_refused(tmp_path):
    """By the design before anything is read; by the date guard where the settings do not say it."""
    planned = settings("data.scenes.period=[2005-01,2012-12]")
    for verb in ("plan", "run"):
        done = command(verb, PROGRAMME, "--out", "late", *planned, folder=tmp_path)
        assert done.code == 2
        assert "confounders.imagery.window" in done.err
    late = settings(*TINY, "audit.treatment_start=2011-03")
    done = command("run", PROGRAMME, "--out", "late", *late, folder=tmp_path)
    assert done.code == 5
    assert "not known to be older than the treatment" in done.err
    assert not (tmp_path / "late" / "results.json").exists()
    assert not (tmp_path / "late" / "maps").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("study.covariates=[schooling,offered]", "it is the outcome or the treatment"),
        ("estimate={randomised: false}", "estimate.randomised must be true"),
        ("encoders={}", "encoders"),
        ("heterogeneity.learners=[s]", "heterogeneity.learners"),
        ("heterogeneity.arms=[tabular]", "report.arm: image:sequence is not among"),
        ("report.learner=x", "report.learner: x is not among"),
        ("transport.area=region", "area: region must be among the labels"),
        ("transport.chips={file: a.nc, date: 2000, resolution_m: 10}", "(places to cut) or"),
        ("land_cover.classes={1: forest, 2: forest}", "two codes of one name"),
        ("audit.treatment_start=null", "treatment_start"),
    ],
)
def test_configs_that_cannot_work_are_refused_before_anything_runs(change, words):
    with pytest.raises(ConfigError) as caught:
        load_config(PROGRAMME, [change]).causal_design("study")
    assert words in str(caught.value)


def test_the_ranking_of_the_headline_is_the_last_encoder_and_the_first_learner():
    assert load_config(PROGRAMME).ranking == ("image:sequence", "dr")
    asked = load_config(PROGRAMME, ["report={arm: tabular, learner: t}"])
    assert asked.ranking == ("tabular", "t")
    network = load_config(PROGRAMME, ["network={}", "report.arm=image:network"])
    assert network.ranking == ("image:network", "network")
