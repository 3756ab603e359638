"""Statistics of pixels per band and over frames: the baseline every image result is compared with."""

from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.encode.base import ChipBatch, Encoder, check_bands, check_chips, refuse_units
from eo_causal.encode.scales import EncoderOptions
from eo_causal.encode.sequence import in_date_order, too_few
from eo_causal.errors import ConfigError, DataError

Index = Literal["ndvi", "ndwi", "mndwi", "ndbi", "nbr"]
Floats = NDArray[np.float64]
STATISTICS = ("mean", "sd", "q5", "q25", "q50", "q75", "q95", "gradient")
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)
OVER_FRAMES = ("", "_last", "_slope", "_sd")
INDICES: dict[Index, tuple[str, str]] = {
    "ndvi": ("nir", "red"),
    "ndwi": ("green", "nir"),
    "mndwi": ("green", "swir1"),
    "ndbi": ("swir1", "nir"),
    "nbr": ("nir", "swir2"),
}


class PixelStatsSettings(EncoderOptions):
    """Statistics per band: mean, sd, five quantiles, mean absolute horizontal gradient."""

    name: Literal["pixel_stats"] = "pixel_stats"
    indices: tuple[Index, ...] | None = Field(
        default=None,
        description="normalised differences treated as bands; null = ndvi where red and nir exist",
    )
    frames: Literal["all", "latest"] = Field(
        default="all", description="latest: each unit's last valid frame alone, a single image"
    )


class PixelStats(Encoder):
    """Eight statistics a band; over several frames their mean, last value, slope a year and sd.

    Only valid pixels enter; a frame without any for a band counts as absent for that band.

    Parameters
    ----------
    settings : PixelStatsSettings
    """

    def __init__(self, settings: PixelStatsSettings | None = None) -> None:
        self.settings = settings or PixelStatsSettings()
        self.bands_: tuple[str, ...] = ()
        self.indices_: tuple[Index, ...] = ()
        self.sequence_ = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``<band>_<statistic>``, for sequences also with ``_last``, ``_slope`` and ``_sd``."""
        return tuple(
            f"{band}_{statistic}{over}"
            for over in (OVER_FRAMES if self.sequence_ else ("",))
            for band in self.bands_ + self.indices_
            for statistic in STATISTICS
        )

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Take note of bands and frames; no value is learned.

        Raises
        ------
        ConfigError
            An index whose bands the chips do not have.
        DataError
            Chips of a single column, which have no horizontal gradient.
        """
        check_chips(chips)
        bands = tuple(map(str, chips["band"].values))
        usual: tuple[Index, ...] = ("ndvi",) if {"red", "nir"} <= set(bands) else ()
        wanted = usual if self.settings.indices is None else self.settings.indices
        for index in wanted:
            if not set(INDICES[index]) <= set(bands):
                raise ConfigError(
                    f"encoder.indices: {index} needs the bands {' and '.join(INDICES[index])};"
                    f" the chips have {', '.join(bands)}. Rename or add bands, or leave it out.",
                    index=index,
                )  # fmt: skip
        if chips.sizes["x"] < 2:
            raise DataError("chips of one column have no gradient. Cut chips of at least 2 px.")
        self.bands_, self.indices_ = bands, wanted
        self.sequence_ = self.settings.frames == "all" and chips.sizes["time"] > 1
        return self

    def encode(self, batch: ChipBatch) -> NDArray[np.float32]:
        """Statistics of a batch, (unit, feature); NaN where a unit has too few valid pixels."""
        check_bands(batch, self.bands_)
        order, valid = in_date_order(batch)
        needed = 2 if self.sequence_ else 1
        refuse_units(batch, valid.sum(axis=1) < needed, too_few(needed))
        units = np.arange(len(order))
        if self.settings.frames == "latest":
            order = np.take_along_axis(order, np.maximum(valid.sum(axis=1) - 1, 0)[:, None], axis=1)
            valid = valid[:, :1]
        statistics = np.full((*order.shape, len(self.bands_ + self.indices_) * 8), np.nan)
        for unit in units:  # one by one: sorted copies of a whole batch would not fit the caches
            frames = batch.values[unit, order[unit][valid[unit]]]
            statistics[unit, valid[unit]] = frame_statistics(self._with_indices(frames))
        if not self.sequence_:
            return statistics[:, 0].astype(np.float32)
        years = np.take_along_axis(batch.years, order, axis=1)
        return over_frames(statistics, years).astype(np.float32)

    @property
    def learns(self) -> bool:
        """No: each chip is described by itself."""
        return False

    def least_frames(self, n_frames: int) -> int:
        """Two for a slope, one where single frames are described."""
        return 1 if self.settings.frames == "latest" else min(n_frames, 2)

    def _with_indices(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised differences appended to (frame, band, y, x); NaN where the sum is not positive."""
        bands = [frames]
        for index in self.indices_:
            high, low = (frames[:, self.bands_.index(name)] for name in INDICES[index])
            total = high + low
            ratio = np.full_like(total, np.nan)
            np.divide(high - low, total, out=ratio, where=total > 0)
            bands.append(ratio[:, None])
        return np.concatenate(bands, axis=1)

    def provenance(self) -> dict[str, Any]:
        """Name, bands and indices."""
        return {
            "name": "pixel_stats",
            "bands": list(self.bands_),
            "indices": list(self.indices_),
            "over_frames": self.sequence_,
            "frames": self.settings.frames,
        }


def frame_statistics(frames: NDArray[np.float32]) -> Floats:
    """The statistics of frames (frame, band, y, x), as (frame, band x statistic).

    Standard deviations divide by the number of pixels; quantiles interpolate linearly. NaN where a
    band has no valid pixel (for the gradient: no two valid neighbours in a row).
    """
    n_frames, n_bands = frames.shape[:2]
    flat = frames.reshape(n_frames, n_bands, -1)
    n = np.isfinite(flat).sum(axis=-1)
    mean = _valid_mean(flat)
    sd = np.sqrt(_valid_mean((flat - mean[..., None]) ** 2))
    ordered = np.sort(flat, axis=-1)  # NaN last
    quantiles = [_quantile(ordered, n, level) for level in QUANTILES]
    steps = np.abs(np.diff(frames.astype(float), axis=-1))
    gradient = _valid_mean(steps.reshape(n_frames, n_bands, -1))
    return np.stack([mean, sd, *quantiles, gradient], axis=-1).reshape(n_frames, -1)


def _valid_mean(values: NDArray[Any]) -> Floats:
    valid = np.isfinite(values)
    n = valid.sum(axis=-1)
    total = np.where(valid, values, 0).sum(axis=-1, dtype=float)
    return np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)


def _quantile(ordered: NDArray[np.float32], n: NDArray[np.intp], level: float) -> Floats:
    place = level * np.maximum(n - 1, 0)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, np.maximum(n - 1, 0))
    below, above = (
        np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0].astype(float)
        for at in (low, high)
    )
    return below + (above - below) * (place - low)


def over_frames(statistics: Floats, years: Floats) -> Floats:
    """Mean, last value, least-squares slope a year and sd of statistics over their valid frames.

    Parameters
    ----------
    statistics : (unit, time, statistic) array
        In date order; NaN = absent.
    years : (unit, time) array
        Fractional years; any spacing.

    Returns
    -------
    (unit, 4 x statistic) array
        NaN where a slope has fewer than two dates.
    """
    valid = np.isfinite(statistics)
    n = valid.sum(axis=1)
    dates = np.where(valid, years[:, :, None], 0.0)
    mean = _over_time(statistics, valid)
    away = np.where(valid, statistics - mean[:, None], 0.0)
    time = np.where(valid, dates - (dates.sum(axis=1) / np.maximum(n, 1))[:, None], 0.0)
    spread = (time**2).sum(axis=1)
    slope = np.full_like(mean, np.nan)
    np.divide((time * away).sum(axis=1), spread, out=slope, where=spread > 0)
    last_place = valid.shape[1] - 1 - np.argmax(valid[:, ::-1], axis=1)
    last = np.take_along_axis(statistics, last_place[:, None], axis=1)[:, 0]
    sd = np.sqrt(_over_time(away**2, valid))
    return np.concatenate([mean, last, slope, sd], axis=1)


def _over_time(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    n = valid.sum(axis=1)
    total = np.where(valid, values, 0.0).sum(axis=1)
    return np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
