"""Folds for cross-fitting that keep together what belongs together."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Folds:
    """Several random splits of the units into folds; one object for every nuisance and network.

    Attributes
    ----------
    table : Dataset
        ``fold_of_unit (split, unit)`` number of the fold a unit is predicted in; ``training (split, fold,
        unit)`` True where a fold's models may learn from the unit; ``group (unit)`` codes of what is
        kept whole.
    kind : str
        ``spatial_block``, ``image_key`` or ``cluster``.
    n_merged : int
        Groups that were joined because their footprints share ground.
    """

    table: xr.Dataset
    kind: str
    n_merged: int

    @property
    def n_splits(self) -> int:
        """Number of splits."""
        return self.table.sizes["split"]

    @property
    def n_folds(self) -> int:
        """Number of folds of a split."""
        return self.table.sizes["fold"]

    @property
    def group(self) -> Positions:
        """(unit,) codes."""
        return self.table["group"].to_numpy()

    def pairs(self, split: int) -> list[tuple[Positions, Positions]]:
        """(training, test) positions of each fold of a split; the tests are a partition."""
        fold = self.table["fold_of_unit"].to_numpy()[split]
        training = self.table["training"].to_numpy()[split]
        return [
            (np.flatnonzero(training[k]), np.flatnonzero(fold == k)) for k in range(self.n_folds)
        ]
