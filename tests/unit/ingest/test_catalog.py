"""Catalogs of files: names, dates, bands, filters, duplicates and refusals, on rasters made here."""

import numpy as np
import pandas as pd
import pytest
import rasterio
from pydantic import ValidationError
from rasterio.transform import from_origin

from eo_causal.core.progress import counting
from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.errors import (
    ConfigError,
    CoverageError,
    DataError,
    EOCausalWarning,
    IntegrityError,
    ReadError,
    TimeAxisError,
    UnsafeSourceError,
)
from eo_causal.ingest import catalog
from eo_causal.ingest.catalog import CatalogSettings, catalog_paths, read_catalog

YEARLY = {"pattern": r"(?P<date>\d{4})\.tif", "date_format": "%Y"}
LANDSAT = {"pattern": r"(?P<item>LC08_\d{6}_(?P<date>\d{8}))_(?P<band>B\w+)\.TIF"}


@pytest.fixture
def write(tmp_path):
    """Write a small GeoTIFF in UTM zone 36 south; returns its path."""

    def make(name, n_bands=1, value=7, descriptions=(), **profile):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = {"count": n_bands, "height": 20, "width": 30, "dtype": "uint16"}
        place = {"crs": "EPSG:32736", "transform": from_origin(500_000, 9_800_000, 10, 10)}
        with rasterio.open(path, "w", **shape | place | profile, driver="GTiff") as target:
            target.write(np.full((n_bands, 20, 30), value, np.uint16))
            for number, text in enumerate(descriptions, start=1):
                target.set_band_description(number, text)
        return path

    return make


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a catalog of patterns below the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EO_CAUSAL_CACHE", str(tmp_path / "cache"))

    def run(*files, sha256=None, **settings):
        chosen = CatalogSettings(files=files or ("**/*.tif",), **settings)
        paths = catalog_paths(chosen)
        hashes = tuple((sha256 or {}).get(path.name, "") for path in paths)
        return read_catalog(InputFiles(tuple(map(str, paths)), hashes), chosen)

    return run


def test_a_multi_band_file_gives_a_row_per_band(write, read):
    path = write("a/1990.tif", n_bands=3, nodata=0)
    table = read(**YEARLY, bands=("red", "green", "blue"), sha256={"1990.tif": "ab"})
    assert list(table["band"]) == ["red", "green", "blue"]
    assert list(table["band_index"]) == [1, 2, 3]
    first = table.iloc[0]
    assert first["datetime"] == pd.Timestamp("1990-01-01")
    assert (first["item_id"], first["href"], first["sha256"]) == ("1990", str(path), "ab")
    assert (first["rows"], first["columns"], first["bytes"]) == (20, 30, path.stat().st_size)
    assert first["transform"] == (10, 0, 500_000, 0, -10, 9_800_000)
    assert (first["nodata"], first["scale"], first["offset"]) == (0, 1, 0)
    assert (first["west"], first["north"]) == pytest.approx((33.0, -1.8095), abs=1e-4)
    assert "32736" in first["crs"]


def test_files_of_one_band_join_to_a_scene_and_unwanted_bands_keep_their_reason(write, read):
    for band in ("B4", "B5", "BQA"):
        write(f"LC08_013032_20180131_{band}.TIF")
    with counting() as counts:
        table = read("*.TIF", **LANDSAT, bands=("B4",), quality_band="BQA")
    assert table.set_index("band")["role"].to_dict() == {
        "B4": "data",
        "B5": "data",
        "BQA": "quality",
    }
    assert table.set_index("band")["status"].to_dict() == {
        "B4": "ok", "B5": "outside", "BQA": "ok",
    }  # fmt: skip
    assert set(table["item_id"]) == {"LC08_013032_20180131"}
    assert counts == {"scenes_used": 1, "bands_used": 2, "bands_outside": 1}


def test_a_scene_without_a_wanted_band_is_said_to_miss_it(write, read):
    write("LC08_013032_20180131_B4.TIF")
    write("LC08_013032_20180216_B4.TIF")
    write("LC08_013032_20180131_BQA.TIF")
    chosen = {**LANDSAT, "bands": ("B4",), "quality_band": "BQA"}
    with pytest.raises(DataError, match="LC08_013032_20180216: has no band BQA"):
        read("*.TIF", **chosen)
    table = read("*.TIF", **chosen, max_failed=0.5)
    [missing] = table[table["status"] == "missing"].itertuples()
    assert (missing.item_id, missing.band, missing.role) == (
        "LC08_013032_20180216", "BQA", "quality",
    )  # fmt: skip
    with pytest.raises(DataError, match="has no band BQA"):
        read("*.TIF", **LANDSAT, quality_band="BQA")


def test_names_that_do_not_match_are_refused_rows_in_name_order(write, read):
    for name in ("b/2000.tif", "a/2010.tif", "readme.tif"):
        write(name)
    table = read(**YEARLY)
    assert [href.rsplit("/", 1)[1] for href in table["href"]] == [
        "2000.tif", "2010.tif", "readme.tif",
    ]  # fmt: skip
    assert list(table["status"]) == ["ok", "ok", "refused"]
    assert table["reason"].iloc[2] == "the name does not match the pattern"


@pytest.mark.parametrize(
    ("name", "pattern", "date_format", "start", "end"),
    [
        ("x_20200229.tif", r"x_(?P<date>\d+)\.tif", "%Y%m%d", "2020-02-29", None),
        ("x_2020060.tif", r"x_(?P<date>\d+)\.tif", "%Y%j", "2020-02-29", None),
        ("x_2020-02-29.tif", r"x_(?P<date>[\d-]+)\.tif", "%Y-%m-%d", "2020-02-29", None),
        ("S20080012008031.tif", r"(?P<date>S\d+)\.tif", "SYYYYDDDYYYYDDD", "2008-01-01", "2008-01-31"),
        ("20190101_20191231.tif", r"(?P<date>[\d_]+)\.tif", "YYYYMMDD_YYYYMMDD", "2019-01-01", "2019-12-31"),
        ("2019_2021.tif", r"(?P<date>\d+)_(?P<date_end>\d+)\.tif", "%Y", "2019-01-01", "2021-01-01"),
    ],
)  # fmt: skip
def test_forms_of_dates(write, read, name, pattern, date_format, start, end):
    write(name)
    [row] = read(pattern=pattern, date_format=date_format).itertuples()
    assert row.datetime == pd.Timestamp(start)
    assert (row.datetime_end == pd.Timestamp(end)) if end else pd.isna(row.datetime_end)


@pytest.mark.parametrize("text", ["20201301", "20200230", "2020113", "00010101", "99991231"])
def test_dates_that_do_not_parse_are_refused_and_stop_the_run(write, read, text):
    write("x_20200101.tif")
    write(f"x_{text}.tif")
    pattern = r"x_(?P<date>\d+)\.tif"
    with pytest.raises(TimeAxisError, match=f"'{text}' is no date of the form %Y%m%d"):
        read(pattern=pattern)
    table = read(pattern=pattern, max_failed=0.5)
    assert sorted(table["status"]) == ["ok", "refused"]


def test_day_366_of_a_common_year_is_read_and_told(write, read):
    write("1999366.tif")
    with pytest.warns(EOCausalWarning, match="day 366 of a year of 365 days") as caught:
        [row] = read(pattern=r"(?P<date>\d{7})\.tif", date_format="%Y%j").itertuples()
    assert row.datetime == pd.Timestamp("2000-01-01")
    assert caught[0].message.code == "DateWarning"


def test_a_period_that_ends_before_it_begins_is_refused(write, read):
    write("20200101_20190101.tif")
    with pytest.raises(TimeAxisError, match="before it begins"):
        read(pattern=r"(?P<date>[\d_]+)\.tif", date_format="YYYYMMDD_YYYYMMDD")


def test_the_period_includes_both_ends_and_counts_the_middle_of_scenes(write, read):
    for name in ("20191231", "20200101", "20200331", "20200401", "20191201_20200301"):
        write(f"x{name}.tif")
    table = read(
        pattern=r"x(?P<date>\d{8})(_(?P<date_end>\d{8}))?\.tif", period=("2020-01", "2020-03")
    )
    told = dict(zip(table["item_id"], table["reason"], strict=True))
    assert told == {
        "x20191231": "before the period", "x20200101": "", "x20200331": "",
        "x20200401": "after the period", "x20191201_20200301": "",
    }  # fmt: skip


def test_an_empty_catalog_says_why_and_what_is_nearest(write, read):
    for name in ("1990", "1995"):
        write(f"{name}.tif")
    with pytest.raises(CoverageError) as caught:
        read(**YEARLY, period=("1996-01", "1999-12"))
    assert "2 before the period" in caught.value.message
    assert "1995-01-01, 365 days off the period" in caught.value.message
    assert caught.value.facts["reasons"] == {"before the period": 2}
    with pytest.raises(CoverageError, match=r"nearest scene lies 1\.8 degrees off the bounds"):
        read(**YEARLY, bounds=(33.0, -0.01, 33.1, 0.5))


def test_bounds_keep_what_they_touch(write, read):
    write("1990.tif")
    far = from_origin(600_000, 9_800_000, 10, 10)
    write("2000.tif", transform=far)
    table = read(**YEARLY, bounds=(33.0, -1.9, 33.5, -1.7))
    assert list(table["reason"]) == ["", "outside the bounds"]
    assert table["west"].notna().all()


def test_scenes_across_180_degrees_have_west_above_east(write, read):
    place = {"crs": "EPSG:4326", "transform": from_origin(179.9, 1, 0.01, 0.01)}
    write("1990.tif", **place)
    [row] = read(**YEARLY, bounds=(-180, 0, -179.95, 1)).itertuples()
    assert (row.west, row.east) == pytest.approx((179.9, -179.8))


def test_names_come_from_the_file_where_it_has_them(write, read):
    write("1990.tif", n_bands=3, descriptions=("red", "nir", "swir"))
    table = read(**YEARLY, bands=("swir", "red"))
    assert table.set_index("band")["status"].to_dict() == {
        "red": "ok", "nir": "outside", "swir": "ok",
    }  # fmt: skip
    assert list(read(**YEARLY)["band"]) == ["red", "nir", "swir"]


def test_useless_descriptions_give_way_to_numbers_and_to_names_of_the_config(write, read):
    write("1990.tif", n_bands=3, descriptions=("x", "x", "x"))
    assert list(read(**YEARLY)["band"]) == ["1", "2", "3"]
    chosen = read(**YEARLY, band_names=("a", "b", "c"), bands=("c",))
    assert chosen[chosen["status"] == "ok"]["band_index"].tolist() == [3]
    with pytest.raises(
        DataError, match=r"has 3 bands, the config names a, b\. Name each band once"
    ):
        read(**YEARLY, bands=("a", "b"))


def test_scale_and_offset_come_from_the_product_or_the_file(write, read):
    path = write("1990.tif")
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.5,), (3.0,)
    assert read(**YEARLY)[["scale", "offset"]].iloc[0].tolist() == [0.5, 3.0]
    landsat = read(**YEARLY, product="landsat_c2_l2")[["product", "scale", "offset"]]
    assert landsat.iloc[0].tolist() == ["landsat_c2_l2", 2.75e-5, -0.2]
    for baseline, applied, offset in (
        ("03.01", None, 0),
        ("04.00", None, -0.1),
        ("05.09", True, 0),
    ):
        chosen = {"product": "sentinel2_l2a", "baseline": baseline, "offset_applied": applied}
        assert read(**YEARLY, **chosen)["offset"].iloc[0] == pytest.approx(offset)
    with pytest.raises(DataError, match="the processing baseline of the scene is not known"):
        read(**YEARLY, product="sentinel2_l2a")


def test_unreadable_files_stop_the_run_beyond_max_failed(write, read, tmp_path):
    write("1990.tif")
    (tmp_path / "2000.tif").write_bytes(b"no raster")
    with pytest.raises(ReadError, match=r"1 of 2 wanted bands cannot be used, first: .*2000\.tif"):
        read(**YEARLY)
    with counting() as counts:
        table = read(**YEARLY, max_failed=0.5)
    assert list(table["status"]) == ["ok", "refused"]
    assert "begins with b'no r'" in table["reason"].iloc[1]
    assert counts["bands_refused"] == 1


def test_a_hash_beside_a_file_is_verified(write, read, tmp_path):
    write("1990.tif")
    (tmp_path / "1990.tif.sha256").write_text("00" * 32)
    with pytest.raises(IntegrityError, match="its sha256 is not"):
        read(**YEARLY)


def test_two_files_of_one_name(write, read):
    write("a/1990.tif")
    write("b/1990.tif")
    write("c/1990.tif", value=8)
    same = {"1990.tif": "ab"}
    table = read("a/*.tif", "b/*.tif", **YEARLY, sha256=same)
    assert list(table["status"]) == ["ok", "duplicate"]
    assert "a/1990.tif" in table["reason"].iloc[1]
    with pytest.raises(
        IntegrityError, match=r"c/1990\.tif: scene 1990, band 1 is also in .*a/1990"
    ):
        read("a/*.tif", "c/*.tif", **YEARLY)


def test_headers_are_read_once_until_the_file_changes(write, read, monkeypatch):
    path = write("1990.tif")
    opened = []
    header = catalog.read_image_header
    monkeypatch.setattr(
        catalog, "read_image_header", lambda *args: opened.append(args) or header(*args)
    )
    read(**YEARLY)
    read(**YEARLY)
    assert len(opened) == 1
    write("1990.tif", n_bands=2)
    assert path.exists()
    assert len(read(**YEARLY)) == 2
    assert len(opened) == 2


def test_nothing_outside_the_roots_is_opened(write, tmp_path):
    path = write("outside/1990.tif")
    root = tmp_path / "inside"
    root.mkdir()
    (root / "1990.tif").symlink_to(path)
    for name in (path, root / "1990.tif"):
        with pytest.raises(UnsafeSourceError, match="outside the folders a run may read"):
            read_catalog(
                InputFiles((str(name),), ("",)),
                CatalogSettings(files=("*.tif",), **YEARLY),
                policy=SourcePolicy((root,)),
            )


def test_virtual_paths_are_no_files(tmp_path):
    for name in ("/vsicurl/https://a.org/1990.tif", "NETCDF:1990.tif", "<VRTDataset/>"):
        with pytest.raises(UnsafeSourceError):
            read_catalog(
                InputFiles((name,), ("",)),
                CatalogSettings(files=("*",), **YEARLY),
                policy=SourcePolicy((tmp_path,)),
            )


def test_images_with_one_date_of_the_config_and_images_without_any(write, read):
    write("city.tif")
    assert read(date="2020-06-15")["datetime"].iloc[0] == pd.Timestamp("2020-06-15")
    assert read()["datetime"].isna().all()


def test_a_name_without_a_date_does_not_slip_through_a_period(write, read):
    write("x.tif")
    with pytest.raises(TimeAxisError, match=r"x\.tif: its name holds no date"):
        read(pattern=r"x(?P<date>\d{8})?\.tif", period=("2020-01", "2020-02"))


def test_patterns_that_match_nothing(read):
    with pytest.raises(ConfigError, match=r"'\*\.jp2' matches none of the files"):
        read("*.jp2")
    with pytest.raises(ConfigError, match="matches none of the data set landsat-pucallpa"):
        catalog_paths(CatalogSettings(files=("*.jp2",), dataset="landsat-pucallpa"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": r"(?P<day>\d+)"}, "groups day; known"),
        ({"pattern": r"(?P<band>B\d)"}, "needs a group `item`"),
        ({"period": ("2020-01", "2020-02")}, "`period` needs dates"),
        ({"date_format": "%m%d"}, "holds no year"),
        ({"product": "sentinel3"}, "known: generic"),
        ({"kind": "stac", "pattern": "x"}, "say their dates themselves"),
        ({"files": ()}, "at least 1"),
        ({"date": "2020-02-30"}, "day"),
        ({"max_cloud": 120}, "less than or equal to 100"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ValidationError, match=words):
        CatalogSettings(**{"files": ("*.tif",)} | settings)
