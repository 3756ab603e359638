"""Image effect clusters of a trial as tables that a report can show."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from eo_causal.core.effect import Effect
from eo_causal.core.folds import Folds
from eo_causal.core.units import StudyUnits
from eo_causal.estimate.arms import AteResult
from eo_causal.estimate.cate import Rows
from eo_causal.estimate.clusters import ClusterSettings, image_clusters
from eo_causal.estimate.preparation import design_matrix

N_COMPONENTS = 8


@dataclass(frozen=True)
class ClusterStudy:
    """See :class:`eo_causal.estimate.clusters.ImageClusters`.

    Attributes
    ----------
    clusters, candidates : DataFrame
    memberships : DataFrame
        ``unit_id`` and a column a cluster: the probability given the image.
    implied : Effect
    sure_share : float
    """

    clusters: pd.DataFrame
    candidates: pd.DataFrame
    memberships: pd.DataFrame
    implied: Effect
    sure_share: float


def cluster_study(
    units: StudyUnits,
    folds: Folds,
    embedding: xr.DataArray,
    ate: AteResult,
    arm: str,
    settings: ClusterSettings,
    *,
    seed: int,
) -> ClusterStudy:
    """Sort the images of a trial by effect; on the leading components of their embedding.

    Parameters
    ----------
    units, folds : StudyUnits, Folds
        Of the trial; groups of the folds are drawn as a whole by the bootstrap.
    embedding : DataArray (unit, feature)
        With ``image_key``.
    ate : AteResult
        Whose AIPW estimate by ``arm`` the implied average is compared with.
    settings : ClusterSettings
    """
    image = units.image_of(embedding["image_key"].to_numpy().astype(str))
    everyone = np.arange(len(units))
    values = embedding.to_numpy().astype(float)
    design = design_matrix(values, image, None, everyone, N_COMPONENTS)
    rows = Rows(design, units.treatment, units.outcome, folds.group)
    found = image_clusters(rows, ate.effect(arm), settings, seed=seed)
    names = [f"cluster_{number}" for number in found.clusters["cluster"]]
    memberships = pd.DataFrame(found.membership, columns=names)
    memberships.insert(0, "unit_id", units.table["unit_id"].to_numpy())
    return ClusterStudy(
        found.clusters, found.candidates, memberships, found.implied, found.sure_share
    )
