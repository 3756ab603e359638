"""From embeddings of a trial and of other places to effects there: learn on the whole trial, carry."""

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.folds import Folds
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError
from eo_causal.estimate.cate import LearnerName, Rows, fit_nuisances
from eo_causal.estimate.heterogeneity import HeterogeneitySettings
from eo_causal.estimate.preparation import design_matrix
from eo_causal.estimate.transport import Transported, transport


class CarrySettings(Settings):
    """How effects are carried to other places."""

    learner: LearnerName = Field(default="dr", description="of the effects")
    n_draws: int = Field(default=200, ge=20, description="bootstrap of the trial's clusters")


def effects_elsewhere(
    units: StudyUnits,
    folds: Folds,
    embedding: xr.DataArray,
    elsewhere: xr.DataArray,
    places: pd.DataFrame,
    support: pd.DataFrame,
    probability: float | None,
    settings: HeterogeneitySettings,
    carry: CarrySettings,
    *,
    seed: int,
) -> Transported:
    """Effects at other places from a model of all trial units and their images alone.

    Parameters
    ----------
    units : StudyUnits
        Of the trial; all with an image.
    folds : Folds
        Its groups are kept whole when penalties are chosen.
    embedding, elsewhere : DataArray (unit, feature)
        Of the trial's chips and of the other places', by one encoder; ``image_key``, ``unit_id``.
    places : DataFrame
        ``unit_id`` and ``area`` of the other places, in the order of ``elsewhere``.
    support : DataFrame
        Of :func:`eo_causal.audit.support.support_of`, in the same order.
    probability : float or None
        Known probability of treatment.

    Raises
    ------
    DataError
        Trial units without an image; otherwise see :func:`eo_causal.estimate.transport.transport`.
    """
    image = units.image_of(embedding["image_key"].to_numpy().astype(str))
    if (image < 0).any():
        absent = units.table.loc[image < 0, "unit_id"].tolist()
        raise DataError(
            f"{len(absent)} of {len(units)} trial units have no image (first: {absent[0]}). Leave them"
            " out under units.exclude.", unit_ids=absent,
        )  # fmt: skip
    n_trial = embedding.sizes["unit"]
    values = np.concatenate([embedding.to_numpy(), elsewhere.to_numpy()]).astype(float)
    everywhere = np.concatenate([image, n_trial + np.arange(elsewhere.sizes["unit"])])
    trial = np.arange(len(units))
    design = design_matrix(values, everywhere, None, trial, settings.n_components)
    rows = Rows(design[trial], units.treatment, units.outcome, folds.group)
    random = generator(seed, "elsewhere")
    nuisances = fit_nuisances(rows, probability, settings.effects, random)
    return transport(
        carry.learner, rows, nuisances, units.cluster, design[len(units) :], places, support,
        settings.effects, carry.n_draws, settings.level, random,
    )  # fmt: skip
