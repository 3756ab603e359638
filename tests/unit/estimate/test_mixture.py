"""The mixture of two kinds of places: densities by hand, and a fit that nothing near improves on."""

import numpy as np
import pytest
import statsmodels.api as sm
from pydantic import ValidationError

from eo_causal.estimate.ate import difference_in_means
from eo_causal.estimate.cate import Rows
from eo_causal.estimate.mixture import (
    Mixture,
    MixtureSettings,
    Prior,
    fit_mixture,
    prior_of,
    refit_mixture,
)


def two_kinds(seed, gap=2.0, n_places=400):
    """Two units a place; kind 2 where 4 x_1 + noise > 1, with effect ``gap`` instead of 0."""
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(n_places), 2)
    image = random.standard_normal((n_places, 3))
    kind = 4 * image[:, 0] + random.logistic(size=n_places) > 1
    treatment = random.integers(0, 2, n_places).astype(float)[place]
    effect = np.where(kind, gap, 0.0)[place] + random.normal(0, 0.3, len(place))
    noise = random.normal(0, 0.5, len(place))
    outcome = 1 + 0.4 * image[place, 1] + treatment * effect + noise
    return Rows(image[place], treatment, outcome, place)


@pytest.fixture(scope="module")
def world():
    return two_kinds(1)


def test_one_cluster_is_weighted_least_squares():
    rows = two_kinds(2, gap=0.5)
    flat = Prior(0.0, 1e6, 1.0, 1e-9, 1.0)
    fit = fit_mixture(
        rows, 1, flat, MixtureSettings(n_starts=2, tolerance=1e-12), np.random.default_rng(0)
    )
    weights = 1 / fit.variance[rows.treatment.astype(int), 0]
    design = np.column_stack([sm.add_constant(rows.design), rows.treatment])
    wanted = sm.WLS(rows.outcome, design, weights=weights).fit().params
    np.testing.assert_allclose([*fit.base, *fit.effect], wanted, atol=1e-6)
    residual = rows.outcome - design @ wanted
    for arm in (0, 1):
        part = rows.treatment == arm
        variance = (np.sum(residual[part] ** 2) + 1) / (part.sum() + 1)
        assert fit.variance[arm, 0] == pytest.approx(variance, abs=1e-6)


def test_densities_by_hand():
    """Membership 1/(1 + e^-x); Y - h = 2 - 1 - 0.5 x, minus the effect where treated."""
    mixture = Mixture(
        np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.5]), np.array([0.0, 3.0]),
        np.array([[1.0, 4.0], [9.0, 0.25]]),
    )  # fmt: skip
    rows = Rows(np.array([[2.0], [0.0]]), np.array([1.0, 0.0]), np.array([2.0, 2.0]), np.arange(2))
    share = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(mixture.membership(rows.design), [[1 - share, share], [0.5, 0.5]])
    np.testing.assert_allclose(mixture.residual(rows), [[0, -3], [1, 1]])
    normal = [[-0.5 * np.log(9), -0.5 * (np.log(0.25) + 36)], [-0.5, -0.5 * (np.log(4) + 0.25)]]
    wanted = np.log([[1 - share, share], [0.5, 0.5]]) + normal - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(mixture.log_joint(rows), wanted)
    assert mixture.log_likelihood(rows) == pytest.approx(np.log(np.exp(wanted).sum(axis=1)).mean())


def test_a_prior_density_by_hand():
    mixture = Mixture(
        np.array([[5.0, 1.0], [0.0, 2.0]]), np.array([7.0, 3.0]), np.array([0.0, 2.0]),
        np.array([[1.0, 2.0], [2.0, 1.0]]),
    )  # fmt: skip
    prior = Prior(1.0, 0.5, 2.0, 0.1, 2.0)
    wanted = -0.5 * (5 / 4 + 0.1 * 9 + 8 + 2 * np.log(2) + 2 / 1 + 2 / 2 + 2 / 2 + 2 / 1)
    assert prior.log_density(mixture) == pytest.approx(wanted)


def test_the_prior_of_effects_is_twice_the_spread_of_batches_of_fifty(world):
    rows = world
    prior = prior_of(rows, rows.group % 3, MixtureSettings())
    assert prior.effect == pytest.approx(difference_in_means(rows.treatment, rows.outcome).estimate)
    random = np.random.default_rng(0)
    treated, control = rows.outcome[rows.treatment == 1], rows.outcome[rows.treatment == 0]
    n_treated = round(50 * rows.treatment.mean())
    batches = [
        random.choice(treated, n_treated).mean() - random.choice(control, 50 - n_treated).mean()
        for _ in range(4000)
    ]
    assert prior.effect_sd == pytest.approx(2 * np.std(batches), rel=0.06)


def test_no_parameter_near_the_answer_is_more_likely(world):
    rows = world
    prior = prior_of(rows, rows.group % 3, MixtureSettings())
    settings = MixtureSettings(n_starts=2, tolerance=1e-10, max_iterations=2000)
    fit = fit_mixture(rows, 2, prior, settings, np.random.default_rng(0))

    def posterior(**changed):
        other = Mixture(**{**vars(fit), **changed})
        return other.log_likelihood(rows) * len(rows.outcome) + prior.log_density(other)

    best = posterior()
    for name, size in (("gate", 0.1), ("base", 0.03), ("effect", 0.03), ("variance", 0.02)):
        value = getattr(fit, name)
        for at in np.ndindex(value.shape):
            for sign in (-1, 1):
                step = np.zeros(value.shape)
                step[at] = sign * size
                assert posterior(**{name: value + step}) < best + 1e-4, (name, at)


def test_a_fit_that_begins_at_the_answer_stays_there(world):
    prior = prior_of(world, world.group % 3, MixtureSettings())
    settings = MixtureSettings(n_starts=2, tolerance=1e-9, max_iterations=2000)
    fit = fit_mixture(world, 2, prior, settings, np.random.default_rng(0))
    again = refit_mixture(world, fit, prior, settings)
    for name in ("gate", "base", "effect", "variance"):
        np.testing.assert_allclose(getattr(again, name), getattr(fit, name), atol=1e-3)


def test_clusters_come_in_the_order_of_their_effects(world):
    prior = prior_of(world, world.group % 3, MixtureSettings())
    fit = fit_mixture(world, 3, prior, MixtureSettings(n_starts=3), np.random.default_rng(1))
    assert (np.diff(fit.effect) >= 0).all()
    swapped = Mixture(fit.gate[::-1], fit.base, fit.effect[::-1], fit.variance[:, ::-1])
    assert swapped.log_likelihood(world) == pytest.approx(fit.log_likelihood(world))


def test_settings_refuse_what_fits_nothing():
    with pytest.raises(ValidationError, match="tolerance"):
        MixtureSettings(tolerance=0)
    with pytest.raises(ValidationError, match="n_clusters"):
        MixtureSettings(n_clusters=2)
