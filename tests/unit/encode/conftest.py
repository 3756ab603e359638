"""Chips for the tests of encoders."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr


def chips_of(values, years=None, bands=None) -> xr.DataArray:
    """Chips from (unit, time, band, y, x) values; years default to 2001, 2002, ..."""
    values = np.asarray(values, dtype=np.float32)
    n_units, n_frames, n_bands = values.shape[:3]
    if years is None:
        years = np.broadcast_to(2001.0 + np.arange(n_frames), (n_units, n_frames))
    return xr.DataArray(
        values, dims=("unit", "time", "band", "y", "x"), name="chips",
        coords={
            "unit_id": ("unit", [f"unit-{number}" for number in range(n_units)]),
            "band": list(bands or ("red", "green", "blue", "nir", "swir1", "swir2")[:n_bands]),
            "fractional_year": (("unit", "time"), np.array(years, dtype=float)),
        },
    )  # fmt: skip


@pytest.fixture
def make_chips() -> Callable[..., xr.DataArray]:
    """``chips_of(values, years, bands)``."""
    return chips_of


@pytest.fixture
def random_chips() -> Callable[..., xr.DataArray]:
    """Gaussian chips: ``random_chips(n_units=4, n_frames=1, n_bands=3, size=32, seed=0)``."""

    def make(n_units=4, n_frames=1, n_bands=3, size=32, seed=0) -> xr.DataArray:
        random = np.random.default_rng(seed)
        values = random.normal(0.3, 0.1, (n_units, n_frames, n_bands, size, size))
        return chips_of(values)

    return make
