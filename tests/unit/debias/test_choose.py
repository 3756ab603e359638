"""The corrector a map offers."""

import numpy as np
import pytest

from eo_causal.debias.choose import choose_corrector
from eo_causal.errors import DataError


def gaussian(n=1000, seed=0):
    random = np.random.default_rng(seed)
    truth = random.normal(size=n)
    return truth, 0.5 * (truth + random.normal(size=n))


def skewed(n=1000, seed=0):
    random = np.random.default_rng(seed)
    prediction = random.exponential(4, size=n) + random.normal(size=n)
    return prediction + 2 * random.normal(size=n), prediction


def test_linear_calibration_is_chosen_for_gaussian_maps_and_tweedie_for_skewed_ones():
    plain = choose_corrector(*gaussian(), seed=1)
    assert plain.method == "lcc"
    assert plain.gain < 1.96 * plain.std_error
    bent = choose_corrector(*skewed(), seed=1)
    assert bent.method == "tweedie"
    assert bent.gain > 1.96 * bent.std_error


def test_curves_are_means_of_held_out_residuals_by_decile_of_the_truth():
    truth, prediction = skewed()
    found = choose_corrector(truth, prediction, seed=1)
    assert found.curves["n"].tolist() == [100] * 10
    assert (found.curves["truth"].diff().dropna() > 0).all()
    lowest = np.argsort(truth)[:100]
    assert found.residual["naive"].to_numpy() == pytest.approx(prediction - truth)
    for name in ("naive", "lcc", "tweedie"):
        expected = found.residual[name].to_numpy()[lowest].mean()
        assert found.curves[name].iloc[0] == pytest.approx(expected)
    spread = [np.sqrt(np.mean(found.curves[name] ** 2)) for name in ("lcc", "tweedie")]
    assert found.gain == pytest.approx(spread[0] - spread[1])


def test_each_half_is_corrected_by_the_other():
    """A row's own residual does not depend on its truth but through the subtraction."""
    truth, prediction = gaussian(100)
    before = choose_corrector(truth, prediction, seed=3).residual["lcc"] + truth
    moved = truth.copy()
    moved[0] += 0.5
    after = choose_corrector(moved, prediction, seed=3).residual["lcc"] + moved
    unchanged = np.isclose(before, after, rtol=0, atol=1e-12)
    assert unchanged[0]
    assert unchanged.sum() == 50


@pytest.mark.parametrize("change", ["ties", "small"])
def test_tweedie_is_not_offered_where_its_assumptions_fail(change):
    truth, prediction = skewed(90) if change == "small" else skewed(3000)
    if change == "ties":
        prediction = np.round(prediction, 1)
    assert choose_corrector(truth, prediction, seed=1).method == "lcc"


def test_the_choice_depends_on_the_seed_only():
    pairs = gaussian(200)
    cluster = np.arange(200) // 5
    first, again = (choose_corrector(*pairs, cluster=cluster, seed=7) for _ in range(2))
    assert first.std_error == again.std_error
    assert first.curves.equals(again.curves)


def test_bad_pairs_are_refused():
    with pytest.raises(DataError, match="20 calibration pairs"):
        choose_corrector(*gaussian(20), seed=1)
