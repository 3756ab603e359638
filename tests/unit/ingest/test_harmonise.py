"""Lines between sensors against hand-made data, brute force and total least squares."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import ValidationError

from eo_causal.core.progress import counting
from eo_causal.errors import ConfigError, CoverageError, DataError, EOCausalWarning, GeorefError
from eo_causal.ingest.harmonise import (
    HarmoniseSettings,
    compose,
    covariances,
    fit_harmonisation,
)
from eo_causal.simulate.observation import sensor_overlap

SETTINGS = HarmoniseSettings(reference="reference")


def sensor(z, start="2000-01"):
    months = pd.date_range(start, periods=len(z), freq="MS", unit="ns")
    return xr.DataArray(np.exp(z), dims=("time", "cell"), coords={"time": months})


def water(n=60, n_cells=5, seed=0):
    return np.random.default_rng(seed).normal(-3, 0.3, (n, n_cells))


def shared_pairs(world):
    x = np.log(world.sensors["old"].to_numpy())
    y = np.log(world.sensors["reference"].to_numpy())
    both = np.isfinite(x) & np.isfinite(y)
    return x, y, both


def test_exact_line_between_noiseless_sensors():
    z = water()
    fit = fit_harmonisation({"reference": sensor(0.2 + 1.1 * z), "old": sensor(z)}, SETTINGS)
    row = fit.table.iloc[0]
    assert row["intercept"] == pytest.approx(0.2, abs=1e-10)
    assert row["slope"] == pytest.approx(1.1, abs=1e-10)
    assert row["residual_sd"] == pytest.approx(0, abs=1e-6)
    assert (row["n_months"], row["n_pairs"]) == (60, 300)
    assert "old was joined to reference on 300 cell-months" in fit.text


@pytest.mark.parametrize("ratio", [1.0, 0.25, 4.0])
def test_slope_is_total_least_squares_of_scaled_values(ratio):
    world = sensor_overlap(5, slope=1.1)
    fit = fit_harmonisation(
        world.sensors, HarmoniseSettings(reference="reference", noise_ratio=ratio)
    )
    x, y, both = shared_pairs(world)
    x, y = x[both], y[both] / np.sqrt(ratio)
    axis = np.linalg.svd(np.column_stack([x - x.mean(), y - y.mean()]), full_matrices=False)[2][0]
    slope = axis[1] / axis[0] * np.sqrt(ratio)
    assert fit.table["slope"].item() == pytest.approx(slope, rel=1e-9)
    intercept = y.mean() * np.sqrt(ratio) - slope * x.mean()
    assert fit.table["intercept"].item() == pytest.approx(intercept, rel=1e-9)


@pytest.mark.parametrize(("n_shared", "length"), [(60, 6), (64, 6), (30, 3)])
def test_covariance_is_the_jackknife_over_blocks_of_months(n_shared, length):
    world = sensor_overlap(6, overlap=(180 - n_shared, 180), slope=1.05)
    row = fit_harmonisation(world.sensors, SETTINGS).table.iloc[0]
    x, y, both = shared_pairs(world)
    months = np.flatnonzero(both.any(axis=1))
    blocks = [months[i : i + length] for i in range(0, len(months), length)]
    left_out = []
    for block in blocks:
        keep = both.copy()
        keep[block] = False
        covariance = np.cov(x[keep], y[keep])
        gap = covariance[1, 1] - covariance[0, 0]
        slope = (gap + np.hypot(gap, 2 * covariance[0, 1])) / (2 * covariance[0, 1])
        left_out.append([y[keep].mean() - slope * x[keep].mean(), slope])
    spread = np.array(left_out) - np.mean(left_out, axis=0)
    expected = (len(blocks) - 1) / len(blocks) * spread.T @ spread
    np.testing.assert_allclose(covariances(row.to_frame().T)[0], expected, rtol=1e-6)
    assert row["degrees_of_freedom"] == len(blocks) - 1


def test_offset_shifts_only():
    world = sensor_overlap(7)
    settings = HarmoniseSettings(reference="reference", method="offset")
    row = fit_harmonisation(world.sensors, settings).table.iloc[0]
    x, y, both = shared_pairs(world)
    assert row["intercept"] == pytest.approx((y - x)[both].mean(), rel=1e-10)
    assert row["slope"] == 1
    assert row["variance_slope"] == 0
    assert row["variance_intercept"] > 0


def test_residual_spread_by_hand():
    world = sensor_overlap(8)
    row = fit_harmonisation(world.sensors, SETTINGS).table.iloc[0]
    x, y, both = shared_pairs(world)
    residual = (y - row["intercept"] - row["slope"] * x)[both]
    assert row["residual_sd"] == pytest.approx(residual.std(), rel=1e-9)


def test_sensors_join_where_they_overlap_longest():
    z = water(n=300)
    sensors = {
        "first": sensor((z[:140] + 0.1) / 0.9),
        "last": sensor(z[180:], start="2015-01"),
        "middle": sensor((z[100:230] - 0.2) / 1.1, start="2008-05"),
    }
    fit = fit_harmonisation(sensors, HarmoniseSettings(reference="last"))
    assert fit.table["sensor"].tolist() == ["middle", "first"]
    assert fit.table["reference"].tolist() == ["last", "middle"]
    assert fit.table["n_months"].tolist() == [50, 40]
    lines = compose(fit.table, "last")
    assert lines["last"] == (0, 1)
    np.testing.assert_allclose(lines["middle"], (0.2, 1.1), atol=1e-9)
    np.testing.assert_allclose(lines["first"], (-0.1, 0.9), atol=1e-9)


def test_values_that_are_not_positive_are_missing_not_logarithms():
    z = water()
    old = sensor(z)
    broken = old.copy()
    broken[3, 2], broken[10, 0], broken[11, 1] = 0.0, -1.0, np.inf
    masked = old.copy()
    masked[3, 2], masked[10, 0], masked[11, 1] = np.nan, np.nan, np.nan
    reference = sensor(z + 0.01 * water(seed=1))
    first = fit_harmonisation({"reference": reference, "old": broken}, SETTINGS).table
    second = fit_harmonisation({"reference": reference, "old": masked}, SETTINGS).table
    pd.testing.assert_frame_equal(first, second)


def test_chunks_do_not_change_the_lines():
    sensors = sensor_overlap(9).sensors
    lazy = {name: cube.chunk(time=50, cell=5) for name, cube in sensors.items()}
    whole, chunked = (fit_harmonisation(each, SETTINGS).table for each in (sensors, lazy))
    pd.testing.assert_frame_equal(whole, chunked, rtol=1e-9)


def test_shared_months_are_counted():
    with counting() as counts:
        fit_harmonisation(sensor_overlap(14).sensors, SETTINGS)
    assert counts["harmonised_months_shared"] == 60
    assert counts["harmonised_pairs"] > 200


@pytest.mark.parametrize("n_shared", [0, 12, 23])
def test_too_short_overlaps_are_refused_with_the_count(n_shared):
    sensors = sensor_overlap(11, overlap=(180 - n_shared, 180), missing=0).sensors
    with pytest.raises(CoverageError, match=f"share {n_shared} months") as caught:
        fit_harmonisation(sensors, SETTINGS)
    assert caught.value.facts["n_months"] == n_shared
    assert isinstance(caught.value, DataError)


def test_too_few_blocks_are_refused():
    sensors = sensor_overlap(12, overlap=(150, 180), missing=0).sensors
    settings = HarmoniseSettings(reference="reference", short_block_months=6)
    with pytest.raises(CoverageError, match="5 blocks"):
        fit_harmonisation(sensors, settings)


def test_sensors_that_do_not_vary_together_are_refused():
    z = water()
    with pytest.raises(CoverageError, match="do not vary together"):
        fit_harmonisation({"reference": sensor(z), "old": sensor(-6 - z)}, SETTINGS)
    with pytest.raises(CoverageError, match="do not vary together"):
        fit_harmonisation({"reference": sensor(z), "old": sensor(0 * z - 3)}, SETTINGS)


def test_one_sensor_or_an_unknown_name_is_a_config_error():
    z = sensor(water())
    with pytest.raises(ConfigError, match="two are needed"):
        fit_harmonisation({"reference": z}, SETTINGS)
    with pytest.raises(ConfigError, match="reference is none of them"):
        fit_harmonisation({"a": z, "b": z}, SETTINGS)
    with pytest.raises(ConfigError, match="modis"):
        fit_harmonisation(
            {"reference": z, "b": z}, HarmoniseSettings(reference="reference", priority=("modis",))
        )


def test_least_squares_is_not_offered():
    with pytest.raises(ValidationError, match="deming"):
        HarmoniseSettings(reference="reference", method="least_squares")


def test_other_grids_are_refused():
    z = water()
    with pytest.raises(GeorefError, match="old"):
        fit_harmonisation({"reference": sensor(z), "old": sensor(z[:, :3])}, SETTINGS)
    here = sensor(z).assign_coords(latitude=("cell", np.arange(5.0)))
    there = sensor(z).assign_coords(latitude=("cell", np.arange(5.0) + 1e-9))
    with pytest.raises(GeorefError, match="old"):
        fit_harmonisation({"reference": here, "old": there}, SETTINGS)


def test_large_drift_warns_with_its_size_per_decade():
    sensors = sensor_overlap(13, drift=-0.4, overlap=(60, 180)).sensors
    with pytest.warns(EOCausalWarning, match="per decade") as caught:
        fit = fit_harmonisation(sensors, SETTINGS)
    assert [item.message.code for item in caught] == ["SensorDriftWarning"]
    assert fit.table["drift_per_decade"].item() == pytest.approx(0.4, abs=0.1)


def test_slope_far_from_one_warns():
    z = water()
    with pytest.warns(EOCausalWarning, match=r"slope 1\.400") as caught:
        fit_harmonisation({"reference": sensor(1.4 * z), "old": sensor(z)}, SETTINGS)
    assert [item.message.code for item in caught] == ["SensorSlopeWarning"]
