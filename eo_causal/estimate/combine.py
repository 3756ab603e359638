"""From estimates on several splits to one answer with an honest error."""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eo_causal.core.units import StudyUnits
from eo_causal.core.variance import conley_std_error, interval, mean_std_error, p_value
from eo_causal.errors import ConfigError, DataError
from eo_causal.estimate.ate import Estimated

Floats = NDArray[np.float64]
Kind = Literal["auto", "iid", "cluster", "conley"]
FEWEST_CLUSTERS = 10
UNADJUSTED = "unadjusted"
"""The arm that adjusts for nothing: the difference in means."""


@dataclass(frozen=True)
class ErrorModel:
    """Which units' errors may depend on one another.

    Attributes
    ----------
    kind : str
        ``iid``, ``cluster`` or ``conley``.
    cluster : (unit,) int array
        Codes; used by ``cluster``.
    places : (unit, 2) array or None
        Metres; used by ``conley``.
    cutoff_m : float
        Used by ``conley``.
    """

    kind: Literal["iid", "cluster", "conley"]
    cluster: NDArray[np.intp]
    places: Floats | None = None
    cutoff_m: float = np.nan

    @classmethod
    def of(cls, units: StudyUnits, kind: Kind, cutoff_km: float | None) -> "ErrorModel":
        """The model of some units; ``auto`` clusters where clusters have several units.

        Raises
        ------
        DataError
            Fewer than 10 clusters, or units without a place for ``conley``.
        ConfigError
            ``conley`` without a cutoff.
        """
        cluster, n_clusters = units.cluster, int(units.cluster.max()) + 1
        if kind == "auto":
            kind = "cluster" if n_clusters < len(units) else "iid"
        if kind == "cluster" and n_clusters < FEWEST_CLUSTERS:
            raise DataError(
                f"{n_clusters} clusters are too few for clustered errors ({FEWEST_CLUSTERS} at least)."
                " Choose a finer covariates.cluster.", n_clusters=n_clusters,
            )  # fmt: skip
        if kind == "conley":
            if cutoff_km is None:
                raise ConfigError("ate.std_error: conley needs ate.cutoff_km, in km.")
            if units.coordinates is None:
                raise DataError(
                    "ate.std_error: conley needs a place for each unit. Give every unit a geometry, or"
                    " use cluster."
                )  # fmt: skip
            return cls("conley", cluster, units.coordinates, cutoff_km * 1000)
        return cls(kind, cluster)

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters, where they decide the interval."""
        return int(self.cluster.max()) + 1 if self.kind == "cluster" else None

    @property
    def label(self) -> str:
        """How errors were computed."""
        named = {"iid": "independent units", "cluster": f"{self.n_clusters} clusters"}
        return named.get(self.kind, f"Conley, {self.cutoff_m / 1000:g} km")

    def std_error(self, influence: Floats) -> float:
        """Standard error of the mean of influence values."""
        if self.places is not None:
            return conley_std_error(influence, self.places, self.cutoff_m)
        return mean_std_error(influence, self.cluster if self.kind == "cluster" else None)


def over_splits(estimates: Floats, errors: Floats) -> tuple[float, float]:
    """Median estimate, and sqrt(median(SE^2 + (estimate - median)^2)).

    The second term is what the luck of the split adds (Chernozhukov et al. 2018, Definition 3.3).
    """
    middle = float(np.median(estimates))
    return middle, float(np.sqrt(np.median(errors**2 + (estimates - middle) ** 2)))


def effects_table(
    found: dict[tuple[str, str], list[Estimated]], model: ErrorModel, level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row an arm and estimator, and one row for each of its splits.

    Parameters
    ----------
    found : dict
        (arm, estimator) -> estimates, one a split.

    Returns
    -------
    effects, splits : DataFrame
        As in :class:`eo_causal.estimate.arms.AteResult`.
    """
    effects, splits = [], []
    for (arm, estimator), parts in found.items():
        estimates = np.array([part.estimate for part in parts])
        errors = np.array([model.std_error(part.influence) for part in parts])
        row = _row(estimates, errors, model, level)
        effects.append({
            "arm": arm, "estimator": estimator, **row,
            "p_value": p_value(row["estimate"], row["std_error"], model.n_clusters),
            "n": int(np.median([part.n for part in parts])),
            "n_effective": float(np.mean([part.n_effective for part in parts])),
            "split_low": float(estimates.min()), "split_high": float(estimates.max()),
            "estimand": parts[0].estimand, "errors": model.label,
        })  # fmt: skip
        splits.append(pd.DataFrame({
            "split": np.arange(len(parts)), "arm": arm, "estimator": estimator,
            "estimate": estimates, "std_error": errors,
        }))  # fmt: skip
    return pd.DataFrame(effects), pd.concat(splits, ignore_index=True)


def differences_table(
    found: dict[tuple[str, str], list[Estimated]], model: ErrorModel, level: float
) -> pd.DataFrame:
    """First minus second arm by the same estimator, errors from paired influence values.

    Over the splits that both arms have: those of a network may be fewer.

    The second may be ``unadjusted``: then it is the difference in means.
    """
    rows = []
    plain = next(parts for (arm, _), parts in found.items() if arm == UNADJUSTED)
    estimators = dict.fromkeys(name for arm, name in found if arm != UNADJUSTED)
    for estimator in estimators:
        arms = {arm: parts for (arm, name), parts in found.items() if name == estimator}
        for (arm_a, first), (arm_b, second) in combinations({**arms, UNADJUSTED: plain}.items(), 2):
            pairs = list(zip(first, second, strict=False))
            estimates = np.array([a.estimate - b.estimate for a, b in pairs])
            errors = np.array([model.std_error(a.influence - b.influence) for a, b in pairs])
            row = _row(estimates, errors, model, level)
            rows.append({"arm_a": arm_a, "arm_b": arm_b, "estimator": estimator, **row})
    return pd.DataFrame(rows)


def _row(estimates: Floats, errors: Floats, model: ErrorModel, level: float) -> dict[str, float]:
    estimate, error = over_splits(estimates, errors)
    low, high = interval(estimate, error, level, model.n_clusters)
    return {"estimate": estimate, "std_error": error, "lower": low, "upper": high}
