"""Sums of cells per zone and time: one compiled pass over a block, one task a block."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.progress import track
from eo_causal.errors import DataError
from eo_causal.ingest.weighted_median import weighted_lower_median

Floats = NDArray[np.float64]
Reduction = Literal["mean", "geometric_mean", "median", "ratio"]
WAVE = 16  # blocks whose tasks are planned at a time


@dataclass(frozen=True)
class ZonePlan:
    """Which cells of a block enter which zone.

    Attributes
    ----------
    reduction : str
        ``ratio`` compares with ``usual``; the others need it not.
    places : (cell,) array
        Columns of the block that any zone uses.
    entries, starts, weights : arrays
        A (zone, cell) matrix in compressed row form; ``entries`` count in ``places``.
    usual : (cell,) array
        Usual value of every cell, NaN = not known.
    """

    reduction: Reduction
    places: NDArray[np.uint32]
    entries: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    weights: Floats
    usual: Floats


@dataclass(frozen=True)
class BlockSums:
    """What a block says about its zones.

    Attributes
    ----------
    reduced, weight : (time, zone) arrays
        The reduction (for ``ratio`` the share of what is usual), and the weight of valid cells.
    n_valid : (time, zone) array of int
    lowest : (time, zone) array
        Smallest valid value; infinite where there is none.
    ever : (cell,) array of bool
        Which cells of the plan are valid at any time.
    """

    reduced: Floats
    weight: Floats
    n_valid: NDArray[np.int64]
    lowest: Floats
    ever: NDArray[np.bool_]


@dataclass(frozen=True)
class CellSums:
    """Sum and number of valid values of every cell of a plan."""

    total: Floats
    n_valid: NDArray[np.int64]


def sum_zones(block: NDArray[Any], plan: ZonePlan) -> BlockSums:
    """Reduce a block (time, y, x) over zones, in float64 and in the order of the cells."""
    flat = block.reshape(len(block), -1)
    if plan.reduction == "geometric_mean":
        if (flat <= 0).any():
            raise DataError(
                "a geometric mean needs positive values. Use another zone_means.method."
            )
        flat = np.log(flat)
    shape = (len(block), len(plan.starts) - 1)
    total, weight, expected = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    n_valid, lowest = np.zeros(shape, dtype=np.int64), np.full(shape, np.inf)
    ever = np.zeros(flat.shape[1], dtype=bool)
    grid = (plan.starts, plan.places[plan.entries], plan.weights)
    _sum_kernel()(flat, *grid, ever, total, weight, n_valid, lowest)
    if plan.reduction == "ratio":
        _usual_kernel()(flat, *grid, plan.usual[plan.entries], total, expected)
        values = share(total, expected)
    elif plan.reduction == "median":
        gathered = flat[:, plan.places]
        values = weighted_lower_median(gathered, plan.starts, plan.entries, plan.weights)
    else:
        mean = share(total, weight)
        values = np.exp(mean) if plan.reduction == "geometric_mean" else mean
    if plan.reduction == "geometric_mean":
        lowest = np.exp(lowest)
    return BlockSums(values, weight, n_valid, lowest, ever[plan.places])


def sum_cells(block: NDArray[Any], plan: ZonePlan) -> CellSums:
    """Sum a block (time, y, x) over time for every cell of the plan.

    Numbers enter as float32: their sums are exact in float64 while they lie within twenty powers of
    two, so blocks of any length give the same total.
    """
    gathered = block.reshape(len(block), -1)[:, plan.places].astype(np.float32)
    valid = np.isfinite(gathered)
    total = np.where(valid, gathered, np.float32(0)).sum(axis=0, dtype=float)
    return CellSums(total, valid.sum(axis=0))


def over_blocks(cube: xr.DataArray, function: Any, plan: ZonePlan) -> Iterator[Any]:
    """``function(block, plan)`` for every time block of a cube whose blocks are whole in space.

    One task a block: only its small result travels.
    """
    if not cube.chunks:
        yield function(cube.to_numpy(), plan)
        return
    from dask import base
    from dask.delayed import delayed

    blocks = cube.data.to_delayed().ravel()
    shared = delayed(plan, pure=False)
    task = delayed(function, pure=False)
    waves = [blocks[start : start + WAVE] for start in range(0, len(blocks), WAVE)]
    for wave in track(waves, "zone means"):
        yield from base.compute(*(task(block, shared) for block in wave))


def share(total: Floats, weight: Floats) -> Floats:
    """Total over weight, NaN where there is no weight."""
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight != 0)


@functools.cache
def _sum_kernel() -> Any:
    import numba

    @numba.njit(cache=False)
    def add(
        block: Any, starts: Any, cells: Any, weights: Any, ever: Any, total: Any, weight: Any,
        n_valid: Any, lowest: Any,
    ) -> None:  # fmt: skip
        for t in range(block.shape[0]):
            month = block[t]
            for zone in range(len(starts) - 1):
                sum_x, sum_w, n, low = 0.0, 0.0, 0, np.inf
                for k in range(starts[zone], starts[zone + 1]):
                    value = np.float64(month[cells[k]])
                    if value == value:
                        sum_x += weights[k] * value
                        sum_w += weights[k]
                        n += 1
                        low = min(low, value)
                        ever[cells[k]] = True
                total[t, zone], weight[t, zone], n_valid[t, zone] = sum_x, sum_w, n
                lowest[t, zone] = low

    return add


@functools.cache
def _usual_kernel() -> Any:
    import numba

    @numba.njit(cache=False)
    def add(
        block: Any, starts: Any, cells: Any, weights: Any, usual: Any, total: Any, expected: Any
    ) -> None:
        for t in range(block.shape[0]):
            month = block[t]
            for zone in range(len(starts) - 1):
                sum_x, sum_c = 0.0, 0.0
                for k in range(starts[zone], starts[zone + 1]):
                    value = np.float64(month[cells[k]])
                    if value == value and usual[k] == usual[k]:
                        sum_x += weights[k] * value
                        sum_c += weights[k] * usual[k]
                total[t, zone], expected[t, zone] = sum_x, sum_c

    return add
