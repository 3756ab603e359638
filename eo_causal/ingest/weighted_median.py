"""Weighted lower median of cells per zone and time, compiled."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray


def weighted_lower_median(
    block: NDArray[Any],
    indptr: NDArray[Any],
    indices: NDArray[Any],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Smallest value at which at least half of the valid weight is reached.

    Parameters
    ----------
    block : (time, cell) array
        NaN = invalid.
    indptr, indices, weights : arrays
        A (zone, cell) sparse matrix in compressed row form.

    Returns
    -------
    (time, zone) array
        NaN where nothing is valid.
    """
    return _kernel()(block, indptr, indices, weights)


@functools.cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=False)
    def median(block: Any, indptr: Any, indices: Any, weights: Any) -> Any:
        n_zones = len(indptr) - 1
        result = np.full((block.shape[0], n_zones), np.nan)
        for zone in range(n_zones):
            first, last = indptr[zone], indptr[zone + 1]
            values, mass = np.empty(last - first), np.empty(last - first)
            for t in range(block.shape[0]):
                n, total = 0, 0.0
                for k in range(first, last):
                    value = block[t, indices[k]]
                    if not np.isnan(value):
                        values[n], mass[n] = value, weights[k]
                        total += weights[k]
                        n += 1
                if n:
                    result[t, zone] = _select(values[:n], mass[:n], total / 2)
        return result

    @numba.njit(cache=False)
    def _select(values: Any, mass: Any, half: float) -> float:
        """Quickselect by weight; reorders its arguments."""
        low, high, below = 0, len(values) - 1, 0.0
        while low < high:
            pivot = values[(low + high) // 2]
            i, j, left = low, high, 0.0
            while i <= j:
                while values[i] < pivot:
                    left += mass[i]
                    i += 1
                while values[j] > pivot:
                    j -= 1
                if i <= j:
                    values[i], values[j] = values[j], values[i]
                    mass[i], mass[j] = mass[j], mass[i]
                    left += mass[i]
                    i += 1
                    j -= 1
            lower = 0.0
            for k in range(low, j + 1):
                lower += mass[k]
            if below + lower >= half:
                high = j
            else:
                below += lower
                between = 0.0
                for k in range(j + 1, i):
                    between += mass[k]
                if below + between >= half:
                    return pivot
                below += between
                low = i
        return values[low]

    return median
