"""Simulated studies of confounders that images show, from the config to the page."""

import json
import re

import jsonschema
import pandas as pd
import pytest
from commands import CONFIGS, command

from eo_causal.errors import ConfigError
from eo_causal.report.results import read_schema
from eo_causal.run.config import load_config

RESOLUTION = CONFIGS / "confounding_resolution.yaml"
MISSPECIFICATION = CONFIGS / "confounding_misspecification.yaml"
GENERATED = ("--set", "data.images=generated")
SMALL = ("--set", "study.n_repetitions=3", "--set", "study.n_images=200")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Run folder of a small resolution study on generated images."""
    folder = tmp_path_factory.mktemp("confounding") / "run"
    done = command("run", RESOLUTION, *GENERATED, *SMALL, "--out", folder, folder=folder.parent)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def results(study):
    return json.loads((study / "results.json").read_text())


def test_results_satisfy_the_schema_and_say_what_is_left(results):
    jsonschema.validate(results, read_schema())
    found = results["study"]
    assert (found["kind"], found["images"]) == ("resolution", "generated textures")
    assert (found["n_images"], found["n_repetitions"]) == (200, 3)
    assert results["truth"] == {"ate": 1.0}
    cases = {case["value"]: case for case in found["cases"]}
    assert list(cases) == [1, 2, 4, 8, 16]
    left = [case["bias"]["measured_pattern"]["aipw"]["estimate"] for case in cases.values()]
    assert left == sorted(left)
    assert abs(cases[1]["share_left"]) < 0.1
    assert cases[8]["share_left"] > 0.6
    assert found["reference"]["aipw"] == {"1": 0.001, "2": 0.089, "8": 0.64}


def test_the_headline_says_what_the_numbers_say(results):
    left = {case["value"]: case["share_left"] for case in results["study"]["cases"]}
    text = " ".join(results["headline"])
    assert f"as coarse as the pattern (8 ×), {100 * left[8]:.0f} % of the confounding stays" in text
    assert f"{100 * left[2]:.0f} % (2 ×) and {100 * left[4]:.0f} % (4 ×)" in text


def test_tables_hold_every_estimate_and_the_reference_beside(study, results):
    estimates = pd.read_parquet(study / "tables" / "estimates.parquet")
    assert len(estimates) == 5 * 3 * 7
    remaining = pd.read_csv(study / "tables" / "remaining.csv").set_index("pooling")
    assert remaining["reference_aipw"].dropna().to_dict() == {1: 0.001, 2: 0.089, 8: 0.64}
    case = results["study"]["cases"][1]["bias"]
    mine = estimates.query("value == 2 and adjusted_for == 'nothing'")["estimate"].mean() - 1
    assert case["nothing"]["difference_in_means"]["estimate"] == pytest.approx(mine)
    low, high = case["measured_pattern"]["hajek"]["interval"]
    assert low < remaining["hajek"][2] < high


def test_the_page_is_self_contained(study, results):
    page = (study / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert results["headline"][1] in page
    assert page.count("<figure>") == 3
    assert {path.stem for path in (study / "figures").glob("*.png")} == {
        "bias", "examples", "scores",
    }  # fmt: skip


def test_a_run_again_computes_nothing_and_another_scheduler_gives_the_same(study, tmp_path):
    words = ("run", RESOLUTION, *GENERATED, *SMALL, "--out")
    assert command(*words, study, folder=tmp_path).code == 0
    stages = json.loads((study / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)
    other = command(*words, tmp_path / "run", "--scheduler", "processes", folder=tmp_path)
    assert other.code == 0, other.err
    for name in ("results.json", "tables/estimates.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (study / name).read_bytes()


def test_a_plan_lists_the_stages(tmp_path):
    done = command("plan", RESOLUTION, *GENERATED, folder=tmp_path)
    assert done.code == 0, done.err
    assert re.findall(r"compute\s+(\w+)", done.out) == [
        "simulate",
        "estimate",
        "examples",
        "report",
    ]


def test_windows_of_real_chips_and_another_filter(data_folder, tmp_path):
    sets = (*SMALL, "--set", "study.widths=[2, 8]")
    done = command("run", MISSPECIFICATION, *sets, "--out", tmp_path / "run", folder=tmp_path)
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    jsonschema.validate(results, read_schema())
    assert "A filter of 8 pixels removes the confounding" in results["headline"][1]
    narrow, right = results["study"]["cases"]
    assert narrow["share_left"] > 0.4
    assert abs(right["share_left"]) < 0.1


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["data.chips=null"], "images: chips needs `chips`"),
        (["study.factors=[1, 3]"], "3 does not divide the margin of 16"),
        (["study.kind=sharpness"], "resolution"),
        (["study.widths=[8]"], "widths is not a known key; did you mean study.width"),
        (["mode=paper"], "paper"),
    ],
)
def test_configs_that_cannot_work_are_refused(sets, words):
    with pytest.raises(ConfigError, match=words):
        load_config(RESOLUTION, sets)


def test_a_band_that_is_not_there_ends_in_one_line(data_folder, tmp_path):
    sets = (*SMALL, "--set", "data.band=nir")
    done = command("run", RESOLUTION, *sets, "--out", tmp_path / "run", folder=tmp_path)
    assert done.code == 2, done.err
    assert "nir is not a band of the chips: band_1, band_2, band_3" in done.err
    assert not (tmp_path / "run" / "results.json").exists()
