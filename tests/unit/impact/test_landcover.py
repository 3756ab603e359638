"""Intensity analysis: hand-counted matrices, a known Markov chain, and what always adds up."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from eo_causal.errors import CoverageError, DataError
from eo_causal.impact.landcover import (
    IntensitySettings,
    change_components,
    intensity_analysis,
    transition_matrix,
    uniform_rate,
    wilson,
)
from eo_causal.simulate.land_cover import land_cover_maps

P = np.array([[0.90, 0.08, 0.02], [0.01, 0.94, 0.05], [0.00, 0.03, 0.97]])
SETTINGS = IntensitySettings(built="class_2", water=(), pixel_area="nominal")


def test_transition_matrix_by_hand():
    before = np.array([[0, 0, 1], [1, -1, 2]])
    after = np.array([[0, 1, 1], [0, 1, -1]])
    assert transition_matrix(before, after, 3).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_uniform_rate_by_hand():
    """3 of 10 pixels in one year, 1 of 20 in three: 100 * 4 / (10 + 60)."""
    first, second = np.array([[5, 3], [0, 2]]), np.array([[10, 0], [1, 9]])
    assert uniform_rate([first, second], np.array([1.0, 3.0])) == pytest.approx(400 / 70)


def test_components_by_hand():
    """Two classes swap 2 pixels, three go round, one more is a net loss."""
    matrix = np.array([[10, 2 + 1, 0], [2, 10, 1], [1, 0, 10]])
    assert change_components(matrix) == {"quantity": 0.0, "exchange": 4.0, "shift": 3.0}
    assert change_components(np.array([[5, 4], [1, 5]])) == {
        "quantity": 3.0, "exchange": 2.0, "shift": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_components_add_up_to_all_change(seed):
    matrix = np.random.default_rng(seed).integers(0, 50, (6, 6))
    assert sum(change_components(matrix).values()) == matrix.sum() - np.trace(matrix)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (3, 40), (40, 40), (5000, 80_000)])
def test_wilson_interval_is_that_of_statsmodels(successes, n):
    assert wilson(successes, n) == pytest.approx(
        proportion_confint(successes, n, 0.05, "wilson"), abs=1e-12
    )


@pytest.fixture(scope="module")
def found():
    maps = land_cover_maps(P, 8, seed=4)
    return maps, intensity_analysis(maps, SETTINGS, seed=1)


def test_the_markov_chain_is_recovered(found):
    _, result = found
    shares = result.transition.pivot_table(
        index="losing", columns="gaining", values="rate_percent_per_year", fill_value=0
    ).to_numpy()
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(shares[off] / 100, P[off], atol=0.002)


def test_uniform_rate_is_changed_over_exposed(found):
    maps, result = found
    changed = (maps.values[1:] != maps.values[:-1]).sum()
    expected = 100 * changed / (maps.values[0].size * 7)
    assert result.pooled["uniform_rate"] == expected
    assert result.pooled["uniform_rate_paper"] == pytest.approx(expected / 7, rel=1e-15)
    low, high = result.pooled["uniform_rate_interval"]
    assert low < expected < high


def test_every_change_is_quantity_exchange_or_shift(found):
    _, result = found
    total = result.components[["quantity", "exchange", "shift"]].sum(axis=1)
    assert total.tolist() == result.interval["n_changed"].tolist()


def test_areas_count_every_pixel(found):
    maps, result = found
    assert result.area.groupby("year")["n_pixels"].sum().tolist() == [maps[0].size] * 8
    first = result.area.iloc[0]
    assert first["area_km2"] == pytest.approx((maps.values[0] == 1).sum() * 1e-4)


def test_a_pair_that_is_avoided_is_not_targeted(found):
    """Class 3 never becomes class 1; all of class 1's gain comes from class 2."""
    _, result = found
    into_first = result.transition[result.transition["gaining"] == "class_1"]
    assert into_first.groupby("losing")["targeted"].all().to_dict() == {
        "class_2": True, "class_3": False,
    }  # fmt: skip


def test_label_errors_inflate_exchange():
    clean, noisy = (
        intensity_analysis(land_cover_maps(P, 4, seed=4, label_error=e), SETTINGS, seed=1)
        for e in (0.0, 0.05)
    )
    assert noisy.components["exchange"].mean() > 2 * clean.components["exchange"].mean()


def test_one_map_or_no_common_pixel_is_refused():
    maps = land_cover_maps(P, 3, seed=4, shape=(10, 10))
    with pytest.raises(DataError, match="1 land-cover map"):
        intensity_analysis(maps[:1], SETTINGS, seed=1)
    hidden = maps.copy()
    hidden[1] = -1
    with pytest.raises(CoverageError, match="2017 and 2018"):
        intensity_analysis(hidden, SETTINGS, seed=1)
