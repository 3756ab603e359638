"""Pattern confounders: how strongly an image shows a diagonal stroke moves treatment and outcome.

Worlds C1 (the pattern is measured as it is), C1m (with a filter of another width) and C2 (in an image
of coarser pixels), after the simulations of arXiv 2301.12985.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import fft
from scipy.special import expit

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError, DataError
from eo_causal.simulate.confounding import ConfoundedWorld

Floats = NDArray[np.float64]
Images = NDArray[np.float32]
Pool = Literal["max", "mean"]

SIZE = 128
MARGIN = 16
BLURS = (0.7, 2.0, 6.0)
NOISE = 0.1
LEAST_SPREAD = 1e-6  # of responses, whose size is about one: float32 knows no less
YEAR = 2000


@dataclass(frozen=True)
class PatternUnits:
    """What is true of units whose images carry a confounder.

    Attributes
    ----------
    confounder : (unit,) array
        U, mean 0 and sd 1.
    propensity : (unit,) array
        True probability of treatment.
    treatment, outcome : (unit,) array
        0 or 1; any number.
    """

    confounder: Floats
    propensity: Floats
    treatment: Floats
    outcome: Floats


def pattern_kernel(width: int) -> Floats:
    """(width, width) filter for a stroke from bottom left to top right.

    K = ones on the anti-diagonal; (K - mean K) / sqrt(0.001 + var(K) width^2). Width 1 is the pixel
    itself.

    >>> pattern_kernel(2).round(2).tolist()
    [[-0.5, 0.5], [0.5, -0.5]]
    """
    if width == 1:
        return np.ones((1, 1))
    stroke = np.fliplr(np.eye(width))
    return np.asarray((stroke - stroke.mean()) / np.sqrt(0.001 + stroke.var() * width**2))


def pattern_response(images: Images, width: int) -> Images:
    """Images filtered by :func:`pattern_kernel`, standardised over all pixels of all images.

    Parameters
    ----------
    images : (image, y, x) array
        Zeros continue them beyond their edges; an even kernel reaches one pixel farther down and
        right, as "same" padding has it.
    width : int
        Of the kernel, pixels.

    Raises
    ------
    DataError
        Images without any structure.
    """
    rows, columns = images.shape[1:]
    shape = [fft.next_fast_len(length + width - 1, real=True) for length in (rows, columns)]
    # a half turn maps the kernel on itself: convolution is correlation, only the start differs
    kernel = fft.rfft2(pattern_kernel(width).astype(np.float32), s=shape)
    full = fft.irfft2(fft.rfft2(images, s=shape) * kernel, s=shape)
    start = width // 2
    found = full[:, start : start + rows, start : start + columns]
    return _standard(found)


def average_pool(images: Images, factor: int) -> Images:
    """(image, y / factor, x / factor) means of squares of ``factor`` x ``factor`` pixels."""
    n, rows, columns = images.shape
    blocks = images.reshape(n, rows // factor, factor, columns // factor, factor)
    return blocks.mean(axis=(2, 4))


def central(response: Images, factor: int = 1) -> Images:
    """The window without a margin of 16 pixels of full resolution, whatever the pooling."""
    margin = MARGIN // factor
    return response[:, margin:-margin, margin:-margin]


def image_score(response: Images, factor: int = 1, pool: Pool = "max") -> Floats:
    """(image,) largest or mean response of the central window, standardised over the images.

    Raises
    ------
    DataError
        It is the same in all images.
    """
    inner = central(response, factor)
    level = (inner.max(axis=(1, 2)) if pool == "max" else inner.mean(axis=(1, 2))).astype(float)
    return _standard(level)


def generated_images(n: int, random: np.random.Generator, size: int = SIZE) -> Images:
    """(image, size, size) fields of random texture, contrast and level; no file is needed.

    Sum over blurs of sd 0.7, 2 and 6 pixels of exp(z/2) x blurred white noise (wrapped round, sd 1),
    times exp(0.3 z), plus N(0, 1); every z ~ N(0, 1) is fresh for every image.
    """
    total: NDArray[np.complex64] | None = None
    for blur in BLURS:
        noise = fft.rfft2(random.standard_normal((n, size, size), dtype=np.float32))
        strength = np.exp(0.5 * random.standard_normal(n, dtype=np.float32))
        part = noise * (strength[:, None, None] * _blur_response(blur, size))
        total = part if total is None else total + part
    contrast, level = random.standard_normal((2, n, 1, 1), dtype=np.float32)
    return np.asarray(fft.irfft2(total, s=(size, size)) * np.exp(0.3 * contrast) + level)


def random_crops(
    images: NDArray[np.generic], n: int, random: np.random.Generator, size: int = SIZE
) -> Images:
    """(n, size, size) windows at random corners of images drawn with replacement.

    Parameters
    ----------
    images : (image, y, x) array
        Complete: no missing pixels.

    Raises
    ------
    DataError
        Images smaller than the windows, or with missing pixels.
    """
    n_images, rows, columns = images.shape
    if min(rows, columns) < size:
        raise DataError(
            f"images of {rows} x {columns} pixels hold no window of {size} x {size}. Give larger"
            " chips.", rows=rows, columns=columns,
        )  # fmt: skip
    if not np.isfinite(images).all():
        raise DataError("images have missing pixels; leave such images out before windows are cut.")
    which = random.integers(n_images, size=n)
    top, left = (random.integers(length - size + 1, size=n) for length in (rows, columns))
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return windows[which, top, left].astype(np.float32)


def standardised(images: Images) -> Images:
    """(x - mean) / (0.01 + sd) over all pixels of all images."""
    return np.asarray((images - images.mean()) / (0.01 + images.std()))


def draw_units(
    confounder: Floats, random: np.random.Generator, effect: float = 1.0
) -> PatternUnits:
    """W ~ Bernoulli(expit(U + N(0, 0.1^2))), Y = U + effect W + N(0, 0.1^2).

    Parameters
    ----------
    confounder : (unit,) array
        U.
    """
    n = len(confounder)
    propensity = expit(confounder + NOISE * random.standard_normal(n))
    treatment = (random.random(n) < propensity).astype(float)
    outcome = confounder + effect * treatment + NOISE * random.standard_normal(n)
    return PatternUnits(confounder, propensity, treatment, outcome)


def pattern_world(
    seed: int,
    n: int = 500,
    width: int = 8,
    images: NDArray[np.generic] | None = None,
    pool: Pool = "max",
    effect: float = 1.0,
) -> ConfoundedWorld:
    """Images and units of world C1 (arXiv 2301.12985): the confounder is seen, never tabulated.

    Parameters
    ----------
    seed, n : int
        Units, one image each.
    width : int
        Of the pattern, 1 to 32 pixels.
    images : (image, y, x) array, optional
        To cut windows of 128 x 128 pixels from; generated fields without it.
    pool : str
        The confounder is the largest response in an image, or the mean.
    effect : float
        True effect of the treatment on every unit.

    Returns
    -------
    ConfoundedWorld
        ``units`` has ``confounder`` (U) and ``propensity`` (the true one); ``chips`` one band.

    Raises
    ------
    ConfigError
        A pattern that does not fit into the margin round the central window.
    """
    if not 1 <= width <= 2 * MARGIN:
        raise ConfigError(f"width {width}: a pattern has 1 to {2 * MARGIN} pixels.", width=width)
    found = study_images(seed, 0, n, images)
    confounder = image_score(pattern_response(found, width), pool=pool)
    units = draw_units(confounder, generator(seed, "pattern", 0, "units"), effect)
    return ConfoundedWorld(_unit_table(units), _chips(found), effect)


def study_images(
    seed: int, repetition: int, n: int, images: NDArray[np.generic] | None = None
) -> Images:
    """(n, 128, 128) images of one repetition of a study: generated fields, or windows of ``images``."""
    random = generator(seed, "pattern", repetition)
    cut = generated_images(n, random) if images is None else random_crops(images, n, random)
    return standardised(cut)


def _standard(values: NDArray[Any]) -> NDArray[Any]:
    """Mean 0 and sd 1 over all values."""
    spread = float(values.std())
    if not spread > LEAST_SPREAD:
        raise DataError("the pattern is equally strong everywhere; give images that differ.")
    return (values - values.mean()) / spread


def _blur_response(blur: float, size: int) -> NDArray[np.float32]:
    """(size, size // 2 + 1) transfer function of a Gaussian blur that gives white noise sd 1."""
    distance = np.minimum(np.arange(size), size - np.arange(size))
    taps = np.exp(-0.5 * (distance / blur) ** 2)
    taps /= np.sqrt((taps**2).sum())
    along = fft.fft(taps).real
    return np.asarray(np.outer(along, along[: size // 2 + 1]), dtype=np.float32)


def _unit_table(units: PatternUnits) -> pd.DataFrame:
    keys = [f"image_{number:05d}" for number in range(len(units.treatment))]
    return pd.DataFrame({
        "unit_id": [key.replace("image", "unit") for key in keys], "image_key": keys,
        "treatment": units.treatment, "outcome": units.outcome, "confounder": units.confounder,
        "propensity": units.propensity,
    })  # fmt: skip


def _chips(images: Images) -> xr.DataArray:
    keys = np.array([f"image_{number:05d}" for number in range(len(images))])
    date = np.datetime64(f"{YEAR}-01-01", "ns")
    by_slot = ("unit", "time")
    return xr.DataArray(
        images[:, None, None], dims=("unit", "time", "band", "y", "x"), name="chips",
        coords={
            "unit_id": ("unit", keys), "image_key": ("unit", keys), "band": ["grey"],
            "datetime": (by_slot, np.full((len(keys), 1), date)),
            "fractional_year": (by_slot, np.full((len(keys), 1), float(YEAR))),
        },
        attrs={"units": "1"},
    )  # fmt: skip
