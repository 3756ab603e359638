"""Does a trial speak of other places where it can, and is it silent where it cannot? (C-18)

World C9: the effect is a function of the embedding. Target regions have the trial's law, or lie 5
standard deviations of the training means away. EO_CAUSAL_SIZE=full for all repetitions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from eo_causal.audit.support import support_of
from eo_causal.estimate.cate import EffectSettings, Rows, fit_nuisances
from eo_causal.estimate.transport import transport

pytestmark = pytest.mark.statistics
SETTINGS = EffectSettings()
N_KEYS, N_PLACES = 200, 300


@dataclass(frozen=True)
class Region:
    """A trial of 600 units in 200 places, and 300 places elsewhere."""

    rows: Rows
    trial: np.ndarray
    target: np.ndarray
    design: np.ndarray
    effect: np.ndarray
    fold: np.ndarray


def of_features(random, shift):
    """Ten independent features, each shifted."""
    trial, target = random.normal(size=(N_KEYS, 10)), random.normal(size=(N_PLACES, 10))
    return trial, target + shift * trial.std(axis=0)


def of_chips(random, shift):
    """Means and deviations of three bands of chips of random level and contrast, each band shifted."""

    def chips(n):
        level, contrast = random.normal(size=(n, 3)), np.exp(0.3 * random.normal(size=(n, 3)))
        noise = random.normal(size=(n, 3, 8, 8))
        return level[..., None, None] + contrast[..., None, None] * noise

    trial, target = chips(N_KEYS), chips(N_PLACES)
    target += shift * trial.mean((2, 3)).std(axis=0)[:, None, None]
    return tuple(np.hstack([part.mean((2, 3)), part.std((2, 3))]) for part in (trial, target))


def region(seed, embedding, shift=0.0, shared=0.0):
    """Effect .75 + .5 z1 + .3 z2, outcome .5 z1 + .3 z_last + W effect + N(0, 1) + shared noise."""
    random = np.random.default_rng([seed, 18])
    trial, target = embedding(random, shift)
    key = np.repeat(np.arange(N_KEYS), 3)
    effect, elsewhere = (0.75 + part[:, :2] @ [0.5, 0.3] for part in (trial, target))
    treatment = random.permutation(np.arange(N_KEYS) % 2).astype(float)
    level = (
        trial[:, [0, -1]] @ [0.5, 0.3] + treatment * effect + shared * random.normal(size=N_KEYS)
    )
    outcome = level[key] + random.normal(size=len(key))
    mean, spread = trial.mean(axis=0), trial.std(axis=0)
    rows = Rows(((trial - mean) / spread)[key], treatment[key], outcome, key)
    fold = random.permutation(N_KEYS) % 5
    return Region(rows, trial[key], target, (target - mean) / spread, elsewhere, fold[key])


def carried(study, seed, areas=("all",), n_draws=2):
    """Transported effects of the target region by the DR-learner, once for each division into areas."""
    support = support_of(study.trial, study.target, study.fold, seed=seed)
    random = np.random.default_rng(seed)
    nuisances = fit_nuisances(study.rows, 0.5, SETTINGS, random)
    names = np.concatenate([np.broadcast_to(area, N_PLACES) for area in areas])
    places = pd.DataFrame({"unit_id": np.tile(np.arange(N_PLACES), len(areas)), "area": names})
    return transport(
        "dr", study.rows, nuisances, study.rows.group, np.tile(study.design, (len(areas), 1)), places,
        pd.concat([support] * len(areas)), SETTINGS, n_draws, 0.95, random,
    )  # fmt: skip


@pytest.mark.parametrize("embedding", [of_features, of_chips])
def test_effects_of_the_same_law_are_found_elsewhere(embedding, full_size, measured):
    """(a): R2 of the transported effect > .3, at most 15 % of the places outside."""
    explained, outside = [], []
    for seed in range(100 if full_size else 12):
        study = region(seed, embedding)
        places = carried(study, seed).places
        explained.append(1 - np.mean((study.effect - places["cate"]) ** 2) / study.effect.var())
        outside.append(1 - places["in_support"].mean())
    measured("r2_mean", np.mean(explained))
    measured("r2_lowest", np.min(explained))
    measured("outside_mean", np.mean(outside))
    measured("outside_highest", np.max(outside))
    assert np.min(explained) > 0.3
    assert np.max(outside) <= 0.15
    assert np.mean(outside) < 0.08


@pytest.mark.parametrize("embedding", [of_features, of_chips])
def test_shifted_places_are_masked(embedding, full_size, measured):
    """(b): at least 80 % outside, in every region; 2 standard deviations are on the way there."""
    for shift in (2.0, 5.0):
        outside = []
        for seed in range(100 if full_size else 12):
            study = region(seed, embedding, shift)
            support = support_of(study.trial, study.target, study.fold, seed=seed)
            outside.append(1 - support["in_support"].mean())
        measured(f"outside_mean_{shift:g}_sd", np.mean(outside))
        measured(f"outside_lowest_{shift:g}_sd", np.min(outside))
    assert np.min(outside) >= 0.8


def test_a_map_of_shifted_places_has_no_average_over_them():
    areas = carried(region(0, of_features, 5.0), 0).areas.iloc[0]
    assert areas["n_in_support"] == 0
    assert areas[["estimate", "std_error", "lower", "upper"]].isna().all()
    assert np.isfinite(areas["estimate_all"])


def test_intervals_of_the_area_average_cover(full_size, measured):
    """Noise shared in places, so that clusters matter; halves show what the penalty shrinks away.

    The average over the whole region covers as it says. Where an area differs from the trial's mean,
    the ridge pulls its effect there, which no bootstrap sees.
    """
    n, n_draws = (100, 200) if full_size else (16, 60)
    rows = []
    for seed in range(n):
        study = region(seed, of_features, shared=0.5)
        halves = np.where(study.design[:, 0] > 0, "high", "low")
        made = carried(study, seed, ("all", halves), n_draws)
        truth = made.places.assign(effect=np.tile(study.effect, 2)).query("in_support")
        truth = truth.groupby("area")["effect"].mean()
        rows.append(made.areas.assign(truth=made.areas["area"].map(truth)))
    areas = pd.concat(rows)
    areas["error"] = areas["estimate"] - areas["truth"]
    areas["covered"] = areas["truth"].between(areas["lower"], areas["upper"])
    covered = areas.groupby("area")["covered"].mean()
    whole = areas[areas["area"] == "all"]
    ratio = whole["std_error"].mean() / whole["error"].std()
    for name, share in covered.items():
        measured(f"coverage_{name}", share)
    measured("std_error_over_sd", ratio)
    assert covered["all"] >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / n)
    assert covered.min() >= (0.8 if full_size else 0.6)
    assert abs(ratio - 1) < 0.1 + 3 / np.sqrt(2 * (n - 1))  # three errors of a standard deviation
