"""What goes with the predicted effects of a ranking: image components, land cover, covariates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.progress import count
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError, DegenerateError
from eo_causal.estimate.interpret import (
    best_linear_projection,
    composition_by_quantile,
    correlations,
)
from eo_causal.estimate.preparation import principal_axes, standardise

Floats = NDArray[np.float64]
N_COMPONENTS = 8
CLUSTERS_A_TERM = 5
SHARE_STEP = 0.1  # land cover: effects per ten percentage points
LEAST_COVER = 0.01  # mean share of a class whose effect can be told


@dataclass(frozen=True)
class Drivers:
    """Descriptions, none of which is a cause. Tables without rows: too few data, or too much alike.

    Attributes
    ----------
    components : DataFrame
        Best linear projection of scores on leading principal components of the images; ``term``
        names the feature that weighs most in each.
    land_cover : DataFrame
        The same on shares of land cover, per ten percentage points, without the largest class
        (``instead_of``) and those that cover less than 1 %; no rows without a map.
    dominant : DataFrame
        class, n, cate: mean predicted effect by the class that covers most of the footprint.
    composition : DataFrame
        group, variable, n, mean, std_error, lower, upper: land cover and covariates by quantile of
        the predicted effect.
    correlations : DataFrame
        variable, spearman, n.
    """

    components: pd.DataFrame
    land_cover: pd.DataFrame
    dominant: pd.DataFrame
    composition: pd.DataFrame
    correlations: pd.DataFrame


def explain_effects(
    units: StudyUnits,
    ranking: pd.DataFrame,
    embedding: xr.DataArray,
    shares: pd.DataFrame | None,
    n_groups: int,
    level: float,
) -> Drivers:
    """Describe the predicted effects of one ranking.

    Parameters
    ----------
    units : StudyUnits
    ranking : DataFrame
        ``cate`` and ``score`` of the units, in their order.
    embedding : DataArray (unit, feature)
        Of the images, with ``image_key``.
    shares : DataFrame or None
        ``image_key`` and the share of each land-cover class
        (:func:`eo_causal.ingest.class_shares.class_shares`).
    n_groups : int
        Quantile groups of the predicted effect.
    level : float
        Of the intervals.
    """
    cate, score = ranking["cate"].to_numpy(), ranking["score"].to_numpy()
    cluster = units.cluster
    cover = _cover_of_units(units, shares)
    known = cover.notna().all(axis=1).to_numpy()
    usual = _usable(units.covariates)
    both = [name for name in usual if name in cover]
    variables = pd.concat(
        [cover, usual.rename(columns={name: f"{name} (covariate)" for name in both})], axis=1
    )
    components = _components(units, embedding)
    count(units_described=len(units), units_without_land_cover=int((~known).sum()))
    return Drivers(
        _where_told(best_linear_projection, score, components, cluster, level),
        _where_told(_projection_on_cover, score[known], cover[known], cluster[known], level),
        _by_dominant_class(cate[known], cover[known]),
        _where_told(composition_by_quantile, cate, variables, cluster, n_groups, level)
        if variables.shape[1]
        else pd.DataFrame(),
        correlations(cate, variables),
    )


def _where_told(function: Callable[..., pd.DataFrame], *arguments: object) -> pd.DataFrame:
    """No rows where the data are too few, or too much alike, for a description; counted."""
    try:
        return function(*arguments)
    except (DataError, DegenerateError):
        count(descriptions_left_out=1)
        return pd.DataFrame()


def _components(units: StudyUnits, embedding: xr.DataArray) -> pd.DataFrame:
    """Leading components of the units' images, named by the feature that weighs most in each.

    At most as many as the images span, and one for five clusters.
    """
    image = units.image_of(embedding["image_key"].to_numpy().astype(str))
    seen = np.unique(image)
    scaled = standardise(embedding.to_numpy().astype(float), seen)
    rank = int(np.linalg.matrix_rank(scaled[seen])) if scaled[seen].any() else 0
    n_components = min(N_COMPONENTS, rank, len(np.unique(units.cluster)) // CLUSTERS_A_TERM)
    if not n_components:
        return pd.DataFrame(index=range(len(units)))
    axes = principal_axes(scaled[seen], n_components)
    names = embedding["feature"].to_numpy().astype(str)[np.abs(axes).argmax(axis=0)]
    columns = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    return pd.DataFrame((scaled @ axes)[image], columns=columns)


def _cover_of_units(units: StudyUnits, shares: pd.DataFrame | None) -> pd.DataFrame:
    if shares is None:
        return pd.DataFrame(index=range(len(units)))
    classes = shares.drop(columns="n_valid").set_index("image_key")
    return classes.reindex(units.table["image_key"]).reset_index(drop=True)


def _projection_on_cover(
    score: Floats, cover: pd.DataFrame, cluster: NDArray[np.intp], level: float
) -> pd.DataFrame:
    """Against the class that covers most; classes that hardly occur are left out."""
    usual = cover.loc[:, cover.mean() >= LEAST_COVER] if len(cover) else cover
    count(classes_too_rare=cover.shape[1] - usual.shape[1])
    if usual.shape[1] < 2:
        return pd.DataFrame()
    base = usual.mean().idxmax()
    table = usual.drop(columns=base) / SHARE_STEP
    found = best_linear_projection(score, table, cluster, level, scale=False)
    return found.assign(instead_of=base)


def _by_dominant_class(cate: Floats, cover: pd.DataFrame) -> pd.DataFrame:
    if not cover.shape[1] or not len(cover):
        return pd.DataFrame(columns=["class", "n", "cate"])
    table = pd.DataFrame({"class": cover.idxmax(axis=1).to_numpy(), "cate": cate})
    found = table.groupby("class")["cate"].agg(["size", "mean"]).reset_index()
    return found.rename(columns={"size": "n", "mean": "cate"})


def _usable(covariates: pd.DataFrame) -> pd.DataFrame:
    """Covariates with a value, missing ones filled with the median."""
    known = covariates.loc[:, covariates.notna().any()]
    return known.fillna(known.median()).reset_index(drop=True)
