"""The score of a density: d log p / dx on a uniform grid, by linear binning and a Fourier transform.

A kernel estimate at each of n points costs n^2; on a grid it costs one transform, and no log density is
differenced.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eo_causal.debias.base import quantiles
from eo_causal.debias.pairs import Floats
from eo_causal.errors import DegenerateError

Bandwidth = Literal["robust_silverman", "scott", "gaussian"]
N_NODES = 4096
REACH = 5.0  # bandwidths that the grid goes beyond the data
COARSEST = 0.25  # bandwidths that a step may have
NORMAL_IQR = 1.349  # interquartile range of a standard normal
EMPTY = 1e-9  # share of the peak below which a density is rounding error of the transform


@dataclass(frozen=True)
class Grid:
    """Nodes start, start + step, ..."""

    start: float
    step: float
    n: int = N_NODES

    @property
    def nodes(self) -> Floats:
        """(n,) places of the nodes."""
        return np.asarray(self.start + self.step * np.arange(self.n))


def bandwidth_of(values: Floats, weight: Floats, rule: Bandwidth) -> float:
    """Width h of the Gaussian kernel, in units of the values.

    Parameters
    ----------
    values, weight : (n,) array
        Weights sum to 1; n is the effective number of rows, 1 / sum(weight^2).
    rule : str
        ``scott``: sd n^(-1/5). ``robust_silverman``: 0.9 min(sd, IQR/1.349) n^(-1/5), and never less
        than half of Scott's. ``gaussian`` has no kernel; the grid is then laid by Scott's rule.

    Notes
    -----
    Scott's rule over-smooths skewed maps, and a score that is too noisy inflates corrections.
    """
    concentration = float(weight @ weight)
    variance = float(weight @ (values - weight @ values) ** 2) / (1 - concentration)
    scott = float(np.sqrt(variance)) * concentration**0.2
    if rule != "robust_silverman":
        return scott
    low, high = quantiles(values, weight, (0.25, 0.75))
    robust = 0.9 * min(1.0, (high - low) / NORMAL_IQR / np.sqrt(variance)) * scott
    return max(float(robust), 0.5 * scott)


def make_grid(values: Floats, bandwidth: float) -> Grid:
    """A grid over the data and five bandwidths more at both ends.

    Raises
    ------
    DegenerateError
        Steps would be wide beside the bandwidth: a few values lie very far from all others.
    """
    start = float(values.min()) - REACH * bandwidth
    step = (float(values.max()) + REACH * bandwidth - start) / (N_NODES - 1)
    if not step <= COARSEST * bandwidth:
        raise DegenerateError(
            f"The predictions span {np.ptp(values):.3g}, which is {np.ptp(values) / bandwidth:.0f}"
            f" bandwidths of {bandwidth:.3g}: a few lie very far from all others and their density has"
            " no usable score. Leave them out, or use linear calibration.",
            step=step, bandwidth=bandwidth,
        )  # fmt: skip
    return Grid(start, step)


def bin_linearly(values: Floats, mass: Floats, grid: Grid) -> Floats:
    """(node,) mass, each value's shared between its two neighbours."""
    place = (values - grid.start) / grid.step
    left = np.clip(place.astype(np.intp), 0, grid.n - 2)
    right_share = place - left
    total = np.bincount(left, mass * (1 - right_share), minlength=grid.n)
    total[1:] += np.bincount(left, mass * right_share, minlength=grid.n)[:-1]
    return total


def smooth(binned: Floats, grid: Grid, bandwidth: float) -> tuple[Floats, Floats]:
    """Kernel sum of binned masses, and its derivative, at the nodes (Gaussian factor, times i omega).

    Linear binning itself smooths, by a triangle as wide as two steps; its transform is divided out.
    """
    omega = 2 * np.pi * np.fft.rfftfreq(grid.n, grid.step)
    triangle = np.sinc(omega * grid.step / (2 * np.pi)) ** 2
    transform = np.fft.rfft(binned) * np.exp(-0.5 * (bandwidth * omega) ** 2) / triangle
    level = np.fft.irfft(transform, grid.n) / grid.step
    derivative = np.fft.irfft(1j * omega * transform, grid.n) / grid.step
    return level, derivative


def grid_score(values: Floats, weight: Floats, bandwidth: float, grid: Grid) -> Floats:
    """(node,) score of the kernel density; between the data, where it is 0, that of a Gaussian.

    Raises
    ------
    DegenerateError
        A score that is not finite.
    """
    density, derivative = smooth(bin_linearly(values, weight, grid), grid, bandwidth)
    return over_density(derivative, density, gaussian_score(grid.nodes, values, weight))


def over_density(numerator: Floats, density: Floats, where_empty: Floats) -> Floats:
    """numerator / density, and ``where_empty`` where there is no density."""
    dense = density > EMPTY * density.max()
    found = np.divide(numerator, density, out=where_empty.copy(), where=dense)
    if not np.isfinite(found).all():
        n_bad = int((~np.isfinite(found)).sum())
        raise DegenerateError(
            f"The score of the predictions' density is not finite at {n_bad} of {len(found)} nodes."
            " Use linear calibration.",
            n=n_bad,
        )
    return found


def gaussian_score(places: Floats, values: Floats, weight: Floats) -> Floats:
    """-(x - mean) / variance of the values: the tail rule, and the option ``gaussian``."""
    mean = float(weight @ values)
    return -(places - mean) / float(weight @ (values - mean) ** 2)
