"""Trials on given images with a known effect: outcomes as they were observed, targets unlike them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.random import generator
from eo_causal.errors import DataError
from eo_causal.simulate.heterogeneity import ChipWorld

Floats = NDArray[np.float64]
MEAN_EFFECT = 0.75
OFFER = 0.4
AT_FLOOR = 0.65  # share of controls who earn nothing
YEAR = 2015


@dataclass(frozen=True)
class SemiSyntheticTrial:
    """Units of a trial and their effects.

    Attributes
    ----------
    units : DataFrame
        ``unit_id``, ``image_key``, ``treatment`` (0 or 1), ``outcome``, ``cluster`` (the image key),
        ``easting`` and ``northing`` (NaN): the table of study units.
    effect : (unit,) array
        tau of each unit.
    """

    units: pd.DataFrame
    effect: Floats


@dataclass(frozen=True)
class TransportWorld:
    """A trial, and two regions to which its effects may be carried.

    Attributes
    ----------
    trial : ChipWorld
        ``units`` has ``treatment``, ``outcome`` and ``effect``.
    same, shifted : ChipWorld
        Regions whose images follow the trial's law, and whose bands are all brighter; ``units`` has
        ``effect``.
    """

    trial: ChipWorld
    same: ChipWorld
    shifted: ChipWorld


def band_signal(chips: xr.DataArray, band: int) -> Floats:
    """Mean of a band over each chip (and its frames), standardised over the chips.

    Parameters
    ----------
    chips : DataArray (unit, ..., band, y, x)
        NaN = invalid.
    band : int
        Position of the band, 0 the first.

    Returns
    -------
    (unit,) array
    """
    chosen = chips.isel(band=band).astype(float)
    return _standard(chosen.mean([dim for dim in chosen.dims if dim != "unit"]).to_numpy())


def semi_synthetic_trial(
    signal: Floats,
    image_keys: NDArray[np.str_],
    unit_keys: NDArray[np.str_],
    controls: Floats | None,
    *,
    b: float,
    seed: int,
) -> SemiSyntheticTrial:
    """A trial on given images whose effect follows a number each image shows (C6).

    tau = 0.75 + b s, W ~ Bernoulli(0.4) drawn an image, Y = Y0 + W tau; Y0 is drawn with replacement
    from the outcomes of observed controls, or, without them, is 0 for 65 % of the units and
    Gamma(2, 1) for the others, standardised.

    Parameters
    ----------
    signal : (image,) array
        s of each image, for example from :func:`band_signal`.
    image_keys : (image,) array of text
        Keys of the images, each once.
    unit_keys : (unit,) array of text
        Image of each unit.
    controls : (m,) array or None
        Observed outcomes of untreated units.
    b : float
        Effect of one unit of s; 0 for a constant effect.

    Raises
    ------
    DataError
        A unit whose image has no signal, a repeated image key, or controls that are missing.
    """
    position = pd.Index(image_keys)
    if not position.is_unique:
        raise DataError("image_keys repeat: give each image once, and its units in unit_keys.")
    at = position.get_indexer(pd.Index(unit_keys))
    unknown = np.asarray(unit_keys)[(at < 0) | ~np.isfinite(signal[at])]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} units have an image without a signal (first: {unknown[0]}). Leave them"
            " out, or give their images.", n=len(unknown),
        )  # fmt: skip
    random = generator(seed, "semi_synthetic_trial")
    n = len(at)
    untreated = _zero_inflated(random, n) if controls is None else _drawn(random, controls, n)
    treatment = (random.random(len(position)) < OFFER).astype(float)[at]
    effect = MEAN_EFFECT + b * signal[at]
    units = pd.DataFrame(
        {
            "unit_id": [f"unit_{i:05d}" for i in range(n)],
            "image_key": np.asarray(unit_keys, dtype=str),
            "treatment": treatment, "outcome": untreated + treatment * effect,
            "cluster": np.asarray(unit_keys, dtype=str), "easting": np.nan, "northing": np.nan,
        }
    )  # fmt: skip
    return SemiSyntheticTrial(units, effect)


def textured_chips(seed: int, n: int, size: int = 16, n_bands: int = 3) -> xr.DataArray:
    """Chips whose bands differ in brightness and in contrast, for worlds that need images of any kind.

    Brightness N(0, 1) and log contrast N(0, 0.3^2) of each band of each chip are independent; texture is
    noise smoothed over one pixel.

    Returns
    -------
    DataArray (unit, time, band, y, x)
        float32, one frame; coordinates as those of stored chips.
    """
    from scipy.ndimage import gaussian_filter

    random = generator(seed, "textured_chips")
    shape = (n, n_bands)
    level, contrast = random.standard_normal(shape), np.exp(random.normal(0, 0.3, shape))
    noise = random.standard_normal((*shape, size, size))
    texture = gaussian_filter(noise, (0, 0, 1, 1), mode="wrap")
    texture -= texture.mean(axis=(2, 3), keepdims=True)
    texture /= texture.std(axis=(2, 3), keepdims=True)
    values = level[:, :, None, None] + contrast[:, :, None, None] * texture
    names = np.array([f"place_{i:05d}" for i in range(n)])
    return xr.DataArray(
        values[:, None].astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", names), "image_key": ("unit", names),
            "band": [f"band_{k + 1}" for k in range(n_bands)],
            "datetime": (("unit", "time"), np.full((n, 1), np.datetime64(f"{YEAR}-01-01", "ns"))),
            "fractional_year": (("unit", "time"), np.full((n, 1), float(YEAR))),
        },
        attrs={"units": "1"}, name="chips",
    )  # fmt: skip


def transport_world(chips: xr.DataArray, seed: int, *, shift: float = 5.0) -> TransportWorld:
    """A trial in a random half of the images, and the other half as it is and brightened (C9).

    tau = 0.75 + 0.5 s_1 + 0.25 s_2 with the mean of the first band and the standard deviation of the
    last over each chip, both standardised by the trial; W ~ Bernoulli(1/2), Y = 0.3 s_1 + W tau +
    N(0, 1). In the ``shifted`` region every band is raised by ``shift`` standard deviations of the
    trial's chip means; tau follows the same formula.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
        For example :func:`textured_chips`, or chips of a study.
    shift : float
        Standard deviations of the chip means of a band.

    Raises
    ------
    DataError
        A chip without a valid pixel.
    """
    random = generator(seed, "transport_world")
    order = random.permutation(chips.sizes["unit"])
    here, there = (chips.isel(unit=np.sort(part)) for part in np.array_split(order, 2))
    means = here.mean(["time", "y", "x"])
    if not (bool(means.notnull().all()) and bool(there.notnull().any(["time", "y", "x"]).all())):
        raise DataError("a chip has a band without a valid pixel. Leave such chips out.")
    raised = there + (shift * means.std("unit")).astype(np.float32)
    shown = _shown(here)
    centre, scale = shown.mean(axis=0), shown.std(axis=0)
    signals = [(_shown(region) - centre) / scale for region in (here, there, raised)]
    effects = [MEAN_EFFECT + s @ np.array([0.5, 0.25]) for s in signals]
    n = len(effects[0])
    treatment = random.integers(0, 2, n).astype(float)
    outcome = 0.3 * signals[0][:, 0] + treatment * effects[0] + random.standard_normal(n)
    tables = [{"effect": effect} for effect in effects]
    tables[0] = {"treatment": treatment, "outcome": outcome, **tables[0]}
    regions = (
        ChipWorld(region, pd.DataFrame(table, index=pd.Index(region["unit_id"], name="unit_id")))
        for region, table in zip((here, there, raised), tables, strict=True)
    )
    return TransportWorld(*regions)


def _shown(chips: xr.DataArray) -> Floats:
    """(unit, 2) mean of the first band and standard deviation of the last over each chip."""
    first, last = chips.isel(band=0).astype(float), chips.isel(band=-1).astype(float)
    over = ["time", "y", "x"]
    return np.stack([first.mean(over).to_numpy(), last.std(over).to_numpy()], axis=1)


def _drawn(random: np.random.Generator, controls: Floats, n: int) -> Floats:
    if not len(controls) or not np.isfinite(controls).all():
        missing = int((~np.isfinite(controls)).sum())
        raise DataError(
            f"controls hold {len(controls)} outcomes, {missing} of them missing. Give outcomes that"
            " were observed.", n=len(controls), missing=missing,
        )  # fmt: skip
    return np.asarray(random.choice(controls, n))


def _zero_inflated(random: np.random.Generator, n: int) -> Floats:
    """Earnings of which many are nothing, with mean 0 and standard deviation 1."""
    earns = random.random(n) >= AT_FLOOR
    earned = np.where(earns, random.gamma(2, 1, n), 0)
    mean, square = 2 * (1 - AT_FLOOR), 6 * (1 - AT_FLOOR)
    return np.asarray((earned - mean) / np.sqrt(square - mean**2))


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())
