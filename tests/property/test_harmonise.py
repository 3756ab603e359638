"""Harmonisation over many simulated overlaps: bias, coverage, false alarms, carried error.

Run with EO_CAUSAL_SIZE=full for 600 records per design.
"""

import numpy as np
import pytest
from scipy import stats

from eo_causal.ingest.harmonise import HarmoniseSettings, covariances, fit_harmonisation
from eo_causal.ingest.merge_sensors import combine_draws, correction, harmonisation_draws, harmonise
from eo_causal.simulate.observation import sensor_overlap

SETTINGS = HarmoniseSettings(reference="reference")
# a normal record warns of drift in one case of twenty
pytestmark = [
    pytest.mark.statistics,
    pytest.mark.filterwarnings("ignore:sensor:eo_causal.errors.EOCausalWarning"),
]


@pytest.fixture(scope="module")
def n_records(full_size):
    return 600 if full_size else 60


def study(n_records, slope, n_shared):
    """Errors at the mean and the 95th percentile, whether covered, slope error, drift alarm."""
    errors, covered, slopes, alarms = [], [], [], []
    for seed in range(n_records):
        world = sensor_overlap(seed, slope=slope, overlap=(180 - n_shared, 180))
        fit = fit_harmonisation(world.sensors, SETTINGS)
        z = np.log(world.sensors["old"].to_numpy())
        z = z[np.isfinite(z)]
        places = np.array([z.mean(), np.quantile(z, 0.95)])
        values, std_errors = correction(fit, "old", places)
        row = fit.table.iloc[0]
        errors.append(values - (0.10 + slope * places))
        reach = stats.t.ppf(0.975, row["degrees_of_freedom"]) * std_errors
        covered.append(np.abs(errors[-1]) <= reach)
        slopes.append(row["slope"] - slope)
        alarms.append(abs(row["drift_t"]) > 2)
    return np.array(errors), np.array(covered), np.array(slopes), np.array(alarms)


@pytest.mark.parametrize("slope", [1.0, 1.15])
@pytest.mark.parametrize("n_shared", [30, 60, 120])
def test_lines_are_unbiased_and_their_intervals_cover(n_records, slope, n_shared, measured):
    errors, covered, slopes, alarms = study(n_records, slope, n_shared)
    measured("bias_at_mean", errors[:, 0].mean())
    measured("bias_of_slope", slopes.mean())
    measured("coverage_at_mean", covered.mean(axis=0)[0])
    measured("coverage_at_95th_percentile", covered.mean(axis=0)[1])
    measured("drift_alarms", alarms.mean())
    # Monte Carlo error of a mean, added to the limits only below full size
    few = 0.0 if n_records >= 600 else 3.0 / np.sqrt(n_records)
    assert abs(errors[:, 0].mean()) <= 0.001 + few * errors[:, 0].std()
    assert abs(slopes.mean()) <= 0.005 + few * slopes.std()
    slack = few * np.sqrt(0.95 * 0.05)
    assert (covered.mean(axis=0) >= 0.93 - slack).all()
    assert (covered.mean(axis=0) <= 0.97 + slack).all()
    assert alarms.mean() <= 0.08 + slack


def test_least_squares_would_shrink_the_slope(n_records):
    slopes, shrunk = [], []
    for seed in range(min(n_records, 60)):
        world = sensor_overlap(seed)
        x = np.log(world.sensors["old"].to_numpy())
        y = np.log(world.sensors["reference"].to_numpy())
        both = np.isfinite(x) & np.isfinite(y)
        shrunk.append(np.polyfit(x[both], y[both], 1)[0])
        slopes.append(fit_harmonisation(world.sensors, SETTINGS).table["slope"].item())
    assert np.mean(shrunk) < 0.96
    assert abs(np.mean(slopes) - 1) < 0.01


def contrast(kd490):
    """Mean ln Kd490 of the last ten years minus that of the first ten, over all cells."""
    log = np.log(kd490.to_numpy())
    return np.nanmean(log[204:]) - np.nanmean(log[:120])


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_draws_carry_the_shared_error_into_a_contrast(full_size, seed):
    world = sensor_overlap(seed, slope=1.05)
    fit = fit_harmonisation(world.sensors, SETTINGS)
    n_draws = 1000 if full_size or seed == 31 else 400
    draws = harmonisation_draws(world.sensors, fit, seed=seed, n_draws=n_draws)
    estimates = np.array([contrast(draw) for draw in draws])
    z = np.log(world.sensors["old"][:120].to_numpy())
    gradient = np.array([1.0, np.nanmean(z)])
    expected = gradient @ covariances(fit.table)[0] @ gradient
    assert estimates.var(ddof=1) == pytest.approx(expected, rel=0.15 * np.sqrt(1000 / n_draws))
    assert estimates.mean() == pytest.approx(
        contrast(harmonise(world.sensors, fit)["kd490"]), abs=4 * np.sqrt(expected / n_draws)
    )


def test_shared_error_does_not_average_out_over_cells():
    """Interval of a contrast that is truly zero, with and without the carried error."""
    covered, ignored = [], []
    for seed in range(60):
        world = sensor_overlap(seed + 1000, overlap=(150, 180), n_cells=64)
        fit = fit_harmonisation(world.sensors, SETTINGS)
        draws = harmonisation_draws(world.sensors, fit, seed=seed, n_draws=50)
        estimates = np.array([contrast(draw) for draw in draws])
        truth = contrast(world.kd490)
        # sampling error of the two means: sensor noise per cell-month and per month
        within = (0.06**2 / (0.6 * 64) + 0.02**2 + 0.05**2 / 64) * 2 / 120
        estimate, variance = combine_draws(estimates, np.full(50, within))
        reach = stats.t.ppf(0.975, fit.table["degrees_of_freedom"].item())
        covered.append(abs(estimate - truth) <= reach * np.sqrt(variance))
        ignored.append(abs(estimate - truth) <= 1.96 * np.sqrt(within))
    assert np.mean(covered) >= 0.88
    assert np.mean(ignored) <= 0.80
