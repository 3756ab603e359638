"""Chips from files to the store: pixels of brute force, masks, dates, failures, the same everywhere."""

import hashlib
import shutil
import tracemalloc

import dask
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from pyproj import Transformer
from rasterio.transform import Affine
from scene_files import (
    NORTH,
    STEP,
    WEST,
    on_pixels,
    padded_window,
    places,
    scene_rows,
    table,
    write_image,
)

from eo_causal.core.progress import counting
from eo_causal.core.storage import read_value
from eo_causal.errors import ConfigError, CoverageError, DataError, GeorefError, ReadError
from eo_causal.ingest.chip_batch import cut_batch
from eo_causal.ingest.chip_plan import plan_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import (
    ChipSet,
    batches_of,
    chip_bearing,
    cut_chips,
    fractional_years,
    in_order,
)
from eo_causal.ingest.scene import scenes_of

NEW_YEAR = "2020-01-01"


@pytest.fixture
def raw():
    return np.random.default_rng(0).integers(1, 4000, (2, 100, 120)).astype(np.uint16)


@pytest.fixture
def cut(tmp_path):
    """Cut chips into a new folder; all dates that show anything, unless said otherwise."""
    numbers = iter(range(1000))

    def run(catalog, units, **settings):
        folder = tmp_path / f"out{next(numbers)}"
        folder.mkdir()
        chosen = ChipSettings(
            **{"size_pixels": 16, "min_valid_fraction": 0, "retries": 0} | settings
        )
        return cut_chips(catalog, units, chosen, folder=folder)

    return run


def values_of(result, units):
    return in_order(result.chips, units["image_key"]).to_numpy()


def brute(values, rows, columns, size=16):
    return np.stack(
        [
            padded_window(values, row, column, size)
            for row, column in zip(rows, columns, strict=True)
        ]
    )


EDGES = {
    "corner": (0, 0), "one pixel off": (50, 7), "on a block border": (64, 32), "inside": (50, 60),
    "last corner": (99, 119), "only one row on": (-7, 50),
}  # fmt: skip


@pytest.mark.parametrize("south_up", [False, True])
def test_chips_at_edges_corners_and_block_borders(tmp_path, cut, raw, south_up):
    turned = {"transform": Affine(STEP, 0, WEST, 0, STEP, NORTH - 1000)} if south_up else {}
    path = write_image(tmp_path / "a.tif", raw[:, ::-1] if south_up else raw, **turned)
    rows, columns = zip(*EDGES.values(), strict=True)
    units = on_pixels(rows, columns)
    result = cut(table(scene_rows(path, NEW_YEAR)), units)
    truth = brute(raw, rows, columns)
    np.testing.assert_array_equal(values_of(result, units)[:, 0], truth)
    assert result.files.loc[0, "off_image"] == np.isnan(truth).sum()
    assert result.chips.dtype == np.float32
    middle = in_order(result.chips, units["image_key"])[:, 0, :, 8, 8]
    inside = np.array([0 <= row < 100 for row in rows])
    np.testing.assert_array_equal(middle[inside], raw[:, rows, columns].T[inside])


def test_a_place_far_off_has_no_date_and_is_counted(tmp_path, cut, raw):
    path = write_image(tmp_path / "a.tif", raw)
    units = on_pixels([50] * 100 + [900], [60] * 100 + [900])
    with counting() as counts:
        result = cut(table(scene_rows(path, NEW_YEAR)), units, empty_unit="drop")
    assert result.chips.sizes["unit"] == 100
    assert (counts["units_off_all_images"], counts["units_empty"]) == (1, 1)
    with pytest.raises(CoverageError, match=r"1 of 101 units have no usable date \(first: u100\)"):
        cut(table(scene_rows(path, NEW_YEAR)), units)


def test_chips_across_files_of_one_day(tmp_path, cut, raw):
    """Four quarters of an image, taken one minute after another."""
    parts = []
    for number, (top, left) in enumerate([(0, 0), (0, 60), (50, 0), (50, 60)]):
        path = write_image(
            tmp_path / f"{number}.tif", raw[:, top : top + 50, left : left + 60],
            west=WEST + STEP * left, north=NORTH - STEP * top,
        )  # fmt: skip
        parts.append(scene_rows(path, f"2020-01-01T09:{number:02}"))
    rows, columns = [50, 45, 50, 3], [60, 60, 20, 110]
    units = on_pixels(rows, columns)
    result = cut(table(*parts), units)
    assert result.chips.sizes["time"] == 1
    np.testing.assert_array_equal(values_of(result, units)[:, 0], brute(raw, rows, columns))
    found = in_order(result.chips, units["image_key"])
    assert found["n_images"].values.tolist() == [[4], [4], [2], [1]]


@pytest.mark.parametrize(
    "grid", [{}, {"grid": "local", "resolution_m": 500.0, "resampling": "nearest"}]
)
def test_chips_across_the_antimeridian(tmp_path, cut, grid):
    """Two scenes that meet at 180 degrees, and one from 179 to 181, hold the same pixels."""
    raw = np.random.default_rng(1).integers(1, 4000, (1, 100, 400)).astype(np.uint16)
    degrees = {"crs": "EPSG:4326", "north": 5.0, "step": 0.005}
    east = write_image(tmp_path / "east.tif", raw[..., :200], west=179.0, **degrees)
    west = write_image(tmp_path / "west.tif", raw[..., 200:], west=-180.0, **degrees)
    both = write_image(tmp_path / "both.tif", raw, west=179.0, **degrees)
    units = on_pixels([50, 40, 60, 50], [199, 202, 380, 20], west=179.0, **{
        "crs": "EPSG:4326", "north": 5.0, "step": 0.005})  # fmt: skip
    two = cut(table(scene_rows(east, NEW_YEAR), scene_rows(west, NEW_YEAR)), units, **grid)
    one = cut(table(scene_rows(both, NEW_YEAR)), units, **grid)
    np.testing.assert_array_equal(values_of(two, units), values_of(one, units))
    assert np.isfinite(values_of(one, units)).all()
    if not grid:
        truth = brute(raw, [50, 40, 60, 50], [199, 202, 380, 20])
        np.testing.assert_array_equal(values_of(one, units)[:, 0], truth)
    longitude, _ = chip_bearing(in_order(one.chips, units["image_key"]))
    assert np.abs((longitude - units.geometry.x + 180) % 360 - 180).max() < 0.01
    assert len(two.overlap) == len(one.overlap) == 1
    kept = cut(
        table(scene_rows(east, NEW_YEAR), scene_rows(west, NEW_YEAR)), units, edge="error", **grid
    )
    assert kept.chips.sizes["unit"] == 4


def test_a_local_grid_on_the_lattice_of_the_images_is_cut_not_resampled(
    tmp_path, cut, raw, monkeypatch
):
    monkeypatch.setattr("eo_causal.ingest.chip_read.warp_windows", None)
    path = write_image(tmp_path / "a.tif", raw, west=WEST, north=9_800_000.0)
    rows, columns = [50, 0, 98], [60, 0, 30]
    units = on_pixels(rows, columns)
    result = cut(table(scene_rows(path, NEW_YEAR)), units, grid="local", resolution_m=10.0)
    np.testing.assert_array_equal(values_of(result, units)[:, 0], brute(raw, rows, columns))
    assert set(result.chips["unit_crs"].values) == {"EPSG:32736"}


def test_a_local_grid_joins_images_of_two_zones(tmp_path, cut):
    """A plane in easting of zone 36, seen from images of zones 36 and 37."""
    paths = []
    for crs, west in (("EPSG:32736", 832_000.0), ("EPSG:32737", 164_000.0)):
        row, column = np.mgrid[0:300, 0:300] + 0.5
        to_first = Transformer.from_crs(crs, "EPSG:32736", always_xy=True)
        easting, northing = to_first.transform(west + 10 * column, 9_780_000 - 10 * row)
        plane = np.stack([easting, northing]).astype(np.float64)
        name = tmp_path / f"{crs[-5:]}.tif"
        paths.append(write_image(name, plane, crs=crs, west=west, north=9_780_000.0))
    units = places([833_000.0, 834_000.0], [9_778_500.0] * 2)
    catalog = table(
        *(scene_rows(path, f"2020-0{number + 1}-01") for number, path in enumerate(paths))
    )
    with pytest.raises(GeorefError, match="grid: local"):
        cut(catalog, units)
    result = cut(catalog, units, grid="local", resolution_m=10.0)
    for number in range(len(units)):
        chip = result.chips[number]
        x, y = np.meshgrid(chip["x"], chip["y"])
        to_first = Transformer.from_crs(str(chip["unit_crs"].values), "EPSG:32736", always_xy=True)
        expected = to_first.transform(
            float(chip["centre_easting"]) + x, float(chip["centre_northing"]) + y
        )
        for slot in range(2):
            seen = np.isfinite(chip[slot].values).all(axis=0)
            assert seen.mean() > 0.9 or np.isnat(chip["datetime"].values[slot])
            for band in range(2):
                apart = np.abs(chip[slot, band].values - expected[band])[seen]
                assert apart.max(initial=0) < 0.6


def test_masks_nodata_and_files_of_several_types_make_one_scene(tmp_path, cut, raw):
    hole = np.zeros((100, 120), bool)
    hole[40:60, 50:70] = True
    first = write_image(tmp_path / "red.tif", raw[:1], mask=np.where(hole, 0, 255).astype(np.uint8))
    second = np.where(hole[::-1], np.float32(-1), raw[1] / np.float32(7)).astype(np.float32)
    write_image(tmp_path / "nir.tif", second[None], nodata=-1, tiled=False, blockysize=3)
    catalog = table(
        scene_rows(first, NEW_YEAR, item_id="s", bands=["red"]),
        scene_rows(tmp_path / "nir.tif", NEW_YEAR, item_id="s", bands=["nir"]),
    )
    units = on_pixels([50, 30], [60, 62])
    truth = np.stack([np.where(hole, np.nan, raw[0]), np.where(hole[::-1], np.nan, second)])
    for bands in (("red", "nir"), ("nir", "red")):
        result = cut(catalog, units, bands=bands, size_pixels=40)
        order = [0, 1] if bands[0] == "red" else [1, 0]
        expected = brute(truth[order].astype(np.float32), [50, 30], [60, 62], 40)
        np.testing.assert_array_equal(values_of(result, units)[:, 0], expected)
        assert result.chips["band"].values.tolist() == list(bands)
    valid = in_order(result.chips, units["image_key"])["valid_fraction"].values[:, 0]
    np.testing.assert_allclose(valid, np.isfinite(expected).all(axis=1).mean(axis=(1, 2)))


@pytest.mark.parametrize("dilate", [0, 1, 3])
def test_quality_bands_mask_and_what_is_bad_beside_a_chip_grows_into_it(tmp_path, cut, raw, dilate):
    codes = np.zeros((1, 100, 120), np.uint8)
    codes[
        0,
        np.random.default_rng(2).integers(0, 100, 60),
        np.random.default_rng(3).integers(0, 120, 60),
    ] = 4
    path = write_image(tmp_path / "a.tif", np.concatenate([raw, codes.astype(np.uint16)]))
    catalog = table(scene_rows(path, NEW_YEAR, bands=["b1", "b2", "fmask"], quality=("fmask",)))
    bad = np.zeros((100, 120), bool)
    for row, column in zip(*np.nonzero(codes[0]), strict=True):
        top, left = max(row - dilate, 0), max(column - dilate, 0)
        bad[top : row + dilate + 1, left : column + dilate + 1] = True
    rows, columns = np.random.default_rng(4).integers(8, 92, (2, 30))
    units = on_pixels(rows, columns)
    result = cut(catalog, units, quality={"dilate_pixels": dilate})
    truth = brute(np.where(bad, np.nan, raw).astype(np.float32), rows, columns)
    found = values_of(result, units)[:, 0]
    whole = slice(dilate, 16 - dilate)
    np.testing.assert_array_equal(found[..., whole, whole], truth[..., whole, whole])
    np.testing.assert_array_equal(found, truth)


def test_a_coarser_quality_band_is_read_by_nearest_neighbour(tmp_path, cut, raw):
    codes = np.where(np.random.default_rng(5).random((1, 50, 60)) < 0.3, 9, 4).astype(np.uint8)
    first = write_image(tmp_path / "a.tif", raw)
    second = write_image(tmp_path / "scl.tif", codes, step=20.0)
    catalog = table(
        scene_rows(first, NEW_YEAR, item_id="s"),
        scene_rows(second, NEW_YEAR, item_id="s", bands=["SCL"], quality=("SCL",)),
    )
    rows, columns = [50, 33, 90], [60, 71, 10]
    units = on_pixels(rows, columns)
    result = cut(catalog, units)
    bad = np.kron(codes[0] == 9, np.ones((2, 2), bool))
    truth = brute(np.where(bad, np.nan, raw).astype(np.float32), rows, columns)
    np.testing.assert_array_equal(values_of(result, units)[:, 0], truth)


def test_a_quality_band_of_another_rule_or_none_at_all_is_refused_before_reading(
    tmp_path, cut, raw
):
    path = write_image(tmp_path / "a.tif", raw)
    units = on_pixels([50], [60])
    scl = table(scene_rows(path, NEW_YEAR, bands=["b1", "SCL"], quality=("SCL",)))
    with pytest.raises(DataError, match="sentinel2_scl"):
        cut(scl, units, quality={"rule": "fmask"}, max_failed=1)
    with pytest.raises(DataError, match="a: has no quality band for rule fmask"):
        cut(table(scene_rows(path, NEW_YEAR)), units, quality={"rule": "fmask"})
    with pytest.raises(ConfigError, match="product 'x' is not known"):
        cut(table(scene_rows(path, NEW_YEAR, product="x")), units)


def stack(tmp_path, raw, days):
    """One file a day, each the image plus its number."""
    return table(
        *(
            scene_rows(write_image(tmp_path / f"d{at:02}.tif", raw + np.uint16(at)), day)
            for at, day in enumerate(days)
        )
    )


def test_each_place_keeps_its_own_dates(tmp_path, cut, raw):
    """Two paths that overlap: one is seen on two dates, the other on three, the strip on five."""
    east = [scene_rows(write_image(tmp_path / f"e{at}.tif", raw[:, :, 40:], west=WEST + 40 * STEP), day)
            for at, day in enumerate(["2020-02-01", "2020-04-01T12:00"])]  # fmt: skip
    west = [scene_rows(write_image(tmp_path / f"w{at}.tif", raw[:, :, :60] + np.uint16(9)), day)
            for at, day in enumerate(["2020-01-01", "2020-03-01", "2020-05-01"])]  # fmt: skip
    units = on_pixels([50, 50, 50, 50], [20, 50, 100, 56])
    result = cut(table(*east, *west), units)
    chips = in_order(result.chips, units["image_key"])
    assert chips.sizes["time"] == 5
    dates = pd.DataFrame(chips["datetime"].values).apply(
        lambda row: row.dt.month.dropna().tolist(), axis=1
    )
    assert dates.tolist() == [[1, 3, 5], [2, 4], [2, 4], [1, 2, 3, 4, 5]] or dates.tolist() == [
        [1, 3, 5], [1, 2, 3, 4, 5], [2, 4], [1, 2, 3, 4, 5]]  # fmt: skip
    valid = chips["valid_fraction"].values
    assert valid[0].tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(valid[3], [12 / 16, 1, 12 / 16, 1, 12 / 16])
    assert np.isnan(chips.values[0, 3:]).all()
    assert np.isnan(chips["fractional_year"].values[0, 3:]).all()
    assert chips["fractional_year"].values[2, 1] == pytest.approx(2020 + 91.5 / 366)
    half = in_order(
        cut(table(*east, *west), units, min_valid_fraction=0.8).chips, units["image_key"]
    )
    assert (~np.isnat(half["datetime"].values)).sum(axis=1).tolist()[3] == 2


def test_fractional_years():
    times = np.array(
        ["2020-12-31T12:00", "2019-01-01", "NaT", "1969-07-02T12:00"], "datetime64[ns]"
    )
    expected = [2020 + 365.5 / 366, 2019, np.nan, 1969.5]
    np.testing.assert_allclose(fractional_years(times), expected, rtol=1e-12)


def test_composites_on_one_axis_with_a_gap_where_all_is_cloud(tmp_path, cut, raw):
    days = ["2020-01-03", "2020-01-20", "2020-01-30", "2020-02-10", "2020-04-05"]
    images = [np.where(np.random.default_rng(at).random(raw.shape) < 0.2, 0, raw + at * 7).astype(np.uint16)
              for at in range(5)]  # fmt: skip
    images[3][:] = 0
    catalog = table(
        *(
            scene_rows(write_image(tmp_path / f"{at}.tif", image, nodata=0), day)
            for at, (image, day) in enumerate(zip(images, days, strict=True))
        )
    )
    units = on_pixels([50, 3], [60, 118])
    result = cut(catalog, units, time="periods", period="month")
    assert [str(day)[:7] for day in result.chips["time"].values] == [
        f"2020-0{month}" for month in range(1, 5)
    ]
    found = in_order(result.chips, units["image_key"])
    january = np.where(np.array(images[:3]) == 0, np.nan, np.array(images[:3]).astype(float))
    with np.errstate(all="ignore"):
        middle = xr.DataArray(january).median("dim_0", skipna=True).values.astype(np.float32)
    np.testing.assert_array_equal(found.values[:, 0], brute(middle, [50, 3], [60, 118]))
    assert np.isnan(found.values[:, 1:3]).all()
    assert found["n_images"].values[0].tolist() == [3, 0, 0, 1]
    assert np.isnat(found["datetime"].values[:, 1:3]).all()


def test_a_geometric_mean_of_what_is_not_positive_stops_the_run(tmp_path, cut, raw):
    path = write_image(tmp_path / "a.tif", raw.astype(np.float32) - 2000)
    with pytest.raises(DataError, match="positive"):
        cut(table(scene_rows(path, NEW_YEAR)), on_pixels([50], [60]), time="periods",
            method="geometric_mean")  # fmt: skip


def test_edges_are_kept_or_dropped_or_an_error(tmp_path, cut, raw):
    catalog = table(scene_rows(write_image(tmp_path / "a.tif", raw), NEW_YEAR))
    units = on_pixels([50, 7, 92, 8, 99], [60, 60, 60, 8, 119])
    assert cut(catalog, units, edge="keep").chips.sizes["unit"] == 5
    with counting() as counts:
        dropped = cut(catalog, units, edge="drop")
    assert sorted(dropped.chips["unit_id"].values) == ["u0", "u2", "u3"]
    assert counts["units_over_the_edge"] == 2
    assert set(dropped.overlap["unit_a"]) <= {"u0", "u2", "u3"}
    np.testing.assert_array_equal(
        in_order(dropped.chips, ["u0", "u2", "u3"]).values[:, 0],
        brute(raw, [50, 92, 8], [60, 60, 8]),
    )
    with pytest.raises(CoverageError, match=r"2 of 5 chips reach over the edge.*u1, u4"):
        cut(catalog, units, edge="error")
    with pytest.raises(CoverageError, match="no unit is left"):
        cut(catalog, on_pixels([0], [0]), edge="drop")


def test_a_snapped_chip_at_the_edge_is_whole_where_its_pixels_are(tmp_path, cut, raw):
    first = write_image(tmp_path / "a.tif", raw)
    second = write_image(tmp_path / "b.tif", raw[:, :, 40:], west=WEST + 40 * STEP + 5)
    catalog = table(scene_rows(first, NEW_YEAR), scene_rows(second, "2020-06-01"))
    units = on_pixels([50, 60], [112, 112])
    result = cut(catalog, units, edge="error")
    assert result.chips.attrs["largest_snap_pixels"] == pytest.approx(0.5)
    assert np.isfinite(values_of(result, units)).all()


def test_a_chip_over_the_edge_that_is_dropped_need_not_have_a_date(tmp_path, cut, raw):
    raw[:, :20] = 0
    catalog = table(scene_rows(write_image(tmp_path / "a.tif", raw, nodata=0), NEW_YEAR))
    units = on_pixels([50, 2], [60, 60])
    assert cut(catalog, units, edge="drop").chips["unit_id"].values.tolist() == ["u0"]
    with pytest.raises(CoverageError, match=r"1 of 2 units have no usable date \(first: u1\)"):
        cut(catalog, units)


def test_failed_reads_are_tried_again_and_then_listed(tmp_path, cut, raw):
    catalog = stack(tmp_path, raw, ["2019-01-01", "2020-01-01", "2021-01-01", "2022-01-01"])
    bad = tmp_path / "d01.tif"
    bad.write_bytes(bad.read_bytes()[:20_000])
    (tmp_path / "d03.tif").unlink()
    rows, columns = [50, 90, 20], [60, 20, 100]
    units = on_pixels(rows, columns)
    with pytest.raises(ReadError, match=r"of 12 reads failed.*max_failed") as caught:
        cut(catalog, units)
    assert caught.value.facts["n_failed"] == 6
    with counting() as counts:
        result = cut(catalog, units, max_failed=0.5, retries=1)
    assert counts["reads_failed"] == 2
    assert result.failures[["item_id", "n_chips"]].values.tolist() == [["d01", 3], ["d03", 3]]
    assert "d01.tif" in result.failures["reason"][0]
    assert result.files.set_index("file")["retries"].to_dict() == {
        "d00.tif": 0, "d01.tif": 1, "d02.tif": 0, "d03.tif": 1}  # fmt: skip
    found = in_order(result.chips, units["image_key"])
    dates = found["datetime"].values.astype("datetime64[Y]").astype(str)
    assert dates[0].tolist() == ["2019", "2021", "NaT", "NaT"]
    np.testing.assert_array_equal(found.values[:, 1], brute(raw + 2, rows, columns))


def test_a_file_that_comes_back_is_read_on_the_second_try(tmp_path, cut, raw, monkeypatch):
    catalog = stack(tmp_path, raw, [NEW_YEAR])
    path, away = tmp_path / "d00.tif", tmp_path / "away"
    shutil.move(path, away)
    monkeypatch.setattr("eo_causal.ingest.chip_read.time.sleep", lambda _: shutil.move(away, path))
    units = on_pixels([50], [60])
    result = cut(catalog, units, retries=2)
    assert result.failures.empty
    assert result.files["retries"].tolist() == [1]


def test_units_of_one_image_key_share_a_chip(tmp_path, cut, raw):
    catalog = table(scene_rows(write_image(tmp_path / "a.tif", raw), NEW_YEAR))
    units = on_pixels([50, 50, 20], [60, 60, 30], keys=["k", "k", "m"])
    result = cut(catalog, units)
    assert result.chips.sizes["unit"] == 2
    found = in_order(result.chips, units["image_key"])
    np.testing.assert_array_equal(found.values[:, 0], brute(raw, [50, 50, 20], [60, 60, 30]))
    with pytest.raises(CoverageError, match=r"1 image keys have no chip \(first: x\)"):
        in_order(result.chips, ["k", "x"])


def test_polygons_say_how_much_of_each_pixel_they_cover(tmp_path, cut, raw):
    catalog = table(scene_rows(write_image(tmp_path / "a.tif", raw), NEW_YEAR))
    boxes = [shapely.box(WEST + 10 * left, NORTH - 10 * (top + 4), WEST + 10 * (left + 6), NORTH - 10 * top)
             for top, left in ((20.3, 30.3), (60, 70.5))]  # fmt: skip
    shapes = geopandas.GeoSeries(boxes, crs="EPSG:32736").to_crs(4326)
    units = geopandas.GeoDataFrame(
        {"unit_id": ["a", "b"], "image_key": ["a", "b"]}, geometry=shapes
    )
    found = in_order(cut(catalog, units).chips, ["a", "b"])
    assert found["inside"].dims == ("unit", "y", "x")
    np.testing.assert_allclose(found["inside"].sum(("y", "x")), [24, 24], atol=0.01)
    assert float(found["inside"][0, 8, 8]) == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(found.values[0, 0], padded_window(raw, 22, 33, 16))
    assert "inside" not in cut(catalog, on_pixels([50], [60])).chips.coords


def test_centres_and_axes_say_where_each_pixel_is(tmp_path, cut, raw):
    catalog = table(scene_rows(write_image(tmp_path / "a.tif", raw), NEW_YEAR))
    chips = cut(catalog, on_pixels([50], [60]), size_pixels=5).chips
    assert (float(chips["centre_easting"][0]), float(chips["centre_northing"][0])) == (
        WEST + 605,
        NORTH - 505,
    )
    assert chips["x"].values.tolist() == [-20, -10, 0, 10, 20]
    assert chips["y"].values.tolist() == [20, 10, 0, -10, -20]


SETTINGS = {
    "observed": {"size_pixels": 16, "min_valid_fraction": 0.1},
    "periods": {"size_pixels": 16, "time": "periods", "period": "month", "method": "medoid",
                "min_valid_fraction": 0.1},
    "local": {"size_pixels": 16, "grid": "local", "resolution_m": 7.0, "max_slots": 3,
              "edge": "drop"},
}  # fmt: skip


WAYS = {
    "observed": [("synchronous", 1, 2**26), ("threads", 1, 2**16), ("threads", 4, 2**17),
                 ("processes", 2, 2**16)],
    "periods": [("synchronous", 1, 2**26), ("threads", 2, 2**17), ("threads", 4, 2**16)],
    "local": [("synchronous", 1, 2**26), ("threads", 4, 2**16)],
}  # fmt: skip


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_the_same_bytes_for_every_scheduler_number_of_workers_and_batch_size(
    tmp_path, raw, kind, monkeypatch
):
    monkeypatch.setattr("eo_causal.ingest.chip_plan.CHUNK_BYTES", 2**16)
    catalog = stack(tmp_path, raw, ["2020-01-03", "2020-01-13", "2020-02-10", "2020-04-05"])
    units = on_pixels(*np.random.default_rng(6).integers(0, (100, 120), (24, 2)).T)
    digests = set()
    for number, (scheduler, workers, batch_bytes) in enumerate(WAYS[kind]):
        folder = tmp_path / f"way{number}"
        folder.mkdir()
        settings = ChipSettings(**SETTINGS[kind], batch_bytes=batch_bytes)
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            cut_chips(catalog, units, settings, folder=folder)
        digests.add(digest(folder))
    assert len(digests) == 1


def test_the_memory_of_a_batch_is_a_few_times_its_bound(tmp_path, raw, monkeypatch):
    """Values of all dates, the chips made of them, and their blocks while they are compressed."""
    monkeypatch.setattr("eo_causal.ingest.chip_plan.CHUNK_BYTES", 2**16)
    days = [f"2020-{month:02}-{day:02}" for month in range(1, 7) for day in (1, 16)]
    catalog = stack(tmp_path, raw, days)
    units = on_pixels(*np.random.default_rng(7).integers(8, 90, (2, 300)))
    scenes, bands = scenes_of(catalog)
    for settings in ({}, {"time": "periods", "period": "month"}):
        chosen = ChipSettings(size_pixels=16, batch_bytes=2**20, **settings)
        plan = plan_chips(units, scenes, 2, chosen)
        first = next(batches_of(plan, units, scenes, bands))
        decoded = len(first.pair_chip) * 2 * 16 * 16 * 4
        assert plan.n_batches > 5
        assert 2**19 < decoded <= 2**20
        monkeypatch.setattr("eo_causal.ingest.chip_batch.write_rows", lambda *_: None)
        tracemalloc.start()
        cut_batch(first, chosen, "")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * 2**20


def digest(folder):
    """Hash of everything in a folder except how many reads it took."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "files" not in path.relative_to(folder).parts:
            found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def test_the_folder_reads_back_as_the_result(tmp_path, raw):
    catalog = stack(tmp_path, raw, ["2020-01-03", "2020-02-13"])
    folder = tmp_path / "out"
    folder.mkdir()
    settings = ChipSettings(size_pixels=16)
    result = cut_chips(catalog, on_pixels([50, 30], [60, 20]), settings, folder=folder)
    again = read_value(ChipSet, folder)
    xr.testing.assert_identical(again.chips, result.chips)
    for name in ("files", "failures", "overlap"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name))
    first = digest(folder)
    other = tmp_path / "other"
    other.mkdir()
    cut_chips(catalog, on_pixels([50, 30], [60, 20]), settings, folder=other)
    assert digest(other) == first


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size_pixels": 16, "size_m": 100}, "not both"),
        ({"grid": "local"}, "needs resolution_m"),
        ({"resolution_m": 10}, "belongs to grid: local"),
        ({"bands": ("red", "red")}, "name each band once"),
    ],
)
def test_settings_that_contradict_each_other(settings, words):
    with pytest.raises(ValueError, match=words):
        ChipSettings(**settings)
