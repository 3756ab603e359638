"""Trials whose outcome is seen through a random network only: features stand for an image's embedding.

The world of the simulation study of arXiv 2508.01341 (W9).
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.random import generator

Floats = NDArray[np.float64]
WIDTHS = (1, 50, 50, 50, 100)
DROPOUT = 0.2
NOISE_SD = 0.3


@dataclass(frozen=True)
class NetworkSample:
    """Units of one world.

    Attributes
    ----------
    features : (n, 100) float32 array
        What is seen of the outcome, standardised by the moments of the training sample.
    outcome : (n,) array
        Effect times treatment, plus confounder, plus standard normal noise.
    treatment : (n,) array
        0 or 1.
    propensity : (n,) array
        The true chance of treatment.
    """

    features: NDArray[np.float32]
    outcome: Floats
    treatment: Floats
    propensity: Floats


@dataclass(frozen=True)
class NetworkWorld:
    """Two samples of the same law, seen through the same network.

    Attributes
    ----------
    training : NetworkSample
        A predictor may learn its outcomes.
    test : NetworkSample
        The trial, whose outcomes are hidden.
    """

    training: NetworkSample
    test: NetworkSample


def network_world(seed: int, effect: float, n: int = 10_000) -> NetworkWorld:
    """W9: features = g(outcome) + 0.3 N, g a frozen ReLU network 1-50-50-50-100 with dropout 0.2 active.

    The network is new in every world, its dropout in every unit. A confounder C ~ N(0, 1) decides
    treatment, with log odds C, and adds to the outcome.

    Parameters
    ----------
    seed : int
    effect : float
        Of treatment on the outcome.
    n : int
        Units of each sample.

    Notes
    -----
    Source: arXiv 2508.01341, simulation study. Weights and biases of the network are uniform within
    1 / sqrt(number of inputs).
    """
    layers = _layers(generator(seed, "network_trials", "network"))
    training, test = (
        _drawn(generator(seed, "network_trials", part), layers, effect, n)
        for part in ("training", "test")
    )
    mean, sd = training.features.mean(axis=0), training.features.std(axis=0)
    return NetworkWorld(*(_standardised(sample, mean, sd) for sample in (training, test)))


def _layers(random: np.random.Generator) -> list[tuple[Floats, Floats]]:
    """Weights (inputs, outputs) and biases of every layer."""
    layers = []
    for inputs, outputs in itertools.pairwise(WIDTHS):
        bound = 1 / np.sqrt(inputs)
        weights = random.uniform(-bound, bound, (inputs, outputs))
        layers.append((weights, random.uniform(-bound, bound, outputs)))
    return layers


def _drawn(
    random: np.random.Generator, layers: list[tuple[Floats, Floats]], effect: float, n: int
) -> NetworkSample:
    confounder = random.standard_normal(n)
    propensity = 1 / (1 + np.exp(-confounder))
    treatment = (random.random(n) < propensity).astype(float)
    outcome = effect * treatment + confounder + random.standard_normal(n)
    seen = _seen(random, layers, outcome)
    features = (seen + NOISE_SD * random.standard_normal(seen.shape)).astype(np.float32)
    return NetworkSample(features, outcome, treatment, propensity)


def _seen(
    random: np.random.Generator, layers: list[tuple[Floats, Floats]], outcome: Floats
) -> Floats:
    """(n, 100) outputs of the network; each unit has its own dropout."""
    values = outcome[:, None]
    for weights, bias in layers[:-1]:
        values = np.maximum(values @ weights + bias, 0)
        values *= (random.random(values.shape) >= DROPOUT) / (1 - DROPOUT)
    weights, bias = layers[-1]
    return np.asarray(values @ weights + bias)


def _standardised(
    sample: NetworkSample, mean: NDArray[np.float32], sd: NDArray[np.float32]
) -> NetworkSample:
    features = (sample.features - mean) / sd
    return NetworkSample(features, sample.outcome, sample.treatment, sample.propensity)
