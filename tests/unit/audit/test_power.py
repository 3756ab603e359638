"""Power of trials on maps: worked examples, simulated trials, what is refused."""

import numpy as np
import pytest
from commands import command
from scipy import stats

from eo_causal.audit.power import DesignSettings, design_power, local_correlation
from eo_causal.errors import ConfigError, DataError

TRIAL = {"n_clusters": 100, "cluster_size": 20, "icc": 0.1, "rho": 0.7}


@pytest.mark.parametrize(
    ("design", "effect"),
    [
        (TRIAL, 0.2487),
        ({"n_clusters": 60, "cluster_size": 10, "icc": 0.05, "rho": 0.5}, 0.4825),
        (TRIAL | {"map_error_icc": 0.2}, 0.3521),
    ],
)
def test_smallest_effects_of_worked_examples(design, effect):
    """P1: hand-computed to four digits."""
    assert design_power(DesignSettings(**design)).effect == pytest.approx(effect, abs=1e-4)


def test_effect_power_and_number_of_groups_answer_each_other():
    found = design_power(DesignSettings(**TRIAL))
    back = DesignSettings(**TRIAL, effect=found.effect, power=None)
    assert design_power(back).power == pytest.approx(0.8, abs=1e-4)
    open_n = DesignSettings(**TRIAL | {"n_clusters": None}, effect=found.effect)
    assert design_power(open_n).n_clusters in (100, 101)


def test_single_places_are_worth_rho_squared_of_a_survey():
    """P2: the error of an effect grows by 1 / rho."""
    by_map = design_power(DesignSettings(n_clusters=2000, rho=0.7))
    by_survey = design_power(DesignSettings(n_clusters=2000, rho=1.0))
    assert by_map.std_error / by_survey.std_error == pytest.approx(1 / 0.7)
    assert by_map.survey_clusters == pytest.approx(0.49 * 2000)


def test_simulated_trials_have_the_power_that_was_promised():
    """P1, world W14: 2,000 trials with an effect of the smallest size that 80 % find."""
    random, design = np.random.default_rng(0), DesignSettings(**TRIAL, map_error_icc=0.2)
    effect, n, m = design_power(design).effect, 100, 20
    error = 1 / 0.7**2 - 1
    shape = (2000, n, m)
    treated = np.tile(np.repeat([0.0, 1.0], n // 2), (2000, 1))[:, :, None]
    truth = effect * treated + np.sqrt(0.1) * random.normal(size=(2000, n, 1))
    truth = truth + np.sqrt(0.9) * random.normal(size=shape)
    wrong = np.sqrt(0.2) * random.normal(size=(2000, n, 1)) + np.sqrt(0.8) * random.normal(
        size=shape
    )
    means = (truth + np.sqrt(error) * wrong).mean(axis=2)
    t, _ = stats.ttest_ind(means[:, n // 2 :], means[:, : n // 2], axis=1)
    found = np.mean(np.abs(t) > stats.norm.ppf(0.975))
    assert found == pytest.approx(0.8, abs=0.03)


def test_a_correlation_of_a_country_is_too_hopeful_for_a_district():
    whole = local_correlation(0.7, 0.7, 1.0, 1.0)
    assert whole == pytest.approx(np.sqrt(0.49 / 0.70))
    assert local_correlation(0.7, 0.7, 1.0, 0.5) == pytest.approx(
        np.sqrt(0.49 * 0.25 / (0.49 * 0.25 + 0.21))
    )


def test_numbers_that_belong_to_no_map_are_refused():
    with pytest.raises(DataError, match="belong to no map"):
        local_correlation(1.2, 0.5, 1.0, 1.0)


@pytest.mark.parametrize(
    "changes", [{"n_clusters": None, "power": None, "effect": 0.2}, {"effect": 0.2}]
)
def test_exactly_one_thing_is_asked(changes):
    with pytest.raises(ConfigError, match="exactly one"):
        design_power(DesignSettings(**TRIAL | changes))


def test_hopeful_assumptions_are_named():
    assert "map_error_icc = 0" in str(design_power(DesignSettings(**TRIAL)))
    few = design_power(DesignSettings(n_clusters=12, rho=0.9))
    assert any("fewer than 30" in warning for warning in few.warnings)


def test_the_command_answers_in_sentences(tmp_path):
    asked = ["power", "--rho", "0.7", "--n-clusters", "100", "--cluster-size", "20", "--icc", "0.1"]
    done = command(*asked, folder=tmp_path)
    assert done.code == 0
    assert "smallest effect found with a power of 80% is 0.2487 sd" in done.out
    assert "With a survey 74 groups would do." in done.out
    wrong = command("power", "--rho", "1.7", "--n-clusters", "100", folder=tmp_path)
    assert wrong.code == 2
    assert "rho" in wrong.err
