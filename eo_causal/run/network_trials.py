"""Many simulated trials whose outcome is predicted from a network's features: the joining of floors.

The predictor arrives as a trainer from the pipeline, so that no network library is needed here.
"""

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.tasks import compute_tasks
from eo_causal.debias.card import CalibrationCard, CardSettings
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.effect import Method, corrected_effect
from eo_causal.debias.ppi import ppi_mean
from eo_causal.errors import EOCausalWarning
from eo_causal.simulate.network_trials import network_world
from eo_causal.simulate.predictions import PredictionWorld

Floats = NDArray[np.float64]
UNITS = "1"
CORRECTIONS: tuple[Method, ...] = ("naive", "lcc", "tweedie")
SMALLEST_PROPENSITY = 1e-6


class Predictor(Protocol):
    """What has learned an outcome."""

    def predict(self, features: NDArray[np.float32]) -> Floats:
        """(n,) predictions of (n, feature) values."""


class Trainer(Protocol):
    """What learns an outcome; a callable dataclass, which travels to workers."""

    def __call__(self, features: NDArray[np.float32], target: Floats, seed: int) -> Predictor:
        """Learn from these rows; the part that stops the training is taken from them."""


class NetworkTrialSettings(Settings):
    """How many trials are simulated, and of what size."""

    n_trials: int = Field(default=50, ge=3, description="each with its own network and predictor")
    largest_effect: float = Field(
        default=2.0, gt=0, description="effects are evenly spread between minus this and this"
    )
    n_units: int = Field(
        default=10_000, ge=500, description="of each training and each test sample"
    )
    calibration_share: float = Field(
        default=0.2, gt=0, lt=1, description="of the training sample, held back from training"
    )
    n_labels: int = Field(default=100, ge=10, description="measured units of each trial, for PPI")


class HorvitzThompson:
    """Mean of outcomes over the chance of the arm, treated less others; the weight is that inverse.

    Its error depends on the level of the outcome, which no weights are scaled to take off (the
    simulation of arXiv 2508.01341).
    """

    def __call__(self, outcome: Floats, treatment: Floats, weight: Floats) -> float:
        """The estimate."""
        return float(self.influence(outcome, treatment, weight).mean())

    def influence(self, outcome: Floats, treatment: Floats, weight: Floats) -> Floats:
        """(n,) values whose mean is the estimate."""
        return np.asarray((2 * treatment - 1) * weight * outcome)


@dataclass(frozen=True)
class NetworkTrials:
    """Every trial, and how each method follows the true effects.

    Attributes
    ----------
    trials : DataFrame
        name, truth (the effect), n, facts of the calibration pairs: slope (of prediction on truth),
        inverse_slope, r2, noise_variance, recalibration_slope; corrector (which one the card
        offers), flags.
    effects : DataFrame
        name, truth, method (naive, lcc, tweedie, ppi), estimate, std_error, lower, upper.
    summary : DataFrame
        method, slope (of estimate on truth), mae, rmse, coverage (share of intervals that hold the
        truth), n.
    """

    trials: pd.DataFrame
    effects: pd.DataFrame
    summary: pd.DataFrame


def network_trials(
    settings: NetworkTrialSettings, card_settings: CardSettings, trainer: Trainer, *, seed: int
) -> NetworkTrials:
    """Simulate trials, predict their outcomes, and estimate effects with and without correction.

    Parameters
    ----------
    settings : NetworkTrialSettings
    card_settings : CardSettings
        How predictions are calibrated, on a part that neither trained nor stopped the predictor.
    trainer : Trainer
    seed : int
        Of the run.

    Raises
    ------
    DataError, DegenerateError
        As :func:`eo_causal.debias.card_fit.fit_card`, of any trial.

    Notes
    -----
    Source: arXiv 2508.01341, simulation study; there the same rows stop training and calibrate.
    The mean prediction bends with the outcome, differently for every network, which linear calibration
    ignores: over 90 trials the errors had 1.16 times the size that standard errors say, and intervals
    held the effect in 90 % of them (97 % once the bend's part was taken off).
    """
    from dask.delayed import delayed

    truths = np.linspace(-settings.largest_effect, settings.largest_effect, settings.n_trials)
    task = delayed(predicted_trial, pure=False)
    worlds = compute_tasks(
        [task(number, float(truth), settings, trainer, seed) for number, truth in enumerate(truths)]
    )
    rows, effects = [], []
    for number, world in enumerate(track(worlds, "Effects", total=len(worlds))):
        row, found = _estimated(number, world, settings, card_settings, seed)
        rows.append(row)
        effects.append(found)
    trials, every = pd.DataFrame(rows), pd.concat(effects, ignore_index=True)
    count(
        trials=len(worlds), trials_flagged=int((trials["flags"] != "").sum()),
        units=sum(len(world.trial) for world in worlds),
    )  # fmt: skip
    return NetworkTrials(trials, every, _summary(every))


def predicted_trial(
    number: int, effect: float, settings: NetworkTrialSettings, trainer: Trainer, seed: int
) -> PredictionWorld:
    """One world, seen through its predictor; the trial also has the column ``propensity``."""
    own = int(generator(seed, "network_trials", number).integers(2**31))
    world = network_world(own, effect, settings.n_units)
    training, test = world.training, world.test
    n_learned = round((1 - settings.calibration_share) * settings.n_units)
    predictor = trainer(training.features[:n_learned], training.outcome[:n_learned], own)
    pairs = {
        "outcome": training.outcome[n_learned:],
        "prediction": predictor.predict(training.features[n_learned:]),
    }
    trial = {
        "outcome": test.outcome, "prediction": predictor.predict(test.features),
        "treatment": test.treatment, "propensity": test.propensity,
    }  # fmt: skip
    return PredictionWorld(pd.DataFrame(pairs), pd.DataFrame(trial), effect)


def _estimated(
    number: int, world: PredictionWorld, settings: NetworkTrialSettings,
    card_settings: CardSettings, seed: int,
) -> tuple[dict[str, object], pd.DataFrame]:  # fmt: skip
    """A row of ``trials``, and its effects."""
    pairs, name = world.calibration, f"trial_{number}"
    with warnings.catch_warnings():  # of fifty trials; their flags are kept
        warnings.simplefilter("ignore", EOCausalWarning)
        card = fit_card(
            pairs["outcome"], pairs["prediction"], np.zeros(len(pairs), dtype=int),
            unit_ids=np.arange(len(pairs)), settings=card_settings, units=UNITS, seed=seed,
        )  # fmt: skip
        effects, flags = _effects(world.trial, card, settings, generator(seed, "labels", number))
    columns = ["slope", "inverse_slope", "r2", "noise_variance", "recalibration_slope"]
    facts = {column: float(card.folds[column].iloc[0]) for column in columns}
    row = {
        "name": name, "truth": world.effect, "n": len(world.trial), **facts,
        "corrector": card.method, "flags": ", ".join(flags),
    }  # fmt: skip
    effects.insert(0, "name", name)
    effects.insert(1, "truth", world.effect)
    return row, effects


def _effects(
    trial: pd.DataFrame, card: CalibrationCard, settings: NetworkTrialSettings,
    random: np.random.Generator,
) -> tuple[pd.DataFrame, tuple[str, ...]]:  # fmt: skip
    """One row a method, and the flags of all of them."""
    outcome, prediction, treatment = (
        trial[column].to_numpy() for column in ("outcome", "prediction", "treatment")
    )
    chance = trial["propensity"].clip(SMALLEST_PROPENSITY, 1 - SMALLEST_PROPENSITY).to_numpy()
    weight = 1 / np.where(treatment == 1, chance, 1 - chance)
    estimator = HorvitzThompson()
    corrected = {
        method: corrected_effect(
            method, prediction, treatment, card, estimator, weight=weight, units=UNITS
        )
        for method in CORRECTIONS
    }
    labels = np.full(len(trial), np.nan)
    measured = random.permutation(len(trial))[: settings.n_labels]
    labels[measured] = outcome[measured]
    # the effect is the mean of influence values, so their mean is what labels correct
    ppi = ppi_mean(
        estimator.influence(labels, treatment, weight),
        estimator.influence(prediction, treatment, weight), units=UNITS,
    )  # fmt: skip
    effects = [*(found.effect for found in corrected.values()), ppi]
    table = pd.concat([effect.to_frame() for effect in effects], ignore_index=True)
    flags = dict.fromkeys(flag for found in corrected.values() for flag in found.flags)
    columns = ["estimate", "std_error", "lower", "upper"]
    return table[columns].assign(method=[*CORRECTIONS, "ppi"]), tuple(flags)


def _summary(effects: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for method, part in effects.groupby("method", sort=False):
        error = part["estimate"] - part["truth"]
        rows.append({
            "method": method, "slope": float(np.polyfit(part["truth"], part["estimate"], 1)[0]),
            "mae": float(error.abs().mean()), "rmse": float(np.sqrt((error**2).mean())),
            "coverage": float(part["truth"].between(part["lower"], part["upper"]).mean()),
            "n": len(part),
        })  # fmt: skip
    return pd.DataFrame(rows)
