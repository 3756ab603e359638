"""Catalogs of real imagery: scenes, dates, quality bands and STAC items of real producers."""

from pathlib import Path

import pandas as pd
import pytest
from pyproj import CRS

from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.errors import DataError, EOCausalError, EOCausalWarning
from eo_causal.ingest.catalog import CatalogSettings, catalog_paths, read_catalog
from eo_causal.ingest.image import read_image
from eo_causal.ingest.image_header import read_image_header
from eo_causal.ingest.products import find_product
from eo_causal.ingest.quality import find_quality, quality_mask
from eo_causal.ingest.stac import read_items

LANDSAT8 = {
    "dataset": "landsat8-new-york", "files": ("*.TIF",), "product": "landsat_c1_l1",
    "pattern": r"(?P<item>LC08_L1TP_\d{6}_(?P<date>\d{8}))_(?P<band>B\w+)\.TIF",
    "bands": ("B4", "B5"), "quality_band": "BQA",
}  # fmt: skip
COLORADO = {
    "dataset": "landsat-colorado", "files": ("*.tar.gz",), "date_format": "%Y%j",
    "pattern": r"(?P<item>L\w\d{7}(?P<date>\d{7})\w{5})_stack\.gtif",
    "bands": ("blue", "green", "red", "nir", "swir1", "swir2", "thermal"), "quality_band": "fmask",
}  # fmt: skip
HOSTS = (
    "landsatlook.usgs.gov", "sentinel2l2a01.blob.core.windows.net",
    "sentinel-cogs.s3.us-west-2.amazonaws.com",
)  # fmt: skip


@pytest.fixture
def read(data_folder):
    def run(**settings):
        chosen = CatalogSettings(**settings)
        try:
            paths = catalog_paths(chosen)
        except DataError as error:
            pytest.skip(error.message)
        names = tuple(map(str, paths))
        return read_catalog(InputFiles(names, ("",) * len(names)), chosen)

    return run


def quality_counts(table, product):
    """Pixels per cause over all scenes of a catalog."""
    totals = {}
    for row in table[(table["role"] == "quality") & (table["status"] == "ok")].itertuples():
        header = read_image_header(Path(row.href))
        codes = read_image(header, find_product("land_cover"), bands=(row.band_index,)).values[0]
        for cause, number in quality_mask(
            codes, find_quality(None, row.band, product)
        ).counts.items():
            totals[cause] = totals.get(cause, 0) + number
    return totals


def test_landsat_collection_1(read):
    table = read(**LANDSAT8)
    used = table[table["status"] == "ok"]
    assert used["item_id"].nunique() == 19
    assert len(table) == 228
    assert set(table["status"]) == {"ok", "outside"}
    assert used[["rows", "columns"]].drop_duplicates().shape[0] == 2
    totals = quality_counts(table, "landsat_c1_l1")
    assert (sum(totals.values()), totals["fill"], totals["clear"]) == (112_882, 36_782, 55_593)
    with pytest.raises(DataError, match="landsat_c2_qa_pixel"):
        find_quality("landsat_c2_qa_pixel", "BQA", "landsat_c1_l1")


def colorado(read):
    table = read(**COLORADO)
    return table, quality_counts(table, "generic")


def test_447_irregular_dates_from_an_archive(read, monkeypatch, tmp_path):
    monkeypatch.setenv("EO_CAUSAL_CACHE", str(tmp_path))
    with pytest.warns(EOCausalWarning) as caught:
        table, totals = colorado(read)
    assert {warning.message.code for warning in caught} <= {"DateWarning", "SidecarWarning"}
    used = table[table["status"] == "ok"]
    dates = used["datetime"].drop_duplicates()
    assert len(dates) == 447
    assert (dates.min(), dates.max()) == (pd.Timestamp("1984-04-17"), pd.Timestamp("2013-05-27"))
    assert len(used) == 447 * 8
    assert used["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert set(table[table["status"] == "refused"]["reason"]) == {
        "the name does not match the pattern"
    }
    assert (sum(totals.values()), totals["clear"]) == (11_175, 6_072)


def test_yearly_composites_on_one_grid(read):
    table = read(
        dataset="landsat-pucallpa", files=("*.tif",), pattern=r"(?P<date>\d{4})\.tif",
        date_format="%Y", bands=("swir1", "nir", "red", "green"), product="rgb_composite",
        period=("1990-01", "2020-12"),
    )  # fmt: skip
    used = table[table["status"] == "ok"]
    assert used["datetime"].dt.year.drop_duplicates().tolist() == list(range(1990, 2021, 5))
    assert set(table[table["datetime"].dt.year == 1985]["reason"]) == {"before the period"}
    assert used[["transform", "rows", "columns", "crs"]].drop_duplicates().shape[0] == 1
    assert (used["nodata"] == 0).all()


def test_aerial_photographs_whose_grids_differ(read):
    table = read(
        dataset="naip-north-dakota", files=("*.tif",), pattern=r".*_(?P<date>\d{8})\.tif",
        bands=("red", "green", "blue", "nir"), product="naip",
    )  # fmt: skip
    assert table["datetime"].dt.strftime("%Y%m%d").drop_duplicates().tolist() == [
        "20090818", "20120731", "20150926", "20180716", "20200831",
    ]  # fmt: skip
    assert table["transform"].nunique() == 4
    assert set(table["rows"]) == {723, 724}


def test_jpeg_2000_in_a_sinusoidal_grid(read):
    table = read(
        dataset="mod13q1-sinop", files=("*.jp2",), bands=("ndvi",), product="mod13q1",
        pattern=r"TERRA_MODIS_012010_NDVI_(?P<date>[\d-]+)\.jp2", date_format="%Y-%m-%d",
        bounds=(-55.6, -11.7, -55.5, -11.6),
    )  # fmt: skip
    assert len(table) == 12
    assert set(table["status"]) == {"ok"}
    assert (table["scale"] == 1e-4).all()
    assert table["west"].iloc[0] == pytest.approx(-55.8026, abs=1e-4)
    assert "Sinusoidal" in table["crs"].iloc[0]


def test_patches_of_both_hemispheres_without_usable_names(read):
    names = tuple(f"B{number:02d}" for number in range(1, 13))
    table = read(
        dataset="sentinel2-patches", files=("*.tif",), date="2021-06-01", band_names=names,
        bands=("B02", "B03", "B04"), product="sentinel2_l2a", baseline="03.00",
    )  # fmt: skip
    used = table[table["status"] == "ok"]
    assert used["item_id"].nunique() == 12
    assert used["crs"].nunique() == 11
    assert (used["south"] < 0).any()
    assert (used["south"] > 0).any()
    assert used["band_index"].unique().tolist() == [2, 3, 4]


def items(data_folder, name):
    path = data_folder / "imagery" / "stac_items" / name
    if not path.exists():
        pytest.skip(f"{name} is absent")
    policy = SourcePolicy((data_folder,), HOSTS, lambda host: ["8.8.8.8"])
    return path, policy


@pytest.mark.parametrize(
    ("name", "n_bands", "epsg", "product", "baseline"),
    [
        ("LC08_L2SP_028030_20200114_20200824_02_T1_SR.json", 10, 32615, "landsat_c2_l2", None),
        ("LC08_L2SR_081119_20200101_20200823_02_T2.json", 10, 3031, "landsat_c2_l2", None),
        ("LE07_L2SP_044033_20210329_20210424_02_T1_SR.json", 10, 32610, "landsat_c2_l2", None),
        ("S2A_28QCH_20200714_0_L2A.json", 16, 32628, "sentinel2_l2a", "02.14"),
        ("S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json", 18, 32606,
         "sentinel2_l2a", "02.12"),
        ("S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json", 18, 32606,
         "sentinel2_l2a", "02.12"),
    ],
)  # fmt: skip
def test_items_of_producers_are_read(data_folder, name, n_bands, epsg, product, baseline):
    path, policy = items(data_folder, name)
    chosen = CatalogSettings(kind="stac", files=(name,), max_failed=0.2)
    table = read_catalog(InputFiles((str(path),), ("",)), chosen, policy=policy)
    assert len(table) == n_bands
    used = table[table["status"] == "ok"]
    assert {CRS.from_wkt(wkt).to_epsg() for wkt in used["crs"]} == {epsg}
    assert set(used["product"]) == {product, "generic"}
    assert set(used["baseline"].dropna()) == ({baseline} if baseline else set())
    if epsg == 3031:
        [missing] = table[table["status"] == "missing"].itertuples()
        assert missing.href.endswith("tests/data-files/landsat/"
                                     "LC08_L2SR_081119_20200101_20200823_02_T2_SR_B2_small.TIF")  # fmt: skip
        assert used["north"].max() < -79


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ga_ls8c_ard_3-1-0_088080_2020-05-25_final.stac-item.json", "only plain https URLs"),
        ("lidar_dem.json", "s3://example-bucket: only plain https URLs"),
        ("only_crs_proj.json", "only plain https URLs"),
        ("sentinel-2-l2a.collection.json", "links to no item on disk"),
    ],
)
def test_items_that_cannot_be_used_say_why(data_folder, name, words):
    path, policy = items(data_folder, name)
    chosen = CatalogSettings(kind="stac", files=(name,))
    with pytest.raises(EOCausalError, match=words):
        read_catalog(InputFiles((str(path),), ("",)), chosen, policy=policy)


def test_null_dates_and_absent_shapes_of_real_items(data_folder):
    path, policy = items(data_folder, "lidar_dem.json")
    [lidar] = read_items([path], policy)
    assert (lidar.datetime, lidar.datetime_end) == (pd.Timestamp("2012-01-01"),) * 2
    assert (lidar.rows, lidar.columns) == (2000, 2000)
    path, policy = items(data_folder, "only_crs_proj.json")
    [cover, *_] = read_items([path], policy)
    assert cover.reason == "the item gives no proj:transform, proj:shape"
    assert cover.west == pytest.approx(118.138, abs=1e-3)


def test_one_scene_in_two_items_is_used_once(data_folder):
    names = ("S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json",
             "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json")  # fmt: skip
    paths = tuple(str(items(data_folder, name)[0]) for name in names)
    policy = items(data_folder, names[0])[1]
    chosen = CatalogSettings(kind="stac", files=names, bands=("red", "nir"), quality_band="SCL")
    table = read_catalog(InputFiles(paths, ("", "")), chosen, policy=policy)
    assert table["status"].value_counts().to_dict() == {"outside": 30, "ok": 3, "duplicate": 3}
    assert table[table["status"] == "ok"].set_index("band")["role"].to_dict() == {
        "red": "data", "nir": "data", "SCL": "quality",
    }  # fmt: skip
