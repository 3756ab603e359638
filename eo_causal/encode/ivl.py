"""Augmentation parameters as instruments: the IVL loss for predictors of a label.

Conditions of acquisition (haze, season, sensor) that go with the label mislead a predictor image ->
label. Random augmentations that leave the label alone act like an instrument: what the residual
shares with their parameters is not the label's. IVL is no estimator of programme effects.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
Images = NDArray[np.float32]
AIRLIGHT = 2.0  # what haze hides an image behind: bright, the same in all bands, in sd of a band
RANK_TOLERANCE = 1e-8


class InstrumentSettings(Settings):
    """Augmentations that leave the label alone; a choice about the label, so none by default.

    Zoom, heavy crops, hue where an index is the signal, and shuffled frames are not offered.
    """

    rotations: bool = Field(default=False, description="quarter turns; half turns of oblong chips")
    flips: bool = Field(default=False, description="left and right")
    shift: int = Field(default=0, ge=0, description="largest shift, pixels")
    gain: float = Field(default=0.0, ge=0, lt=1, description="largest relative gain of a band")
    offset: float = Field(default=0.0, ge=0, description="largest offset of a band, in its sd")
    haze: float = Field(default=0.0, ge=0, lt=1, description="largest share hidden by haze")
    blur: float = Field(default=0.0, ge=0, le=1, description="largest share of a 3 x 3 mean")


def augment(
    values: Images, settings: InstrumentSettings, random: np.random.Generator
) -> tuple[Images, Floats]:
    """Randomly changed images, and the parameters of the change.

    Parameters
    ----------
    values : (unit, time, band, y, x) float32 array
        Normalised, without NaN. All frames of a unit change alike.

    Returns
    -------
    values : array of the same shape
    instruments : (unit, parameter) array
        The rows G of the loss: turns (one column each), flip, shifts, gains, offsets, haze, blur.
    """
    n, n_bands = len(values), values.shape[2]
    columns: list[Floats] = []
    if settings.rotations or settings.flips:
        values, rows = turn_and_flip(values, settings.rotations, settings.flips, random)
        columns.append(rows)
    if settings.shift:
        steps = random.integers(-settings.shift, settings.shift + 1, (n, 2))
        values = _shifted(values, steps, settings.shift)
        columns.append(steps.astype(float))
    if settings.gain:
        gain = random.uniform(-settings.gain, settings.gain, (n, n_bands))
        values = values * (1 + _spread(gain))
        columns.append(gain)
    if settings.offset:
        offset = random.uniform(-settings.offset, settings.offset, (n, n_bands))
        values = values + _spread(offset)
        columns.append(offset)
    if settings.haze:
        share = random.uniform(0, settings.haze, (n, 1))
        values = values + _spread(share) * (AIRLIGHT - values)
        columns.append(share)
    if settings.blur:
        share = random.uniform(0, settings.blur, (n, 1))
        values = values + _spread(share) * (_smoothed(values) - values)
        columns.append(share)
    return values, np.column_stack([np.empty((n, 0)), *columns])


def turn_and_flip(
    values: Images, rotations: bool, flips: bool, random: np.random.Generator
) -> tuple[Images, Floats]:
    """Turned and mirrored images with the parameters: three columns of turns, one of flips."""
    n, square = len(values), values.shape[-1] == values.shape[-2]
    turns = random.integers(0, 4, n) if square else 2 * random.integers(0, 2, n)
    flipped = random.random(n) < 0.5
    turns, flipped = turns * rotations, flipped & flips
    changed = values.copy()
    for i in range(n):
        image = np.rot90(values[i], turns[i], axes=(-2, -1))
        changed[i] = image[..., ::-1] if flipped[i] else image
    columns = [turns == 1, turns == 2, turns == 3] * rotations + [flipped] * flips
    return changed, np.column_stack(columns).astype(float)


def instrument_basis(instruments: Floats) -> Floats:
    """Orthonormal basis B of the centred instruments, so that Pi = B B'.

    Raises
    ------
    ConfigError
        Fewer than two rows a parameter: the projection would keep noise, not a relation.
    """
    n, n_parameters = instruments.shape
    if n < 2 * n_parameters:
        raise ConfigError(
            f"{n} images cannot carry {n_parameters} augmentation parameters. Raise"
            f" train.batch_size to {2 * n_parameters} or more (a hold-out counts too), or switch"
            " augmentations off under train.instruments.",
            n=n, n_parameters=n_parameters,
        )  # fmt: skip
    q, r = np.linalg.qr(instruments - instruments.mean(axis=0))
    turned, size, _ = np.linalg.svd(r)
    kept = size > RANK_TOLERANCE * max(float(size.max(initial=0.0)), RANK_TOLERANCE)
    return q @ turned[:, kept]


def ivl_loss(residual: Any, basis: Any, alpha: float) -> Any:
    """r' Pi r / n + alpha r'r / n (the batch form of IVL) of (n,) residuals, arrays or tensors.

    The quadratic form, not a projection of squared errors: that would be the plain squared error.
    """
    return ((basis.T @ residual) ** 2).sum() / len(residual) + alpha * (residual**2).mean()


def fit_linear_ivl(images: Floats, target: Floats, instruments: Floats, alpha: float) -> Floats:
    """The linear predictor of smallest IVL loss: least squares of K y on K X, K^2 = alpha I + Pi.

    Parameters
    ----------
    images : (n, feature) array
        Augmented; centre them and the target where there is an intercept.
    target : (n,) array
    instruments : (n, parameter) array
    alpha : float
        Near 0 two-stage least squares, large least squares on augmented images.

    Raises
    ------
    ConfigError
        alpha not above 0, or too many parameters.
    """
    basis = instrument_basis(instruments)
    left, right = weighted(images, basis, alpha), weighted(target, basis, alpha)
    return np.linalg.lstsq(left, right, rcond=None)[0]


def weighted(values: Floats, basis: Floats, alpha: float) -> Floats:
    """K v with K = sqrt(alpha) I + (sqrt(1 + alpha) - sqrt(alpha)) Pi."""
    if not alpha > 0:
        raise ConfigError(f"train.alpha must be above 0, not {alpha}.", alpha=alpha)
    small, large = np.sqrt(alpha), np.sqrt(1 + alpha)
    return small * values + (large - small) * (basis @ (basis.T @ values))


def alpha_draws(random: np.random.Generator, n: int = 10) -> Floats:
    """Candidates for alpha, log-uniform between 1e-4 and 1."""
    return np.exp(random.uniform(np.log(1e-4), 0.0, n))


def choose_linear_alpha(
    images: Floats, target: Floats, instruments: Floats, random: np.random.Generator
) -> float:
    """The alpha, of ten draws, whose fit on 80 % predicts the other 20 %, augmented too, best.

    Plain cross-validation leans to large alphas, because what is confounded predicts well. Judging
    by r' Pi r alone would lean to predictors that say nothing.
    """
    held_out = random.permutation(len(target)) < 0.2 * len(target)
    fitted = ~held_out

    def risk(alpha: float) -> float:
        coefficient = fit_linear_ivl(images[fitted], target[fitted], instruments[fitted], alpha)
        return float(((target[held_out] - images[held_out] @ coefficient) ** 2).mean())

    return float(min(alpha_draws(random), key=risk))


def check_invariance(
    predict: Callable[[Images], Floats],
    values: Images,
    settings: InstrumentSettings,
    random: np.random.Generator,
    tolerance: float = 0.1,
) -> float:
    """Does a label model say the same of an image and of the image changed?

    Parameters
    ----------
    predict : callable
        A label model that saw none of these images, and that is trusted under these conditions (a
        model misled by haze fails here because it is misled): (unit, time, band, y, x) -> (unit,).
    values : (unit, time, band, y, x) float32 array
        Normalised, without NaN.
    tolerance : float
        Largest admissible change, in standard deviations of the predictions.

    Returns
    -------
    float
        Mean absolute change of the paired predictions, in their standard deviations.

    Raises
    ------
    ConfigError
        The change is above the tolerance (the augmentations move the label), or the predictions
        are constant and prove nothing.
    """
    before = predict(values)
    after = predict(augment(values, settings, random)[0])
    spread = before.std()
    change = float(np.abs(after - before).mean() / spread) if spread > 0 else np.inf
    if not change <= tolerance:
        raise ConfigError(
            f"train.instruments move the label: predictions change by {change:.2g} standard"
            f" deviations, more than {tolerance:g}. Switch off the augmentations the label depends"
            " on.", change=change, tolerance=tolerance,
        )  # fmt: skip
    return change


def _spread(parameter: Floats) -> Images:
    """(unit, band) or (unit, 1) parameters over (unit, time, band, y, x)."""
    return parameter.astype(np.float32)[:, None, :, None, None]


def _shifted(values: Images, steps: NDArray[np.int64], largest: int) -> Images:
    """Whole-pixel shifts; the edge repeats what it mirrors."""
    height, width = values.shape[-2:]
    edge = [(0, 0)] * 3 + [(largest, largest)] * 2
    wide = np.pad(values, edge, mode="symmetric")
    moved = np.empty_like(values)
    for i, (down, right) in enumerate(steps):
        top, left = largest - down, largest - right
        moved[i] = wide[i, ..., top : top + height, left : left + width]
    return moved


def _smoothed(values: Images) -> Images:
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(values, size=3, axes=(-2, -1), mode="reflect"))
