"""The pipeline of effect heterogeneity on the Uganda youth-opportunities trial, made quick."""

import json
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
from commands import CONFIGS, command

from eo_causal.report.results import read_schema

CONFIG = CONFIGS / "uganda_yop.yaml"
NEEDED = ("imagery/causalimages_uganda/observations.csv", "imagery/uganda_yop/chips_trial_327x3x160x160.nc",
          "imagery/uganda_yop/chips_transport_64x64.nc")  # fmt: skip
QUICK = (
    "encoders={pixel_stats: {name: pixel_stats}}", "heterogeneity.learners=[dr]", "folds.n_splits=2",
    "heterogeneity.n_draws=50", "transport.n_draws=50",
)  # fmt: skip
LEAKING = ("x0", "x2", "x4", "x6")


def settings(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.fixture(scope="module")
def present(data_folder):
    absent = [name for name in NEEDED if not (data_folder / name).is_file()]
    if absent:
        pytest.skip(f"{absent[0]} is not in EO_CAUSAL_DATA")


@pytest.fixture(scope="module")
def run(present, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uganda")
    done = command("run", CONFIG, "--out", folder / "run", *settings(*QUICK), folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(scope="module")
def results(run):
    return json.loads((run / "results.json").read_text())


def test_the_average_effect_has_a_clustered_interval(results, run, measured):
    """C-11."""
    jsonschema.validate(results, read_schema())
    found = results["effect"]["ate"]["unadjusted"]["difference_in_means"]
    assert found["estimate"] == pytest.approx(0.7415, abs=1e-3)
    assert found["std_error"] == pytest.approx(0.0755, abs=1e-3)
    low, high = found["interval"]
    assert (low, high) == pytest.approx((0.7415 - 1.96 * 0.0755, 0.7415 + 1.96 * 0.0755), abs=3e-3)
    assert results["design"]["block"]["treatment"]["cluster"] == "image_key"
    errors = pd.read_csv(run / "tables" / "effects.csv")["errors"]
    assert errors.str.contains("cluster").all()
    measured("std_error_clustered", found["std_error"])


def test_rates_are_reported_over_the_splits(results, run, measured):
    assert set(results["rate"]) == {
        "tabular/none/dr", "image/pixel_stats/dr", "image+tabular/pixel_stats/dr"
    }  # fmt: skip
    for key, rates in results["rate"].items():
        for metric, row in rates.items():
            assert row["n_splits"] == 2
            assert row["split_range"][0] <= row["ratio"] <= row["split_range"][1]
            assert row["p_adjusted"] >= row["p_value"]
            assert row["units"] == "sd of the outcome"
            measured(f"{key} {metric}", row["ratio"])
    splits = pd.read_csv(run / "tables" / "rates_by_split.csv")
    assert splits.groupby(["arm", "learner", "metric"]).size().eq(2).all()
    low, high = results["rate"]["image/pixel_stats/dr"]["autoc"]["split_range"]
    assert f"{low:.1f} to {high:.1f} over 2 splits" in results["headline"][1]


def test_effects_are_carried_with_a_mask(results, run, measured):
    found = results["transport"]["encoders"]["pixel_stats"]
    assert found["n_places"] == 991
    assert 0.8 < found["share_in_support"] < 0.95
    measured("share_in_support", found["share_in_support"])
    average = found["areas"]["elsewhere"]["average"]
    assert average["interval"][0] < 0.7415 < average["interval"][1]
    places = pd.read_csv(run / "tables" / "transport_pixel_stats.csv")
    with rasterio.open(run / "maps" / "effect_pixel_stats.tif") as source:
        layers = dict(zip(source.descriptions, source.read(), strict=True))
    assert layers["n_places"].sum() == len(places) == 991
    np.testing.assert_array_equal(np.isfinite(layers["cate"]), layers["in_support"] == 1)


def test_no_place_of_the_trial_is_in_the_outputs(run, data_folder):
    given = pd.read_csv(data_folder / NEEDED[0], usecols=["lon", "lat"]).dropna()
    places = given[["lon", "lat"]].map("{:.5f}".format).itertuples(index=False)
    digits = set(map(tuple, places))
    assert len(digits) > 300
    read = 0
    for path in run.rglob("*"):
        if (
            path.is_file()
            and "stages" not in path.parts
            and path.suffix in (".json", ".html", ".csv")
        ):
            text = path.read_text()
            assert not any(east in text and north in text for east, north in digits), path
            read += 1
    assert read > 20


def test_columns_made_from_the_treatment_are_refused_by_name(present, tmp_path):
    """C-22: x0, x2, x4 and x6 are named, x1, x3 and x5 are not."""
    every = "[x0, x1, x2, x3, x4, x5, x6]"
    numbers = "[w, y, x0, x1, x2, x3, x4, x5, x6]"
    leaking = settings(*QUICK, f"study.covariates={every}", f"units.numbers={numbers}")
    done = command("run", CONFIG, "--out", "run", *leaking, folder=tmp_path)
    assert done.code == 5, done.err
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("LeakageError")
    assert all(re.search(rf"\b{name}\b", last) for name in LEAKING)
    assert not (tmp_path / "run" / "results.json").exists()
