"""Several footprints around one point, and embeddings reduced to their main directions."""

import hashlib
import json
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from eo_causal.core.settings import Settings
from eo_causal.encode.base import ChipBatch, Encoder, as_embedding, embed
from eo_causal.errors import DataError

N_COMPONENTS = 30


class EncoderOptions(Settings):
    """What every encoder can be wrapped in."""

    scales: tuple[PositiveInt, ...] = Field(
        default=(), description="side lengths of centred footprints, px; empty = the whole chip"
    )
    n_components: PositiveInt | None = Field(
        default=None,
        description="PCA fitted on training units, per scale; null = none (scales: 30)",
    )

    @field_validator("scales")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"{list(value)} names a scale twice")
        return value


class Reduced(Encoder):
    """The main directions of another encoder's standardised features.

    Parameters
    ----------
    encoder : Encoder
    n_components : int
        Principal components, fitted on the training units only.
    """

    def __init__(self, encoder: Encoder, n_components: int = N_COMPONENTS) -> None:
        self.encoder = encoder
        self.n_components = n_components

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``component_1`` and so on, by falling variance."""
        return tuple(f"component_{number}" for number in range(1, self.n_components + 1))

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Fit the encoder, the standardisation and the components on ``units``.

        Raises
        ------
        DataError
            More components than the units or features can span.
        """
        training = chips if units is None else chips.isel(unit=np.sort(units))
        return self._learn(embed(training, self.encoder.fit(chips, units)).to_numpy())

    def fit_embed(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> xr.DataArray:
        """Fit on ``units`` and reduce all chips; every chip is encoded once."""
        features = self.encoder.fit_embed(chips, units).to_numpy()
        self._learn(features if units is None else features[np.sort(units)])
        return as_embedding(chips, self._reduce(features), self)

    def least_frames(self, n_frames: int) -> int:
        """As the encoder."""
        return self.encoder.least_frames(n_frames)

    def _learn(self, features: NDArray[np.float32]) -> Self:
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        most = min(len(features) - 1, features.shape[1])
        if self.n_components > most:
            raise DataError(
                f"{self.n_components} components need more than {len(features):,} units with"
                f" {features.shape[1]:,} features; at most {max(most, 0)} can be found. Lower"
                " n_components.", n_components=self.n_components, most=most,
            )  # fmt: skip
        scaler = StandardScaler().fit(features.astype(float))
        scaled = scaler.transform(features.astype(float))
        components = PCA(self.n_components, svd_solver="full").fit(scaled)
        self.mean_: NDArray[np.float64] = scaler.mean_
        self.sd_: NDArray[np.float64] = scaler.scale_
        self.components_: NDArray[np.float64] = components.components_
        self.explained_: NDArray[np.float64] = components.explained_variance_ratio_
        return self

    def _reduce(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """One product a unit, whatever the batch."""
        rows = [self.components_ @ ((row - self.mean_) / self.sd_) for row in features]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.n_components)

    def encode(self, batch: ChipBatch) -> NDArray[np.float32]:
        """Components of a batch, (unit, component)."""
        return self._reduce(self.encoder.encode(batch))

    def provenance(self) -> dict[str, Any]:
        """The encoder's, with a hash of the fitted constants and the variance they explain."""
        constants = hashlib.sha256()
        for values in (self.mean_, self.sd_, self.components_):
            constants.update(np.ascontiguousarray(values).tobytes())
        return {
            "name": "pca",
            "n_components": self.n_components,
            "explained_variance": float(self.explained_.sum()),
            "constants_sha256": constants.hexdigest(),
            "encoder": self.encoder.provenance(),
        }


class MultiScale(Encoder):
    """The same encoder on centred footprints of several sizes, features side by side.

    Concatenation wins where both scales carry signal and loses where only one does
    (arXiv 2411.02134).

    Parameters
    ----------
    encoders : dict of int to Encoder
        Side length of the footprint (px) to the encoder that sees it, each fitted by itself.
    """

    def __init__(self, encoders: dict[int, Encoder]) -> None:
        self.encoders = encoders

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``<size>px_<feature>``."""
        return tuple(
            f"{size}px_{name}"
            for size, encoder in self.encoders.items()
            for name in encoder.feature_names
        )

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Fit every encoder on its own footprint of ``units``."""
        for size, encoder in self.encoders.items():
            encoder.fit(footprint(chips, size), units)
        return self

    def fit_embed(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> xr.DataArray:
        """Fit on ``units`` and embed all chips, footprint by footprint."""
        parts = [
            encoder.fit_embed(footprint(chips, size), units).data
            for size, encoder in self.encoders.items()
        ]
        return as_embedding(chips, np.concatenate(parts, axis=1), self)

    def least_frames(self, n_frames: int) -> int:
        """As the encoder that needs most."""
        return max(encoder.least_frames(n_frames) for encoder in self.encoders.values())

    def encode(self, batch: ChipBatch) -> NDArray[np.float32]:
        """Features of all footprints of a batch."""
        n_y, n_x = batch.values.shape[3:]
        parts = []
        for size, encoder in self.encoders.items():
            values = batch.values[..., centred(n_y, size), centred(n_x, size)]
            parts.append(
                encoder.encode(ChipBatch(values, batch.years, batch.bands, batch.unit_ids))
            )
        return np.concatenate(parts, axis=1)

    def provenance(self) -> dict[str, Any]:
        """Per scale."""
        scales = {str(size): encoder.provenance() for size, encoder in self.encoders.items()}
        return {"name": "multi_scale", "scales": scales}


def footprint(chips: xr.DataArray, size: int) -> xr.DataArray:
    """The middle ``size`` x ``size`` pixels of chips."""
    return chips.isel(y=centred(chips.sizes["y"], size), x=centred(chips.sizes["x"], size))


def centred(length: int, size: int) -> slice:
    """The middle ``size`` of ``length`` pixels (half a pixel to the top left when they differ by odd).

    Raises
    ------
    DataError
        The footprint is larger than the chip.
    """
    if size > length:
        raise DataError(
            f"a footprint of {size} px does not fit in chips of {length} px. Cut larger chips, or"
            " lower the scales.", size=size, length=length,
        )  # fmt: skip
    start = (length - size) // 2
    return slice(start, start + size)


def join_scales(embeddings: dict[str, xr.DataArray]) -> xr.DataArray:
    """Embeddings of the same units from separately cut chips, features side by side.

    Parameters
    ----------
    embeddings : dict of str to DataArray (unit, feature)
        Name of the scale to its embedding, each reduced before (``n_components``).

    Raises
    ------
    DataError
        They do not hold the same units in the same order.
    """
    first = next(iter(embeddings.values()))
    for name, item in embeddings.items():
        if not np.array_equal(item["unit_id"].values, first["unit_id"].values):
            raise DataError(
                f"the embedding {name!r} holds other units than the first, or another order. Embed"
                " chips of the same units.", scale=name,
            )  # fmt: skip
    named = [
        item.assign_coords(feature=[f"{name}_{feature}" for feature in item["feature"].values])
        for name, item in embeddings.items()
    ]
    joined = xr.concat(named, "feature", coords="minimal", compat="override", join="exact")
    recorded = {name: json.loads(item.attrs["provenance"]) for name, item in embeddings.items()}
    text = json.dumps({"name": "joined_scales", "scales": recorded}, sort_keys=True)
    return joined.assign_attrs(provenance=text, units="1")
