"""Chips and embeddings from scenes on disk to the page, judged by what was simulated."""

import json
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from commands import EMBED, command

from eo_causal.core.storage import read_value
from eo_causal.ingest.chips import ChipSet
from eo_causal.report.results import read_schema
from eo_causal.simulate.scenes import BANDS, NORTH, PIXEL, WEST, SceneSettings, simulate_country

SEED = 20260307


@pytest.fixture(scope="module")
def results(embed_run):
    return json.loads((embed_run / "results.json").read_text())


@pytest.fixture(scope="module")
def chip_set(embed_run):
    (folder,) = (embed_run / "stages").glob("chips-*")
    return read_value(ChipSet, folder)


@pytest.fixture(scope="module")
def country():
    return simulate_country(SceneSettings(), SEED)


def test_results_satisfy_the_schema_of_all_pipelines(results):
    jsonschema.validate(results, read_schema())
    assert results["chips"]["n_chips"] == 240
    assert results["chips"]["bands"] == list(BANDS)
    assert results["chips"]["n_failed_reads"] == 0


def test_every_pixel_is_the_simulated_one_or_hidden(chip_set, country):
    chips = chip_set.chips.compute()
    dates = country.dates.to_numpy().astype("datetime64[D]")
    hidden = np.stack([_grown(cloudy) for cloudy in country.cloudy])
    for unit in range(0, chips.sizes["unit"], 7):
        left = round((float(chips["centre_easting"][unit]) - WEST) / PIXEL) - 16
        top = round((NORTH - float(chips["centre_northing"][unit])) / PIXEL) - 16
        window = np.s_[..., top : top + 32, left : left + 32]
        for slot in range(chips.sizes["time"]):
            time = chips["datetime"].to_numpy()[unit, slot]
            found = chips.to_numpy()[unit, slot]
            if np.isnat(time):
                assert np.isnan(found).all()
                continue
            date = int(np.flatnonzero(dates == time.astype("datetime64[D]"))[0])
            np.testing.assert_array_equal(np.isnan(found).all(axis=0), hidden[date][window])
            seen = ~np.isnan(found)
            truth = country.images[date][window]
            np.testing.assert_allclose(found[seen], truth[seen], atol=2.75e-5)


def _grown(cloudy):
    """Clouds with the margin of one pixel the demo asks for; two pixels of each scene are fill."""
    from scipy.ndimage import binary_dilation

    grown = binary_dilation(cloudy, np.ones((3, 3)))
    grown[:2, :2] = grown[:2, 320:322] = True
    return grown


def test_embeddings_hold_what_makes_places_rich(embed_run, results):
    table = pd.read_parquet(embed_run / "tables" / "embedding_pixel_stats.parquet")
    assert len(table) == 240
    assert "ndvi_mean_slope" in table.columns
    assert abs(results["embeddings"]["pixel_stats"]["correlation_with_outcome"]) > 0.6
    assert results["truth"]["share_of_variance_in_images"] == 0.8


def test_no_coordinate_of_a_place_leaves_the_cache(embed_run, country):
    """Five digits of a longitude are a place within a metre."""
    digits = {f"{value:.5f}" for value in country.units["longitude"]}
    for path in embed_run.rglob("*"):
        if (
            path.is_file()
            and "stages" not in path.parts
            and path.suffix in (".json", ".html", ".csv")
        ):
            text = path.read_text()
            assert not any(number in text for number in digits), path


def test_the_page_is_self_contained(embed_run, results):
    page = (embed_run / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page
    assert results["headline"][0] in page
    assert "None: every file that was needed was read." in page


def test_a_run_again_computes_nothing(embed_run, tmp_path):
    arguments = ("run", EMBED, "--out", embed_run)
    assert command(*arguments, folder=tmp_path).code == 0
    stages = json.loads((embed_run / "manifest.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)


def test_ready_made_chips_are_a_source_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 3, 20, 20)).astype(np.uint8)
    xr.Dataset(
        {"reflectance": (("key", "band", "y", "x"), images)},
        coords={"key": np.arange(12) + 5, "longitude": ("key", np.full(12, 33.0)),
                "latitude": ("key", np.linspace(0, 1, 12))},
    ).to_netcdf(tmp_path / "chips.nc")  # fmt: skip
    (tmp_path / "ready.yaml").write_text(
        "pipeline: embed\n"
        "data: {chips: {file: chips.nc, date: '2000', resolution_m: 14.25, size_pixels: 16}}\n"
        "encoders: {stats: {name: pixel_stats}}\n"
    )
    done = command("run", tmp_path / "ready.yaml", folder=tmp_path)
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "runs" / "ready" / "tables" / "embedding_stats.csv")
    expected = images[:, 0, 2:18, 2:18].mean(axis=(1, 2))
    np.testing.assert_allclose(table["band_1_mean"], expected, rtol=1e-6)
    assert table["unit_id"].tolist() == list(range(5, 17))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {}", "give `scenes` .images to cut. or `chips`"),
        ("data: {scenes: {files: [a.tif]}}", "name their `file` or a `grid`"),
        (
            "data: {scenes: {files: [a.tif]}}\nunits: {file: u.csv}\nreport: {outcome: w}",
            "not among",
        ),
        ("data: {scenes: {files: [none.tif]}}\nunits: {file: u.csv}", "matches none"),
    ],
)
def test_configs_that_cannot_work_are_refused(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    (tmp_path / "u.csv").write_text("unit_id,longitude,latitude\na,33.0,0.5\n")
    path.write_text(f"pipeline: embed\n{text}\nencoders: {{stats: {{name: pixel_stats}}}}\n")
    done = command("run", path, folder=tmp_path)
    assert done.code == 2
    assert re.search(words, done.err), done.err
    assert not (tmp_path / "runs" / "bad" / "results.json").exists()


def test_a_table_of_places_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "lost.yaml"
    path.write_text(
        "pipeline: embed\ndata: {scenes: {files: [none.tif]}}\nunits: {file: lost.csv}\n"
        "encoders: {stats: {name: pixel_stats}}\n"
    )
    done = command("run", path, folder=tmp_path)
    assert done.code == 3
    assert "lost.csv: there is no such file" in done.err
