"""From the chips of map cells to layers of a map, by way of an embedding."""

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eo_causal.encode.base import embed
from eo_causal.encode.settings import EncoderSettings, build_encoder


class Layers(Protocol):
    """What reads an embedding; travels to workers."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of what it reads."""

    def __call__(self, embedding: xr.DataArray) -> NDArray[np.floating]:
        """(unit, layer) values of a (unit, feature) embedding."""


@dataclass(frozen=True)
class EmbeddedCells:
    """Reads the cells of a map; see :class:`eo_causal.ingest.cell_map.CellReader`.

    Attributes
    ----------
    chips : DataArray (unit, time, band, y, x)
        Of the study, which the encoder is fitted on.
    encoder : EncoderSettings
    seed : int
        Of the run.
    readers : tuple
        Callable dataclasses that read the embedding, one after the other.
    """

    chips: xr.DataArray
    encoder: EncoderSettings
    seed: int
    readers: tuple[Layers, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Of all readers."""
        return tuple(name for reader in self.readers for name in reader.layers)

    def __call__(self, chips: xr.DataArray) -> NDArray[np.floating]:
        """(unit, layer) values."""
        embedding = embed(chips, self._fitted).compute()
        return np.concatenate([reader(embedding) for reader in self.readers], axis=1)

    @functools.cached_property
    def _fitted(self) -> Any:
        return build_encoder(self.encoder, self.seed).fit(self.chips)
