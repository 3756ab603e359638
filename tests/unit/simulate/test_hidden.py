"""Worlds with a hidden confounder: recipes, closed forms, reproducibility."""

import numpy as np
import pytest
from scipy.stats import norm

from eo_causal.errors import ConfigError
from eo_causal.simulate.hidden import (
    SUPPORT,
    bernoulli,
    bernoulli_effect,
    bernoulli_quantile,
    bernoulli_upper,
    clipped,
)


def test_the_clipped_world_is_what_its_recipe_says():
    world = clipped(1, n=50_000)
    x, p, w = world.covariates, world.propensity, world.treatment
    assert x.shape == (50_000, 5)
    assert (np.abs(x) < 2).all()
    assert x.std(axis=0) == pytest.approx(np.full(5, 4 / np.sqrt(12)), rel=0.02)
    assert ((p > 0.05) & (p < 0.95)).all()
    assert np.abs(w - p).mean() == pytest.approx((2 * p * (1 - p)).mean(), abs=0.01)
    np.testing.assert_array_equal(world.outcome, np.where(w == 1, world.treated, world.untreated))
    for values in (world.treated, world.untreated):
        assert (values.min(), values.max()) == SUPPORT
    inside = (world.untreated > SUPPORT[0]) & (world.treated < SUPPORT[1])
    tau = 0.7 + 0.2 * np.sin(x[:, 0]) + 0.1 * x[:, 0] + 0.8 * (p - 0.5)
    np.testing.assert_allclose((world.treated - world.untreated)[inside], tau[inside], atol=1e-12)


def test_the_hidden_part_of_the_clipped_world_confounds():
    world = clipped(1, n=50_000)
    naive = world.outcome[world.treatment == 1].mean() - world.outcome[world.treatment == 0].mean()
    assert naive - world.effect > 0.2


def test_closed_forms_of_the_bernoulli_world():
    expected = {1.0: 0.5, 1.5: 0.6771, 2.0: 0.8, 3.0: 0.9661}
    for odds, value in expected.items():
        assert bernoulli_upper(odds) == pytest.approx(value, abs=1e-4)
        assert bernoulli_effect(odds) == pytest.approx((value - 0.5) / 0.55, abs=2e-4)


@pytest.mark.parametrize("odds", [1.0, 2.0, 3.0])
def test_the_true_effect_of_the_bernoulli_world_is_its_bound(odds):
    world = bernoulli(2, n=400_000, odds=odds)
    assert world.effect == pytest.approx(bernoulli_effect(odds), abs=0.01)
    assert world.treated.mean() == pytest.approx(bernoulli_upper(odds), abs=0.01)
    for x, e in ((0, 0.3), (1, 0.6)):
        here = world.covariates[:, 0] == x
        assert world.propensity[here] == pytest.approx(e)
        for arm in (0, 1):
            seen = world.outcome[here & (world.treatment == arm)]
            assert (seen.mean(), seen.std()) == pytest.approx((x, 1), abs=0.02)


def test_the_hidden_confounder_moves_odds_by_its_strength_and_no_more():
    odds, world = 3.0, bernoulli(3, n=400_000, odds=3.0)
    above = world.treated > bernoulli_quantile(world, odds)
    share = [above[world.treatment == arm].mean() for arm in (0, 1)]
    assert share[0] / share[1] == pytest.approx(odds, rel=0.02)
    assert (1 - share[0]) / (1 - share[1]) == pytest.approx(1 / odds, rel=0.02)
    assert bernoulli_quantile(world, odds)[0] == world.covariates[0, 0] + norm.ppf(0.75)


@pytest.mark.parametrize("world", [clipped, bernoulli])
def test_the_seed_decides(world):
    one, two, other = (world(seed, 20) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.outcome, two.outcome)
    assert not np.allclose(one.outcome, other.outcome)


def test_impossible_worlds_are_named():
    with pytest.raises(ConfigError, match=r"Lambda is 0\.5"):
        bernoulli(0, odds=0.5)
    with pytest.raises(ConfigError, match=r"\[1, 0\] is empty"):
        clipped(0, support=(1, 0))
