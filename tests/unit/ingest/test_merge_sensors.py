"""The merged record and the error it carries."""

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eo_causal.errors import ConfigError
from eo_causal.ingest.harmonise import HarmoniseSettings, covariances, fit_harmonisation
from eo_causal.ingest.merge_sensors import (
    coefficient_draws,
    combine_draws,
    correction,
    harmonisation_draws,
    harmonise,
)
from eo_causal.simulate.observation import sensor_overlap

SETTINGS = HarmoniseSettings(reference="reference")


@pytest.fixture(scope="module")
def world():
    return sensor_overlap(21, slope=1.05)


@pytest.fixture(scope="module")
def chain():
    """Three sensors one after the other; the first reaches the last through the middle one."""
    random = np.random.default_rng(4)
    months = pd.date_range("1998-01", periods=160, freq="MS", unit="ns")
    z = -3 + random.normal(0, 0.3, (160, 4))

    def sensor(values, first, last):
        noisy = values + random.normal(0, 0.05, values.shape)
        array = xr.DataArray(np.exp(noisy), dims=("time", "cell"), coords={"time": months})
        return array[first:last]

    sensors = {
        "last": sensor(z, 90, 160),
        "middle": sensor((z - 0.1) / 1.1, 40, 130),
        "first": sensor((z - 0.05) / 0.95, 0, 80),
    }
    return sensors, fit_harmonisation(sensors, HarmoniseSettings(reference="last"))


def test_only_the_reference_stays_as_it_is(world):
    merged = harmonise(world.sensors, fit_harmonisation(world.sensors, SETTINGS))
    expected = world.sensors["reference"][180:]
    np.testing.assert_allclose(merged["kd490"][180:], expected, rtol=1e-12)
    seen = np.isfinite(expected.to_numpy())
    assert (merged["shared_sd"][180:].to_numpy()[seen] == 0).all()


def test_error_of_one_corrected_sensor_by_hand(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    merged = harmonise(world.sensors, fit)
    z = np.log(world.sensors["old"].to_numpy())[:120]
    row, spread = fit.table.iloc[0], covariances(fit.table)[0]
    kd490 = np.exp(row["intercept"] + row["slope"] * z)
    variance = spread[0, 0] + 2 * spread[0, 1] * z + spread[1, 1] * z**2
    np.testing.assert_allclose(merged["kd490"][:120], kd490, rtol=1e-12)
    np.testing.assert_allclose(merged["shared_sd"][:120], kd490 * np.sqrt(variance), rtol=1e-7)
    assert merged["shared_sd"].attrs["units"] == "m-1"


def test_correction_agrees_with_the_merged_record(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    merged = harmonise(world.sensors, fit)
    z = np.log(world.sensors["old"].to_numpy())[:120]
    values, errors = correction(fit, "old", z[np.isfinite(z)])
    np.testing.assert_allclose(values, np.log(merged["kd490"][:120].to_numpy()[np.isfinite(z)]))
    relative = (merged["shared_sd"] / merged["kd490"])[:120].to_numpy()[np.isfinite(z)]
    np.testing.assert_allclose(errors, relative, rtol=1e-7)


def test_cell_months_nobody_saw_stay_missing(world):
    merged = harmonise(world.sensors, fit_harmonisation(world.sensors, SETTINGS))
    seen = sum(
        np.isfinite(cube.reindex(time=merged["time"]).to_numpy()).astype(int)
        for cube in world.sensors.values()
    )
    np.testing.assert_array_equal(merged["n_sensors"], seen)
    np.testing.assert_array_equal(np.isfinite(merged["kd490"]), seen > 0)


def test_shared_cell_months_are_weighted_by_precision(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    merged = harmonise(world.sensors, fit)
    row = fit.table.iloc[0]
    old = row["intercept"] + row["slope"] * np.log(world.sensors["old"][120:180])
    reference = np.log(world.sensors["reference"][120:180])
    share = row["slope"] ** 2 / (1 + row["slope"] ** 2)
    expected = share * reference + (1 - share) * old
    both = np.isfinite(expected.to_numpy())
    np.testing.assert_allclose(
        np.log(merged["kd490"][120:180].to_numpy()[both]), expected.to_numpy()[both], rtol=1e-10
    )


@pytest.mark.parametrize("priority", [(), ("old",)])
def test_priority_takes_the_first_that_saw_it(world, priority):
    settings = HarmoniseSettings(reference="reference", combine="priority", priority=priority)
    fit = fit_harmonisation(world.sensors, settings)
    merged = np.log(harmonise(world.sensors, fit)["kd490"])[120:180]
    row = fit.table.iloc[0]
    old = row["intercept"] + row["slope"] * np.log(world.sensors["old"][120:180])
    reference = np.log(world.sensors["reference"][120:180])
    expected = old.fillna(reference) if priority else reference.fillna(old)
    np.testing.assert_allclose(merged, expected, rtol=1e-12)


def test_water_is_recovered_through_a_chain_of_noiseless_sensors():
    world = sensor_overlap(22, noise=0, month_noise=0, missing=0.3)
    merged = harmonise(world.sensors, fit_harmonisation(world.sensors, SETTINGS))
    seen = np.isfinite(merged["kd490"].to_numpy())
    np.testing.assert_allclose(
        merged["kd490"].to_numpy()[seen], world.kd490.to_numpy()[seen], rtol=1e-9
    )


def test_error_along_a_tree_is_the_spread_of_its_draws(chain):
    sensors, fit = chain
    merged = harmonise(sensors, fit)
    draws = [
        np.log(draw.to_numpy()) for draw in harmonisation_draws(sensors, fit, seed=1, n_draws=800)
    ]
    relative = (merged["shared_sd"] / merged["kd490"]).to_numpy()[:130]
    np.testing.assert_allclose(np.std(draws, axis=0)[:130], relative, rtol=0.12)


def test_error_along_a_tree_by_hand(chain):
    _, fit = chain
    first = fit.table.set_index("sensor").loc["first"]
    middle = fit.table.set_index("sensor").loc["middle"]
    spreads = dict(zip(fit.table["sensor"], covariances(fit.table), strict=True))
    z = np.array([-3.5, -3.0, -2.4])
    on_middle = first["intercept"] + first["slope"] * z
    values, errors = correction(fit, "first", z)
    np.testing.assert_allclose(values, middle["intercept"] + middle["slope"] * on_middle)
    outer = np.column_stack([np.ones(3), on_middle])
    inner = middle["slope"] * np.column_stack([np.ones(3), z])
    variance = np.einsum("ni,ij,nj->n", outer, spreads["middle"], outer)
    variance += np.einsum("ni,ij,nj->n", inner, spreads["first"], inner)
    np.testing.assert_allclose(errors, np.sqrt(variance), rtol=1e-6)


def test_a_draw_moves_all_cells_and_months_of_a_sensor_along_one_line(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    merged = np.log(harmonise(world.sensors, fit)["kd490"][:120].to_numpy())
    z = np.log(world.sensors["old"][:120].to_numpy())
    seen = np.isfinite(z)
    draws = list(harmonisation_draws(world.sensors, fit, seed=2))
    assert len(draws) == 50
    for draw in draws:
        moved = np.log(draw[:120].to_numpy()[seen]) - merged[seen]
        slope, intercept = np.polyfit(z[seen], moved, 1)
        np.testing.assert_allclose(moved, intercept + slope * z[seen], atol=1e-9)
    np.testing.assert_allclose(draws[0][180:], world.sensors["reference"][180:], rtol=1e-12)


def test_draws_depend_on_the_seed_only(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    first, again, other = (
        next(harmonisation_draws(world.sensors, fit, seed=seed, n_draws=1)) for seed in (3, 3, 4)
    )
    assert first.to_numpy().tobytes() == again.to_numpy().tobytes()
    assert not first.equals(other)


def test_drawn_coefficients_have_the_fitted_mean_and_covariance(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    drawn = np.array(
        [
            table[["intercept", "slope"]].to_numpy()[0]
            for table in coefficient_draws(fit, seed=5, n_draws=4000)
        ]
    )
    spread = covariances(fit.table)[0]
    np.testing.assert_allclose(np.cov(drawn.T), spread, rtol=0.1)
    expected = fit.table[["intercept", "slope"]].to_numpy()[0]
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=4 * np.sqrt(spread[0, 0] / 4000))


def test_total_variance_by_hand():
    estimate, variance = combine_draws(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))
    assert estimate == 2.0
    assert variance == pytest.approx(0.2 + (1 + 1 / 3) * 1.0)


def test_chunked_sensors_stay_lazy_and_give_the_same_record(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    lazy = harmonise({name: cube.chunk(time=60) for name, cube in world.sensors.items()}, fit)
    assert isinstance(lazy["kd490"].data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), harmonise(world.sensors, fit), rtol=1e-12)


def test_merging_needs_the_fitted_reference(world):
    fit = fit_harmonisation(world.sensors, SETTINGS)
    renamed = {"a": world.sensors["old"], "b": world.sensors["reference"]}
    with pytest.raises(ConfigError, match="reference"):
        harmonise(renamed, fit)
