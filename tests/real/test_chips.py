"""Chips of real imagery through the catalog, against values computed from the files by other means."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from pyproj import Transformer
from scene_files import padded_window

from eo_causal.core.sources import InputFiles
from eo_causal.errors import DataError, EOCausalWarning, GeorefError
from eo_causal.ingest.catalog import CatalogSettings, catalog_paths, read_catalog
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import cut_chips, in_order
from eo_causal.ingest.datasets import dataset_path


@pytest.fixture
def read(data_folder):
    """The catalog of a named data set."""

    def run(source):
        chosen = CatalogSettings(**source)
        try:
            names = tuple(map(str, catalog_paths(chosen)))
        except DataError as error:
            pytest.skip(error.message)
        return read_catalog(InputFiles(names, ("",) * len(names)), chosen)

    return run


@pytest.fixture
def cut(tmp_path):
    """Chips of a catalog at places in degrees, in the order of the places."""

    def run(catalog, longitude, latitude, **settings):
        ids = [f"u{number}" for number in range(len(longitude))]
        units = geopandas.GeoDataFrame(
            {"unit_id": ids, "image_key": ids},
            geometry=geopandas.points_from_xy(longitude, latitude), crs="EPSG:4326",
        )  # fmt: skip
        result = cut_chips(catalog, units, ChipSettings(**settings), folder=tmp_path / "out")
        return in_order(result.chips, ids).load(), result

    return run


def degrees(easting, northing, crs):
    there = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return there.transform(np.asarray(easting, float), np.asarray(northing, float))


def open_bands(name, file):
    """All bands as float32 with NaN for nodata, and the transform."""
    with rasterio.open(dataset_path(name, file)) as source:
        values = source.read().astype(np.float32)
        if source.nodata is not None:
            values[values == source.nodata] = np.nan
        return values, source.transform


NAIP = {
    "dataset": "naip-north-dakota", "files": ("*.tif",), "product": "naip",
    "pattern": r".*_(?P<date>\d{8})\.tif", "band_names": ("red", "green", "blue", "nir"),
}  # fmt: skip


def test_aerial_photographs_are_snapped_onto_the_grid_of_the_first(read, cut):
    """Five dates of four origins: the second is 2 m and 0.4 pixels south of the first."""
    random = np.random.default_rng(0)
    rows, columns = random.integers(20, 690, 25), random.integers(20, 900, 25)
    place = degrees(485_902.5 + 5 * columns, 5_209_244.5 - 5 * rows, "EPSG:26914")
    chips, _ = cut(read(NAIP), *place, size_pixels=32)
    assert chips.shape == (25, 5, 4, 32, 32)
    assert chips.attrs["largest_snap_pixels"] == pytest.approx(0.4)
    years = np.unique(chips["datetime"].values.astype("datetime64[Y]").astype(int) + 1970)
    assert years.tolist() == [2009, 2012, 2015, 2018, 2020]
    for slot, date in enumerate(["20090818", "20120731", "20150926", "20180716", "20200831"]):
        values, grid = open_bands("naip-north-dakota", f"m_4709963_se_14_1_{date}.tif")
        down = round((grid.f - 5_209_247) / 5)
        right = round((485_900 - grid.c) / 5)
        expected = np.stack(
            [padded_window(values, row + down, column + right, 32)
             for row, column in zip(rows, columns, strict=True)]
        )  # fmt: skip
        np.testing.assert_array_equal(chips.values[:, slot], expected)


def test_a_shift_beyond_what_is_allowed_is_an_error(read, cut):
    place = degrees([487_000], [5_208_000], "EPSG:26914")
    with pytest.raises(GeorefError, match=r"shifted by 0\.40 pixels .* \(max_snap 0\.3\)"):
        cut(read(NAIP), *place, max_snap=0.3)


def test_eight_slots_of_yearly_composites(read, cut):
    source = {
        "dataset": "landsat-pucallpa", "files": ("*.tif",), "product": "rgb_composite",
        "pattern": r"(?P<date>\d{4})\.tif", "date_format": "%Y",
        "bands": ("swir1", "nir", "red", "green"),
    }  # fmt: skip
    random = np.random.default_rng(1)
    rows, columns = random.integers(0, 377, 20), random.integers(0, 697, 20)
    values, grid = open_bands("landsat-pucallpa", "1985.tif")
    place = grid.c + (columns + 0.5) * grid.a, grid.f + (rows + 0.5) * grid.e
    chips, _ = cut(read(source), *place, size_pixels=24, min_valid_fraction=0)
    assert chips.shape == (20, 8, 4, 24, 24)
    years = chips["datetime"].values.astype("datetime64[Y]").astype(int) + 1970
    assert years[0].tolist() == [1985, 1990, 1995, 2000, 2005, 2010, 2015, 2020]
    for slot, year in enumerate(years[0]):
        values, _ = open_bands("landsat-pucallpa", f"{year}.tif")
        expected = np.stack(
            [padded_window(values, *where, 24) for where in zip(rows, columns, strict=True)]
        )
        np.testing.assert_array_equal(chips.values[:, slot], expected)


NEW_YORK = {
    "dataset": "landsat8-new-york", "files": ("*.TIF",), "product": "landsat_c1_l1",
    "pattern": r"(?P<item>LC08_L1TP_\d{6}_(?P<date>\d{8}))_(?P<band>B\w+)\.TIF",
    "bands": ("B4", "B5"), "quality_band": "BQA",
}  # fmt: skip


def clear_values(folder, x, y):
    """B4 and B5 (band, place) at places of UTM zone 18, NaN unless BQA calls them clear."""
    found = []
    for band in ("BQA", "B4", "B5"):
        with rasterio.open(next(folder.glob(f"*_{band}.TIF"))) as source:
            raw, grid = source.read(1), source.transform
        column, row = np.floor((x - grid.c) / grid.a), np.floor((y - grid.f) / grid.e)
        inside = (row >= 0) & (row < raw.shape[0]) & (column >= 0) & (column < raw.shape[1])
        at = np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)
        found.append(np.where(inside, raw[at], 1).astype(int))
    codes = found[0]
    bad = (codes & 1) | (codes >> 4 & 1)
    for bit in (7, 9, 11):
        bad |= (codes >> bit & 3) == 3
    values = np.stack(found[1:]).astype(float)
    values[:, bad.astype(bool)] = np.nan
    values[values == 0] = np.nan
    return values


def test_monthly_composites_of_19_scenes_of_three_tiles(read, cut):
    """Thumbnails of 3 km whose pixels differ in size, so that only a local grid joins them."""
    place = degrees([560_000, 520_000, 590_000], [4_500_000, 4_560_000, 4_640_000], "EPSG:32618")
    catalog = read(NEW_YORK)
    with pytest.raises(GeorefError, match="grid: local"):
        cut(catalog, *place)
    chips, result = cut(
        catalog, *place, size_pixels=16, grid="local", resolution_m=3000, resampling="nearest",
        time="periods", period="month", min_valid_fraction=0.0,
    )  # fmt: skip
    assert chips.sizes["time"] == 12
    assert len(result.files) == 19 * 3
    root = dataset_path("landsat8-new-york")
    scenes = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        scenes.setdefault(int(folder.name.split("_")[3][4:6]), []).append(folder)
    checked = 0
    for chip in chips:
        x, y = np.meshgrid(
            float(chip["centre_easting"]) + chip["x"], float(chip["centre_northing"]) + chip["y"]
        )
        for month, folders in scenes.items():
            stack = np.stack([clear_values(folder, x, y) for folder in folders])
            expected = pd.DataFrame(stack.reshape(len(folders), -1)).median().to_numpy()
            expected = expected.reshape(2, 16, 16).astype(np.float32)
            both = np.isfinite(expected).all(axis=0)
            found = chip.values[month - 1]
            np.testing.assert_array_equal(np.isfinite(found).all(axis=0), both)
            np.testing.assert_array_equal(found[:, both], expected[:, both])
            checked += int(both.sum())
    assert checked > 2000
    absent = sorted(set(range(1, 13)) - set(scenes))
    assert np.isnan(chips.values[:, [month - 1 for month in absent]]).all()


def test_vegetation_index_on_a_sinusoidal_grid(read, cut):
    source = {
        "dataset": "mod13q1-sinop", "files": ("*.jp2",), "bands": ("ndvi",), "product": "mod13q1",
        "pattern": r"TERRA_MODIS_012010_NDVI_(?P<date>[\d-]+)\.jp2", "date_format": "%Y-%m-%d",
    }  # fmt: skip
    files = sorted(dataset_path("mod13q1-sinop").glob("*.jp2"))
    rows, columns = np.array([0, 70, 146, 33]), np.array([5, 120, 254, 200])
    with rasterio.open(files[0]) as first:
        crs, grid = first.crs.to_wkt(), first.transform
    place = degrees(grid.c + (columns + 0.5) * grid.a, grid.f + (rows + 0.5) * grid.e, crs)
    chips, result = cut(read(source), *place, size_m=4000, min_valid_fraction=0)
    assert chips.shape == (4, 12, 1, 17, 17)
    assert chips["unit_crs"].values[0].startswith("PROJCRS")
    for slot, file in enumerate(files):
        with rasterio.open(file) as opened:
            raw = opened.read()
        usable = (raw >= -2000) & (raw <= 10_000)
        values = np.where(usable, raw.astype(np.float32) * np.float32(1e-4), np.nan)
        expected = [padded_window(values, *where, 17) for where in zip(rows, columns, strict=True)]
        np.testing.assert_array_equal(chips.values[:, slot], np.stack(expected))
    assert set(chips["unit_id"].values) == {"u0", "u1", "u2", "u3"}
    assert result.files["windows"].tolist() == [4] * 12


def test_patches_of_eleven_zones_on_local_grids(read, cut):
    """Their corners lie at odd multiples of 5 m: a pixel of the local grid is the mean of four."""
    names = tuple(f"b{number}" for number in range(1, 13))
    source = {
        "dataset": "sentinel2-patches", "files": ("*.tif",), "date": "2021-06-01",
        "band_names": names, "product": "sentinel2_l2a", "baseline": "03.00",
    }  # fmt: skip
    files = sorted(path.name for path in dataset_path("sentinel2-patches").glob("*.tif"))
    places, patches = [], []
    for file in files:
        with rasterio.open(dataset_path("sentinel2-patches", file)) as opened:
            grid, raw = opened.transform, opened.read()
            places.append(degrees(grid.c + 1000, grid.f - 1500, opened.crs))
            patches.append((grid, np.where(raw == 0, np.nan, raw * 1e-4), opened.crs.to_epsg()))
    longitude, latitude = np.array(places).T
    chips, _ = cut(read(source), longitude, latitude, size_pixels=64, grid="local", resolution_m=10)
    assert chips.shape == (12, 1, 12, 64, 64)
    assert len(set(chips["unit_crs"].values)) == 11
    for chip, (grid, values, code) in zip(chips, patches, strict=True):
        assert str(chip["unit_crs"].values) == f"EPSG:{code}"
        column = (float(chip["centre_easting"]) - 320 - grid.c) / 10 - 0.5
        row = (grid.f - float(chip["centre_northing"]) - 320) / 10 - 0.5
        assert (column % 1, row % 1) == (0, 0)
        part = values[:, int(row) : int(row) + 65, int(column) : int(column) + 65]
        mean = (part[:, :-1, :-1] + part[:, 1:, :-1] + part[:, :-1, 1:] + part[:, 1:, 1:]) / 4
        assert np.isfinite(mean).all()
        np.testing.assert_allclose(chip.values[0], mean, rtol=2e-6)


def test_irregular_dates_of_a_stack_with_its_own_mask(read, cut, monkeypatch, tmp_path):
    monkeypatch.setenv("EO_CAUSAL_CACHE", str(tmp_path / "cache"))
    bands = ("blue", "green", "red", "nir", "swir1", "swir2", "thermal")
    source = {
        "dataset": "landsat-colorado", "files": ("*.tar.gz",), "date_format": "%Y%j", "bands": bands,
        "pattern": r"(?P<item>L\w\d{7}(?P<date>\d{7})\w{5})_stack\.gtif", "quality_band": "fmask",
    }  # fmt: skip
    with pytest.warns(EOCausalWarning) as caught:  # noqa: PT031
        catalog = read(source)
        files = sorted({Path(href) for href in catalog.loc[catalog["status"] == "ok", "href"]})
        with rasterio.open(files[0]) as first:
            grid, shape, crs = first.transform, first.shape, first.crs
        place = degrees([grid.c + (shape[1] // 2 + 0.5) * grid.a],
                        [grid.f + (shape[0] // 2 + 0.5) * grid.e], crs)  # fmt: skip
        chips, result = cut(catalog, *place, size_pixels=5, min_valid_fraction=0.6)
    assert {warning.message.code for warning in caught} <= {"DateWarning", "SidecarWarning"}
    times = catalog.drop_duplicates("href").set_index("href")["datetime"]
    kept = {}
    for file in files:
        with rasterio.open(file) as opened:
            raw = opened.read()
            values = raw[:7].astype(np.float32)
            if opened.nodata is not None:
                values[values == opened.nodata] = np.nan
        values[:, ~np.isin(raw[7], (0, 1))] = np.nan
        share = np.isfinite(values).all(axis=0).mean()
        if share >= 0.6:
            kept[pd.Timestamp(times[str(file)])] = (share, values)
    dates = sorted(kept)
    found = chips["datetime"].values[0]
    assert found[~np.isnat(found)].tolist() == [np.datetime64(date, "ns").item() for date in dates]
    np.testing.assert_array_equal(
        chips.values[0, : len(dates)], np.stack([kept[date][1] for date in dates])
    )
    np.testing.assert_allclose(
        chips["valid_fraction"].values[0, : len(dates)], [kept[date][0] for date in dates]
    )
    assert np.isnan(chips.values[0, len(dates) :]).all()
    assert 150 < len(dates) < 447
    assert (np.diff(chips["fractional_year"].values[0, : len(dates)]) > 0).all()
    assert result.failures.empty
