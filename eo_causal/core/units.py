"""Study units: what is known of each, in the form every estimator and audit takes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.progress import count


@dataclass(frozen=True)
class StudyUnits:
    """Units with treatment and outcome, one row each.

    Attributes
    ----------
    table : DataFrame
        ``unit_id`` and ``image_key`` (text), ``treatment`` (0 or 1; NaN in a survey), ``outcome``,
        ``cluster`` (text: units whose errors may depend on one another), ``easting`` and ``northing``
        (metres of a local projection; NaN where units have no place).
    covariates : DataFrame
        Numeric, in the order of ``table``; NaN = missing. No column where there are none.
    """

    table: pd.DataFrame
    covariates: pd.DataFrame

    @property
    def treatment(self) -> NDArray[np.float64]:
        """(unit,) 0 or 1."""
        return self.table["treatment"].to_numpy(dtype=float)

    @property
    def outcome(self) -> NDArray[np.float64]:
        """(unit,)."""
        return self.table["outcome"].to_numpy(dtype=float)

    @property
    def cluster(self) -> NDArray[np.intp]:
        """(unit,) codes 0, 1, ... in the order of first appearance."""
        return np.asarray(pd.factorize(self.table["cluster"])[0], dtype=np.intp)

    @property
    def coordinates(self) -> NDArray[np.float64] | None:
        """(unit, 2) easting and northing, metres; None where a unit has no place."""
        places = self.table[["easting", "northing"]].to_numpy(dtype=float)
        return places if len(places) and np.isfinite(places).all() else None

    def __len__(self) -> int:
        return len(self.table)

    def image_of(self, image_keys: NDArray[np.str_]) -> NDArray[np.intp]:
        """(unit,) position of each unit's image among ``image_keys``; -1 where it has none."""
        return pd.Index(image_keys).get_indexer(self.table["image_key"])


def units_with_images(units: StudyUnits, image_keys: list[str]) -> StudyUnits:
    """The units whose image is among ``image_keys``; the others are counted as left out."""
    has = units.image_of(np.asarray(image_keys, dtype=str)) >= 0
    count(units=int(has.sum()), units_without_image=int((~has).sum()))
    parts = (units.table[has], units.covariates[has])
    return StudyUnits(*(part.reset_index(drop=True) for part in parts))
