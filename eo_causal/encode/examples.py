"""Rows to learn from: images with their targets, and which of them stop the training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.random import generator
from eo_causal.encode.base import ChipBatch, to_batch
from eo_causal.errors import DataError, LeakageError

Positions = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Images to learn from, by position in the chips, with their targets.

    Attributes
    ----------
    chips : DataArray (unit, time, band, y, x)
    units : (n,) positions in ``chips``; a position may occur more than once
    target : (n,) or (n, target) float array
    group : (n,) codes of the groups that the validation split keeps whole
    """

    chips: xr.DataArray
    units: Positions
    target: Floats
    group: Positions

    def take(self, rows: Positions | NDArray[np.bool_]) -> "Examples":
        """Some of the rows."""
        return Examples(self.chips, self.units[rows], self.target[rows], self.group[rows])

    def batch(self, rows: Positions) -> ChipBatch:
        """Images of some rows, in memory."""
        return to_batch(self.chips.isel(unit=self.units[rows]).compute())


def read_examples(
    chips: xr.DataArray,
    targets: dict[str, Any],
    units: Positions | None,
    groups: Any,
    in_memory: int,
) -> Examples:
    """Rows that can be learned from, or the error that says why not.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
    targets : dict
        What each is called ("the target") -> (n,) values; several become columns.
    units : (n,) int array or None
        Position of each row's image; all by default.
    groups : (n,) array or None
        By default the image.
    in_memory : int
        Bytes of chips up to which they are read now, once.

    Raises
    ------
    DataError
        Missing or constant targets, wrong positions, rows without a group, a single group.
    LeakageError
        An image in several groups.
    """
    positions = _positions(chips, units)
    ids = np.asarray(chips["unit_id"])[positions].astype(str)
    columns = [_target(values, what, ids) for what, values in targets.items()]
    target = columns[0] if len(columns) == 1 else np.column_stack(columns)
    group = _groups(positions, groups)
    used, rows = np.unique(positions, return_inverse=True)
    part = chips.isel(unit=used)
    if part.nbytes > in_memory:
        return Examples(chips, positions, target, group)
    return Examples(part.compute(), rows, target, group)


def divide(examples: Examples, validation_share: float, seed: int) -> tuple[Examples, Examples]:
    """The training and the validation part: whole groups, drawn at random."""
    n_groups = int(examples.group.max()) + 1
    n_held_out = min(max(1, round(validation_share * n_groups)), n_groups - 1)
    order = generator(seed, "train", "split").permutation(n_groups)
    held_out = np.isin(examples.group, order[:n_held_out])
    return examples.take(~held_out), examples.take(held_out)


def check_varies(target: Floats, what: str) -> None:
    """Refuse a target that is the same everywhere, or of one row only.

    Raises
    ------
    DataError
        Then.
    """
    if len(target) < 2 or (target == target[0]).all():
        raise DataError(
            f"{what} is constant over {len(target)} unit(s). Nothing can be learned from it; add"
            " units, or lower train.validation_share.", n=len(target),
        )  # fmt: skip


def check_binary(target: Floats, what: str) -> None:
    """Refuse values other than 0 and 1.

    Raises
    ------
    DataError
        Then; names the first.
    """
    other = target[~np.isin(target, (0, 1))]
    if len(other):
        raise DataError(f"{what} of 0 and 1, not {other[0]:g}.")


def _positions(chips: xr.DataArray, units: Positions | None) -> Positions:
    n = chips.sizes["unit"]
    positions = np.arange(n) if units is None else np.asarray(units)
    if positions.dtype.kind not in "iu" or not ((positions >= 0) & (positions < n)).all():
        raise DataError(
            f"units are positions from 0 to {n - 1} in the chips, as integers. Use np.flatnonzero"
            " for a mask.", n_units=n,
        )  # fmt: skip
    return positions


def _target(given: Any, what: str, ids: NDArray[np.str_]) -> Floats:
    values = np.asarray(given, dtype=float)
    if values.shape != ids.shape:
        raise DataError(
            f"{what} has shape {values.shape}, not one value for each of {len(ids)} units.",
            shape=values.shape, n_units=len(ids),
        )  # fmt: skip
    missing = ids[~np.isfinite(values)]
    if len(missing):
        raise DataError(
            f"{what} of {len(missing)} unit(s) is missing or infinite (first:"
            f" {', '.join(missing[:3])}). Leave them out.", units=missing.tolist(),
        )  # fmt: skip
    check_varies(values, what)
    return values


def _groups(positions: Positions, groups: Any) -> Positions:
    """Codes of the groups; an image belongs to one of them."""
    codes, names = pd.factorize(positions if groups is None else np.asarray(groups))
    if codes.shape != positions.shape:
        raise DataError(f"groups have shape {codes.shape}, not ({len(positions)},).")
    if (codes < 0).any():
        raise DataError(f"{(codes < 0).sum()} unit(s) have no group. Name one for each.")
    if len(names) < 2:
        raise DataError(
            "all units are in a single group, so none can be held out to stop training. Give"
            " smaller groups."
        )
    shared = pd.Series(codes).groupby(positions).nunique()
    if (shared > 1).any():
        raise LeakageError(
            f"{(shared > 1).sum()} image(s) lie in more than one group. Merge these groups.",
            images=shared.index[shared > 1].tolist(),
        )
    return codes
