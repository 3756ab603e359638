"""Embeddings as a stage: build, fit, encode, count."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.artefacts import sha256_json
from eo_causal.core.progress import count
from eo_causal.encode.base import check_chips, embed, over_blocks, refuse_ids
from eo_causal.encode.sequence import too_few
from eo_causal.encode.settings import EncoderSettings, build_encoder
from eo_causal.errors import DataError


def embed_chips(
    chips: xr.DataArray,
    settings: EncoderSettings,
    training: Sequence[int] | None = None,
    *,
    seed: int,
) -> xr.DataArray:
    """Embeddings of all chips by a frozen encoder.

    Parameters
    ----------
    chips : (unit, time, band, y, x) DataArray
        float32, NaN = invalid; numpy or dask.
    settings : EncoderSettings
    training : sequence of int or None
        Positions of the units that normalisation and components are fitted on; None = all.
    seed : int
        Of the run.

    Returns
    -------
    (unit, feature) DataArray
        float32; lazy where the chips are and no components are asked for. Provenance in
        ``attrs["provenance"]``.

    Raises
    ------
    DataError
        Units with too few valid frames or pixels, listed.
    """
    check_chips(chips)
    units = None if training is None else np.asarray(training, dtype=np.intp)
    encoder = build_encoder(settings, seed)
    _count_and_check(chips, encoder.least_frames(chips.sizes["time"]))
    return encoder.fit_embed(chips, units)


def embed_elsewhere(
    chips: xr.DataArray, elsewhere: xr.DataArray, settings: EncoderSettings, *, seed: int
) -> xr.DataArray:
    """Embeddings of chips from other places, by an encoder fitted on the study's.

    Parameters
    ----------
    chips, elsewhere : DataArray (unit, time, band, y, x)
        Chips of the study and of the other places: same bands, footprint and pixel size.

    Returns
    -------
    (unit, feature) DataArray
        Of ``elsewhere``; comparable with :func:`embed_chips` of ``chips``.

    Raises
    ------
    DataError
        Chips that differ in bands, size or pixel size; units with too few valid frames.
    """
    for name in ("band", "y", "x"):
        ours, theirs = chips[name].to_numpy(), elsewhere[name].to_numpy()
        same = len(ours) == len(theirs) and (
            np.allclose(ours, theirs, rtol=1e-3) if name != "band" else (ours == theirs).all()
        )
        if not same:
            raise DataError(
                f"chips of the study and of elsewhere differ along {name}: {_extent(ours)} and"
                f" {_extent(theirs)}. Cut both with the same bands, size and pixel size.",
                dimension=name,
            )  # fmt: skip
    encoder = build_encoder(settings, seed).fit(chips)
    _count_and_check(elsewhere, encoder.least_frames(elsewhere.sizes["time"]))
    return embed(elsewhere, encoder)


def _extent(values: NDArray[Any]) -> str:
    return f"{len(values)} values from {values[0]} to {values[-1]}"


@dataclass(frozen=True)
class FoldFeatures:
    """Features of all chips, as a function of those that may be learned from: for cross-fitting.

    What the encoder learns (normalisation, components) comes from the training chips only. An
    encoder that learns nothing encodes once.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
    settings : EncoderSettings
    seed : int
        Of the run.
    """

    chips: xr.DataArray
    settings: EncoderSettings
    seed: int

    def __call__(self, training: NDArray[np.intp]) -> NDArray[np.float32]:
        """(chip, feature) values of all chips; ``training`` are positions of chips."""
        if not build_encoder(self.settings, self.seed).learns:
            return self._unlearned
        return self._fitted(training)

    @functools.cached_property
    def _unlearned(self) -> NDArray[np.float32]:
        return self._fitted(None)

    def _fitted(self, training: NDArray[np.intp] | None) -> NDArray[np.float32]:
        encoder = build_encoder(self.settings, self.seed)
        return encoder.fit_embed(self.chips, training).to_numpy()


def embedding_key(chips_key: str, provenance: dict[str, Any]) -> str:
    """SHA-256 that names an embedding: which chips, encoded by what."""
    return sha256_json({"chips": chips_key, "encoder": provenance})


def _count_and_check(chips: xr.DataArray, least_frames: int) -> None:
    """Count units, frames, and invalid pixels inside used frames; list units with too few frames."""
    n_pixels = chips.sizes["band"] * chips.sizes["y"] * chips.sizes["x"]
    dated = np.isfinite(np.asarray(chips["fractional_year"].values, dtype=float))
    parts = over_blocks(chips, None, _valid_pixels)
    n_valid = np.concatenate(parts) if parts else np.zeros(dated.shape, dtype=int)
    used = dated & (n_valid > 0)
    count(
        units_encoded=chips.sizes["unit"],
        frames_used=int(used.sum()),
        frames_empty=int((~used).sum()),
        pixels_invalid=int((n_pixels - n_valid)[used].sum()),
    )
    refuse_ids(chips["unit_id"].values, used.sum(axis=1) < least_frames, too_few(least_frames))


def _valid_pixels(values: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.isfinite(values).sum(axis=(2, 3, 4))
