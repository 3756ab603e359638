"""What the simulators of observation promise."""

import numpy as np
import pytest

from eo_causal.simulate.observation import cloudy_zone, sensor_overlap


def months_seen(sensor):
    return np.flatnonzero(np.isfinite(sensor.to_numpy()).any(axis=1))


def test_sensors_see_their_own_months_only():
    world = sensor_overlap(1, overlap=(100, 130))
    assert months_seen(world.sensors["reference"])[[0, -1]].tolist() == [100, 323]
    assert months_seen(world.sensors["old"])[[0, -1]].tolist() == [0, 129]


def test_correction_of_a_noiseless_sensor_returns_the_water():
    world = sensor_overlap(2, slope=1.15, noise=0, month_noise=0, missing=0)
    old = np.log(world.sensors["old"][:180])
    np.testing.assert_allclose(0.10 + 1.15 * old, np.log(world.kd490[:180]), rtol=1e-12)
    np.testing.assert_allclose(world.sensors["reference"][120:], world.kd490[120:], rtol=1e-12)


def test_drift_is_zero_at_the_end_of_the_overlap_and_grows_backwards():
    still = sensor_overlap(3, noise=0, month_noise=0, missing=0)
    drifting = sensor_overlap(3, noise=0, month_noise=0, missing=0, drift=0.1)
    gap = np.log(drifting.sensors["old"] / still.sensors["old"]).to_numpy()[:, 0]
    np.testing.assert_allclose(gap[:180], 0.1 * (np.arange(180) - 180) / 120, atol=1e-12)


def test_share_of_missing_cell_months():
    world = sensor_overlap(4, missing=0.4)
    seen = np.isfinite(world.sensors["reference"][120:].to_numpy()).mean()
    assert seen == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("missing", [0.2, 0.6])
def test_clouds_hide_the_stated_share_and_change_nothing_else(missing):
    world = cloudy_zone(5, missing=missing)
    hidden = np.isnan(world.seen.to_numpy())
    assert hidden.mean() == pytest.approx(missing, abs=1e-3)
    np.testing.assert_array_equal(world.seen.to_numpy()[~hidden], world.kd490.to_numpy()[~hidden])
    assert (np.diff(world.kd490["latitude"]) < 0).all()


def test_no_missing_share_means_no_clouds():
    assert np.isfinite(cloudy_zone(6, missing=0.0).seen.to_numpy()).all()


def test_step_is_local_to_one_corner():
    ratio = (cloudy_zone(7, step=0.3).kd490 / cloudy_zone(7).kd490).to_numpy()
    np.testing.assert_allclose(ratio[:256], 1.0, rtol=1e-12)
    after = np.isclose(ratio[256:], np.exp(0.3))
    assert after[:, :2, :2].all()
    assert after.sum() == 4 * len(after)


def test_same_seed_same_bytes():
    first, second = cloudy_zone(8), cloudy_zone(8)
    assert first.seen.to_numpy().tobytes() == second.seen.to_numpy().tobytes()
    assert not first.kd490.equals(cloudy_zone(9).kd490)
