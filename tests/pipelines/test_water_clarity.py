"""The demo study from raster files to report, judged by its known truth."""

import csv
import json
import re
import shutil

import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from commands import DEMO, command

from eo_causal.audit.report import LINES
from eo_causal.report.results import read_schema
from eo_causal.run.design import block_hash
from eo_causal.run.registry import find_pipeline


@pytest.fixture(scope="module")
def results(demo_run):
    return json.loads((demo_run / "results.json").read_text())


def test_results_satisfy_the_schema_of_all_pipelines(results):
    jsonschema.validate(results, read_schema())


def test_the_truth_lies_in_the_interval_and_elsewhere_nothing_is_found(results):
    low, high = results["effect"]["average"]["interval"]
    assert results["truth"]["average"] == pytest.approx(0.9)
    assert low < 0.9 < high
    assert results["effect"]["average"]["units"] == "1e-2 m-1"
    assert results["effect"]["relative"]["units"] == "1"
    assert results["effect"]["p_value"] < 0.001
    assert results["placebo_in_space"]["rank"] == 1
    assert results["placebo_in_time"]["n"] >= 20
    assert results["placebo_in_time"]["p_value"] <= 0.05


def test_the_known_break_is_found_in_the_impact_zone_only(results):
    assert results["breakpoints"] == {"impact": ["2019-05"], "control": []}


def test_average_and_cumulative_agree(results):
    n_post = results["diagnostics"]["n_post"]
    average = results["effect"]["average"]["estimate"]
    assert results["effect"]["cumulative"]["estimate"] == pytest.approx(average * n_post, rel=1e-10)
    assert results["euphotic_depth"]["change"]["estimate"] < 0


def test_the_page_is_self_contained_and_says_the_answer(demo_run, results):
    page = (demo_run / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page
    assert "Content-Security-Policy" in page
    assert results["headline"][0] in page.replace("&#39;", "'")
    assert "the true average effect is 0.9" in page


def test_the_audit_block_holds_seven_lines_in_results_page_and_table(demo_run, results):
    found = {item["line"]: item for item in results["audit"]}
    assert list(found) == list(LINES)
    assert found["leakage"]["status"] == found["placebo"]["status"] == "pass"
    for line in ("measurement_error", "applicability", "registration"):
        assert found[line]["status"] == "not_run"
        assert len(found[line]["text"]) > 20
    page = (demo_run / "report.html").read_text()
    assert page.count('<tr class="not_run">') == 3
    assert list(pd.read_parquet(demo_run / "tables" / "audit.parquet")["line"]) == list(LINES)


def test_the_design_and_its_hash_stand_in_results(results):
    design = results["design"]
    assert design["strategy"] == "bsts"
    assert design["hash"] == block_hash(design["block"])
    assert design["registration"]["status"] == "not_run"
    assert design["post_registration_change"] is False
    assert design["block"]["design_specific"]["pre"] == ["1998-01", "2019-04"]


def test_tables_without_boxes_give_a_design_whose_distances_are_not_known():
    config = find_pipeline("water_clarity").Config.model_validate(
        {
            "pipeline": "water_clarity", "impact": {"intervention": "2019-01"},
            "data": {"tables": {"impact": "a.csv", "control": "b.csv"}},
            "zones": {"impact": [0, 0, 1, 1]},
        }
    )  # fmt: skip
    specific = config.causal_design("study").design_specific
    assert [control.distance_km for control in specific.controls] == [None]
    assert (specific.pre, specific.post) == ((None, "2018-12"), ("2019-01", None))


def test_without_placebos_and_after_a_change_the_audit_says_so(tmp_path):
    shutil.copy(DEMO, tmp_path / "study.yaml")
    assert command("freeze", "study.yaml", folder=tmp_path).code == 0
    sets = (
        "checks.placebo_in_time=null", "checks.placebo_in_space=false", "breaks.n_bootstrap=99",
        "design.allow_change=true",
    )  # fmt: skip
    words = [word for text in sets for word in ("--set", text)]
    done = command("run", "study.yaml", *words, folder=tmp_path)
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "runs" / "study" / "results.json").read_text())
    jsonschema.validate(results, read_schema())
    found = {item["line"]: item for item in results["audit"]}
    assert found["placebo"]["status"] == "not_run"
    assert "checks.placebo_in_time" in found["placebo"]["text"]
    assert found["registration"]["flags"] == ["post_registration_change"]
    assert results["design"]["post_registration_change"] is True
    changed = [row["key"] for row in results["design"]["registration"]["changed"]]
    assert changed == ["placebos"]
    assert "The design was changed after it was registered." in done.out
    for path in (tmp_path / "runs" / "study" / "tables").glob("*.parquet"):
        assert set(pd.read_parquet(path)["changed_after_registration"]) <= {"placebos"}, path.name
    page = (tmp_path / "runs" / "study" / "report.html").read_text()
    assert "<b>Changed after registration</b>" in page


def test_tables_repeat_the_numbers_of_results(demo_run, results):
    with (demo_run / "tables" / "summary.csv").open() as stream:
        rows = {row["effect"]: row for row in csv.DictReader(stream)}
    assert float(rows["average"]["abs_effect"]) * 100 == pytest.approx(
        results["effect"]["average"]["estimate"]
    )
    monthly = pd.read_parquet(demo_run / "tables" / "monthly.parquet")
    post = monthly[monthly["time"] >= "2019-05-01"]
    assert post["point_effect"].mean() * 100 == pytest.approx(
        results["effect"]["average"]["estimate"]
    )


def test_posterior_file_gives_the_same_average(demo_run, results):
    with xr.open_dataset(demo_run / "posterior.nc") as posterior:
        observed = np.isfinite(posterior["effect"]).all(("chain", "draw"))
        average = float(posterior["effect"].where(observed).mean())
    assert average * 100 == pytest.approx(results["effect"]["average"]["estimate"], rel=1e-9)


def test_map_is_a_cog_with_units_and_run_id(demo_run, results):
    with rasterio.open(demo_run / "maps" / "kd490_before_after.tif") as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.tags()["run_id"] == results["run_id"]
        assert set(source.descriptions) == {"mean_before", "mean_after", "n_valid", "difference"}
        band = source.descriptions.index("difference") + 1
        assert source.tags(band)["units"] == "m-1"
        assert np.isnan(source.nodata)
        difference = source.read(band)
    assert np.isnan(difference).any()
    assert np.nanmax(difference) > 0.009


def test_manifest_tells_what_ran(demo_run):
    manifest = json.loads((demo_run / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert {stage["name"] for stage in manifest["stages"]} >= {"simulate", "ingest", "impact"}
    assert manifest["versions"]["numpy"] == np.__version__
    assert "report.html" in manifest["outputs"]


def test_the_same_command_again_computes_nothing(demo_run):
    before = (demo_run / "results.json").read_bytes()
    done = command("run", DEMO, "--out", demo_run, folder=demo_run.parent)
    assert done.code == 0
    stages = json.loads((demo_run / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)
    assert (demo_run / "results.json").read_bytes() == before


def test_report_verifies_outputs_and_prints_the_answer(demo_run, results, tmp_path):
    done = command("report", demo_run, folder=tmp_path)
    assert done.code == 0
    assert results["headline"][0] in done.out


def test_a_changed_setting_recomputes_only_what_depends_on_it(demo_run, tmp_path):
    done = command(
        "plan", DEMO, "--out", demo_run, "--set", "depth.average=monthly", folder=tmp_path
    )
    assert done.code == 0
    computed = re.findall(r"compute\s+(\w+)", done.out)
    assert computed == ["depth", "report"]
