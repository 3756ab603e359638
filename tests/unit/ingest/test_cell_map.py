"""Maps in cells: every cell is the chip around its middle, whatever strips, parts and workers do."""

from dataclasses import dataclass

import dask
import numpy as np
import pytest
import xarray as xr
from scene_files import NORTH, STEP, UTM, WEST, on_pixels, scene_rows, table, write_image

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, CoverageError, ReadError
from eo_causal.ingest import cell_map
from eo_causal.ingest.cell_map import CellSettings, cells_at, map_cells
from eo_causal.ingest.chip_settings import ChipSettings

CHIPS = ChipSettings(size_pixels=8, min_valid_fraction=0.5, retries=0, max_slots=1)


@dataclass(frozen=True)
class Corners:
    """Mean of the first band, and its first and last pixel."""

    layers: tuple[str, ...] = ("mean", "first", "last")

    def __call__(self, chips):
        values = chips.to_numpy()[:, 0, 0]
        return np.stack(
            [np.nanmean(values, axis=(1, 2)), values[:, 0, 0], values[:, -1, -1]], axis=1
        )


@pytest.fixture
def raw():
    return np.random.default_rng(0).integers(1, 4000, (2, 64, 80)).astype(np.uint16)


@pytest.fixture
def catalog(tmp_path, raw):
    path = write_image(tmp_path / "a.tif", raw)
    return table(scene_rows(path, "2020-01-01"))


def whole(catalog, settings, chips=CHIPS, reader=Corners()):
    parts = [map_cells(catalog, k, settings, chips, reader) for k in range(settings.n_parts)]
    return xr.concat(parts, "y")


def test_cells_are_blocks_of_pixels(catalog, raw):
    found = whole(catalog, CellSettings(cell_pixels=8, n_parts=1))
    blocks = raw[0].reshape(8, 8, 10, 8).swapaxes(1, 2).astype(float)
    assert found.dims == ("y", "x", "layer")
    np.testing.assert_allclose(found.sel(layer="mean"), blocks.mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(found.sel(layer="first"), blocks[:, :, 0, 0])
    np.testing.assert_array_equal(found.sel(layer="last"), blocks[:, :, -1, -1])
    assert found["northing"].to_numpy()[0] == NORTH - 4 * STEP
    assert found["easting"].to_numpy()[-1] == WEST + 76 * STEP
    assert found.attrs["crs"] == UTM


@pytest.mark.parametrize("cell_pixels", [3, 8, 13])
def test_footprints_may_be_wider_or_narrower_than_cells(catalog, raw, cell_pixels):
    settings = CellSettings(cell_pixels=cell_pixels, n_parts=1)
    found = whole(catalog, settings, CHIPS.model_copy(update={"min_valid_fraction": 0.01}))
    row, column = 2, 3
    middle = [int((at + 0.5) * cell_pixels) for at in (row, column)]
    chip = raw[0, middle[0] - 4 : middle[0] + 4, middle[1] - 4 : middle[1] + 4]
    assert float(found.sel(layer="mean")[row, column]) == pytest.approx(chip.mean(), rel=1e-6)


@pytest.mark.parametrize(("n_parts", "at_once", "scheduler"),
                         [(3, 8192, "synchronous"), (1, 11, "threads"), (4, 25, "synchronous")])  # fmt: skip
def test_parts_strips_and_schedulers_change_no_bit(
    catalog, monkeypatch, n_parts, at_once, scheduler
):
    expected = whole(catalog, CellSettings(cell_pixels=8, n_parts=1))
    monkeypatch.setattr(cell_map, "CELLS_AT_ONCE", at_once)
    with dask.config.set(scheduler=scheduler):
        found = whole(catalog, CellSettings(cell_pixels=8, n_parts=n_parts))
    xr.testing.assert_identical(found, expected)


def test_ground_without_images_or_with_too_few_dates_stays_empty(tmp_path, raw):
    a = write_image(tmp_path / "a.tif", raw)
    b = write_image(tmp_path / "b.tif", raw, west=WEST + 160 * STEP)
    c = write_image(tmp_path / "c.tif", raw[:, :, :40])
    days = ("2020-01-01", "2020-01-02", "2020-03-01")
    catalog = table(*(scene_rows(path, day) for path, day in zip((a, b, c), days, strict=True)))
    with counting() as counts:
        found = whole(catalog, CellSettings(cell_pixels=8, n_parts=1)).sel(layer="mean")
    seen = np.isfinite(found.to_numpy())
    assert found.shape == (8, 30)
    assert seen[:, :10].all()
    assert not seen[:, 10:20].any()
    assert seen[:, 20:].all()
    assert counts["cells"] == 240
    assert counts["cells_mapped"] == 160
    two = CHIPS.model_copy(update={"max_slots": 2})
    often = whole(catalog, CellSettings(cell_pixels=8, n_parts=1, least_dates=2), two)
    np.testing.assert_array_equal(
        np.isfinite(often.sel(layer="mean")).all(axis=0)[:6], [1] * 5 + [0]
    )


def test_invalid_pixels_are_left_out(tmp_path, raw):
    raw[0, :8, :8] = 0
    raw[0, 8:16, :2] = 0
    path = write_image(tmp_path / "a.tif", raw, nodata=0)
    found = whole(table(scene_rows(path, "2020-01-01")), CellSettings(cell_pixels=8, n_parts=1))
    means = found.sel(layer="mean").to_numpy()
    assert np.isnan(means[0, 0])
    assert means[1, 0] == pytest.approx(raw[0, 8:16, 2:8].mean(), rel=1e-6)


def test_a_last_cell_beyond_the_images_needs_enough_of_them(catalog):
    found = whole(catalog, CellSettings(cell_pixels=24, n_parts=1)).sel(layer="mean")
    assert found.shape == (3, 4)
    assert np.isfinite(found[:, :3]).all()


def test_more_parts_than_rows_are_refused(catalog):
    with pytest.raises(CoverageError, match="n_parts is 9, but the map has 8 rows"):
        map_cells(catalog, 0, CellSettings(cell_pixels=8, n_parts=9), CHIPS, Corners())


def test_another_grid_than_the_images_is_refused(catalog):
    local = ChipSettings(size_pixels=8, grid="local", resolution_m=10)
    with pytest.raises(ConfigError, match="grid: native"):
        map_cells(catalog, 0, CellSettings(n_parts=1), local, Corners())


def test_a_broken_file_ends_the_part(catalog, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(ReadError, match="reads failed in rows 0 to 8"):
        whole(catalog, CellSettings(cell_pixels=8, n_parts=1))


def test_places_read_the_cell_they_lie_in(catalog):
    settings = CellSettings(cell_pixels=8, n_parts=3)
    parts = [map_cells(catalog, k, settings, CHIPS, Corners()) for k in range(3)]
    everything = xr.concat(parts, "y").to_numpy()
    rows, columns = np.array([0, 7, 8, 63, 21]), np.array([0, 8, 7, 79, 40])
    found = cells_at(parts, on_pixels(rows, columns))
    np.testing.assert_array_equal(
        found[["mean", "first", "last"]].to_numpy(), everything[rows // 8, columns // 8]
    )
    assert found["unit_id"].tolist() == ["u0", "u1", "u2", "u3", "u4"]


def test_places_beyond_the_map_are_named(catalog):
    parts = [map_cells(catalog, 0, CellSettings(cell_pixels=8, n_parts=1), CHIPS, Corners())]
    with pytest.raises(CoverageError, match=r"1 of 2 places lie beyond the map.*first: u1"):
        cells_at(parts, on_pixels(np.array([3, -2]), np.array([3, 5])))
