"""Plans against brute force: who meets whom, in which order, in how large pieces."""

import geopandas
import numpy as np
import pytest
import shapely
from pyproj import CRS
from scene_files import on_pixels, places

from eo_causal.core.progress import counting
from eo_causal.errors import CoverageError, EOCausalWarning, GeorefError
from eo_causal.ingest.chip_plan import CHUNK_READ_BYTES, centres, plan_chips
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import batches_of
from eo_causal.ingest.scene import Scene, SceneFile
from eo_causal.ingest.targets import lattice_offset

UTM = CRS.from_epsg(32736).to_wkt()
DEGREES = CRS.from_epsg(4326).to_wkt()


def scene(name, day="2020-01-01", west=500_000.0, north=9_800_000.0, shape=(100, 100), step=10.0,
          crs=UTM):  # fmt: skip
    grid = (step, 0.0, west, 0.0, -step, north)
    file = SceneFile(f"{name}.tif", (1,), (0,))
    time = np.datetime64(day, "ns")
    return Scene(name, time, time, "generic", None, None, crs, grid, shape, (file,), None)


def plan_of(units, scenes, n_bands=1, **settings):
    return plan_chips(units, scenes, n_bands, ChipSettings(**{"size_pixels": 16} | settings))


def test_a_chip_and_a_scene_are_a_pair_where_a_pixel_is_shared():
    random = np.random.default_rng(0)
    scenes = [
        scene(f"s{number}", west=500_000 + 10 * west, north=9_800_000 - 10 * north)
        for number, (west, north) in enumerate(random.integers(0, 300, (12, 2)))
    ]
    rows, columns = random.integers(0, 400, (2, 300))
    units = on_pixels(rows, columns)
    with pytest.raises(CoverageError):
        plan_of(units, scenes)
    reached = []
    for row, column in zip(rows, columns, strict=True):
        hits = set()
        for number, item in enumerate(scenes):
            top = (9_800_000 - item.transform[5]) / 10
            left = (item.transform[2] - 500_000) / 10
            down = min(row + 8, top + 100) - max(row - 8, top)
            across = min(column + 8, left + 100) - max(column - 8, left)
            if down > 0 and across > 0:
                hits.add(number)
        reached.append(hits)
    some = np.array([bool(hits) for hits in reached])
    plan = plan_of(units[some].reset_index(drop=True), scenes)
    expected = [hits for hits in reached if hits]
    for chip, unit in enumerate(plan.positions):
        found = plan.pair_scene[plan.starts[chip] : plan.starts[chip + 1]]
        assert found.tolist() == sorted(expected[unit])
    assert sorted(plan.positions) == list(range(int(some.sum())))


def test_chips_that_share_a_scene_and_a_block_are_neighbours():
    random = np.random.default_rng(1)
    units = on_pixels(*random.integers(0, 1024, (2, 400)))
    plan = plan_of(units, [scene("s", shape=(1024, 1024))])
    north, west = 9_800_000 - plan.targets.north, plan.targets.west - 500_000
    block = np.floor(north / 2560), np.floor(west / 2560)
    changes = (np.diff(block[0]) != 0) | (np.diff(block[1]) != 0)
    assert int(changes.sum()) + 1 == len(set(zip(*block, strict=True)))


def test_batches_hold_every_pair_once_and_whole_blocks():
    units = on_pixels(*np.random.default_rng(2).integers(0, 100, (2, 200)))
    scenes = [scene(f"s{day}", f"2020-01-{day:02}") for day in range(1, 21)]
    plan = plan_of(units, scenes, n_bands=30, batch_bytes=2**20)
    batches = list(batches_of(plan, units, scenes, ["b"] * 30))
    assert len(batches) == plan.n_batches > 1
    assert plan.batch % plan.chunk == 0
    assert [batch.start for batch in batches] == list(range(0, 200, plan.batch))
    pairs = [(batch.start + chip, batch.scenes[number].item_id) for batch in batches
             for chip, number in zip(batch.pair_chip, batch.pair_scene, strict=True)]  # fmt: skip
    assert len(pairs) == len(set(pairs)) == 200 * 20


@pytest.mark.parametrize("batch_bytes", [2**20, 2**24, 2**26, 2**28])
@pytest.mark.parametrize("time", ["observed", "periods"])
def test_what_a_batch_decodes_is_bounded_however_many_dates_there_are(batch_bytes, time):
    """400 dates, also where one composite is all that is kept of them."""
    units = on_pixels(*np.random.default_rng(3).integers(0, 100, (2, 300)))
    days = np.datetime64("2020-01-01") + np.arange(0, 360, 0.9).astype("timedelta64[D]")
    scenes = [scene(f"s{number:03}", str(day)) for number, day in enumerate(days)]
    plan = plan_of(units, scenes, n_bands=4, time=time, batch_bytes=batch_bytes)
    image = 4 * 16 * 16 * 4
    most = max(len(batch.pair_chip) for batch in batches_of(plan, units, scenes, ["b"] * 4))
    assert most * image <= max(batch_bytes, CHUNK_READ_BYTES)
    assert plan.chunk == plan_of(units, scenes, n_bands=4, time=time).chunk


def test_100_000_chips_over_100_scenes():
    """10,000 tiles of 256 pixels; the number of tasks, not the time, is what is held."""
    random = np.random.default_rng(4)
    scenes = [
        scene(f"s{row}{column}", west=500_000 + 25_600.0 * column, north=9_800_000 - 25_600.0 * row,
              shape=(2560, 2560))
        for row in range(10) for column in range(10)
    ]  # fmt: skip
    units = places(
        500_000 + random.uniform(0, 256_000, 100_000),
        9_800_000 - random.uniform(0, 256_000, 100_000),
    )
    plan = plan_of(units, scenes, n_bands=3, size_pixels=64)
    batches = list(batches_of(plan, units, scenes, ["a", "b", "c"]))
    assert len(batches) == plan.n_batches <= 300
    reads = sum(len(batch.scenes) for batch in batches)
    assert reads <= 3 * len(batches)
    assert plan.n_slots == 1
    arrays = [value for value in vars(plan).values() if isinstance(value, np.ndarray)]
    assert sum(value.nbytes for value in arrays) < 8e6


def test_a_shifted_grid_is_snapped_and_the_largest_shift_reported():
    scenes = [scene("a"), scene("b", west=500_002.0), scene("c", north=9_800_004.0)]
    plan = plan_of(on_pixels([50], [50]), scenes)
    assert plan.snap == pytest.approx(0.4)
    corners, shift = lattice_offset(plan.targets, scenes[2].transform, (100, 100), UTM)
    assert corners.tolist() == [[42, 42]]
    assert shift.tolist() == [[pytest.approx(-0.4), 0]]
    with pytest.raises(GeorefError, match=r"c: its grid is shifted by 0.40 pixels.*max_snap 0.3"):
        plan_of(on_pixels([50], [50]), scenes, max_snap=0.3)
    assert plan_of(on_pixels([50], [50]), [scene("a"), scene("b", west=500_005.0)]).snap == 0.5


@pytest.mark.parametrize(
    "other", [scene("b", step=20.0), scene("b", crs=CRS.from_epsg(32636).to_wkt())]
)
def test_images_of_several_grids_need_a_local_one(other):
    with pytest.raises(GeorefError, match="grid: local"):
        plan_of(on_pixels([50], [50]), [scene("a"), other])
    plan_of(on_pixels([50], [50]), [scene("a"), other], grid="local", resolution_m=10.0)


def test_places_on_no_image_stop_the_run_with_the_likely_reason():
    units = on_pixels([50] * 99 + [5000], [50] * 100)
    plan = plan_of(units, [scene("a")])
    assert plan.off.sum() == 1
    assert plan.positions[-1] == 99
    with pytest.raises(CoverageError, match=r"2 of 101 .*u99.* latitude swapped") as caught:
        plan_of(on_pixels([50] * 99 + [5000] * 2, [50] * 101), [scene("a")])
    assert caught.value.facts["n_off"] == 2
    swapped = on_pixels([50] * 5, [50] * 5)
    swapped.geometry = shapely.transform(swapped.geometry.to_numpy(), lambda xy: xy[:, ::-1])
    with pytest.raises(CoverageError, match="5 of 5 places lie on no image"):
        plan_of(swapped, [scene("a")])


def test_no_place_at_all():
    with pytest.raises(CoverageError, match="no unit"):
        plan_of(on_pixels([50], [50])[:0], [scene("a")])


def test_one_place_that_cannot_be_projected_hides_no_other():
    """Web Mercator has no poles: bounds there are infinite."""
    mercator = CRS.from_epsg(3857).to_wkt()
    units = places([33.0] * 199 + [10.0], [1.0] * 199 + [-90.0], crs="EPSG:4326")
    scenes = [scene("a", west=3_673_000.0, north=112_000.0, crs=mercator)]
    plan = plan_of(units, scenes)
    assert plan.off.sum() == 1


def test_scenes_on_both_sides_of_the_antimeridian():
    grid = {"step": 0.01, "crs": DEGREES, "north": 5.0}
    scenes = [
        scene("east", west=179.0, **grid), scene("west", west=-180.0, **grid),
        scene("both", west=179.5, **grid),
    ]  # fmt: skip
    units = places([179.985, -179.985, -179.005, 179.005], [4.5] * 4, crs="EPSG:4326")
    for settings in ({}, {"grid": "local", "resolution_m": 1000.0}):
        plan = plan_of(units, scenes, **settings)
        found = {
            int(unit): plan.pair_scene[plan.starts[chip] : plan.starts[chip + 1]].tolist()
            for chip, unit in enumerate(plan.positions)
        }
        assert found == {0: [0, 1, 2], 1: [0, 1, 2], 2: [1], 3: [0]}


def test_slots_are_solar_days_or_periods():
    units = on_pixels([50, 20], [50, 20])
    scenes = [
        scene("a", "2020-01-01T05:00"),
        scene("b", "2020-01-01T06:00"),
        scene("c", "2020-03-02"),
    ]
    assert plan_of(units, scenes).n_slots == 2
    assert plan_of(units, scenes, max_slots=1).n_slots == 1
    plan = plan_of(units, scenes, time="periods", period="month")
    assert [str(start)[:7] for start in plan.periods] == ["2020-01", "2020-02", "2020-03"]


def test_a_size_in_metres_and_a_displacement_beyond_it():
    units, scenes = on_pixels([50], [50]), [scene("a")]
    assert plan_of(units, scenes, size_pixels=None, size_m=200.0).targets.size == (20, 20)
    assert plan_of(units, scenes, size_pixels=None).targets.size == (64, 64)
    with pytest.warns(EOCausalWarning, match="80 m wide, less than the displacement of 5000 m"):
        plan_of(units, scenes, displacement_m=5000.0)


def test_the_middle_of_a_polygon_also_across_the_antimeridian():
    units = places([33.0] * 2, [1.0] * 2, crs="EPSG:4326")
    parts = [shapely.box(179.5, 4, 180, 6), shapely.box(-180, 4, -179.0, 6)]
    units.geometry = [shapely.box(10, 20, 11, 24), shapely.MultiPolygon(parts)]
    longitude, latitude = centres(units)
    assert longitude.tolist() == [10.5, -179.75]
    assert latitude.tolist() == [22.0, 5.0]


def test_chips_hold_the_largest_polygon_and_its_margin():
    shapes = [shapely.box(33.0, -1.0, 33.01, -0.99), shapely.box(33.02, -1.0, 33.04, -0.99)]
    units = geopandas.GeoDataFrame({"unit_id": ["a", "b"]}, geometry=shapes, crs=4326)
    metres = 0.02 * 111_320 * np.cos(np.deg2rad(0.995))
    image = scene("one", west=32.9, north=-0.9, shape=(300, 300), step=0.001, crs=DEGREES)
    settings = ChipSettings(grid="local", resolution_m=30, buffer_m=100)
    size = plan_chips(units, [image], 1, settings).targets.size[0]
    assert size == int(np.ceil((metres + 200) / 30)) + 1
    with counting() as counts:
        plan_chips(units, [image], 1, ChipSettings(size_pixels=16))
    assert counts["polygons_larger_than_a_chip"] == 1
