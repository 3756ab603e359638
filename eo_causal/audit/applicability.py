"""Area of applicability: where a model was shown nothing like the place it speaks of."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.audit.report import AuditReport
from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.errors import DataError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
MOST_ROWS = 5000
TREE_FEATURES = 8
PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class AreaOfApplicability:
    """Dissimilarity of new rows to the rows a model was trained on (Meyer and Pebesma 2021).

    Features are standardised by mean and standard deviation of the training rows and multiplied by
    their importance. The dissimilarity of a row is the distance to the nearest training row over
    the mean distance between training rows. A row is inside when that is no larger than the
    largest dissimilarity of training rows, each to rows outside its own fold, up to the third
    quartile plus 1.5 interquartile ranges.

    Attributes
    ----------
    features : DataFrame
        feature, mean, scale, weight; a constant feature has weight 0.
    training : DataFrame
        float32, one column a feature, standardised and weighted; medoids where there were too many.
    mean_distance : float
        Mean distance between training rows.
    threshold : float
        Largest dissimilarity that is inside.
    n_rows : int
        Training rows before medoids were taken.
    n_components : int or None
        Number of principal components the features are, where they are.
    """

    features: pd.DataFrame
    training: pd.DataFrame
    mean_distance: float
    threshold: float
    n_rows: int
    n_components: int | None

    @classmethod
    def fit(
        cls,
        rows: pd.DataFrame,
        fold: Positions,
        importance: Floats | None = None,
        *,
        n_components: int | None = None,
        most_rows: int = MOST_ROWS,
        seed: int,
    ) -> "AreaOfApplicability":
        """Learn scales, mean distance and threshold from training rows.

        Parameters
        ----------
        rows : DataFrame
            One row a training unit, one numeric column a feature.
        fold : (n,) array
            Fold of each row in the cross-fitting of the model.
        importance : (feature,) array, optional
            Ridge: absolute coefficient times standard deviation; forest: importance over the
            largest. Without it all features count alike.
        n_components : int, optional
            Kept as a record.
        most_rows : int
            More rows are replaced by so many medoids at most.
        seed : int
            For the medoids.

        Raises
        ------
        DataError
            Missing values, a single fold, importances that are negative or all zero, or rows that
            are all alike.
        """
        values = rows.to_numpy(dtype=float)
        weight = np.ones(values.shape[1]) if importance is None else importance
        _check(values, fold, weight)
        mean, scale = values.mean(axis=0), values.std(axis=0)
        constant = ~(scale > 1e-12 * np.maximum(1.0, np.abs(mean)))
        scale, weight = np.where(constant, 1.0, scale), np.where(constant, 0.0, weight)
        weighted = (values - mean) / scale * weight
        kept = _medoids(weighted, most_rows, seed)
        count(constant_features=int(constant.sum()), rows_without_medoid=len(rows) - len(kept))
        training = weighted[kept].astype(np.float32)
        distance = _mean_distance(training.astype(float))
        if not distance > 0:
            raise DataError("All training rows are alike: no area of applicability. Add features.")
        own = _outside_own_fold(training.astype(float), fold[kept]) / distance
        lower, upper = np.quantile(own, [0.25, 0.75])
        threshold = float(own[own <= upper + 1.5 * (upper - lower)].max())
        names = [str(name) for name in rows.columns]
        features = pd.DataFrame({"feature": names, "mean": mean, "scale": scale, "weight": weight})
        return cls(
            features, pd.DataFrame(training, columns=names), distance, threshold, len(rows),
            n_components,
        )  # fmt: skip

    def transform(self, rows: pd.DataFrame) -> Floats:
        """(n,) dissimilarity of rows with the same features; NaN where a feature is missing.

        Raises
        ------
        DataError
            Other features than those of the training rows.
        """
        names = list(self.features["feature"])
        if [str(name) for name in rows.columns] != names:
            raise DataError(
                f"The area of applicability knows the features {', '.join(names[:5])}, ...; the rows"
                f" have {', '.join(map(str, rows.columns[:5]))}, .... Embed both with one encoder."
            )
        mean, scale, weight = (
            self.features[name].to_numpy() for name in ("mean", "scale", "weight")
        )
        weighted = (rows.to_numpy(dtype=float) - mean) / scale * weight
        known = np.isfinite(weighted).all(axis=1)
        result = np.full(len(rows), np.nan)
        nearest = _nearest(weighted[known], self.training.to_numpy(dtype=float))[0]
        result[known] = nearest / self.mean_distance
        return result

    def inside(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """(n,) whether rows lie inside; a row with a missing feature does not."""
        return np.asarray(self.transform(rows) <= self.threshold)


@dataclass(frozen=True)
class DissimilarityLayer:
    """How unlike the training rows a place is, as the layer ``dissimilarity`` of a map."""

    area: AreaOfApplicability

    @property
    def layers(self) -> tuple[str, ...]:
        """The only one."""
        return ("dissimilarity",)

    def __call__(self, embedding: xr.DataArray) -> Floats:
        """(unit, 1) dissimilarity of a (unit, feature) embedding."""
        names = embedding["feature"].to_numpy()
        return self.area.transform(pd.DataFrame(embedding.to_numpy(), columns=names))[:, None]


def applicability_report(
    inside: NDArray[np.bool_], values: Floats | None = None, what: str = "units", most: float = 0.05
) -> AuditReport:
    """The share outside, and the average with and without those outside.

    Parameters
    ----------
    inside : (n,) array
        Of :meth:`AreaOfApplicability.inside`.
    values : (n,) array, optional
        Effects or predictions to be averaged; NaN is left out.
    what : str
        What the rows are, for the sentence.
    most : float
        A larger share outside warns.

    Returns
    -------
    AuditReport
        ``applicability``; table: check, n, share, average. Flag ``outside_applicability``.

    Raises
    ------
    DataError
        No row at all.
    """
    if not len(inside):
        raise DataError(f"There are no {what} to judge. Name some, or leave out this audit.")
    outside = 1 - float(inside.mean())
    groups = {"all": np.ones_like(inside), "inside": inside, "outside": ~inside}
    table = pd.DataFrame(
        [
            {"check": name, "n": int(rows.sum()), "share": float(rows.mean()),
             "average": _average(values, rows)}
            for name, rows in groups.items()
        ]
    )  # fmt: skip
    text = f"{outside:.1%} of {len(inside):,} {what} lie outside the area of applicability."
    if outside > most and values is not None:
        everywhere, within = table["average"][:2]
        text += f" The average is {everywhere:.4g} with them and {within:.4g} without."
    flags = ("outside_applicability",) if outside > most else ()
    return AuditReport("applicability", "warn" if flags else "pass", text, table, flags)


def _average(values: Floats | None, rows: NDArray[np.bool_]) -> float:
    if values is None or not np.isfinite(values[rows]).any():
        return float("nan")
    return float(np.nanmean(values[rows]))


def _check(values: Floats, fold: Positions, weight: Floats) -> None:
    missing = int((~np.isfinite(values)).any(axis=1).sum())
    if missing or not len(values):
        raise DataError(
            f"{missing} of {len(values)} training rows have missing features. Impute them or leave"
            " them out.",
            n=missing,
        )
    if len(np.unique(fold)) < 2:
        raise DataError("The area of applicability needs at least two folds of training rows.")
    if not (weight >= 0).all() or not weight.any():
        raise DataError(
            "Importances must be 0 or above, and one must be above. Take absolute values."
        )


def _medoids(rows: Floats, most: int, seed: int) -> Positions:
    """Positions of all rows, or of those nearest to the centres of ``most`` clusters."""
    if len(rows) <= most:
        return np.arange(len(rows))
    from sklearn.cluster import MiniBatchKMeans

    state = int(generator(seed, "medoids").integers(2**31))
    clusters = MiniBatchKMeans(
        most, init="random", n_init=1, max_iter=5, batch_size=2 * most, random_state=state,
        reassignment_ratio=0.0,
    ).fit(rows)  # fmt: skip
    return np.unique(_nearest(clusters.cluster_centers_, rows)[1])


def _blocks(n: int, others: int) -> Iterator[slice]:
    step = max(1, PAIRS_AT_ONCE // max(others, 1))
    return (slice(start, start + step) for start in range(0, n, step))


def _squared(rows: Floats, others: Floats) -> Floats:
    """(row, other) squared distances by a matrix product."""
    products = rows @ others.T
    return (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * products


def _mean_distance(rows: Floats) -> float:
    """Mean over all pairs of different rows."""
    total = 0.0
    for block in _blocks(len(rows), len(rows)):
        total += float(np.sqrt(np.maximum(_squared(rows[block], rows), 0)).sum())
    return total / (len(rows) * (len(rows) - 1))


def _nearest(rows: Floats, others: Floats) -> tuple[Floats, Positions]:
    """Distance to the nearest of the others, and which it is: exact in any dimension."""
    if others.shape[1] <= TREE_FEATURES:
        from scipy.spatial import cKDTree

        return cKDTree(others).query(rows)
    return _nearest_by_blocks(rows, others)


def _nearest_by_blocks(rows: Floats, others: Floats) -> tuple[Floats, Positions]:
    nearest = np.empty(len(rows), dtype=np.intp)
    for block in _blocks(len(rows), len(others)):
        nearest[block] = _squared(rows[block], others).argmin(axis=1)
    return np.linalg.norm(rows - others[nearest], axis=1), nearest


def _outside_own_fold(rows: Floats, fold: Positions) -> Floats:
    result = np.empty(len(rows))
    for number in np.unique(fold):
        own = fold == number
        result[own] = _nearest(rows[own], rows[~own])[0]
    return result
