"""STAC as files: items of every version, awkward values, and what must never be opened."""

import contextlib
import copy
import hashlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import rasterio
from pyproj import CRS
from rasterio.transform import from_origin

from eo_causal.core.progress import counting
from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.errors import (
    ConfigError,
    CoverageError,
    DataError,
    EOCausalError,
    GeorefError,
    IntegrityError,
    ReadError,
    ResourceLimitError,
    TimeAxisError,
    UnsafeSourceError,
)
from eo_causal.ingest import stac
from eo_causal.ingest.catalog import CatalogSettings, catalog_paths, read_catalog
from eo_causal.ingest.stac import read_items, search_items
from eo_causal.ingest.stac_item import parse_multihash

HOST = "https://data.example.org"
TIFF = "image/tiff; application=geotiff"


def item(item_id="S2A_1", **properties):
    """A Sentinel-2 item of version 1.0.0 with one remote band."""
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": item_id,
        "collection": "sentinel-2-l2a", "bbox": [33.0, -2.0, 34.0, -1.0], "geometry": None,
        "properties": {
            "datetime": "2020-05-01T10:00:00Z", "platform": "sentinel-2a",
            "s2:processing_baseline": "02.14", "eo:cloud_cover": 12.5, "proj:epsg": 32736,
        } | properties,
        "assets": {"B04": {
            "href": f"{HOST}/{item_id}/B04.tif?sig=0a1b", "type": TIFF, "roles": ["data"],
            "proj:transform": [10, 0, 500_000, 0, -10, 9_800_000, 0, 0, 1],
            "proj:shape": [20, 30], "eo:bands": [{"name": "B04", "common_name": "red"}],
        }},
        "links": [],
    }  # fmt: skip


def with_asset(**changes):
    """The item with its asset changed."""
    changed = item()
    changed["assets"]["B04"] |= changes
    return changed


@pytest.fixture
def policy(tmp_path):
    return SourcePolicy((tmp_path,), ("data.example.org",), lambda host: ["8.8.8.8"])


@pytest.fixture
def save(tmp_path):
    def run(content, name="item.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return run


@pytest.fixture
def image(tmp_path):
    """A small GeoTIFF beside the items."""

    def run(name="B04.tif", n_bands=1):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        place = {"crs": "EPSG:32736", "transform": from_origin(600_000, 9_800_000, 10, 10)}
        shape = {"count": n_bands, "height": 5, "width": 6, "dtype": "uint16"}
        with rasterio.open(path, "w", driver="GTiff", **place, **shape) as target:
            target.write(np.full((n_bands, 5, 6), 7, np.uint16))
        return path

    return run


@pytest.fixture
def read(tmp_path, policy):
    def run(*paths, max_failed=1.0, **settings):
        chosen = CatalogSettings(
            kind="stac", files=tuple(map(str, paths)), max_failed=max_failed, **settings
        )
        found = catalog_paths(chosen, policy=policy)
        files = InputFiles(tuple(map(str, found)), ("",) * len(found))
        return read_catalog(files, chosen, policy=policy)

    return run


def test_a_remote_band_is_described_by_its_item(save, read):
    [row] = read(save(item())).itertuples()
    assert (row.item_id, row.band, row.band_index, row.status) == ("S2A_1", "B04", 1, "ok")
    assert row.href == f"{HOST}/S2A_1/B04.tif"
    assert row.datetime == pd.Timestamp("2020-05-01 10:00")
    assert (row.product, row.platform, row.baseline) == ("sentinel2_l2a", "sentinel-2a", "02.14")
    assert (row.rows, row.columns, row.cloud_cover) == (20, 30, 12.5)
    assert row.transform == (10, 0, 500_000, 0, -10, 9_800_000)
    assert CRS.from_wkt(row.crs).to_epsg() == 32736
    assert row.west == pytest.approx(33.0, abs=1e-3)
    assert row.reason == ""


@pytest.mark.parametrize(
    ("projection", "epsg"),
    [
        ({"proj:epsg": 3031}, 3031),
        ({"proj:code": "EPSG:3031"}, 3031),
        ({"proj:wkt2": CRS.from_epsg(3031).to_wkt()}, 3031),
        ({"proj:projjson": CRS.from_epsg(3031).to_json_dict()}, 3031),
    ],
)
def test_every_projection_field(save, read, projection, epsg):
    content = with_asset(**{"proj:transform": [100, 0, -1e6, 0, -100, 1e6], "proj:shape": [9, 9]})
    content["properties"] |= {"proj:epsg": None} | projection
    [row] = read(save(content)).itertuples()
    assert CRS.from_wkt(row.crs).to_epsg() == epsg
    assert -80 < row.south < row.north < -70


def test_absent_projection_is_named_and_bounds_come_from_the_item(save, read):
    content = with_asset()
    del content["properties"]["proj:epsg"], content["assets"]["B04"]["proj:shape"]
    [row] = read(save(content)).itertuples()
    assert (row.status, row.reason) == ("ok", "the item gives no CRS, proj:shape")
    assert (row.west, row.south, row.east, row.north) == (33, -2, 34, -1)


def test_a_relative_href_lies_beside_the_item_and_its_file_fills_the_grid(save, read, image):
    path = image("scenes/one/B04.tif")
    content = with_asset(href="./B04.tif")
    [row] = read(save(content, "scenes/one/item.json")).itertuples()
    assert (row.href, row.status, row.bytes) == (str(path), "ok", path.stat().st_size)
    assert (row.rows, row.columns) == (5, 6)
    assert row.transform[2] == 600_000


def test_an_absent_file_is_missing(save, read):
    with pytest.raises(CoverageError, match=r"B04\.tif: does not exist"):
        read(save(with_asset(href="B04.tif")))
    with pytest.raises(ReadError, match="does not exist"):
        read(save(with_asset(href="B04.tif")), max_failed=0)


def test_an_item_without_a_date_takes_start_and_end(save, read):
    times = {
        "datetime": None, "start_datetime": "2019-01-01T00:00:00+02:00",
        "end_datetime": "2019-12-31T00:00:00Z",
    }  # fmt: skip
    [row] = read(save(item(**times))).itertuples()
    assert row.datetime == pd.Timestamp("2018-12-31 22:00")
    assert row.datetime_end == pd.Timestamp("2019-12-31")


@pytest.mark.parametrize("text", ["now", "2020-13-01", "", 20200501, None])
def test_dates_that_are_none_refuse_the_item(save, read, text):
    with pytest.raises(TimeAxisError, match="is no date and time"):
        read(save(item(datetime=text)), max_failed=0)


@pytest.mark.parametrize(
    "version", ["1.0.0-beta.1", "1.0.0-beta.2", "1.0.0-rc.4", "1.0.1", "1.1.0"]
)
def test_versions(save, read, version):
    assert len(read(save(item() | {"stac_version": version}))) == 1


@pytest.mark.parametrize("version", ["0.9.0", "2.0.0", "1.2.0", None, 1])
def test_other_versions_are_refused(save, read, version):
    with pytest.raises(DataError, match=r"stac_version = .* not what STAC 1\.0\.0-beta\.1 to 1\.1"):
        read(save(item() | {"stac_version": version}), max_failed=0)


def test_version_1_1_says_bands_in_one_list(save, read):
    content = with_asset(
        bands=[
            {"name": "red", "eo:common_name": "red", "raster:scale": 0.5, "raster:offset": 2.0},
            {"name": "nir", "nodata": 0},
        ]
    )
    content |= {"collection": "other", "stac_version": "1.1.0"}
    table = read(save(content))
    assert list(table["band"]) == ["B04.red", "B04.nir"]
    assert table[["scale", "offset"]].to_numpy().tolist() == [[0.5, 2], [1, 0]]
    assert table["nodata"].iloc[1] == 0
    chosen = read(save(content), bands=("B04.nir",))
    assert list(chosen["status"]) == ["outside", "ok"]


def test_a_band_is_found_by_its_common_name(save, read):
    [row] = read(save(item()), bands=("red",)).itertuples()
    assert (row.band, row.status, row.product) == ("red", "ok", "sentinel2_l2a")
    with pytest.raises(DataError, match="has no band nir"):
        read(save(item()), bands=("red", "nir"), max_failed=0)


@pytest.mark.parametrize(
    ("facts", "baseline", "offset"),
    [
        ({"s2:processing_baseline": "03.01"}, "03.01", 0),
        ({"s2:processing_baseline": "05.09"}, "05.09", -0.1),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, "05.09", 0),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False}, "05.09", -0.1),
        ({"s2:processing_baseline": None, "s2:product_uri": "S2A_X_N0400_R1.SAFE"}, "04.00", -0.1),
    ],
)  # fmt: skip
def test_the_offset_follows_baseline_and_statement_and_never_the_date(
    save, read, facts, baseline, offset
):
    content = with_asset(**{"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]})
    content["properties"] |= facts
    [row] = read(save(content)).itertuples()
    assert (row.baseline, row.scale, row.offset) == (baseline, 1e-4, pytest.approx(offset))


def test_an_unknown_baseline_refuses_reflectance_but_no_classes(save, read):
    content = item()
    del content["properties"]["s2:processing_baseline"]
    content["assets"]["SCL"] = content["assets"]["B04"] | {"eo:bands": []}
    table = read(save(content), quality_band="SCL")
    assert table.set_index("band")["status"].to_dict() == {"B04": "refused", "SCL": "ok"}
    assert "baseline of the scene is not known" in table["reason"].iloc[0]
    assert read(save(content), baseline="02.00", quality_band="SCL")["status"].eq("ok").all()


def test_thermal_bands_and_other_assets_have_products_of_their_own(save, read):
    content = item() | {"collection": "landsat-c2-l2"}
    band = content["assets"].pop("B04") | {"eo:bands": []}
    content["assets"] = dict.fromkeys(("red", "lwir11", "qa_pixel"), band) | {
        "thumbnail": band, "preview": band | {"roles": ["overview"]}, "MTL": {
            "href": f"{HOST}/MTL.json", "type": "application/json",
        },
    }  # fmt: skip
    assert read(save(content)).set_index("band")["product"].to_dict() == {
        "red": "landsat_c2_l2", "lwir11": "landsat_c2_l2_temperature", "qa_pixel": "generic",
    }  # fmt: skip


def test_checksums_are_compared_before_use(save, read, image):
    path = image()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    [row] = read(
        save(with_asset(href="B04.tif", **{"file:checksum": f"1220{digest}"}))
    ).itertuples()
    assert row.sha256 == digest
    longer = hashlib.sha512(path.read_bytes()).hexdigest()
    content = with_asset(href="B04.tif", **{"file:checksum": f"1340{longer}"})
    assert read(save(content))["status"].tolist() == ["ok"]
    for wrong in (f"1220{'ab' * 32}", f"1340{'ab' * 64}"):
        content = with_asset(href="B04.tif", **{"file:checksum": wrong})
        with pytest.raises(IntegrityError, match="is not abababababababab"):
            read(save(content), max_failed=0)
    for odd in ("1220ab", "zz", "1b20" + "ab" * 32):
        with pytest.raises(DataError, match="no multihash of a known kind"):
            parse_multihash(odd)


@pytest.mark.parametrize(
    ("href", "words"),
    [
        ("/vsicurl/https://data.example.org/B04.tif", "only plain https URLs"),
        ("/vsizip/B04.zip/B04.tif", "not a plain path"),
        ("http://data.example.org/B04.tif", "only plain https URLs"),
        ("s3://bucket/B04.tif", "only plain https URLs"),
        ("file:///etc/passwd", "only plain https URLs"),
        ("https://evil.example.com/B04.tif?token=0a1b", "not among the allowed hosts"),
        ("https://me:0a1b@evil.example.com/B04.tif", "not among the allowed hosts"),
        ("../../../../../../etc/passwd", "outside the folders"),
        ("/etc/passwd", "outside the folders"),
        ("zip+https://data.example.org/x", "only plain https URLs"),
    ],
)
def test_assets_that_must_not_be_opened_are_refused_rows(save, read, href, words):
    content = item()
    content["assets"]["B02"] = with_asset(href=href)["assets"]["B04"]
    table = read(save(content)).set_index("band")
    assert table["status"].to_dict() == {"B04": "ok", "B02": "refused"}
    assert words in table.loc["B02", "reason"]
    assert "0a1b" not in table.astype(str).to_string()
    with pytest.raises(UnsafeSourceError, match=words):
        read(save(content), max_failed=0)
    assert read(save(content), bands=("B04",), max_failed=0)["status"].tolist() == ["ok", "outside"]


def test_a_host_with_a_private_address_is_refused(save, tmp_path):
    chosen = CatalogSettings(kind="stac", files=("item.json",))
    inner = SourcePolicy((tmp_path,), ("data.example.org",), lambda host: ["10.0.0.1"])
    with pytest.raises(UnsafeSourceError, match="no public address"):
        read_catalog(InputFiles((str(save(item())),), ("",)), chosen, policy=inner)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"id": ""}, DataError, "id = ''"),
        ({"properties": None}, DataError, "properties = 'None'"),
        ({"assets": []}, DataError, "assets"),
        ({"assets": {"B04": 3}}, DataError, r"assets\.B04"),
        ({"assets": {}}, DataError, "no image asset"),
        ({"bbox": [1, 2]}, GeorefError, "no box in degrees"),
        ({"bbox": [0, 91, 1, 92]}, GeorefError, "no box in degrees"),
        ({"bbox": ["x"] * 4}, DataError, "bbox"),
    ],
)
def test_items_of_a_wrong_form_are_refused_by_field(save, read, change, error, words):
    with pytest.raises(error, match=words):
        read(save(item() | change), max_failed=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"href": None}, "has no href"),
        ({"proj:transform": [10, 1, 0, 0, -10, 0]}, "not north up"),
        ({"proj:transform": [10, 0, 0, 0, 10, 0]}, "not north up"),
        ({"proj:shape": [0, 5]}, "no number of rows"),
        ({"proj:epsg": 99_999_999}, "no known CRS"),
        ({"proj:epsg": "EPSG:32736"}, "no known CRS"),
        ({"proj:code": "+proj=utm +zone=36"}, "no known CRS"),
        ({"proj:transform": [1e299, 0, 0, 0, -10, 0]}, "no place on Earth"),
    ],
)
def test_assets_of_a_wrong_form_are_refused(save, read, change, words):
    with pytest.raises(EOCausalError, match=words):
        read(save(with_asset(**change)), max_failed=0)


def test_collections_of_items_keep_the_good_ones(save, read):
    content = {"type": "FeatureCollection", "features": [item("a"), {"id": "b"}, 3]}
    table = read(save(content))
    assert list(table["status"]) == ["ok", "refused", "refused"]
    assert table["item_id"].iloc[1] == "b"
    with pytest.raises(ReadError, match="without features"):
        read(save({"type": "FeatureCollection"}), max_failed=0)


def test_a_static_catalog_is_followed_once_and_only_on_disk(save, read, image):
    image("scenes/B04.tif")
    save(with_asset(href="B04.tif"), "scenes/item.json")
    child = {"type": "Collection", "stac_version": "1.0.0", "links": [
        {"rel": "item", "href": "item.json"}, {"rel": "parent", "href": "../catalog.json"},
        {"rel": "child", "href": "../catalog.json"},
    ]}  # fmt: skip
    save(child, "scenes/collection.json")
    top = {"type": "Catalog", "stac_version": "1.0.0", "links": [
        {"rel": "child", "href": "./scenes/collection.json"},
        {"rel": "item", "href": f"{HOST}/item.json?sig=0a1b"},
        {"rel": "item", "href": "../../../../../../../etc/passwd"},
    ]}  # fmt: skip
    path = save(top, "catalog.json")
    chosen = CatalogSettings(kind="stac", files=(str(path),))
    names = [found.name for found in catalog_paths(chosen, policy=SourcePolicy((path.parent,)))]
    assert {"B04.tif", "item.json"} <= set(names)
    table = read(path, path.parent / "scenes" / "item.json")
    assert sorted(table["status"]) == ["ok", "refused", "refused"]
    reasons = " ".join(table["reason"])
    assert "outside the folders" in reasons
    assert f"links to {HOST}/item.json, which is not on disk" in reasons


def test_a_collection_without_items_on_disk(save, read):
    content = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "links": [{"rel": "items", "href": "x"}],
    }
    with pytest.raises(DataError, match="links to no item on disk"):
        read(save(content), max_failed=0)
    with pytest.raises(ReadError, match="no STAC item, item collection or catalog"):
        read(save({"type": "Polygon"}), max_failed=0)


def test_too_many_linked_files(save, read, monkeypatch):
    monkeypatch.setattr(stac, "MAX_DOCUMENTS", 3)
    links = [{"rel": "item", "href": f"{number}.json"} for number in range(9)]
    with pytest.raises(ResourceLimitError, match="more than 3 files"):
        read(save({"type": "Catalog", "stac_version": "1.0.0", "links": links}))


def test_the_newest_processing_of_a_scene_is_kept(save, read):
    old = item("old", **{"s2:generation_time": "2020-05-02T00:00:00Z"})
    new = item("new", **{"s2:generation_time": "2021-05-02T00:00:00Z"})
    new["properties"]["datetime"] = "2020-05-01T10:00:00.700Z"
    late = item("late", datetime="2020-05-01T10:00:03Z")
    other = item("other", platform="sentinel-2b")
    away = item("away") | {"bbox": [33.5, -2.0, 34.5, -1.0]}
    content = {"type": "FeatureCollection", "features": [old, new, late, other, away]}
    with counting() as counts:
        table = read(save(content)).set_index("item_id")
    assert table["status"].to_dict() == {
        "old": "duplicate", "new": "ok", "late": "ok", "other": "ok", "away": "ok",
    }  # fmt: skip
    assert "item.json#1, which is kept" in table.loc["old", "reason"]
    assert counts["bands_duplicate"] == 1


def test_a_higher_baseline_beats_a_later_copy(save, read):
    low = item("low", created="2024-01-01T00:00:00Z")
    high = item("high", **{"s2:processing_baseline": "05.00"}, created="2023-01-01T00:00:00Z")
    table = read(save({"type": "FeatureCollection", "features": [low, high]})).set_index("item_id")
    assert table["status"].to_dict() == {"low": "duplicate", "high": "ok"}


def test_cloudy_scenes_are_outside_and_unknown_cloud_passes_and_is_counted(save, read):
    cloudy, unknown = item("cloudy", **{"eo:cloud_cover": 80}), item("unknown")
    unknown["properties"] |= {"eo:cloud_cover": None, "platform": "x"}
    content = {"type": "FeatureCollection", "features": [cloudy, unknown]}
    with counting() as counts:
        table = read(save(content), max_cloud=20)
    assert list(table["reason"]) == ["cloud above max_cloud", ""]
    assert counts["cloud_cover_unknown"] == 1


def test_files_that_are_no_json(tmp_path, read):
    path = tmp_path / "item.json"
    for raw, error, words in (
        (b'{"id": "\xff"}', ReadError, "byte 8 is not UTF-8"),
        (b"{", ReadError, "is no JSON"),
        (b"[]", ReadError, "holds no JSON object"),
        (b'{"bbox": NaN}', ReadError, "NaN is no JSON number"),
        (b'{"a":' * 200_000, ResourceLimitError, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", ReadError, "is no JSON"),
    ):
        path.write_bytes(raw)
        with pytest.raises(error, match=words):
            read(path, max_failed=0)


def test_a_huge_file_is_refused_by_its_size(save, read, monkeypatch):
    monkeypatch.setattr(stac, "MAX_JSON_BYTES", 100)
    with pytest.raises(ResourceLimitError, match="too many for a STAC file"):
        read(save(item()), max_failed=0)


def test_a_byte_order_mark_is_no_harm(tmp_path, read):
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item()), encoding="utf-8-sig")
    assert len(read(path)) == 1


def _spoiled(value, rng):
    """The value with one part, anywhere in it, replaced by something odd."""
    odd = (None, -1, 1e308, "", "x" * 50, [], {}, [[]], True, "2020-01-01", {"href": 3})
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = list(value)[rng.integers(len(value))]
        return value | {key: _spoiled(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.integers(len(value))
        return [*value[:place], _spoiled(value[place], rng), *value[place + 1 :]]
    return odd[rng.integers(len(odd))]


def test_no_value_of_an_item_leads_to_anything_but_a_named_error(save, policy):
    rng = np.random.default_rng(0)
    content = with_asset(**{"bands": [{"name": "a"}], "raster:bands": [{"scale": 2}]})
    content["links"] = [{"rel": "item", "href": "x"}]
    chosen = CatalogSettings(
        kind="stac", files=("item.json",), bounds=(33, -2, 34, -1), max_cloud=50
    )
    for _ in range(150):
        path = save(_spoiled(copy.deepcopy(content), rng))
        read_items([path], policy, ("red",))
        with contextlib.suppress(EOCausalError):
            read_catalog(InputFiles((str(path),), ("",)), chosen, policy=policy)


class _Search:
    """A stand-in for a live API."""

    def __init__(self, items):
        self.items, self.asked = items, None

    def search(self, **asked):
        self.asked = asked
        return SimpleNamespace(items_as_dicts=lambda: iter(self.items[: asked["max_items"]]))


SEARCH = {"collections": ("sentinel-2-l2a",), "bounds": (33, -2, 34, -1),
          "period": ("2020-01", "2020-12")}  # fmt: skip


def test_a_search_saves_items_that_are_then_read_as_files(tmp_path, policy, monkeypatch, read):
    pystac_client = pytest.importorskip("pystac_client")
    found = _Search([item("a/../b"), item("a_.._b")])
    monkeypatch.setattr(pystac_client.Client, "open", lambda url, stac_io: found)
    paths = search_items(f"{HOST}/api", tmp_path / "items", policy=policy, **SEARCH)
    assert len(set(paths)) == 2
    assert all(path.parent == tmp_path / "items" for path in paths)
    assert found.asked["datetime"] == "2020-01/2020-12"
    assert len(read(*paths)) == 2
    with pytest.raises(ConfigError, match="more than 1 items"):
        search_items(f"{HOST}/api", tmp_path / "items", policy=policy, **SEARCH, max_items=1)
    with pytest.raises(UnsafeSourceError, match="not among the allowed hosts"):
        search_items("https://evil.example.com", tmp_path, policy=policy, **SEARCH)


def test_a_search_is_not_led_to_other_hosts(tmp_path, policy, monkeypatch):
    pystac_client = pytest.importorskip("pystac_client")
    monkeypatch.setattr(
        pystac_client.Client, "open",
        lambda url, stac_io: stac_io.request("https://evil.example.com/next"),
    )  # fmt: skip
    with pytest.raises(UnsafeSourceError, match=r"evil\.example\.com is not among the allowed"):
        search_items(f"{HOST}/api", tmp_path, policy=policy, **SEARCH)


def test_a_search_without_the_extra_says_how_to_install_it(tmp_path, policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'eo-causal\[stac\]'"):
        search_items(f"{HOST}/api", tmp_path, policy=policy, **SEARCH)
