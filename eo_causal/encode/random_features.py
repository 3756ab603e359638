"""Random convolutional features: frozen Gaussian filters, rectified both ways and pooled.

Features of Rolf et al. 2021 (MOSAIKS) as torchgeo's ``RCF`` defines them, computed as one matrix
product an image over its patches, in blocks that stay in the cache. The filters' outputs are read
once: mean max(-y, 0) = mean max(y, 0) - mean y, and mean y = W mean(patch) + b.
"""

import functools
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from eo_causal.core.random import generator
from eo_causal.encode.frames import FrameEncoder, Images, Preparation
from eo_causal.encode.scales import N_COMPONENTS
from eo_causal.encode.sequence import FrameOptions
from eo_causal.errors import DataError

BLOCK = 512  # patches a matrix product: with 256 filters, 512 kB of outputs
_POOLED: dict[str, tuple[str, ...]] = {
    "mean": ("mean",),
    "max": ("max",),
    "both": ("mean", "max"),
}


class RandomFeaturesSettings(FrameOptions):
    """Random convolutional features.

    The published definition (torchgeo with 512 features) is ``n_filters: 256, width: 3, bias: -1,
    scale: false, pooling: mean, normalise: none``.
    """

    name: Literal["random_features"] = "random_features"
    n_filters: PositiveInt = Field(default=256, description="each gives two rectified halves")
    width: PositiveInt = Field(default=5, description="of a filter, px")
    bias: float = 0.0
    scale: bool = Field(default=True, description="divide filters by sqrt(width^2 x bands)")
    pooling: Literal["mean", "max", "both"] = Field(
        default="both", description="over the chip; a pattern confounder is a maximum"
    )
    n_components: PositiveInt | None = Field(
        default=N_COMPONENTS, description="PCA fitted on training units; null = all features"
    )


class RandomFeatures(FrameEncoder):
    """Frozen N(0, 1) filters; needs no weights and no training.

    Parameters
    ----------
    settings : RandomFeaturesSettings
    seed : int
        Of the run; the filters depend on it and on the bands' number, on nothing else.
    """

    def __init__(self, settings: RandomFeaturesSettings | None = None, seed: int = 0) -> None:
        self.settings = settings or RandomFeaturesSettings()
        self.seed = seed
        super().__init__(Preparation(self.settings.normalise))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``filter_<n>_<positive | negative>_<mean | max>``."""
        return tuple(
            f"filter_{number}_{half}_{pooled}"
            for pooled in _POOLED[self.settings.pooling]
            for half in ("positive", "negative")
            for number in range(1, self.settings.n_filters + 1)
        )

    def filters(self, n_bands: int) -> Images:
        """Filters (filter, band, y, x), scaled where the settings say so."""
        return random_filters(self.seed, n_bands, self.settings)

    def encode_frames(self, frames: Images) -> Images:
        """Features (frame, feature); every frame by itself, so that batches change no bit.

        Raises
        ------
        DataError
            Chips smaller than a filter.
        """
        width, bias = self.settings.width, self.settings.bias
        if min(frames.shape[2:]) < width:
            raise DataError(
                f"chips of {frames.shape[2]} x {frames.shape[3]} px are smaller than filters of"
                f" {width} px. Lower encoder.width or cut larger chips.", width=width,
            )  # fmt: skip
        filters = self.filters(frames.shape[1])
        pooled = _POOLED[self.settings.pooling]
        rows = [
            convolve_and_pool(frame, filters, bias, pooled)
            for frame in self.preparation.apply(frames)
        ]
        return np.array(rows)

    def provenance(self) -> dict[str, Any]:
        """Settings, seed and normalisation."""
        drawn = self.settings.model_dump(include={"n_filters", "width", "bias", "scale", "pooling"})
        return {
            "name": "random_features",
            **drawn,
            "seed": self.seed,
            "normalisation": self.preparation.provenance(),
        }


@functools.lru_cache(maxsize=8)
def random_filters(seed: int, n_bands: int, settings: RandomFeaturesSettings) -> Images:
    """N(0, 1) filters (filter, band, y, x); read only."""
    width = settings.width
    random = generator(seed, "random_features", n_bands, width)
    filters = random.standard_normal((settings.n_filters, n_bands, width, width))
    if settings.scale:
        filters /= np.sqrt(width**2 * n_bands)
    result = filters.astype(np.float32)
    result.setflags(write=False)
    return result


def convolve_and_pool(
    image: Images, filters: Images, bias: float, pooled: tuple[str, ...]
) -> Images:
    """Convolve one image without padding, rectify both ways and pool.

    Parameters
    ----------
    image : (band, y, x) float32 array
    filters : (filter, band, y, x) float32 array
    bias : float
    pooled : tuple of str
        ``mean`` and ``max``, in the order wanted.

    Returns
    -------
    (len(pooled) x 2 x filter,) array
        Of y = filter * image + bias: pooled max(y, 0), then pooled max(-y, 0).
    """
    width = filters.shape[-1]
    weights = filters.reshape(len(filters), -1)
    windows = np.lib.stride_tricks.sliding_window_view(image, (width, width), axis=(1, 2))
    patches = windows.transpose(0, 3, 4, 1, 2).reshape(weights.shape[1], -1)
    n_patches = patches.shape[1]
    positive = np.zeros(len(weights))
    low, high = np.full(len(weights), np.inf), np.full(len(weights), -np.inf)
    add_positive = _sum_kernel()
    # one piece of memory for all blocks: fresh pages would cost a tenth of the time
    memory = np.empty(len(weights) * BLOCK, np.float32)
    for start in range(0, n_patches, BLOCK):
        block = patches[:, start : start + BLOCK]
        outputs = memory[: len(weights) * block.shape[1]].reshape(len(weights), -1)
        np.matmul(weights, block, out=outputs)
        add_positive(outputs, np.float32(bias), positive)
        if "max" in pooled:
            np.minimum(low, outputs.min(axis=1), out=low)
            np.maximum(high, outputs.max(axis=1), out=high)
    positive /= n_patches
    mean = weights @ patches.mean(axis=1, dtype=float) + bias
    halves = {
        "mean": [positive, positive - mean],
        "max": [np.maximum(high + bias, 0), np.maximum(-low - bias, 0)],
    }
    return np.concatenate([half for name in pooled for half in halves[name]]).astype(np.float32)


@functools.cache
def _sum_kernel() -> Any:
    import numba

    @numba.njit(cache=False, nogil=True, fastmath=True)  # lets the sum of a row use vectors
    def add(outputs: Any, bias: Any, total: Any) -> None:
        for number in range(outputs.shape[0]):
            row, part = outputs[number], np.float32(0)
            for patch in range(row.shape[0]):
                part += max(row[patch] + bias, np.float32(0))
            total[number] += part

    return add
