"""Which pixels move a prediction: gradients, occlusion, and a check that the map is of the model."""

import copy
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.progress import track
from eo_causal.encode.base import ChipBatch, batches, check_chips
from eo_causal.encode.train import TrainedNetwork
from eo_causal.errors import ConfigError, DataError, EOCausalWarning

Floats = NDArray[np.float64]
Predict = Callable[[xr.DataArray], Floats]
Models = Sequence[tuple[TrainedNetwork, NDArray[np.intp]]]
FLOOR = 1e-6  # so that the logarithm of a magnitude exists


def gradient_salience(models: Models, chips: xr.DataArray) -> xr.Dataset:
    """Change of what a network explains with each pixel, averaged over models that did not see the unit.

    Parameters
    ----------
    models : sequence of (TrainedNetwork, positions)
        Each fold's network with the positions in ``chips`` of the units it did not see.
    chips : DataArray (unit, time, band, y, x)

    Returns
    -------
    Dataset (unit, time, y, x)
        ``magnitude`` = L2 over bands + 1e-6 and ``direction`` = mean over bands of
        d output / d pixel: logits (of treatment, or ``log_loss``) or units of the target or of the
        effect, per unit of the chips. An invalid pixel moves nothing.

    Raises
    ------
    DataError
        A unit that every model saw.

    Notes
    -----
    arXiv 2301.12985, section on salience.
    """
    check_chips(chips)
    total = np.zeros(chips.shape)
    count = np.zeros(chips.sizes["unit"])
    for network, unseen in track(models, "Salience"):
        start = 0
        for batch in batches(chips, unseen):
            rows = unseen[start : start + len(batch.unit_ids)]
            total[rows] += pixel_gradient(network, batch)
            start += len(rows)
        count[unseen] += 1
    if not (count > 0).all():
        ids = np.asarray(chips["unit_id"])[count == 0].astype(str)
        raise DataError(
            f"{len(ids)} unit(s) were seen by every model (first: {', '.join(ids[:3])}). Explain"
            " each unit by models of folds that left it out.", units=ids.tolist(),
        )  # fmt: skip
    gradient = total / count[:, None, None, None, None]
    maps = {
        "magnitude": np.sqrt((gradient**2).sum(axis=2)) + FLOOR,
        "direction": gradient.mean(axis=2),
    }
    kept = {name: item for name, item in chips.coords.items() if "band" not in item.dims}
    dims = ("unit", "time", "y", "x")
    return xr.Dataset({name: (dims, values) for name, values in maps.items()}, coords=kept)


def pixel_gradient(network: TrainedNetwork, batch: ChipBatch) -> Floats:
    """d output / d pixel, (unit, time, band, y, x), of a network in evaluation mode."""
    import torch

    from eo_causal.encode.loop import tensors

    values, frames = network.inputs(batch)
    inputs, *rest = tensors(values, frames, batch.years, network.settings)
    inputs.requires_grad_()
    output = network.module()(inputs, *rest)
    gradient = (
        torch.autograd.grad(network.explained(output).sum(), inputs)[0].cpu().numpy().astype(float)
    )
    scale = network.output_scale / network.normalisation_.sd[:, None, None]
    return np.where(np.isfinite(batch.values), gradient * scale, 0.0)


def occlusion_salience(
    predict: Predict, chips: xr.DataArray, window: int = 8, stride: int | None = None
) -> xr.DataArray:
    """How far a prediction falls when a window is hidden, for any predictor.

    Parameters
    ----------
    predict : callable
        Chips to (unit,) predictions.
    chips : DataArray (unit, time, band, y, x)
    window : int
        Side of the hidden square, pixels; it is hidden in all frames, behind the mean of its band
        and frame.
    stride : int, optional
        Step between windows; half a window by default.

    Returns
    -------
    DataArray (unit, y, x)
        Prediction minus the prediction without the window, mean over the windows that hold the
        pixel. Positive: what is there raises the prediction.

    Raises
    ------
    ConfigError
        A stride that leaves pixels out.
    """
    check_chips(chips)
    n_units, height, width = (chips.sizes[name] for name in ("unit", "y", "x"))
    step = max(window // 2, 1) if stride is None else stride
    if not 1 <= step <= window:
        raise ConfigError(
            f"salience: a stride of {step} px leaves pixels between windows of {window} px. Choose"
            f" one from 1 to {window}.", stride=step, window=window,
        )  # fmt: skip
    whole, mean = predict(chips), chips.mean(("y", "x"))
    total, count = np.zeros((n_units, height, width)), np.zeros((height, width))
    for top, left in track(_corners(height, width, window, step), "Occlusion"):
        rows, columns = slice(top, top + window), slice(left, left + window)
        hidden = xr.zeros_like(chips.isel(unit=0, time=0, band=0, drop=True), dtype=bool)
        hidden[rows, columns] = True
        occluded = chips.where(~hidden | chips.isnull(), mean).transpose(*chips.dims)
        fall = whole - predict(occluded.astype(np.float32))
        total[:, rows, columns] += fall[:, None, None]
        count[rows, columns] += 1
    kept = {name: item for name, item in chips.coords.items() if item.dims == ("unit",)}
    return xr.DataArray(total / count, dims=("unit", "y", "x"), coords=kept, name="occlusion")


def check_salience(
    models: TrainedNetwork | Models, chips: xr.DataArray, seed: int = 0, largest: float = 0.5
) -> float:
    """Does the map depend on what the networks learned?

    Parameters
    ----------
    models : TrainedNetwork, or a sequence as of :func:`gradient_salience`
    chips : DataArray (unit, time, band, y, x)
    seed : int
        Of the random weights.
    largest : float
        Correlation from which a map says too little about the network.

    Returns
    -------
    float
        Correlation of the magnitudes with those of the same networks with random weights, mean over
        units. A warning ``SalienceWarning`` when it is not below ``largest``.
    """
    n_units = chips.sizes["unit"]
    if isinstance(models, TrainedNetwork):
        models = [(models, np.arange(n_units))]
    others = [(_randomised(network, seed), unseen) for network, unseen in models]
    maps = [gradient_salience(each, chips)["magnitude"].to_numpy() for each in (models, others)]
    trained, random = (found.reshape(n_units, -1) for found in maps)
    correlation = float(
        np.mean([_correlation(*pair) for pair in zip(trained, random, strict=True)])
    )
    if not correlation < largest:
        warnings.warn(
            EOCausalWarning(
                f"salience maps correlate {correlation:.2f} with those of random weights (limit"
                f" {largest:g}): they show the images more than the network. Do not read them as"
                " explanations.", "SalienceWarning",
            ),
            stacklevel=2,
        )  # fmt: skip
    return correlation


def drawn(direction: Floats) -> Floats:
    """Directions as they are drawn: sign x log(1 + |s|), s in sd of the positive ones.

    arXiv 2301.12985. Unscaled where the positive ones do not vary.
    """
    positive = direction[direction > 0]
    spread = positive.std() if len(positive) else 0.0
    scaled = direction / spread if spread > 0 else direction
    return np.sign(scaled) * np.log1p(np.abs(scaled))


def _corners(height: int, width: int, window: int, step: int) -> list[tuple[int, int]]:
    """Upper left corners of windows that cover every pixel."""
    tops, lefts = (
        sorted({*range(0, max(size - window, 0), step), max(size - window, 0)})
        for size in (height, width)
    )
    return [(top, left) for top in tops for left in lefts]


def _randomised(network: TrainedNetwork, seed: int) -> TrainedNetwork:
    from eo_causal.encode.loop import fresh, weights_of

    other = copy.copy(network)
    settings = network.settings.model_copy(update={"seed": seed + 2**31})
    other.state_ = weights_of(fresh(settings, len(network.bands_)))
    return other


def _correlation(first: Floats, second: Floats) -> float:
    """NaN where a map is constant."""
    if not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
