"""Trials without treatment on real places: does a correction give the contrast that surveys give?

Half of the places calibrate, the other half is split into treated and untreated by a rule that is known:
by what was measured (then the error of the map does not know the rule: correct), or by what the map shows
(then it does: do not correct). Arms differ although nothing was done to them.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.debias.card import CalibrationCard, CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.effect import compare_effects
from eo_causal.debias.regime import diagnose
from eo_causal.errors import ConfigError, EOCausalWarning

Floats = NDArray[np.float64]
Driver = Literal["outcome", "prediction"]
METHODS = ("naive", "lcc", "tweedie")


class PseudoTrialSettings(Settings):
    """How many trials are made, and of what size."""

    drivers: tuple[Driver, ...] = Field(
        default=("outcome", "prediction"), description="what decides who counts as treated"
    )
    n_trials: int = Field(default=40, ge=3, description="of each driver")
    strength: float = Field(
        default=2.0, gt=0, description="log odds a standard deviation of the driver, at most"
    )
    calibration_share: float = Field(default=1 / 3, gt=0, lt=1)
    n_pilot: int = Field(default=500, ge=0, description="labelled places of each verdict; 0 = none")


@dataclass(frozen=True)
class PseudoTrials:
    """Every trial, and how each method follows the truth.

    Attributes
    ----------
    card : CalibrationCard
    trials : DataFrame
        driver, trial, strength, n, truth (contrast of measured outcomes), naive, lcc, tweedie,
        std_error_naive, ..., verdict, flags.
    summary : DataFrame
        driver, method, slope (of estimate on truth), mae, n.
    verdicts : DataFrame
        driver, verdict, n, share.
    """

    card: CalibrationCard
    trials: pd.DataFrame
    summary: pd.DataFrame
    verdicts: pd.DataFrame


def pseudo_trials(
    table: pd.DataFrame,
    settings: PseudoTrialSettings,
    card_settings: CardSettings,
    units: str,
    *,
    seed: int,
) -> PseudoTrials:
    """Calibrate on some places and run trials without treatment on the others.

    Parameters
    ----------
    table : DataFrame
        ``unit_id``, ``outcome``, ``prediction``.
    settings : PseudoTrialSettings
    card_settings : CardSettings
    units : str
        Of the outcome.

    Raises
    ------
    ConfigError
        A pilot larger than the places that are left.
    DataError, DegenerateError
        As :func:`eo_causal.debias.card_fit.fit_card`.
    """
    random = generator(seed, "pseudo_trials")
    order = random.permutation(len(table))
    n_calibration = round(settings.calibration_share * len(table))
    pairs, rest = (table.iloc[part] for part in np.split(order, [n_calibration]))
    if settings.n_pilot > len(rest):
        raise ConfigError(
            f"n_pilot is {settings.n_pilot}, but {len(rest)} places are left after calibration. Ask for"
            " fewer.", n_pilot=settings.n_pilot,
        )  # fmt: skip
    card = fit_card(
        pairs["outcome"], pairs["prediction"], np.zeros(len(pairs), dtype=int),
        unit_ids=pairs["unit_id"], settings=card_settings, units=units, seed=seed,
    )  # fmt: skip
    rows = []
    for driver in settings.drivers:
        for number in track(range(settings.n_trials), f"trials by {driver}"):
            own = generator(seed, "pseudo_trials", driver, number)
            rows.append(
                {
                    "driver": driver,
                    "trial": number,
                    **_trial(rest, driver, card, settings, own, seed),
                }
            )
    trials = pd.DataFrame(rows)
    count(calibration_pairs=len(pairs), places=len(rest), trials=len(trials))
    return PseudoTrials(card, trials, _summary(trials), _verdicts(trials))


def _trial(
    rest: pd.DataFrame,
    driver: Driver,
    card: CalibrationCard,
    settings: PseudoTrialSettings,
    random: np.random.Generator,
    seed: int,
) -> dict[str, object]:
    values = rest[driver].to_numpy()
    strength = float(random.uniform(-settings.strength, settings.strength))
    chance = 1 / (1 + np.exp(-strength * (values - values.mean()) / values.std()))
    treated = (random.random(len(rest)) < chance).astype(float)
    outcome, prediction = rest["outcome"].to_numpy(), rest["prediction"].to_numpy()
    truth = outcome[treated == 1].mean() - outcome[treated == 0].mean()
    effects = compare_effects(prediction, treated, card, units=card.units).set_index("method")
    found: dict[str, object] = {"strength": strength, "n": len(rest), "truth": float(truth)}
    for method in METHODS:
        found[method] = float(effects.loc[method, "estimate"])
        found[f"std_error_{method}"] = float(effects.loc[method, "std_error"])
    verdict, flags = "", ""
    if settings.n_pilot:
        trial = pd.DataFrame({"prediction": prediction, "treatment": treated})
        chosen = random.permutation(len(rest))[: settings.n_pilot]
        pilot = trial.iloc[chosen].assign(outcome=outcome[chosen])
        with warnings.catch_warnings(record=True):  # of eighty trials; their flags are kept
            warnings.simplefilter("always", EOCausalWarning)
            diagnosis = diagnose(card, trial, pilot=pilot, seed=seed)
        verdict, flags = diagnosis.verdict, ", ".join(diagnosis.flags)
    return found | {"verdict": verdict, "flags": flags}


def _summary(trials: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for driver, part in trials.groupby("driver", sort=False):
        for method in METHODS:
            slope = float(np.polyfit(part["truth"], part[method], 1)[0])
            mae = float((part[method] - part["truth"]).abs().mean())
            rows.append(
                {"driver": driver, "method": method, "slope": slope, "mae": mae, "n": len(part)}
            )
    return pd.DataFrame(rows)


def _verdicts(trials: pd.DataFrame) -> pd.DataFrame:
    asked = trials[trials["verdict"] != ""]
    found = asked.groupby(["driver", "verdict"], sort=False).size().rename("n").reset_index()
    total = found.groupby("driver")["n"].transform("sum")
    return found.assign(share=found["n"] / total)
