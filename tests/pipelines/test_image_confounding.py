"""An aid programme from scenes on disk to the page, judged by the effect that was simulated."""

import json
import re

import jsonschema
import pandas as pd
import pytest
from commands import CONFOUNDING, command

from eo_causal.report.results import read_schema

HEADLINE = "image:pixel_stats+tabular"
COUNTRY = "{rows: 320, columns: 400, cloud: 0.0, dates: [2008-07-04, 2010-06-24, 2015-07-08]}"
SMALL = (
    "data.simulate.n_units=200", f"data.simulate.country={COUNTRY}", "folds.n_splits=1",
    "folds.block_km=1.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(confounding_run):
    return json.loads((confounding_run / "results.json").read_text())


def settings(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


def test_results_satisfy_the_schema_of_all_pipelines(results):
    jsonschema.validate(results, read_schema())
    assert set(results) >= {"effect", "overlap", "balance", "leakage", "sensitivity", "spatial"}
    assert re.fullmatch(r"[0-9a-f]{64}", results["design"]["hash"])
    assert results["design"]["strategy"] == "conditional_exogeneity"
    row = results["effect"]["ate"][HEADLINE]["aipw"]
    assert {"estimate", "std_error", "interval"} <= set(row)


def test_images_and_covariates_together_find_the_effect_and_neither_alone_does(results):
    truth = results["truth"]["ate"]
    ate = results["effect"]["ate"]
    found = ate[HEADLINE]["aipw"]
    assert abs(found["estimate"] - truth) < 3 * found["std_error"]
    assert found["std_error"] < 0.1
    for arm, estimator in (
        ("unadjusted", "difference_in_means"), ("tabular", "aipw"), ("image:pixel_stats", "aipw"),
    ):  # fmt: skip
        assert ate[arm][estimator]["interval"][0] > truth, arm


def test_weighting_balances_what_planners_saw(results):
    balance = results["balance"][HEADLINE]
    assert balance["largest_smd_before"] > 0.8
    assert balance["largest_smd_after"] < 0.25
    assert 0.8 < results["overlap"][HEADLINE]["calibration_slope"] < 1.25


def test_the_audit_block_holds_all_seven_lines(results):
    lines = {row["line"]: row["status"] for row in results["audit"]}
    assert list(lines) == [
        "leakage", "spatial", "measurement_error", "placebo", "sensitivity", "applicability",
        "registration",
    ]  # fmt: skip
    assert lines["leakage"] == "pass"
    assert (lines["measurement_error"], lines["registration"]) == ("not_run", "not_run")
    assert results["leakage"]["flags"] == ["leak_gap"]  # images since then show the roofs


def test_the_page_says_all_of_it_and_no_coordinate(confounding_run, results):
    page = (confounding_run / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    for sentence in results["headline"]:
        assert sentence.replace("<", "&lt;") in page
    (folder,) = (confounding_run / "stages").glob("simulate-*")
    villages = pd.read_csv(folder / "villages.csv")
    digits = {f"{value:.5f}" for value in villages["longitude"]}
    for path in confounding_run.rglob("*"):
        if (
            path.is_file()
            and "stages" not in path.parts
            and path.suffix in (".json", ".html", ".csv")
        ):
            text = path.read_text()
            assert not any(number in text for number in digits), path


def test_a_run_again_computes_nothing(confounding_run, tmp_path):
    assert command("run", CONFOUNDING, "--out", confounding_run, folder=tmp_path).code == 0
    stages = json.loads((confounding_run / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)


def test_images_from_after_the_start_are_refused_unless_the_config_says_so(tmp_path):
    planned = settings(*SMALL, "data.scenes.period=[2008-01,2015-12]")
    done = command("run", CONFOUNDING, "--out", "late", *planned, folder=tmp_path)
    assert done.code == 2  # the design says so before anything is read
    assert "confounders.imagery.window" in done.err
    undeclared = "data.scenes.files=[scenes/*_2008*.TIF,scenes/*_2010*.TIF]"
    late = settings(
        *SMALL, undeclared, "data.scenes.period=null", "data.period_after=null",
        "audit.treatment_start=2010-03",
    )  # fmt: skip
    done = command("run", CONFOUNDING, "--out", "late", *late, folder=tmp_path)
    assert done.code == 5
    assert "not known to be older than the treatment" in done.err
    assert not (tmp_path / "late" / "results.json").exists()
    allowed = command(
        "run", CONFOUNDING, "--out", "late", *late, *settings("audit.allow_leakage=true"),
        folder=tmp_path,
    )  # fmt: skip
    assert allowed.code == 0, allowed.err
    results = json.loads((tmp_path / "late" / "results.json").read_text())
    assert results["leakage"]["status"] == "fail"
    assert "post_treatment_imagery" in results["leakage"]["flags"]
    page = (tmp_path / "late" / "report.html").read_text()
    assert 'class="callout fail"><span class="tag">fail</span><b>date guard' in page


def test_a_frozen_design_that_changed_is_refused_or_branded(tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text(CONFOUNDING.read_text())
    small = settings(*SMALL, "data.period_after=null", "audit.negative_outcomes=[]")
    assert command("freeze", config, *small, folder=tmp_path).code == 0
    changed = settings("study.covariates=[schooling]")
    refused = command("run", config, *small, *changed, folder=tmp_path)
    assert refused.code == 5
    assert "confounders.tabular" in refused.err
    branded = command(
        "run", config, *small, *changed, *settings("design.allow_change=true"), folder=tmp_path
    )
    assert branded.code == 0, branded.err
    results = json.loads((tmp_path / "runs" / "study" / "results.json").read_text())
    lines = {row["line"]: row for row in results["audit"]}
    assert lines["registration"]["status"] == "warn"
    assert lines["placebo"]["status"] == "not_run"
    assert "negative_outcomes" in lines["placebo"]["text"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("study.covariates=[schooling,project]", 2, "it is the outcome or the treatment"),
        ("design.strategy=rct", 2, "p_treat"),
        ("audit.treatment_start=null", 2, "treatment_start"),
        ("units.numbers=[project,outcome]", 2, "schooling"),
        ("encoders={}", 2, "encoders"),
    ],
)
def test_configs_that_cannot_work_are_refused(tmp_path, change, code, words):
    done = command("run", CONFOUNDING, *settings(*SMALL, change), folder=tmp_path)
    assert done.code == code, done.err
    assert words in done.err
