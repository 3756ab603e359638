"""What every encoder is: a function from chips to one vector a unit, with its provenance."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
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

    def fit_embed(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> xr.DataArray:
        """Fit on ``units``, then embed all chips; as :func:`embed` after :meth:`fit`."""
        return embed(chips, self.fit(chips, units))

    @property
    def learns(self) -> bool:
        """Whether features depend on the units it is fitted on."""
        return True

    def least_frames(self, n_frames: int) -> int:
        """Valid frames a unit must have, of chips with ``n_frames``."""
        return 1


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
    """The chips of some units (positions; all by default), in order and in parts.

    A dask block is computed once for every run of units that lie in it: sort ``units``.
    """
    chosen = np.arange(chips.sizes["unit"]) if units is None else np.asarray(units)
    if chips.chunks is None:
        runs = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    else:
        block = np.searchsorted(np.cumsum(chips.chunks[0]), chosen, side="right")
        runs = np.split(chosen, np.flatnonzero(np.diff(block)) + 1)
    for run in runs:
        loaded = chips.isel(unit=run).compute()
        for start in range(0, len(run), size):
            yield to_batch(loaded.isel(unit=slice(start, start + size)))


def over_blocks[Value](
    chips: xr.DataArray,
    units: NDArray[np.intp] | None,
    function: Callable[[NDArray[np.float32]], Value],
) -> list[Value]:
    """A function of (unit, time, band, y, x) values, for every block of units in order.

    Parameters
    ----------
    units : array of int or None
        Positions; taken in ascending order. None = all.
    """
    ordered = None if units is None else np.sort(units)
    if chips.chunks is None:
        return [function(batch.values) for batch in batches(chips, ordered)]
    from dask import base
    from dask.delayed import delayed

    chosen = chips if ordered is None else chips.isel(unit=ordered)
    blocks = chosen.data.rechunk(dict.fromkeys(range(1, 5), -1)).to_delayed().ravel()
    task = delayed(function, pure=False)
    return list(base.compute(*(task(block) for block in blocks)))


def frames_seen(chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> NDArray[np.bool_]:
    """(unit, time): True where there is a dated frame with at least one valid pixel.

    Units in ascending order of position.
    """
    dated = np.isfinite(np.asarray(chips["fractional_year"].values, dtype=float))
    if units is not None:
        dated = dated[np.sort(units)]
    parts = over_blocks(chips, units, lambda values: np.isfinite(values).any(axis=(2, 3, 4)))
    return dated & np.concatenate(parts) if parts else dated


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
        """From the valid pixels of ``units``, in float64 and in one pass over the blocks.

        Sums run within each unit and then over the units in order, so that blocks change no bit.

        Raises
        ------
        DataError
            A band without a valid pixel.
        """
        parts = over_blocks(chips, units, _moments)
        none = (np.empty((0, chips.sizes["band"])),) * 3
        n, means, squares = (np.concatenate(column) for column in zip(none, *parts, strict=True))
        count = n.sum(axis=0)
        mean = (n * means).sum(axis=0) / np.maximum(count, 1)
        square = squares.sum(axis=0) + (n * (means - mean) ** 2).sum(axis=0)
        if not (count > 0).all():
            empty = [str(chips["band"].values[band]) for band in np.flatnonzero(count == 0)]
            raise DataError(
                f"no valid pixel in band {', '.join(empty)}. Leave the band out, or widen the"
                " period.", bands=empty,
            )  # fmt: skip
        sd = np.sqrt(square / count)
        return cls(mean, np.where(sd > 0, sd, 1.0))

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(value - mean) / sd of (..., band, y, x) values; NaN stays."""
        shape = (-1, 1, 1)
        scaled = (values - self.mean.reshape(shape)) / self.sd.reshape(shape)
        return scaled.astype(np.float32)

    def provenance(self) -> dict[str, list[float]]:
        """As JSON values."""
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist()}


def _moments(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """(unit, band) number, mean and summed squared deviation of valid pixels."""
    pixels = values.swapaxes(1, 2).reshape(values.shape[0], values.shape[2], -1).astype(float)
    valid = np.isfinite(pixels)
    n = valid.sum(axis=2).astype(float)
    mean = np.where(valid, pixels, 0).sum(axis=2) / np.maximum(n, 1)
    away = np.where(valid, pixels - mean[:, :, None], 0)
    return n, mean, (away**2).sum(axis=2)


def embed(chips: xr.DataArray, encoder: Encoder) -> xr.DataArray:
    """Embeddings of chips, block of units by block of units where they lie in dask blocks.

    Returns
    -------
    DataArray (unit, feature) float32
        With the chips' unit coordinates; provenance in ``attrs["provenance"]`` (JSON).

    Raises
    ------
    DataError
        Units whose features are not finite (for dask blocks when they are computed).
    """
    check_chips(chips)
    n_features = len(encoder.feature_names)
    if chips.chunks is None:
        parts = [encode_checked(encoder, batch) for batch in batches(chips)]
        features: Any = np.concatenate(parts) if parts else np.empty((0, n_features), np.float32)
    else:
        features = _embed_blocks(chips, encoder, n_features)
    return as_embedding(chips, features, encoder)


def as_embedding(chips: xr.DataArray, features: Any, encoder: Encoder) -> xr.DataArray:
    """Features (unit, feature) with the coordinates of their chips and their provenance."""
    keep = {name: item.variable for name, item in chips.coords.items() if item.dims == ("unit",)}
    return xr.DataArray(
        features,
        dims=("unit", "feature"),
        coords={**keep, "feature": list(encoder.feature_names)},
        attrs={"provenance": json.dumps(encoder.provenance(), sort_keys=True), "units": "1"},
        name="embedding",
    )


def encode_checked(encoder: Encoder, batch: ChipBatch) -> NDArray[np.float32]:
    """Features of a batch, (unit, feature).

    Raises
    ------
    DataError
        Units whose features are not finite.
    """
    if not batch.unit_ids:
        return np.empty((0, len(encoder.feature_names)), np.float32)
    features = encoder.encode(batch)
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        first = encoder.feature_names[int(np.argmin(np.isfinite(features[bad][0])))]
        refuse_units(batch, bad, f"have no finite feature {first}: too few valid pixels")
    return features


def check_bands(batch: ChipBatch, bands: tuple[str, ...]) -> None:
    """Refuse chips whose bands are not those an encoder was fitted on.

    Raises
    ------
    DataError
        Other bands, or another order.
    """
    if batch.bands != bands:
        raise DataError(
            f"the encoder was fitted on bands {bands}, the chips have {batch.bands}."
            " Select the same bands in the same order, or fit it first.", bands=batch.bands,
        )  # fmt: skip


def refuse_units(batch: ChipBatch, bad: NDArray[np.bool_], what: str) -> None:
    """Raise a DataError that lists the units of a batch marked ``bad``; nothing without any."""
    refuse_ids(batch.unit_ids, bad, what)


def refuse_ids(unit_ids: Iterable[Any], bad: NDArray[np.bool_], what: str) -> None:
    """Raise a DataError that lists the units marked ``bad``; nothing when there is none.

    Parameters
    ----------
    what : str
        The middle of the sentence: "3 of 64 units <what>. Widen ...".
    """
    names = [str(name) for name, wrong in zip(unit_ids, bad, strict=True) if wrong]
    if names:
        first = ", ".join(names[:5])
        raise DataError(
            f"{len(names):,} of {len(bad):,} units {what} (first: {first})."
            " Widen the period, allow more cloud, or exclude these units.", unit_ids=names,
        )  # fmt: skip


def _embed_blocks(chips: xr.DataArray, encoder: Encoder, n_features: int) -> Any:
    import dask.array as da

    whole = chips.data.rechunk(dict.fromkeys(range(1, 5), -1))
    rows = whole.chunks[0]
    years = da.from_array(np.asarray(chips["fractional_year"].values, float), chunks=(rows, -1))
    ids = da.from_array(chips["unit_id"].values.astype(str), chunks=(rows,))
    bands = tuple(map(str, chips["band"].values))
    return da.map_blocks(
        _encode_block, whole, years[:, :, None, None, None], ids[:, None, None, None, None],
        encoder=encoder, bands=bands, dtype=np.float32, drop_axis=(2, 3, 4),
        chunks=(rows, (n_features,)), meta=np.empty((0, 0), np.float32),
    )  # fmt: skip


def _encode_block(
    values: NDArray[np.float32],
    years: NDArray[np.float64],
    ids: NDArray[np.str_],
    encoder: Encoder,
    bands: tuple[str, ...],
) -> NDArray[np.float32]:
    n_units, n_frames = values.shape[:2]
    names = tuple(map(str, ids.reshape(n_units)))
    return encode_checked(
        encoder, ChipBatch(values, years.reshape(n_units, n_frames), bands, names)
    )
