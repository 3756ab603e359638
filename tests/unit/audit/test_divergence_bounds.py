"""Information-theoretic bounds against the numbers of the publication's tables."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import beta

from eo_causal.audit.divergence_bounds import DIVERGENCES, divergence_bounds
from eo_causal.errors import ConfigError

NAMES = ("kullback_leibler", "hellinger", "chi_squared", "total_variation", "jensen_shannon")
THREE = {
    "kullback_leibler": 0.79776, "hellinger": 0.89432, "chi_squared": 0.73283,
    "total_variation": 0.80000, "jensen_shannon": 0.84700, "manski": 0.67000,
}  # fmt: skip
BETA = {
    0.3: "0.109 0.789 0.077 0.824 0.121 0.779 0.062 0.845 0.091 0.805 0.130 0.772",
    0.5: "0.173 0.694 0.129 0.741 0.192 0.677 0.125 0.748 0.151 0.712 0.207 0.665",
    0.7: "0.237 0.598 0.190 0.649 0.263 0.576 0.211 0.628 0.216 0.617 0.284 0.559",
    0.9: "0.311 0.498 0.278 0.534 0.334 0.474 0.325 0.484 0.296 0.513 0.361 0.453",
}
VALUES, PROBABILITY = np.array([0, 0.5, 1.0]), np.array([0.3, 0.5, 0.2])


def test_three_points():
    found = divergence_bounds(VALUES, PROBABILITY, 0.6, (0.0, 1.0)).set_index("bound")["upper"]
    for name, value in THREE.items():
        assert found[name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.parametrize("share", BETA)
def test_a_beta_law_as_mid_point_quantiles(share):
    atoms = beta(2, 3).ppf((np.arange(400) + 0.5) / 400)
    found = divergence_bounds(atoms, np.full(400, 1 / 400), share, (atoms[0], atoms[-1]))
    expected = np.array(BETA[share].split(), dtype=float).reshape(-1, 2)
    assert list(found["bound"]) == [*NAMES, "manski"]
    np.testing.assert_allclose(found[["lower", "upper"]], expected, atol=1e-3)


def divergence(name, p, q):
    ratio = p / q
    value = {
        "kullback_leibler": ratio * np.log(ratio),
        "hellinger": 0.5 * (np.sqrt(ratio) - 1) ** 2,
        "chi_squared": 0.5 * (ratio - 1) ** 2,
        "jensen_shannon": 0.5 * (ratio * np.log(ratio) - (ratio + 1) * np.log((ratio + 1) / 2)),
    }[name]
    return q @ value


@pytest.mark.parametrize("name", ["kullback_leibler", "hellinger", "chi_squared", "jensen_shannon"])
def test_the_dual_equals_the_best_law_found_directly(name):
    radius = DIVERGENCES[name].largest(0.6)
    best = minimize(
        lambda q: -q @ VALUES, PROBABILITY, bounds=[(1e-9, 1)] * 3, method="SLSQP",
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1},
            {"type": "ineq", "fun": lambda q: radius - divergence(name, PROBABILITY, q)},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert -best.fun == pytest.approx(THREE[name], abs=1e-4)


def test_every_interval_contains_manskis():
    random = np.random.default_rng(1)
    for _ in range(10):
        values, weights = random.uniform(0, 1, 30), random.dirichlet(np.ones(30))
        found = divergence_bounds(values, weights, random.uniform(0.1, 0.9), (0.0, 1.0))
        worst = found.iloc[-1]
        assert (found["lower"] <= worst["lower"] + 1e-6).all()
        assert (found["upper"] >= worst["upper"] - 1e-6).all()


@pytest.mark.parametrize("support", [None, (0.2, 1.0), (1.0, 0.0)])
def test_without_a_support_that_holds_all_there_are_no_bounds(support):
    with pytest.raises(ConfigError, match="needs a support"):
        divergence_bounds(VALUES, PROBABILITY, 0.6, support)


def test_an_arm_with_one_value_has_that_end_for_a_bound():
    found = divergence_bounds(np.ones(5), np.full(5, 0.2), 0.6, (0.0, 1.0)).set_index("bound")
    assert found["upper"].to_numpy() == pytest.approx(1.0)
    assert found.loc["manski", "lower"] == pytest.approx(0.6)
    assert (found["lower"] <= 0.6 + 1e-6).all()
