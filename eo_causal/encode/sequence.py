"""From features of frames to features of a unit: pooling over the valid frames in date order.

No pooling assumes equal steps between dates. Every pooling says what of a sequence may matter
(an identification assumption): ``difference`` and ``variance`` as in the causalimages software.
"""

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.encode.base import ChipBatch, Encoder, check_bands, frames_seen, refuse_units
from eo_causal.encode.frames import FrameEncoder, Normalise
from eo_causal.encode.scales import EncoderOptions
from eo_causal.errors import DataError

Pooling = Literal["mean", "last", "concatenate", "difference", "variance", "mean_sd"]
Floats = NDArray[np.float64]
UNEQUAL = 1.2  # calendar months differ by 31 / 28 = 1.11
_NEEDED = {"mean": 1, "last": 1, "difference": 2, "variance": 2, "mean_sd": 2}
_SUFFIXES: dict[Pooling, tuple[str, ...]] = {
    "mean": ("",),
    "last": ("",),
    "difference": ("", "_difference"),
    "variance": ("", "_variance"),
    "mean_sd": ("", "_sd"),
}


class SequenceSettings(Settings):
    """How the frames of a sequence become one vector."""

    pooling: Pooling = Field(
        default="mean",
        description="over valid frames by date; concatenate needs the same number for every unit",
    )
    per_year: bool | None = Field(
        default=None,
        description="divide differences by the years between frames; null = where gaps differ",
    )


class FrameOptions(EncoderOptions):
    """Settings that all encoders of single frames share."""

    normalise: Normalise = Field(
        default="training", description="per band: of training units, of each image, or not at all"
    )
    sequence: SequenceSettings = SequenceSettings()


def in_date_order(batch: ChipBatch) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Frames of every unit, valid ones first and by date.

    Returns
    -------
    order : (unit, time) array of int
        Positions along the time axis.
    valid : (unit, time) array of bool
        Which entries of ``order`` are valid frames; True before False.
    """
    seen = batch.frames
    order = np.argsort(np.where(seen, batch.years, np.inf), axis=1, kind="stable")
    return order, np.take_along_axis(seen, order, axis=1)


def too_few(needed: int) -> str:
    """What is said of units with fewer valid frames than needed."""
    return f"have fewer than the {needed} valid frame(s) that the encoder needs"


class FramePooling(Encoder):
    """Features of every frame, pooled over the valid frames of a unit.

    Parameters
    ----------
    encoder : FrameEncoder
    settings : SequenceSettings
    """

    def __init__(self, encoder: FrameEncoder, settings: SequenceSettings | None = None) -> None:
        self.encoder = encoder
        self.settings = settings or SequenceSettings()
        self.n_frames_ = 1
        self.per_year_ = self.settings.pooling == "difference" and bool(self.settings.per_year)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the frame encoder with what became of them over time."""
        if self.settings.pooling == "concatenate":
            suffixes = tuple(f"_frame_{number}" for number in range(1, self.n_frames_ + 1))
        else:
            suffixes = _SUFFIXES[self.settings.pooling]
        return tuple(name + suffix for suffix in suffixes for name in self.encoder.feature_names)

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Fit the frame encoder on ``units``; see whether their dates are irregular."""
        self.encoder.fit(chips, units)
        self.n_frames_ = chips.sizes["time"]
        if self.settings.pooling == "difference" and self.settings.per_year is None:
            rows = slice(None) if units is None else np.sort(units)
            years = np.asarray(chips["fractional_year"].values, dtype=float)[rows]
            self.per_year_ = irregular(np.where(frames_seen(chips, units), years, np.nan))
        return self

    def encode(self, batch: ChipBatch) -> NDArray[np.float32]:
        """Pooled features of a batch, (unit, feature).

        Raises
        ------
        DataError
            Units with fewer valid frames than the pooling needs, or two frames of one date where
            differences are per year.
        """
        check_bands(batch, self.encoder.preparation.bands_)
        order, valid = in_date_order(batch)
        pooling = self.settings.pooling
        needed = self.least_frames(self.n_frames_)
        if pooling == "concatenate" and batch.values.shape[1] != self.n_frames_:
            raise DataError(
                f"chips have {batch.values.shape[1]} frames, the encoder was fitted on"
                f" {self.n_frames_}. Use another sequence.pooling than concatenate.",
                n_frames=batch.values.shape[1],
            )  # fmt: skip
        refuse_units(batch, valid.sum(axis=1) < needed, too_few(needed))
        unit, place = np.nonzero(valid)
        frame = order[unit, place]
        years = batch.years[unit, frame]
        if self.per_year_:
            same = (np.diff(years) == 0) & (np.diff(unit) == 0)
            twice = np.isin(np.arange(len(valid)), unit[1:][same])
            refuse_units(batch, twice, "have two frames of one date; set sequence.per_year: false")
        features = self.encoder.encode_frames(batch.values[unit, frame]).astype(float)
        cuts = np.cumsum(valid.sum(axis=1))[:-1]
        pooled = [
            self._pool(own, dates)
            for own, dates in zip(np.split(features, cuts), np.split(years, cuts), strict=True)
        ]
        return np.array(pooled, dtype=np.float32)

    def least_frames(self, n_frames: int) -> int:
        """All of them for ``concatenate``, two for changes and spreads, else one."""
        return _NEEDED.get(self.settings.pooling, n_frames)

    def _pool(self, features: Floats, years: Floats) -> Floats:
        """One unit: (frame, feature) and (frame,) in date order to a vector."""
        if self.settings.pooling == "difference":
            gaps = np.diff(years) if self.per_year_ else np.ones(len(years) - 1)
            change = (np.diff(features, axis=0) / gaps[:, None]).mean(axis=0)
            return np.concatenate([features.mean(axis=0), change])
        return _POOLS[self.settings.pooling](features)

    def provenance(self) -> dict[str, Any]:
        """The frame encoder's, with the pooling."""
        sequence = {"pooling": self.settings.pooling, "n_frames": self.n_frames_}
        if self.settings.pooling == "difference":
            sequence["per_year"] = self.per_year_
        return {**self.encoder.provenance(), "sequence": sequence}


_POOLS: dict[str, Callable[[Floats], Floats]] = {
    "mean": lambda features: features.mean(axis=0),
    "last": lambda features: features[-1],
    "concatenate": lambda features: features.ravel(),
    "variance": lambda features: np.concatenate([features.mean(axis=0), features.var(axis=0)]),
    "mean_sd": lambda features: np.concatenate([features.mean(axis=0), features.std(axis=0)]),
}


def irregular(years: Floats) -> bool:
    """Whether gaps between consecutive dates differ by more than calendar months do.

    Parameters
    ----------
    years : (unit, time) array
        Fractional years; NaN = no valid frame.

    Raises
    ------
    DataError
        No unit has two dates.
    """
    ordered = np.sort(years, axis=1)
    gaps = np.diff(ordered, axis=1)
    gaps = gaps[np.isfinite(gaps)]
    if not len(gaps):
        raise DataError(
            "no unit has two valid frames, so there is no difference over time. Use another"
            " sequence.pooling, or widen the period."
        )
    return bool(gaps.max() > UNEQUAL * gaps.min())
