"""A small network that predicts a number from features: the wealth head of arXiv 2508.01341.

Trained in torch; prediction is a few matrix products, so that a fitted one needs no torch.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import ConvergenceError, DataError

if TYPE_CHECKING:
    import torch

Singles = NDArray[np.float32]
Layer = tuple[Singles, Singles]


class MlpSettings(Settings):
    """Which network, and how its training runs."""

    hidden: tuple[int, ...] = Field(
        default=(64, 32, 32), min_length=1, description="widths of the hidden layers"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="of Adam")
    weight_decay: float = Field(default=1e-2, ge=0, description="of Adam, added to the gradient")
    epochs: int = Field(default=2000, ge=1, description="steps on the whole training part, at most")
    patience: int = Field(default=50, ge=1, description="epochs without a better validation loss")
    validation_share: float = Field(
        default=0.25, gt=0, lt=1, description="rows that decide when to stop"
    )


@dataclass(frozen=True)
class Mlp:
    """A trained network of linear layers with ReLU between them.

    Attributes
    ----------
    layers : tuple of (weight, bias)
        float32, (outputs, inputs) and (outputs,), of the best epoch.
    centre, scale : float
        Mean and standard deviation of the training part of the target.
    epoch : int
        The best one.
    validation_loss : float
        Mean squared error of the standardised target then.
    """

    layers: tuple[Layer, ...]
    centre: float
    scale: float
    epoch: int
    validation_loss: float

    def predict(self, features: Singles) -> NDArray[np.float64]:
        """(n,) predictions in units of the target, from (n, feature) values."""
        values = np.asarray(features, dtype=np.float32)
        for weight, bias in self.layers[:-1]:
            values = np.maximum(values @ weight.T + bias, 0)
        weight, bias = self.layers[-1]
        return (values @ weight.T + bias)[:, 0].astype(float) * self.scale + self.centre


@dataclass(frozen=True)
class MlpTrainer:
    """:func:`train_mlp` with its settings; travels to workers."""

    settings: MlpSettings

    def __call__(self, features: Singles, target: NDArray[np.float64], seed: int) -> Mlp:
        """Train on these rows."""
        return train_mlp(features, target, self.settings, seed=seed)


def train_mlp(
    features: Singles, target: NDArray[np.float64], settings: MlpSettings, *, seed: int
) -> Mlp:
    """Train on whole batches until the loss of an inner validation part stops falling.

    The same seed gives the same bytes on a processor with the same number of threads.

    Parameters
    ----------
    features : (n, feature) array
        Standardised.
    target : (n,) array
    settings : MlpSettings
    seed : int
        Decides the validation part and the first weights.

    Returns
    -------
    Mlp
        With the weights of the best epoch.

    Raises
    ------
    DataError
        Shapes differ, missing or infinite values, a constant target, fewer than 2 rows in a part.
    ConvergenceError
        The loss is not a number.

    Notes
    -----
    Source: arXiv 2508.01341, simulation study.
    """
    _check(features, target)
    order = generator(seed, "mlp", "validation").permutation(len(target))
    held_out, training = np.split(order, [round(settings.validation_share * len(target))])
    if min(len(training), len(held_out)) < 2:
        raise DataError(
            f"{len(target)} rows leave {len(training)} for training and {len(held_out)} for validation."
            " Give more rows.", n=len(target),
        )  # fmt: skip
    centre, scale = float(target[training].mean()), float(target[training].std())
    if not scale > 0:
        raise DataError(f"The target is {centre:g} in all training rows. Give one that varies.")
    scaled = ((target - centre) / scale).astype(np.float32)
    return _fitted(features, scaled, (training, held_out), (centre, scale), settings, seed)


def _fitted(
    features: Singles, target: Singles, parts: tuple[NDArray[np.intp], NDArray[np.intp]],
    moments: tuple[float, float], settings: MlpSettings, seed: int,
) -> Mlp:  # fmt: skip
    import torch

    from eo_causal.encode.losses import mean_squared

    (x, y), (x_held_out, y_held_out) = (
        (torch.as_tensor(features[rows], dtype=torch.float32), torch.as_tensor(target[rows]))
        for rows in parts
    )
    network = _fresh(features.shape[1], settings, seed)
    optimiser = torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    best: Mlp | None = None
    for epoch in range(settings.epochs):
        optimiser.zero_grad()
        torch.autograd.backward(mean_squared(network(x)[:, 0], y))
        optimiser.step()
        with torch.no_grad():
            loss = float(mean_squared(network(x_held_out)[:, 0], y_held_out))
        if not math.isfinite(loss):
            raise ConvergenceError(
                f"the loss is not a number after epoch {epoch}. Lower learning_rate.", epoch=epoch
            )
        if best is None or loss < best.validation_loss:
            best = Mlp(_layers(network), *moments, epoch, loss)
        elif epoch - best.epoch >= settings.patience:
            break
    assert best is not None
    return best


def _fresh(n_features: int, settings: MlpSettings, seed: int) -> "torch.nn.Sequential":
    """The network with random weights, which depend on the seed only."""
    import torch

    from eo_causal.encode.small_networks import initialise

    widths = (n_features, *settings.hidden, 1)
    with torch.device("meta"):  # initialised below, not by torch's own random numbers
        modules: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            modules += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        network = torch.nn.Sequential(*modules[:-1]).to_empty(device="cpu")
    number = int(generator(seed, "mlp", "weights").integers(2**62))
    initialise(network, torch.Generator().manual_seed(number))
    return network


def _layers(network: "torch.nn.Sequential") -> tuple[Layer, ...]:
    """Copies of weights and biases."""
    values = [value.detach().numpy().copy() for value in network.parameters()]
    return tuple(zip(values[::2], values[1::2], strict=True))


def _check(features: Singles, target: NDArray[np.float64]) -> None:
    if features.ndim != 2 or target.shape != (len(features),):
        raise DataError(
            f"Features of shape {features.shape} and a target of shape {target.shape}. Give (n, feature)"
            " and (n,).", shape=features.shape,
        )  # fmt: skip
    n_bad = int((~(np.isfinite(features).all(axis=1) & np.isfinite(target))).sum())
    if n_bad:
        raise DataError(
            f"{n_bad} of {len(target)} rows have missing or infinite values. Leave them out.",
            n=n_bad,
        )
