"""The configs of real images run as a user runs them, and say what is known of their data."""

import json

import numpy as np
import pandas as pd
import pytest
import rasterio
from commands import command

from eo_causal.core.storage import read_value
from eo_causal.ingest.chips import ChipSet
from eo_causal.ingest.datasets import dataset_path


def study(name, folder, *sets):
    words = [word for item in sets for word in ("--set", item)]
    done = command("run", name, *words, folder=folder)
    assert done.code == 0, done.err
    run = folder / "runs" / name
    (chips,) = (run / "stages").glob("chips-*")
    return json.loads((run / "results.json").read_text()), read_value(ChipSet, chips), run


def test_pucallpa_has_eight_dates_and_the_pixels_of_its_files(data_folder, tmp_path):
    results, chip_set, _ = study("pucallpa", tmp_path, "encoders={stats: {name: pixel_stats}}")
    chips = chip_set.chips.compute()
    assert (results["chips"]["n_slots"], results["chips"]["n_chips"]) == (8, 171)
    assert results["chips"]["bands"] == ["swir1", "nir", "red", "green"]
    years = np.unique(chips["datetime"].to_numpy().astype("datetime64[Y]").astype(int) + 1970)
    assert years.tolist() == list(range(1985, 2021, 5))
    with rasterio.open(dataset_path("landsat-pucallpa", "2000.tif")) as source:
        for unit in (0, 60, 170):
            east, north = (float(chips[f"centre_{name}ing"][unit]) for name in ("east", "north"))
            shift = source.res[0] / 4  # the middle of an even chip is a corner of pixels
            row, column = source.index(east + shift, north - shift)
            window = rasterio.windows.Window(column - 16, row - 16, 32, 32)
            expected = np.where(source.read_masks(window=window) > 0,
                                source.read(window=window), np.nan)  # fmt: skip
            np.testing.assert_array_equal(chips.to_numpy()[unit, 3], expected)


def test_uganda_chips_meet_the_people_of_the_trial(data_folder, tmp_path):
    results, chip_set, run = study("uganda_chips", tmp_path)
    assert results["chips"]["n_chips"] == 327
    assert chip_set.chips.shape == (327, 1, 3, 64, 64)
    ledger = json.loads((run / "manifest.json").read_text())["stages"]
    counts = next(stage["counts"] for stage in ledger if stage["name"] == "units")
    assert counts == {"image_keys": 327, "units": 2082, "x3_missing": 7}
    with np.load(
        data_folder / "imagery" / "causalimages_uganda" / "images_327x35x35x3_uint8.npz"
    ) as file:
        names = list(file)
    assert names
    table = pd.read_parquet(run / "tables" / "embedding_pixel_stats.parquet")
    people = pd.read_csv(dataset_path("uganda-tutorial", "observations.csv"))
    assert set(people["image_key"].astype(str)) == set(table["image_key"])


@pytest.mark.parametrize("change", ["data.scenes.period=[2018-04, 2018-04]"])
def test_landsat_8_in_a_month_of_clouds(data_folder, tmp_path, change):
    results, chip_set, _ = study("landsat8_new_york", tmp_path, change)
    assert results["chips"]["n_slots"] == 1
    months = chip_set.chips["datetime"].to_numpy().astype("datetime64[M]")
    assert set(months[~np.isnat(months)]) == {np.datetime64("2018-04")}
    quality = chip_set.files[chip_set.files["file"].str.contains("BQA")]
    assert quality["cloud"].sum() > 0
    assert results["chips"]["n_failed_reads"] == 0
