"""Encoders that look at one frame at a time, and what is done to pixels before anyone looks."""

import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eo_causal.encode.base import (
    ChipBatch,
    Encoder,
    Normalisation,
    check_bands,
    check_chips,
    refuse_units,
)
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

Images = NDArray[np.float32]
Normalise = Literal["training", "per_image", "none"]
Bands = tuple[str, ...]
IMAGENET = Normalisation(np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


class Preparation:
    """Bands an encoder sees and their normalisation.

    Parameters
    ----------
    normalise : str
        ``training``: per band by mean and sd of the units it is fitted on; ``per_image``: each
        frame by its own (erases brightness and greenness, which may be the confounder; warns);
        ``imagenet``: values brought to 0-1, then the constants that ImageNet networks were trained
        with; ``none``.
    choose : callable or None
        From band names to the positions of those that are used; None = all.
    value_range : (float, float)
        Values that are 0 and 1 for ``imagenet``.

    Attributes
    ----------
    bands_ : tuple of str
        Bands of the chips it was fitted on.
    chosen_ : tuple of int
        Positions of the bands that are used.
    normalisation_ : Normalisation or None
        Of the bands that are used; None with ``per_image`` and ``none``.
    """

    def __init__(
        self,
        normalise: str = "training",
        choose: Callable[[Bands], tuple[int, ...]] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.normalise, self.choose, self.value_range = normalise, choose, value_range
        self.bands_: Bands = ()
        self.chosen_: tuple[int, ...] = ()
        self.normalisation_: Normalisation | None = None
        if normalise == "per_image":
            warnings.warn(
                EOCausalWarning(
                    "normalise: per_image erases brightness and greenness, which may be what"
                    " decision makers looked at. Use normalise: training.", "NormalisationWarning",
                ),
                stacklevel=3,
            )  # fmt: skip

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Choose the bands; learn their constants from the valid pixels of ``units``."""
        check_chips(chips)
        self.bands_ = tuple(map(str, chips["band"].values))
        everything = tuple(range(len(self.bands_)))
        self.chosen_ = everything if self.choose is None else self.choose(self.bands_)
        if self.normalise in ("training", "imagenet"):
            seen = chips.isel(band=list(self.chosen_))
            self.normalisation_ = Normalisation.fit(seen, units)
        if self.normalise == "imagenet" and self.normalisation_ is not None:
            self.normalisation_ = self._imagenet(self.normalisation_.mean)
        return self

    def _imagenet(self, mean: NDArray[np.float64]) -> Normalisation:
        low, high = self.value_range
        level = (mean - low) / (high - low)
        if len(mean) != len(IMAGENET.mean):
            raise ConfigError(
                f"normalise: imagenet has constants of 3 bands; {len(mean)} are used. Set"
                " rgb_bands, or normalise: training.", n_bands=len(mean),
            )  # fmt: skip
        if not ((level > -0.5) & (level < 1.5)).all():
            names = [self.bands_[band] for band in self.chosen_]
            raise DataError(
                f"bands {', '.join(names)} have means {', '.join(f'{value:.4g}' for value in mean)},"
                f" far outside encoder.value_range {list(self.value_range)}. Set it to the values"
                " that are black and white, for example [0, 255].", mean=mean.tolist(),
            )  # fmt: skip
        return Normalisation(low + (high - low) * IMAGENET.mean, (high - low) * IMAGENET.sd)

    def apply(self, frames: Images) -> Images:
        """Frames (frame, band, y, x) as the encoder sees them; invalid pixels are 0.

        That is the band's mean after ``training``, the photographs' after ``imagenet``, the frame's
        after ``per_image``, and nothing better than 0 after ``none``.
        """
        used = frames[:, list(self.chosen_)]
        if self.normalise == "per_image":
            used = _per_image(used)
        elif self.normalisation_ is not None:
            used = self.normalisation_.apply(used)
        return np.nan_to_num(used, copy=False, nan=0.0, posinf=0.0, neginf=0.0)

    def provenance(self) -> dict[str, Any]:
        """Bands, kind and constants, as JSON values."""
        fitted = self.normalisation_
        return {
            "bands": [self.bands_[band] for band in self.chosen_],
            "normalise": self.normalise,
            "constants": None if fitted is None else fitted.provenance(),
        }


class FrameEncoder(Encoder):
    """An encoder that looks at one frame at a time; ``sequence.FramePooling`` joins the frames.

    Parameters
    ----------
    preparation : Preparation
        Fitted with the encoder.
    """

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    @abstractmethod
    def encode_frames(self, frames: Images) -> Images:
        """Features (frame, feature) of frames (frame, band, y, x); NaN = invalid pixel."""

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Learn bands and normalisation from the chips of ``units``."""
        self.preparation.fit(chips, units)
        return self

    def encode(self, batch: ChipBatch) -> Images:
        """Features of chips that are one frame each.

        Raises
        ------
        DataError
            Several frames, other bands, or units without a valid pixel.
        """
        if batch.values.shape[1] != 1:
            raise DataError(
                f"chips have {batch.values.shape[1]} frames; one is needed. Choose how frames are"
                " pooled (sequence.pooling).", n_frames=batch.values.shape[1],
            )  # fmt: skip
        check_bands(batch, self.preparation.bands_)
        refuse_units(batch, ~batch.frames[:, 0], "have no valid pixel")
        return self.encode_frames(batch.values[:, 0])


def _per_image(frames: Images) -> Images:
    valid = np.isfinite(frames)
    n = np.maximum(valid.sum(axis=(2, 3), keepdims=True), 1)
    mean = np.where(valid, frames, 0).sum(axis=(2, 3), keepdims=True, dtype=float) / n
    away = np.where(valid, frames - mean, 0)
    sd = np.sqrt((away**2).sum(axis=(2, 3), keepdims=True) / n)
    return np.where(valid, away / np.where(sd > 0, sd, 1.0), np.nan).astype(np.float32)
