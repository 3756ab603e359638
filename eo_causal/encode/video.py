"""Frozen video networks of torchvision: a whole dated sequence is one input."""

import warnings
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import model_validator

from eo_causal.encode.base import ChipBatch, Encoder, check_bands, frames_seen, refuse_units
from eo_causal.encode.frames import Images
from eo_causal.encode.image import resize
from eo_causal.encode.networks import (
    NetworkKind,
    NetworkOptions,
    Precision,
    check_pooling,
    check_size,
    check_source,
    chosen_precision,
    embedding_names,
    frozen_network,
    network_provenance,
    prepare_bands,
    run_network,
    warn_coarse,
)
from eo_causal.encode.sequence import in_date_order
from eo_causal.errors import ConfigError, EOCausalWarning

VideoName = Literal["r3d_18", "swin3d_t", "mvit_v2_s", "s3d"]
KINDS: dict[str, NetworkKind] = {
    "r3d_18": NetworkKind("fc", 512),
    "swin3d_t": NetworkKind("head", 768),
    "mvit_v2_s": NetworkKind("head", 768, has_map=False),
    "s3d": NetworkKind("classifier", 1024),
}
SMALLEST = {"r3d_18": (8, 64), "swin3d_t": (8, 64), "mvit_v2_s": (16, 224), "s3d": (16, 224)}
EXACT = ("mvit_v2_s",)


class VideoSettings(NetworkOptions):
    """A torchvision video network; ``random_weights: true`` or ``weights_path`` and ``sha256``."""

    name: VideoName

    @model_validator(mode="after")
    def _possible(self) -> "VideoSettings":
        check_pooling(self.name, KINDS[self.name], self.pooling)
        return self


class VideoEncoder(Encoder):
    """A frozen network over the valid frames of a unit in date order.

    Chips are resized up to the network's smallest input; sequences are filled up to it by repeating
    the last valid frame. Networks take steps as equal: dates only give the order.

    Parameters
    ----------
    settings : VideoSettings
    seed : int
        Of random weights.
    """

    def __init__(self, settings: VideoSettings, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.precision: Precision = chosen_precision(settings.precision)
        self.n_frames_, self.size_ = 0, (0, 0)
        self.n_padded_ = 0
        check_source(settings, settings.name)
        self.preparation = prepare_bands(settings)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``<network>_<mean | max | token>_<channel>``."""
        name = self.settings.name
        return embedding_names(name, KINDS[name], self.settings.pooling)

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Learn bands and normalisation; choose the number of frames and pixels of the input.

        Raises
        ------
        ConfigError
            More frames or pixels than a network of one exact size takes.
        """
        name = self.settings.name
        least_frames, least_size = SMALLEST[name]
        n_frames, height, width = (chips.sizes[axis] for axis in ("time", "y", "x"))
        if name in EXACT:
            check_size(height, width, least_size, allow=self.settings.allow_coarsening)
            warn_coarse(height, width, least_size)
            self.size_ = (least_size, least_size)
            if n_frames > least_frames:
                raise ConfigError(
                    f"encoder {name} takes {least_frames} frames, the chips have {n_frames}. Choose"
                    f" {least_frames} dates, or another encoder.", n_frames=n_frames,
                )  # fmt: skip
        else:
            self.size_ = max(height, least_size), max(width, least_size)
        self.n_frames_ = max(n_frames, least_frames)
        self.preparation.fit(chips, units)
        n_valid = frames_seen(chips, units).sum(axis=1)
        self.n_padded_ = int((n_valid < self.n_frames_).sum())
        if self.n_padded_:
            warnings.warn(
                EOCausalWarning(
                    f"encoder {name}: {self.n_padded_:,} of {len(n_valid):,} units have fewer than"
                    f" {self.n_frames_} valid frames; their last one is repeated.",
                    "FramePaddingWarning",
                ),
                stacklevel=2,
            )  # fmt: skip
        return self

    def encode(self, batch: ChipBatch) -> Images:
        """Embeddings (unit, feature), the same whatever units come together."""
        import torch

        check_bands(batch, self.preparation.bands_)
        order, valid = in_date_order(batch)
        n_valid = valid.sum(axis=1)
        refuse_units(batch, n_valid == 0, "have no valid frame")
        places = np.minimum(np.arange(self.n_frames_), n_valid[:, None] - 1)
        frames = np.take_along_axis(order, places, axis=1)
        name, n_bands = self.settings.name, len(self.preparation.chosen_)
        network = frozen_network(
            name, KINDS[name], self.settings, self.seed, n_bands, self.precision
        )

        def clip(part: slice) -> torch.Tensor:
            (unit,) = range(len(order))[part]
            images = self.preparation.apply(batch.values[unit, frames[unit]])
            return resize(torch.from_numpy(images), self.size_).transpose(0, 1)[None]

        return run_network(network, clip, len(order), chunk=1)

    def provenance(self) -> dict[str, Any]:
        """Settings, weights, normalisation, precision, input size and padding."""
        common = network_provenance(self.settings, self.seed, self.precision, self.preparation)
        shape = {"n_frames": self.n_frames_, "input_size": list(self.size_)}
        return {**common, **shape, "n_training_units_padded": self.n_padded_}
