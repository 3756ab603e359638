"""The training loop: torch on one side, chips and settings on the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eo_causal.core.progress import track
from eo_causal.core.random import generator
from eo_causal.encode import losses
from eo_causal.encode.attention import SequenceNetwork
from eo_causal.encode.base import ChipBatch
from eo_causal.encode.ivl import (
    InstrumentSettings,
    augment,
    instrument_basis,
    ivl_loss,
    turn_and_flip,
)
from eo_causal.encode.small_networks import (
    StillNetwork,
    initialise,
    single_filter,
    small_cnn,
    small_vit,
)
from eo_causal.errors import ConfigError, ConvergenceError

if TYPE_CHECKING:
    from eo_causal.encode.examples import Examples
    from eo_causal.encode.joint import JointSettings
    from eo_causal.encode.train import NetworkSettings, TrainSettings

Network = StillNetwork | SequenceNetwork
Images = NDArray[np.float32]
Prepare = Callable[[ChipBatch], tuple[Images, NDArray[np.bool_]]]
Loss = Callable[[Tensor, Tensor, NDArray[np.float64]], Tensor]
State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Objective:
    """What training makes small: functions of outputs (n, output), target and instruments.

    Attributes
    ----------
    training : callable
        What steps follow; labels may be smoothed.
    validation : callable
        What decides the epoch.
    risk : callable
        What decides between fits: the squared error (of augmented images) for IVL, whose losses
        cannot be compared between alphas; else the validation loss.
    instruments : InstrumentSettings
        Augmentations whose parameters the losses see.
    """

    training: Loss
    validation: Loss
    risk: Loss
    instruments: InstrumentSettings


@dataclass(frozen=True)
class Fitted:
    """What a training run ends with: the weights of its best epoch.

    Attributes
    ----------
    state : dict of arrays
    history : list of dict
        ``epoch``, ``training_loss``, ``validation_loss``.
    epoch : int
        The best one.
    risk : float
        Of the best epoch, on the validation part.
    """

    state: State
    history: list[dict[str, float]]
    epoch: int
    risk: float


@dataclass(frozen=True)
class Batch:
    """Inputs of a network, the standardised target, and the augmentations' parameters."""

    inputs: tuple[Tensor, Tensor, Tensor]
    target: Tensor
    instruments: NDArray[np.float64]


def train_network(
    settings: "NetworkSettings",
    prepare: Prepare,
    training: "Examples",
    validation: "Examples",
    objective: Objective,
) -> Fitted:
    """Train from fresh weights until the validation loss stops falling.

    Parameters
    ----------
    prepare : callable
        A batch of chips to normalised values without NaN and the frame mask.
    training, validation : Examples
        With standardised targets.
    objective : Objective

    Raises
    ------
    ConvergenceError
        The loss is not a number.
    """
    random = generator(settings.seed, "train", "batches")
    network = fresh(settings, training.chips.sizes["band"])
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    history: list[dict[str, float]] = []
    best: Fitted | None = None
    for epoch in track(range(settings.epochs), "Training", total=settings.epochs):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _rate(epoch, settings)
        seen = _train_epoch(network, optimiser, training, settings, prepare, objective, random)
        held_out, risk = _validate(network, validation, settings, prepare, objective)
        if not math.isfinite(seen + held_out):
            raise ConvergenceError(
                f"the loss is not a number after epoch {epoch}. Lower train.learning_rate.",
                epoch=epoch,
            )
        history.append({"epoch": epoch, "training_loss": seen, "validation_loss": held_out})
        if best is None or held_out < history[best.epoch]["validation_loss"]:
            best = Fitted(weights_of(network), history, epoch, risk)
        elif epoch - best.epoch >= settings.patience:
            break
    assert best is not None
    return best


def build(settings: "NetworkSettings", n_bands: int) -> Network:
    """The network of the settings without values: on torch's meta device."""
    with torch.device("meta"):
        match settings.network:
            case "small_cnn":
                return small_cnn(n_bands, settings.outputs)
            case "small_vit":
                return small_vit(n_bands, settings.outputs)
            case "single_filter":
                return single_filter(
                    n_bands, settings.outputs, settings.filter_width, settings.filters
                )
            case "attention":
                return SequenceNetwork(n_bands, settings.outputs)


def fresh(settings: "NetworkSettings", n_bands: int) -> Network:
    """The network with random weights, which depend on the seed only."""
    seed = int(generator(settings.seed, "train", "weights").integers(2**62))
    network = build(settings, n_bands).to_empty(device="cpu")
    initialise(network, torch.Generator().manual_seed(seed))
    return network.to(device(settings))


def load(settings: "NetworkSettings", n_bands: int, state: State) -> Network:
    """The network with given weights, in evaluation mode."""
    network = build(settings, n_bands)
    weights = {name: torch.tensor(value) for name, value in state.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.to(device(settings)).eval()


def evaluate(
    function: Callable[..., Tensor],
    values: Images,
    frames: NDArray[np.bool_],
    years: NDArray[np.float64],
    settings: "NetworkSettings",
) -> NDArray[np.float32]:
    """A network, or a method of one, on arrays."""
    with torch.no_grad(), _arithmetic(settings):
        found = function(*tensors(values, frames, years, settings))
    return found.float().cpu().numpy()


def tensors(
    values: Images,
    frames: NDArray[np.bool_],
    years: NDArray[np.float64],
    settings: "NetworkSettings",
) -> tuple[Tensor, Tensor, Tensor]:
    """Arrays on the device of the settings."""
    place = device(settings)
    return (
        torch.as_tensor(values, device=place),
        torch.as_tensor(frames, device=place),
        torch.as_tensor(years, device=place),
    )


def device(settings: "NetworkSettings") -> str:
    """``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        A GPU is asked for and there is none.
    """
    found = torch.cuda.is_available()
    if settings.device == "cuda" and not found:
        raise ConfigError("train.device: cuda, but no GPU was found. Set it to auto or cpu.")
    return "cuda" if found and settings.device != "cpu" else "cpu"


def _train_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    examples: "Examples",
    settings: "NetworkSettings",
    prepare: Prepare,
    objective: Objective,
    random: np.random.Generator,
) -> float:
    """One pass over the training part; the mean loss seen on the way."""
    network.train()
    n, total = len(examples.units), 0.0
    for rows in np.array_split(random.permutation(n), max(1, n // settings.batch_size)):
        batch = _batch(examples, rows, settings, prepare, objective, random, invariant=True)
        with _arithmetic(settings):
            outputs = network(*batch.inputs)
        found = objective.training(outputs.float(), batch.target, batch.instruments)
        optimiser.zero_grad()
        torch.autograd.backward(found)
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimiser.step()
        total += float(found.detach()) * len(rows)
    return total / n


def _validate(
    network: Network,
    examples: "Examples",
    settings: "NetworkSettings",
    prepare: Prepare,
    objective: Objective,
) -> tuple[float, float]:
    """Loss and risk of the validation part; instruments are the same in every epoch."""
    network.eval()
    random = generator(settings.seed, "train", "validation")
    n = len(examples.units)
    outputs, targets, instruments = [], [], []
    for rows in np.array_split(np.arange(n), -(-n // settings.batch_size)):
        batch = _batch(examples, rows, settings, prepare, objective, random, invariant=False)
        with torch.no_grad(), _arithmetic(settings):
            outputs.append(network(*batch.inputs).float())
        targets.append(batch.target)
        instruments.append(batch.instruments)
    everything = torch.cat(outputs), torch.cat(targets), np.concatenate(instruments)
    return float(objective.validation(*everything)), float(objective.risk(*everything))


def _batch(
    examples: "Examples",
    rows: NDArray[np.intp],
    settings: "NetworkSettings",
    prepare: Prepare,
    objective: Objective,
    random: np.random.Generator,
    invariant: bool,
) -> Batch:
    chips = examples.batch(rows)
    values, frames = prepare(chips)
    values, instruments = augment(values, objective.instruments, random)
    if invariant:
        values = _varied(values, settings, random)
    inputs = tensors(values, frames, chips.years, settings)
    target = torch.as_tensor(examples.target[rows], dtype=torch.float32, device=device(settings))
    return Batch(inputs, target, instruments)


def _varied(values: Images, settings: "NetworkSettings", random: np.random.Generator) -> Images:
    """Augmented values; contrast turns about the mean of the image."""
    words, contrast, brightness = settings.invariant_to, settings.contrast, settings.brightness
    if {"rotations", "flips"} & set(words):
        values, _ = turn_and_flip(values, "rotations" in words, "flips" in words, random)
    shape = (len(values), 1, 1, 1, 1)
    if "contrast" in words:
        centre = values.mean(axis=(-2, -1), keepdims=True)
        factor = random.uniform(1 - contrast, 1 + contrast, shape).astype(np.float32)
        values = centre + factor * (values - centre)
    if "brightness" in words:
        values = values + random.uniform(-brightness, brightness, shape).astype(np.float32)
    return values


def objective_of(
    settings: "TrainSettings", training_target: NDArray[np.float64], alpha: float | None
) -> Objective:
    """The objective of a network with one output.

    Parameters
    ----------
    training_target : (n,) array
        Standardised.
    alpha : float or None
        Of the IVL loss.
    """
    loss = _loss(settings, training_target, alpha)
    smoothing = settings.label_smoothing

    def training(outputs: Tensor, target: Tensor, instruments: NDArray[np.float64]) -> Tensor:
        return loss(outputs[:, 0], losses.smoothed(target, smoothing), instruments)

    def validation(outputs: Tensor, target: Tensor, instruments: NDArray[np.float64]) -> Tensor:
        return loss(outputs[:, 0], target, instruments)

    def squared(outputs: Tensor, target: Tensor, _: NDArray[np.float64]) -> Tensor:
        return losses.mean_squared(outputs[:, 0], target)

    risk = squared if settings.loss == "ivl" else validation
    return Objective(training, validation, risk, settings.instruments)


def joint_objective(settings: "JointSettings") -> Objective:
    """The objective of a network for treatment and outcomes."""
    weights = settings.treatment_weight, settings.outcome_weight

    def training(outputs: Tensor, target: Tensor, _: NDArray[np.float64]) -> Tensor:
        return losses.joint(outputs, target, settings.label_smoothing, *weights)

    def validation(outputs: Tensor, target: Tensor, _: NDArray[np.float64]) -> Tensor:
        return losses.joint(outputs, target, 0.0, *weights)

    return Objective(training, validation, validation, InstrumentSettings())


def _loss(
    settings: "TrainSettings", training_target: NDArray[np.float64], alpha: float | None
) -> Loss:
    """The loss of the settings as a function of prediction, target and instruments."""
    match settings.loss:
        case "mean_squared":
            return lambda prediction, target, _: losses.mean_squared(prediction, target)
        case "log_loss":
            return lambda logit, target, _: losses.log_loss(logit, target)
        case "quintile_bias":
            edges, weight = losses.quintile_edges(training_target), settings.quintile_weight
            return lambda prediction, target, _: losses.quintile_bias(
                prediction, target, edges, weight
            )
        case "ivl":
            assert alpha is not None
            return lambda prediction, target, instruments: ivl_loss(
                target - prediction, target.new_tensor(instrument_basis(instruments)), alpha
            )


def _rate(epoch: int, settings: "NetworkSettings") -> float:
    if settings.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def _arithmetic(settings: "NetworkSettings") -> torch.autocast:
    enabled = settings.precision == "bfloat16"
    return torch.autocast(device(settings), dtype=torch.bfloat16, enabled=enabled)


def weights_of(network: Network) -> State:
    """Copies of all weights and statistics as arrays."""
    return {
        name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()
    }
