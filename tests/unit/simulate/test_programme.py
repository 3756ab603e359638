"""The randomised programme that a demo simulates: what its effect follows, and who can see that."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from eo_causal.errors import ConfigError
from eo_causal.simulate.aid import greenness
from eo_causal.simulate.programme import (
    LAND_COVER,
    ProgrammeSettings,
    draw_programme,
    read_programme_truth,
    write_programme,
)
from eo_causal.simulate.scenes import CRS, NORTH, PIXEL, WEST, SceneSettings

COUNTRY = SceneSettings(
    rows=320, columns=480, cloud=0.0, dates=("2005-07-03", "2008-01-10", "2011-07-03", "2013-07-03")
)
SETTINGS = ProgrammeSettings(country=COUNTRY, n_places=100, n_elsewhere=40, n_other_kind=20)
HALF = SETTINGS.chip_pixels // 2


@pytest.fixture(scope="module")
def programme():
    return draw_programme(SETTINGS, 5)


def chip_means(image, table):
    """Means of the chips around the places of a table, found by their coordinates."""
    return np.array(
        [image[r - HALF : r + HALF, c - HALF : c + HALF].mean() for r, c in pixels(table)]
    )


def pixels(table):
    from pyproj import Transformer

    to_metres = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    easting, northing = to_metres.transform(table["longitude"], table["latitude"])
    return np.round(np.stack([NORTH - northing, easting - WEST], axis=1) / PIXEL).astype(int)


def test_the_effect_is_the_change_of_greenness_before_the_programme(programme):
    green = greenness(programme.country.images)
    places = programme.units.drop_duplicates("place_id")
    change = chip_means(green[2] - green[0], places)
    seen = (change - change.mean()) / change.std()
    np.testing.assert_allclose(places["effect"], 0.4 + 0.5 * seen, atol=1e-6)
    outside = (chip_means(green[2] - green[0], programme.elsewhere) - change.mean()) / change.std()
    np.testing.assert_allclose(programme.elsewhere["effect"], 0.4 + 0.5 * outside, atol=1e-6)


def test_the_last_image_alone_says_little_of_the_effect(programme):
    level = chip_means(greenness(programme.country.images[2]), programme.units)
    assert abs(np.corrcoef(level, programme.units["effect"])[0, 1]) < 0.2


def test_the_outcome_is_made_of_effect_level_and_schooling():
    alone = SETTINGS.model_copy(update={"n_places": 80, "n_elsewhere": 0})
    tables = [draw_programme(alone, seed) for seed in (5, 8)]
    rows = []
    for found in tables:
        level = chip_means(greenness(found.country.images[2]), found.units)
        centre = level[~found.units["place_id"].duplicated()]
        rows.append(found.units.assign(level=(level - centre.mean()) / centre.std()))
    units = pd.concat(rows)
    design = np.column_stack([
        np.ones(len(units)), units["effect"] * units["offered"], units["level"], units["schooling"],
    ])  # fmt: skip
    found, rest, _, _ = np.linalg.lstsq(design, units["outcome"], rcond=None)
    np.testing.assert_allclose(found, [0, 1, 0.4, 0.3], atol=0.12)
    assert np.sqrt(rest[0] / len(units)) == pytest.approx(np.hypot(0.3, 0.7), abs=0.05)


def test_whole_places_are_drawn(programme):
    by_place = programme.units.groupby("place_id")
    assert (by_place["offered"].nunique() == 1).all()
    assert set(by_place.size()) == {1, 2, 3}
    assert by_place["offered"].first().mean() == pytest.approx(0.5, abs=0.12)


def test_chips_of_the_trial_do_not_overlap_and_lie_in_the_west(programme):
    places = pixels(programme.units.drop_duplicates("place_id"))
    apart = np.abs(places[:, None] - places[None]).max(axis=2)
    assert apart[~np.eye(len(places), dtype=bool)].min() >= SETTINGS.chip_pixels
    border = 0.6 * COUNTRY.columns
    assert places[:, 1].max() + HALF <= border
    assert pixels(programme.elsewhere)[:, 1].min() - HALF >= int(border)


def test_places_of_another_kind_look_like_no_place_of_the_trial(programme):
    """Greenness of the darkest chip of the trial against the greenest of the other kind."""
    green = greenness(programme.country.images[2])
    other = programme.elsewhere[programme.elsewhere["kind"] != "same"]
    assert len(other) == 20
    assert set(other["kind"]) == {"water", "town"}
    assert chip_means(green, other).max() < chip_means(green, programme.units).min() - 0.05
    same = programme.elsewhere.drop(other.index)
    gap = chip_means(green, same).mean() - chip_means(green, programme.units).mean()
    assert abs(gap) < 0.1


def test_land_cover_is_the_countrys_own(programme):
    names = {name: code for code, name in LAND_COVER.items()}
    built_or_wet = np.isin(programme.land_cover, [names["town"], names["water"]]) + 0.0
    assert chip_means(built_or_wet, programme.units).max() < 0.15
    other = programme.elsewhere[programme.elsewhere["kind"] != "same"]
    for kind, table in other.groupby("kind"):
        share = chip_means((programme.land_cover == names[kind]) + 0.0, table)
        assert share.mean() > 0.6
    assert chip_means(built_or_wet, other).min() > 0.6


def test_the_evaluator_gets_files_without_the_truth(tmp_path):
    import rasterio

    settings = SETTINGS.model_copy(update={"n_places": 40, "n_elsewhere": 12, "n_other_kind": 4})
    write_programme(settings, seed=5, folder=tmp_path)
    truth = read_programme_truth(tmp_path)
    units, elsewhere = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("units", "elsewhere"))
    assert list(elsewhere) == ["place_id", "longitude", "latitude", "area"]
    assert not {"effect", "kind"} & set(units)
    assert list(truth["effects"]) == list(units["unit_id"])
    assert truth["ate"] == pytest.approx(np.mean(list(truth["effects"].values())))
    assert list(truth["elsewhere_effects"]) == list(truth["kinds"]) == list(elsewhere["place_id"])
    assert set(elsewhere["area"]) == {"north-east", "south-east"}
    assert len(list((tmp_path / "scenes").glob("*.TIF"))) == 4 * 2 * 5
    classes = pd.read_csv(tmp_path / "land_cover_classes.csv").set_index("code")["class"].to_dict()
    with rasterio.open(tmp_path / "land_cover.tif") as file:
        codes, place = file.read(1), file.transform
    assert classes == LAND_COVER
    assert codes.shape == (320, 480)
    assert set(np.unique(codes)) == set(LAND_COVER)
    assert (place.c, place.f, place.a, place.e) == (WEST, NORTH, PIXEL, -PIXEL)


def test_clouds_hide_the_land_and_change_nothing_else(programme):
    hidden = draw_programme(
        SETTINGS.model_copy(update={"country": COUNTRY.model_copy(update={"cloud": 0.2})}), 5
    )
    pd.testing.assert_frame_equal(hidden.units, programme.units)
    cloudy = hidden.country.cloudy
    assert cloudy.any()
    clear, seen = (np.moveaxis(found.country.images, 1, -1) for found in (programme, hidden))
    np.testing.assert_array_equal(seen[~cloudy], clear[~cloudy])
    assert (seen[cloudy] > 0.4).all()


def test_a_country_without_room_is_refused():
    crowded = SETTINGS.model_copy(update={"n_places": 4000})
    with pytest.raises(ConfigError, match=r"room for \d+ of 4000 places. Lower n_places"):
        draw_programme(crowded, 5)


def test_a_change_needs_two_dates_before_the_programme():
    late = SETTINGS.model_copy(update={"treatment_start": "2006-01-01"})
    with pytest.raises(ConfigError, match=r"has 1 date\(s\) before 2006-01-01"):
        draw_programme(late, 5)


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="n_villages"):
        ProgrammeSettings(n_villages=3)
