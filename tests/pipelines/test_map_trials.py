"""Trials on a map that another run made, and on a table of predictions, by config and by command."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import command

from eo_causal.errors import ConfigError
from eo_causal.run.config import load_config


@pytest.fixture(scope="module")
def place(wealth_run, tmp_path_factory):
    """A working folder with a copy of the map and the trials' places."""
    folder = tmp_path_factory.mktemp("trials")
    shutil.copytree(wealth_run / "maps", folder / "maps")
    (simulated,) = (wealth_run / "stages").glob("simulate-*")
    for name in ("grants", "roads"):
        shutil.copy(simulated / f"trial_{name}.csv", folder / f"{name}.csv")
    return folder


def by_command(place, name, *more):
    return command(
        "trial", "--map", "maps/wealth.tif", "--units", f"{name}.csv", "--treatment", "treated",
        "--pilot", "wealth_measured", *more, folder=place,
    )  # fmt: skip


def results_of(place, name):
    return json.loads((place / "runs" / f"trial_{name}" / "results.json").read_text())


def test_a_trial_on_the_finished_map_is_what_the_map_s_own_run_found(place, wealth_run):
    done = by_command(place, "grants", "--randomised")
    assert done.code == 0, done.err
    (found,) = results_of(place, "grants")["trials"]
    own = json.loads((wealth_run / "results.json").read_text())["trials"]
    same = next(trial for trial in own if trial["name"] == "grants")
    assert found["verdict"] == same["verdict"]
    for method in ("naive", "linear", "tweedie", "ppi"):
        assert found[method]["estimate"] == pytest.approx(same[method]["estimate"], rel=1e-4)
        assert found[method]["std_error"] == pytest.approx(same[method]["std_error"], rel=1e-3)
    assert found["naive"]["units"] == "sd of wealth"
    assert "correct by linear calibration" in done.out


def test_a_contrast_that_the_image_decided_is_left_alone(place):
    done = by_command(place, "roads")
    assert done.code == 0, done.err
    found = results_of(place, "roads")
    assert found["regime"]["verdict"] == "none"
    assert "do not correct" in done.out
    page = (place / "runs" / "trial_roads" / "report.html").read_text()
    assert "For averages only" in page


def test_a_map_whose_card_was_changed_is_refused(place, tmp_path):
    shutil.copytree(place, tmp_path / "work", dirs_exist_ok=True)
    card = tmp_path / "work" / "maps" / "wealth_card.json"
    card.write_text(card.read_text().replace('"lcc"', '"tweedie"', 1))
    done = by_command(tmp_path / "work", "grants")
    assert done.code == 3
    assert "not what was written with the map" in done.err


def test_places_beyond_the_map_are_named(place):
    table = pd.read_csv(place / "grants.csv")
    table.loc[3, "longitude"] += 2
    table.to_csv(place / "far.csv", index=False)
    done = by_command(place, "far")
    assert done.code == 3
    assert "1 of 450 places" in done.err


def test_predictions_of_a_table_are_judged_by_trials_without_treatment(tmp_path):
    random = np.random.default_rng(3)
    truth = random.normal(size=3000)
    table = {
        "longitude": random.uniform(28, 33, 3000), "latitude": random.uniform(-2, 2, 3000),
        "outcome": truth, "prediction": 0.7 * truth + np.sqrt(0.7 * 0.3) * random.normal(size=3000),
    }  # fmt: skip
    pd.DataFrame(table).to_csv(tmp_path / "predictions.csv", index=False)
    (tmp_path / "study.yaml").write_text(
        "pipeline: map_trials\n"
        "data: {predictions: {file: predictions.csv}}\n"
        "card: {n_replicates: 20}\n"
        "pseudo_trials: {n_trials: 6, n_pilot: 400}\n"
    )
    done = command("run", "study.yaml", folder=tmp_path)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "runs" / "study" / "results.json").read_text())
    slopes = {driver: part["linear" if "linear" in part else "lcc"]["slope"]
              for driver, part in found["summary"].items()}  # fmt: skip
    assert slopes["outcome"] == pytest.approx(1, abs=0.1)
    assert slopes["prediction"] > 1.25
    assert len(found["trials"]) == 12
    assert found["quality"]["all"]["slope"] == pytest.approx(0.7, abs=0.03)
    assert (tmp_path / "runs" / "study" / "maps" / "predictions.tif").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {}\n", "give `map`"),
        ("data: {map: a.tif, predictions: {file: b.csv}}\n", "give `map`"),
        ("data: {map: a.tif}\n", "a map needs `trials`"),
        ("data: {predictions: {file: b.csv}}\n", "predictions need `pseudo_trials`"),
    ],
)
def test_a_source_needs_its_own_trials(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text("pipeline: map_trials\n" + text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
