"""The aid programme that a demo simulates: who is chosen, what it does, what the images show."""

import json

import numpy as np
import pandas as pd
import pytest

from eo_causal.simulate.aid import AidSettings, draw_villages, write_aid_country
from eo_causal.simulate.scenes import BANDS, SceneSettings, simulate_country

COUNTRY = SceneSettings(rows=200, columns=200, cloud=0.0, dates=("2010-06-24", "2015-07-08"))
SETTINGS = AidSettings(country=COUNTRY, n_units=3000)


@pytest.fixture(scope="module")
def country():
    return simulate_country(COUNTRY, 5)


@pytest.fixture(scope="module")
def villages(country):
    table, places = draw_villages(SETTINGS, 5)
    half = SETTINGS.chip_pixels // 2
    red, nir = (country.images[0, BANDS.index(name)].astype(float) for name in ("red", "nir"))
    green = (nir - red) / (nir + red)
    level = np.array([green[r - half : r + half, c - half : c + half].mean() for r, c in places])
    return table.assign(seen=(level.mean() - level) / level.std())


def coefficient(villages, outcome, columns):
    design = np.column_stack([np.ones(len(villages)), villages[["project", *columns]]])
    return np.linalg.lstsq(design, villages[outcome], rcond=None)[0][1]


def test_the_effect_is_there_once_greenness_and_schooling_are_held_fixed(villages):
    assert coefficient(villages, "outcome", ["seen", "schooling"]) == pytest.approx(0.5, abs=0.06)
    assert coefficient(villages, "old_outcome", ["seen", "schooling"]) == pytest.approx(0, abs=0.06)


def test_without_the_images_the_programme_looks_far_better(villages):
    assert coefficient(villages, "outcome", []) > 1.2
    assert coefficient(villages, "outcome", ["schooling"]) > 1.0


def test_only_scenes_since_the_programme_show_its_buildings(tmp_path):
    import rasterio

    settings = SETTINGS.model_copy(update={"n_units": 60})
    write_aid_country(settings, seed=5, folder=tmp_path)
    villages, places = draw_villages(settings, 5)
    row, column = next(
        place for place, w in zip(places, villages["project"], strict=True) if w and place[1] < 98
    )
    for date, shown in (("20100624", False), ("20150708", True)):
        (path,) = (tmp_path / "scenes").glob(f"*170060_{date}_02_T1_red.TIF")
        with rasterio.open(path) as scene:
            found = scene.read(1)[row, column] * 2.75e-5 - 0.2
        assert (found == pytest.approx(0.22 * 1.3, abs=1e-4)) == shown
    table = pd.read_csv(tmp_path / "villages.csv")
    assert table["project"].sum() == villages["project"].sum()
    assert json.loads((tmp_path / "truth.json").read_text())["ate"] == 0.5
