"""Simulated trials that ask which design choices find heterogeneity, from the config to the page."""

import json
import re

import jsonschema
import pandas as pd
import pytest
from commands import CONFIGS, command

from eo_causal.errors import ConfigError
from eo_causal.report.results import read_schema
from eo_causal.run.config import load_config

STUDY = CONFIGS / "heterogeneity_study.yaml"
STILL = "{single image: {name: pixel_stats, frames: latest}, sequence: {name: pixel_stats}}"
SMALL = (
    "--set", "study.n_repetitions=2", "--set", "study.n_units=150", "--set",
    "worlds=[change, constant]", "--set", "study.size_pixels=8", "--set",
    "encoders={pixel_stats: " + STILL + "}", "--set",
    "estimate.heterogeneity={learners: [dr], n_draws: 20}",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Run folder of a small study."""
    folder = tmp_path_factory.mktemp("heterogeneity") / "run"
    done = command("run", STUDY, *SMALL, "--out", folder, folder=folder.parent)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def results(study):
    return json.loads((study / "results.json").read_text())


def test_results_hold_every_cell_and_what_each_choice_adds(results):
    jsonschema.validate(results, read_schema())
    found = results["study"]
    assert (found["n_units"], found["n_repetitions"]) == (150, 2)
    assert found["worlds"] == ["change", "constant"]
    assert len(found["cases"]) == 2 * (2 * 2 + 1) * 2  # worlds x arms x metrics
    constant = [case["correlation"] for case in found["cases"] if case["world"] == "constant"]
    assert set(constant) == {None}
    levels = [(row["choice"], row["level"], row["baseline"]) for row in found["choices"]]
    assert levels[:4] == [
        ("all at baseline", "", ""), ("data", "sequence", "single image"),
        ("data", "no image", "single image"), ("covariates", "yes", "no"),
    ]  # fmt: skip


def test_a_sequence_follows_the_change_better_than_a_single_image(results):
    found = {
        case["data"]: case["correlation"]
        for case in results["study"]["cases"]
        if case["world"] == "change" and case["metric"] == "qini" and case["covariates"] == "no"
    }
    assert found["sequence"] > found["single image"] + 0.1


def test_one_table_holds_every_ranking(study, results):
    rates = pd.read_parquet(study / "tables" / "rates.parquet")
    assert len(rates) == 2 * 2 * 5 * 2
    cells = pd.read_csv(study / "tables" / "cells.csv")
    own = rates.query(
        "world == 'change' and data == 'sequence' and covariates == 'yes' and metric == 'autoc'"
    )
    case = next(
        case for case in results["study"]["cases"]
        if (case["world"], case["data"], case["covariates"], case["metric"])
        == ("change", "sequence", "yes", "autoc")
    )  # fmt: skip
    assert case["ratio"]["estimate"] == pytest.approx(own["ratio"].mean())
    assert len(cells) == len(results["study"]["cases"])
    assert (study / "tables" / "choices.csv").exists()


def test_the_page_is_self_contained_and_says_what_a_sequence_adds(study, results):
    page = (study / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert page.count("<figure>") == 3
    row = results["study"]["choices"][1]
    assert row["metric"] == "autoc"
    assert f"{row['ratio']['estimate']:+.2f}".replace("-", "−") in results["headline"][-1]
    assert "Instead of a single image, a sequence adds" in results["headline"][-1]
    assert {path.stem for path in (study / "figures").glob("*.png")} == {
        "choices", "ratios", "worlds",
    }  # fmt: skip


def test_a_world_more_computes_that_world_only(study, tmp_path):
    more = (*SMALL, "--set", "worlds=[change, constant, last]")
    assert command("run", STUDY, *SMALL, "--out", study, folder=tmp_path).code == 0
    stages = json.loads((study / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)
    done = command("plan", STUDY, *more, "--out", study, folder=tmp_path)
    assert done.code == 0, done.err
    assert re.findall(r"compute\s+(\w+)", done.out) == ["trials_last", "estimate_last", "report"]


def test_another_scheduler_gives_the_same(study, tmp_path):
    sets = (*SMALL, "--set", "worlds=[change]", "--scheduler", "processes")
    done = command("run", STUDY, *sets, "--out", tmp_path / "run", folder=tmp_path)
    assert done.code == 0, done.err
    here, there = (pd.read_csv(path / "tables" / "rates.csv") for path in (study, tmp_path / "run"))
    pd.testing.assert_frame_equal(there, here[here["world"] == "change"], check_exact=True)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["worlds=[change, change]"], "names a world twice"),
        (["worlds=[level]"], "change"),
        (["estimate.heterogeneity.arms=[tabular]"], "the grid names them"),
        (["mode=paper"], "not public"),
        (["encoders={}"], "encoders"),
        (["study.n_repetitions=1"], "n_repetitions"),
    ],
)
def test_configs_that_cannot_work_are_refused(sets, words):
    with pytest.raises(ConfigError, match=words):
        load_config(STUDY, sets)
