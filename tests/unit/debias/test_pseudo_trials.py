"""Trials without treatment: what drives them decides whether a correction helps."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.debias.card import CardSettings
from eo_causal.debias.pseudo_trials import PseudoTrialSettings, pseudo_trials
from eo_causal.errors import ConfigError

CARD = CardSettings(n_replicates=20)


@pytest.fixture(scope="module")
def table():
    """Shrunken predictions, R2 = .6: k = .6 and truth follows the prediction one to one."""
    random = np.random.default_rng(0)
    truth = random.normal(size=6000)
    prediction = 0.6 * truth + np.sqrt(0.6 * 0.4) * random.normal(size=6000)
    ids = np.arange(6000).astype(str)
    return pd.DataFrame({"unit_id": ids, "outcome": truth, "prediction": prediction})


@pytest.fixture(scope="module")
def found(table):
    settings = PseudoTrialSettings(n_trials=12, n_pilot=1000)
    return pseudo_trials(table, settings, CARD, "sd", seed=2)


def test_trials_driven_by_the_truth_need_the_correction_and_the_others_do_not(found):
    slope = found.summary.set_index(["driver", "method"])["slope"]
    assert slope["outcome", "naive"] == pytest.approx(0.6, abs=0.05)
    assert slope["outcome", "lcc"] == pytest.approx(1, abs=0.08)
    assert slope["outcome", "tweedie"] == pytest.approx(1, abs=0.08)
    assert slope["prediction", "naive"] == pytest.approx(1, abs=0.05)
    assert slope["prediction", "lcc"] == pytest.approx(1 / 0.6, abs=0.12)


def test_pilots_tell_the_two_apart(found):
    verdict = found.trials.set_index(["driver", "trial"])["verdict"]
    strong = found.trials.set_index(["driver", "trial"])["strength"].abs() > 0.7
    for driver, right in (("outcome", {"lcc", "tweedie"}), ("prediction", {"none"})):
        own = verdict[driver][strong[driver]]
        assert len(own) >= 5
        assert own.isin(right).mean() >= 0.75  # each test errs one time in twenty
    assert found.verdicts.groupby("driver")["share"].sum().round(9).eq(1).all()


def test_trials_do_not_depend_on_how_many_there_are(table, found):
    fewer = pseudo_trials(
        table,
        PseudoTrialSettings(n_trials=3, n_pilot=0, drivers=("prediction",)),
        CARD,
        "sd",
        seed=2,
    )
    own = found.trials[found.trials["driver"] == "prediction"].head(3)
    columns = ["strength", "truth", "naive", "lcc", "tweedie", "std_error_lcc"]
    np.testing.assert_allclose(fewer.trials[columns], own[columns])
    assert fewer.trials["verdict"].eq("").all()
    assert len(fewer.verdicts) == 0


def test_calibration_and_trials_share_no_place(table, found):
    assert found.trials["n"].eq(4000).all()
    assert int(found.card.folds["n"].iloc[0]) == 2000


def test_a_pilot_larger_than_what_is_left_is_refused(table):
    with pytest.raises(ConfigError, match="n_pilot is 5000, but 4000 places are left"):
        pseudo_trials(table, PseudoTrialSettings(n_pilot=5000), CARD, "sd", seed=2)
