"""Simulated trials on predicted outcomes, from the config to the page."""

import json
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest
from commands import CONFIGS, command

from eo_causal.errors import ConfigError
from eo_causal.report.results import read_schema
from eo_causal.run.config import load_config

STUDY = CONFIGS / "one_map_many_trials.yaml"
SMALL = (
    "--set", "study.n_trials=3", "--set", "study.n_units=1500", "--set", "card.n_replicates=20",
    "--set", "predictor.epochs=200",
)  # fmt: skip
METHODS = {"naive": "naive", "lcc": "linear", "tweedie": "tweedie", "ppi": "ppi"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Run folder of a small study."""
    folder = tmp_path_factory.mktemp("network_trials") / "run"
    done = command("run", STUDY, *SMALL, "--out", folder, folder=folder.parent)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def results(study):
    return json.loads((study / "results.json").read_text())


def test_results_hold_every_trial_beside_its_true_effect(results):
    jsonschema.validate(results, read_schema())
    assert [trial["truth"] for trial in results["trials"]] == [-2, 0, 2]
    for trial in results["trials"]:
        for name in METHODS.values():
            found = trial[name]
            assert found["interval"][0] < found["estimate"] < found["interval"][1]
            assert found["std_error"] > 0
        assert trial["naive"]["std_error"] < trial["linear"]["std_error"]


def test_the_summary_is_that_of_the_trials(results):
    truth = [trial["truth"] for trial in results["trials"]]
    for method, name in METHODS.items():
        found = [trial[name]["estimate"] for trial in results["trials"]]
        summary = results["summary"][method]
        assert summary["slope"] == pytest.approx(np.polyfit(truth, found, 1)[0])
        assert summary["mae"] == pytest.approx(np.mean(np.abs(np.subtract(found, truth))))
        assert summary["n"] == 3


def test_predictions_shrink_effects_and_linear_calibration_gives_them_back(results):
    slopes = {method: part["slope"] for method, part in results["summary"].items()}
    assert slopes["naive"] < 0.7
    assert slopes["lcc"] == pytest.approx(1, abs=0.25)
    assert abs(slopes["tweedie"] - 1) < abs(slopes["naive"] - 1)


def test_the_page_says_the_slopes_beside_the_published_ones(study, results):
    first = results["headline"][0]
    assert "3 simulated trials of 1,500 units" in first
    assert f"naive {results['summary']['naive']['slope']:.3f} (published 0.5346)" in first
    assert "(published 0.9947)" in first
    assert {row["published"] for row in results["published"]} == {0.5346, 1.0068, 0.9947, 0.9834}
    page = (study / "report.html").read_text()
    assert "regime R1" in page
    assert not re.search(r"(src|href)=[\"']https?://", page)


def test_tables_hold_every_number(study, results):
    effects = pd.read_csv(study / "tables" / "effects.csv")
    assert effects.groupby("method").size().to_dict() == dict.fromkeys(METHODS, 3)
    row = effects[(effects["name"] == "trial_2") & (effects["method"] == "tweedie")].iloc[0]
    assert row["estimate"] == pytest.approx(results["trials"][2]["tweedie"]["estimate"])
    trials = pd.read_csv(study / "tables" / "trials.csv")
    assert (trials["slope"] < 1).all()
    assert (study / "tables" / "summary.csv").is_file()
    assert (study / "figures" / "effects.svg").is_file()


def test_workers_find_the_same_numbers(study, tmp_path):
    done = command("run", STUDY, *SMALL, "--set", "compute.kind=processes", "--out",
                   tmp_path / "run", folder=tmp_path)  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "results.json").read_bytes() == (study / "results.json").read_bytes()


def test_paper_mode_is_refused_with_its_reason(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("pipeline: network_trials\nmode: paper\n")
    with pytest.raises(ConfigError, match="rows that stopped the training"):
        load_config(path)
