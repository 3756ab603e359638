"""Maps and trials whose true effect is known: shrunken, skewed, over-fitted, clustered, misleading maps.

Every world has calibration pairs (truth and prediction, untreated) and a trial on the same map.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.random import generator

Floats = NDArray[np.float64]
MIXTURE_SHARE = np.array([0.64, 0.16, 0.16, 0.04])
MIXTURE_MEAN = np.array([5.0, 7.2, 13.0, 14.2])
MIXTURE_SD = np.array([1.0, 2.0, 4.0, 5.0])
N_EACH = 25  # places of a placebo group


@dataclass(frozen=True)
class PredictionWorld:
    """Calibration pairs and a trial, and what is true of them.

    Attributes
    ----------
    calibration : DataFrame
        ``outcome`` (truth), ``prediction``; ``cluster`` where pairs depend on one another, ``group``
        where places belong to groups.
    trial : DataFrame
        ``outcome`` (hidden from users), ``prediction``, ``treatment`` 0 or 1; ``cluster``; ``score``,
        the true d log p / dx of the density of predictions, where it is known.
    effect : float
        The true effect on the outcome, or the true contrast of the two groups.
    naive_effect : float or None
        What the same contrast of predictions tends to.
    training : DataFrame or None
        ``outcome``, ``prediction`` of the rows that the map's model has learned from.
    """

    calibration: pd.DataFrame
    trial: pd.DataFrame
    effect: float
    naive_effect: float | None = None
    training: pd.DataFrame | None = None


def gaussian(
    seed: int, r2: float = 0.5, effect: float = 0.5, n_calibration: int = 2000, n: int = 10_000
) -> PredictionWorld:
    """W1: prediction = R^2 (truth + sqrt(1/R^2 - 1) N), so contrasts shrink by R^2 and LCC is exact.

    Parameters
    ----------
    r2 : float
        Squared correlation; also k, the slope of prediction on truth. The reverse slope is 1.
    effect : float
        On the outcome, whose standard deviation is 1; half of the trial is treated.
    n_calibration, n : int
        Calibration pairs, units of the trial.
    """
    random = generator(seed, "predictions_gaussian")
    truth = random.standard_normal(n_calibration)
    outcome, treatment = _randomised(random, n, effect)
    return PredictionWorld(
        _pairs(truth, _shrunken(random, truth, r2)),
        _trial(outcome, _shrunken(random, outcome, r2), treatment), effect, r2 * effect,
    )  # fmt: skip


def out_of_support(seed: int, effect: float = 5.0) -> PredictionWorld:
    """W5: as :func:`gaussian`, with treated places beyond all 1,000 calibration pairs (effect 5)."""
    return gaussian(seed, 0.5, effect, 1000, 4000)


def skewed(
    seed: int, sigma: float = 2.0, effect: float = 1.0, n_calibration: int = 5000, n: int = 10_000
) -> PredictionWorld:
    """W2: skewed predictions with Berkson error, truth = prediction + sigma N; Tweedie is exact.

    Trial outcomes are drawn so and shifted by the effect; their predictions come from the exact law of
    the prediction given the truth, a mixture of four normals.

    Parameters
    ----------
    sigma : float
        sd of truth - prediction; predictions have mean 7.
    """
    random = generator(seed, "predictions_skewed")
    prediction = _mixture(random, n_calibration)
    truth = prediction + sigma * random.standard_normal(n_calibration)
    treatment = random.integers(0, 2, n).astype(float)
    outcome = _mixture(random, n) + sigma * random.standard_normal(n) + effect * treatment
    seen = _mixture_given(random, outcome, sigma)
    trial = _trial(outcome, seen, treatment).assign(score=mixture_score(seen))
    return PredictionWorld(_pairs(truth, prediction), trial, effect)


def classical(
    seed: int,
    reliability: float = 0.75,
    effect: float = 0.5,
    n_calibration: int = 2000,
    n: int = 10_000,
) -> PredictionWorld:
    """W3: classical error, prediction = truth + sqrt(1/reliability - 1) N; contrasts do not shrink.

    Tweedie's correction without recalibration over-corrects to (2 - reliability) times the effect.
    """
    random = generator(seed, "predictions_classical")
    noise = np.sqrt(1 / reliability - 1)
    truth = random.standard_normal(n_calibration)
    outcome, treatment = _randomised(random, n, effect)
    return PredictionWorld(
        _pairs(truth, truth + noise * random.standard_normal(n_calibration)),
        _trial(outcome, outcome + noise * random.standard_normal(n), treatment), effect, effect,
    )  # fmt: skip


def sited_by_image(
    seed: int, r2: float = 0.75, n_calibration: int = 2000, n: int = 10_000
) -> PredictionWorld:
    """W4: no effect, but groups chosen by what the image shows: P(A = 1) = expit(prediction / sd).

    ``effect`` is the true contrast E[Y | A = 1] - E[Y | A = 0]. Predictions show it without shrinkage;
    correction overshoots by 1/R^2.
    """
    random = generator(seed, "predictions_sited")
    truth, outcome = random.standard_normal(n_calibration), random.standard_normal(n)
    prediction = _shrunken(random, outcome, r2)
    treatment = (random.random(n) < _expit(prediction / np.sqrt(r2))).astype(float)
    places, share = np.polynomial.hermite_e.hermegauss(80)
    slope = float(_expit(places) * (1 - _expit(places)) @ share / share.sum())
    contrast = 4 * np.sqrt(r2) * slope  # E[z expit(z)] = E[expit'(z)] for a standard normal z
    return PredictionWorld(
        _pairs(truth, _shrunken(random, truth, r2)), _trial(outcome, prediction, treatment),
        contrast, contrast,
    )  # fmt: skip


def clustered_errors(
    seed: int,
    error_icc: float = 0.3,
    effect: float = 0.5,
    n_calibration_clusters: int = 100,
    n_clusters: int = 100,
    n_each: int = 20,
) -> PredictionWorld:
    """W6: prediction = (truth + u) / 2, u ~ N(0, 1) shared within clusters; whole clusters treated.

    Parameters
    ----------
    error_icc : float
        Share of the variance of u between clusters, in calibration and trial.
    """
    random = generator(seed, "predictions_clusters")
    calibration = np.repeat(np.arange(n_calibration_clusters), n_each)
    truth = random.standard_normal(len(calibration))
    seen = (truth + _shared(random, calibration, error_icc)) / 2
    cluster = np.repeat(np.arange(n_clusters), n_each)
    treatment = _half_of_clusters(random, n_clusters)[cluster]
    outcome = effect * treatment + random.standard_normal(len(cluster))
    prediction = (outcome + _shared(random, cluster, error_icc)) / 2
    return PredictionWorld(
        _pairs(truth, seen).assign(cluster=calibration),
        _trial(outcome, prediction, treatment).assign(cluster=cluster), effect, effect / 2,
    )  # fmt: skip


def over_fitted(
    seed: int, n_features: int = 300, n_training: int = 600, n: int = 6000, effect: float = 0.5
) -> PredictionWorld:
    """W7: least squares on features X = truth l + N, |l| = 1: its training rows look too well predicted.

    Parameters
    ----------
    n_features : int
        P; 20, 150 and 300 are mild to heavy over-fit.
    n_training : int
        Training rows, and as many held-out calibration rows.
    """
    random = generator(seed, "predictions_over_fitted")
    loading = np.full(n_features, n_features**-0.5)

    def seen(truth: Floats) -> Floats:
        noise = random.standard_normal((len(truth), n_features))
        return np.column_stack([np.ones(len(truth)), truth[:, None] * loading + noise])

    learned, held_out = random.standard_normal((2, n_training))
    outcome, treatment = _randomised(random, n, effect)
    features = seen(learned)
    weight = np.linalg.lstsq(features, learned)[0]
    shrink = float(loading @ weight[1:])
    return PredictionWorld(
        _pairs(held_out, seen(held_out) @ weight), _trial(outcome, seen(outcome) @ weight, treatment),
        effect, shrink * effect, _pairs(learned, features @ weight),
    )  # fmt: skip


def heteroskedastic(
    seed: int,
    noise_slope: float = 0.6,
    effect: float = 0.5,
    n_calibration: int = 5000,
    n: int = 8000,
) -> PredictionWorld:
    """W8: truth = prediction + 0.8 exp(b prediction / 2) N, prediction ~ N(0, 1), within +-4 in exp.

    Predictions of the shifted trial outcomes are drawn from their law given the outcome, on a grid.

    Parameters
    ----------
    noise_slope : float
        b; 0 is constant noise.
    """
    random = generator(seed, "predictions_heteroskedastic")

    def deviation(prediction: Floats) -> Floats:
        return np.asarray(0.8 * np.exp(noise_slope / 2 * np.clip(prediction, -4, 4)))

    def drawn(count: int) -> tuple[Floats, Floats]:
        prediction = random.standard_normal(count)
        return prediction, prediction + deviation(prediction) * random.standard_normal(count)

    prediction, truth = drawn(n_calibration)
    treatment = random.integers(0, 2, n).astype(float)
    outcome = drawn(n)[1] + effect * treatment
    nodes = np.linspace(-6, 6, 601)
    deviations = deviation(nodes)
    log_density = -0.5 * (nodes**2 + ((outcome[:, None] - nodes) / deviations) ** 2) - np.log(
        deviations
    )
    seen = _from_grid(random, nodes, log_density)
    trial = _trial(outcome, seen, treatment).assign(score=-seen)
    return PredictionWorld(_pairs(truth, prediction), trial, effect)


def differential(
    seed: int, shift: float = 0.1, n: int = 300, n_calibration: int = 2000
) -> PredictionWorld:
    """W10: treatment changes how places look: prediction = 0.6 Y + shift A + 0.5 N, Y = 0.3 A + N.

    A calibrated effect is off by shift / 0.6.
    """
    random = generator(seed, "predictions_differential")
    truth = random.standard_normal(n_calibration)
    seen = 0.6 * truth + 0.5 * random.standard_normal(n_calibration)
    outcome, treatment = _randomised(random, n, 0.3)
    prediction = 0.6 * outcome + shift * treatment + 0.5 * random.standard_normal(n)
    return PredictionWorld(
        _pairs(truth, seen), _trial(outcome, prediction, treatment), 0.3, 0.18 + shift
    )


def uncertain_map(
    seed: int, n_calibration: int = 100, n: int = 20_000, effect: float = 0.5
) -> PredictionWorld:
    """W11: few calibration pairs, a large trial: prediction = 0.3 + 0.55 Y + 0.55 sqrt(1/.75^2 - 1) N."""
    random = generator(seed, "predictions_uncertain")
    noise = np.sqrt(1 / 0.75**2 - 1)
    truth = random.standard_normal(n_calibration)
    outcome, treatment = _randomised(random, n, effect)
    seen = 0.3 + 0.55 * (truth + noise * random.standard_normal(n_calibration))
    prediction = 0.3 + 0.55 * (outcome + noise * random.standard_normal(n))
    return PredictionWorld(
        _pairs(truth, seen), _trial(outcome, prediction, treatment), effect, 0.55 * effect
    )


def placebo_groups(
    seed: int,
    n_groups: int = 60,
    share: float = 0.3,
    r2: float = 0.5,
    by_prediction: bool = False,
) -> PredictionWorld:
    """W12: groups of 25 untreated places that differ in the truth, or in what the image shows.

    Between groups the slope of prediction on truth is then R^2, or 1. ``calibration`` has ``group``;
    the trial is one of randomised places without effect.

    Parameters
    ----------
    share : float
        Of the variance of the truth, or of the prediction, that lies between groups.
    by_prediction : bool
        Groups differ in the prediction.
    """
    random = generator(seed, "predictions_groups")
    group = np.repeat(np.arange(n_groups), N_EACH)
    values = _shared(random, group, share)
    if by_prediction:
        prediction = np.sqrt(r2) * values
        truth = prediction + np.sqrt(1 - r2) * random.standard_normal(len(group))
    else:
        truth, prediction = values, _shrunken(random, values, r2)
    outcome, treatment = _randomised(random, len(group), 0.0)
    return PredictionWorld(
        _pairs(truth, prediction).assign(group=group),
        _trial(outcome, _shrunken(random, outcome, r2), treatment), 0.0, 0.0,
    )  # fmt: skip


def cluster_trial(
    seed: int,
    n_clusters: int = 100,
    n_each: int = 20,
    icc: float = 0.1,
    correlation: float = 0.7,
    map_error_icc: float = 0.0,
    effect: float = 0.25,
    n_calibration: int = 2000,
) -> PredictionWorld:
    """W14: half of the clusters treated; outcome and map error both share parts within clusters.

    Y = effect A + sqrt(icc) u + sqrt(1 - icc) N; prediction = Y + error of variance 1/correlation^2 - 1.

    Parameters
    ----------
    icc, map_error_icc : float
        Shares of the variances of outcome and of map error between clusters.
    correlation : float
        Of prediction and outcome.
    """
    random = generator(seed, "predictions_cluster_trial")
    noise = np.sqrt(1 / correlation**2 - 1)
    truth = random.standard_normal(n_calibration)
    cluster = np.repeat(np.arange(n_clusters), n_each)
    treatment = _half_of_clusters(random, n_clusters)[cluster]
    outcome = effect * treatment + _shared(random, cluster, icc)
    prediction = outcome + noise * _shared(random, cluster, map_error_icc)
    return PredictionWorld(
        _pairs(truth, truth + noise * random.standard_normal(n_calibration)),
        _trial(outcome, prediction, treatment).assign(cluster=cluster), effect, effect,
    )  # fmt: skip


def mixture_score(prediction: Floats) -> Floats:
    """(n,) true score of the density of predictions in :func:`skewed`."""
    distance = (prediction[:, None] - MIXTURE_MEAN) / MIXTURE_SD
    log_part = np.log(MIXTURE_SHARE / MIXTURE_SD) - 0.5 * distance**2
    part = np.exp(log_part - log_part.max(axis=1, keepdims=True))
    return np.asarray((part * -distance / MIXTURE_SD).sum(axis=1) / part.sum(axis=1))


def _pairs(truth: Floats, prediction: Floats) -> pd.DataFrame:
    return pd.DataFrame({"outcome": truth, "prediction": prediction})


def _trial(outcome: Floats, prediction: Floats, treatment: Floats) -> pd.DataFrame:
    return _pairs(outcome, prediction).assign(treatment=treatment)


def _randomised(random: np.random.Generator, n: int, effect: float) -> tuple[Floats, Floats]:
    """Outcomes N(0, 1) + effect A, and A ~ Bernoulli(1/2)."""
    treatment = random.integers(0, 2, n).astype(float)
    return effect * treatment + random.standard_normal(n), treatment


def _shrunken(random: np.random.Generator, truth: Floats, r2: float) -> Floats:
    return np.asarray(r2 * (truth + np.sqrt(1 / r2 - 1) * random.standard_normal(len(truth))))


def _shared(random: np.random.Generator, cluster: NDArray[np.intp], icc: float) -> Floats:
    """N(0, 1) values of which a share ``icc`` of the variance is common to a cluster."""
    common = random.standard_normal(int(cluster.max()) + 1)[cluster]
    return np.asarray(
        np.sqrt(icc) * common + np.sqrt(1 - icc) * random.standard_normal(len(cluster))
    )


def _half_of_clusters(random: np.random.Generator, n: int) -> Floats:
    return random.permutation(np.arange(n) % 2).astype(float)


def _mixture(random: np.random.Generator, n: int) -> Floats:
    part = random.choice(len(MIXTURE_SHARE), n, p=MIXTURE_SHARE)
    return np.asarray(MIXTURE_MEAN[part] + MIXTURE_SD[part] * random.standard_normal(n))


def _mixture_given(random: np.random.Generator, truth: Floats, sigma: float) -> Floats:
    """Predictions given the truth: the part by its posterior share, then a normal."""
    variance = MIXTURE_SD**2 + sigma**2
    log_share = np.log(MIXTURE_SHARE / np.sqrt(variance)) - 0.5 * (
        (truth[:, None] - MIXTURE_MEAN) ** 2 / variance
    )
    share = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    reached = np.cumsum(share, axis=1) > random.random((len(truth), 1)) * share.sum(
        axis=1, keepdims=True
    )
    part = reached.argmax(axis=1)
    pull = MIXTURE_SD[part] ** 2 / variance[part]
    mean = MIXTURE_MEAN[part] + pull * (truth - MIXTURE_MEAN[part])
    return np.asarray(mean + sigma * np.sqrt(pull) * random.standard_normal(len(truth)))


def _from_grid(random: np.random.Generator, nodes: Floats, log_density: Floats) -> Floats:
    """One draw a row of (n, node) log densities: a node, and a uniform place within its cell."""
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    reached = np.cumsum(density, axis=1)
    node = (reached > random.random((len(reached), 1)) * reached[:, -1:]).argmax(axis=1)
    step = nodes[1] - nodes[0]
    return np.asarray(nodes[node] + step * (random.random(len(reached)) - 0.5))


def _expit(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))
