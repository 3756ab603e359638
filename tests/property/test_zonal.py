"""What clouds do to zone means, over many simulated seas (EO_CAUSAL_SIZE=full for 100 of each)."""

import numpy as np
import pytest

from eo_causal.ingest.zonal import ZoneSettings, zone_frame, zone_means
from eo_causal.simulate.observation import CELL, cloudy_zone

SEA = zone_frame({"sea": (122.0, -2.5 - 7 * CELL, 122.0 + 7 * CELL, -2.5)})


def series(cube, method):
    return zone_means(cube, SEA, ZoneSettings(method=method))["kd490"][0].to_numpy()


def log_errors(world, method):
    truth = series(world.kd490, "mean")
    error = np.log(series(world.seen, method)) - np.log(truth)
    return error[np.isfinite(error)]


def root_mean_square(values):
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2)))


@pytest.mark.parametrize("seed", range(5))
def test_ratio_is_the_mean_where_nothing_is_missing(seed):
    world = cloudy_zone(seed, missing=0.0)
    np.testing.assert_allclose(series(world.seen, "ratio"), series(world.seen, "mean"), rtol=1e-12)


@pytest.mark.statistics
@pytest.mark.parametrize("missing", [0.2, 0.6])
def test_ratio_removes_the_error_of_different_cells_each_month(full_size, missing, measured):
    n_seas = 100 if full_size else 12
    ratio, mean = [], []
    for seed in range(n_seas):
        world = cloudy_zone(seed, missing=missing)
        ratio.append(log_errors(world, "ratio"))
        mean.append(log_errors(world, "mean"))
    measured("rms_of_ratio", root_mean_square(ratio))
    measured("rms_of_mean", root_mean_square(mean))
    assert root_mean_square(ratio) <= 0.30 * root_mean_square(mean)


@pytest.mark.statistics
def test_ratio_is_nearer_to_the_truth_than_filling_in_time(full_size):
    ratio, filled = [], []
    for seed in range(100 if full_size else 8):
        world = cloudy_zone(seed, missing=0.2)
        ratio.append(log_errors(world, "ratio"))
        filled.append(log_errors(world, "interpolate"))
    assert root_mean_square(ratio) < 0.7 * root_mean_square(filled)


@pytest.mark.statistics
@pytest.mark.parametrize("method", ["ratio", "mean"])
def test_clouds_leave_the_effect_on_the_zone_unbiased(full_size, method):
    """A step in one corner of the sea, seen through clouds that have nothing to do with it."""
    errors = []
    for seed in range(100 if full_size else 20):
        worlds = [cloudy_zone(seed, missing=0.4, step=step) for step in (0.3, 0.0)]
        seen = [np.log(series(world.seen, method)) for world in worlds]
        true = [np.log(series(world.kd490, "mean")) for world in worlds]
        effect = np.nanmean((seen[0] - seen[1])[256:]) - np.nanmean((seen[0] - seen[1])[:256])
        errors.append(effect - (true[0] - true[1])[256:].mean())
    standard_error = np.std(errors, ddof=1) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) <= 4 * standard_error + 0.002
