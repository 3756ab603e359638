"""What every encoder is: a function from chips to one vector a unit, with its provenance."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eo_causal.errors import DataError

DIMS = ("unit", "time", "band", "y", "x")


@dataclass(frozen=True)
class ChipBatch:
    """Chips of some units, in memory.

    Attributes
    ----------
    values : (unit, time, band, y, x) float32 array
        NaN = invalid.
    years : (unit, time) float64 array
        Fractional year of each frame; NaN = no frame.
    bands : tuple of str
    unit_ids : tuple of str
    """

    values: NDArray[np.float32]
    years: NDArray[np.float64]
    bands: tuple[str, ...]
    unit_ids: tuple[str, ...]

    @property
    def frames(self) -> NDArray[np.bool_]:
        """(unit, time): True where there is a frame with at least one valid pixel."""
        seen = np.isfinite(self.values).any(axis=(2, 3, 4))
        return seen & np.isfinite(self.years)


class Encoder(ABC):
    """One vector of features a unit.

    An encoder that learns does so in :meth:`fit`, from the units named there and no others, so that
    it can be fitted inside the training part of a fold. It can be pickled; networks are built where
    they run.
    """

    @property
    @abstractmethod
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features; known after :meth:`fit`."""

    @abstractmethod
    def encode(self, batch: ChipBatch) -> NDArray[np.float32]:
        """Features of a batch, (unit, feature); the same whatever the batch they come in."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Name, settings, weight hash, normalisation constants, seed: as JSON values."""

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Learn from the chips of ``units`` (positions; all by default). Nothing by default."""
        return self


def check_chips(chips: xr.DataArray) -> None:
    """Refuse what are no chips.

    Raises
    ------
    DataError
        Other dimensions, no float values, or missing coordinates.
    """
    if chips.dims != DIMS:
        raise DataError(f"chips have dimensions {DIMS}, not {chips.dims}.")
    if chips.dtype != np.float32:
        raise DataError(f"chips are float32, not {chips.dtype}.")
    missing = [name for name in ("unit_id", "band", "fractional_year") if name not in chips.coords]
    if missing:
        raise DataError(f"chips lack the coordinates {', '.join(missing)}.", missing=missing)


def to_batch(chips: xr.DataArray) -> ChipBatch:
    """Chips in memory, (unit, time, band, y, x), as a batch."""
    check_chips(chips)
    return ChipBatch(
        values=np.asarray(chips.values),
        years=np.asarray(chips["fractional_year"].values, dtype=float),
        bands=tuple(map(str, chips["band"].values)),
        unit_ids=tuple(map(str, chips["unit_id"].values)),
    )


def batches(
    chips: xr.DataArray, units: NDArray[np.intp] | None = None, size: int = 64
) -> Iterator[ChipBatch]:
    """The chips of some units (positions; all by default), in order and in parts."""
    chosen = np.arange(chips.sizes["unit"]) if units is None else np.asarray(units)
    for start in range(0, len(chosen), size):
        yield to_batch(chips.isel(unit=chosen[start : start + size]).compute())


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each band.

    Attributes
    ----------
    mean, sd : (band,) float64 arrays
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]

    @classmethod
    def fit(cls, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> "Normalisation":
        """From the valid pixels of ``units``, in float64 and in one pass.

        Raises
        ------
        DataError
            A band without a valid pixel.
        """
        n_bands = chips.sizes["band"]
        count, total, square = np.zeros(n_bands), np.zeros(n_bands), np.zeros(n_bands)
        shift = None
        for batch in batches(chips, units):
            values = batch.values.astype(float)
            if shift is None:
                with np.errstate(invalid="ignore"):
                    shift = np.nan_to_num(_band_mean(values))
            away = values - shift[:, None, None]
            valid = np.isfinite(away)
            away = np.where(valid, away, 0.0)
            count += valid.sum(axis=(0, 1, 3, 4))
            total += away.sum(axis=(0, 1, 3, 4))
            square += (away**2).sum(axis=(0, 1, 3, 4))
        if not (count > 0).all():
            empty = [str(chips["band"].values[band]) for band in np.flatnonzero(count == 0)]
            raise DataError(f"no valid pixel in band {', '.join(empty)}.", bands=empty)
        mean = total / count
        sd = np.sqrt(np.maximum(square / count - mean**2, 0))
        return cls(mean + shift, np.where(sd > 0, sd, 1.0))

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(value - mean) / sd of (..., band, y, x) values; NaN stays."""
        shape = (-1, 1, 1)
        scaled = (values - self.mean.reshape(shape)) / self.sd.reshape(shape)
        return scaled.astype(np.float32)

    def provenance(self) -> dict[str, list[float]]:
        """As JSON values."""
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist()}


def _band_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    valid = np.isfinite(values)
    n = valid.sum(axis=(0, 1, 3, 4))
    return np.where(valid, values, 0).sum(axis=(0, 1, 3, 4)) / np.maximum(n, 1)


def embed(chips: xr.DataArray, encoder: Encoder) -> xr.DataArray:
    """Embeddings of chips, block of units by block of units where they lie in dask blocks.

    Returns
    -------
    DataArray (unit, feature) float32
        With the chips' unit coordinates; provenance in ``attrs["provenance"]`` (JSON).
    """
    import json

    check_chips(chips)
    bands = tuple(map(str, chips["band"].values))
    names = encoder.feature_names
    ids = chips["unit_id"].values.astype(str)
    years = np.asarray(chips["fractional_year"].values, dtype=float)
    if chips.chunks is None:
        parts = [encoder.encode(batch) for batch in batches(chips)]
        features: Any = np.concatenate(parts) if parts else np.empty((0, len(names)), np.float32)
    else:
        import dask.array as da

        whole = chips.data.rechunk({axis: -1 for axis in range(1, 5)})
        rows = whole.chunks[0]
        blocks = da.from_array(np.arange(len(ids)), chunks=(rows,))
        features = da.map_blocks(
            _encode_block, whole, blocks[:, None, None, None, None], encoder, ids, years, bands,
            dtype=np.float32, drop_axis=(2, 3, 4), chunks=(rows, (len(names),)),
            meta=np.empty((0, 0), np.float32),
        )  # fmt: skip
    keep = {
        name: item.variable for name, item in chips.coords.items() if item.dims == ("unit",)
    }
    return xr.DataArray(
        features,
        dims=("unit", "feature"),
        coords={**keep, "feature": list(names)},
        attrs={"provenance": json.dumps(encoder.provenance(), sort_keys=True), "units": "1"},
        name="embedding",
    )


def _encode_block(
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    encoder: Encoder,
    ids: NDArray[np.str_],
    years: NDArray[np.float64],
    bands: tuple[str, ...],
) -> NDArray[np.float32]:
    chosen = rows.reshape(-1)
    return encoder.encode(ChipBatch(values, years[chosen], bands, tuple(ids[chosen])))
