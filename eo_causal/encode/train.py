"""Networks trained on chips: for a label, an outcome or a treatment, inside the units they may see."""

import hashlib
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.encode.base import (
    ChipBatch,
    Encoder,
    Normalisation,
    batches,
    check_bands,
    check_chips,
    refuse_units,
    to_batch,
)
from eo_causal.encode.examples import Examples, check_binary, check_varies, divide, read_examples
from eo_causal.encode.ivl import InstrumentSettings, alpha_draws, check_invariance
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

if TYPE_CHECKING:
    from eo_causal.encode.loop import Fitted

Invariance = Literal["flips", "rotations", "brightness", "contrast"]
State = dict[str, NDArray[Any]]
INTENSITY = {"brightness", "contrast"}
IN_MEMORY = 4 * 2**30  # bytes of chips that are read once, not in every epoch
ASSUMPTION = "every augmentation is an identification assumption"


class NetworkSettings(Settings):
    """Which network, and how its training runs, whatever it is trained for."""

    outputs: ClassVar[int] = 1

    network: Literal["small_cnn", "small_vit", "single_filter", "attention"] = Field(
        default="small_cnn", description="attention reads a sequence, the others one frame"
    )
    filter_width: int = Field(default=8, ge=1, description="width of single_filter, pixels")
    filters: int = Field(default=1, ge=1, description="number of filters of single_filter")
    invariant_to: tuple[Invariance, ...] = Field(
        default=(), description=f"augmentations; {ASSUMPTION}"
    )
    brightness: float = Field(
        default=0.1, ge=0, description="how far that augmentation shifts a chip, sd of its band"
    )
    contrast: float = Field(
        default=0.2, ge=0, lt=1, description="how far that augmentation stretches a chip, share"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="of log_loss")
    epochs: int = Field(default=100, ge=1, description="passes over the training units at most")
    patience: int = Field(default=10, ge=1, description="epochs without a better validation loss")
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="share of the groups")
    batch_size: int = Field(default=32, ge=2, description="images a step, or a few more")
    learning_rate: float = Field(default=1e-3, gt=0, description="of AdamW")
    weight_decay: float = Field(default=1e-2, ge=0, description="of AdamW")
    gradient_clip: float = Field(default=10.0, gt=0, description="largest norm of a gradient")
    schedule: Literal["constant", "cosine"] = Field(
        default="cosine", description="of the learning rate"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes a GPU where there is one"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the arithmetic; weights are float32"
    )
    seed: int = Field(default=0, ge=0, description="of weights, order and augmentations")


class TrainSettings(NetworkSettings):
    """How a network is trained for one target."""

    loss: Literal["mean_squared", "log_loss", "quintile_bias", "ivl"] = Field(
        default="mean_squared", description="log_loss for a 0/1 target, the others for a number"
    )
    quintile_weight: float = Field(default=5.0, ge=0, description="lambda_b of quintile_bias")
    alpha: float | None = Field(
        default=None, gt=0, description="of ivl; best of ten draws on the hold-out when not given"
    )
    instruments: InstrumentSettings = Field(
        default=InstrumentSettings(), description="augmentations of ivl"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        asked = any(self.instruments.model_dump().values())
        if asked != (self.loss == "ivl"):
            raise ValueError("loss: ivl and augmentations under instruments belong together")
        if self.loss == "ivl" and self.invariant_to:
            raise ValueError("loss: ivl takes its augmentations from instruments, not invariant_to")
        if self.label_smoothing and self.loss != "log_loss":
            raise ValueError("label_smoothing belongs to loss: log_loss")
        if self.alpha is not None and self.loss != "ivl":
            raise ValueError("alpha belongs to loss: ivl")
        return self


class TrainedNetwork(Encoder):
    """What all networks that are trained here share; as an encoder, their last hidden layer.

    Normalised per band with the constants of the training part; an invalid pixel is then 0, the
    mean of its band. Early stopping watches a validation part made of whole groups; the weights of
    its best epoch stay. Prediction runs in evaluation mode. The same settings and data give the
    same bytes on a processor with the same number of threads.

    Attributes
    ----------
    settings : NetworkSettings
    state_ : dict of arrays
        Weights.
    normalisation_ : Normalisation
    bands_ : tuple of str
    centre_, scale_ : float
        Mean and standard deviation of the number to predict (0 and 1 where there is none).
    history_ : DataFrame
        One row an epoch.
    metrics_ : dict
        Best epoch, its validation loss, numbers of rows and groups.
    """

    name: ClassVar[str]
    settings: NetworkSettings
    state_: State
    normalisation_: Normalisation
    bands_: tuple[str, ...] = ()
    centre_: float
    scale_: float
    history_: pd.DataFrame
    metrics_: dict[str, Any]

    @property
    def output_scale(self) -> float:
        """What 1 of the first output stands for: the scale of the target, 1 for a logit."""
        return self.scale_

    def explained(self, output: Any) -> Any:
        """(unit,) what salience maps are of: the first of raw outputs."""
        return output[:, 0]

    def outputs(self, chips: xr.DataArray) -> NDArray[np.float64]:
        """(unit, output) values of the head: logits, or standardised numbers."""
        check_chips(chips)
        parts = [self._evaluate(batch, "forward") for batch in batches(chips)]
        return np.concatenate([np.empty((0, self.settings.outputs)), *parts])

    def encode(self, batch: ChipBatch) -> NDArray[np.float32]:
        """(unit, feature) values of the last hidden layer."""
        return self._evaluate(batch, "features")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``hidden_0`` and so on."""
        from eo_causal.encode.loop import build

        return tuple(f"hidden_{i}" for i in range(build(self.settings, 1).width))

    def provenance(self) -> dict[str, Any]:
        """Settings, weight hash, normalisation, target scale and metrics, as JSON values."""
        from safetensors.numpy import save

        return {
            "name": self.name,
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.settings.seed,
            "weights_sha256": hashlib.sha256(save(self.state_)).hexdigest(),
            "bands": list(self.bands_),
            "normalisation": self.normalisation_.provenance(),
            "target": {"centre": self.centre_, "scale": self.scale_},
            "metrics": self.metrics_,
        }

    def module(self) -> Any:
        """The torch network in evaluation mode, on the settings' device."""
        from eo_causal.encode.loop import load

        return load(self.settings, len(self.bands_), self.state_)

    def inputs(self, batch: ChipBatch) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Normalised values without NaN, and the frame mask.

        Raises
        ------
        DataError
            Other bands than in training, several frames for a network of one, chips smaller than
            the filter, or units without a valid frame.
        """
        check_bands(batch, self.bands_)
        _check_shape(batch.values.shape, self.settings)
        frames = batch.frames
        refuse_units(batch, ~frames.any(axis=1), "have no valid frame")
        values = self.normalisation_.apply(batch.values)
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), frames

    def _evaluate(self, batch: ChipBatch, method: str) -> NDArray[np.float32]:
        from eo_causal.encode.loop import evaluate

        values, frames = self.inputs(batch)
        function = getattr(self.module(), method)
        return evaluate(function, values, frames, batch.years, self.settings)

    def _examples(
        self,
        chips: xr.DataArray,
        targets: dict[str, Any],
        units: NDArray[np.intp] | None,
        groups: Any,
    ) -> Examples:
        """Rows to learn from; see :func:`examples.read_examples`."""
        check_chips(chips)
        _check_shape(chips.shape, self.settings)
        return read_examples(chips, targets, units, groups, IN_MEMORY)

    def _divide(self, examples: Examples) -> tuple[Examples, Examples]:
        """Training and validation part; learns the normalisation from the former."""
        settings, chips = self.settings, examples.chips
        training, validation = divide(examples, settings.validation_share, settings.seed)
        self.bands_ = tuple(map(str, chips["band"].values))
        self.normalisation_ = Normalisation.fit(chips, np.unique(training.units))
        return training, validation

    def _keep(self, best: "Fitted", training: Examples, validation: Examples) -> None:
        """Weights and history of a training run."""
        self.state_, self.history_ = best.state, pd.DataFrame(best.history)
        self.metrics_ = {
            "best_epoch": best.epoch,
            "validation_loss": best.history[best.epoch]["validation_loss"],
            "n_training": len(training.units),
            "n_validation": len(validation.units),
            "n_groups": sum(len(np.unique(part.group)) for part in (training, validation)),
        }


class ImageNetwork(TrainedNetwork):
    """Predicts a target from chips, and encodes chips as its last hidden layer.

    Parameters
    ----------
    settings : TrainSettings, optional

    Attributes
    ----------
    metrics_ : dict
        As of :class:`TrainedNetwork`, and alpha of ``ivl``.
    """

    name = "image_network"
    settings: TrainSettings

    def __init__(self, settings: TrainSettings | None = None) -> None:
        self.settings = settings or TrainSettings()

    def fit(  # type: ignore[override]  # a supervised encoder cannot do without its target
        self,
        chips: xr.DataArray,
        target: Any,
        units: NDArray[np.intp] | None = None,
        groups: Any = None,
    ) -> Self:
        """Train on some units and no others.

        Parameters
        ----------
        chips : DataArray (unit, time, band, y, x)
            The units' chips are read once when they take up to 4 GiB, else in every epoch.
        target : (n,) array
            One value a row of ``units``.
        units : (n,) int array, optional
            Position of each row's image in ``chips``; rows may share an image. All by default.
        groups : (n,) array, optional
            Cluster or spatial block of each row, kept whole by the validation split. By default
            the image, so that no image is on both sides.

        Raises
        ------
        DataError
            Wrong dimensions, no valid frame, missing, constant or non-binary targets, a single
            group, several frames for a network of one, chips smaller than the filter.
        LeakageError
            An image in several groups.
        ConfigError
            No GPU where one is asked for; too few images for the instruments.
        ConvergenceError
            The loss is not a number.
        """
        from eo_causal.encode.loop import objective_of, train_network

        settings = self.settings
        examples = self._examples(chips, {"the target": target}, units, groups)
        regression = settings.loss != "log_loss"
        if not regression:
            check_binary(examples.target, "loss: log_loss needs a target")
        warn_of_settings(settings)
        training, validation = self._divide(examples)
        check_varies(training.target, "the training part of the target")
        self.centre_ = float(training.target.mean()) if regression else 0.0
        self.scale_ = float(training.target.std()) if regression else 1.0
        parts = self._scaled(training), self._scaled(validation)
        fits = [
            (alpha, train_network(
                settings, self.inputs, *parts, objective_of(settings, parts[0].target, alpha)
            ))
            for alpha in _alphas(settings)
        ]  # fmt: skip
        alpha, best = min(fits, key=lambda fit: fit[1].risk)
        self._keep(best, training, validation)
        self.metrics_["alpha"] = alpha
        return self

    def predict(self, chips: xr.DataArray) -> NDArray[np.floating] | NDArray[np.int64]:
        """(unit,) predictions in units of the target; the likelier class for ``log_loss``."""
        if self.settings.loss == "log_loss":
            return (self.logits(chips) > 0).astype(np.int64)
        return self.logits(chips) * self.scale_ + self.centre_

    def predict_proba(self, chips: xr.DataArray) -> NDArray[np.float64]:
        """(unit, 2) probabilities of 0 and 1, for ``log_loss``."""
        if self.settings.loss != "log_loss":
            raise ConfigError(
                f"a network trained with loss: {self.settings.loss} has no probabilities."
                " Train it with loss: log_loss."
            )
        from scipy.special import expit

        logits = self.logits(chips)
        return np.column_stack([expit(-logits), expit(logits)])

    def logits(self, chips: xr.DataArray) -> NDArray[np.float64]:
        """(unit,) outputs of the head: logits, or the standardised target."""
        return self.outputs(chips)[:, 0]

    def check_invariance(
        self, chips: xr.DataArray, instruments: InstrumentSettings, tolerance: float = 0.1
    ) -> float:
        """As a label model: do the augmentations of IVL leave the label of these chips alone?

        The chips are of units this network did not see; see :func:`ivl.check_invariance`.
        """
        from eo_causal.encode.loop import evaluate

        check_chips(chips)
        batch = to_batch(chips.compute())
        values, frames = self.inputs(batch)
        network = self.module()

        def predict(images: NDArray[np.float32]) -> NDArray[np.float64]:
            return evaluate(network, images, frames, batch.years, self.settings)[:, 0].astype(float)

        random = generator(self.settings.seed, "train", "invariance")
        return check_invariance(predict, values, instruments, random, tolerance)

    def _scaled(self, examples: Examples) -> Examples:
        target = (examples.target - self.centre_) / self.scale_
        return replace(examples, target=target)


def _alphas(settings: TrainSettings) -> list[float | None]:
    if settings.loss == "ivl" and settings.alpha is None:
        return alpha_draws(generator(settings.seed, "train", "alpha")).tolist()
    return [settings.alpha]


def _check_shape(shape: tuple[int, ...], settings: NetworkSettings) -> None:
    _, n_frames, _, height, width = shape
    if n_frames != 1 and settings.network != "attention":
        raise DataError(
            f"train.network: {settings.network} reads one frame, but chips have {n_frames}. Select"
            " one, or set network: attention.", n_frames=n_frames,
        )  # fmt: skip
    if settings.network == "single_filter" and min(height, width) < settings.filter_width:
        raise DataError(
            f"chips of {height} x {width} pixels are smaller than train.filter_width:"
            f" {settings.filter_width}. Lower it, or cut larger chips.", shape=shape,
        )  # fmt: skip


def warn_of_settings(settings: NetworkSettings) -> None:
    """Warn, at the caller's caller, of settings that change what a prediction means."""
    changed = sorted(INTENSITY & set(settings.invariant_to))
    if changed:
        warnings.warn(
            EOCausalWarning(
                f"invariant_to: {', '.join(changed)}: {ASSUMPTION}. Brightness or contrast that"
                " confounds is lost.", "AugmentationWarning",
            ),
            stacklevel=3,
        )  # fmt: skip
    if settings.label_smoothing:
        warnings.warn(
            EOCausalWarning(
                f"label_smoothing: {settings.label_smoothing:g} pulls propensities towards 1/2, and"
                " with them the effect. Set it to 0, or recalibrate.", "LabelSmoothingWarning",
            ),
            stacklevel=3,
        )  # fmt: skip
