"""NASA level-3 binned files: sums in bins of an integerised sinusoidal grid, onto a regular grid.

Rows of bins have equal height; a row holds as many bins of about equal area as fit. A cell of the
regular grid takes the bin its centre lies in, so values are never mixed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.core.settings import Bounds
from eo_causal.errors import IntegrityError, ReadError
from eo_causal.ingest.read import Header, read_raw

GROUP = "level-3_binned_data"
_BOOKKEEPING = ("BinList", "BinIndex")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class BinGrid:
    """Rows of bins from south to north.

    Attributes
    ----------
    bins_in_row : (row,) array
        Number of bins; bins are numbered from 1, west to east, row by row.
    """

    bins_in_row: Integers

    @property
    def first_bin(self) -> Integers:
        """Number of the first bin of every row."""
        return 1 + np.concatenate([[0], np.cumsum(self.bins_in_row)[:-1]])

    def centres(self, bins: Integers) -> tuple[Floats, Floats]:
        """Latitude and longitude of bin centres, degrees."""
        n_rows = len(self.bins_in_row)
        row = np.searchsorted(self.first_bin, bins, side="right") - 1
        latitude = (row.astype(float) + 0.5) * 180 / n_rows - 90
        column = bins - self.first_bin[row]
        longitude = (column.astype(float) + 0.5) * 360 / self.bins_in_row[row] - 180
        return latitude, longitude

    def bin_at(self, latitude: Floats, longitude: Floats) -> Integers:
        """Number of the bin that holds each point."""
        n_rows = len(self.bins_in_row)
        row = np.clip(((latitude + 90) * n_rows / 180).astype(np.int64), 0, n_rows - 1)
        in_row = self.bins_in_row[row]
        column = np.clip(((longitude + 180) * in_row / 360).astype(np.int64), 0, in_row - 1)
        return self.first_bin[row] + column


@dataclass(frozen=True)
class BinnedArray:
    """One variable of a binned file on a regular grid; decodes itself when it is sliced.

    Attributes
    ----------
    path : Path
    variable : str
        Name inside the group.
    latitude, longitude : arrays
        Cell centres, degrees; latitude decreasing.
    """

    path: Path
    variable: str
    latitude: Floats
    longitude: Floats

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type after decoding."""
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """Time, y, x."""
        return 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """One time step, rows, columns."""
        return 1, len(self.latitude), len(self.longitude)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        bins, values, grid = read_bins(self.path, self.variable)
        rows, columns = self.latitude[key[1]], self.longitude[key[2]]
        wanted = grid.bin_at(*np.meshgrid(rows, columns, indexing="ij"))
        found = np.searchsorted(bins, wanted)
        hit = (found < len(bins)) & (bins[np.minimum(found, len(bins) - 1)] == wanted)
        cells = np.where(hit, values[np.minimum(found, len(bins) - 1)], np.nan)
        return cells.astype(np.float32)[None][key[0]]


def read_bins(path: Path, variable: str) -> tuple[Integers, Floats, BinGrid]:
    """Filled bins, their means (sum over weights), and the grid they belong to.

    Raises
    ------
    ReadError
        The bins cannot be decoded.
    IntegrityError
        Bin numbers lie outside the grid, or the file holds no bin.
    """
    listed = read_raw(path, "netcdf", f"{GROUP}/BinList")
    index = read_raw(path, "netcdf", f"{GROUP}/BinIndex")
    sums = read_raw(path, "netcdf", f"{GROUP}/{variable}")["sum"].astype(float)
    grid = BinGrid(index["max"].astype(np.int64))
    bins = listed["bin_num"].astype(np.int64)
    if not len(bins) or bins.min() < 1 or bins.max() > grid.bins_in_row.sum():
        raise IntegrityError(
            f"{path}: its {len(bins)} bin numbers do not fit its grid of {grid.bins_in_row.sum():,}"
            " bins. Fetch the file again.", path=str(path),
        )  # fmt: skip
    weights = listed["weights"].astype(float)
    means = np.divide(sums, weights, out=np.full(len(bins), np.nan), where=weights > 0)
    order = np.argsort(bins)
    return bins[order], means[order], grid


def find_binned(header: Header, wanted: list[str]) -> str:
    """The first of the wanted variables among the binned ones.

    Raises
    ------
    ReadError
        None of them; lists those there are.
    """
    prefix = f"{GROUP}/"
    have = [name.removeprefix(prefix) for name in header.variables if name.startswith(prefix)]
    have = [name for name in have if name not in _BOOKKEEPING]
    for name in wanted:
        for found in have:
            if found.lower() == name.lower():
                return found
    raise ReadError(
        f"{header.path}: has no binned variable {' or '.join(wanted)} (it has {', '.join(have)})."
        " Name one of them.", path=str(header.path), wanted=wanted,
    )  # fmt: skip


def binned_grid(header: Header, bounds: Bounds | None) -> tuple[Floats, Floats]:
    """Cell centres of a regular grid as fine as the rows of bins, over the bounds or the globe."""
    n_rows = header.variables[f"{GROUP}/BinIndex"].shape[0]
    step = 180 / n_rows
    west, south, east, north = bounds or (-180.0, -90.0, 180.0, 90.0)
    latitude = 90 - (np.arange(n_rows, dtype=np.float64) + 0.5) * step
    longitude = (np.arange(2 * n_rows, dtype=np.float64) + 0.5) * step - 180
    return (
        latitude[(latitude >= south) & (latitude <= north)],
        longitude[(longitude >= west) & (longitude <= east)],
    )


def binned_units(header: Header, variable: str) -> str:
    """Units of one variable from the packed global attribute ``var:unit,var:unit``."""
    pairs = (item.partition(":") for item in str(header.attrs.get("units", "")).split(","))
    return next((unit for name, _, unit in pairs if name.strip() == variable), "")
