"""Do the tests of rankings find effects that images show, and only those? (EO_CAUSAL_SIZE=full for all)

Row C-14, power, on world C6: images of a trial, outcomes of its controls, and effects 0.75 + b s with s
the brightness of a band. The forest T-learner is scikit-learn's, and enters as a network's predictions
do: whatever was predicted on the folds of a study can be tested.
"""

from dataclasses import dataclass

import dask
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.ensemble import RandomForestRegressor

from eo_causal.core.folds import FoldSettings, make_folds
from eo_causal.core.random import generator
from eo_causal.core.sources import InputFiles
from eo_causal.core.units import StudyUnits
from eo_causal.encode.pixel_stats import PixelStatsSettings
from eo_causal.encode.store import FoldFeatures
from eo_causal.estimate.effect_fits import NetworkPredictions
from eo_causal.estimate.heterogeneity import HeterogeneitySettings, estimate_heterogeneity
from eo_causal.ingest.chip_files import ChipFileSettings, read_chip_file
from eo_causal.simulate.trial import OFFER, band_signal, semi_synthetic_trial, textured_chips

pytestmark = pytest.mark.statistics
CHIPS = "imagery/uganda_yop/chips_trial_327x3x160x160.nc"
OBSERVATIONS = "imagery/causalimages_uganda/observations.csv"
ONE_SPLIT = FoldSettings(kind="image_key", n_splits=1)
SETTINGS = HeterogeneitySettings(learners=("t", "dr"), n_draws=100)
RATIO, CORRELATION = {0.5: 2.5, 1.0: 5.0}, {0.5: 0.75, 1.0: 0.88}
"""Ratios are the row's. Its correlations are .55 and .65; measured .84 and .94 at least, less a margin."""
LARGEST = 0.09  # of a test at 5 %


@dataclass(frozen=True)
class Images:
    """Images of a trial, the image of each unit, and outcomes of controls."""

    features: FoldFeatures
    keys: np.ndarray
    unit_keys: np.ndarray
    controls: np.ndarray | None
    signal: np.ndarray


def images_of(chips, unit_keys, controls):
    keys = chips["image_key"].to_numpy().astype(str)
    features = FoldFeatures(chips, PixelStatsSettings(), 0)
    return Images(features, keys, unit_keys, controls, band_signal(chips, 1))


@pytest.fixture(scope="module")
def generated():
    """As many images as the trial has, and like numbers of units in each."""
    chips = textured_chips(14, 327, size=8)
    n_each = generator(14, "units of an image").geometric(1 / 6.4, 327)
    return images_of(chips, np.repeat(chips["image_key"].to_numpy().astype(str), n_each), None)


@pytest.fixture(scope="module")
def uganda(data_folder):
    path, table = data_folder / CHIPS, data_folder / OBSERVATIONS
    if not (path.is_file() and table.is_file()):
        pytest.skip(f"{CHIPS} or {OBSERVATIONS} is not among the data sets")
    settings = ChipFileSettings(file=str(path), date="2000", resolution_m=14.25)
    chips = read_chip_file(InputFiles((str(path),), ("",)), settings).chips.compute()
    observed = pd.read_csv(table)
    controls = observed.loc[observed["w"] == 0, "y"].to_numpy()
    return images_of(chips, observed["image_key"].astype(str).to_numpy(), controls)


@pytest.fixture(params=["generated", "uganda"])
def images(request):
    return request.getfixturevalue(request.param)


def forest_predictions(images, units, folds, seed):
    """Out-of-fold mean outcomes of each arm, by two forests of all other and of earlier folds."""
    design = images.features(np.arange(len(images.keys)))[units.image_of(images.keys)]
    tables = []
    for pairs in (folds.pairs(0), folds.sequence(0, seed)):
        parts = []
        for training, test in pairs:
            means = []
            for arm in (0, 1):
                rows = training[units.treatment[training] == arm]
                forest = RandomForestRegressor(
                    100, min_samples_leaf=5, max_features=1 / 3, random_state=seed
                ).fit(design[rows], units.outcome[rows])
                means.append(forest.predict(design[test]))
            parts.append(pd.DataFrame({
                "split": 0, "unit_id": units.table["unit_id"].to_numpy()[test], "propensity": OFFER,
                "mu0": means[0], "mu1": means[1],
            }))  # fmt: skip
        tables.append(pd.concat(parts))
    return NetworkPredictions(*tables)


def trial_study(images, b, seed, with_forest):
    """Ranking -> ratio and p-value of AUTOC, ratio of Qini, correlation with the true effect."""
    world = semi_synthetic_trial(
        images.signal, images.keys, images.unit_keys, images.controls, b=b, seed=seed
    )
    units = StudyUnits(world.units, pd.DataFrame(index=world.units.index))
    folds = make_folds(units, ONE_SPLIT, None, 0.0, True, seed=seed)
    networks = {"forest": forest_predictions(images, units, folds, seed)} if with_forest else {}
    with dask.config.set(scheduler="synchronous"):
        found = estimate_heterogeneity(
            units, folds, images.keys.tolist(), {"pixel_stats": images.features}, networks, OFFER,
            SETTINGS, seed=seed,
        )  # fmt: skip
    answers = {}
    for ranking, rates in found.rates.groupby(["arm", "learner"]):
        rows = rates.set_index("metric")
        alike = np.corrcoef(found.of(*ranking)["cate"], world.effect)[0, 1] if b else np.nan
        answers[ranking] = [*rows["ratio"], *rows["p_value"], alike]
    return answers


def over_trials(images, b, n, with_forest):
    """Ranking -> (trial, 5) ratios and p-values of AUTOC and Qini, and the correlation."""
    trials = [trial_study(images, b, seed, with_forest) for seed in range(n)]
    return {ranking: np.array([one[ranking] for one in trials]) for ranking in trials[0]}


def test_rankings_find_effects_that_images_show(images, full_size, measured):
    """C-14: mean ratio of AUTOC and mean correlation with the true effect; CI has b = 1 alone."""
    for b in (0.5, 1.0) if full_size else (1.0,):
        for ranking, found in over_trials(images, b, 20 if full_size else 2, True).items():
            autoc, qini, _, _, alike = found.mean(axis=0)
            name = f"{' '.join(ranking)}, b = {b:g}"
            measured(f"{name}: ratio of AUTOC", autoc)
            measured(f"{name}: its sd over trials", found[:, 0].std(ddof=1))
            measured(f"{name}: ratio of Qini", qini)
            measured(f"{name}: correlation", alike)
            measured(f"{name}: power", (found[:, 2] < 0.05).mean())
            assert autoc > RATIO[b]
            assert alike > CORRELATION[b]


def test_rankings_of_a_constant_effect_are_not_found(images, full_size, measured):
    """b = 0: no more rejections than a rate of .09 gives in all but one of a thousand cases.

    Ratios have mean 0, which those of ranks pooled over folds have not.
    """
    n = 100 if full_size else 8
    for ranking, found in over_trials(images, 0.0, n, full_size).items():
        name = " ".join(ranking)
        for k, metric in enumerate(("AUTOC", "Qini")):
            rejected = (found[:, 2 + k] < 0.05).mean()
            measured(f"{name}: {metric} rejected", rejected)
            measured(f"{name}: mean ratio of {metric}", found[:, k].mean())
            assert rejected * n <= binom.ppf(0.999, n, LARGEST)
            assert found[:, k].mean() == pytest.approx(0, abs=3.3 / np.sqrt(n))
