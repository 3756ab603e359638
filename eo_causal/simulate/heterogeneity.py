"""Chips that carry an effect, or an outcome, in a known way: change over time, scale in space."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
Followed = Literal["change", "last", "constant"]
Perturbation = Literal["blob", "contrast", "edge", "rotation"]
PERTURBATIONS: tuple[Perturbation, ...] = ("blob", "contrast", "edge", "rotation")
FIRST_YEAR = 2012
CONTRAST = 1.8
BLOB_RADIUS, BLOB_VALUE = 5.0, -2.5


@dataclass(frozen=True)
class ChipWorld:
    """Chips and what is true of their units.

    Attributes
    ----------
    chips : DataArray (unit, time, band, y, x)
        float32; coordinates ``unit_id``, ``image_key``, ``band``, ``datetime``,
        ``fractional_year``.
    units : DataFrame
        One row a unit, index ``unit_id``: ``outcome`` and the world's own columns.
    """

    chips: xr.DataArray
    units: pd.DataFrame


def changing_brightness(
    seed: int,
    n: int = 2000,
    effect: Followed = "change",
    n_frames: int = 4,
    size: int = 32,
) -> ChipWorld:
    """A trial whose effect follows the change of brightness, the brightness at the end, or neither (C7).

    Brightness of frame t = 1..T is a + c (t - 1)/(T - 1) + 0.1 N(0, 1) with a ~ N(0, 2^2) and
    c ~ N(0, 1), and is the mean of a frame whose texture stays. Effect tau = 0.75 + 0.5 c
    (``change``), 0.75 + 0.5 (a + c)/sqrt(5) (``last``) or 0.75 (``constant``); W ~ Bernoulli(1/2);
    outcome 0.3 a + W tau + N(0, 1). One frame a year.

    Returns
    -------
    ChipWorld
        ``units`` has ``treatment``, ``outcome``, ``effect`` (tau), ``start`` (a), ``change`` (c).
    """
    random = generator(seed, "changing_brightness")
    start, change = random.normal(0, 2, n), random.normal(0, 1, n)
    share = np.arange(n_frames) / (n_frames - 1)
    brightness = start[:, None] + change[:, None] * share
    brightness = brightness + 0.1 * random.standard_normal((n, n_frames))
    last = (start + change) / np.sqrt(5)
    tau = 0.75 + 0.5 * {"change": change, "last": last, "constant": np.zeros(n)}[effect]
    treatment = random.integers(0, 2, n)
    outcome = 0.3 * start + treatment * tau + random.normal(0, 1, n)
    texture = _textures(random, n, size, (1.5, 1.5))
    values = brightness[:, :, None, None] + texture[:, None]
    units = {
        "treatment": treatment,
        "outcome": outcome,
        "effect": tau,
        "start": start,
        "change": change,
    }
    return _world(values, units)


def perturbed_scenes(
    seed: int,
    n: int = 500,
    perturbations: tuple[Perturbation, ...] = PERTURBATIONS,
    size: int = 256,
    inner: int = 32,
) -> ChipWorld:
    """Scenes whose outcome is what was done to them, seen near or only from afar (C8).

    Each perturbation is applied to its own random half of the scenes and moves the outcome: a dark
    ``blob`` at the centre + N(100, 10^2), ``contrast`` x 1.8 + N(100, 10^2), a fade towards the
    ``edge`` + 100, a ``rotation`` by 90 degrees - N(100, 10^2). The fade leaves the central ``inner``
    pixels as they are, so the small footprint is the centre of the large one. Scenes are streaks;
    their centre and their surroundings have levels N(0, 0.5^2) and log contrasts N(0, 0.5^2) of
    their own, so that both footprints say something of a contrast that was changed.

    Returns
    -------
    ChipWorld
        One frame of ``size`` pixels; ``units`` has ``outcome`` and a 0/1 column a perturbation.

    Raises
    ------
    ConfigError
        An unknown perturbation, or a centre larger than the scene.

    Notes
    -----
    After the simulation of arXiv 2411.02134, on generated scenes.
    """
    unknown = set(perturbations) - set(PERTURBATIONS)
    if unknown or not inner < size:
        raise ConfigError(
            f"perturbations are of {', '.join(PERTURBATIONS)}, not {sorted(unknown)}; the small"
            f" footprint ({inner} px) is smaller than the scene ({size} px)."
        )
    random = generator(seed, "perturbed_scenes")
    done: dict[str, NDArray[np.int64]] = {
        name: np.zeros(n, dtype=np.int64) for name in PERTURBATIONS
    }
    for name in perturbations:
        done[name][random.permutation(n)[: n // 2]] = 1
    outcome = (
        done["blob"] * random.normal(100, 10, n)
        + done["contrast"] * random.normal(100, 10, n)
        + done["edge"] * 100.0
        - done["rotation"] * random.normal(100, 10, n)
    )
    values = np.empty((n, 1, size, size), dtype=np.float32)
    steps = np.abs(np.arange(size) - (size - 1) / 2)
    away = np.maximum(steps[:, None], steps)
    blob = np.hypot(steps[:, None], steps) <= BLOB_RADIUS
    place = (away > inner / 2).astype(int)
    fade = np.clip((size - 2 * away) / (size - inner), 0, 1)
    for i in range(n):
        level, contrast = random.normal(0, 0.5, 2)[place], np.exp(random.normal(0, 0.5, 2))[place]
        scene = contrast * _textures(random, 1, size, (0.8, 2.0))[0]
        scene = np.rot90(scene) if done["rotation"][i] else scene
        scene = level + (CONTRAST * scene if done["contrast"][i] else scene)
        scene = np.where(blob, BLOB_VALUE, scene) if done["blob"][i] else scene
        values[i, 0] = fade * scene if done["edge"][i] else scene
    return _world(values, {"outcome": outcome, **done})


def _textures(random: np.random.Generator, n: int, size: int, width: tuple[float, float]) -> Floats:
    """Smoothed noise (image, y, x), each image of mean 0 and standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    noise = random.standard_normal((n, size, size))
    smooth = gaussian_filter(noise, (0, *width), mode="wrap")
    smooth -= smooth.mean(axis=(1, 2), keepdims=True)
    return np.asarray(smooth / smooth.std(axis=(1, 2), keepdims=True))


def _world(values: NDArray[np.floating], units: dict[str, Any]) -> ChipWorld:
    """Frames (unit, time, y, x) of one band as chips, one frame on each first of January."""
    n, n_frames = values.shape[:2]
    names = np.array([f"unit_{i:05d}" for i in range(n)])
    years = FIRST_YEAR + np.arange(n_frames)
    dates = pd.to_datetime([f"{year}-01-01" for year in years]).to_numpy("datetime64[ns]")
    chips = xr.DataArray(
        values[:, :, None].astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", names),
            "image_key": ("unit", names),
            "band": ["brightness"],
            "datetime": (("unit", "time"), np.tile(dates, (n, 1))),
            "fractional_year": (("unit", "time"), np.tile(years.astype(float), (n, 1))),
        },
        attrs={"units": "1"},
        name="chips",
    )
    return ChipWorld(chips, pd.DataFrame(units, index=pd.Index(names, name="unit_id")))
