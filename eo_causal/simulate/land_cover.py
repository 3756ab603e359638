"""Annual class maps that follow a known Markov chain."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

CELL_M2 = 100.0
DEGREES = 9e-5  # about 10 m at the equator


def land_cover_maps(
    transition: ArrayLike,
    n_years: int,
    seed: int,
    *,
    shape: tuple[int, int] = (300, 300),
    label_error: float = 0.0,
) -> xr.DataArray:
    """Independent pixels through a Markov chain, as a classified map would show them.

    Parameters
    ----------
    transition : (k, k) array
        P_ij, probability that class i is class j one year later.
    n_years : int
        Number of maps, one a year from 2017 on.
    label_error : float
        Share of labels replaced by a random class, anew each year.

    Returns
    -------
    DataArray (time, y, x)
        Codes 1..k as :func:`eo_causal.ingest.land_cover.read_land_cover` returns them, classes
        ``class_1`` .. ``class_k``.
    """
    random = np.random.default_rng(seed)
    p = np.asarray(transition, dtype=float)
    k = len(p)
    upper = np.cumsum(p, axis=1)
    states = [random.integers(0, k, shape)]
    for _ in range(n_years - 1):
        draws = random.random(shape)
        states.append((draws[..., None] > upper[states[-1]]).sum(axis=-1).clip(max=k - 1))
    maps = np.array(states)
    wrong = random.random(maps.shape) < label_error
    maps = np.where(wrong, random.integers(0, k, maps.shape), maps)
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    return xr.DataArray(
        (maps + 1).astype(np.int16), dims=("time", "y", "x"), name="land_cover",
        coords={
            "time": pd.date_range("2017-01-01", periods=n_years, freq="YS", unit="ns"),
            "latitude": ("y", -DEGREES * (rows + 0.5)),
            "longitude": ("x", 122 + DEGREES * (columns + 0.5)),
            "cell_area": ("y", np.full(shape[0], CELL_M2)),
        },
        attrs={
            "units": "1",
            "flag_values": list(range(1, k + 1)),
            "flag_meanings": [f"class_{j}" for j in range(1, k + 1)],
            "undeclared": {},
        },
    )  # fmt: skip
