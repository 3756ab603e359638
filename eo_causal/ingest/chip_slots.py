"""Which images of a place go into which slot of its time axis."""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.ingest.chip_settings import ChipSettings
from eo_causal.ingest.composite import composite_images

_DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Frame:
    """One image of one place; ``values`` (band, y, x), ``end`` of the last scene that is in it."""

    time: np.datetime64
    end: np.datetime64
    values: NDArray[np.float32]
    n_images: int = 1

    @functools.cached_property
    def valid_fraction(self) -> float:
        """Share of pixels that are valid in every band."""
        return float(np.isfinite(self.values).all(axis=0).mean())


@dataclass(frozen=True)
class Filled:
    """Slots of a place: number and frame of each; frames too poor, and usable ones left over."""

    slots: list[tuple[int, Frame]]
    n_emptied: int = 0
    n_dropped: int = 0


def solar_days(times: NDArray[np.datetime64], longitude: NDArray[np.float64]) -> NDArray[np.int64]:
    """Day number of the local solar date: UTC plus longitude / 15 hours."""
    seconds = times.astype("datetime64[s]").astype(np.int64) + longitude / 15 * 3600
    return np.floor(seconds / 86400).astype(np.int64)


def observed_slots(frames: list[Frame], longitude: float, settings: ChipSettings) -> Filled:
    """A place's own dates: one frame a solar day, those that are usable, in order of time."""
    merged = frames if len(frames) < 2 else _by_solar_day(frames, longitude)
    usable = [frame for frame in merged if _is_usable(frame, settings)]
    kept = _select(usable, settings)
    return Filled(list(enumerate(kept)), len(merged) - len(usable), len(usable) - len(kept))


def _by_solar_day(frames: list[Frame], longitude: float) -> list[Frame]:
    days = solar_days(np.array([frame.time for frame in frames]), np.full(len(frames), longitude))
    return [
        _merge([frames[position] for position in np.flatnonzero(days == day)])
        for day in np.unique(days)
    ]


def period_slots(frames: list[Frame], periods: pd.DatetimeIndex, settings: ChipSettings) -> Filled:
    """One composite a period; its time is the mean of the images that show something."""
    seen = [frame for frame in frames if np.isfinite(frame.values).any()]
    seen.sort(key=lambda frame: frame.time)
    times = np.array([frame.time for frame in seen], dtype="datetime64[ns]")
    slot_of = periods.searchsorted(times, side="right") - 1
    slots = []
    for slot in np.unique(slot_of):
        inside = np.flatnonzero(slot_of == slot)
        stack = np.stack([seen[position].values for position in inside])
        image, _ = composite_images(stack, settings.method, settings.min_count)
        later = (times[inside] - times[inside[0]]).astype(np.int64).mean()
        middle = times[inside[0]] + np.timedelta64(round(later), "ns")
        end = max(seen[position].end for position in inside)
        slots.append((int(slot), Frame(middle, end, image, len(inside))))
    usable = [(slot, frame) for slot, frame in slots if _is_usable(frame, settings)]
    return Filled(usable, len(slots) - len(usable))


def _merge(frames: list[Frame]) -> Frame:
    """Frames of one solar day as one: the clearest first, its gaps filled from the others."""
    if len(frames) == 1:
        return frames[0]
    order = sorted(range(len(frames)), key=lambda at: (-frames[at].valid_fraction, at))
    values = frames[order[0]].values.copy()
    for position in order[1:]:
        other = frames[position].values
        better = np.isfinite(other).sum(axis=0) > np.isfinite(values).sum(axis=0)
        values[:, better] = other[:, better]
    end = max(frame.end for frame in frames)
    return Frame(frames[order[0]].time, end, values, len(frames))


def _is_usable(frame: Frame, settings: ChipSettings) -> bool:
    return frame.valid_fraction >= max(settings.min_valid_fraction, np.finfo(float).tiny)


def _select(frames: list[Frame], settings: ChipSettings) -> list[Frame]:
    """At most ``max_slots`` frames, ``min_separation_days`` apart, in order of time."""
    if len(frames) < 2:
        return frames
    gap = np.timedelta64(int(settings.min_separation_days * _DAY), "ns")
    most = settings.max_slots or len(frames)
    numbers = list(range(len(frames)))
    if settings.select == "clearest":
        numbers.sort(key=lambda at: (-frames[at].valid_fraction, at))
    elif settings.select == "latest":
        numbers.reverse()
    apart: list[int] = []
    for number in numbers:
        if all(abs(frames[number].time - frames[other].time) >= gap for other in apart):
            apart.append(number)
    if settings.select == "evenly" and len(apart) > most:
        chosen = np.linspace(0, len(apart) - 1, most).round().astype(int)
        apart = [apart[at] for at in chosen]
    return [frames[number] for number in sorted(apart[:most])]
