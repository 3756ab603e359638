"""Chips are the same bytes whoever cuts them: in this process, in threads, processes or a cluster."""

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from eo_causal.core.artefacts import list_files
from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.ingest.catalog import CatalogSettings, read_catalog
from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.chips import cut_chips
from eo_causal.run.compute import ComputeSettings, computing

CRS, PIXELS, DATES = "EPSG:32736", 192, ("20190601", "20200703")
SETTINGS = ChipSettings(size_pixels=64, min_valid_fraction=0, batch_bytes=2**16)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two dates of a 2 x 2 mosaic with some nodata."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for date in DATES:
        for number in range(4):
            row, column = divmod(number, 2)
            corner = from_origin(5e5 + column * 10 * PIXELS, 98e5 - row * 10 * PIXELS, 10, 10)
            with rasterio.open(
                folder / f"{date}_{number}.tif", "w", driver="GTiff", dtype="uint16", count=3,
                height=PIXELS, width=PIXELS, tiled=True, blockxsize=64, blockysize=64, crs=CRS,
                transform=corner, nodata=0,
            ) as target:  # fmt: skip
                target.write(random.integers(0, 50, (3, PIXELS, PIXELS)).astype("uint16"))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def catalog(images):
    settings = CatalogSettings(
        files=("*.tif",), pattern=r"(?P<item>(?P<date>\d{8})_\d)\.tif", band_names=("a", "b", "c"),
        product="generic",
    )  # fmt: skip
    files = InputFiles(tuple(map(str, images)), ("",) * len(images))
    return read_catalog(files, settings, policy=SourcePolicy((images[0].parent.resolve(),)))


@pytest.fixture(scope="module")
def places():
    away = np.random.default_rng(1).uniform(0, 20 * PIXELS, (300, 2))
    points = geopandas.points_from_xy(5e5 + away[:, 0], 98e5 - away[:, 1], crs=CRS).to_crs(4326)
    keys = np.arange(len(away)).astype(str)
    return geopandas.GeoDataFrame({"unit_id": keys, "image_key": keys}, geometry=points)


def digests(catalog, places, folder):
    folder.mkdir()
    found = cut_chips(catalog, places, SETTINGS, folder=folder)
    return list_files(folder), found


@pytest.fixture(scope="module")
def expected(catalog, places, tmp_path_factory):
    with computing(ComputeSettings(kind="synchronous")):
        return digests(catalog, places, tmp_path_factory.mktemp("expected") / "run")


@pytest.mark.parametrize(
    "compute",
    [
        {"kind": "threads", "n_workers": 2},
        {"kind": "processes", "n_workers": 2},
        {"kind": "local", "n_workers": 1},
    ],
    ids=lambda compute: compute["kind"],
)
def test_equal_bytes(catalog, places, expected, tmp_path, compute):
    with computing(ComputeSettings(**compute)):
        found, _ = digests(catalog, places, tmp_path / "run")
    assert found == expected[0]


def test_there_are_tasks_to_share(expected):
    chips = expected[1].chips
    assert len(chips.variable.chunksizes["unit"]) > 3
    assert np.isfinite(chips.values).any()
    assert np.isnan(chips.values).any()
