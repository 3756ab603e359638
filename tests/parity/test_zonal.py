"""Zone weights, means and medians against exactextract and against brute force."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from shapely.geometry import Polygon

from eo_causal.ingest.zonal import ZoneSettings, zone_means, zone_weights

SIZE, STEP, WEST, NORTH = 600, 1 / 48, 120.0, 5.0
ANYTHING = {"min_valid_fraction": 0.0}


@pytest.fixture(scope="module")
def cube():
    """Three months of log-normal water, 60 % of it hidden in blobs of 20 cells."""
    random = np.random.default_rng(12)
    values = random.lognormal(-3, 0.5, (3, SIZE, SIZE)).astype(np.float32)
    blobs = np.kron(random.random((3, SIZE // 20, SIZE // 20)) < 0.6, np.ones((20, 20)))
    values[blobs.astype(bool)] = np.nan
    cells = np.arange(SIZE) + 0.5
    return xr.DataArray(
        values, dims=("time", "y", "x"), name="kd490", attrs={"units": "m-1"},
        coords={
            "time": pd.date_range("2000-01", periods=3, freq="MS", unit="ns"),
            "latitude": ("y", NORTH - STEP * cells),
            "longitude": ("x", WEST + STEP * cells),
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def zones():
    """Ten irregular polygons of 24 corners, partly overlapping."""
    random = np.random.default_rng(13)
    polygons = []
    for _ in range(10):
        centre = np.array([WEST + 6.25, NORTH - 6.25]) + random.uniform(-4, 4, 2)
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = random.uniform(0.6, 1.6, 24)
        corners = np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
        polygons.append(Polygon(centre + corners))
    names = [f"zone {number}" for number in range(10)]
    return geopandas.GeoDataFrame({"zone": names}, geometry=polygons, crs=4326)


def raster(values):
    extent = SIZE * STEP
    return NumPyRasterSource(
        values, xmin=WEST, xmax=WEST + extent, ymin=NORTH - extent, ymax=NORTH, nodata=np.nan
    )


def cell_area():
    edges = NORTH - STEP * np.arange(SIZE + 1)
    return -np.diff(np.sin(np.deg2rad(edges)))[:, None] * np.ones((SIZE, SIZE))


def extracted(values, zones, operation, weights=None):
    extra = {} if weights is None else {"weights": raster(weights)}
    found = exact_extract(raster(values), zones, operation, **extra)
    (name,) = found[0]["properties"]
    return np.array([feature["properties"][name] for feature in found])


def brute_force(values, weights):
    """Smallest value at which the cumulated weight reaches half."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return values[order][np.searchsorted(reached, reached[-1] / 2)]


def test_mean_equals_area_weighted_exactextract(cube, zones):
    ours = zone_means(cube, zones, ZoneSettings(method="mean", **ANYTHING))["kd490"]
    for t in range(3):
        expected = extracted(cube[t].to_numpy().astype(float), zones, "weighted_mean", cell_area())
        np.testing.assert_allclose(ours[:, t], expected, rtol=1e-9)


def test_single_precision_weights_would_miss_the_mean(cube, zones):
    values = cube[0].to_numpy().ravel()
    weights = zone_weights(cube, zones).astype(np.float32).tocsr()
    seen = np.isfinite(values)
    total = np.array([
        np.cumsum((weights[[row]].toarray()[0] * np.where(seen, values, 0)).astype("f4"))[-1]
        for row in range(10)
    ])  # fmt: skip
    single = total / (weights @ seen.astype(np.float32))
    ours = zone_means(cube, zones, ZoneSettings(method="mean", **ANYTHING))["kd490"][:, 0]
    assert np.abs(single / ours.to_numpy() - 1).max() > 1e-8


def test_number_of_cells_and_valid_share_equal_exactextract(cube, zones):
    ours = zone_means(cube, zones, ZoneSettings(method="mean", **ANYTHING))
    ever = np.isfinite(cube.to_numpy()).any(axis=0).astype(float)
    whole = extracted(np.where(ever > 0, 1.0, np.nan), zones, "weighted_sum", cell_area())
    for t in range(3):
        ones = np.where(np.isfinite(cube[t].to_numpy()), 1.0, np.nan)
        valid = extracted(ones, zones, "weighted_sum", cell_area())
        np.testing.assert_allclose(ours["valid_fraction"][:, t], valid / whole, rtol=1e-9)
    share = extracted(ever, zones, "weighted_mean", cell_area())
    np.testing.assert_allclose(ours["water_fraction"], share, rtol=1e-9)


def test_median_equals_brute_force_exactly(cube, zones):
    ours = zone_means(cube, zones, ZoneSettings(method="median", **ANYTHING))["kd490"].to_numpy()
    weights = zone_weights(cube, zones)
    for t in range(3):
        values = cube[t].to_numpy().ravel().astype(float)
        for row in range(10):
            mine = slice(weights.indptr[row], weights.indptr[row + 1])
            cells, mass = weights.indices[mine], weights.data[mine]
            seen = np.isfinite(values[cells])
            assert ours[row, t] == brute_force(values[cells][seen], mass[seen])


def test_median_is_close_to_exactextracts_interpolated_one(cube, zones):
    ours = zone_means(cube, zones, ZoneSettings(method="median", **ANYTHING))["kd490"]
    for t in range(3):
        theirs = extracted(cube[t].to_numpy().astype(float), zones, "median")
        np.testing.assert_allclose(ours[:, t], theirs, rtol=3e-3)


@pytest.mark.parametrize("seed", range(20))
def test_median_with_ties_and_few_cells_equals_brute_force(seed):
    from eo_causal.ingest.weighted_median import weighted_lower_median

    random = np.random.default_rng(seed)
    block = random.integers(0, 4, (200, 9)).astype(float)
    block[random.random(block.shape) < 0.4] = np.nan
    mass = random.choice([0.25, 0.5, 1.0], 9)
    found = weighted_lower_median(block, np.array([0, 9]), np.arange(9), mass)[:, 0]
    for t, row in enumerate(block):
        seen = np.isfinite(row)
        if not seen.any():
            assert np.isnan(found[t])
        else:
            assert found[t] == brute_force(row[seen], mass[seen])
