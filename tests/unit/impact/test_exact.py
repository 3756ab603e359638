"""The grid posterior against dense Gaussian algebra, and what must not change its answers."""

import time

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from eo_causal.impact.exact import exact_posterior, sample_parameters, scale_moments
from eo_causal.impact.fit import exact_effect
from eo_causal.impact.model import build_model
from eo_causal.impact.priors import coefficient_prior

VARIANTS = [
    {},
    {"season": "none"},
    {"level": "constant"},
    {"scale": "log"},
    {"prior": "r_like", "season": "none"},
    {"prior": "r_like"},
]


def models(series, settings):
    outcome, controls = series
    changes = {"allow_event_gap": True}
    return [
        build_model(outcome + 5, controls, settings.model_copy(update=changes | variant))
        for variant in VARIANTS
    ]


def dense(model, ratio, scale):
    """Log density of the pre months, and mean and variance of the average counterfactual."""
    prior = coefficient_prior(model)
    covariance = np.linalg.inv(np.diag(prior.fixed) + prior.scaled / scale**2)
    design, times = model.design[model.pre_rows], model.offsets[model.pre_rows]
    level = (ratio * scale) ** 2
    total = (
        scale**2 * np.eye(len(times))
        + level * np.minimum.outer(times, times)
        + design @ covariance @ design.T
    )
    mean_design = model.design[model.scored_rows].mean(0)
    later = model.offsets[model.scored_rows]
    cross = design @ covariance @ mean_design + level * times
    weight = np.linalg.solve(total, cross)
    residual = model.outcome - design @ prior.mean
    variance = (
        mean_design @ covariance @ mean_design
        + level * np.minimum.outer(later, later).mean()
        + scale**2 / len(later)
        - weight @ cross
    )
    density = multivariate_normal.logpdf(residual, np.zeros(len(times)), total)
    return density, mean_design @ prior.mean + weight @ residual, variance


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_every_node_equals_dense_algebra(series, settings, variant):
    model = models(series, settings)[variant]
    posterior = exact_posterior(model)
    constant = len(model.outcome) / 2 * np.log(2 * np.pi)
    n_rows, n_columns = posterior.weights.shape
    for row in {0, n_rows // 3, n_rows - 1}:
        for column in (0, n_columns // 2, n_columns - 1):
            density, mean, variance = dense(model, posterior.ratios[row], posterior.scales[column])
            found = posterior.log_density[row, column]
            assert found == pytest.approx(density + constant, rel=1e-8)
            assert posterior.means[row, column] == pytest.approx(mean, abs=1e-8)
            assert posterior.variances[row, column] == pytest.approx(variance, rel=1e-8)


def test_posterior_equals_dense_quadrature(complete, settings):
    """Moments over a uniform grid of both scales, prior and density written out."""
    model = build_model(*complete, settings)
    posterior = exact_posterior(model)
    noise, level = np.linspace(0.4, 0.63, 21), np.linspace(1e-4, 0.14, 29)
    logs = np.array(
        [
            [dense(model, q / s, s)[0] - 0.5 * s**2 - 0.5 * (q / 0.1) ** 2 for q in level]
            for s in noise
        ]
    )
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    moments = scale_moments(posterior)
    assert moments["noise_sd"][0] == pytest.approx(float(weights.sum(1) @ noise), rel=1e-3)
    assert moments["level_sd"][0] == pytest.approx(float(weights.sum(0) @ level), rel=1e-3)


def test_kalman_filter_gives_the_same_density(series, settings):
    """The same model as a state space, coefficients fixed at their prior mean plus nothing."""
    model = models(series, settings)[0]
    level, noise = 0.07, 0.45
    times = model.offsets[model.pre_rows]
    mean = variance = last = total = 0.0
    for stamp, value in zip(times, model.outcome, strict=True):
        variance += level**2 * (stamp - last)
        spread = variance + noise**2
        total -= 0.5 * (np.log(2 * np.pi * spread) + (value - mean) ** 2 / spread)
        gain = variance / spread
        mean, variance, last = mean + gain * (value - mean), variance * (1 - gain), stamp
    rotated = noise**2 + level**2 * model.eigenvalues
    eig = -0.5 * float((np.log(2 * np.pi * rotated) + model.rotated_outcome**2 / rotated).sum())
    assert eig == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_draws_have_the_moments_of_the_grid(complete, settings, variant):
    model = models(complete, settings)[variant]
    posterior = exact_posterior(model)
    level, noise, coefficient = sample_parameters(model, 40_000, np.random.default_rng(1))
    for name, values in (("level_sd", level), ("noise_sd", noise)):
        mean, sd = scale_moments(posterior)[name]
        assert values.mean() == pytest.approx(mean, abs=5 * sd / 200 + 1e-12)
    error = 5 * coefficient.std(0) / 200
    assert np.all(np.abs(coefficient.mean(0) - posterior.coefficient_mean()) < error)


def test_mixture_quantiles_and_distribution_are_inverse(complete, settings):
    posterior = exact_posterior(models(complete, settings)[0])
    for probability in (0.001, 0.025, 0.5, 0.975):
        assert posterior.cdf(posterior.quantile(probability)) == pytest.approx(
            probability, abs=1e-8
        )
    assert posterior.quantile(0.5) == pytest.approx(posterior.mean(), abs=0.1 * posterior.sd())


def test_more_nodes_change_nothing(series, settings):
    outcome, controls = series
    found = [
        exact_effect(
            build_model(
                outcome,
                controls,
                settings.model_copy(update={"n_ratio_nodes": n, "allow_event_gap": True}),
            )
        )
        for n in (48, 96)
    ]
    for name in ("mean", "lower", "upper"):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-6 * found[1]["sd"])


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_effect_follows_the_units_of_the_outcome(complete, settings, variant):
    outcome, controls = complete
    chosen = settings.model_copy(update=VARIANTS[variant])
    first = exact_effect(build_model(outcome, controls, chosen))
    second = exact_effect(build_model(20 - 3 * outcome, controls, chosen))
    assert second["mean"] == pytest.approx(-3 * first["mean"], rel=1e-9)
    assert second["upper"] == pytest.approx(-3 * first["lower"], rel=1e-6)
    assert second["p_value"] == pytest.approx(first["p_value"], rel=1e-6)


def test_order_and_units_of_the_controls_do_not_matter(complete, settings):
    outcome, controls = complete
    first = exact_effect(build_model(outcome, controls, settings))
    other = controls[["x3", "x1", "x2"]] * [10.0, -2.0, 0.1] + [4.0, 0.0, 1.0]
    second = exact_effect(build_model(outcome, other, settings))
    assert second == pytest.approx(first, rel=1e-7)


def test_seed_seven_gives_the_documented_effect(complete, settings):
    """The reference of the specification: 0.676, interval [0.047, 1.426], without a season."""
    model = build_model(*complete, settings.model_copy(update={"season": "none"}))
    effect = exact_effect(model)
    assert effect["mean"] == pytest.approx(0.676, abs=0.03)
    assert effect["lower"] == pytest.approx(0.047, abs=0.06)
    assert effect["upper"] == pytest.approx(1.426, abs=0.06)
    posterior = exact_posterior(model)
    moments = scale_moments(posterior)
    assert moments["noise_sd"][0] == pytest.approx(0.499, abs=0.005)
    assert moments["level_sd"][0] == pytest.approx(0.054, abs=0.005)
    np.testing.assert_allclose(posterior.coefficient_mean()[-3:], [0.718, 0.303, -0.075], atol=0.01)


def test_a_fit_takes_a_fraction_of_a_second(complete, settings):
    def seconds():
        start = time.process_time()
        exact_effect(build_model(*complete, settings))
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) <= 0.3
